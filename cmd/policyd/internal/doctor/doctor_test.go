package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/testkit"
)

func TestASoundSender(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.serve()
	s.administer()
	r := s.examine()
	for _, f := range r.Findings {
		require.Contains(t, []Severity{OK, Untested}, f.Severity, "%s: %s", f.Code, f.What)
	}
	require.True(t, r.Sound())
	require.Zero(t, r.Untested)
	require.Equal(t, []string{
		"daemon-running", "resolver-validating", "chroot-resolver-same", "postfix-running", "postfix-version", "smtp-level", "dnssec-lookups",
		"tls-map-present", "transport-map-present", "guard-present", "service-present", "roots-found",
		"socket-answers", "postmap-answers", "socket-answers", "postmap-answers", "own-domains-known", "own-domain-covered",
		"egress-open",
	}, codes(r))
	text, err := json.Marshal(r)
	require.NoError(t, err)
	var back Report
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, r, back)
}

func codes(r Report) []string {
	var all []string
	for _, f := range r.Findings {
		all = append(all, f.Code)
	}
	return all
}

// TestEveryFinding breaks one thing at a time. Each code of Areas that is not "ok" has a line.
func TestEveryFinding(t *testing.T) {
	t.Parallel()
	param := func(name, value string) func(*sender) { return func(s *sender) { s.params[name] = value } }
	option := func(text string) func(*sender) {
		return func(s *sender) { s.options = append(s.options, text) }
	}
	closed := fmt.Sprint(testkit.Port(t)) // no process listens there
	cases := []struct {
		code   string
		name   string
		damage func(*sender)
	}{
		{"daemon-warning", "the daemon warns", func(s *sender) { s.status.Warnings = []string{"the cache is full"} }},
		{"not-root", "an ordinary user", func(s *sender) { s.user = 1000 }},
		{"daemon-silent", "no admin socket", func(s *sender) { s.settings.Admin.Socket = "" }},
		{"resolver-untrusted", "trust_ad = never", func(s *sender) { s.settings.DNS.TrustAD = "never" }},
		{"resolver-untrusted", "Docker's relay", func(s *sender) { s.settings.DNS.Servers = []string{"127.0.0.11"} }},
		{"resolver-untrusted", "systemd-resolved", func(s *sender) { s.settings.DNS.Servers = []string{"127.0.0.53"} }},
		{"resolver-not-validating", "no AD bit", func(s *sender) { s.dns.SetValidating(false) }},
		{"resolver-echoes-ad", "the AD bit for everything", func(s *sender) { s.dns.SetEchoAD(true) }},
		{"resolver-silent", "a closed port", func(s *sender) { s.settings.DNS.Servers = []string{"127.0.0.1:" + closed} }},
		{"resolver-untested", "SERVFAIL for the names of the self-test", func(s *sender) {
			s.settings.DNS.SelfTest = []string{"signed.example"}
			s.dns.Set("signed.example", dns.TypeNS, dnstest.Answer{Rcode: "SERVFAIL"})
		}},
		{"resolver-differs", "resolv.conf has another server", func(s *sender) { s.write("resolv.conf", "nameserver 192.0.2.1\n") }},
		{"chroot-resolver-differs", "an old copy", func(s *sender) { s.write("queue/etc/resolv.conf", "nameserver 192.0.2.1\n") }},
		{"chroot-resolver-differs", "no copy", func(s *sender) { require.NoError(s.t, os.Remove(s.dir+"/queue/etc/resolv.conf")) }},
		{"postfix-not-running", "no pid file", func(s *sender) { require.NoError(s.t, os.Remove(s.dir+"/queue/pid/master.pid")) }},
		{"postfix-not-running", "no such process", func(s *sender) { require.NoError(s.t, os.RemoveAll(s.dir+"/proc/4711")) }},
		{"postfix-not-running", "another program has the process number", func(s *sender) {
			s.write("proc/4711/stat", "4711 (some (master) S 1) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 100"+memory)
		}},
		{"postfix-not-reloaded", "main.cf is newer than the queue manager", func(s *sender) {
			s.write("proc/stat", "btime 1000000000\n")
			s.write("etc/main.cf", "")
		}},
		{"postfix-not-reloaded", "master.cf is newer than the queue manager", func(s *sender) {
			s.write("proc/stat", "btime 1000000000\n")
			s.write("etc/master.cf", "")
		}},
		{"postfix-too-old", "3.3", param("mail_version", "3.3.9")},
		{"postfix-no-host-list", "3.4", param("mail_version", "3.4.23")},
		{"smtp-level-none", "empty", param("smtp_tls_security_level", "")},
		{"smtp-level-none", "none", param("smtp_tls_security_level", "none")},
		{"dnssec-lookups-off", "empty", param("smtp_dns_support_level", "")},
		{"dnssec-lookups-off", "an option of the service", option("smtp/unix/smtp_dns_support_level = enabled")},
		{"dnssec-lookups-off", "no lookups at all", param("disable_dns_lookups", "yes")},
		{"dnssec-lookups-off", "native", param("smtp_host_lookup", "dns, native")},
		{"dnssec-lookups-off", "MX lookup errors are ignored", param("ignore_mx_lookup_error", "yes")},
		{"dnssec-lookups-off", "search domains", param("smtp_dns_resolver_options", "res_dnsrch")},
		{"dane-insecure-mx", "may", param("smtp_tls_dane_insecure_mx_policy", "may")},
		{"global-wrappermode", "in main.cf", param("smtp_tls_wrappermode", "yes")},
		{"mx-address-limit", "the default", param("smtp_mx_address_limit", "5")},
		{"mx-address-limit", "a larger one", param("smtp_mx_address_limit", "20")},
		{"tls-required-header", "3.10.6", func(s *sender) { s.params["mail_version"], s.params["tls_required_enable"] = "3.10.6", "yes" }},
		{"tls-required-header", "3.11", func(s *sender) { s.params["mail_version"], s.params["tls_required_enable"] = "3.11.0", "yes" }},
		{"tls-required-header", "3.10.2 without routes", func(s *sender) {
			s.params["mail_version"], s.params["tls_required_enable"], s.params["transport_maps"] = "3.10.2", "yes", ""
		}},
		{"tls-required-breaks-port26", "3.10.0", func(s *sender) { s.params["mail_version"], s.params["tls_required_enable"] = "3.10.0", "yes" }},
		{"tls-required-breaks-port26", "3.10.5", func(s *sender) { s.params["mail_version"], s.params["tls_required_enable"] = "3.10.5", "yes" }},
		{"tls-log-off", "0", param("smtp_tls_loglevel", "0")},
		{"tls-map-missing", "no maps", param("smtp_tls_policy_maps", "")},
		{"tls-map-missing", "another daemon", param("smtp_tls_policy_maps", "socketmap:inet:127.0.0.1:8461:postfix")},
		{"tls-map-missing", "postfix-tlspol, whose map has a name that policyd serves too",
			param("smtp_tls_policy_maps", "socketmap:inet:127.0.0.1:8642:QUERY")},
		{"tls-map-shadowed", "a table first", param("smtp_tls_policy_maps", "hash:/etc/x socketmap:unix:policyd/sock:tls-policy")},
		{"tls-map-tlsrpt-too-early", "3.7", param("smtp_tls_policy_maps", "socketmap:unix:policyd/sock:tls-policy-tlsrpt")},
		{"tls-map-no-tlsrpt", "3.10 with reports", func(s *sender) {
			s.params["mail_version"], s.params["smtp_tlsrpt_enable"] = "3.10.2", "yes"
		}},
		{"tls-map-no-tlsrpt", "3.10.5 without reports", param("mail_version", "3.10.5")},
		{"tls-map-no-tlsrpt", "3.11 without reports", param("mail_version", "3.11.1")},
		{"map-unknown", "a misspelt map", param("smtp_tls_policy_maps", "socketmap:unix:policyd/sock:tls_policy")},
		{"map-unknown", "no map", param("smtp_tls_policy_maps", "socketmap:unix:policyd/sock")},
		{"map-unknown", "a misspelt map in a list", param("transport_maps", "regexp:/etc/x, socketmap:unix:policyd/sock:transports")},
		{"map-unknown", "a map of a service", option("smtp/unix/smtp_tls_policy_maps = socketmap:unix:policyd/sock:postfix")},
		{"map-through-proxy", "proxy:", param("smtp_tls_policy_maps", "proxy:socketmap:unix:policyd/sock:tls-policy")},
		{"service-without-policies", "an option empties the maps", option("smtp/unix/smtp_tls_policy_maps =")},
		{"transport-map-missing", "no maps", param("transport_maps", "")},
		{"guard-missing", "the socketmap alone", param("transport_maps", "socketmap:unix:policyd/sock:transport")},
		{"guard-missing", "a table with domains for keys guards nothing", param("transport_maps", "texthash:/dev/null, socketmap:unix:policyd/sock:transport")},
		{"guard-after", "the wrong order", param("transport_maps", "socketmap:unix:policyd/sock:transport, regexp:/etc/x")},
		{"relayhost-bypassed", "a relayhost", param("relayhost", "[relay.example]:587")},
		{"service-missing", "no such line", func(s *sender) { s.services = s.services[:3] }},
		{"service-no-wrappermode", "no option", func(s *sender) { s.options = s.options[1:] }},
		{"service-fails-open", "the level of main.cf", func(s *sender) { s.options = s.options[:1] }},
		{"service-fails-open", "encrypt", option("smtps26/unix/smtp_tls_security_level = encrypt")},
		{"service-fallback-relay", "that of main.cf", func(s *sender) {
			s.options, s.params["smtp_fallback_relay"] = s.options[:2], "[fallback.example]"
		}},
		{"roots-missing", "neither file nor directory", param("smtp_tls_CAfile", "")},
		{"roots-missing", "an empty file", func(s *sender) { s.write("roots.pem", "") }},
		{"roots-missing", "an empty directory", func(s *sender) { s.params["smtp_tls_CAfile"], s.params["smtp_tls_CApath"] = "", s.dir }},
		{"roots-unreadable", "no such file", param("smtp_tls_CAfile", "/nonexistent/roots.pem")},
		{"roots-not-in-chroot", "a directory outside", func(s *sender) {
			s.write("certs/0123abcd.0", "")
			s.params["smtp_tls_CAfile"], s.params["smtp_tls_CApath"] = "", s.dir+"/certs"
		}},
		{"roots-differ", "policyd has a file of its own", func(s *sender) { s.settings.TLS.CAFile = "/etc/other.pem" }},
		{"socket-silent", "another port", param("smtp_tls_policy_maps", "socketmap:inet:127.0.0.1:"+closed+":tls-policy")},
		{"socket-not-policyd", "an unknown map", param("smtp_tls_policy_maps", "socketmap:unix:policyd/sock:Query")},
		{"socket-outside-chroot", "an absolute path", func(s *sender) {
			s.params["smtp_tls_policy_maps"] = "socketmap:unix:" + s.dir + "/queue/policyd/sock:tls-policy"
		}},
		{"postmap-fails", "no answer", func(s *sender) { s.write("etc/postmap-broken", "") }},
		{"postmap-fails", "a part of a name", param("smtp_tls_policy_maps", "socketmap:unix:policyd/sock:tls-policy, policy")},
		{"postmap-fails", "a table of the site", param("smtp_tls_policy_maps", "mysql:/etc/x, socketmap:unix:policyd/sock:tls-policy")},
		{"socket-forbidden", "IPv6 only", func(s *sender) {
			s.params["inet_protocols"], s.params["smtp_tls_policy_maps"] = "ipv6", "socketmap:inet:127.0.0.1:"+closed+":tls-policy"
		}},
		{"own-domains-unknown", "a table that cannot be asked", param("relay_domains", "mysql:/etc/x")},
		{"own-domain-unguarded", "a domain that the guard does not have", param("relay_domains", "relay.example")},
		{"own-domain-routed", "a route for an own domain", func(s *sender) { s.routes["postmaster@mx.own.example"] = "smtps26:mx.own.example:26" }},
		{"egress-filtered", "the daemon reports it", func(s *sender) { s.status.Probes.EgressFiltered = true }},
		{"mta-sts-blocked", "the daemon reports it", func(s *sender) {
			s.status.MTASTS = &stsstore.Stats{Blocked: time.Now().Add(-time.Hour)}
		}},
		{"mta-sts-blocked", "the proxy does not work", func(s *sender) {
			s.status.MTASTS = &stsstore.Stats{Blocked: time.Now().Add(-time.Hour)}
			s.settings.MTASTS.ProxyFromEnvironment = true
		}},
		{"egress-untested", "no probe yet", func(s *sender) { s.status.Probes = nil }},
		{"egress-untested", "a host that refuses", func(s *sender) { s.egress = []string{"127.0.0.1"}; s.settings.Port26.Port = atoi(closed) }},
	}
	tested := []string{"settings-warning", "settings-invalid", "postfix-missing", "postfix-unreadable", "postfix-state-unknown", "socket-forbidden"} // tests of their own
	for _, c := range cases {
		tested = append(tested, c.code)
		t.Run(c.code+": "+c.name, func(t *testing.T) {
			t.Parallel()
			s := newSender(t)
			s.serve()
			c.damage(s)
			if s.settings.Admin.Socket != "" {
				s.administer()
			}
			r := s.examine()
			i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Code == c.code })
			require.GreaterOrEqual(t, i, 0, "%v", codes(r))
			f := r.Findings[i]
			require.NotEmpty(t, f.Why)
			require.NotEmpty(t, f.What)
			pasted(t, r)
			if f.Code != "tls-required-header" { // that version causes other findings too
				require.Equal(t, f.Severity == Note || f.Severity == Untested, r.Sound(), "only errors and warnings count: %v", codes(r))
			}
			if f.Severity == Error || f.Severity == Warning && f.Code != "daemon-warning" {
				require.NotEmpty(t, f.Change, "a finding names the change to make")
			}
		})
	}
	for _, a := range Areas() {
		for _, c := range a.Codes {
			require.True(t, c.Severity == OK || slices.Contains(tested, c.Name), "%s is not tested", c.Name)
			require.NotEmpty(t, c.Why, c.Name)
		}
	}
}

