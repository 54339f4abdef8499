package flare

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestGroups(t *testing.T) {
	mux := NewMux()
	api := mux.Group("/api/", tag("api"))
	api.Get("", named("prefix"))
	api.Get("/{$}", named("root"))
	api.Handle(" /with space", named("space"))
	api.Handle("POST \t /blanks", named("blanks"))
	api.Handle("POST /x", named("x"), tag("own"))
	users := api.Group("/users/{id}", tag("users"))
	users.Put("/name", named("name"))
	users.Patch("", named("user"))
	admin := mux.Group("admin.example/", tag("admin"))
	admin.Delete("/x", named("x"))
	admin.Group("/y").Post("/z", named("z"))
	bare := mux.Group("", tag("bare"))
	bare.Get("h/host", named("host"))
	api.Mount("/m", named("mounted"), tag("own"))

	tests := []struct{ method, host, path, want string }{
		{"GET", "", "/api/with%20space", "api(space for  /api/with space)"},
		{"POST", "", "/api/blanks", "api(blanks for POST \t /api/blanks)"},
		{"GET", "", "/api", "api(prefix for GET /api)"},
		{"GET", "", "/api/", "api(root for GET /api/{$})"},
		{"POST", "", "/api/x", "api(own(x for POST /api/x))"},
		{"PUT", "", "/api/users/7/name", "api(users(name for PUT /api/users/{id}/name))"},
		{"PATCH", "", "/api/users/7", "api(users(user for PATCH /api/users/{id}))"},
		{"DELETE", "admin.example", "/x", "admin(x for DELETE admin.example/x)"},
		{"POST", "admin.example:1", "/y/z", "admin(z for POST admin.example/y/z)"},
		{"DELETE", "", "/x", "flare: status 404"},
		{"GET", "h", "/host", "bare(host for GET h/host)"},
		{"GET", "", "/api/m", "api(own(mounted for /api/m))"},
		{"BREW", "", "/api/m/n/o", "api(own(mounted for /api/m/))"},
	}
	for _, tt := range tests {
		err := mux.Serve(newUserResponse(), newMuxRequest(tt.method, tt.host, tt.path))
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s %s%s: %v, want %s", tt.method, tt.host, tt.path, err, tt.want)
		}
	}
}

