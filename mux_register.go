package flare

// This file is layer 5 (surface): how routes come into a Mux, by its own methods
// and by its groups'.

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
