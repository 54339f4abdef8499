package flare

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// This file is layer 5 (surface): the Mux, which hands a request to the
// handler whose pattern matches it. It knows requests, handlers, middleware
// and registration; the syntax is in mux_pattern.go, the patterns
// in mux_tree.go, the search in mux_find.go, its result in mux_match.go, groups and mounts in mux_group.go.
// Users call it, and the server asks predicted where to run a request.

// A Mux routes requests to handlers by method, host and path. Its patterns
// are those of net/http.ServeMux:
//
//	/hello               that path, any method but CONNECT and TRACE
//	GET /hello/{name}    GET and HEAD; r.PathValue("name")
//	/files/{path...}     everything below /files/
//	/static/             the same without a name
//	/{$}                 only "/"
//	example.com/         only on that host
//
// The most specific pattern wins; registering two that match the same
// requests, neither more specific, panics. So does a malformed pattern. A
// path with "//", "." or ".." is redirected (307) to the clean one, and
// "/static" to "/static/" unless it has a pattern of its own. Segments are
// matched and their values unescaped one by one: "%2F" is no separator.
//
// What no pattern takes is answered by returning a *StatusError: 404, or 405
// after setting Allow when the path has other methods. HEAD is served by GET's
// handler. OPTIONS is not answered by itself, save "OPTIONS *" (200, empty).
//
// It differs from ServeMux in this: CONNECT and TRACE reach only patterns that
// name them and are else answered 405, and a pattern without a method does
// not conflict with those; hosts are compared without case, IPv6 literals
// without brackets; redirects keep the escapes of the path; "%2F" alone is a
// segment like any other; a pattern whose path is not clean is refused; the
// empty path is "/".
//
// The zero value is an empty Mux. All methods may be called at any time from
// any goroutine: routes registered while serving are seen by the requests that
// are routed after the call returned. Matching takes no lock and no memory.
type Mux struct {
	table atomic.Pointer[routeTable] // nil until the first request

	// mu guards registration.
	mu      sync.Mutex
	entries []*routeEntry
	index   map[string]*hostTree // of the entries by host, to find conflicts
	use     []Middleware
	chain   Handler // muxDispatch in use
	usePin  pin     // of the outermost middleware in use that has one
	missed  *route  // the predictor's record of redirects and refusals
}

// NewMux returns an empty Mux.
func NewMux() *Mux { return &Mux{} }

// Handle registers h for a pattern. mw wraps h, the first being the
// outermost. It panics when the pattern is malformed or conflicts with one
// that is registered, and when h is nil.
func (m *Mux) Handle(pattern string, h Handler, mw ...Middleware) {
	m.root().Handle(pattern, h, mw...)
}

// Get registers h for GET and HEAD requests. path may start with a host.
func (m *Mux) Get(path string, h HandlerFunc, mw ...Middleware) { m.root().Get(path, h, mw...) }

// Post registers h for POST requests.
func (m *Mux) Post(path string, h HandlerFunc, mw ...Middleware) { m.root().Post(path, h, mw...) }

// Put registers h for PUT requests.
func (m *Mux) Put(path string, h HandlerFunc, mw ...Middleware) { m.root().Put(path, h, mw...) }

// Patch registers h for PATCH requests.
func (m *Mux) Patch(path string, h HandlerFunc, mw ...Middleware) { m.root().Patch(path, h, mw...) }

// Delete registers h for DELETE requests.
func (m *Mux) Delete(path string, h HandlerFunc, mw ...Middleware) { m.root().Delete(path, h, mw...) }

// Group returns a group of routes below prefix, which share mw. prefix is a
// path, which may have wildcards and start with a host, or "".
func (m *Mux) Group(prefix string, mw ...Middleware) *Group { return m.root().Group(prefix, mw...) }

// Mount hands h everything at prefix and below it, all methods but CONNECT and
// TRACE. prefix is as for Group. A Mux that is mounted matches its patterns
// against what follows the prefix, and so does one that h calls in the end;
// Request.Pattern then names both, and wildcards of the prefix have values
// there too. Nothing else changes: Request.Path is the whole path for every
// handler. Give middleware as mw rather than around a Mux: Route and the
// predictor see into a Mux, and not into what is wrapped around it.
func (m *Mux) Mount(prefix string, h Handler, mw ...Middleware) { m.root().Mount(prefix, h, mw...) }

func (m *Mux) root() *Group { return &Group{mux: m} }

