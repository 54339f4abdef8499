package flare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
)

const someTrace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// What W3C Trace Context §3.2 takes for a traceparent, and nothing else.
func TestParseTraceParent(t *testing.T) {
	for s, want := range map[string]bool{
		someTrace: true,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00":      true,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff":      true,
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":      true,
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what": true,
		"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what": false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what": false,
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":      false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":      false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01":      false,
		"00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":      false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01":      false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0":       false,
		"0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":       false,
		"00.0af7651916cd43dd8448eb211c80319c.b7ad6b7169203331.01":      false,
		"": false,
	} {
		got, ok := ParseTraceParent(s)
		if ok != want || ok != got.IsValid() {
			t.Errorf("%q: %v %v", s, got, ok)
		}
		if ok && (got.String()[3:52] != s[3:52] || len(got.String()) != 55) {
			t.Errorf("%q becomes %q", s, got)
		}
	}
}

// FuzzTraceParent: what is read is written so that it is read again.
func FuzzTraceParent(f *testing.F) {
	f.Add(someTrace)
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := ParseTraceParent(s)
		if again, same := ParseTraceParent(got.String()); same != ok || ok && again != got {
			t.Errorf("%q: %v, again %v", s, got, again)
		}
	})
}

// A trace goes from a request to the calls of its handler and to the lines in logs,
// and begins where nobody has begun one.
func TestTracePropagation(t *testing.T) {
	var inner, access logBook
	callee := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.Text(200, r.Header().Get("traceparent")+"|"+strings.Join(r.Header().Values("tracestate"), "+"))
	})}
	calleeURL := TestServer(t, callee)
	client := &Client{BaseURL: calleeURL, Wrap: []func(Doer) Doer{TraceCalls(nil)}}
	defer client.CloseIdleConnections()
	mux := NewMux()
	mux.Use(Trace(nil))
	mux.Get("/call", func(w *ResponseWriter, r *Request) error {
		span, ok := TraceFrom(r.Context())
		if !ok {
			return errors.New("no trace")
		}
		resp, err := client.Get(r.Context(), "/")
		if err != nil {
			return err
		}
		text, err := resp.Text()
		return errors.Join(err, w.Text(200, span.String()+"|"+text))
	})
	mux.Get("/fails", func(w *ResponseWriter, r *Request) error { return errors.New("x") })
	log := &AccessLog{Output: &access}
	s := &Server{Handler: mux, Logger: inner.logger(), AccessHook: log.Log}
	http1 := TestClient(t, s)
	for _, row := range []struct{ fields, state string }{
		{"traceparent: " + someTrace + "\ntracestate: a=1\ntracestate: b=2", "a=1,b=2"},
		{"traceparent: " + someTrace, ""},
		{"traceparent: " + someTrace + "\ntracestate: " + strings.Repeat("x", 513), ""},
		{"tracestate: a=1", ""},
		{"traceparent: 00-nonsense", ""},
		{"traceparent: " + someTrace + "\ntraceparent: " + someTrace, ""},
	} {
		req, _ := http.NewRequest("GET", "http://h/call", nil)
		for line := range strings.SplitSeq(row.fields, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			req.Header.Add(name, value)
		}
		resp, err := http1.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		parts := strings.Split(string(body), "|")
		if len(parts) != 3 {
			t.Fatalf("%s", body)
		}
		own, ok1 := ParseTraceParent(parts[0])
		called, ok2 := ParseTraceParent(parts[1])
		given, known := ParseTraceParent(strings.TrimPrefix(strings.SplitN(row.fields, "\n", 2)[0], "traceparent: "))
		if strings.Count(row.fields, "traceparent") > 1 {
			known = false
		}
		if !ok1 || !ok2 || own.TraceID != called.TraceID || own.SpanID == called.SpanID || parts[2] != row.state {
			t.Errorf("%q: %s", row.fields, body)
		}
		if known && (own.TraceID != given.TraceID || own.SpanID == given.SpanID || own.Flags != given.Flags) || !known && own.TraceID == given.TraceID {
			t.Errorf("%q: the span is %v", row.fields, own)
		}
		id := parts[0][3:35]
		if !strings.Contains(access.String(), `"trace_id":"`+id+`"`) {
			t.Errorf("no trace_id %s in %s", id, access.String())
		}
	}
	req, _ := http.NewRequest("GET", "http://h/fails", nil)
	req.Header.Set("traceparent", someTrace)
	if _, err := http1.Do(req); err != nil || !strings.Contains(inner.String(), "trace_id="+someTrace[3:35]) {
		t.Errorf("%v; the log: %s", err, inner.String())
	}
	// Outside of a trace a call has none.
	resp, err := client.Get(context.Background(), "/")
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := resp.Text(); text != "|" {
		t.Errorf("a call of nobody's has %q", text)
	}
}

