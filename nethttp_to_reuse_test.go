package flare

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A nullWriter is an http.ResponseWriter with deadlines, as net/http's has, that
// allocates nothing itself.
type nullWriter struct {
	header http.Header
	status int
	body   int
}

func (w *nullWriter) Header() http.Header              { return w.header }
func (w *nullWriter) WriteHeader(status int)           { w.status = status }
func (w *nullWriter) Write(p []byte) (int, error)      { w.body += len(p); return len(p), nil }
func (w *nullWriter) SetReadDeadline(time.Time) error  { return nil }
func (w *nullWriter) SetWriteDeadline(time.Time) error { return nil }

// What a request costs that net/http's server has received, beside what it costs
// there.
func TestToHTTPAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("nothing is reused")
	}
	const allocsMax, bytesMax = 9, 700
	mux := NewMux()
	mux.Get("/users/{id}", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Cache-Control", "no-store")
		return w.Text(200, "Hello, "+r.PathValue("id"))
	})
	h := ToHTTP(mux)
	r := httptest.NewRequest("GET", "/users/42?a=b", nil)
	for name, value := range map[string]string{
		"Accept": "*/*", "User-Agent": "test", "Accept-Encoding": "gzip, br", "Cookie": "a=b; c=d", "Referer": "http://example.com/",
	} {
		r.Header.Set(name, value)
	}
	w := &nullWriter{header: make(http.Header)}
	serve := func() {
		clear(w.header)
		w.status, w.body = 0, 0
		h.ServeHTTP(w, r)
	}
	serve()
	if w.status != 200 || w.body != len("Hello, 42") {
		t.Fatalf("status %d, %d octets", w.status, w.body)
	}
	const runs = 2000
	allocs := testing.AllocsPerRun(runs, serve)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		serve()
	}
	runtime.ReadMemStats(&after)
	bytes := float64(after.TotalAlloc-before.TotalAlloc) / runs
	t.Logf("%v allocations, %.0f bytes", allocs, bytes)
	if allocs > allocsMax || bytes > bytesMax {
		t.Errorf("%v allocations, %.0f bytes; at most %d and %d", allocs, bytes, allocsMax, bytesMax)
	}
}

// What a carried request was has no part in the next one, which is given the same
// objects.
func TestToHTTPReuse(t *testing.T) {
	type key struct{}
	describe := func(w *ResponseWriter, r *Request) error {
		body, err := r.Bytes()
		return w.Text(200, fmt.Sprintf("%s %s %q %q %q %v %d %d %q %v %v %d %q %v", r.Method(), r.Target(), r.Pattern(), r.PathValue("id"), r.Proto(),
			r.Value(key{}), r.Header().Len(), r.ContentLength(), body, err, r.Context().Err(), r.Trailer().Len(), r.Host(), r.RemoteAddr()))
	}
	var dirty HandlerFunc
	s := &Server{Logger: quietLogger(), MaxBodyBytes: 100, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/dirty" {
			return dirty(w, r)
		}
		return describe(w, r)
	})}
	answer := func(r *http.Request) (text string, aborted bool) {
		w := httptest.NewRecorder()
		defer func() {
			if p := recover(); p == http.ErrAbortHandler {
				aborted = true
			} else if p != nil {
				panic(p)
			}
		}()
		s.ServeHTTP(w, r)
		return fmt.Sprintf("%d %v %v %s", w.Code, w.Header(), w.Result().Trailer, w.Body), false
	}
	plain := func() string {
		text, aborted := answer(httptest.NewRequest("GET", "/plain?a=b", nil))
		if aborted {
			t.Error("a plain request was cut off")
		}
		return text
	}
	want := plain()
	if !strings.HasPrefix(want, "200 ") || !strings.Contains(want, "GET /plain?a=b") {
		t.Fatalf("answered %q", want)
	}
	post := func(body string) *http.Request { return httptest.NewRequest("POST", "/dirty", strings.NewReader(body)) }
	for _, test := range []struct {
		name    string
		request *http.Request
		h       HandlerFunc
		cut     bool
	}{
		{"body", post("hello"), describe, false},
		{"body unread", post("hello"), textHandler("x").Serve, false},
		{"body too large", post(strings.Repeat("x", 101)), describe, false},
		{"body of unknown length, too large", func() *http.Request {
			return httptest.NewRequest("POST", "/dirty", io.MultiReader(strings.NewReader(strings.Repeat("x", 101))))
		}(), describe, false},
		{"body fails", httptest.NewRequest("POST", "/dirty", io.MultiReader(failingReader{})), describe, false},
		{"trailers", func() *http.Request {
			r := httptest.NewRequest("POST", "/dirty", io.MultiReader(strings.NewReader("x")))
			r.Trailer = http.Header{"X-T": {"1"}}
			return r
		}(), func(w *ResponseWriter, r *Request) error {
			w.Trailer().Set("X-Sum", "1")
			return describe(w, r)
		}, false},
		{"refused", func() *http.Request { r := post(""); r.Header["X Y"] = []string{"z"}; return r }(), nil, false},
		{"HTTP/1.0", func() *http.Request { r := post("x"); r.Proto, r.ProtoMinor = "HTTP/1.0", 0; return r }(), describe, false},
		{"HEAD, in pieces", httptest.NewRequest("HEAD", "/dirty", nil), func(w *ResponseWriter, r *Request) error { w.Flush(); return describe(w, r) }, false},
		{"value and context", post("x"), func(w *ResponseWriter, r *Request) error {
			r.SetValue(key{}, 1)
			r.Context()
			w.SetReadDeadline(time.Now().Add(-time.Hour))
			return describe(w, r)
		}, false},
		{"pattern", func() *http.Request {
			r := post("")
			r.Pattern = "/{id}"
			r.SetPathValue("id", "dirty")
			return r
		}(), describe, false},
		{"hook", post(""), func(w *ResponseWriter, r *Request) error {
			w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser { h.Set("X-Hook", "1"); return next })
			return describe(w, r)
		}, false},
		{"error", post("x"), func(w *ResponseWriter, r *Request) error {
			w.Header().Set("X-Kept", "1")
			return &StatusError{Code: 418}
		}, false},
		{"panic", post("x"), func(w *ResponseWriter, r *Request) error { panic("on purpose") }, false},
		{"aborted", post("x"), func(w *ResponseWriter, r *Request) error { return http.ErrAbortHandler }, true},
		{"late error", post("x"), func(w *ResponseWriter, r *Request) error {
			w.WriteString("half")
			w.Flush()
			return errors.New("on purpose")
		}, true},
		{"short", post("x"), func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "9")
			return w.Text(200, "half")
		}, true},
		{"Connection: close", post("x"), func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Connection", "close")
			return describe(w, r)
		}, false},
		{"no Hijack", post("x"), func(w *ResponseWriter, r *Request) error {
			_, _, err := w.Hijack()
			return err
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dirty = test.h
			for range 3 { // a pool keeps what it is given most of the time
				r := test.request.Clone(test.request.Context())
				if _, cut := answer(r); cut != test.cut {
					t.Errorf("cut off: %v, want %v", cut, test.cut)
				}
				if got := plain(); got != want {
					t.Errorf("then answered %q, want %q", got, want)
				}
			}
		})
	}
}

// A failingReader is a reader that fails.
type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("on purpose") }
