package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/policyd/policyd/cmd/policyd/internal/admin"
	"github.com/policyd/policyd/cmd/policyd/internal/httpd"
	"github.com/policyd/policyd/cmd/policyd/internal/status"
	"github.com/policyd/policyd/internal/dns"
	"github.com/policyd/policyd/internal/dnscache"
	"github.com/policyd/policyd/internal/explain"
	"github.com/policyd/policyd/internal/probe"
	"github.com/policyd/policyd/internal/unixsock"
	"github.com/policyd/policyd/socketmap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a daemon that answers each request with a description of it.
type fake struct {
	status          func() status.Status
	reload          func() (status.Reload, *admin.RefusedError)
	flush           func(admin.FlushRequest) admin.Flushed
	level           slog.LevelVar
	lookup, explain func(ctx context.Context, nexthop string) explain.Result
}

func newFake() *fake {
	explained := func(_ context.Context, nexthop string) explain.Result {
		return explain.Result{Policy: explain.Policy{Nexthop: nexthop}, MX: []explain.MXHost{}}
	}
	return &fake{
		status: func() status.Status { return status.Status{Version: "v1"} },
		reload: func() (status.Reload, *admin.RefusedError) {
			return status.Reload{OK: true, At: time.Unix(1, 0).UTC()}, nil
		},
		flush:  func(f admin.FlushRequest) admin.Flushed { return admin.Flushed{Cache: len(f.Domain)} },
		lookup: explained, explain: explained,
	}
}

// server serves the fake.
func (f *fake) server() *admin.Server {
	s := admin.NewServer(admin.MaxEvaluations, slog.New(slog.DiscardHandler))
	admin.Answer(s, admin.GetStatus, func(struct{}) status.Status { return f.status() })
	admin.Answer(s, admin.ListCache, func(q admin.Filter) admin.CacheList {
		return admin.CacheList{Entries: []dnscache.Entry{{Name: q.Match, Type: dns.TypeMX, Data: []string{"10 <mx>.example"}}}, More: q.Limit == 1}
	})
	admin.Answer(s, admin.GetDomain, func(q admin.DomainRequest) status.Domain {
		return status.Domain{Domain: q.Domain, Cache: []dnscache.Entry{}, Probes: []probe.Entry{}}
	})
	admin.Answer(s, admin.FlushCache, func(q admin.FlushRequest) admin.Flushed { return f.flush(q) })
	admin.Handle(s, admin.DoReload, func(context.Context, struct{}) (status.Reload, *admin.RefusedError) { return f.reload() })
	admin.Answer(s, admin.GetLevel, func(struct{}) admin.Level { return admin.LevelOf(&f.level) })
	admin.Answer(s, admin.SetLevel, func(q admin.Level) admin.Level {
		_ = f.level.UnmarshalText([]byte(q.Level)) // checked
		return q
	})
	admin.Evaluate(s, admin.Explain, func(ctx context.Context, q admin.Nexthop) explain.Result { return f.explain(ctx, q.Nexthop) })
	s.AddQuestions(f.lookup, f.explain)
	return s
}

// start serves f on a unix socket until the test ends, or stop is called.
func start(t *testing.T, f *fake) (path string, stop func()) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "admin.sock")
	l, err := unixsock.Listen(t.Context(), "unix:"+path, unixsock.Options{Mode: 0o660})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := httpd.Run(ctx, l, f.server(), httpd.ForOperator, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return path, stop
}