// Two groups of one group must not share the room behind its middleware.
func TestGroupsDoNotShareMiddleware(t *testing.T) {
	mux := NewMux()
	base := mux.Group("", tag("1"), tag("2"), tag("3")).Group("", tag("4"), tag("5"))
	a, b := base.Group("/a", tag("a")), base.Group("/b", tag("b"))
	a.Get("", named("a"))
	b.Get("", named("b"))
	if got, want := muxAnswerOf(mux, "GET", "/a"), "1(2(3(4(5(a(a for GET /a))))))"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := muxAnswerOf(mux, "GET", "/b"), "1(2(3(4(5(b(b for GET /b))))))"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// mountedMuxes returns a mux in a mux in a mux.
func mountedMuxes(outerUse, mountMiddleware, innerUse []Middleware) *Mux {
	values := func(_ *ResponseWriter, r *Request) error {
		return fmt.Errorf("%s t=%s id=%s x=%s r=%s", r.lease.x.r.match.pattern(),
			pathValue(r, "tenant"), pathValue(r, "id"), pathValue(r, "x"), pathValue(r, "r"))
	}
	deep := NewMux()
	deep.Get("/{$}", values)
	deep.Get("/{x}/{r...}", values)
	inner := NewMux()
	inner.Use(innerUse...)
	inner.Get("/{$}", values)
	inner.Get("/users/{id}", values)
	inner.Get("/tree/", values)
	inner.Get("/shadow/{tenant}", values)
	inner.Mount("/deep/{id}", deep)
	mux := NewMux()
	mux.Use(outerUse...)
	mux.Handle("/", HandlerFunc(values))
	mux.Get("/api/{tenant}/special/{x}", values)
	mux.Mount("/api/{tenant}", inner, mountMiddleware...)
	mux.Mount("only.example/", inner)
	mux.Mount("/log", HandlerFunc(inner.Serve))
	return mux
}

func TestMountedMuxes(t *testing.T) {
	passed := 0
	pass := []Middleware{func(h Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			passed++
			return h.Serve(w, r)
		})
	}}
	tests := []struct {
		host, path, want, location string
		pattern                    string // as Route says
	}{
		{"h", "/x", "/ t= id= x= r=", "", "/"},
		{"h", "/api/t1/users/7", "GET /api/{tenant}/users/{id} t=t1 id=7 x= r=", "", "GET /api/{tenant}/users/{id}"},
		{"h", "/api/t%20/users/%2F", "GET /api/{tenant}/users/{id} t=t  id=/ x= r=", "", "GET /api/{tenant}/users/{id}"},
		{"h", "/api/t1", "GET /api/{tenant}/{$} t=t1 id= x= r=", "", "GET /api/{tenant}/{$}"},
		{"h", "/api/t1/", "GET /api/{tenant}/{$} t=t1 id= x= r=", "", "GET /api/{tenant}/{$}"},
		{"h", "/api/t1/shadow/t2", "GET /api/{tenant}/shadow/{tenant} t=t2 id= x= r=", "", "GET /api/{tenant}/shadow/{tenant}"},
		{"h", "/api/t1/special/s", "GET /api/{tenant}/special/{x} t=t1 id= x=s r=", "", "GET /api/{tenant}/special/{x}"},
		{"h", "/api/t1/tree", "", "/api/t1/tree/", "GET /api/{tenant}/tree/"},
		{"h", "/api//t1/tree", "", "/api/t1/tree", "/api/{tenant}/"},
		{"h", "/api/t1/deep/7/a/b/c", "GET /api/{tenant}/deep/{id}/{x}/{r...} t=t1 id=7 x=a r=b/c", "", "GET /api/{tenant}/deep/{id}/{x}/{r...}"},
		{"h", "/api/t1/deep/7", "GET /api/{tenant}/deep/{id}/{$} t=t1 id=7 x= r=", "", "GET /api/{tenant}/deep/{id}/{$}"},
		{"h", "/api/t1/deep/7/a", "", "/api/t1/deep/7/a/", "GET /api/{tenant}/deep/{id}/{x}/{r...}"},
		{"h", "/api/t1/none", "flare: status 404", "", ""},
		{"only.example", "/users/8", "GET only.example/users/{id} t= id=8 x= r=", "", "GET only.example/users/{id}"},
		{"only.example", "/none", "flare: status 404", "", ""},
		// Wrapped beforehand it works, but Route does not see into it.
		{"h", "/log/users/7", "GET /log/users/{id} t= id=7 x= r=", "", "/log/"},
	}
	for name, mux := range map[string]*Mux{
		"bare":             mountedMuxes(nil, nil, nil),
		"outer middleware": mountedMuxes(pass, nil, nil),
		"mount middleware": mountedMuxes(nil, pass, nil),
		"inner middleware": mountedMuxes(nil, nil, pass),
		"all":              mountedMuxes(pass, pass, pass),
	} {
		for _, tt := range tests {
			served := 0 // how often middleware was called
			for _, how := range []string{"Serve", "Route", "predicted", "twice"} {
				r := newMuxRequest("GET", tt.host, tt.path)
				var h Handler = mux
				switch how {
				case "Route":
					var pattern string
					if h, pattern = mux.Route(r); pattern != tt.pattern {
						t.Errorf("%s: %s: Route says %q, want %q", name, tt.path, pattern, tt.pattern)
					}
				case "predicted":
					h, _ = mux.predicted(behindRequest(r))
				case "twice": // the engine asks, then the mux is called anyway
					mux.predicted(behindRequest(r))
				}
				passed = 0
				got := serveMux(h, r)
				if how == "Serve" {
					served = passed
				} else if passed != served {
					t.Errorf("%s: %s by %s: %d calls of middleware, want %d", name, tt.path, how, passed, served)
				}
				if text := fmt.Sprint(got.err); got.location != tt.location || tt.location == "" && text != tt.want {
					t.Errorf("%s: %s by %s: %s %q, want %s %q", name, tt.path, how, text, got.location, tt.want, tt.location)
				}
			}
		}
	}
}