// The guard of a Postfix before 3.7 is a file: a parameter that names it must not be set before the file is there.
func TestNoChangeNamesAMissingFile(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.serve()
	s.params["mail_version"], s.params["transport_maps"] = "3.6.4", "socketmap:unix:policyd/sock:transport, policy"
	r := s.examine()
	require.Contains(t, codes(r), "postmap-fails")
	for _, f := range r.Findings {
		require.NotContains(t, strings.Join(f.Change, "\n"), "transport_own", f.Code)
	}
}

// A file has other lines than an inline table in main.cf.
func TestTheLineToAddFitsTheTable(t *testing.T) {
	t.Parallel()
	for guard, want := range map[string]string{
		"regexp:{ {/@mx.own.example$/ :} }": `#    {/@relay\.example$$/  :}`,
		"regexp:/etc/postfix/guard":         `#    /@relay\.example$/    :`,
	} {
		s := newSender(t)
		s.serve()
		s.params["relay_domains"], s.params["transport_maps"] = "relay.example", guard+", socketmap:unix:policyd/sock:transport"
		r := s.examine()
		i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Code == "own-domain-unguarded" })
		require.GreaterOrEqual(t, i, 0, "%v", codes(r))
		require.Contains(t, r.Findings[i].Change, want, guard)
	}
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// resolv.conf(5) can only name servers that are asked at port 53 and without TLS.
func TestTheAdviceForOtherServersCanBeFollowed(t *testing.T) {
	t.Parallel()
	for own, inResolvConf := range map[string]bool{
		"192.0.2.2:53":                           true,
		"[2001:db8::1]:53":                       true,
		"192.0.2.2:53 127.0.0.1:5300":            false,
		"tls://dns.example@192.0.2.2:853":        false,
		"tls://dns.example@192.0.2.2:53":         false,
		"192.0.2.2:53 [2001:db8::1]:5300":        false,
		"192.0.2.2:53 192.0.2.3:53 192.0.2.4:53": true,
	} {
		s := newSender(t)
		e := exam{plan: plan{Options: Options{Settings: s.loaded(), ResolvConf: s.dir + "/resolv.conf"}}}
		e.checkResolvConf(stub.State{Servers: strings.Fields(own), Source: "settings"})
		change := []string{"# in /etc/policyd/policyd.toml, [dns]: remove servers"}
		if inResolvConf {
			change = append(change, "# or name the same servers in "+e.ResolvConf)
		}
		require.Equal(t, "resolver-differs", e.findings[0].Code)
		require.Equal(t, change, e.findings[0].Change, own)
	}
}

