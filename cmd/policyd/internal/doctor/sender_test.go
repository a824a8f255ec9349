package doctor

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/settings"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/internal/unixsock"
	"github.com/policyd/policyd/socketmap"
)

// sender is a machine that sends mail: a resolver, a policyd, and the configuration of a Postfix. It is sound
// until a test changes it.
type sender struct {
	t        *testing.T
	dir      string // a short path, because unix sockets need one
	dns      *dnstest.Server
	settings settings.Settings
	status   status.Status
	params   map[string]string
	services []string
	options  []string
	guarded  []string
	routes   map[string]string // transport answers by key
	egress   []string
	user     int
}

// systemServer is the server in resolv.conf.
const systemServer = "192.0.2.53"

// memory is what follows the start of a process in proc(5).
const memory = " 1 1 1 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0\n"

func newSender(t *testing.T) *sender {
	t.Helper()
	dir, err := os.MkdirTemp("", "doctor") //nolint:usetesting // the path of a unix socket has room for 107 bytes
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) // the user postfix must be able to reach the socket
	s := &sender{t: t, dir: dir, dns: dnstest.New(t), settings: settings.Default(), routes: map[string]string{}}
	s.settings.DNS.Servers = []string{s.dns.Addr()}
	s.settings.Server.Listen = []string{"unix:" + dir + "/queue/policyd/sock"}
	s.settings.Admin.Socket = dir + "/admin.sock"
	s.status.Version, s.status.Settings.Mode = "1.0", "enforce"
	s.status.Connections.Listeners = s.settings.Server.Listen
	s.status.Probes = &probe.Stats{Hosts: map[string]uint64{"open": 3}}
	s.write("resolv.conf", "nameserver "+systemServer+"\n")
	s.write("queue/etc/resolv.conf", "nameserver "+systemServer+"\n")
	s.write("roots.pem", string(smtptest.NewCA(t).PEM()))
	s.params = map[string]string{
		"mail_version": "3.7.11", "config_directory": dir + "/etc", "queue_directory": dir + "/queue", "compatibility_level": "3.6",
		"mail_owner": "nobody-that-exists", "smtp_tls_security_level": "may", "smtp_dns_support_level": "dnssec", "smtp_host_lookup": "dns",
		"smtp_tls_dane_insecure_mx_policy": "dane", "smtp_tls_wrappermode": "no", "smtp_tls_loglevel": "1",
		"smtp_tls_policy_maps": "socketmap:unix:policyd/sock:tls-policy",
		"transport_maps":       `regexp:{ {/@mx.own.example$/ :} }, socketmap:unix:policyd/sock:transport`,
		"default_transport":    "smtp", "smtp_tls_CAfile": dir + "/roots.pem", "tls_append_default_CA": "no",
		"mydestination": "mx.own.example, localhost", "myhostname": "mx.own.example", "inet_interfaces": "all",
	}
	s.services = []string{
		"smtp       inet  n       -       y       -       -       smtpd",
		"smtp       unix  -       -       y       -       -       smtp",
		"rewrite    unix  -       -       y       1000?   1       trivial-rewrite",
		"smtps26    unix  -       -       y       -       -       smtp -o smtp_tls_wrappermode=yes",
	}
	s.options = []string{"smtps26/unix/smtp_tls_wrappermode = yes", "smtps26/unix/smtp_tls_security_level = secure", "smtps26/unix/smtp_fallback_relay ="}
	s.write("queue/pid/master.pid", "            4711\n")
	s.write("proc/stat", "btime 4000000000\n") // in the future, so that no file is newer
	s.write("proc/4711/stat", "4711 (master) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 100"+memory)
	s.write("proc/4712/stat", "4712 (qmgr) S 4711 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 200"+memory)
	s.guarded = []string{"postmaster@mx.own.example", "postmaster@localhost"}
	return s
}

func (s *sender) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(s.t, os.WriteFile(path, []byte(text), 0o600))
}

// serve starts a policyd that has no policies, and the routes of the test.
func (s *sender) serve() {
	s.t.Helper()
	require.NoError(s.t, os.MkdirAll(s.dir+"/queue/policyd", 0o755))
	listener, err := unixsock.Listen(s.t.Context(), "unix:"+s.dir+"/queue/policyd/sock", unixsock.Options{Mode: 0o666})
	require.NoError(s.t, err)
	mux := &socketmap.Mux{}
	mux.Handle("tls-policy", socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply { return socketmap.NotFound() }))
	mux.Handle("tls-policy-tlsrpt", socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply { return socketmap.NotFound() }))
	mux.Handle("transport", socketmap.HandlerFunc(func(_ context.Context, req socketmap.Request) socketmap.Reply {
		if to := s.routes[req.Key]; to != "" {
			return socketmap.OK(to)
		}
		return socketmap.NotFound()
	}))
	server := &socketmap.Server{Handler: mux}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	s.t.Cleanup(func() {
		_ = server.Close()
		require.ErrorIs(s.t, <-done, socketmap.ErrServerClosed)
	})
}

// administer starts a server at the admin socket.
func (s *sender) administer() {
	s.t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(s.t.Context(), "unix", s.settings.Admin.Socket)
	require.NoError(s.t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(s.status)
	}))
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	s.t.Cleanup(server.Close)
}

// loaded returns the settings as they would have been read.
func (s *sender) loaded() *settings.Loaded {
	return &settings.Loaded{Settings: s.settings, Path: "/etc/policyd/policyd.toml", Found: true}
}

// made writes the configuration of the sender, and returns options that use the commands in testdata/bin.
func (s *sender) made() Options {
	s.t.Helper()
	var params strings.Builder
	for name, value := range s.params {
		params.WriteString(name + " = " + value + "\n")
	}
	s.write("etc/params", params.String())
	s.write("etc/services", strings.Join(s.services, "\n")+"\n")
	s.write("etc/options", strings.Join(s.options, "\n")+"\n")
	s.write("etc/guarded", strings.Join(s.guarded, "\n")+"\n")
	postconf, err := filepath.Abs("testdata/bin/postconf")
	require.NoError(s.t, err)
	return Options{
		Settings: s.loaded(), Postconf: postconf, ConfigDirectory: s.dir + "/etc", ResolvConf: s.dir + "/resolv.conf", Egress: s.egress,
		Proc: s.dir + "/proc", User: s.user,
	}
}

// examine runs doctor on the sender.
func (s *sender) examine() Report {
	s.t.Helper()
	return s.examined(s.made())
}

// examined is Examine without the finding that policyd asks another server than Postfix: the server of the test has a
// port of its own, which resolv.conf cannot name. TestTheServersOfPostfix is about that finding.
func (s *sender) examined(o Options) Report {
	s.t.Helper()
	r := Examine(s.t.Context(), o)
	differs := "policyd asks " + s.dns.Addr() + ", and " + o.ResolvConf + " has " + systemServer + ":53"
	if i := slices.IndexFunc(r.Findings, func(f Finding) bool { return f.What == differs }); i >= 0 {
		r.Findings = slices.Delete(r.Findings, i, i+1)
		r.Warnings--
	}
	return r
}
