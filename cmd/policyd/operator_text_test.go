package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/fleet"
	"github.com/policyd/policyd/internal/lookup"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/promises"
	"github.com/policyd/policyd/internal/stsstore"
	"github.com/policyd/policyd/internal/stub"
	"github.com/policyd/policyd/internal/text"
)

var update = flag.Bool("update", false, "write the golden files")

// fits checks that no line is wider than 80 columns.
func fits(t *testing.T, output string) {
	t.Helper()
	for line := range strings.Lines(output) {
		require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), text.Columns, line)
	}
}

// golden compares text with a file, which -update rewrites.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), text)
}

func TestHelpFitsATerminal(t *testing.T) {
	t.Parallel()
	var examine func(cmd *cobra.Command)
	examine = func(cmd *cobra.Command) {
		var b strings.Builder
		cmd.SetOut(&b)
		require.NoError(t, cmd.Help())
		require.Contains(t, b.String(), "Usage:")
		fits(t, b.String())
		for _, below := range cmd.Commands() {
			examine(below)
		}
	}
	examine(newRoot())
}

func TestStatusScreen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		busy := status.Status{
			Version: "1.0.0", Go: "go1.26.8", PID: 4711, Started: now.Add(-75 * time.Hour), Uptime: 75 * 3600, LogLevel: "debug",
			Warnings: []string{
				"the DNS servers are not trusted; treating all answers as insecure: not every server is a resolver on loopback",
				"last reload failed; keeping the previous settings: /etc/policyd/policyd.toml:3: unknown key mod",
			},
			Settings: status.Settings{
				File: "/etc/policyd/policyd.toml", Mode: "report", Overrides: 12,
				Changed: []string{`mode = "report"`, `server.listen = ["127.0.0.1:2526", "unix:/run/policyd/sock"]`, `cache.max_entries = 100000`},
			},
			Reload:   &status.Reload{At: now.Add(-5 * time.Minute), Error: "/etc/policyd/policyd.toml:3: unknown key mod"},
			Resolver: stub.State{SelfTest: "not trusted", Servers: []string{"192.0.2.53:53", "[2001:db8::53]:53"}, Source: "/etc/resolv.conf", Outcome: stub.Outcome{Reason: "not every server is a resolver on loopback"}, Checked: now.Add(-90 * time.Second)},
			Lookups: lookup.Stats{Replies: map[string]map[string]uint64{
				"tls-policy":        {"OK": 1234567, "NOTFOUND": 89012, "TEMP": 3, "PERM": 1},
				"tls-policy-tlsrpt": {"OK": 5},
				"transport":         {"NOTFOUND": 4_000_000, "OK": 321},
			}, Unsigned: 1234567},
			Cache: dnscache.Stats{
				Entries: 98765, Bytes: 61_234_567, MaxBytes: 102_400_000, Hits: 98_765_432, Misses: 1_234_567, Failures: 890, Stale: 12, Kept: 3, Evicted: 45_678, Refreshed: 901,
				MaxEntries: 100000, Answers: map[string]uint64{"secure": 600_000, "insecure": 630_000, "bogus": 17, "failed": 4550},
			},
			MTASTS:      &stsstore.Stats{Policies: 123, Persistent: true, Fetches: map[string]uint64{"ok": 130, "failed": 7}},
			Probes:      &probe.Stats{Hosts: map[string]uint64{"open": 12, "closed": 3, "unknown": 1}, Results: map[string]uint64{"open": 400, "refused": 12, "tls-handshake": 1, "banner": 0}},
			Promises:    &status.PromiseStatus{Stats: promises.Stats{Remembered: 4321, Missing: 2, Held: 1, Vanished: 3}},
			Fleet:       &fleet.Stats{Up: true, LastSuccess: now.Add(-8 * time.Second), Sent: 1200, Received: 5000, Merged: 3500, Ignored: map[fleet.Reason]uint64{fleet.Stale: 1490, fleet.MAC: 10, fleet.Future: 0}},
			Connections: status.Connections{Listeners: []string{"127.0.0.1:2526", "unix:/var/spool/postfix/policyd/sock"}, Open: 37, Max: 4096, Total: 9876, Dropped: map[string]uint64{"idle": 9000}, Errors: map[string]uint64{"malformed": 1}, UnknownMaps: []lookup.UnknownMap{{Name: "tls_policy", Nearest: "tls-policy", Times: 12, Last: time.Date(2026, 11, 20, 10, 2, 3, 0, time.UTC)}}},
		}
		b := screen{}
		b.status(busy)
		golden(t, "status.txt", b.String())
		fits(t, b.String())

		fresh := status.Status{
			Version: "1.0.0", PID: 1, Uptime: 7, LogLevel: "info", Settings: status.Settings{Mode: "enforce"},
			Resolver: stub.State{Trusted: true, Validating: true, SelfTest: "validating", Servers: []string{"127.0.0.1:53"}, Source: "/etc/resolv.conf", Checked: now},
			Cache:    dnscache.Stats{MaxEntries: 400_000, MaxBytes: 400 << 20}, Connections: status.Connections{Listeners: []string{"127.0.0.1:2526"}, Max: 4096},
			Reload: &status.Reload{At: now.Add(-time.Second), OK: true},
		}
		b = screen{}
		b.status(fresh)
		golden(t, "status_fresh.txt", b.String())
		b.Reset()
		busy.Version = "1\x1b[31m"
		b = screen{colour: true}
		b.status(busy)
		require.Contains(t, b.String(), "\x1b[1mpolicyd 1?[31m\x1b[0m", "nothing but our own codes steers the terminal")
		require.Contains(t, b.String(), "\x1b[33m  ! the DNS servers are not trusted")
	})
}