// A mistake in the settings is the first finding, and everything else is still examined.
func TestMistakesInTheSettingsComeFirst(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	l := s.loaded()
	socket := l.Admin.Socket
	l.Admin.Socket = s.dir + "/none"
	l.Mistakes = []settings.Problem{{File: "policyd.toml", Line: 3, Text: "unknown key mod"}}
	s.administer()
	r := Examine(t.Context(), Options{
		Settings: l, Socket: socket, Postconf: "/nonexistent/postconf", ResolvConf: s.dir + "/resolv.conf",
	})
	require.Equal(t, "settings-invalid", r.Findings[0].Code)
	require.Equal(t, Error, r.Findings[0].Severity)
	require.Equal(t, "policyd.toml:3: unknown key mod", r.Findings[0].What)
	require.Contains(t, codes(r), "daemon-running", "over the socket of the options")
	require.Contains(t, codes(r), "postfix-unreadable")
}

func TestSettingsWarningsArePassedOn(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	l := s.loaded()
	l.Warnings = []string{`mode = "off"`}
	r := Examine(t.Context(), Options{Settings: l, Postconf: "/nonexistent/postconf", ResolvConf: s.dir + "/resolv.conf"})
	require.Contains(t, codes(r), "settings-warning")
	require.Contains(t, codes(r), "postfix-unreadable")

	// The daemon reports the same warning, and another one.
	l = s.loaded()
	l.Warnings = []string{"strange settings"}
	s.status.Warnings = []string{"strange settings", "the cache is full"}
	s.administer()
	r = Examine(t.Context(), Options{Settings: l, Postconf: "/nonexistent/postconf", ResolvConf: s.dir + "/resolv.conf"})
	said := map[string]int{}
	for _, f := range r.Findings {
		said[f.What]++
	}
	require.Equal(t, 1, said["the cache is full"])
	require.Equal(t, 1, said["strange settings"], "once is enough")
}

