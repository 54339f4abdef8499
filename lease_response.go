package flare

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"sync"
	"time"
)

// This file is layer 4 (roles): the response as users hold it. Each method enters
// the lease and asks the response behind it, of handler_response.go and the files
// beside it, by the method of the same name.

// A ResponseWriter writes the response to one request. It is for the handler's
// goroutine, or whoever the handler waits for; another goroutine may read the
// request's body meanwhile.
//
// It ends with the handler, as Request does. A write, a flush or a file being sent
// that a forgotten goroutine waits in then is broken off, and the connection ends,
// since a part of the response has left.
type ResponseWriter struct{ lease *lease }

var _ io.ReaderFrom = (*ResponseWriter)(nil)

// Header returns the response's fields, to be set before the first byte is
// committed. A name or value that is not allowed in a field, such as one with
// a line break, makes the whole response a 500.
func (w *ResponseWriter) Header() *Header {
	if w.lease == nil {
		return new(Header)
	}
	return &w.lease.responseHeader
}

// WriteHeader sets the status code, 200 to 999; without it a response has 200.
// Nothing is sent by it. A second call, or one after the response was
// committed, has no effect.
func (w *ResponseWriter) WriteHeader(code int) {
	x := w.lease.use()
	if x == nil {
		return
	}
	defer w.lease.exit()
	x.w.WriteHeader(code)
}

// Status returns the status code that was set; if none was, 200, and in an
// ErrorHandler that of the error.
func (w *ResponseWriter) Status() int {
	x := w.lease.use()
	if x == nil {
		return 0
	}
	defer w.lease.exit()
	return x.w.Status()
}

// Committed reports whether the head has been written: the response can then
// no longer be replaced by another.
func (w *ResponseWriter) Committed() bool {
	x := w.lease.use()
	if x == nil {
		return false
	}
	defer w.lease.exit()
	return x.w.Committed()
}

// OnCommit has fn called when the response is committed, at the latest when
// the handler returns. next takes the body's bytes; what fn returns takes the
// handler's, and is closed at the end. The header may be changed until fn's
// writer first passes on more than flare holds back, or is flushed. The writer
// may have a method Flush() error. Of several, the last registered is nearest
// to the handler. When an error takes the place of the response, fn is called
// for that answer, if need be for the second time, with the header as it was
// before the first. For a response whose head is final already it is too late:
// fn is not called.
func (w *ResponseWriter) OnCommit(fn CommitFunc) {
	x := w.lease.use()
	if x == nil {
		return
	}
	defer w.lease.exit()
	x.w.OnCommit(fn)
}

// Write adds p to the body, and waits while the client does not read. It fails
// with http.ErrBodyNotAllowed for a status without a body, with
// http.ErrContentLength beyond a Content-Length that the handler has set, and
// when the client is gone.
func (w *ResponseWriter) Write(p []byte) (int, error) {
	x := w.lease.enterBody()
	if x == nil {
		return 0, errWriterDone
	}
	defer w.lease.exit()
	return x.w.Write(p)
}

// WriteString is Write of a string.
func (w *ResponseWriter) WriteString(s string) (int, error) {
	x := w.lease.enterBody()
	if x == nil {
		return 0, errWriterDone
	}
	defer w.lease.exit()
	return x.w.WriteString(s)
}

// ReadFrom writes what r has, until its end. A regular *os.File, or an
// *io.LimitedReader of one, is sent by the kernel when the response's length
// was declared and nothing wraps its body.
func (w *ResponseWriter) ReadFrom(r io.Reader) (int64, error) {
	if _, ok := r.(*fileSection); !ok {
		if file, _ := regularFile(r); file == nil {
			return copyThroughMemory(w, r, streamBytes) // the reader is the user's, and may wait for ever
		}
	}
	x := w.lease.enterBody()
	if x == nil {
		return 0, errWriterDone
	}
	defer w.lease.exit()
	return x.w.ReadFrom(r)
}

// Flush commits the response and sends what was written so far. It waits while
// the client does not read.
func (w *ResponseWriter) Flush() error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	return x.w.Flush()
}

// Text answers with s as plain text. A request has one answer: a second call of
// Text, HTML, Blob, JSON, Redirect, SendFile or EventStream is an error and
// changes nothing, and so is the first when the head has been sent, with another
// status or type.
func (w *ResponseWriter) Text(code int, s string) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	return x.w.Text(code, s)
}

