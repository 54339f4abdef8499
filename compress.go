package flare

import (
	"compress/flate"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// This file is layer 5 (surface): the middleware that compresses responses. It
// knows which responses to leave alone and what else of a response changes
// with its coding; encoding.go has the codings.

const (
	// compressBytesMin is where compressing begins to pay: less fits one packet
	// with its head either way.
	compressBytesMin = 1024

	// compressLevel is that of compress/flate: on pages, source and JSON 6 to 9
	// take a quarter to twice as long for one to three percent less.
	compressLevel = 4
)

// Compress is a middleware that sends responses in gzip or deflate to clients
// that accept it (RFC 9110 §12.5.3), with the defaults of Compressor.
func Compress(h Handler) Handler { return new(Compressor).Wrap(h) }

// A Compressor is Compress with other settings. The zero value has the
// defaults. It must not be changed once it is in use.
//
// Compressed are responses of a type that it is worth for, of at least
// MinBytes, or flushed before they have that many. Never those with a Content-Encoding, a
// Content-Range, a digest of their content, or Cache-Control: no-transform, nor
// 206 and what has no content. A response that could be compressed says Vary:
// Accept-Encoding; one that is loses Content-Length and Accept-Ranges, and its
// ETag becomes weak. Each Flush reaches the client whole.
//
// Do not compress, on one page over TLS, a secret together with what a
// stranger can choose: the length tells of the secret (BREACH).
type Compressor struct {
	MinBytes int // bytes of content; default 1024, negative: any
	Level    int // 1 (fast) to 9 (small); default 4
	// Types says whether content of that type is worth compressing; it is given
	// the type in lower case without parameters. Default: text/*, JSON,
	// JavaScript, XML, SVG, WebAssembly and a few more.
	Types func(contentType string) bool
}

// Wrap is the middleware.
func (c *Compressor) Wrap(h Handler) Handler {
	return &compressHandler{
		Handler: h, pin: pinOf(h), types: c.Types,
		level: c.level(), minBytes: c.minBytes(),
	}
}

func (c *Compressor) level() int {
	if c.Level < flate.BestSpeed || c.Level > flate.BestCompression {
		return compressLevel
	}
	return c.Level
}

func (c *Compressor) minBytes() int {
	if c.MinBytes == 0 {
		return compressBytesMin
	}
	return max(c.MinBytes, 0)
}

type compressHandler struct {
	Handler
	pin             pin
	types           func(string) bool
	level, minBytes int
}

func (h *compressHandler) pinned() pin { return h.pin }

func (h *compressHandler) Serve(w *ResponseWriter, r *Request) error {
	cw := newCompressWriter()
	cw.h, cw.r = h, r
	w.OnCommit(cw.hook)
	return h.Handler.Serve(w, r)
}

// A compressWriter is between a handler and one response. It decides at the
// first octet that has to leave, when nothing of the head has left yet.
type compressWriter struct {
	h      *compressHandler
	r      *Request
	header *Header
	next   io.WriteCloser
	status int
	coding string // to use, "" for none
	e      *Encoder
	held   []byte     // fewer than minBytes, not decided
	begun  bool       // decided
	hook   CommitFunc // bind, made once
}

var compressWriters sync.Pool

func newCompressWriter() *compressWriter {
	if cw, _ := compressWriters.Get().(*compressWriter); cw != nil {
		return cw
	}
	cw := new(compressWriter)
	cw.hook = cw.bind
	return cw
}

// bind is the CommitFunc.
func (cw *compressWriter) bind(status int, header *Header, next io.WriteCloser) io.WriteCloser {
	cw.status, cw.header, cw.next = status, header, next
	cw.e, cw.held, cw.begun = nil, cw.held[:0], false // of a response that failed
	if status == http.StatusNotModified {
		cw.notModified()
	}
	if !cw.eligible() {
		cw.begun = true
	}
	return cw
}

// eligible says whether the response may be compressed for anyone, its size
// apart.
func (cw *compressWriter) eligible() bool {
	if !bodyAllowed(cw.status) || cw.status == http.StatusPartialContent {
		return false
	}
	for _, name := range [...]string{"Content-Encoding", "Content-Range", "Content-Digest", "Digest", "Content-MD5"} {
		if cw.header.has(name) {
			return false
		}
	}
	for name, value := range cw.header.All() {
		if equalFoldASCII(name, "Cache-Control") && listContains(value, "no-transform") { // RFC 9111 §5.2.2.6
			return false
		}
	}
	kind, _, _ := strings.Cut(cw.header.Get("Content-Type"), ";")
	kind = lowerName(trimBlank(kind))
	if cw.h.types != nil {
		return cw.h.types(kind)
	}
	return isCompressible(kind)
}

// isCompressible says whether a type is text in the widest sense.
func isCompressible(kind string) bool {
	if strings.HasPrefix(kind, "text/") || strings.HasSuffix(kind, "+json") || strings.HasSuffix(kind, "+xml") {
		return true
	}
	switch kind {
	case "application/json", "application/javascript", "application/xml", "application/wasm", "application/x-ndjson",
		"application/x-javascript", "application/rtf", "application/yaml",
		"application/vnd.ms-fontobject", "font/ttf", "font/otf", "image/bmp", "image/x-icon":
		return true
	}
	return false
}

// begin settles the coding. large: the content has at least minBytes, or is a
// stream.
func (cw *compressWriter) begin(large bool) error {
	cw.begun = true
	if large {
		if n, err := strconv.ParseInt(cw.header.Get("Content-Length"), 10, 64); err == nil && n < int64(cw.h.minBytes) {
			large = false
		}
	}
	if !large {
		return nil
	}
	addVary(cw.header, "Accept-Encoding")
	coding := acceptedCoding(cw.r)
	if coding == "" {
		return nil
	}
	cw.header.Set("Content-Encoding", coding)
	cw.header.Del("Content-Length")
	cw.header.Del("Accept-Ranges") // ranges would be of what is not sent
	weakenETag(cw.header)
	var err error
	cw.e, err = NewEncoder(cw.next, coding, cw.h.level)
	return err
}

// acceptedCoding chooses the coding for a request.
func acceptedCoding(r *Request) string {
	var room [2]string
	accept := room[:0]
	for name, value := range r.Header().All() {
		if equalFoldASCII(name, "Accept-Encoding") {
			accept = append(accept, value)
		}
	}
	return NegotiateEncoding(accept, codingGzip, codingDeflate)
}

// addVary adds a member to Vary, unless it is there.
func addVary(h *Header, name string) {
	if f := h.enterToSet(); f != nil {
		defer h.exit()
		f.vary(name)
	}
}

// weakenETag: what is sent is no longer octet by octet what the tag was made
// for (RFC 9110 §8.8.1).
func weakenETag(h *Header) {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		h.Set("ETag", "W/"+tag)
	}
}

