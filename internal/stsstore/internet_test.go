package stsstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/mtasts"
	"github.com/policyd/policyd/internal/stsstore"
)

// internet is the DNS and the policy hosts of all domains. It is a dns.Resolver and a stsstore.Fetcher.
type internet struct {
	mu      sync.Mutex
	txt     map[string]string // of a domain; missing: denied
	dnsFail bool
	dnsErr  error
	dnsWait time.Duration
	policy  map[string]string
	wait    time.Duration
	hangs   string // the fetches for domains with this suffix
	fail    *mtasts.Error
	asked   int
	serial  int
	fetched int
}

const (
	ttl  = time.Minute
	head = "version: STSv1\nmode: enforce\nmax_age: 86400\n"
)

// The efforts of a lookup.
var ( //nolint:gochecknoglobals // constants
	anything  = dns.Effort{}
	cacheOnly = dns.Effort{CacheOnly: true}
	untrusted = dns.Effort{Untrusted: true}
)

func newInternet() *internet {
	return &internet{txt: map[string]string{}, policy: map[string]string{}}
}

// set announces a policy of a domain. body is what its host serves; "" does not change it.
func (w *internet) set(domain, id, body string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.txt[domain] = "v=STSv1; id=" + id + ";"
	if body != "" {
		w.policy[domain] = body
	}
}

// change runs f under the lock.
func (w *internet) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// down makes every fetch fail.
func (w *internet) down(failure mtasts.Failure) {
	w.change(func() { w.fail = &mtasts.Error{Failure: failure, Err: errors.New("connection refused")} })
}

func (w *internet) fetches() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetched
}

func (w *internet) queries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *internet) Lookup(ctx context.Context, q dns.Question, _ dns.Effort) (*dns.RRset, error) {
	w.mu.Lock()
	w.asked++
	domain := q.Name[len("_mta-sts."):]
	txt, ok := w.txt[domain]
	fail, wait, failed := w.dnsFail, w.dnsWait, w.dnsErr
	w.mu.Unlock()
	if failed != nil {
		return nil, failed
	}
	ctx, cancel := context.WithTimeout(ctx, 12*time.Second) // the longest that a stub takes
	defer cancel()
	if err := sleep(ctx, wait); err != nil {
		return nil, &dns.Error{Question: q, Reason: "timed out", Err: err}
	}
	if fail {
		return nil, &dns.Error{Question: q, Reason: "SERVFAIL"}
	}
	r := &dns.RRset{Name: q.Name, Type: q.Type, Owner: q.Name, Status: dns.Insecure, Expires: time.Now().Add(ttl)}
	if ok {
		r.Records = []string{"something else", txt}
	}
	return r, nil
}

func (w *internet) Fetch(ctx context.Context, domain string) (mtasts.Policy, error) {
	w.mu.Lock()
	w.fetched++
	body, fail, wait := w.policy[domain], w.fail, w.wait
	if w.hangs != "" && strings.HasSuffix(domain, w.hangs) {
		wait = time.Hour
	}
	w.mu.Unlock()
	if err := sleep(ctx, wait); err != nil {
		return mtasts.Policy{}, &mtasts.Error{Domain: domain, Failure: mtasts.FetchError, Err: err}
	}
	if fail != nil {
		return mtasts.Policy{}, &mtasts.Error{Domain: domain, Failure: fail.Failure, Err: fail.Err, Addr: fail.Addr}
	}
	if body == "panic" {
		panic("what a body")
	}
	p, err := mtasts.ParsePolicy([]byte(body))
	if err != nil {
		return p, &mtasts.Error{Domain: domain, Failure: mtasts.PolicyInvalid, Err: err}
	}
	return p, nil
}

// store returns a store that uses w and is closed at the end of the test. It does not run.
func (w *internet) store(t testing.TB, change func(*stsstore.Options)) *stsstore.Store {
	t.Helper()
	o := stsstore.Options{Resolver: dnscache.New(w, dnscache.Options{}), Fetcher: w}
	if change != nil {
		change(&o)
	}
	s := stsstore.New(o)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// run runs a store until the test ends.
func run(t testing.TB, s *stsstore.Store) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func in(dir string) func(*stsstore.Options) {
	return func(o *stsstore.Options) { o.StateDir = dir }
}

// short is a result in a word or two.
func short(r mtasts.Result) string {
	text := r.State.String()
	if r.State == mtasts.Found {
		text += fmt.Sprintf(" %s %s %v", r.ID, r.Policy.Mode, r.Policy.MX)
	}
	if r.Stale {
		text += " stale"
	}
	if r.Failure != "" {
		text += " " + string(r.Failure)
	}
	return text
}

// get describes a domain that the store knows.
func get(s *stsstore.Store, domain string) stsstore.Entry {
	e, _ := s.Get(domain)
	return e
}