// entries are a cache with one of each kind.
func entries(now time.Time) []dnscache.Entry {
	return []dnscache.Entry{
		{Name: "", Type: dns.TypeNS, Status: dns.Secure, Data: []string{"a.root-servers.net"}, Stored: now, Expires: now.Add(24 * time.Hour)},
		{Name: "_25._tcp.mx.example.com", Type: dns.TypeTLSA, Status: dns.Secure, Data: []string{"3 1 1 aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899"}, Expires: now.Add(time.Hour)},
		{Name: "_mta-sts.example.com", Type: dns.TypeTXT, Status: dns.Insecure, Data: []string{`"v=STSv1; id=\x1b[31m;"`}, Expires: now.Add(299 * time.Second)},
		{Name: "bogus.example", Type: dns.TypeMX, Status: dns.Indeterminate, Failure: "SERVFAIL (DNSSEC Bogus: signature expired)", Retry: now.Add(12 * time.Second)},
		{Name: "down.example", Type: dns.TypeMX, Status: dns.Indeterminate, Failure: "127.0.0.1:53: timed out", Retry: now.Add(-time.Second)},
		{Name: "example.com", Type: dns.TypeMX, Status: dns.Secure, Data: []string{"10 starttls-mx.example.com", "20 smtps-backup.example.net"}, Expires: now.Add(59 * time.Second), Failure: "127.0.0.1:53: timed out", Retry: now.Add(time.Second)},
		{Name: "mx.a-rather-long-name-of-a-company.some-region.provider.example.net", Type: dns.TypeAAAA, Status: dns.Secure, Denial: "NODATA", Expires: now.Add(50 * time.Hour)},
		{Name: "stale.example", Type: dns.TypeMX, Status: dns.Secure, Data: []string{"10 smtps-mx.stale.example"}, Expires: now.Add(-10 * time.Minute), Failure: "127.0.0.1:53: timed out"},
	}
}

func TestCacheScreens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		b := screen{width: text.Columns}
		b.entries(entries(now))
		golden(t, "cache_list.txt", b.String())
		fits(t, b.String())
		b = screen{}
		b.entries(entries(now))
		require.Contains(t, b.String(), "778899aabbccddeeff00112233445566778899\n", "not cut where there is no terminal")
		header, _, _ := strings.Cut(b.String(), "\n")
		require.Contains(t, b.String(), fmt.Sprintf("%-*s%s\n", strings.Index(header, "RECORDS")-strings.Index(header, "NAME"),
			"mx.a-rather-long-name-of-a-company.some-region.provider.example.net", "NODATA"), "in its column")
		b = screen{}
		b.entries(nil)
		require.Empty(t, b.String())

		b = screen{}
		b.domain(status.Domain{
			Domain: "example.com", Cache: entries(now),
			MTASTS: &stsstore.Entry{
				Mode: "enforce", ID: "20261124", MX: []string{"mx.example.com", "*.example.net"}, Fetched: now.Add(-26 * time.Hour), Expires: now.Add(30 * 24 * time.Hour),
				Reason: "sts-webpki-invalid: the certificate of mta-sts.example.com has expired", Retry: now.Add(5 * time.Minute),
			},
			Probes: []probe.Entry{
				{Host: "smtps-a.example.com", State: "open", Checked: now.Add(-3 * time.Minute), Expires: now.Add(time.Hour)},
				{Host: "smtps-b.example.com", State: "closed", Cause: "certificate-name", Checked: now.Add(-time.Minute), Why: "192.0.2.1: the certificate is for mx.example.net"},
			},
		})
		golden(t, "cache_get.txt", b.String())
		b = screen{}
		b.domain(status.Domain{Domain: "example.net"})
		require.Equal(t, "example.net\n\nDNS         nothing is cached\n\nMTA-STS     nothing is stored\nprobes      nothing is known\n", b.String())
	})
}
