package main

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

func TestWhichAnswersAreStrongEnough(t *testing.T) {
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
		{"a lower level", tls, socketmap.OK("encrypt"), false},
		{"mail waits without a cause", sure([]question{tls})[0], socketmap.Temp("later"), false},
		{"the zero reply", question{}, socketmap.Reply{}, false},
		{"no route", transport, socketmap.NotFound(), true},
		{"a route without a promise", transport, socketmap.OK("smtps26:a.example:26"), false},
		{"TEMP for a route", transport, socketmap.Temp("later"), false},
		{"bogus is TEMP", bogus.questions("a.example")[0], socketmap.Temp("bogus"), true},
		{"and nothing else", bogus.questions("a.example")[0], socketmap.NotFound(), false},
		{"DANE", withTLSA.questions("a.example")[0], socketmap.OK("dane-only"), true},
		{"DANE without authentication", withTLSA.questions("a.example")[0], socketmap.OK("dane"), false},
		{"another fact during the fault", question{best: "OK x", also: []string{notFound}}, socketmap.NotFound(), true},
	} {
		require.Equal(t, c.want, c.q.allows(c.r), c.name)
	}
}

func TestGrowth(t *testing.T) {
	t.Parallel()
	steady := usage{memory: 50, live: 20, goroutines: 100, files: 20}
	require.NoError(t, growth([]usage{steady, {90, 60, 300, 90}, steady, {60, 21, 105, 22}}), "a single peak does not count as growth")
	for what, u := range map[string]usage{"memory": {90, 20, 100, 20}, "live memory": {50, 40, 100, 20},
		"goroutines": {50, 20, 200, 20}, "descriptors": {50, 20, 100, 60}} {
		require.ErrorContains(t, growth([]usage{steady, steady, u, u}), what)
	}
}

// A fault that needs root and is left out is an error, except with -short.
func TestFaultsThatAreLeftOut(t *testing.T) {
	t.Parallel()
	needsRoot := []fault{{name: "three", root: true}}
	r := runner{dir: t.TempDir()}
	require.ErrorContains(t, r.play(t.Context(), needsRoot), "three: left out")
	r = runner{config: config{short: true}, dir: t.TempDir()}
	require.NoError(t, r.play(t.Context(), needsRoot))
	r = runner{config: config{policyd: "/nonexistent"}, dir: t.TempDir()}
	require.ErrorContains(t, r.play(t.Context(), []fault{{name: "four"}}), "four: did not hold")
}

func TestEveryFaultIsInTheTable(t *testing.T) {
	t.Parallel()
	var names []string
	for _, f := range faults() {
		names = append(names, f.name)
		require.NotEmpty(t, f.holds, f.name)
		require.NotEmpty(t, f.steps, f.name)
	}
	text := strings.Join(names, "\n")
	for _, words := range []string{
		"dead", "2 s", "30 s", "garbage", "lies about AD", "changes its mind", "restarts", "resolv.conf", "full",
		"read-only", "vanishes", "kill -9",
		"10,000", "half requests", "malformed", "pipelined", "reconnects", "SIGTERM", "SIGHUP", "passed listener",
		"descriptors", "memory limit", "100,000", "soak",
	} {
		require.Contains(t, text, words)
	}
	require.Len(t, choose(faults(), regexp.MustCompile("^disk")), 4)
}

// Faults that run concurrently have different addresses.
func TestLoopback(t *testing.T) {
	t.Parallel()
	seen := map[netip.Addr]bool{}
	for i := range faults() {
		s := scene{number: i}
		for range 10 {
			at := s.loopback()
			require.True(t, at.IsLoopback())
			require.NotContains(t, seen, at)
			seen[at] = true
		}
	}
}