func TestClientAndServer(t *testing.T) {
	t.Parallel()
	d := newFake()
	path, _ := start(t, d)
	ctx := t.Context()
	mode, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, os.ModeSocket|0o660, mode.Mode())

	st, err := admin.GetStatus.Ask(ctx, path, struct{}{})
	require.NoError(t, err)
	require.Equal(t, "v1", st.Version)

	list, err := admin.ListCache.Ask(ctx, path, admin.Filter{Match: "A&b=c"})
	require.NoError(t, err)
	require.Equal(t, admin.CacheList{Entries: []dnscache.Entry{{Name: "A&b=c", Type: dns.TypeMX, Data: []string{"10 <mx>.example"}}}}, list)
	list, err = admin.ListCache.Ask(ctx, path, admin.Filter{Limit: 1})
	require.NoError(t, err)
	require.True(t, list.More)

	known, err := admin.GetDomain.Ask(ctx, path, admin.DomainRequest{Domain: "MÜNCHEN.example."})
	require.NoError(t, err)
	require.Equal(t, "xn--mnchen-3ya.example", known.Domain)
	_, err = admin.GetDomain.Ask(ctx, path, admin.DomainRequest{Domain: "secret@example.com"})
	require.ErrorContains(t, err, `"*@example.com" is not a domain: name one`, "no local part is shown")

	flushed, err := admin.FlushCache.Ask(ctx, path, admin.FlushRequest{Domain: "example.com"})
	require.NoError(t, err)
	require.Equal(t, 11, flushed.Cache)

	reload, err := admin.DoReload.Ask(ctx, path, struct{}{})
	require.NoError(t, err)
	require.True(t, reload.OK)

	level, err := admin.SetLevel.Ask(ctx, path, admin.Level{Level: "debug"})
	require.NoError(t, err)
	require.Equal(t, "debug", level.Level)
	require.Equal(t, slog.LevelDebug, d.level.Level())
	level, err = admin.GetLevel.Ask(ctx, path, struct{}{})
	require.NoError(t, err)
	require.Equal(t, "debug", level.Level)

	e, err := admin.Explain.Ask(ctx, path, admin.Nexthop{Nexthop: "[mx.example]:26"})
	require.NoError(t, err)
	require.Equal(t, "[mx.example]:26", e.Nexthop)
}

func TestARefusedReloadReportsTheReason(t *testing.T) {
	t.Parallel()
	d := newFake()
	d.reload = func() (status.Reload, *admin.RefusedError) {
		return status.Reload{}, &admin.RefusedError{Code: http.StatusUnprocessableEntity, Message: "line 1\n  | ^~~"}
	}
	path, _ := start(t, d)
	_, err := admin.DoReload.Ask(t.Context(), path, struct{}{})
	var refused *admin.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, admin.RefusedError{Code: http.StatusUnprocessableEntity, Message: "line 1\n  | ^~~"}, *refused)
}

func TestBadRequestsAreRefused(t *testing.T) {
	t.Parallel()
	h := newFake().server()
	for request, want := range map[string]int{
		"GET /":                              http.StatusNotFound,
		"GET /v2/status":                     http.StatusNotFound,
		"POST /v1/status":                    http.StatusMethodNotAllowed,
		"GET /v1/reload":                     http.StatusMethodNotAllowed,
		"PUT /v1/cache/flush":                http.StatusMethodNotAllowed,
		"POST /v1/log-level {}":              http.StatusMethodNotAllowed,
		"DELETE /v1/cache/example.com":       http.StatusMethodNotAllowed,
		"GET /v1/status?x=1":                 http.StatusBadRequest,
		"HEAD /v1/status?x=1":                http.StatusBadRequest,
		"HEAD /v1/reload":                    http.StatusMethodNotAllowed,
		"GET /v1/cache?limit=x":              http.StatusBadRequest,
		"GET /v1/cache/user@example.com":     http.StatusBadRequest,
		"GET /v1/cache/a%20b":                http.StatusBadRequest,
		"GET /v1/query":                      http.StatusBadRequest,
		"POST /v1/cache/flush":               http.StatusBadRequest,
		`POST /v1/cache/flush {"al":true}`:   http.StatusBadRequest,
		`PUT /v1/log-level {"level":"loud"}`: http.StatusBadRequest,
		`POST /v1/cache/flush {"domain":"` + strings.Repeat("a", 8000) + `"}`: http.StatusBadRequest,
	} {
		parts := strings.SplitN(request, " ", 3)
		body := ""
		if len(parts) == 3 {
			body = parts[2]
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(parts[0], parts[1], strings.NewReader(body)))
		require.Equal(t, want, w.Code, request)
		if want != http.StatusBadRequest {
			continue // of net/http
		}
		require.Equal(t, "application/json", w.Header().Get("Content-Type"), request)
		require.Contains(t, w.Body.String(), `{"error":"`, request)
	}
}

