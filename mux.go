package flare

import (
	"errors"
	"fmt"
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