// Use adds middleware around the whole mux: routes registered before and
// after, redirects, 404 and 405. The first one added is the outermost. Routing
// comes first: middleware finds Request.Pattern set and cannot change the
// choice. Call it before the first request: a later call makes the chain anew,
// calling every middleware again, and starts the predictor's records over.
func (m *Mux) Use(mw ...Middleware) {
	m.mu.Lock()
	defer m.mu.Unlock()
	use := append(m.use[:len(m.use):len(m.use)], mw...)
	m.chain, m.usePin = wrapPinned(&muxDispatch{m}, use)
	m.use = use
	m.missed = pinnedRoute(m.usePin)
	entries := make([]*routeEntry, len(m.entries))
	for i, e := range m.entries { // tables in use keep theirs
		c := *e
		c.route = pinnedRoute(m.effectivePin(e))
		entries[i] = &c
	}
	m.entries = entries
	m.publish()
}

// effectivePin is the pin of the outermost stage, those of Use included.
func (m *Mux) effectivePin(e *routeEntry) pin {
	if m.usePin != 0 {
		return m.usePin
	}
	return e.pin
}

func pinnedRoute(p pin) *route {
	rt := newRoute()
	rt.pin = p
	return rt
}

// wrapPinned wraps h in mw and returns the pin of the outermost stage that has
// one, h included: what wraps a handler answers for it.
func wrapPinned(h Handler, mw []Middleware) (Handler, pin) {
	p := pinOf(h)
	for i := len(mw) - 1; i >= 0; i-- {
		if h = mw[i](h); h == nil {
			panic(errors.New("flare: middleware returned a nil Handler"))
		}
		if outer := pinOf(h); outer != 0 {
			p = outer
		}
	}
	return h, p
}

// register adds an entry whose pattern has been parsed.
func (m *Mux) register(e *routeEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	tree := m.index[e.pattern.host]
	if tree == nil {
		tree = &hostTree{}
	}
	tree.root.meet(e.pattern.segments, func(t *methodTable) { t.mustNotConflict(e) })
	tree.insert(e)
	if m.index == nil {
		m.index = make(map[string]*hostTree)
	}
	m.index[e.pattern.host] = tree
	e.route = pinnedRoute(m.effectivePin(e))
	m.entries = append(m.entries, e)
	m.publish()
}

// mustNotConflict panics when e conflicts with a pattern of the table.
func (t *methodTable) mustNotConflict(e *routeEntry) {
	if t == nil {
		return
	}
	for _, old := range t.all {
		if why := e.pattern.conflictWith(old.pattern); why != "" {
			panic(fmt.Errorf("flare: pattern %q (registered at %s) conflicts with pattern %q (registered at %s): %s",
				e.pattern.text, e.where, old.pattern.text, old.where, why))
		}
	}
}

// publish replaces the table that is in use; before the first request there
// is none, so that registering many routes stays cheap.
func (m *Mux) publish() {
	if m.table.Load() != nil {
		m.table.Store(m.build())
	}
}

func (m *Mux) build() *routeTable {
	t := buildTable(m.entries)
	if m.chain == nil {
		m.chain, m.missed = &muxDispatch{m}, newRoute()
	}
	t.chain, t.plain, t.missed = m.chain, len(m.use) == 0, m.missed
	return t
}

