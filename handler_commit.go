package flare

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// This file is layer 4 (roles): how a response becomes bytes: hooks, framing,
// the head, the end, and what replaces a response that failed.

// errOverdeclared: the handler wrote more than the Content-Length it set.
var errOverdeclared = errors.New("flare: handler wrote more than its Content-Length")

// hook builds the hooks' writers and passes on what was held back.
func (w *serverResponse) hook() error {
	w.hooked, w.unhooked = true, append(w.unhooked[:0], w.header.list...)
	l := w.x.lease
	var top io.WriteCloser = (*commitSink)(l)
	status := w.Status()
	for i, fn := range w.hooks {
		if i > 0 {
			top = &hookWriter{l, top}
		}
		top = fn(status, &l.responseHeader, top)
	}
	w.top = top
	if len(w.buf) == 0 {
		return nil
	}
	held := append([]byte(nil), w.buf...)
	w.buf = w.buf[:0]
	_, err := top.Write(held)
	return err
}

// commit writes the head. length is that of the whole body, -1 when it is not
// known yet.
func (w *serverResponse) commit(length int64) error {
	if w.hijacked { // the connection is no longer the stream's to touch
		return errHijacked
	}
	if err := w.header.fault(); err != nil {
		return err
	}
	status := w.Status()
	own, err := w.scanHeader()
	if err != nil {
		return err
	}
	w.begun = true
	isHead := w.r.methodView() == http.MethodHead
	framed := w.framed()
	w.noBody = isHead || !framed
	head := outgoingHead{fields: &w.header, own: own, status: status, length: -1, last: w.close}
	switch {
	case !framed: // RFC 9110 §8.6: no framing field with 204; with 304 only what a GET would have had
	case w.declared >= 0: // among the fields already
	case length >= 0 && !(isHead && length == 0):
		head.length = length
	case isHead: // what GET would be framed with is not known
	default:
		head.open = true
		w.announceTrailer()
	}
	if err := w.x.stream.sendHead(head); err != nil {
		return err
	}
	if status < 600 {
		w.x.workset().counts[countClass1+status/100-1]++
	}
	return nil
}

// framed reports whether the response has a body, or would have one but for
// HEAD. To a CONNECT, 2xx says that a tunnel follows: it has neither a body nor
// fields about one (RFC 9110 §9.3.6), and without a tunnel nothing follows.
func (w *serverResponse) framed() bool {
	status := w.Status()
	if w.r.head.form == authorityForm && status < 300 {
		return false
	}
	return bodyAllowed(status) || status == http.StatusResetContent // whose end has to be found (§15.3.6)
}

// scanHeader looks for the fields that frame the response, and removes those
// that are not a handler's to set.
func (w *serverResponse) scanHeader() (own ownFields, err error) {
	framed := false
	for i := range w.header.list {
		name, value := w.header.list[i].name, w.header.list[i].value
		switch len(name) {
		case len("Date"):
			own.date = own.date || equalFoldASCII(name, "Date")
		case len("Connection"):
			if equalFoldASCII(name, "Connection") {
				own.close = own.close || listContains(value, "close")
				own.keepAlive = own.keepAlive || listContains(value, "keep-alive")
				w.close = w.close || own.close
			}
		case len("Content-Length"):
			if equalFoldASCII(name, "Content-Length") {
				n, err := strconv.ParseUint(value, 10, 63)
				if err != nil || w.declared >= 0 {
					return own, errors.New("flare: handler set an invalid Content-Length")
				}
				w.declared = int64(n)
			}
		case len("Transfer-Encoding"):
			framed = framed || equalFoldASCII(name, "Transfer-Encoding")
		}
	}
	if framed {
		w.header.Del("Transfer-Encoding") // flare's to decide
	}
	if w.declared >= 0 && !(w.framed() && bodyAllowed(w.Status())) {
		if w.Status() != http.StatusNotModified {
			w.header.Del("Content-Length") // RFC 9110 §8.6
		}
		w.declared = -1
	}
	return own, nil
}

// A completion is complete as a handler: hooks are the user's code, which may
// panic behind the handler's return as well as before it.
type completion struct{ w *serverResponse }

func (k completion) Serve(*ResponseWriter, *Request) error { return k.w.complete() }

// completeHooked is complete where hooks may be called.
func (w *serverResponse) completeHooked() error {
	if len(w.hooks) == 0 {
		return w.complete()
	}
	x, g := w.x, w.x.workset()
	x.open(g, leaseHooks)
	defer x.close()
	return x.call(g, completion{w})
}

// finish ends the response of a handler that returned err. The lease is closed.
func (w *serverResponse) finish(err error) {
	if err == nil {
		err = w.completeHooked()
	}
	if err != nil {
		w.fail(err)
	}
	w.x.ended(err)
}

