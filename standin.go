package flare

// This file stands in for the roles and engine layers while they are written
// elsewhere; it goes when they come.

type Handler interface {
	Serve(w *ResponseWriter, r *Request) error
}

type HandlerFunc func(w *ResponseWriter, r *Request) error

func (f HandlerFunc) Serve(w *ResponseWriter, r *Request) error { return f(w, r) }

type Middleware func(Handler) Handler

type Router interface {
	Handler
	Route(*Request) (h Handler, pattern string)
}

type Request struct {
	match                     routeMatch
	method, host, path, query string
	hasQuery                  bool
}

func (r *Request) methodView() string        { return r.method }
func (r *Request) hostView() string          { return r.host }
func (r *Request) pathView() string          { return r.path }
func (r *Request) queryView() (string, bool) { return r.query, r.hasQuery }

type Header struct{ fields map[string]string }

func (h *Header) Set(name, value string) {
	if h.fields == nil {
		h.fields = make(map[string]string)
	}
	h.fields[name] = value
}

type ResponseWriter struct {
	header Header
	status int
}

func (w *ResponseWriter) Header() *Header { return &w.header }

func (w *ResponseWriter) Redirect(code int, location string) error {
	w.status = code
	w.header.Set("Location", location)
	return nil
}

type pin uint8

type route struct{ pin pin }

func newRoute() *route { return &route{} }

func Chain(h Handler, mw ...Middleware) Handler {
	for i := len(mw) - 1; i >= 0; i-- {
		h = mw[i](h)
	}
	return h
}