// routes returns the current table.
func (m *Mux) routes() *routeTable {
	if t := m.table.Load(); t != nil {
		return t
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.table.Load() == nil {
		m.table.Store(m.build())
	}
	return m.table.Load()
}

// registrationSite returns the file and line outside of the Mux that is
// registering a route.
func registrationSite() string {
	pkg := reflect.TypeFor[Mux]().PkgPath() + "." // a fork may be called otherwise
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for {
		f, more := frames.Next()
		method, here := strings.CutPrefix(f.Function, pkg)
		if !here || !strings.HasPrefix(method, "(*Mux).") && !strings.HasPrefix(method, "(*Group).") {
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		if !more {
			return "unknown"
		}
	}
}

// find routes r in t, as far as this mux goes.
func (m *Mux) find(t *routeTable, r *serverRequest) {
	host := ""
	if t.hosts != nil {
		host = r.hostView()
	}
	match := r.routeMatch()
	match.by, match.ahead.by = m, nil // the values of what was found ahead are overwritten
	t.find(match, r.methodView(), host, r.pathView())
}

// handler returns what serves r once find has routed it.
func (t *routeTable) handler(r *serverRequest) Handler {
	if match := r.routeMatch(); t.plain && match.kind == matchFound {
		return match.entry.handler
	}
	return t.chain
}

// Serve routes r and calls the handler.
func (m *Mux) Serve(w *ResponseWriter, r *Request) error {
	x := r.lease.enter()
	if x == nil {
		return errRequestDone
	}
	h := m.route(&x.r)
	r.lease.exit()
	return h.Serve(w, r)
}

// route returns what serves r.
func (m *Mux) route(r *serverRequest) Handler {
	t := m.routes()
	if match := r.routeMatch(); match.ahead.by == m && match.ahead.depth == match.level {
		match.routeFound, match.ahead.by = match.ahead, nil // a request's method, host and path do not change
	} else {
		m.find(t, r)
	}
	return t.handler(r)
}

// Route returns the handler for r, with its middleware, and the pattern that
// matched: of a mounted mux the inner one, behind the prefix. For a redirect
// it is the pattern that will match then; it is "" when there is none. The
// handler is good for r only.
func (m *Mux) Route(r *Request) (h Handler, pattern string) {
	x := r.lease.use()
	if x == nil {
		return notFound, ""
	}
	defer r.lease.exit()
	h, _, pattern = m.resolve(&x.r, true)
	return h, pattern
}

// predicted is Route for the engine: instead of the pattern it returns the
// predictor's record, and allocates nothing.
func (m *Mux) predicted(r *serverRequest) (Handler, *route) {
	h, rt, _ := m.resolve(r, false)
	return h, rt
}

func (m *Mux) resolve(r *serverRequest, named bool) (h Handler, rt *route, pattern string) {
	t := m.routes()
	m.find(t, r)
	h, rt = t.handler(r), t.missed
	if match := r.routeMatch(); match.kind == matchFound {
		if rt = match.entry.route; match.entry.inner != nil {
			return m.resolveInner(t, r, named)
		}
	}
	if named {
		pattern = r.match.pattern()
	}
	return h, rt, pattern
}

// resolveInner asks the mux that r was routed to. What is called in the end is
// this mux's handler, which needs this mux's match, so that is put back.
func (m *Mux) resolveInner(t *routeTable, r *serverRequest, named bool) (h Handler, rt *route, pattern string) {
	match := r.routeMatch()
	outer := match.routeFound
	e := outer.entry
	if e.mounted {
		f := match.enter()
		_, rt, pattern = e.inner.resolve(r, named)
		match.ahead = match.routeFound
		match.leave(f)
		match.routeFound = outer
	} else {
		h, rt, pattern = e.inner.resolve(r, named)
		if t.plain && e.bare {
			return h, rt, pattern // there is nothing around it
		}
		m.find(t, r) // the inner one wrote over the values
	}
	if e.route.pin != 0 { // whatever is around the inner one has the say
		rt = e.route
	}
	return t.handler(r), rt, pattern
}

// muxDispatch is the innermost handler of a mux's middleware.
type muxDispatch struct{ mux *Mux }

func (d *muxDispatch) Serve(w *ResponseWriter, r *Request) error {
	x := r.lease.enter()
	if x == nil {
		return errRequestDone
	}
	h := d.mux.chosen(&x.r)
	r.lease.exit()
	return h.Serve(w, r)
}

// chosen returns what serves r behind the mux's middleware: a handler, a redirect
// or a refusal.
func (m *Mux) chosen(r *serverRequest) Handler {
	match := r.routeMatch()
	if match.by != m {
		m.find(m.routes(), r) // middleware passed another request, or asked another mux
	}
	switch match.kind {
	case matchFound:
		return match.entry.handler
	case matchClean, matchSlash:
		return muxRedirect(redirectTarget(r))
	case matchServer:
		return muxServer{}
	}
	return m.refusal(r)
}

// A muxRedirect sends the client to where a pattern matches.
type muxRedirect string

func (to muxRedirect) Serve(w *ResponseWriter, _ *Request) error {
	return w.Redirect(http.StatusTemporaryRedirect, string(to))
}

// muxServer answers for the server, not a resource: 200 and empty (RFC 9110 §9.3.7).
type muxServer struct{}

func (muxServer) Serve(*ResponseWriter, *Request) error { return nil }

// refusal returns what answers a request that no pattern takes.
func (m *Mux) refusal(r *serverRequest) Handler {
	method := r.methodView()
	allow := m.routes().allow(r.routeMatch(), method, r.hostView(), r.pathView())
	if len(allow) == 0 && !explicitOnly(method) {
		return notFound
	}
	return muxRefusal(strings.Join(allow, ", "))
}

// A muxRefusal refuses a method where it, the Allow field, has those that there
// are (RFC 9110 §15.5.6); empty is "none".
type muxRefusal string

func (allow muxRefusal) Serve(w *ResponseWriter, _ *Request) error {
	w.Header().Set("Allow", string(allow))
	return &StatusError{Code: http.StatusMethodNotAllowed}
}

// redirectTarget returns the Location for a path that was not clean or lacks
// its slash.
func redirectTarget(r *serverRequest) string {
	match := r.routeMatch()
	path, base := r.pathView(), match.base
	target := path[:base] + cleanRoutePath(path[base:])
	if match.kind == matchSlash {
		target += "/"
	}
	target = escapeForLocation(target)
	if q, _ := r.queryView(); q != "" {
		target += "?" + q
	}
	return target
}

// escapeForLocation escapes what a path must not hold (RFC 3986 §3.3) but some
// clients send: quotes, braces and the like. Escapes stay as they are.
func escapeForLocation(path string) string {
	return escapeOctets(path, func(c byte) bool {
		return c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>[\\]^`{|}", c) >= 0
	})
}
