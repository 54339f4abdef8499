package flare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

// This file is layer 5 (surface): the http.ResponseWriter on flare's server. It
// has net/http's rules on when a head is final, what becomes of its fields and
// what type a body has; framing and sending are the ResponseWriter's.

// httpBufferBytes is how much of a body is held back, as in net/http: what is
// shorter gets a Content-Length, and what is longer flows.
const httpBufferBytes = 2048

// sniffBytes is how much http.DetectContentType looks at.
const sniffBytes = 512

// An httpWriter is an http.ResponseWriter. Like net/http's it is for one
// goroutine at a time. On a connection that can be taken over it is given out as
// an httpHijacker: a handler finds out by asking for an http.Hijacker.
type httpWriter struct {
	x      *httpExchange
	fields http.Header // the handler's
	logger *slog.Logger

	mu          sync.Mutex      // held while w is used
	w           *serverResponse // nil: the handler has returned
	wroteHeader bool            // the head is final
	hijacked    bool
	sniffs      bool     // no type was set
	chunked     bool     // asked for by hand
	trailers    []string // names announced by the handler
}

// An httpHijacker is an httpWriter with the method Hijack.
type httpHijacker struct{ *httpWriter }

var (
	_ http.Flusher    = (*httpWriter)(nil)
	_ http.Hijacker   = httpHijacker{}
	_ io.ReaderFrom   = (*httpWriter)(nil)
	_ io.StringWriter = (*httpWriter)(nil)
)

// writer returns p as what a handler is given.
func (p *httpWriter) writer() http.ResponseWriter {
	if p.w.hijackable() {
		return httpHijacker{p}
	}
	return p
}

func (p *httpWriter) begin(x *httpExchange, w *serverResponse) {
	p.x, p.w, p.logger = x, w, w.x.srv.logger()
	p.fields = make(http.Header)
	for name, value := range w.header.All() { // of middleware around
		p.fields.Add(name, value)
	}
}

// end waits for who writes, and lets nobody after.
func (p *httpWriter) end() {
	p.w.x.lockBroken(&p.mu, breakWrites)
	p.w = nil
	p.mu.Unlock()
}

// Header returns the fields, of which nothing is final before WriteHeader.
func (p *httpWriter) Header() http.Header { return p.fields }

// WriteHeader makes the head final, or sends an interim one (1xx).
func (p *httpWriter) WriteHeader(code int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.hijacked:
		p.logMisuse("WriteHeader on a hijacked connection")
	case p.w == nil:
	case p.wroteHeader:
		p.logMisuse("superfluous WriteHeader")
	case code < 100 || code > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %v", code))
	case code < 200 && code != http.StatusSwitchingProtocols:
		p.writeInterim(code)
	default:
		p.writeHeader(code)
	}
}

// writeInterim sends the fields so far with a 1xx. They stay (RFC 8297 §2).
func (p *httpWriter) writeInterim(code int) {
	var h Header
	for _, name := range sortedNames(nil, p.fields) {
		if name == "Content-Length" || name == "Transfer-Encoding" {
			continue // RFC 9110 §8.6, RFC 9112 §6.1
		}
		for _, value := range p.fields[name] {
			h.Add(name, value)
		}
	}
	p.w.Informational(code, &h)
}

// writeHeader makes the head final. Nothing is sent by it.
func (p *httpWriter) writeHeader(code int) {
	p.wroteHeader = true
	w := p.w
	w.status = code
	if code == http.StatusRequestEntityTooLarge && p.x.req.Body != http.NoBody && !p.x.body.ended.Load() {
		w.close = true // the rest of such a body is not worth reading
	}
	if cl := p.fields.Get("Content-Length"); cl != "" {
		if n, err := strconv.ParseInt(cl, 10, 64); err != nil || n < 0 {
			p.logMisuse("invalid Content-Length")
			p.fields.Del("Content-Length")
		}
	}
	_, typed := p.fields["Content-Type"]
	p.sniffs = bodyAllowed(code) && !typed && p.fields.Get("Content-Encoding") == "" && p.fields.Get("Transfer-Encoding") == ""
	p.chunked = p.fields.Get("Transfer-Encoding") == "chunked"

	clear(w.header.list)
	w.header.list = w.header.list[:0]
	var few [16]string
	for _, name := range sortedNames(few[:0], p.fields) {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			continue
		}
		for _, value := range p.fields[name] {
			w.header.Add(name, value)
			if name == "Trailer" {
				p.announce(value)
			}
		}
	}
}