func TestForbidden(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.write("sock", "")
	require.NoError(t, os.Chmod(s.dir, 0o755))
	require.NoError(t, os.Chmod(s.dir+"/sock", 0o600))
	require.Contains(t, forbidden(s.dir+"/sock", "nobody"), "may not write to "+s.dir+"/sock")
	require.NoError(t, os.Chmod(s.dir+"/sock", 0o666))
	require.Empty(t, forbidden(s.dir+"/sock", "nobody"))
	require.NoError(t, os.Chmod(s.dir, 0o700))
	require.Contains(t, forbidden(s.dir+"/sock", "nobody"), "may not enter "+s.dir)
	require.Empty(t, forbidden(s.dir+"/sock", "nobody-that-exists"), "an unknown user is not a finding")
}

// Where systemd has passed the listeners, its unit must be changed: the settings would do nothing.
func TestAListenerIsChangedWhereItIsMade(t *testing.T) {
	t.Parallel()
	const code = "socket-outside-chroot"
	s := newSender(t)
	s.serve()
	s.params["smtp_tls_policy_maps"] = "socketmap:unix:/run/policyd/sock:tls-policy"
	change := func() string {
		r := s.examine()
		i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Code == code })
		require.GreaterOrEqual(t, i, 0, "%v", codes(r))
		return strings.Join(r.Findings[i].Change, "\n")
	}
	s.administer()
	require.Equal(t, correct, change(), "policyd listens in the queue directory already")
	inside := s.settings.Server.Listen
	s.settings.Server.Listen, s.status.Connections.Listeners = []string{"unix:/run/policyd/sock"}, []string{"unix:/run/policyd/sock"}
	require.Contains(t, change(), `[server]: listen = ["unix:`)
	s.settings.Server.Listen = inside
	require.Contains(t, change(), "systemctl edit policyd.socket    # [Socket] ListenStream=")

	// The advice works: when policyd also listens in the queue directory, postfix-config uses that socket.
	s.settings.Admin.Socket = ""
	s.settings.Server.Listen = append(s.settings.Server.Listen, "unix:/run/policyd/sock")
	slices.Reverse(s.settings.Server.Listen)
	l, err := MakeLines(t.Context(), s.made())
	require.NoError(t, err)
	require.Contains(t, l.Main, "smtp_tls_policy_maps = socketmap:unix:policyd/sock:tls-policy")
}

