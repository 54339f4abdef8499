package flare

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// This file is layer 4 (roles): what there is behind a ResponseWriter. Users
// reach it through their lease, by the methods of the same names in
// lease_response.go. Up to responseBufferMax bytes are held back, so that a response that ends within
// them gets a Content-Length and an error can still replace it; what is longer
// leaves in chunks. handler_commit.go has the moment in between.

// responseBufferMax is how much of a body is held back before it is streamed.
const responseBufferMax = 64 << 10

// streamBytes is how much of a streamed body is collected before it is sent.
const streamBytes = 16 << 10

var (
	errBodyNotAllowed = http.ErrBodyNotAllowed
	errContentLength  = http.ErrContentLength
	errAnswered       = errors.New("flare: a second answer to a request, or one whose status and type are late")
)

// A serverResponse is the second half of an exchange. It belongs as serverRequest does.
type serverResponse struct {
	x        *exchange      // fixed
	r        *serverRequest // of x
	header   headerFields
	accepted headerField   // of header
	trailer  *headerFields // behind the body; nil: none
	buf      []byte        // body held back
	hooks    []CommitFunc
	top      io.WriteCloser // the hooks' writers, outermost; nil without any
	unhooked []headerField  // the header as the hooks found it, once they were called
	status   int            // 0: not set
	implied  int            // status while none is set, 0: 200
	declared int64          // Content-Length that the handler has set, -1: none
	written  int64          // body bytes past the hooks
	begun    bool           // committed: the head has been written
	answered bool           // Text or its like was called
	hooked   bool           // the hooks were called
	spent    bool           // their writers were closed: what they have may be in use elsewhere
	noBody   bool           // HEAD, 204, 304
	close    bool           // the response says that the connection ends
	hijacked bool
	switched switchedProtocol // not nil: a 101 was written, and the connection is this one's
}

// A CommitFunc is called when the response's status and header are final. It
// may change the header and wrap what the body is written to; see OnCommit.
type CommitFunc func(status int, h *Header, next io.WriteCloser) io.WriteCloser

func (w *serverResponse) reset() {
	w.header.reset()
	w.buf = w.buf[:0]
	if w.hooks != nil {
		clear(w.hooks)
		w.hooks = w.hooks[:0]
	}
	if len(w.unhooked) > fieldsKept {
		clear(w.unhooked) // as Header.reset
	}
	w.unhooked = w.unhooked[:0]
	w.top, w.trailer, w.status, w.implied, w.declared, w.written = nil, nil, 0, 0, -1, 0
	w.answered, w.hooked, w.spent = false, false, false
	w.begun, w.noBody, w.close, w.hijacked = false, false, false, false
	w.switched = nil
}

func (w *serverResponse) Header() *headerFields {
	return &w.header
}

func (w *serverResponse) WriteHeader(code int) {
	if code < 200 || code > 999 {
		panic(fmt.Sprintf("flare: WriteHeader with status %d; 1xx are Informational's", code))
	}
	if w.status == 0 && !w.begun {
		w.status = code
	}
}

func (w *serverResponse) Status() int {
	switch {
	case w.status != 0:
		return w.status
	case w.implied != 0:
		return w.implied
	}
	return http.StatusOK
}

// untouched reports whether nobody has begun to make an answer.
func (w *serverResponse) untouched() bool {
	return w.status == 0 && !w.begun && !w.hooked && len(w.buf) == 0 && !w.hijacked
}

func (w *serverResponse) Committed() bool { return w.begun }

func (w *serverResponse) OnCommit(fn CommitFunc) {
	if w.begun || w.top != nil {
		return
	}
	w.hooks = append(w.hooks, fn)
}

func (w *serverResponse) Write(p []byte) (int, error) {
	if w.top != nil {
		return w.top.Write(p)
	}
	if len(w.hooks) > 0 && !w.begun && len(w.buf)+len(p) > responseBufferMax {
		if err := w.hook(); err != nil {
			return 0, err
		}
		return w.top.Write(p)
	}
	return w.write(p)
}