// notModified makes a 304 name the ETag that the client has, if that is the
// weak one of a compressed response (RFC 9110 §15.4.5).
func (cw *compressWriter) notModified() {
	tag := cw.header.Get("ETag")
	if !strings.HasPrefix(tag, `"`) {
		return
	}
	for name, value := range cw.r.Header().All() {
		if equalFoldASCII(name, "If-None-Match") && strings.Contains(value, "W/"+tag) {
			weakenETag(cw.header)
			addVary(cw.header, "Accept-Encoding")
			return
		}
	}
}

func (cw *compressWriter) Write(p []byte) (int, error) {
	if !cw.begun {
		if len(cw.held)+len(p) < cw.h.minBytes {
			cw.held = append(cw.held, p...)
			return len(p), nil
		}
		if err := cw.release(true); err != nil {
			return 0, err
		}
	}
	if cw.e != nil {
		return cw.e.Write(p)
	}
	return cw.next.Write(p)
}

// release decides, and lets go of what was held.
func (cw *compressWriter) release(large bool) error {
	if err := cw.begin(large); err != nil || len(cw.held) == 0 {
		return err
	}
	held := cw.held
	cw.held = cw.held[:0]
	_, err := cw.Write(held)
	return err
}

// Flush sends everything written so far. A response that is flushed is a
// stream, and compressed however little of it there is yet.
func (cw *compressWriter) Flush() error {
	if !cw.begun {
		if err := cw.release(true); err != nil {
			return err
		}
	}
	if cw.e != nil {
		if err := cw.e.Flush(); err != nil {
			return err
		}
	}
	if f, ok := cw.next.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}

func (cw *compressWriter) Close() error {
	if !cw.begun {
		// An answer to HEAD may have a length and nothing behind it: its fields
		// are those of the answer to GET (RFC 9110 §9.3.2).
		declared := cw.header.has("Content-Length") && len(cw.held) == 0
		if err := cw.release(declared && cw.r.Method() == http.MethodHead); err != nil {
			return err
		}
		if declared {
			cw.e = nil // even the end of a coded body would count as its length
		}
	}
	if cw.e != nil {
		if err := cw.e.Close(); err != nil {
			return err
		}
	}
	next := cw.next
	*cw = compressWriter{hook: cw.hook, held: cw.held[:0]}
	if !raceEnabled { // under the race detector nothing is reused
		compressWriters.Put(cw)
	}
	return next.Close()
}
