package postfix_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/postfix"
)

// fake is a configuration directory for the commands in testdata/bin.
type fake struct {
	t   *testing.T
	dir string
}

func newFake(t *testing.T, mainCF string) fake {
	t.Helper()
	f := fake{t, t.TempDir()}
	f.write("main.cf", mainCF)
	return f
}

func (f fake) write(name, text string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(f.path(name), []byte(strings.ReplaceAll(text, "DIR", f.dir)), 0o600))
}

func (f fake) path(name string) string { return filepath.Join(f.dir, name) }

// lines counts the lines of a file.
func (f fake) lines(name string) int {
	text, err := os.ReadFile(f.path(name))
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(f.t, err)
	}
	return strings.Count(string(text), "\n")
}

func (f fake) site(o postfix.Options) *postfix.Site {
	f.t.Helper()
	o.Postconf, o.ConfigDirectory = fakePostconf(f.t), f.dir
	return postfix.New(o)
}

func fakePostconf(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("testdata/bin/postconf")
	require.NoError(t, err)
	return path
}

func (f fake) owns(s *postfix.Site, domain, want string) {
	f.t.Helper()
	own, why, err := s.Own(f.t.Context(), domain, dns.Effort{})
	require.NoError(f.t, err, domain)
	require.Equal(f.t, want != "", own, domain)
	require.Equal(f.t, want, why)
}

const parents = "parent_domain_matches_subdomains = debug_peer_list,relay_domains,smtpd_access_maps\n"

func TestOwn(t *testing.T) {
	t.Parallel()
	f := newFake(t, parents+`mydestination = mx.own.example, Own.Example. , localhost
relay_domains = !not.backup.example, backup.example .below.example DIR/more texthash:DIR/relay
virtual_alias_domains = proxy:texthash:DIR/virtual
virtual_mailbox_domains = münchen.example
myhostname = mx.own.example
proxy_interfaces = 192.0.2.1, [2001:db8::1]
inet_interfaces = all
transport_maps = regexp:DIR/guard texthash:DIR/transport socketmap:inet:127.0.0.1:2526:transport
`)
	f.write("transport", "slow.example slow:\n.slow.example slow:\nuser@address.example slow:\n")
	f.write("more", "# a comment, with words\nfile.example, file2.example # and.a.comment !file3.example\n   # another\nfile3.example\n")
	f.write("relay", "table.example x\n.dot.example x\n")
	f.write("virtual", "virtual.example x\nxn--rksmrgs-5wao1o.example x\nbücher.example x\nuser@mail.example x\n")
	f.write("overrides", "smtp/inet/mydestination = service.example\nsmtp/inet/syslog_name = x.example\n")
	s := f.site(postfix.Options{ExcludeDomains: []string{"Excluded.example", ".below-excluded.example", "blåbær.example", ".bücher.example"}, OwnHosts: []string{"smtps-mx.own.example"}})
	for domain, want := range map[string]string{
		"excluded.example":              "exclude_domains has excluded.example",
		"sub.excluded.example":          "",
		"below-excluded.example":        "",
		"a.b.below-excluded.example":    "exclude_domains has .below-excluded.example",
		"xn--blbr-roah.example":         "exclude_domains has xn--blbr-roah.example",
		"localhost":                     "localhost is this machine",
		"a.xn--bcher-kva.example":       "exclude_domains has .xn--bcher-kva.example",
		"own.example":                   "mydestination has own.example",
		"OWN.example.":                  "mydestination has own.example",
		"sub.own.example":               "",
		"mx.own.example":                "mydestination has mx.own.example",
		"backup.example":                "relay_domains has backup.example",
		"a.b.backup.example":            "relay_domains has backup.example",
		"not.backup.example":            "relay_domains has backup.example",
		"a.not.backup.example":          "relay_domains has backup.example",
		"xbackup.example":               "",
		"below.example":                 "",
		"x.below.example":               "relay_domains has .below.example",
		"file2.example":                 "relay_domains has file2.example",
		"and.a.comment":                 "relay_domains has and.a.comment",
		"x.file3.example":               "relay_domains has file3.example",
		"table.example":                 "relay_domains has table.example in texthash:" + f.path("relay"),
		"sub.table.example":             "relay_domains has table.example in texthash:" + f.path("relay"),
		"x.dot.example":                 "relay_domains has .dot.example in texthash:" + f.path("relay"),
		"dot.example":                   "",
		"virtual.example":               "virtual_alias_domains has virtual.example in texthash:" + f.path("virtual"),
		"sub.virtual.example":           "",
		"mail.example":                  "",
		"xn--bcher-kva.example":         "virtual_alias_domains has bücher.example in texthash:" + f.path("virtual"),
		"xn--mnchen-3ya.example":        "virtual_mailbox_domains has xn--mnchen-3ya.example",
		"service.example":               "smtp/inet/mydestination has service.example",
		"x.example":                     "",
		"elsewhere.example":             "",
		strings.Repeat("a.", 126) + "b": "",
	} {
		f.owns(s, domain, want)
	}
	for name, want := range map[string]bool{
		"mx.own.example": true, "MX.own.example.": true, "smtps-mx.own.example": true, "starttls-mx.own.example": true,
		"smtps-smtps-mx.own.example": true, "localhost": true, "a.localhost": true, "own.example": false, "smtps-.own.example": false, "": false,
	} {
		require.Equal(t, want, s.OwnHost(name), name)
	}
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "::ffff:127.0.0.1": true, "127.0.0.2": false, "192.0.2.1": true, "2001:db8::1": true, "198.51.100.77": false, "0.0.0.0": true, "::": true,
	} {
		require.Equal(t, want, s.OwnAddr(netip.MustParseAddr(addr)), addr)
	}
	require.True(t, s.OwnAddr(netip.Addr{}))
	parameters, domains := s.Lists()
	require.Contains(t, parameters, "mydestination")
	require.Equal(t, []string{"mx.own.example", "own.example", "localhost"}, domains[:3])
}

