package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/internal/smtptls/smtptest"
	"github.com/policyd/policyd/socketmap"
)

// stepTimeout is a timeout for steps that take no time on an idle machine.
const stepTimeout = 30 * time.Second

func TestMain(m *testing.M) {
	// With this set, this binary is policyd.
	if os.Getenv("POLICYD_UNDER_TEST") != "" {
		os.Exit(run())
	}
	testscript.Main(m, map[string]func(){"policyd": main})
}

// zones fills a resolver with the domains of the scripts.
func zones(s *dnstest.Server) {
	mx := func(domain string, secure bool, hosts ...string) {
		a := dnstest.Answer{Secure: secure}
		for i, h := range hosts {
			a.Records = append(a.Records, fmt.Sprintf("MX %d %s.", 10*(i+1), h))
		}
		s.Set(domain, dns.TypeMX, a)
	}
	mx("starttls.example", true, "starttls-mx.starttls.example")
	mx("smtps.example", true, "smtps-mx.smtps.example")
	mx("mixed.example", true, "starttls-mx.mixed.example", "mx.mixed.example")
	mx("unsigned.example", false, "starttls-mx.unsigned.example")
	mx("plain.example", true, "mx.plain.example")
	mx("open.example", true, "smtps-mx.open.example")
	mx("closed.example", true, "smtps-mx.closed.example")
	mx("dane25.example", true, "smtps-mx.dane25.example")
	s.Set("_25._tcp.smtps-mx.dane25.example", dns.TypeTLSA, dnstest.Answer{Secure: true, Records: []string{"TLSA 3 1 1 " + strings.Repeat("ab", 32)}})
	s.Set("smtps-mx.open.example", dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A 127.0.0.2"}})
	s.Set("smtps-mx.closed.example", dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A 127.0.0.3"}})
	for _, host := range []string{"starttls-mx.starttls", "smtps-mx.smtps", "smtps-mx.dane25", "starttls-mx.mixed", "mx.mixed", "starttls-mx.unsigned", "mx.plain"} {
		s.Set(host+".example", dns.TypeA, dnstest.Answer{Secure: true, Records: []string{"A 192.0.2.1"}})
	}
	s.Set("bogus.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL", EDE: 6, EDEText: "signature expired"})
	s.Set("down.example", dns.TypeMX, dnstest.Answer{Rcode: "SERVFAIL"})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			s := dnstest.New(t)
			zones(s)
			e.Setenv("DNS", s.Addr())
			directory, err := filepath.Abs("../../docs/schema")
			if err != nil {
				return err
			}
			e.Setenv("SCHEMAS", directory)
			e.Setenv("GORACE", "atexit_sleep_ms=0") // otherwise each run takes one second longer
			config := "dns.servers = [\"" + s.Addr() + "\"]\ncache.state_dir = \"\"\nadmin.socket = \"\"\n"
			ca := smtptest.NewCA(t)
			cert := ca.Names(t, "smtps-mx.open.example")
			receiver := smtptest.Start(t, "127.0.0.2:0", smtptest.Behaviour{Cert: &cert, Implicit: true})
			bundle := ca.PEM()
			if err := os.WriteFile(filepath.Join(e.WorkDir, "ca.pem"), bundle, 0o600); err != nil {
				return err
			}
			for name, more := range map[string]string{
				"policyd.toml": "",
				"run.toml":     "server.listen = [\"unix:" + filepath.Join(e.WorkDir, "sock") + "\"]\n",
				"report.toml":  "mode = \"report\"\n",
				"off.toml":     "mode = \"off\"\n",
				"probe.toml": fmt.Sprintf("port26.port = %d\nport26.probe_special_addresses = true\ntls.ca_file = %q\n",
					receiver.Addr().Port(), filepath.Join(e.WorkDir, "ca.pem")),
			} {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(config+more), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":   cmdStatus,
			"busy":     cmdBusy,
			"lookup":   cmdLookup,
			"widest":   cmdWidest,
			"envsubst": cmdEnvSubst,
			"schema":   cmdSchema,
		},
	})
}

// cmdStatus runs a command and checks its exit status: status 2 policyd serve.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = e.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, not %d", got, want)
	}
}

// cmdBusy listens until the script ends, and sets ADDR and PORT, or listens at a path: busy [path].
func cmdBusy(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 1 {
		ts.Fatalf("usage: busy [path]")
	}
	network, address := "tcp", "127.0.0.1:0"
	if len(args) == 1 {
		network, address = "unix", ts.MkAbs(args[0])
	}
	l, err := net.Listen(network, address)
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	if network == "tcp" {
		_, port, err := net.SplitHostPort(l.Addr().String())
		ts.Check(err)
		ts.Setenv("PORT", port)
	}
}

// cmdLookup waits until a server is there and compares its answer: lookup path map key answer.
func cmdLookup(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: lookup path map key answer")
	}
	for deadline := time.Now().Add(stepTimeout); ; {
		got, err := once("unix:"+ts.MkAbs(args[0]), socketmap.Request{Map: args[1], Key: args[2]})
		if err == nil && got == args[3] {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%q %v", got, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func once(address string, req socketmap.Request) (string, error) {
	ctx, cancel := testContext()
	defer cancel()
	c, err := socketmap.Dial(ctx, address)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	r, err := c.Lookup(ctx, req)
	return strings.TrimRight(r.String(), " "), err
}

// cmdWidest checks that no line of a file is longer than a number of characters: widest 80 stdout.
func cmdWidest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: widest N file")
	}
	most, err := strconv.Atoi(args[0])
	ts.Check(err)
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		if line = strings.TrimRight(line, "\n"); len(line) > most {
			ts.Fatalf("%d characters: %s", len(line), line)
		}
	}
}

// cmdEnvSubst replaces $NAME in a file by the values of the script's environment: envsubst file.
func cmdEnvSubst(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: envsubst file")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

func TestAddressesAreLookedUpByTheirDomain(t *testing.T) {
	require.Equal(t, "example.com", admin.DomainOf("user@example.com"))
	require.Equal(t, "example.com", admin.DomainOf("a@b@example.com"))
	require.Empty(t, admin.DomainOf("user@"))
	require.Equal(t, "[mx.example.com]:26", admin.DomainOf("[mx.example.com]:26"))
}
