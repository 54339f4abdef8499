package flare

import "strings"

// What the routing tests need of a request and its answer, in one place.

// newMuxRequest returns a request with the target split as the parser does,
// without the parser's checks: routing must stand any octet.
func newMuxRequest(method, host, target string) *Request {
	path, query, has := strings.Cut(target, "?")
	held := newUserRequest()
	r := &held.lease.x.r
	for _, part := range []struct {
		at   *span
		text string
	}{{&r.head.method, method}, {&r.head.host, host}, {&r.head.path, path}, {&r.head.query, query}} {
		start := uint32(len(r.raw))
		r.raw = append(r.raw, part.text...)
		*part.at = span{start, uint32(len(r.raw))}
	}
	r.head.hasQuery = has
	r.head.pathEscaped = strings.Contains(path, "%")
	return held
}

// behindRequest returns what r is a view of. Only a handler that runs may call it.
func behindRequest(r *Request) *serverRequest { return &r.lease.x.r }

// behindResponse is behindRequest for a ResponseWriter.
func behindResponse(w *ResponseWriter) *serverResponse { return &w.lease.x.w }

// newUserRequest returns an empty request of an exchange of its own.
func newUserRequest() *Request { return &newUserExchange().r }

// newUserResponse is that for a response.
func newUserResponse() *ResponseWriter { return &newUserExchange().w }

func newUserExchange() *lease {
	some := newLeases(1)
	x := new(exchange)
	x.lease = some.next(x, nil)
	return x.lease
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
	held := newUserResponse()
	w := &held.lease.x.w
	a := muxAnswer{err: h.Serve(held, r)}
	a.status = w.status
	if e, ok := a.err.(*StatusError); ok {
		a.status = e.Code
	}
	a.location = w.header.Get("Location")
	a.allow = w.header.Get("Allow")
	a.hasAllow = len(w.header.Values("Allow")) > 0
	return a
}

// pathValue is Request.PathValue.
func pathValue(r *Request, name string) string {
	in := &r.lease.x.r
	v, _ := in.match.value(in.pathView(), name)
	return v
}