// announce notes the names of fields that will follow the body.
func (p *httpWriter) announce(value string) {
	for more := true; more; {
		var name string
		if name, value, more = nextListMember(value); name != "" {
			p.trailers = append(p.trailers, textproto.CanonicalMIMEHeaderKey(name))
		}
	}
}

// open makes the head final, unless there is nobody to write to.
func (p *httpWriter) open() error {
	switch {
	case p.hijacked:
		return http.ErrHijacked
	case p.w == nil:
		return errWriterDone
	case !p.wroteHeader:
		p.writeHeader(p.w.Status())
	}
	return nil
}

// outgrows reports whether n more bytes of body are more than is held back.
// Functions of OnCommit have flare's bound, since they decide by what they see.
func (p *httpWriter) outgrows(n int) bool {
	w, bound := p.w, httpBufferBytes
	if len(w.hooks) > 0 {
		bound = responseBufferMax
	}
	return !w.begun && w.top == nil && len(w.buf)+n > bound
}

// stream begins a response of which n more bytes are coming, which begin with
// head.
func (p *httpWriter) stream(n int, head []byte) error {
	if !p.w.declares(n) {
		return errContentLength
	}
	p.sniff(head)
	if len(p.w.hooks) > 0 {
		return nil // Write calls them
	}
	return p.w.start()
}

// sniff sets a type that was not set, by what the body begins with: what is
// held back and then more.
func (p *httpWriter) sniff(more []byte) {
	if !p.sniffs || p.w.begun || p.w.top != nil { // behind a writer of OnCommit's buf is coded
		return
	}
	held := p.w.buf[:min(len(p.w.buf), sniffBytes)]
	if len(held) < sniffBytes {
		held = append(held[:len(held):len(held)], more[:min(len(more), sniffBytes-len(held))]...)
	}
	if len(held) > 0 {
		p.w.header.Set("Content-Type", http.DetectContentType(held))
	}
}

// Write adds to the body.
func (p *httpWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(); err != nil || len(b) == 0 {
		return 0, err
	}
	if p.outgrows(len(b)) {
		if err := p.stream(len(b), b); err != nil {
			return 0, p.errorOf(err)
		}
	}
	n, err := p.w.Write(b)
	return n, p.errorOf(err)
}

// WriteString adds to the body.
func (p *httpWriter) WriteString(s string) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(); err != nil || len(s) == 0 {
		return 0, err
	}
	if p.outgrows(len(s)) {
		if err := p.stream(len(s), []byte(s[:min(len(s), sniffBytes)])); err != nil {
			return 0, p.errorOf(err)
		}
	}
	n, err := p.w.WriteString(s)
	return n, p.errorOf(err)
}

// ReadFrom adds what src has. A file is sent by the kernel when the length was
// declared.
func (p *httpWriter) ReadFrom(src io.Reader) (int64, error) {
	if file, _ := regularFile(src); file == nil || p.fields.Get("Content-Length") == "" {
		return p.copyFrom(src)
	}
	// Enough to find the type, and to fail before anything is sent.
	n, err := p.copyFrom(io.LimitReader(src, sniffBytes))
	if err != nil || n < sniffBytes {
		return n, err
	}
	m, err := p.sendFile(src)
	return n + m, err
}

// sendFile is ReadFrom of what a file has behind its beginning.
func (p *httpWriter) sendFile(src io.Reader) (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(); err != nil {
		return 0, err
	}
	p.sniff(nil)
	n, err := p.w.ReadFrom(src)
	return n, p.errorOf(err)
}

// copyFrom is ReadFrom through memory. Other goroutines may write and flush
// while src waits.
func (p *httpWriter) copyFrom(src io.Reader) (int64, error) {
	b := getBuffer(streamBytes)
	defer b.release()
	return io.CopyBuffer(struct{ io.Writer }{p}, struct{ io.Reader }{src}, b.b[:cap(b.b)])
}