// "All general-purpose servers MUST support the methods GET and HEAD" (RFC 9110 section 9.1).
func TestHEADIsAnsweredAsGETIs(t *testing.T) {
	t.Parallel()
	h := newFake().server()
	for _, path := range []string{"/v1/status", "/v1/cache?limit=2", "/v1/cache/example.com", "/v1/query?nexthop=example.com", "/v1/policy?domain=example.com", "/v1/route?domain=example.com"} {
		get, head := httptest.NewRecorder(), httptest.NewRecorder()
		h.ServeHTTP(get, httptest.NewRequest(http.MethodGet, path, nil))
		h.ServeHTTP(head, httptest.NewRequest(http.MethodHead, path, nil))
		require.Equal(t, http.StatusOK, head.Code, path)
		require.Equal(t, get.Header(), head.Header(), path)
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	d := newFake()
	d.status = func() status.Status { panic("broken") }
	path, _ := start(t, d)
	_, err := admin.GetStatus.Ask(t.Context(), path, struct{}{})
	require.EqualError(t, err, "internal error")
}

func TestNoDaemonAnswers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := admin.GetStatus.Ask(t.Context(), filepath.Join(dir, "none"), struct{}{})
	require.ErrorContains(t, err, "no daemon answers at ")

	path, stop := start(t, newFake())
	stop()
	require.NoFileExists(t, path)
	_, err = admin.GetStatus.Ask(t.Context(), path, struct{}{})
	require.ErrorContains(t, err, "no daemon answers at ")

	dead, err := net.Listen("unix", filepath.Join(dir, "dead"))
	require.NoError(t, err)
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	_, err = admin.GetStatus.Ask(t.Context(), filepath.Join(dir, "dead"), struct{}{})
	require.ErrorContains(t, err, "no daemon answers at ", "a socket that is left over")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	_, err = admin.GetStatus.Ask(t.Context(), filepath.Join(dir, "file"), struct{}{})
	require.ErrorContains(t, err, "no daemon answers at ", "a file")
}

// For example the socketmap socket, or the socket of another program.
func TestAnotherProgramAnswers(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{
		"nothing":        "",
		"no HTTP":        "5:PERM ,",
		"no JSON":        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"half an answer": "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "sock")
			l, err := net.Listen("unix", path)
			require.NoError(t, err)
			served := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err == nil {
					_, _ = conn.Read(make([]byte, 4096))
					_, _ = io.WriteString(conn, says)
					err = conn.Close()
				}
				served <- err
			}()
			_, err = admin.GetStatus.Ask(t.Context(), path, struct{}{})
			require.ErrorContains(t, err, ": no answer: the daemon is stopping, or this is not its admin socket: ")
			require.NotContains(t, err.Error(), "http://", "the operator did not write the URL")
			require.NoError(t, l.Close())
			require.NoError(t, <-served)
		})
	}
}

func TestShutdownLetsARequestEnd(t *testing.T) {
	t.Parallel()
	d := newFake()
	begun, goOn := make(chan struct{}), make(chan struct{})
	d.reload = func() (status.Reload, *admin.RefusedError) {
		close(begun)
		<-goOn
		return status.Reload{OK: true}, nil
	}
	path, stop := start(t, d)
	answered := make(chan error, 1)
	go func() {
		_, err := admin.DoReload.Ask(context.Background(), path, struct{}{})
		answered <- err
	}()
	<-begun
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	require.Eventually(t, func() bool { _, err := os.Lstat(path); return err != nil }, 20*time.Second, 5*time.Millisecond)
	close(goOn)
	require.NoError(t, <-answered)
	<-stopped
}

func TestShutdownDoesNotWaitForever(t *testing.T) {
	t.Parallel()
	d := newFake()
	begun := make(chan struct{})
	d.explain = func(ctx context.Context, _ string) explain.Result {
		close(begun)
		<-ctx.Done()
		return explain.Result{}
	}
	path, stop := start(t, d)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		_, _ = admin.Explain.Ask(context.Background(), path, admin.Nexthop{Nexthop: "example.com"}) // an answer or an error
	}()
	<-begun
	stop()
	<-answered
}

func TestExplanationsAreBounded(t *testing.T) {
	t.Parallel()
	d := newFake()
	begun := make(chan struct{})
	d.explain = func(ctx context.Context, _ string) explain.Result {
		begun <- struct{}{}
		<-ctx.Done()
		return explain.Result{}
	}
	h := d.server()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	ask := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/query?nexthop=example.com", nil).WithContext(ctx))
		return w.Code
	}
	for range 8 {
		all.Go(func() { _ = ask() })
		<-begun
	}
	require.Equal(t, http.StatusServiceUnavailable, ask())
	cancel()
	all.Wait()
}

