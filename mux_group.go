package flare

import (
	"errors"
	"fmt"
	"strings"
)

// This file is layer 5 (surface): registering routes, alone, in groups below a
// prefix, and mounted. It knows prefixes and middleware; mux.go keeps the
// entries made here.

// A Group registers routes in its Mux below a common prefix and behind common
// middleware. Groups cost nothing when a request is routed. All methods may be
// called as those of Mux.
type Group struct {
	mux    *Mux
	host   string
	prefix string // a path without a slash at its end, or ""
	mw     []Middleware
}

// Group returns a group within g: its prefix comes behind that of g, its
// middleware inside that of g.
func (g *Group) Group(prefix string, mw ...Middleware) *Group {
	host, rest := g.below(prefix)
	return &Group{mux: g.mux, host: host, prefix: rest, mw: g.around(mw)}
}

// Handle registers h for a pattern "[METHOD ][HOST]/[PATH]", whose path comes
// behind the prefix of g. In a group that has a prefix the path may be empty,
// which is the prefix itself. It panics as Mux.Handle does.
func (g *Group) Handle(pattern string, h Handler, mw ...Middleware) {
	g.add("", pattern, h, mw)
}

// Get registers h for GET and HEAD requests.
func (g *Group) Get(path string, h HandlerFunc, mw ...Middleware) { g.add("GET", path, h, mw) }

// Post registers h for POST requests.
func (g *Group) Post(path string, h HandlerFunc, mw ...Middleware) { g.add("POST", path, h, mw) }

// Put registers h for PUT requests.
func (g *Group) Put(path string, h HandlerFunc, mw ...Middleware) { g.add("PUT", path, h, mw) }

// Patch registers h for PATCH requests.
func (g *Group) Patch(path string, h HandlerFunc, mw ...Middleware) { g.add("PATCH", path, h, mw) }

// Delete registers h for DELETE requests.
func (g *Group) Delete(path string, h HandlerFunc, mw ...Middleware) { g.add("DELETE", path, h, mw) }

// Mount hands h everything at prefix and below it, as Mux.Mount does.
func (g *Group) Mount(prefix string, h Handler, mw ...Middleware) {
	host, rest := g.below(prefix)
	g.mustServe(prefix, h)
	e := g.entry(host+rest+"/", &mountHandler{h, g.mux}, mw)
	e.mounted = true
	e.inner, _ = h.(*Mux)
	g.mux.register(e)
	if rest != "" {
		exact := *e
		exact.pattern = mustParse(host + rest)
		g.mux.register(&exact)
	}
}

// add registers one pattern. method is that of Get and its like, "" when the
// pattern says it.
func (g *Group) add(method, pattern string, h Handler, mw []Middleware) {
	g.mustServe(pattern, h)
	lead, rest := "", pattern // what comes before the host, blanks included
	if method != "" {
		lead = method + " "
	} else if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		rest = strings.TrimLeft(pattern[i:], " \t")
		lead = pattern[:len(pattern)-len(rest)]
	}
	if g.host != "" || g.prefix != "" {
		if rest != "" && rest[0] != '/' {
			panicPattern(pattern, errors.New("path in a group does not start with a slash"))
		}
		rest = g.host + g.prefix + rest
	}
	e := g.entry(lead+rest, h, mw)
	e.inner, _ = h.(*Mux)
	g.mux.register(e)
}

// entry makes the entry of a pattern that has its prefix.
func (g *Group) entry(pattern string, h Handler, mw []Middleware) *routeEntry {
	e := &routeEntry{pattern: mustParse(pattern), where: registrationSite()}
	all := g.around(mw)
	e.bare = len(all) == 0
	e.handler, e.pin = wrapPinned(h, all)
	return e
}

// around returns the middleware of g with mw inside, in a slice of its own.
func (g *Group) around(mw []Middleware) []Middleware {
	return append(g.mw[:len(g.mw):len(g.mw)], mw...)
}

// below splits the prefix of a group or mount within g into host and path,
// the latter without a slash at its end.
func (g *Group) below(prefix string) (host, rest string) {
	host, rest = g.host, prefix
	if i := strings.IndexByte(prefix, '/'); i > 0 && g.host == "" && g.prefix == "" {
		host, rest = prefix[:i], prefix[i:]
	}
	if rest != "" && rest[0] != '/' {
		panicPattern(prefix, errors.New("prefix does not start with a slash"))
	}
	rest = g.prefix + strings.TrimSuffix(rest, "/")
	if strings.ContainsAny(prefix, " \t") {
		panicPattern(prefix, errors.New("prefix holds a method or a space"))
	}
	mustParse(host + rest + "/")
	return host, rest
}

// mustServe panics for a handler that cannot work.
func (g *Group) mustServe(pattern string, h Handler) {
	nothing := h == nil
	switch h := h.(type) {
	case HandlerFunc:
		nothing = h == nil
	case *Mux:
		nothing = h == nil
		if h == g.mux {
			panicPattern(pattern, errors.New("the mux is its own handler"))
		}
	}
	if nothing {
		panicPattern(pattern, errors.New("the handler is nil"))
	}
}

func mustParse(pattern string) *routePattern {
	p, err := parsePattern(pattern)
	if err != nil {
		panicPattern(pattern, err)
	}
	return p
}

func panicPattern(pattern string, err error) {
	panic(fmt.Errorf("flare: pattern %q: %w", pattern, err))
}

// mountHandler calls what is mounted so that a mux in there starts behind the
// prefix.
type mountHandler struct {
	h   Handler
	mux *Mux // where it is mounted
}

func (m *mountHandler) Serve(w *ResponseWriter, r *Request) error {
	x := r.lease.enter()
	if x == nil {
		return errRequestDone
	}
	match, refusal := x.r.routeMatch(), Handler(nil)
	if match.by != m.mux {
		m.mux.find(m.mux.routes(), &x.r) // middleware passed another request, or asked another mux
		if !match.matched() {
			refusal = m.mux.refusal(&x.r)
		}
	}
	var f matchFrame
	if refusal == nil {
		f = match.enter()
	}
	r.lease.exit()
	if refusal != nil {
		return refusal.Serve(w, r)
	}
	err := m.h.Serve(w, r)
	if x := r.lease.enter(); x != nil {
		match.leave(f)
		r.lease.exit()
	}
	return err
}

func (m *mountHandler) pinned() pin { return pinOf(m.h) }
