package flare

import (
	"net/http"
	"net/http/httptest"
	"runtime"
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
