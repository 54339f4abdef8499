package flare

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"time"
)

// This file is layer 5 (surface): conditional requests (RFC 9110 §13) for what
// handlers make: the middleware ETag, and Precondition for who knows what is there
// before it is made. handler_condition.go has the rules.

// ETag is a middleware for answers to GET and HEAD with status 200 whose body is in
// memory when the handler returns, at most 64 KiB: it gives those without an ETag a
// strong one, of their content, and evaluates the request's conditions: 304 or 412
// where they say so. The handler runs all the same: what is saved is the transfer.
// An ETag and a Last-Modified that the handler has set are taken as they are. Compress
// may be outside or inside of it, and makes the ETag weak.
func ETag(h Handler) Handler { return etagHandler{h} }

type etagHandler struct{ Handler }

func (h etagHandler) pinned() pin { return pinOf(h.Handler) }

func (h etagHandler) Serve(w *ResponseWriter, r *Request) error {
	if err := h.Handler.Serve(w, r); err != nil {
		return err
	}
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	if method := x.r.methodView(); method != http.MethodGet && method != http.MethodHead ||
		x.w.begun || x.w.top != nil || x.w.hijacked || x.w.Status() != http.StatusOK {
		return nil
	}
	fields := &x.w.header
	if !fields.has("ETag") {
		hash := sha256.Sum256(x.w.buf)
		fields.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(hash[:15])+`"`)
	}
	rep := representation{size: int64(len(x.w.buf)), entire: true}
	if tag, rest := nextETag(fields.Get("ETag")); rest == "" {
		rep.etag = tag
	}
	if at, err := http.ParseTime(fields.Get("Last-Modified")); err == nil {
		rep.modified = at
	}
	_, err := x.w.precondition(rep)
	return err
}

// Precondition evaluates the conditions of a request for something that has the given
// ETag, quotes included, and time of the last change, before the handler makes or
// changes it; "" and the zero time for what is not known. Both become fields of the
// response. Where it is not ok the handler returns err: that is a *StatusError with
// 412, or nil for a 304, which needs no more.
//
//	if ok, err := w.Precondition(book.etag, book.changed); !ok {
//		return err
//	}
func (w *ResponseWriter) Precondition(etag string, modified time.Time) (ok bool, err error) {
	x := w.lease.enterBody()
	if x == nil {
		return false, errWriterDone
	}
	defer w.lease.exit()
	rep := representation{modified: wholeSeconds(modified), entire: true}
	if tag, rest := nextETag(etag); rest == "" {
		rep.etag = tag
	}
	if etag != "" {
		x.w.header.Set("ETag", etag)
	}
	x.w.sayModified(&rep)
	return x.w.precondition(rep)
}

// precondition sets the status for what the conditions of the request come to.
func (w *serverResponse) precondition(rep representation) (ok bool, err error) {
	switch w.r.selects(rep).status {
	case http.StatusNotModified:
		w.status = http.StatusNotModified
		w.notModified()
		w.buf = w.buf[:0]
		return false, nil
	case http.StatusPreconditionFailed:
		return false, &StatusError{Code: http.StatusPreconditionFailed}
	}
	return true, nil
}
