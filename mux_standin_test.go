package flare

import "strings"

// What the routing tests need of a request and its answer, in one place.

// newMuxRequest returns a request with the target split as the parser does.
func newMuxRequest(method, host, target string) *Request {
	path, query, has := strings.Cut(target, "?")
	return &Request{method: method, host: host, path: path, query: query, hasQuery: has}
}

type muxAnswer struct {
	err      error
	status   int // of a redirect, or of the *StatusError
	location string
	allow    string
	hasAllow bool
}

// serveMux serves r and reads the answer.
func serveMux(h Handler, r *Request) muxAnswer {
	w := &ResponseWriter{}
	a := muxAnswer{err: h.Serve(w, r)}
	a.status = w.status
	if e, ok := a.err.(*StatusError); ok {
		a.status = e.Code
	}
	a.location = w.header.fields["Location"]
	a.allow, a.hasAllow = w.header.fields["Allow"]
	return a
}

// pathValue is Request.PathValue.
func pathValue(r *Request, name string) string {
	v, _ := r.match.value(r.path, name)
	return v
}
