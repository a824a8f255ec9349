package admin

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

// hostile is what a terminal must never get: ESC, BEL, DEL, CSI as one character, and a change of direction.
const hostile = "a\x1b[2Jb\ac\x7fd\u009b2Je\u202ef"

// A program that answers at the socket in place of policyd cannot control the terminal, by any command.
func TestAnswersAreCleanedForTheTerminal(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	require.NoError(t, err)
	code := http.StatusOK
	bad, err := json.Marshal(hostile)
	require.NoError(t, err)
	body := `{"error":` + string(bad) + `,"version":` + string(bad) + `,"warnings":[` + string(bad) + `],"restart":[` + string(bad) + `],"level":` + string(bad) +
		`,"domain":` + string(bad) + `,"nexthop":` + string(bad) + `,"why":[` + string(bad) + `],"entries":[{"name":` + string(bad) + `,"type":` + string(bad) + `}],
		"lookups":{"replies":{` + string(bad) + `:{` + string(bad) + `:1}}},"settings":{"all":{"x":` + string(bad) + `}}}`
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	})}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()
	c := l.Addr().String()

	shown := func(v string, err error) {
		t.Helper()
		if err != nil {
			v += err.Error()
		}
		require.Contains(t, v, "a?[2Jb?c?d?2Je?f")
		for _, r := range v {
			require.True(t, r == '\n' || unicode.IsPrint(r), "%q", v)
		}
	}
	asJSON := func(v reflect.Value) string {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		require.NoError(t, e.Encode(v.Interface()))
		return b.String()
	}
	for _, code = range []int{http.StatusOK, http.StatusUnprocessableEntity} {
		ctx := t.Context()
		st, err := GetStatus.Ask(ctx, c, struct{}{})
		shown(asJSON(reflect.ValueOf(st)), err)
		list, err := ListCache.Ask(ctx, c, Filter{})
		shown(asJSON(reflect.ValueOf(list)), err)
		d, err := GetDomain.Ask(ctx, c, DomainRequest{"example.com"})
		shown(asJSON(reflect.ValueOf(d)), err)
		r, err := DoReload.Ask(ctx, c, struct{}{})
		shown(asJSON(reflect.ValueOf(r)), err)
		level, err := GetLevel.Ask(ctx, c, struct{}{})
		shown(level.Level, err)
		x, err := Explain.Ask(ctx, c, Nexthop{"example.com"})
		shown(asJSON(reflect.ValueOf(x)), err)
	}
}