// HTML is Text with a page.
func (w *ResponseWriter) HTML(code int, s string) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	return x.w.HTML(code, s)
}

// Blob is Text with the given content type.
func (w *ResponseWriter) Blob(code int, contentType string, p []byte) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	return x.w.Blob(code, contentType, p)
}

// JSON is Text with v as JSON. A v that cannot be encoded is an error, and nothing is
// sent.
func (w *ResponseWriter) JSON(code int, v any) error {
	j := jsonTexts.Get().(*jsonText)
	err := j.encoder.Encode(v) // may call the user's code
	if err == nil {
		err = w.Blob(code, "application/json", bytes.TrimSuffix(j.Bytes(), []byte("\n"))) // json.Marshal has none
	}
	if j.Reset(); !raceEnabled && j.Cap() <= jsonKeptBytes { // under the race detector nothing is reused
		jsonTexts.Put(j)
	}
	return err
}

// A jsonText is room for what JSON sends. json.Marshal would make each text anew.
type jsonText struct {
	*bytes.Buffer
	encoder *json.Encoder
}

var jsonTexts = sync.Pool{New: func() any {
	b := new(bytes.Buffer)
	return &jsonText{b, json.NewEncoder(b)}
}}

const jsonKeptBytes = 64 << 10 // the largest that is kept

// Redirect sends the client to location with a 3xx status. Octets that are not
// ASCII are sent escaped, since a URI has none (RFC 3986 §2); everything else
// goes out as it is.
func (w *ResponseWriter) Redirect(code int, location string) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	return x.w.Redirect(code, location)
}

// SetCookie adds a Set-Cookie field. A cookie that is not Valid makes the
// whole response a 500, with the reason in the log.
func (w *ResponseWriter) SetCookie(c *Cookie) {
	x := w.lease.use()
	if x == nil {
		return
	}
	defer w.lease.exit()
	x.w.SetCookie(c)
}

// Trailer returns the fields that are sent behind the body, to be set before
// the handler returns. They reach the client only when the body is sent in
// chunks, which a response with a trailer is unless it has a Content-Length or
// the client speaks HTTP/1.0. Names that are set before the response is
// committed are announced in a Trailer field; for others the handler may set
// one. Fields that frame, route or authenticate are left out (RFC 9110 §6.5.1).
func (w *ResponseWriter) Trailer() *Header {
	return &Header{in: (*responseTrailer)(w.lease)}
}

// Informational sends an interim response at once, such as 103 (Early Hints,
// RFC 8297), with the fields of h, which may be nil. It does nothing for a
// client of HTTP/1.0 (RFC 9110 §15.2). 101 is not for it.
func (w *ResponseWriter) Informational(code int, h *Header) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	return x.w.Informational(code, h)
}

// EventStream commits a response of type text/event-stream. The handler then
// sends until r.Context() ends, as it also does when Shutdown begins, and returns nil.
func (w *ResponseWriter) EventStream() (*EventStream, error) {
	x := w.lease.enterBody()
	if x == nil {
		return nil, errWriterDone
	}
	defer w.lease.exit()
	if err := x.w.eventStream(); err != nil {
		return nil, err
	}
	return &EventStream{w, &w.lease.r}, nil
}

// SetReadDeadline bounds the time that reads of this request's body may wait.
// A read that would wait longer fails with a 408. The zero time takes the bound
// away, and BodyTimeout and MinBodyRate with it, for this request: its client may
// then be silent for as long as it likes.
func (w *ResponseWriter) SetReadDeadline(t time.Time) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	return x.w.SetReadDeadline(t)
}

// SetWriteDeadline bounds the time that writes of this response may wait. A
// write that would wait longer fails with ErrTimeout and breaks the
// connection. The zero time takes the bound away, and WriteTimeout and
// MinWriteRate with it, while the handler runs.
func (w *ResponseWriter) SetWriteDeadline(t time.Time) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	return x.w.SetWriteDeadline(t)
}

// Hijack takes the connection from the server. Answers to earlier requests
// have been sent. The reader begins with what the client has sent behind the
// request's head; a body that was not read is part of that. The caller closes
// the connection. After it w may no longer be used, and the server neither
// counts the connection nor ends it. Over TLS it is a *tls.Conn.
func (w *ResponseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	x := w.lease.enterBody()
	if x == nil {
		return nil, nil, errWriterDone
	}
	defer w.lease.exit()
	return x.w.Hijack()
}
