package flare

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// This file is layer 4 (roles): a request as the client's user makes it, and
// how Go values become bodies. It does not know connections.

// A ClientRequest is a request to be sent. It may be used again once the
// response's body has been read or closed, by one goroutine at a time.
type ClientRequest struct {
	Method string // "" is GET
	URL    string // absolute, or relative to the client's BaseURL
	Header Header // a field here replaces the client's default of that name

	// Body is sent to its end; nil is no body. Where ContentLength is 0 and
	// Body is no *bytes.Reader, *bytes.Buffer or *strings.Reader, its length
	// is unknown and it is sent in chunks. SetBody is the comfortable way to
	// set it.
	//
	// The server may answer before it has all of it. It is then read until the
	// response's body has been read or closed; that, an error of Do and the end
	// of the context break a Read off: a Body that was begun and is an io.Closer
	// is closed, unless it is an io.Seeker that can be rewound. One that was sent
	// to its end, or not begun, is not closed.
	Body          io.Reader
	ContentLength int64 // of Body, in bytes

	// GetBody returns the body once more, for a redirect or another attempt.
	// nil: a Body that is an io.Seeker is rewound, any other is sent once.
	GetBody func() (io.Reader, error)

	// Trailer sets the fields that are sent behind the body, in a Header that
	// is empty. It is called when Body has ended, once each time the body is
	// sent, by the goroutine that sends. The body is sent in chunks then. nil:
	// none.
	Trailer func(*Header)

	// Progress is told how much of the body was sent, and the total, -1 where
	// it is unknown. It is called by the goroutine that sends.
	Progress func(sent, total int64)

	// Close says that the connection is not to be used again.
	Close bool

	// KeepEncoded leaves the response as it comes: compression is neither
	// asked for nor removed.
	KeepEncoded bool

	payload []byte // the body if it lies in memory; Body is nil then
	inMem   bool   // payload counts
	start   int64  // where Body, an io.Seeker, began
	seeks   bool   // start counts
	sent    bool   // Body has been read from

	form     bool   // GetBody is that of a ClientForm
	autoType string // the Content-Type that SetBody has set; "" for none
	closes   bool   // Body is closed once it was sent: Transport's duty

	upload *clientUpload // may still read from Body; it has to end before Body begins again
}

// SetBody makes v the body. A []byte is sent as it is, without a content type.
// A string is taken for JSON text and sent as it is, as application/json.
// url.Values are sent as a form, and so is a *ClientForm, with files. An io.Reader is streamed. nil is no body.
// Anything else, a *string too, is encoded as JSON. A Content-Type that is set
// already stays, but for the one of a body before that SetBody has set itself.
func (r *ClientRequest) SetBody(v any) error {
	if r.form {
		r.GetBody, r.form = nil, false // it was that of the body before
	}
	r.Body, r.payload, r.inMem, r.seeks, r.sent, r.upload = nil, nil, false, false, false, nil
	r.ContentLength = 0
	if r.autoType != "" && r.Header.Get("Content-Type") == r.autoType {
		r.Header.Del("Content-Type") // it was that of the body before
	}
	r.autoType = ""
	switch v := v.(type) {
	case nil:
	case []byte:
		r.payload, r.inMem = v, true
	case string:
		r.setPayload([]byte(v), "application/json")
	case url.Values:
		r.setPayload([]byte(v.Encode()), "application/x-www-form-urlencoded")
	case *ClientForm:
		r.setForm(v)
	case io.Reader:
		r.Body = v
	default:
		p, err := json.Marshal(v)
		if err != nil {
			return invalidRequest("", err)
		}
		r.setPayload(p, "application/json")
	}
	return nil
}

// setForm makes f the body.
func (r *ClientRequest) setForm(f *ClientForm) {
	boundary := rand.Text()
	r.Body = f.reader(boundary)
	if length, known := f.length(boundary); known {
		r.ContentLength, r.form = length, true
		r.GetBody = func() (io.Reader, error) { return f.rewound(boundary) }
	}
	if r.Header.Get("Content-Type") == "" {
		r.autoType = "multipart/form-data; boundary=" + boundary
		r.Header.Set("Content-Type", r.autoType)
	}
}

func (r *ClientRequest) setPayload(p []byte, contentType string) {
	r.payload, r.inMem = p, true
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", contentType)
		r.autoType = contentType
	}
}

