package flare

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// This file is layer 4 (roles): how a request finds its handler and the
// predictor's record, and what becomes of errors.

// routeKeyMax bounds the name by which a route of a plain Handler is learned.
const routeKeyMax = 64

// notFound answers for a server without a handler.
var notFound = HandlerFunc(func(w *ResponseWriter, r *Request) error {
	return &StatusError{Code: http.StatusNotFound}
})

// routeOf returns the handler of r and the predictor's record of its route.
func (s *Server) routeOf(r *serverRequest) (Handler, *route) {
	if s.router != nil {
		return s.router.predicted(r)
	}
	switch h := s.Handler.(type) {
	case nil:
		return notFound, s.routes.find("", pinInline)
	case Router:
		handler, pattern := askRouter(h, r.x)
		return handler, s.routes.find(pattern, pinOf(handler))
	default:
		var key [routeKeyMax]byte
		return h, s.routes.find(viewString(appendRouteKey(key[:0], r)), s.pin)
	}
}

// askRouter calls the user's Route. Its panic is the handler's, since the answer
// is made there.
func askRouter(router Router, x *exchange) (h Handler, pattern string) {
	g := x.workset()
	x.open(g, 0)
	defer x.close() // what the request's head lies in may move before its handler is called
	if p := guard(func() { h, pattern = router.Route(&x.lease.r) }, nil); p != nil {
		g.counts[countPanics]++
		return HandlerFunc(func(*ResponseWriter, *Request) error { return p }), ""
	}
	return h, pattern
}

// appendRouteKey names r's route by its method and first path segment.
func appendRouteKey(key []byte, r *serverRequest) []byte {
	key = append(key, r.methodView()...)
	path := r.pathView()
	for i := 0; i < len(path) && len(key) < routeKeyMax && (i == 0 || path[i] != '/'); i++ {
		key = append(key, path[i])
	}
	return key
}

// ErrorStatus returns the status of the answer to a request whose handler returns
// err: that of a *StatusError, 499 when err only says that the client has left, and
// 500 for anything else. It is 0 for nil, where the handler has answered itself
// (ResponseWriter.Status), and for http.ErrAbortHandler, where nobody answers. What
// was committed before is final: see ResponseWriter.Committed.
func ErrorStatus(err error) int {
	var status *StatusError
	switch {
	case err == nil, errors.Is(err, http.ErrAbortHandler):
		return 0
	case isGone(err):
		return statusClientLeft
	case errors.As(err, &status) && status.Code >= 400 && status.Code <= 999:
		return status.Code
	}
	return http.StatusInternalServerError
}

// handleError answers err. It fails as ErrorHandler and its answer do.
func (s *Server) handleError(w *serverResponse, err error) error {
	var status *StatusError
	if left(w.r, err) {
		answerStatus(w, &StatusError{Code: statusClientLeft, Message: "Client Closed Request"})
		return w.complete() // nobody reads it, but it is counted
	}
	code := ErrorStatus(err)
	if !errors.As(err, &status) || status.Code != code {
		status = nil
		s.logHandlerError(w.r, err)
	} else if status.Code >= 500 && status.Err != nil && !w.r.refused { // refusals have a line of their own

		s.logHandlerError(w.r, err)
	}
	if s.ErrorHandler == nil && len(w.hooks) == 0 {
		answerStatus(w, status)
		return w.complete()
	}
	w.implied = code
	if s.ErrorHandler != nil {
		x, g := w.x, w.x.workset()
		x.open(g, 0)
		failed := x.call(g, HandlerFunc(func(w *ResponseWriter, r *Request) error {
			s.ErrorHandler(w, r, err)
			return nil
		}))
		if x.close(); failed != nil {
			return failed
		}
	}
	if w.untouched() {
		answerStatus(w, status)
	}
	return w.completeHooked()
}

// answerStatus writes the answer for a status; nil stands for a bare 500.
func answerStatus(w *serverResponse, status *StatusError) {
	code, message := http.StatusInternalServerError, ""
	if status != nil {
		code, message = status.Code, status.Message
	}
	if message == "" {
		message = http.StatusText(code)
	}
	w.Text(code, message+"\n")
}

// logHandlerError logs what a handler returned or panicked with.
func (s *Server) logHandlerError(r *serverRequest, err error) {
	if left(r, err) {
		return
	}
	attrs := []slog.Attr{slog.String("method", r.Method()), slog.String("pattern", r.Pattern()), slog.Any("error", err)}
	if r.id != "" {
		attrs = append(attrs, slog.String("request_id", r.id))
	}
	if t, ok := r.Value(traceKey{}).(TraceContext); ok {
		attrs = append(attrs, slog.String("trace_id", t.traceID()))
	}
	var p *panicError
	if errors.As(err, &p) {
		attrs = append(attrs, slog.String("stack", string(p.stack)))
	}
	logTo(s.logger(), slog.LevelError, "flare: handler failed", attrs...)
}

// statusClientLeft is what a request counts as whose client did not wait for the
// answer. The code is nginx's.
const statusClientLeft = 499

// left reports whether err only says that the client has left: the error of a
// write, or of the request's context.
func left(r *serverRequest, err error) bool {
	if isGone(err) {
		return true
	}
	if !errors.Is(err, context.Canceled) {
		return false
	}
	return r.x.stream.left()
}

// targetLogged is how much of a refused request's target is logged.
const targetLogged = 128

// spanIn is a part of a head that may not have been understood that far.
func spanIn(s span, in []byte) string {
	if s.end > uint32(len(in)) || s.start >= s.end {
		return ""
	}
	return string(s.of(in))
}

// refused notes that a request, of which in has the head, was refused before any
// handler saw it. Whoever can make a server refuse decides on the status, so it is
// one line a second and no error of the server's, whatever that is.
func (s *Server) refused(x *exchange, in []byte, err error) {
	method, target := spanIn(x.r.head.method, in), spanIn(x.r.head.target, in)
	s.refusals.log(s.logger(), "flare: request refused", x.workset().clock.now, err,
		slog.String("method", method),
		slog.String("path", target[:min(len(target), targetLogged)]),
		slog.Any("peer", x.stream.session().peerAddr()))
}