// complete sends what is left of a response that did not fail.
func (w *serverResponse) complete() error {
	if w.begun {
		if err := w.x.stream.broken(); err != nil {
			return err // a part of it is missing, whatever the handler makes of that
		}
	}
	if len(w.hooks) > 0 && w.top == nil {
		if err := w.hook(); err != nil {
			return err
		}
	}
	if err := w.header.fault(); err != nil && !w.begun {
		return err // while the hooks can still be called for the answer to it
	}
	if w.top != nil {
		w.spent = true
		if err := w.top.Close(); err != nil {
			return err
		}
	}
	if err := w.startTrailer(); err != nil {
		return err
	}
	stream := w.x.stream
	if w.begun {
		if w.declared > w.written && !w.noBody {
			stream.cutOff(endFlushed) // RFC 9112 §6.3: the client must see that it is short
			return nil
		}
		if w.declared >= 0 || w.noBody {
			return stream.sendEnd(nil, nil)
		}
		return stream.sendEnd(nil, w.sendableTrailer())
	}
	if err := w.commit(int64(len(w.buf))); err != nil {
		return err
	}
	if w.noBody {
		return stream.sendEnd(nil, nil)
	}
	w.written = int64(len(w.buf))
	if w.declared < 0 || int64(len(w.buf)) == w.declared {
		return stream.sendEnd(w.buf, nil)
	}
	if int64(len(w.buf)) > w.declared {
		w.buf, w.written = w.buf[:w.declared], w.declared
		w.x.srv.logHandlerError(w.r, errOverdeclared)
	}
	err := stream.sendBody(w.buf)
	stream.cutOff(endFlushed)
	return err
}

// fail answers err in place of what was buffered.
func (w *serverResponse) fail(err error) {
	if w.cutOff(err) {
		return
	}
	keep := w.close
	if fault := w.header.fault(); fault != nil && errors.As(err, new(*StatusError)) {
		err = fmt.Errorf("%w; the handler returned: %v", fault, err) // the answer would lack a field
	}
	w.drop()
	w.close = keep
	if err = w.x.srv.handleError(w, err); err == nil || w.cutOff(err) {
		return
	}
	w.x.srv.logHandlerError(w.r, err) // the error handler failed as well, or a hook
	w.spent = true
	w.drop()
	w.close = keep
	answerStatus(w, nil)
	if w.complete() != nil {
		w.x.stream.cutOff(endReset)
	}
}

// cutOff ends the connection of a response that has begun, so that the client
// cannot take a part for the whole, and of one that is not to be sent at all.
// It reports whether the response was one of these.
func (w *serverResponse) cutOff(err error) bool {
	aborted := errors.Is(err, http.ErrAbortHandler)
	if !w.begun && !aborted {
		return false
	}
	cause := w.x.stream.broken()
	w.x.stream.cutOff(endFlushed)
	if !w.begun {
		w.drop()
		return true
	}
	if (cause == nil || !errors.Is(err, cause)) && !aborted {
		w.x.srv.logHandlerError(w.r, err)
	}
	return true
}

// describesContent reports whether a field speaks of the content of the very
// response that it was set for, how to store and to show it included, or of the
// place to which that response sent the client (RFC 9110 §8, §10.2.2, §14; RFC
// 9111 §5). It is false for what middleware says of every response: security
// policies, cookies, names of requests, challenges.
func describesContent(f headerField) bool {
	for _, name := range [...]string{
		"Content-Type", "Content-Encoding", "Content-Language", "Content-Length", "Content-Location",
		"Content-Disposition", "Transfer-Encoding", "Trailer",
		"Content-Digest", "Repr-Digest", "Digest", "Content-MD5",
		"ETag", "Last-Modified", "Accept-Ranges", "Expires", "Age", "Pragma", "Location",
	} {
		if equalFoldASCII(f.name, name) {
			return true
		}
	}
	switch {
	case equalFoldASCII(f.name, "Content-Range"):
		return !hasPrefixFold(f.value, unsatisfiedRange) // that is 416's own (RFC 9110 §15.5.17)
	case equalFoldASCII(f.name, "Cache-Control"), equalFoldASCII(f.name, "CDN-Cache-Control"), equalFoldASCII(f.name, "Surrogate-Control"):
		return !listContains(f.value, "no-store") // who is to keep nothing keeps no error either
	}
	return false
}

// unsatisfiedRange begins the Content-Range of a 416 (RFC 9110 §14.4).
const unsatisfiedRange = "bytes */"

// drop forgets the content of the response, and what describes it. Other fields
// stay, and so do the hooks: they are called again for what takes its place,
// with the fields as they found them, unless their writers have been closed.
func (w *serverResponse) drop() {
	fields, hooks := w.header.list, w.hooks
	if w.hooked {
		fields = w.unhooked
	}
	if w.spent {
		hooks = nil
	}
	var kept []headerField // usually none
	for _, f := range fields {
		if !describesContent(f) {
			kept = append(kept, f)
		}
	}
	w.hooks = nil // reset would clear them
	w.reset()
	w.hooks = hooks
	w.header.list = append(w.header.list, kept...)
}