func (w *serverResponse) WriteString(s string) (int, error) {
	if w.top == nil && !w.begun && bodyAllowed(w.Status()) && len(w.buf)+len(s) <= responseBufferMax && w.declares(len(s)) {
		w.buf = append(w.buf, s...)
		return len(s), nil
	}
	return w.Write([]byte(s))
}

// write takes body bytes behind the hooks.
func (w *serverResponse) write(p []byte) (int, error) {
	if !bodyAllowed(w.Status()) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, errBodyNotAllowed
	}
	if !w.begun {
		if !w.declares(len(p)) {
			return 0, errContentLength
		}
		if len(w.buf)+len(p) <= responseBufferMax {
			w.buf = append(w.buf, p...)
			return len(p), nil
		}
		if err := w.start(); err != nil {
			return 0, err
		}
	}
	if err := w.stream(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// declares reports whether n bytes behind those that are held back are within
// the Content-Length that the handler has set, if any.
func (w *serverResponse) declares(n int) bool {
	for i := range w.header.list {
		if f := &w.header.list[i]; len(f.name) == len("Content-Length") && equalFoldASCII(f.name, "Content-Length") {
			max, err := strconv.ParseUint(f.value, 10, 63)
			return err != nil || uint64(len(w.buf)+n) <= max // a bad value fails the commit
		}
	}
	return true
}

// stream sends body bytes of a committed response.
func (w *serverResponse) stream(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if w.declared >= 0 && w.written+int64(len(p)) > w.declared {
		return errContentLength
	}
	w.written += int64(len(p))
	if w.noBody {
		return nil
	}
	w.x.workset().held = cap(w.buf)
	return w.x.stream.sendBody(p)
}

// start commits the response and streams what was held back.
func (w *serverResponse) start() error {
	if w.begun {
		return nil
	}
	if !bodyAllowed(w.Status()) {
		return errBodyNotAllowed
	}
	if err := w.commit(-1); err != nil {
		return err
	}
	held := w.buf
	w.buf = w.buf[:0]
	return w.stream(held)
}

func (w *serverResponse) Flush() error {
	if len(w.hooks) > 0 && w.top == nil {
		if err := w.hook(); err != nil {
			return err
		}
	}
	if f, ok := w.top.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return err
		}
	}
	return w.flush()
}

func (w *serverResponse) flush() error {
	if err := w.start(); err != nil && err != errBodyNotAllowed {
		return err
	}
	if !w.begun { // a status without a body
		if err := w.commit(0); err != nil {
			return err
		}
	}
	return w.x.stream.flush()
}

func (w *serverResponse) Text(code int, s string) error {
	if err := w.reply(code, "text/plain; charset=utf-8", len(s)); err != nil {
		return err
	}
	_, err := w.WriteString(s)
	return err
}

func (w *serverResponse) HTML(code int, s string) error {
	if err := w.reply(code, "text/html; charset=utf-8", len(s)); err != nil {
		return err
	}
	_, err := w.WriteString(s)
	return err
}

func (w *serverResponse) Blob(code int, contentType string, p []byte) error {
	if err := w.reply(code, contentType, len(p)); err != nil {
		return err
	}
	if !w.begun && len(w.buf) == 0 && len(w.hooks) == 0 && !w.hasTrailer() && len(p) > responseBufferMax {
		w.header.Set("Content-Length", strconv.Itoa(len(p)))
	}
	_, err := w.Write(p)
	return err
}

func (w *serverResponse) Redirect(code int, location string) error {
	if code < 300 || code > 399 {
		return fmt.Errorf("flare: Redirect with status %d", code)
	}
	if w.begun || w.answered {
		return errAnswered
	}
	w.header.Set("Location", escapeNonASCII(location))
	return w.Text(code, http.StatusText(code)+"\n")
}

// reply begins the answer, of n bytes.
func (w *serverResponse) reply(code int, contentType string, n int) error {
	switch {
	case w.answered:
		return errAnswered
	case w.begun: // only what changes nothing can be behind the head
		if kind := w.header.Get("Content-Type"); code != w.Status() || kind != "" && kind != contentType {
			return errAnswered
		}
		w.answered = true
		return nil
	}
	w.WriteHeader(code)
	w.answered = true
	if n > 0 || bodyAllowed(code) {
		w.header.Set("Content-Type", contentType)
	}
	return nil
}
