package postfix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/regfile"
)

// question is a search in a table. Without keys it is for the hosts in brackets in all results.
type question struct {
	at    Commands
	table string
	keys  string
}

// answer has the keys or the hosts that were found, or a failure. It lasts as long as the view, and a failure less.
type answer struct {
	found  []string
	err    error
	failed time.Time
}

// Remote senders choose the keys, so the number of answers is bounded, like that of the processes.
const (
	maxAnswers  = 4096
	failureLife = 15 * time.Second
)

// known returns a kept answer, and false if there is none. A table that has just failed fails for all keys.
func (v *view) known(q question) (answer, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	failure := v.searches[question{at: q.at, table: q.table}]
	if failure.err != nil && time.Since(failure.failed) < failureLife {
		return failure, true
	}
	a, ok := v.searches[q]
	return a, ok && a.err == nil
}

// search returns a kept answer, or runs a command for it. If it may not wait, the error is dns.ErrNotCached.
func (s *Site) search(ctx context.Context, v *view, q question, e dns.Effort) answer {
	if a, ok := v.known(q); ok {
		return a
	}
	if e.CacheOnly {
		return answer{err: dns.ErrNotCached}
	}
	if err := s.slots.Acquire(ctx, 1); err != nil {
		return answer{err: fmt.Errorf("%s was not asked: %w", q.table, err)}
	}
	defer s.slots.Release(1)
	if a, ok := v.known(q); ok {
		return a // of a concurrent search
	}
	var a answer
	if q.keys == "" {
		a.found, a.err = q.at.resultHosts(ctx, q.table)
	} else {
		a.found, a.err = q.at.Query(ctx, q.table, strings.Fields(q.keys))
	}
	if a.err != nil {
		a = answer{err: fmt.Errorf("%s cannot be asked: %w", q.table, a.err), failed: time.Now()}
		q.keys = ""
	}
	if ctx.Err() == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.searches) >= maxAnswers {
			clear(v.searches)
		}
		v.searches[q] = a
	}
	return a
}

// RelayHost reports whether Postfix's own configuration delivers to [host]: relayhost, the fallback relays, the default
// transports, and the results of the sender-dependent and transport tables. Tables whose contents cannot be listed,
// such as ldap:, are not searched; a table that fails is an error unless the host is found elsewhere. With
// Effort.CacheOnly it does not wait for Postfix's commands, and the error is dns.ErrNotCached.
func (s *Site) RelayHost(ctx context.Context, host string, e dns.Effort) (bool, error) {
	host = canonical(host)
	v, err := s.view(ctx, e)
	if v == nil {
		return false, err
	}
	if v.relays[host] {
		return true, nil
	}
	for _, table := range v.relayTables {
		a := s.search(ctx, v, table, e)
		if slices.Contains(a.found, host) {
			return true, nil
		}
		err = errors.Join(err, a.err)
	}
	return false, err
}

// resultHosts returns the hosts in brackets among the results of a table whose contents can be listed: the entries of
// an indexed file, or the source of a table of patterns. The contents of an inline: table are in main.cf.
func (c Commands) resultHosts(ctx context.Context, table string) ([]string, error) {
	var contents string
	var err error
	table = strings.TrimPrefix(table, "proxy:")
	switch kind, path, _ := strings.Cut(table, ":"); {
	case slices.Contains([]string{"hash", "btree", "lmdb", "cdb", "dbm", "sdbm"}, kind):
		contents, _, err = c.run(ctx, process{path: c.beside("postmap"), args: []string{"-s", table}})
	case strings.HasPrefix(path, "/") && slices.Contains([]string{"texthash", "regexp", "pcre", "cidr"}, kind):
		var text []byte
		text, err = regfile.Read(path)
		contents = string(text)
	}
	hosts := map[string]bool{}
	for line := range strings.Lines(contents) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			addHosts(hosts, line)
		}
	}
	return slices.Collect(maps.Keys(hosts)), err
}