func TestTLSRequiredSwitchedOffIsNotAFinding(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"3.7.11", "3.9.4", "3.10.2", "3.10.6", "3.11.0"} {
		s := newSender(t)
		s.params["mail_version"], s.params["tls_required_enable"] = version, "no"
		found := codes(s.examine())
		require.NotContains(t, found, "tls-required-header", version)
		require.NotContains(t, found, "tls-required-breaks-port26", version)
	}
}

// Each parameter that switches DNSSEC lookups off is changed, not only smtp_dns_support_level.
func TestTheParameterThatIsWrongIsChanged(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.params["disable_dns_lookups"], s.params["smtp_host_lookup"] = "yes", "native"
	var changes []string
	for _, f := range s.examine().Findings {
		if f.Code == "dnssec-lookups-off" {
			changes = append(changes, f.Change...)
		}
	}
	require.Len(t, changes, 2)
	require.Contains(t, changes[0], "'disable_dns_lookups = no'")
	require.Contains(t, changes[1], "'smtp_host_lookup = dns'")
}

func TestReportModeIsNotAWarning(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.serve()
	s.settings.Mode, s.status.Settings.Mode = "report", "report"
	s.administer()
	r := s.examine()
	require.True(t, r.Sound(), "%v", codes(r))
}

func TestANamedInterfaceIsNotAFinding(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.serve()
	s.administer()
	s.params["inet_interfaces"] = "mx.own.example, localhost"
	require.NotContains(t, codes(s.examine()), "own-domains-unknown")
}

