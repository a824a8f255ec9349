package admin

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/policyd/policyd/internal/policy"
)

// with returns a request with a body.
func with(body []byte) *http.Request {
	return httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
}

func TestDecodeFlush(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]FlushRequest{
		`{"domain":"example.com"}`:                  {Domain: "example.com"},
		`{"domain":"EXAMPLE.com."}`:                 {Domain: "example.com"},
		`{"domain":"münchen.example"}`:              {Domain: "xn--mnchen-3ya.example"},
		`{"domain":"_25._tcp.mx.example"}` + "\n":   {Domain: "_25._tcp.mx.example"},
		`{"all":true}`:                              {All: true},
		`{"domain":"example.com","sts":true}`:       {Domain: "example.com", STS: true},
		` { "all" : true , "sts" : true , "x":1 } `: {},
		`{"domain":"example.com","all":true}`:       {},
		`{"all":true,"sts":true}`:                   {},
		`{"domain":"user@example.com"}`:             {},
		`{"domain":"[192.0.2.1]"}`:                  {},
		`{"domain":"exa mple.com"}`:                 {},
		`{"domain":7}`:                              {},
		`{"all":true}{"all":true}`:                  {},
		`{"all":true}]`:                             {},
		`{"all":false}`:                             {},
		`{}`:                                        {},
		`[]`:                                        {},
		`null`:                                      {},
		``:                                          {},
		strings.Repeat(`[`, 4000):                   {},
	} {
		got, err := decode[FlushRequest](with([]byte(body)))
		if want == (FlushRequest{}) {
			require.Error(t, err, body)
			continue
		}
		require.NoError(t, err, body)
		require.Equal(t, want, got, body)
	}
}

func TestDecodeLevel(t *testing.T) {
	t.Parallel()
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		l, err := decode[Level](with([]byte(`{"level":"` + LevelOf(level).Level + `"}`)))
		require.NoError(t, err)
		require.Equal(t, LevelOf(level), l)
	}
	for _, body := range []string{`{"level":"loud"}`, `{"level":""}`, `{"level":null}`, `{"lvl":"info"}`, `"info"`, ``} {
		_, err := decode[Level](with([]byte(body)))
		require.Error(t, err, body)
	}
}

func TestDecodeQueries(t *testing.T) {
	t.Parallel()
	method := http.MethodGet
	query := func(s string) *http.Request { return &http.Request{Method: method, URL: &url.URL{RawQuery: s}} }
	for text, want := range map[string]Filter{
		"":                      {Limit: 1000},
		"match=Example&limit=5": {Match: "Example", Limit: 5},
		"match=*.[a-z]*":        {Match: "*.[a-z]*", Limit: 1000},
		"match=%5C":             {Match: `\`, Limit: 1000}, // it is no pattern
		"match=[":               {}, "match=*.x[]": {}, "match=*%5C": {},
		"limit=100000": {Limit: MaxList},
		"limit=100001": {}, "limit=0": {}, "limit=": {}, "limit=-1": {}, "limit=five": {}, "limit=1&limit=2": {}, "max=5": {},
		"match=" + strings.Repeat("a", 256): {},
	} {
		got, err := decode[Filter](query(text))
		if want.Limit == 0 {
			require.Error(t, err, text)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	_, err := decode[Filter](query("limit=five"))
	require.EqualError(t, err, `wrong parameter in "limit=five": see docs/admin-api.md`)
	next, err := decode[Nexthop](query("nexthop=[mx.example]:26"))
	require.NoError(t, err)
	require.Equal(t, "[mx.example]:26", next.Nexthop)
	_, err = decode[Filter](query("match=["))
	require.EqualError(t, err, `match "[" is not a valid pattern: write one such as "*.example.com" or "mx[0-9].*"`)
	method = http.MethodHead
	next, err = decode[Nexthop](query("nexthop=[mx.example]:26"))
	require.NoError(t, err, "the parameters of a HEAD request are those of a GET request")
	require.Equal(t, "[mx.example]:26", next.Nexthop)
	_, err = decode[struct{}](query("x=1"))
	require.Error(t, err)
	for _, text := range []string{"", "nexthop=", "nexthop=a&nexthop=b", "nexthop=a&x=", "nexthop=" + strings.Repeat("a", 1025)} {
		_, err := decode[Nexthop](query(text))
		require.Error(t, err, text)
	}
}

// The result is a domain in its one form, or all, or a level of the log.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"domain":"example.com"}`, `{"all":true,"sts":true}`, `{"level":"debug"}`, `{"domain":"münchen.example."}`, `{`, `{"all":true}x`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := decode[FlushRequest](with(body)); err == nil {
			name, ok := policy.ParseName(r.Domain)
			require.True(t, r.All && r.Domain == "" || !r.All && ok && name == r.Domain, "%+v", r)
		}
		if l, err := decode[Level](with(body)); err == nil {
			var level slog.LevelVar
			require.NoError(t, level.UnmarshalText([]byte(l.Level)))
		}
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: string(body)}}
		if c, err := decode[Filter](r); err == nil {
			require.Positive(t, c.Limit)
			require.LessOrEqual(t, c.Limit, MaxList)
			require.LessOrEqual(t, len(c.Match), maxMatch)
		}
	})
}
