package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/internal/dns/dnstest"
	"github.com/policyd/policyd/socketmap"
)

// server is a process under measurement.
type server struct {
	*daemon.Process
	name  string
	table string // the name of the socketmap for TLS policies
}

// The defaults, log and metrics included, except for paths.
const settings = `overrides = "DIR/overrides"
server.listen = ["unix:DIR/sock"]
dns.servers = [%q]
cache.max_entries = %d
cache.state_dir = "DIR/state"
admin.socket = "DIR/admin"
`

const usualEntries = 400_000

// stage is a resolver and the servers that are compared: policyd is the first.
type stage struct {
	dns     *dnstest.Server
	servers []*server
}

// with calls f with policyd, the peer if there is one, and a constant server with the reply constant unless that is "".
func (b *bench) with(ctx context.Context, entries int, constant string, f func(stage)) {
	st := stage{dns: must.Get(dnstest.Start("127.0.0.1"))}
	defer func() { _ = st.dns.Close() }()
	dane().publish(st.dns, "awake.example", "mx.awake.example")
	add := func(name, table string, start func(dir string) (*daemon.Process, error)) {
		dir := must.Get(os.MkdirTemp(b.dir, "")) // for one process
		s := &server{must.Get(start(dir)), name, table}
		st.servers = append(st.servers, s)
		must.Do(s.Ready(ctx, "has tested its resolver", func(ctx context.Context) error {
			return must.Catch(func() { s.fill(ctx, 1, []string{"awake.example"}) })
		}))
	}
	// other starts a server that listens on DIR/sock.
	other := func(path string, arguments ...string) func(string) (*daemon.Process, error) {
		return func(dir string) (*daemon.Process, error) {
			for i := range arguments {
				arguments[i] = strings.ReplaceAll(arguments[i], "DIR", dir)
			}
			return daemon.Run(ctx, daemon.Command{Path: path, Arguments: arguments, Address: "unix:" + dir + "/sock"})
		}
	}
	err := must.Catch(func() {
		add("policyd", "tls-policy", func(dir string) (*daemon.Process, error) {
			return daemon.Policyd(ctx, dir, fmt.Sprintf(settings, st.dns.Addr(), entries),
				daemon.Command{Path: b.policyd, Address: "unix:DIR/sock"})
		})
		if constant != "" {
			self := must.Get(os.Executable())
			add("constant", "tls-policy", other(self, "-constant", "DIR/sock", "-reply", constant))
		}
		if b.peer != "" { // postfix-tlspol with its quiet log
			add("peer", "QUERY", func(dir string) (*daemon.Process, error) {
				config := "server:\n  address: unix:" + dir + "/sock\n  log-level: error\n  prefetch: true\n" +
					"  cache-file: " + dir + "/cache.db\ndns:\n  address: " + st.dns.Addr() + "\n"
				must.Do(os.WriteFile(dir+"/peer.yaml", []byte(config), 0o600))
				return other(b.peer, "-config", "DIR/peer.yaml")(dir)
			})
		}
		f(st)
	})
	for _, s := range st.servers {
		err = errors.Join(err, s.Stop())
	}
	must.Do(err)
}

// fill looks up every domain once, over a number of connections.
func (s *server) fill(ctx context.Context, connections int, domains []string) {
	next := make(chan string, len(domains))
	for _, d := range domains {
		next <- d
	}
	close(next)
	must.Each(connections, connections, func(int) {
		c := must.Get(socketmap.Dial(ctx, s.Address))
		defer func() { _ = c.Close() }()
		for d := range next {
			r := must.Get(c.Lookup(ctx, socketmap.Request{Map: s.table, Key: d}))
			must.Be(r.Status == socketmap.StatusOK || r.Status == socketmap.StatusNotFound, "%s: %s", d, r)
		}
	})
}

// cpu is the processor time that the process has used, proc_pid_stat(5).
func (s *server) cpu() time.Duration {
	const tick = 10 * time.Millisecond // 1/USER_HZ, the same on all Linux
	text := must.Get(os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID())))
	// After the name, which is in parentheses: state is field 3, utime 14, stime 15.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	return time.Duration(must.Get(strconv.Atoi(fields[11]))+must.Get(strconv.Atoi(fields[12]))) * tick
}
