package main

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

// What a trial takes for an answer that is strong enough.
func TestAllows(t *testing.T) {
	t.Parallel()
	tls, transport := signed.questions("a.example")[0], signed.questions("a.example")[2]
	for _, c := range []struct {
		name string
		q    question
		r    socketmap.Reply
		want bool
	}{
		{"the best", tls, socketmap.OK("secure match=starttls-mx.a.example servername=hostname"), true},
		{"mail waits", tls, socketmap.Temp("later"), true},
		{"the promise is gone", tls, socketmap.NotFound(), false},
		{"another host", tls, socketmap.OK("secure match=mx.attacker.example servername=hostname"), false},
		{"a level below", tls, socketmap.OK("encrypt"), false},
		{"mail waits without a cause", sure([]question{tls})[0], socketmap.Temp("later"), false},
		{"the zero reply", question{}, socketmap.Reply{}, false},
		{"no route", transport, socketmap.NotFound(), true},
		{"a route that nobody has promised", transport, socketmap.OK("smtps26:a.example:26"), false},
		{"TEMP for a route", transport, socketmap.Temp("later"), false},
		{"bogus is TEMP", bogus.questions("a.example")[0], socketmap.Temp("bogus"), true},
		{"and nothing else", bogus.questions("a.example")[0], socketmap.NotFound(), false},
		{"DANE", withTLSA.questions("a.example")[0], socketmap.OK("dane-only"), true},
		{"DANE without its authentication", withTLSA.questions("a.example")[0], socketmap.OK("dane"), false},
		{"another fact of the trial", question{best: "OK x", also: []string{notFound}}, socketmap.NotFound(), true},
	} {
		require.Equal(t, c.want, c.q.allows(c.r), c.name)
	}
}

func TestGrowth(t *testing.T) {
	t.Parallel()
	steady := usage{memory: 50, live: 20, goroutines: 100, files: 20}
	require.NoError(t, growth([]usage{steady, {90, 60, 300, 90}, steady, {60, 21, 105, 22}}), "chance is no growth")
	for what, u := range map[string]usage{"memory": {90, 20, 100, 20}, "live memory": {50, 40, 100, 20}, "goroutines": {50, 20, 200, 20}, "descriptors": {50, 20, 100, 60}} {
		require.ErrorContains(t, growth([]usage{steady, steady, u, u}), what)
	}
}

// A trial that fails, or that had to be left out without -short, is an error and is in the table.
func TestPlay(t *testing.T) {
	t.Parallel()
	play := func(found string, err error) func(context.Context, *scene) (string, error) {
		return func(context.Context, *scene) (string, error) { return found, err }
	}
	ended := false
	trials := []trial{
		{fault: "one", holds: "all", play: play("well", nil)},
		{fault: "two", holds: "all", busy: true, play: play("", errors.New("it broke\nand how"))},
		{fault: "three", holds: "all", root: true, play: play("never", nil)},
		{fault: "four", holds: "a|b", play: func(_ context.Context, s *scene) (string, error) {
			s.atEnd(func() error { ended = true; return errors.New("at the end") })
			return "well", nil
		}},
	}
	r := runner{dir: t.TempDir()}
	results, err := r.play(t.Context(), trials)
	require.True(t, ended)
	for _, words := range []string{"two: did not hold", "three: left out", "four: did not hold"} {
		require.ErrorContains(t, err, words)
	}
	text := table(t.Context(), config{policyd: "/nonexistent"}, results)
	for _, line := range []string{"| one | all | held: well |", "| two | all | BROKEN: it broke |", "| three | all | left out: needs root |", `| four | a\|b | BROKEN: at the end |`} {
		require.Contains(t, text, line+"\n")
	}
	r.config.short, r.dir = true, t.TempDir()
	_, err = r.play(t.Context(), trials[2:3])
	require.NoError(t, err)
}

// The faults that are to be played, by the words of the table.
func TestAllFaultsAreThere(t *testing.T) {
	t.Parallel()
	var names []string
	for _, c := range all() {
		names = append(names, c.fault)
		require.NotEmpty(t, c.holds, c.fault)
	}
	text := strings.Join(names, "\n")
	for _, words := range []string{
		"dead", "2 s", "30 s", "garbage", "lies about AD", "changes its mind", "restarts", "resolv.conf", "full", "read-only", "missing", "kill -9",
		"clock", "10,000", "slow loris", "half requests", "malformed", "pipelined", "reconnects", "SIGTERM", "SIGHUP", "hand-over", "descriptors", "memory limit", "100,000", "soak",
	} {
		require.Contains(t, text, words)
	}
	require.Len(t, choose(all(), regexp.MustCompile("^disk")), 4)
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	require.Zero(t, quantile(nil, 0.5))
	require.Equal(t, time.Duration(3), quantile([]time.Duration{1, 2, 3}, 0.999))
}

// Trials that run side by side are not in each other's way.
func TestLoopback(t *testing.T) {
	t.Parallel()
	seen := map[netip.Addr]bool{}
	for i := range all() {
		s := scene{number: i}
		for range 10 {
			at := s.loopback()
			require.True(t, at.IsLoopback())
			require.NotContains(t, seen, at)
			seen[at] = true
		}
	}
}
