package flare

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// named returns a handler that answers with an error that says who ran and
// which pattern the request had.
func named(name string) HandlerFunc {
	return func(_ *ResponseWriter, r *Request) error {
		return errors.New(name + " for " + r.lease.x.r.match.pattern())
	}
}

// tag is middleware that puts its name before what the inner handler answers.
func tag(name string) Middleware {
	return func(h Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if err := h.Serve(w, r); err != nil {
				return fmt.Errorf("%s(%w)", name, err)
			}
			return errors.New(name + "()")
		})
	}
}

// answer serves a GET and returns the text of its error.
func muxAnswerOf(h Handler, method, target string) string {
	if err := h.Serve(newUserResponse(), newMuxRequest(method, "h", target)); err != nil {
		return err.Error()
	}
	return ""
}

func TestMuxRegistration(t *testing.T) {
	mux := new(Mux) // the zero value works
	mux.Get("/a", named("get"))
	mux.Post("/a", named("post"))
	mux.Put("/a", named("put"))
	mux.Patch("/a", named("patch"))
	mux.Delete("/a", named("delete"))
	mux.Get("h/b", named("host"))
	mux.Handle("OPTIONS /a", named("options"))
	mux.Handle("/c", named("any"), tag("outer"), tag("inner"))
	tests := []struct{ method, path, want string }{
		{"GET", "/a", "get for GET /a"},
		{"HEAD", "/a", "get for GET /a"},
		{"POST", "/a", "post for POST /a"},
		{"PUT", "/a", "put for PUT /a"},
		{"PATCH", "/a", "patch for PATCH /a"},
		{"DELETE", "/a", "delete for DELETE /a"},
		{"OPTIONS", "/a", "options for OPTIONS /a"},
		{"GET", "/b", "host for GET h/b"},
		{"BREW", "/c", "outer(inner(any for /c))"},
		{"TRACE", "/c", "flare: status 405"},
		{"GET", "/d", "flare: status 404"},
	}
	for _, tt := range tests {
		if got := muxAnswerOf(mux, tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

func TestMuxRefusesRegistration(t *testing.T) {
	h := named("h")
	tests := []struct {
		name     string
		register func(*Mux)
		message  []string
	}{
		{"malformed", func(m *Mux) { m.Handle("GET /{x", h) }, []string{`"GET /{x"`, "whole segment"}},
		{"two methods", func(m *Mux) { m.Get("GET /x", h) }, []string{`"GET GET /x"`, "host"}},
		{"no path", func(m *Mux) { m.Get("", h) }, []string{"no slash"}},
		{"conflict", func(m *Mux) { m.Get("/a/{x}", h); m.Get("/{y}/b", h) },
			[]string{`"GET /a/{x}"`, `"GET /{y}/b"`, `like "/a/b"`, "mux_test.go:"}},
		{"twice", func(m *Mux) { m.Get("/a", h); m.Handle("GET /a", h) }, []string{`"GET /a"`, "same requests"}},
		{"conflict with a group", func(m *Mux) { m.Group("/a").Get("/{x}", h); m.Get("/a/{y}", h) }, []string{`"GET /a/{x}"`, `"GET /a/{y}"`}},
		{"conflict with a mount", func(m *Mux) { m.Mount("/a", h); m.Handle("/a/{r...}", h) }, []string{`"/a/"`, `"/a/{r...}"`}},
		{"nil", func(m *Mux) { m.Handle("/", nil) }, []string{"nil"}},
		{"nil func", func(m *Mux) { m.Get("/", nil) }, []string{"nil"}},
		{"nil mux", func(m *Mux) { m.Mount("/", (*Mux)(nil)) }, []string{"nil"}},
		{"nil from middleware", func(m *Mux) { m.Get("/", h, func(Handler) Handler { return nil }) }, []string{"nil"}},
		{"itself", func(m *Mux) { m.Mount("/a", m) }, []string{"its own handler"}},
		{"group without slash", func(m *Mux) { m.Group("a") }, []string{`"a"`, "slash"}},
		{"group with a method", func(m *Mux) { m.Group("GET /a") }, []string{"method"}},
		{"group after a rest", func(m *Mux) { m.Group("/a/{r...}") }, []string{"not at the end"}},
		{"group of an unclean path", func(m *Mux) { m.Group("/a/../b") }, []string{"not clean"}},
		{"host in a group", func(m *Mux) { m.Group("/a").Get("h/b", h) }, []string{"start with a slash"}},
		{"group in a group without slash", func(m *Mux) { m.Group("/a").Group("b") }, []string{"start with a slash"}},
		{"mount with a method", func(m *Mux) { m.Mount("GET /a", h) }, []string{"method"}},
		{"names twice", func(m *Mux) { m.Group("/{x}").Get("/{x}", h) }, []string{"twice"}},
	}
	for _, tt := range tests {
		mux := NewMux()
		v := panics(func() { tt.register(mux) })
		err, ok := v.(error)
		if !ok {
			t.Errorf("%s: panicked with %v, want an error", tt.name, v)
			continue
		}
		for _, part := range append(tt.message, "flare: ") {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", tt.name, err, part)
			}
		}
		// What was refused left no lock and nothing half done behind.
		mux.Get("/after/all", h)
		if got := muxAnswerOf(mux, "GET", "/after/all"); !strings.HasPrefix(got, "h for ") {
			t.Errorf("%s: afterwards %q", tt.name, got)
		}
	}
}

func TestConflictNamesBothPlaces(t *testing.T) {
	mux := NewMux()
	_, file, line, _ := runtime.Caller(0)
	mux.Get("/a", named("a"))
	v := panics(func() { mux.Group("/a").Get("", named("b")) })
	for _, n := range []int{1, 2} {
		if place := fmt.Sprintf("%s:%d", filepath.Base(file), line+n); !strings.Contains(fmt.Sprint(v), place) {
			t.Errorf("%v does not name %s", v, place)
		}
	}
}

func TestMuxRefusals(t *testing.T) {
	mux := NewMux()
	mux.Get("/get", named("get"))
	mux.Post("/get", named("post"))
	mux.Handle("/any", named("any"))
	mux.Get("/tree/", named("tree"))
	mux.Get("/{$}", named("root"))
	tests := []struct {
		method, target string
		want           muxAnswer
	}{
		{"PUT", "/get", muxAnswer{status: 405, allow: "GET, HEAD, POST", hasAllow: true}},
		{"OPTIONS", "/get", muxAnswer{status: 405, allow: "GET, HEAD, POST", hasAllow: true}},
		{"TRACE", "/get", muxAnswer{status: 405, allow: "GET, HEAD, POST", hasAllow: true}},
		{"TRACE", "/none", muxAnswer{status: 405, hasAllow: true}},
		{"CONNECT", "", muxAnswer{status: 405, hasAllow: true}},
		{"TRACE", "/any", muxAnswer{status: 405, allow: "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT", hasAllow: true}},
		{"POST", "/tree", muxAnswer{status: 405, allow: "GET, HEAD", hasAllow: true}},
		{"GET", "/none", muxAnswer{status: 404}},
		{"GET", "/get/", muxAnswer{status: 404}},
		{"GET", "/tree", muxAnswer{status: 307, location: "/tree/"}},
		{"HEAD", "/tree?a=b//&c", muxAnswer{status: 307, location: "/tree/?a=b//&c"}},
		{"GET", "/tree?", muxAnswer{status: 307, location: "/tree/"}},
		{"GET", "/a/..//get", muxAnswer{status: 307, location: "/get"}},
		{"GET", "//evil.example/", muxAnswer{status: 307, location: "/evil.example/"}},
		{"GET", "/..//evil.example", muxAnswer{status: 307, location: "/evil.example"}},
		{"GET", "//a%2Fb/%zz\"<>", muxAnswer{status: 307, location: "/a%2Fb/%zz%22%3C%3E"}},
		{"GET", "//tree", muxAnswer{status: 307, location: "/tree/"}},
		{"OPTIONS", "*", muxAnswer{}},
	}
	for _, tt := range tests {
		got := serveMux(mux, newMuxRequest(tt.method, "h", tt.target))
		var e *StatusError
		if is := errors.As(got.err, &e); is != (tt.want.status >= 400) {
			t.Errorf("%s %s: error %v", tt.method, tt.target, got.err)
		}
		got.err = nil
		if got != tt.want {
			t.Errorf("%s %s: %+v, want %+v", tt.method, tt.target, got, tt.want)
		}
	}
}

func TestUse(t *testing.T) {
	mux := NewMux()
	wrapped := 0
	mux.Get("/before", named("before"))
	mux.Use(func(h Handler) Handler { wrapped++; return tag("outer")(h) }, tag("inner"))
	mux.Get("/after", named("after"), tag("own"))
	mux.Get("/tree/", named("tree"))
	tests := []struct{ method, path, want string }{
		{"GET", "/before", "outer(inner(before for GET /before))"},
		{"GET", "/after", "outer(inner(own(after for GET /after)))"},
		{"GET", "/none", "outer(inner(flare: status 404))"},
		{"PUT", "/after", "outer(inner(flare: status 405))"},
		{"GET", "/tree", "outer(inner())"},
		{"OPTIONS", "*", "outer(inner())"},
	}
	for _, tt := range tests {
		if got := muxAnswerOf(mux, tt.method, tt.path); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.method, tt.path, got, tt.want)
		}
	}
	if wrapped != 1 {
		t.Errorf("the middleware was made %d times, want once for the mux", wrapped)
	}
	mux.Use(tag("late"))
	if got, want := muxAnswerOf(mux, "GET", "/before"), "outer(inner(late(before for GET /before)))"; got != want {
		t.Errorf("after a late Use: %s, want %s", got, want)
	}
}

