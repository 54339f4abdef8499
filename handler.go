package flare

// This file is layer 4 (roles): what users implement. handler_request.go and
// handler_response.go have the two things that a handler is given.

// A Handler answers requests. It may block: flare takes the connection, or the
// event loop, off the goroutine that waits. Serve is called by one goroutine
// at a time for a connection, and by many for the handler.
//
// A *StatusError as result is answered with its status and message. Any other
// error, and a panic, is logged and answered with a bare 500. An error before
// the response is committed drops what was buffered, and the fields about it;
// after that the connection
// is aborted, so that the client cannot take a part for the whole. Returning
// or panicking with http.ErrAbortHandler ends the connection without an answer
// and without a word in the log.
//
// What w and r are and give ends when Serve has returned, in every goroutine: see
// Request. Serve's caller waits for goroutines that are in a call of theirs, after
// breaking off what they wait for.
type Handler interface {
	Serve(w *ResponseWriter, r *Request) error
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(w *ResponseWriter, r *Request) error

// Serve calls f.
func (f HandlerFunc) Serve(w *ResponseWriter, r *Request) error { return f(w, r) }

// A Middleware wraps a handler in another.
type Middleware func(Handler) Handler

// Chain returns h wrapped in mw, the first of them outermost.
func Chain(h Handler, mw ...Middleware) Handler {
	for i := len(mw) - 1; i >= 0; i-- {
		h = mw[i](h)
	}
	return h
}

// A Router is a Handler that can say beforehand which handler a request goes
// to. flare asks it before it decides where the call runs, and learns how long
// calls take by pattern. Mux is one. With a handler that is no Router it
// learns by method and first path segment.
type Router interface {
	Handler
	Route(r *Request) (h Handler, pattern string)
}

// predictedRouter is a Router that keeps the predictor's records itself.
type predictedRouter interface {
	predicted(r *serverRequest) (Handler, *route)
}

// A pinner is a handler that fixes the predictor's choice.
type pinner interface{ pinned() pin }

type pinnedHandler struct {
	Handler
	pin pin
}

func (p pinnedHandler) pinned() pin { return p.pin }

// Inline is a middleware that runs h on the event loop from the first call on,
// for handlers that are known not to wait. A call that does wait delays the
// other connections of its loop by two ticks (10 ms) at most.
func Inline(h Handler) Handler { return pinnedHandler{h, pinInline} }

// Offload is a middleware that runs each call of h on a goroutine of its own,
// for handlers that are known to wait.
func Offload(h Handler) Handler { return pinnedHandler{h, pinOffload} }

// pinOf returns h's pin.
func pinOf(h Handler) pin {
	if p, ok := h.(pinner); ok {
		return p.pinned()
	}
	return pinNone
}

// A gatedHandler asks admit before its handler, and keeps its pin.
type gatedHandler struct {
	Handler
	admit func(w *ResponseWriter, r *Request) (ok bool, err error)
}

func (h gatedHandler) pinned() pin { return pinOf(h.Handler) }

func (h gatedHandler) Serve(w *ResponseWriter, r *Request) error {
	if ok, err := h.admit(w, r); !ok || err != nil {
		r.spareHandler()
		return err
	}
	return h.Handler.Serve(w, r)
}