// A handler may ask one mux, and then another.
func TestOneMuxAfterAnother(t *testing.T) {
	first := mountedMuxes(nil, nil, nil)
	second := NewMux()
	second.Get("/api/{x}/none", named("second"))
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if err := first.Serve(w, r); err.Error() != "flare: status 404" {
			return err
		}
		return second.Serve(w, r)
	})
	if got, want := muxAnswerOf(h, "GET", "/api/t1/none"), "second for GET /api/{x}/none"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A mux that is handled, not mounted, sees the path as its outer mux does.
func TestMuxAsHandler(t *testing.T) {
	inner := NewMux()
	inner.Get("/api/{x}", named("inner"))
	for _, mw := range [][]Middleware{nil, {tag("mw")}} {
		mux := NewMux()
		mux.Handle("/api/{y}", inner, mw...)
		r := newMuxRequest("GET", "h", "/api/1")
		h, pattern := mux.Route(r)
		if pattern != "GET /api/{x}" {
			t.Errorf("Route says %q", pattern)
		}
		want := "inner for GET /api/{x}"
		if mw != nil {
			want = "mw(" + want + ")"
			if pathValue(r, "y") != "1" {
				t.Error("the middleware has lost the outer match")
			}
		}
		if got := h.Serve(nil, r).Error(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// What is mounted is searched once for a request: a route that appears between
// the search and the call is for later ones. Whoever asks other muxes in
// between does not disturb it.
func TestMountedSearchedOnce(t *testing.T) {
	value := func(name string) HandlerFunc {
		return func(w *ResponseWriter, r *Request) error {
			return w.Text(200, name+" "+r.PathValue("x")+" "+r.PathValue("tenant")+" "+r.Pattern())
		}
	}
	other := NewMux()
	other.Get("/api/{y}/{z}", value("other"))
	for name, between := range map[string]func(mux, inner *Mux, r *Request){
		"nothing":       func(_, _ *Mux, _ *Request) {},
		"another mux":   func(_, _ *Mux, r *Request) { other.Route(r) },
		"the outer mux": func(mux, _ *Mux, r *Request) { mux.Route(r) },
		"the inner mux": func(_, inner *Mux, r *Request) { inner.Route(r) },
	} {
		t.Run(name, func(t *testing.T) {
			mux, inner := NewMux(), NewMux()
			inner.Get("/{x}", value("old"))
			step := func(h Handler) Handler {
				return HandlerFunc(func(w *ResponseWriter, r *Request) error {
					between(mux, inner, r)
					return h.Serve(w, r)
				})
			}
			mux.Mount("/api/{tenant}", inner, step)
			url := TestServer(t, &Server{Handler: mux})
			c := dialRaw(t, strings.TrimPrefix(url, "http://"))
			for range 2 {
				c.get("/api/a/b").want(t, 200, "old b a GET /api/{tenant}/{x}")
			}
		})
	}
	mux, inner := NewMux(), NewMux()
	inner.Get("/{x}", value("old"))
	appears := sync.OnceFunc(func() { inner.Get("/b", value("new")) })
	mux.Mount("/api/{tenant}", inner, func(h Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			appears()
			return h.Serve(w, r)
		})
	})
	c := dialRaw(t, strings.TrimPrefix(TestServer(t, &Server{Handler: mux}), "http://"))
	c.get("/api/a/b").want(t, 200, "old b a GET /api/{tenant}/{x}")
	c.get("/api/a/b").want(t, 200, "new  a GET /api/{tenant}/b")
}