// Middleware may pass on another request, or ask another mux first.
func TestMiddlewareBetweenRoutingAndDispatch(t *testing.T) {
	other := NewMux()
	other.Get("/other/{x}", named("other"))
	mux := NewMux()
	mux.Use(func(h Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if r.Path() == "/swap" {
				r = newMuxRequest("GET", "h", "/a/1")
			}
			if err := other.Serve(w, r); err.Error() != "flare: status 404" {
				return err
			}
			return h.Serve(w, r)
		})
	})
	mux.Get("/a/{x}", func(_ *ResponseWriter, r *Request) error {
		return errors.New("a " + pathValue(r, "x") + " for " + r.lease.x.r.match.pattern())
	})
	for path, want := range map[string]string{
		"/a/2":     "a 2 for GET /a/{x}",
		"/swap":    "a 1 for GET /a/{x}",
		"/other/3": "other for GET /other/{x}",
		"/none":    "flare: status 404",
	} {
		if got := muxAnswerOf(mux, "GET", path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

type pinnedFunc struct {
	HandlerFunc
	p pin
}

func (h pinnedFunc) pinned() pin { return h.p }

func pinTo(p pin) Middleware {
	return func(h Handler) Handler { return pinnedFunc{h.Serve, p} }
}

func TestPins(t *testing.T) {
	h := named("h")
	mux := NewMux()
	mux.Handle("/none", h)
	mux.Handle("/handler", pinnedFunc{h, 1})
	mux.Handle("/middleware", h, tag("a"), pinTo(2), tag("b"))
	mux.Handle("/outermost", pinnedFunc{h, 1}, tag("a"), pinTo(3), pinTo(2))
	mux.Group("/group", pinTo(2)).Handle("/x", pinnedFunc{h, 1}, tag("b"))
	mux.Mount("/mount", pinnedFunc{h, 1})
	inner := NewMux()
	inner.Handle("/x", h)
	inner.Handle("/y", pinnedFunc{h, 1})
	mux.Mount("/inner", inner)
	mux.Mount("/pinned", inner, pinTo(2))
	check := func(want map[string]pin) {
		t.Helper()
		for path, p := range want {
			if _, rt := mux.predicted(behindRequest(newMuxRequest("GET", "h", path))); rt.pin != p {
				t.Errorf("%s: pin %d, want %d", path, rt.pin, p)
			}
		}
	}
	check(map[string]pin{
		"/none": 0, "/handler": 1, "/middleware": 2, "/outermost": 3, "/group/x": 2, "/mount": 1, "/mount/x": 1,
		"/inner/x": 0, "/inner/y": 1, "/pinned/x": 2, "/pinned/y": 2, "/missing": 0,
	})
	mux.Use(pinTo(4))
	mux.Handle("/late", pinnedFunc{h, 1})
	check(map[string]pin{
		"/none": 4, "/handler": 4, "/middleware": 4, "/late": 4, "/mount/x": 4, "/inner/x": 4, "/inner/y": 4, "/missing": 4,
	})
}

// Each pattern has a record of its own, which lasts; a mounted mux keeps its
// own wherever it is mounted.
func TestPredictedRecords(t *testing.T) {
	mux := mountedMuxes(nil, nil, nil)
	record := func(path string) *route {
		_, rt := mux.predicted(behindRequest(newMuxRequest("GET", "h", path)))
		if rt == nil {
			t.Fatalf("%s: no record", path)
		}
		return rt
	}
	paths := []string{"/x", "/api/t/users/7", "/api/t/shadow/2", "/api/t/special/1", "/api/t/deep/1", "/api/t/deep/1/a/b", "/log/users/7", "//"}
	var seen []*route
	for _, path := range paths {
		rt := record(path)
		if slices.Contains(seen, rt) {
			t.Errorf("%s shares a record", path)
		}
		seen = append(seen, rt)
	}
	if record("/api/u/users/8") != seen[1] {
		t.Error("one pattern has two records")
	}
	mux.Get("/registered/later", named("later"))
	for i, path := range paths {
		if record(path) != seen[i] {
			t.Errorf("%s: the record is gone after a registration", path)
		}
	}
}

func TestMuxAllocations(t *testing.T) {
	nothing := HandlerFunc(func(*ResponseWriter, *Request) error { return nil })
	inner := NewMux()
	inner.Use(func(h Handler) Handler { return h })
	inner.Get("/users/{id}", nothing)
	inner.Mount("/deep", func() Handler { m := NewMux(); m.Get("/{x}", nothing); return m }())
	mux := NewMux()
	mux.Get("/plaintext", nothing)
	mux.Get("/users/{id}", nothing)
	mux.Get("/files/{path...}", nothing)
	mux.Mount("/mounted/{tenant}", inner)
	used := NewMux()
	used.Use(func(h Handler) Handler { return HandlerFunc(h.Serve) })
	used.Mount("/", mux)
	w := newUserResponse()
	for _, m := range []*Mux{mux, used} {
		for _, path := range []string{"/plaintext", "/users/7", "/users/%37", "/files/a/b/c", "/mounted/t/users/7", "/mounted/t/deep/8"} {
			r := newMuxRequest("GET", "h", path)
			if n := testing.AllocsPerRun(100, func() {
				behindRequest(r).routeMatch().reset()
				if h, rt := m.predicted(behindRequest(r)); h == nil || rt == nil {
					t.Fatal("nothing predicted")
				}
				if err := m.Serve(w, r); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations", path, n)
			}
		}
	}
}

// Requests that are routed after a registration returned see the route; those
// beside it see the old routes or the new.
func TestRegistrationWhileServing(t *testing.T) {
	const routes, readers = 100, 4
	mux := NewMux()
	mux.Get("/{any}", named("any"))
	path := func(i int) string { return fmt.Sprintf("/r%d", i) }
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range readers {
		wg.Go(func() {
			for i := g; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				p := path(i % routes)
				err := mux.Serve(nil, newMuxRequest("GET", "h", p))
				if want := "any for GET /{any}"; err.Error() != want && err.Error() != p+" for GET "+p {
					t.Errorf("%s: %v", p, err)
					return
				}
			}
		})
	}
	for i := range routes {
		mux.Get(path(i), named(path(i)))
		if i%10 == 0 {
			mux.Use(func(h Handler) Handler { return h })
		}
		if got, want := muxAnswerOf(mux, "GET", path(i)), path(i)+" for GET "+path(i); got != want {
			t.Errorf("%s right after its registration: %s", path(i), got)
		}
	}
	close(done)
	wg.Wait()
}

// The first request makes the table, whoever it is.
func TestFirstRequests(t *testing.T) {
	mux := NewMux()
	mux.Get("/a", named("a"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := muxAnswerOf(mux, "GET", "/a"); got != "a for GET /a" {
				t.Error(got)
			}
		})
	}
	wg.Wait()
}

func BenchmarkMuxServe(b *testing.B) {
	nothing := HandlerFunc(func(*ResponseWriter, *Request) error { return nil })
	plain, used, mounted := NewMux(), NewMux(), NewMux()
	used.Use(func(h Handler) Handler { return h })
	for _, m := range []*Mux{plain, used} {
		for _, p := range benchmarkPatterns {
			m.Handle(p, nothing)
		}
	}
	mounted.Mount("/", plain)
	for _, bm := range []struct {
		name string
		mux  *Mux
	}{{"Plain", plain}, {"Use", used}, {"Mounted", mounted}} {
		for _, p := range benchmarkProbes[:2] {
			b.Run(bm.name+"/"+p.name, func(b *testing.B) {
				b.ReportAllocs()
				r := newMuxRequest("GET", "localhost:8080", p.path)
				w := newUserResponse()
				for b.Loop() {
					behindRequest(r).routeMatch().reset()
					h, _ := bm.mux.predicted(behindRequest(r))
					if err := h.Serve(w, r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkMuxRegister1000(b *testing.B) {
	nothing := HandlerFunc(func(*ResponseWriter, *Request) error { return nil })
	for b.Loop() {
		mux := NewMux()
		for i := range 1000 {
			mux.Get(fmt.Sprintf("/api/r%d/{id}", i), nothing)
		}
		mux.routes()
	}
}
