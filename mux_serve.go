package flare

import (
	"net/http"
	"strings"
)

// This file is layer 5 (surface): how a Mux answers: it asks the tree for a route,
// calls the handler, and redirects or refuses where there is none.

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
