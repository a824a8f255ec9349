package socketmap_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/socketmap"
)

func constantly(text string) socketmap.Handler {
	return socketmap.HandlerFunc(func(context.Context, socketmap.Request) socketmap.Reply { return socketmap.OK(text) })
}

func TestMux(t *testing.T) {
	t.Parallel()
	m := &socketmap.Mux{}
	ask := func(name string) string {
		return m.ServeSocketmap(t.Context(), socketmap.Request{Map: name}).String()
	}
	require.Equal(t, `PERM unknown map "a": use `, ask("a"))
	m.Handle("b", constantly("1"))
	m.Handle("a", constantly("2"))
	require.Equal(t, "OK 2", ask("a"))
	require.Equal(t, `PERM unknown map "A": use a, b`, ask("A"))
	m.Handle("a", constantly("3"))
	require.Equal(t, "OK 3", ask("a"))
	m.Handle("a", nil)
	require.Equal(t, []string{"b"}, m.Names())
	require.Equal(t, `PERM unknown map "a\x00": use b`, ask("a\x00"))
	require.Contains(t, ask(strings.Repeat("x", 9000)), `": use b`, "the list has room beside any name")
}

func TestMuxChangesWhileServing(t *testing.T) {
	t.Parallel()
	m := &socketmap.Mux{}
	m.Handle("a", constantly("yes"))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				if r := m.ServeSocketmap(context.Background(), socketmap.Request{Map: "a"}); r.Status != socketmap.StatusOK {
					t.Error(r)
				}
			}
		})
		all.Go(func() {
			for range 1000 {
				m.Handle("a", constantly("yes"))
				m.Handle("b", nil)
			}
		})
	}
	all.Wait()
}