// A table that was written with a space is two tables, and the one that is not a table ends every smtp(8), as an
// endpoint without socketmap: does.
func TestAMapNameWithASpace(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"hash:/x, socketmap:unix:policyd/sock:tls policy", "hash:/x socketmap:unix:policyd/sock: tls-policy",
		"hash:/x, socketmap:unix:policyd/sock:tls-policy, policy", "hash:/x, socketmap:unix:policyd/sock",
		"hash:/x, socketmap: unix:policyd/sock:tls-policy", "hash:/x, unix:policyd/sock:tls-policy",
		"hash:/x, inet:127.0.0.1:2526:tls-policy", "hash:/x, proxy:unix:policyd/sock:tls-policy",
	} {
		s := newSender(t)
		s.serve()
		s.administer()
		s.params["smtp_tls_policy_maps"] = value
		var changes []string
		for _, f := range s.examine().Findings {
			if f.Severity == Error {
				changes = append(changes, f.Change...)
			}
		}
		right := "'smtp_tls_policy_maps = hash:/x, socketmap:unix:policyd/sock:tls-policy'"
		require.NotEmpty(t, changes, value)
		for _, c := range changes {
			require.Contains(t, c, right, value)
		}
	}
}

// To install Unbound does not help a machine on which Unbound runs without validating.
func TestAnUnboundThatDoesNotValidate(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.dns.SetValidating(false)
	findings := s.examine().Findings
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Code == "resolver-not-validating" })
	require.GreaterOrEqual(t, i, 0)
	require.Contains(t, findings[i].Change[0], "unbound-checkconf -o module-config")
	require.Contains(t, findings[i].Change[1], "apt-get install unbound")
}

// Postfix that asks for an unknown map does ask policyd: there is no finding that it does not.
func TestAnUnknownMapIsOneFinding(t *testing.T) {
	t.Parallel()
	for parameter, value := range map[string]string{
		"smtp_tls_policy_maps": "hash:/etc/x, socketmap:unix:policyd/sock:tls-polcy",
		"transport_maps":       "regexp:/etc/x, socketmap:unix:policyd/sock:transports",
	} {
		s := newSender(t)
		s.serve()
		s.administer()
		s.params[parameter] = value
		found := codes(s.examine())
		require.Contains(t, found, "map-unknown")
		require.NotContains(t, found, "tls-map-missing")
		require.NotContains(t, found, "transport-map-missing")
	}
}

func TestPostfixIsStartedByTheServiceManager(t *testing.T) {
	t.Parallel()
	for init, want := range map[string]string{
		"1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1" + memory: "systemctl start postfix",
		"1 (runit) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1" + memory:   "postfix start",
		"": "postfix start",
	} {
		s := newSender(t)
		require.NoError(t, os.RemoveAll(s.dir+"/proc/4711"))
		s.write("proc/1/stat", init)
		r := s.examine()
		i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.Code == "postfix-not-running" })
		require.GreaterOrEqual(t, i, 0, "%v", codes(r))
		require.Equal(t, []string{want}, r.Findings[i].Change)
	}
}