// Flush sends what was written so far.
func (p *httpWriter) Flush() { p.FlushError() }

// FlushError is Flush for an http.ResponseController.
func (p *httpWriter) FlushError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(); err != nil {
		return err
	}
	p.sniff(nil)
	return p.errorOf(p.w.Flush())
}

// Hijack takes the connection over. A head that was written is sent first.
func (p httpHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.hijacked:
		return nil, nil, http.ErrHijacked
	case p.w == nil:
		return nil, nil, errWriterDone
	}
	if p.wroteHeader {
		p.sniff(nil)
		if err := p.w.Flush(); err != nil {
			return nil, nil, err
		}
	}
	p.x.ctx.localAddr() // is known while the descriptor is the connection's
	p.x.body.Close()    // nobody waits for more of it
	conn, rw, err := p.w.hijackAnyway()
	if errors.Is(err, errors.ErrUnsupported) {
		err = &httpError{http.ErrNotSupported, err}
	}
	p.hijacked = err == nil
	return conn, rw, err
}

// SetReadDeadline is for an http.ResponseController.
func (p *httpWriter) SetReadDeadline(t time.Time) error { return p.x.setReadDeadline(t) }

// SetWriteDeadline is for an http.ResponseController.
func (p *httpWriter) SetWriteDeadline(t time.Time) error { return p.x.setWriteDeadline(t) }

// EnableFullDuplex says that the handler will read on while it writes, so that
// a body which is long and mostly unread does not end the connection. Flare
// never reads a body to make room for the response.
func (p *httpWriter) EnableFullDuplex() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil {
		return errWriterDone
	}
	p.w.x.stream.readsOn()
	return nil
}

// CloseNotify is for handlers that are older than contexts.
func (p *httpWriter) CloseNotify() <-chan bool {
	gone := make(chan bool, 1)
	context.AfterFunc(&p.x.ctx, func() {
		if context.Cause(&p.x.ctx) != errRequestDone {
			gone <- true
		}
	})
	return gone
}

// finish ends a response whose handler has returned.
func (p *httpWriter) finish() error {
	p.w.x.lockBroken(&p.mu, breakWrites)
	defer p.mu.Unlock()
	if p.hijacked {
		return nil
	}
	if !p.wroteHeader {
		p.writeHeader(p.w.Status())
	}
	w := p.w
	p.sniff(nil)
	trailer := p.trailer()
	if (p.chunked || len(p.trailers) > 0 || len(trailer) > 0) && !w.begun && len(w.hooks) == 0 && w.x.stream.hasTrailer() && bodyAllowed(w.Status()) {
		if err := w.start(); err != nil { // in chunks, as announced
			return err
		}
	}
	for _, name := range sortedNames(nil, trailer) {
		for _, value := range trailer[name] {
			w.Trailer().Add(name, value)
		}
	}
	if w.status == http.StatusSwitchingProtocols {
		w.close = true // nobody speaks the other protocol
	}
	return nil
}

// trailer returns the fields for behind the body: those that were announced,
// and those with http.TrailerPrefix.
func (p *httpWriter) trailer() (trailer http.Header) {
	set := func(name string, values []string) {
		if trailer == nil {
			trailer = make(http.Header)
		}
		trailer[name] = values
	}
	for _, name := range p.trailers {
		if values := p.fields[name]; len(values) > 0 {
			set(name, values)
		}
	}
	for name, values := range p.fields {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			set(name, values)
		}
	}
	return trailer
}

// logMisuse logs what a handler should not have done, and where.
func (p *httpWriter) logMisuse(what string) {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		if !strings.Contains(f.Function, ".(*httpWriter).") && !strings.HasPrefix(f.Function, "net/http.") {
			p.logger.Warn("flare: http.Handler: "+what, slog.String("function", f.Function), slog.Int("line", f.Line))
			return
		}
	}
}

// errorOf is httpErrorOf for an error that may be nil.
func (p *httpWriter) errorOf(err error) error {
	if err == nil {
		return nil
	}
	return httpErrorOf(err, p.w.x.srv)
}