// An endpoint answers any request with one JSON object, and a method that only reads changes nothing.
func FuzzHandler(f *testing.F) {
	for _, seed := range []string{
		"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/cache?match=a&limit=7 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/cache/example.com HTTP/1.0\r\n\r\n",
		"POST /v1/cache/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n{\"all\":true}",
		"POST /v1/reload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"PUT /v1/log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n{\"level\":\"debug\"}",
		"GET /v1/query?nexthop=%5Bmx.example%5D%3A26 HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", "GET //v1/../v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil {
			return
		}
		changed := false
		d := newFake()
		d.flush = func(admin.FlushRequest) admin.Flushed { changed = true; return admin.Flushed{} }
		d.reload = func() (status.Reload, *admin.RefusedError) { changed = true; return status.Reload{}, nil }
		w := httptest.NewRecorder()
		d.server().ServeHTTP(w, r)
		changed = changed || d.level.Level() != slog.LevelInfo
		require.True(t, !changed || r.Method == http.MethodPost || r.Method == http.MethodPut, "%q", wire)
		require.Less(t, w.Code, http.StatusInternalServerError)
		if w.Header().Get("Content-Type") != "application/json" {
			require.GreaterOrEqual(t, w.Code, 300, "%q", wire) // net/http: the clean form of the path, or no endpoint
			return
		}
		var object map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &object), "%q", wire)
	})
}

func TestOtherMailServersAskForOneDomain(t *testing.T) {
	d := newFake()
	d.explain = func(_ context.Context, nexthop string) explain.Result {
		return explain.Result{
			Policy: explain.Policy{
				Nexthop: nexthop, DNSSEC: "secure", Source: "prefix", Why: []string{"a prefix"},
				TLSPolicy: socketmap.NotFound(), WouldTLSPolicy: socketmap.OK("dane-only"),
			},
			WhyTransport: []string{"no route"},
			Transport:    socketmap.Reply{Status: socketmap.StatusNotFound}, WouldTransport: socketmap.Reply{Status: socketmap.StatusOK, Text: "smtps26:" + nexthop + ":26"},
		}
	}
	d.lookup = func(ctx context.Context, nexthop string) explain.Result {
		require.NoError(t, ctx.Err())
		return d.explain(ctx, nexthop)
	}
	s := d.server()
	questions := admin.Questions(t.Context(), d.lookup, d.explain, slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		path string
		code int
		want string
	}{
		{"/v1/policy?domain=example.com", 200, `{"nexthop":"example.com","dnssec":"secure","tls_policy":{"status":"NOTFOUND","text":""},"would_tls_policy":{"status":"OK","text":"dane-only"},"source":"prefix","unsigned":false,"why":["a prefix"]}`},
		{"/v1/route?domain=example.com", 200, `{"nexthop":"example.com","transport":{"status":"NOTFOUND","text":""},"would_transport":{"status":"OK","text":"smtps26:example.com:26"},"why":["no route"]}`},
		{"/v1/policy", 400, `{"error":"domain must have 1 to 1024 bytes"}`},
		{"/v1/route?nexthop=example.com", 400, `{"error":"wrong parameter in \"nexthop=example.com\": see docs/admin-api.md"}`},
		{"/v1/policy?domain=a&domain=b", 400, `{"error":"domain is given twice"}`},
		{"/v1/route?domain=" + strings.Repeat("a", 2000), 400, `{"error":"domain must have 1 to 1024 bytes"}`},
	} {
		for _, h := range []http.Handler{s, questions} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))
			require.Equal(t, c.code, w.Code, c.path)
			require.Equal(t, c.want+"\n", w.Body.String(), c.path)
		}
	}
	halfClosed, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	questions.ServeHTTP(w, httptest.NewRequestWithContext(halfClosed, http.MethodGet, "/v1/policy?domain=a.example", nil))
	require.Equal(t, http.StatusOK, w.Code)
	for request, code := range map[string]int{
		"GET /v1/status": 404, "GET /v1/cache": 404, "GET /v1/cache/example.com": 404, "GET /v1/query?nexthop=example.com": 404,
		"GET /v1/report": 404, "GET /v1/promises": 404, "GET /v1/log-level": 404, "PUT /v1/log-level": 404, "POST /v1/reload": 404,
		"POST /v1/cache/flush": 404, "POST /v1/warm": 404, "GET /metrics": 404, "POST /v1/policy?domain=example.com": 405,
	} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		questions.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		require.Equal(t, code, w.Code, "the listener for mail servers shows and changes nothing else: %s", request)
		require.Equal(t, "close", w.Header().Get("Connection"), request)
	}
}

// Mail servers that are waiting when policyd stops get an answer, not a closed connection.
func TestQuestionsEndWithTheListener(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var ended error
	deliver := func(ctx context.Context, _ string) explain.Result {
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
		}
		ended = ctx.Err()
		return explain.Result{}
	}
	w := httptest.NewRecorder()
	questions := admin.Questions(ctx, deliver, nil, slog.New(slog.DiscardHandler))
	questions.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/policy?domain=example.com", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.ErrorIs(t, ended, context.Canceled)
}
