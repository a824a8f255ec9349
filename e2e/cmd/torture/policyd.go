package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/policyd/policyd/e2e/daemon"
	"github.com/policyd/policyd/e2e/must"
	"github.com/policyd/policyd/socketmap"
)

// settings are the defaults except for paths, for addresses on loopback, and for the settings of setup.
const settings = `overrides = "DIR/overrides"
server.listen = ["unix:DIR/s", "%[1]s"]
dns.servers = [%[2]s]
cache.state_dir = %[3]q
port26.port = %[4]d
port26.probe_special_addresses = true
tls.ca_file = %[5]q
admin.socket = "DIR/admin"
metrics.listen = %[6]q
`

// setup is how the policyd of a fault differs from the default.
type setup struct {
	settings string // settings in addition to those of every fault
	// resolvConf takes the servers from resolv.conf.
	resolvConf bool
	// state is where the state directory is: "" is a directory of its own, otherwise the size of a file system for it.
	state string
	// passed means that the listener is passed, as policyd.socket does, and outlives the process.
	passed bool
	// memory is the limit of a control group for the process, in bytes.
	memory int64
	daemon.Command
}

// policyd is the policyd of a fault.
type policyd struct {
	*daemon.Process
	tcp, metrics string
	state        string
	group        string
}

// start starts a policyd. It is stopped at the end, and must be running then.
func (s *scene) start(ctx context.Context, with setup) *policyd {
	at := s.loopback().String()
	dir := filepath.Join(s.dir, at)
	must.Do(os.Mkdir(dir, 0o700))
	p := &policyd{tcp: at + ":2526", metrics: at + ":9526", state: filepath.Join(dir, "state")}
	if with.state != "" {
		s.tmpfs(p.state, with.state)
		p.state = filepath.Join(p.state, "policyd")
	}
	if with.memory > 0 {
		p.group = s.memoryGroup(with.memory)
		with.Shell = "echo $$ >" + p.group + "/cgroup.procs; "
	}
	with.Path, with.Address = s.config.policyd, "unix:DIR/s"
	if with.passed {
		with.Address = "unix:DIR/passed"
		with.Listeners = []*os.File{s.passed(dir + "/passed")}
	}
	servers := strconv.Quote(s.env.dns.Addr())
	if with.resolvConf {
		servers = ""
	}
	p.Process = must.Get(daemon.Policyd(ctx, dir, fmt.Sprintf(settings, p.tcp, servers, p.state, smtpsPort,
		s.env.caFile, p.metrics)+with.settings, with.Command))
	s.atEnd(p.finish)
	return p
}

// passed makes a listener as policyd.socket does.
func (s *scene) passed(path string) *os.File {
	l := must.Get(net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}))
	l.SetUnlinkOnClose(false)
	file := must.Get(l.File())
	s.atEnd(func() { must.Do(file.Close()) })
	must.Do(l.Close())
	return file
}

// again starts another process after one that has ended.
func (p *policyd) again(ctx context.Context) { p.Process = must.Get(daemon.Run(ctx, p.Command)) }

// finish stops a policyd that must be running and sound.
func (p *policyd) finish() {
	err := p.Signal(syscall.Signal(0)) // an error if it has ended
	if err == nil {
		err = p.Stop()
	}
	must.Be(err == nil, "policyd did not end well: %w; its log ends:\n%s", err, p.Log.Tail(20, ""))
	must.Be(p.Log.Tail(1, "panic", "DATA RACE") == "", "policyd panicked:\n%s", p.Log)
}

// best asks until every question has its best answer, and returns how long that took.
func (p *policyd) best(ctx context.Context, questions []question) time.Duration {
	begun := time.Now()
	for _, q := range questions {
		var last socketmap.Reply
		err := poll(ctx, fmt.Sprintf("%s %s: %q", q.request.Map, q.request.Key, q.best), func() bool {
			r, err := p.Ask(ctx, q.request)
			last = r
			must.Be(err != nil || q.allows(r), "%s %s: %q is weaker than the facts", q.request.Map,
				q.request.Key, r)
			return err == nil && text(r) == q.best
		})
		must.Be(err == nil, "%w; the last answer is %q", err, last)
	}
	return time.Since(begun)
}

// recover returns how long it took until all answers were the best again.
func (p *policyd) recover(ctx context.Context, questions []question) string {
	const seconds = 25 * time.Second
	took := p.best(ctx, questions)
	must.Be(took <= seconds, "the best answers took %v to come back", took)
	return fmt.Sprintf("back after %.1f s", took.Seconds())
}

// logged checks that words are in the log, or come to be, see fault.log.
func (p *policyd) logged(ctx context.Context, words string) {
	const most = 20
	n := 0
	first, also, _ := strings.Cut(words, " … ")
	_ = p.Logged(ctx, first, also)
	for _, line := range p.Log.Lines(0) {
		if strings.Contains(line, first) && strings.Contains(line, also) {
			n++
		}
	}
	must.Be(n > 0 && n <= most, "%q is in the log %d times; it ends:\n%s", words, n, p.Log.Tail(20, ""))
}

// metric reads the sum of a metric over its labels.
func (p *policyd) metric(ctx context.Context, name string) (sum float64) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := must.Get(http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.metrics+"/metrics", nil))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response := must.Get(client.Do(request))
	defer func() { _ = response.Body.Close() }()
	text := must.Get(io.ReadAll(response.Body))
	samples := regexp.MustCompile(`(?m)^`+name+`(?:\{.*\})? (\S+)$`).FindAllSubmatch(text, -1)
	must.Be(samples != nil, "there is no metric %s", name)
	for _, sample := range samples {
		sum += must.Get(strconv.ParseFloat(string(sample[1]), 64))
	}
	return sum
}

func (p *policyd) files() int {
	return len(must.Get(os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.PID()))))
}

// filesBack waits until no more descriptors are open than before, except for a few of background work.
func (p *policyd) filesBack(ctx context.Context, before int) {
	const few = 12
	must.Do(poll(ctx, fmt.Sprintf("%d descriptors again", before), func() bool { return p.files() <= before+few }))
}