// A noteTracer notes what it is asked to record.
type noteTracer struct {
	mu    sync.Mutex
	notes []string // guarded by mu
}

func (n *noteTracer) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notes = append(n.notes, fmt.Sprintf(format, args...))
}

type noteKey struct{}

func (n *noteTracer) StartServer(ctx context.Context, r *Request, parent TraceContext) (context.Context, TraceContext) {
	return context.WithValue(ctx, noteKey{}, r.Path()), parent.child()
}

func (n *noteTracer) StartClient(ctx context.Context, r *ClientRequest, parent TraceContext) (context.Context, TraceContext) {
	return context.WithValue(ctx, noteKey{}, fmt.Sprint(ctx.Value(noteKey{}), " calls ", r.URL)), parent.child()
}

func (n *noteTracer) End(ctx context.Context, status int, err error) {
	n.note("%v %d %v", ctx.Value(noteKey{}), status, err != nil)
}

// A Tracer is told of each span's beginning and end, whatever ends it.
func TestTracer(t *testing.T) {
	tracer := new(noteTracer)
	callee := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(202, r.Header().Get("traceparent")) })})
	client := &Client{BaseURL: callee, Wrap: []func(Doer) Doer{TraceCalls(tracer)}}
	defer client.CloseIdleConnections()
	mux := endings()
	mux.Use(Trace(tracer))
	mux.Get("/call", func(w *ResponseWriter, r *Request) error {
		resp, err := client.Get(r.Context(), "/x")
		if err != nil {
			return err
		}
		text, err := resp.Text()
		span, _ := TraceFrom(r.Context())
		if called, ok := ParseTraceParent(text); !ok || called.TraceID != span.TraceID {
			t.Errorf("the call has %q", text)
		}
		_, failed := client.Get(r.Context(), "http://127.0.0.1:1/")
		if failed == nil {
			t.Error("a call to nowhere succeeds")
		}
		return errors.Join(err, w.Text(200, ""))
	})
	s := &Server{Handler: mux, Logger: quietLogger()}
	addr := startServer(t, s)
	for _, row := range []struct{ path, want string }{
		{"/text/you", "/text/you 200 false"},
		{"/status", "/status 418 true"},
		{"/panic", "/panic 0 true"},
		{"/goexit", "/goexit 0 true"},
		{"/abort", "/abort 0 true"},
		{"/cut", "/cut 200 true"},
		{"/nowhere", "/nowhere 404 true"},
		{"/call", "/call calls /x 202 false, /call calls http://127.0.0.1:1/ 0 true, /call 200 false"},
	} {
		c := dialRaw(t, addr)
		c.send("GET ", row.path, " HTTP/1.1\r\nHost: h\r\n\r\n")
		readAnswer(c.br, "GET") // or a part of one, or none
		var got string
		eventually(t, row.path+", got "+got, func() bool {
			tracer.mu.Lock()
			defer tracer.mu.Unlock()
			got = strings.Join(tracer.notes, ", ")
			return strings.Count(got, ",") == strings.Count(row.want, ",") && got != ""
		})
		if got != row.want {
			t.Errorf("got %q, want %q", got, row.want)
		}
		tracer.notes = nil
		c.Close()
	}
	runtime.KeepAlive(s)
}

// A probe is told of a shutdown from its beginning on, and of checks that fail.
func TestHealthHandler(t *testing.T) {
	var broken error
	mux := NewMux()
	s := &Server{Handler: mux, DrainDelay: patience, Logger: quietLogger()}
	mux.Handle("GET /healthz", HealthHandler(nil))
	mux.Handle("GET /readyz", HealthHandler(s, func(context.Context) error { return nil }, func(context.Context) error { return broken }))
	addr := startServer(t, s)
	ready, health, later, last := dialRaw(t, addr), dialRaw(t, addr), dialRaw(t, addr), dialRaw(t, addr)
	for _, c := range []*rawClient{later, last} { // so that they are accepted
		c.get("/healthz").want(t, 200, "ok\n")
	}
	ready.get("/readyz").want(t, 200, "ok\n")
	health.get("/healthz").want(t, 200, "ok\n")
	broken = errors.New("secret")
	ready.get("/readyz").want(t, 503, "not ready\n")
	health.get("/healthz").want(t, 200, "ok\n")
	broken = nil
	ready.get("/readyz").want(t, 200, "ok\n")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	eventually(t, "the shutdown", s.draining.Load)
	later.get("/readyz").want(t, 503, "draining\n")
	last.get("/healthz").want(t, 200, "ok\n")
	cancel()
	<-done
}