var errNotRewindable = errors.New("flare: the body can be sent only once")

// Rewind makes the body begin again. It fails if the body is one that can be
// sent only once and was.
func (r *ClientRequest) Rewind() error {
	switch {
	case r.inMem || r.Body == nil && r.GetBody == nil || !r.sent:
		return nil
	case r.GetBody != nil:
		body, err := r.GetBody()
		if err != nil {
			return err
		}
		r.Body = body
	case r.seeks:
		if _, err := r.Body.(io.Seeker).Seek(r.start, io.SeekStart); err != nil {
			return err
		}
	default:
		return errNotRewindable
	}
	r.sent = false
	return nil
}

// bodyToClose returns what giving the body up closes, nil for nothing. A file, say,
// is left open, for another attempt.
func (r *ClientRequest) bodyToClose() io.Closer {
	if r.inMem || r.seeks && !r.closes {
		return nil
	}
	closer, _ := r.Body.(io.Closer)
	return closer
}

// rewindable says whether Rewind can work.
func (r *ClientRequest) rewindable() bool {
	return r.inMem || r.Body == nil || !r.sent || r.GetBody != nil || r.seeks
}

// hasBody says whether there is a body, were it an empty one.
func (r *ClientRequest) hasBody() bool {
	return r.inMem || r.Body != nil && r.Body != http.NoBody
}

// beginBody readies the body for being sent, and returns its length, -1 for
// unknown. Who reads from Body then sets sent.
func (r *ClientRequest) beginBody() (length int64, err error) {
	switch {
	case r.inMem:
		return int64(len(r.payload)), nil
	case !r.hasBody():
		return 0, nil
	}
	if err := r.Rewind(); err != nil {
		return 0, err
	}
	length = r.knownLength()
	if s, ok := r.Body.(io.Seeker); ok && !r.sent && !r.seeks {
		if at, err := s.Seek(0, io.SeekCurrent); err == nil { // a pipe has a Seek that fails
			r.start, r.seeks = at, true
		}
	}
	return length, nil
}

func (r *ClientRequest) knownLength() int64 {
	if r.ContentLength > 0 {
		return r.ContentLength
	}
	switch b := r.Body.(type) {
	case *bytes.Reader:
		return int64(b.Len())
	case *bytes.Buffer:
		return int64(b.Len())
	case *strings.Reader:
		return int64(b.Len())
	}
	return -1
}

// check says why a request cannot be sent.
func (r *ClientRequest) check() error {
	if r.Method != "" && !isToken(r.Method) { // RFC 9110 §9.1
		return invalidRequest("", errors.New("flare: method is not a token"))
	}
	if r.Method == http.MethodConnect {
		return invalidRequest("", errors.New("flare: CONNECT is the proxies' own"))
	}
	if r.Method == http.MethodTrace && (len(r.payload) > 0 || r.Body != nil && r.Body != http.NoBody) { // RFC 9110 §9.3.8
		return invalidRequest("", errors.New("flare: TRACE has no content"))
	}
	if r.Header.isHandlers() { // a copy of a handler's, which ends with it
		r.Header = *r.Header.Clone()
	}
	if err := r.Header.fault(); err != nil {
		return invalidRequest("", err)
	}
	if err := checkHostField(&r.Header); err != nil {
		return invalidRequest("", err)
	}
	if r.ContentLength < 0 {
		return invalidRequest("", errors.New("flare: negative ContentLength"))
	}
	return nil
}

// checkHostField says why a Host cannot be sent.
func checkHostField(h *Header) error {
	if f := h.snapshot(); f.has("Host") && !isAuthority([]byte(f.Get("Host"))) {
		return errors.New("flare: Host is not a host and an optional port")
	}
	return nil
}

// checkTrailer says why a trailer section cannot be sent.
func checkTrailer(h *Header) error {
	f := h.snapshot()
	if f.err != nil {
		return f.err
	}
	for name := range f.All() {
		if !allowedInTrailer(name) {
			return fmt.Errorf("flare: field %s in a trailer section (RFC 9110 §6.5.1)", name)
		}
	}
	return nil
}

// isIdempotent says whether a request may be sent twice (RFC 9110 §9.2.2).
func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
