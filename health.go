package flare

import (
	"context"
	"net/http"
)

// This file is layer 5 (surface): what a load balancer asks a server for.

// HealthHandler returns a handler for probes. It answers 200 while s serves and every
// check returns nil, and 503 from the moment on at which Shutdown is called, or while
// a check fails, so that a load balancer sends no more requests; DrainDelay is the time
// for it to notice. Without checks and with a nil s it says that the process lives. A
// check has the request's context, and its error is logged by the server and not sent.
func HealthHandler(s *Server, checks ...func(context.Context) error) Handler {
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Cache-Control", "no-store")
		if s != nil && s.draining.Load() {
			return w.Text(http.StatusServiceUnavailable, "draining\n")
		}
		for _, check := range checks {
			if err := check(r.Context()); err != nil {
				return &StatusError{Code: http.StatusServiceUnavailable, Message: "not ready", Err: err}
			}
		}
		return w.Text(http.StatusOK, "ok\n")
	})
}
