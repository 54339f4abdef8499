package flare

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
)

// This file is layer 4 (roles): a response as the client's user sees it.

const (
	excerptBytesMax = 1 << 10

	// headerFieldsKept is how many fields a response has room for in itself. With
	// one more it would be of the allocator's next size.
	headerFieldsKept = 11
)

// A ClientResponse is a response. Its strings stay valid for ever. Body is to
// be read to its end or closed; Bytes, Text, JSON, Err, SaveFile do both. The
// methods are for one goroutine at a time.
type ClientResponse struct {
	StatusCode int
	Header     Header
	Body       io.ReadCloser // never nil

	// ContentLength is what Body will give, in bytes; -1: unknown. Of an answer
	// to HEAD it is what the answer to GET would give.
	ContentLength int64

	// Decoded says that the body came compressed and Body gives it plain;
	// Content-Encoding and Content-Length are gone from Header.
	Decoded bool

	major  uint8 // version of HTTP
	minor  uint8
	closes bool // the server ends the connection behind it
	bare   bool // the status line ends with the status code

	// Progress is told how much of the body was read, in bytes as they came
	// over the wire, and of how many, -1 where that is unknown. It is called
	// by whoever reads.
	Progress func(read, total int64)

	reason string
	method string
	text   string // of the URL
	origin clientOrigin
	tls    *tls.ConnectionState
	body   clientBody
	own    headerFields // Header's
	fields [headerFieldsKept]headerField
}

// OK reports whether the status is 2xx.
func (r *ClientResponse) OK() bool { return r.StatusCode >= 200 && r.StatusCode < 300 }

// Reason returns the reason phrase that was sent; it may be empty, and over HTTP/2
// it is.
func (r *ClientResponse) Reason() string { return r.reason }

// Proto returns "HTTP/2.0", "HTTP/1.1" or "HTTP/1.0".
func (r *ClientResponse) Proto() string {
	if r.major == 2 {
		return "HTTP/2.0"
	}
	if r.minor == 0 {
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// URL returns the URL that answered, after redirects, in a new value. It has the
// fragment that the request's URL had, unless a redirect named another.
func (r *ClientResponse) URL() *url.URL {
	u, _ := url.Parse(r.text) // parseTarget has seen it to be one
	return u
}

// TLS returns the state of the connection, which its responses share, nil for
// http.
func (r *ClientResponse) TLS() *tls.ConnectionState { return r.tls }

// Trailer returns the fields that came behind a chunked body, once Body has
// been read to its end.
func (r *ClientResponse) Trailer() *Header {
	if r.body.trailer == nil {
		r.body.trailer = new(Header)
	}
	return r.body.trailer
}

// Err returns nil for a 2xx status and else a *ResponseError with the front of
// the body, which is read and closed for that.
func (r *ClientResponse) Err() error {
	if r.OK() {
		return nil
	}
	return r.failure()
}

// failure makes an error of the response, whatever its status.
func (r *ClientResponse) failure() error {
	e := &ResponseError{StatusCode: r.StatusCode, Method: r.method, Host: r.origin.hostPort()}
	p := make([]byte, excerptBytesMax)
	n, _ := io.ReadFull(r.Body, p) // what came is what there is to show
	e.Excerpt = string(p[:n])
	r.Body.Close()
	return e
}

// Bytes reads the rest of the body, at most the client's MaxBufferedBytes, and
// closes it. Beyond that the error is ErrTooLarge.
func (r *ClientResponse) Bytes() ([]byte, error) {
	defer r.Body.Close()
	if r.Body == io.ReadCloser(&r.body) && r.Progress == nil {
		if p, ok := r.body.takeMemory(); ok {
			return p, nil
		}
	}
	limit := r.body.bufferedMax
	if limit < 0 {
		limit = 1<<63 - 1
	}
	length := r.ContentLength
	if r.body.kind == bodyNone { // it is that of the body which a GET would have
		length = 0
	}
	if length > limit {
		return nil, r.tooLarge()
	}
	p := make([]byte, 0, min(max(length+1, bufferBytesMin), bufferBytesMax))
	for {
		if len(p) == cap(p) {
			p = append(p, 0)[:len(p)]
		}
		n, err := r.Body.Read(p[len(p):cap(p)])
		p = p[:len(p)+n]
		if int64(len(p)) > limit {
			return nil, r.tooLarge()
		}
		if err == io.EOF {
			return p, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *ClientResponse) tooLarge() error {
	return &ClientError{Phase: PhaseBody, Host: r.origin.hostPort(), Kind: ErrTooLarge}
}

// Text is Bytes as a string, whatever the content type says.
func (r *ClientResponse) Text() (string, error) {
	p, err := r.Bytes()
	return viewString(p), err // nobody else has p
}

// JSON decodes the body, which must be one JSON value, into v. A status other
// than 2xx is a *ResponseError.
func (r *ClientResponse) JSON(v any) error {
	if err := r.Err(); err != nil {
		return err
	}
	p, err := r.Bytes()
	if err != nil {
		return err
	}
	return json.Unmarshal(p, v)
}

// A Doer sends a request. Client.Do is one; middleware wraps one in another.
type Doer func(ctx context.Context, r *ClientRequest) (*ClientResponse, error)

// method returns the method of a request, GET by default.
func (r *ClientRequest) method() string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}