func TestADoubtIsAnError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mainCF string
		files  map[string]string
		want   string
	}{
		"postconf fails":             {"", map[string]string{"broken": "bad main.cf"}, "postconf: fatal: bad main.cf"},
		"a table cannot be asked":    {"relay_domains = mysql:/x\n", nil, "relay_domains: mysql:/x cannot be asked: postmap: fatal: open mysql:/x"},
		"a file cannot be read":      {"mydestination = /nonexistent/file\n", nil, "/nonexistent/file: no such file or directory"},
		"a file that is a directory": {"mydestination = DIR\n", nil, "not a regular file"},
		"a file that names itself":   {"mydestination = DIR/loop\n", map[string]string{"loop": "DIR/loop"}, "nested too deep"},
		"not expanded":               {"mydestination = $myhostname\n", nil, "postconf did not expand"},
		"a list that asks policyd":   {"relay_domains = socketmap:inet:127.0.0.1:2526:transport\n", nil, "relay_domains asks policyd itself"},
		"a name of a translator":     {"proxy_interfaces = nat.example\n", nil, "proxy_interfaces has nat.example: write its address"},
		"an invalid interface":       {"proxy_interfaces = a/b\n", nil, "proxy_interfaces has a/b"},
		"another instance fails":     {"multi_instance_directories = /nonexistent/other\n", nil, "postconf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, "virtual_alias_domains = own.example\n"+c.mainCF)
			for file, text := range c.files {
				f.write(file, text)
			}
			s := f.site(postfix.Options{ExcludeDomains: []string{"excluded.example"}})
			own, _, err := s.Own(t.Context(), "elsewhere.example", dns.Effort{})
			require.ErrorContains(t, err, c.want)
			require.False(t, own)
			require.NotErrorIs(t, err, dns.ErrNotCached)
			_, _, cached := s.Own(t.Context(), "elsewhere.example", dns.Effort{CacheOnly: true})
			require.Equal(t, err.Error(), cached.Error(), "the view that does not wait has the failure")
			own, _, err = s.Own(t.Context(), "excluded.example", dns.Effort{})
			require.NoError(t, err)
			require.True(t, own, "what the settings list is known all the same")
		})
	}
	t.Run("what a readable list has is received here, whatever else fails", func(t *testing.T) {
		t.Parallel()
		f := newFake(t, "mydestination = mysql:/x own.example\n")
		f.owns(f.site(postfix.Options{}), "own.example", "mydestination has own.example")
	})
}

func TestCachedNeverWaits(t *testing.T) {
	t.Parallel()
	f := newFake(t, "relay_domains = texthash:DIR/relay\n")
	f.write("relay", "table.example x\n")
	s := f.site(postfix.Options{})
	_, _, err := s.Own(t.Context(), "table.example", dns.Effort{CacheOnly: true})
	require.ErrorIs(t, err, dns.ErrNotCached, "the lists have not been read")
	require.True(t, s.OwnHost("elsewhere.example"), "nothing is known")
	require.True(t, s.OwnAddr(netip.MustParseAddr("198.51.100.99")), "nothing is known")
	f.owns(s, "table.example", "relay_domains has table.example in texthash:"+f.path("relay"))
	f.owns(s, "elsewhere.example", "")
	require.False(t, s.OwnHost("elsewhere.example"))
	require.False(t, s.OwnAddr(netip.MustParseAddr("198.51.100.99")))
	asked := f.lines("asked")
	for range 10 {
		own, _, err := s.Own(t.Context(), "table.example", dns.Effort{CacheOnly: true})
		require.NoError(t, err)
		require.True(t, own)
		own, _, err = s.Own(t.Context(), "elsewhere.example", dns.Effort{CacheOnly: true})
		require.NoError(t, err)
		require.False(t, own)
	}
	_, _, err = s.Own(t.Context(), "other.example", dns.Effort{CacheOnly: true})
	require.ErrorIs(t, err, dns.ErrNotCached, "the table has not been asked")
	require.Equal(t, asked, f.lines("asked"))
	require.Equal(t, 3, f.lines("calls"), "read once: the directory, the lists, master.cf")
}

func TestCallersThatGoAwayLeaveNoTrace(t *testing.T) {
	t.Parallel()
	f := newFake(t, "relay_domains = texthash:DIR/relay\n")
	f.write("slow", "")
	f.write("relay", "table.example x\n")
	s := f.site(postfix.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := s.Own(ctx, "table.example", dns.Effort{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, _, err = s.Own(t.Context(), "table.example", dns.Effort{CacheOnly: true})
	require.ErrorIs(t, err, dns.ErrNotCached)
	require.NoError(t, os.Remove(f.path("slow")))
	f.owns(s, "table.example", "relay_domains has table.example in texthash:"+f.path("relay"))
}

func TestRunFollowsChanges(t *testing.T) {
	t.Parallel()
	const soon = 50 * time.Second // Run reads everything again after a minute even if nothing has changed
	f := newFake(t, "mydestination = one.example\nrelay_domains = texthash:DIR/relay DIR/file\n")
	f.write("relay", "relay.example x\n")
	f.write("file", "file.example\n")
	s := f.site(postfix.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	owns := func(domain string, want bool) {
		t.Helper()
		require.Eventually(t, func() bool {
			own, _, err := s.Own(ctx, domain, dns.Effort{})
			return err == nil && own == want
		}, soon, 10*time.Millisecond, domain)
	}
	owns("one.example", true)
	owns("two.example", false)
	owns("relay2.example", false)
	owns("file2.example", false)
	f.write("main.cf", "mydestination = one.example, two.example\nrelay_domains = texthash:DIR/relay DIR/file\n")
	owns("two.example", true)
	f.write("relay", "relay.example x\nrelay2.example x\n")
	owns("relay2.example", true)
	f.write("file", "file.example\nfile2.example\n")
	owns("file2.example", true)
	f.write("broken", "no more")
	f.write("main.cf", "mydestination = nothing\n")
	require.Eventually(t, func() bool {
		_, _, err := s.Own(ctx, "one.example", dns.Effort{CacheOnly: true})
		return err != nil && !errors.Is(err, dns.ErrNotCached)
	}, soon, 10*time.Millisecond, "old lists are no longer used")
	cancel()
	require.NoError(t, <-done)
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	f := newFake(t, "")
	s := f.site(postfix.Options{})
	f.owns(s, "a.example", "")
	path, err := filepath.Abs("testdata/bin/postconf")
	require.NoError(t, err)
	s.Configure(postfix.Options{ExcludeDomains: []string{"a.example"}, Postconf: path, ConfigDirectory: f.dir})
	f.owns(s, "a.example", "exclude_domains has a.example")
}

func TestWithoutPostfix(t *testing.T) {
	t.Parallel()
	s := postfix.New(postfix.Options{Postconf: "/nonexistent/postconf"})
	_, _, err := s.Own(t.Context(), "example.com", dns.Effort{})
	require.ErrorContains(t, err, "/nonexistent/postconf", "a path in the settings must exist")
}

func TestANamedInterfaceIsAHost(t *testing.T) {
	t.Parallel()
	f := newFake(t, "inet_interfaces = out.own.example, localhost\n")
	s := f.site(postfix.Options{})
	f.owns(s, "a.example", "")
	require.True(t, s.OwnHost("smtps-out.own.example"))
}

func TestEveryInstanceCounts(t *testing.T) {
	t.Parallel()
	other := newFake(t, "mydestination = other.example\nmyhostname = out.example\n")
	f := newFake(t, "mydestination = one.example\nmulti_instance_directories = "+other.dir+"\n")
	s := f.site(postfix.Options{})
	f.owns(s, "one.example", "mydestination has one.example")
	f.owns(s, "other.example", "mydestination has other.example")
	require.True(t, s.OwnHost("out.example"))
}
