package flare

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is layer 4 (roles): the client as net/http's RoundTripper: one
// exchange, without redirects, cookies, authorization, middleware and the
// client's own fields, all of which http.Client has.

// Transport returns the client's connections as a http.RoundTripper. Proxy, TLS,
// limits and pool are the client's; BaseURL, Header, Auth, Jar, Wrap and
// redirects are left out. Its CloseIdleConnections is the client's.
func (c *Client) Transport() http.RoundTripper { return clientTransport{c} }

type clientTransport struct{ c *Client }

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t clientTransport) CloseIdleConnections() { t.c.CloseIdleConnections() }

var errNilURL = errors.New("flare: nil Request.URL")

// RoundTrip sends one request.
func (t clientTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := t.c
	if c.once.Do(c.prepare); c.initErr != nil {
		closeRequestBody(req)
		return nil, c.initErr
	}
	x, err := transportCall(req)
	if err != nil {
		closeRequestBody(req)
		return nil, err
	}
	if c.cfg.timeout > 0 {
		x.by = time.Now().Add(c.cfg.timeout)
	}
	probeBody(req.Context(), x)
	resp, err := c.roundTrip(req.Context(), x)
	if body, ok := x.req.Body.(io.Closer); ok && x.req.upload == nil {
		body.Close() // RoundTrip's duty, whether or not it was sent; else the upload's
	}
	if err != nil {
		return nil, err
	}
	return httpResponse(resp, req), nil
}

func closeRequestBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// transportCall translates a request.
func transportCall(req *http.Request) (*clientCall, error) {
	if req.URL == nil {
		return nil, invalidRequest("", errNilURL)
	}
	target, err := transportTarget(req)
	if err != nil {
		return nil, err
	}
	target.user = nil
	r := &ClientRequest{Method: req.Method, Close: req.Close}
	if req.Host != "" && req.Host != target.authority {
		r.Header.Set("Host", req.Host)
	}
	for name, values := range req.Header {
		if equalFoldASCII(name, "Host") { // as net/http has it: req.Host says it
			continue
		}
		for _, value := range values {
			r.Header.Add(name, value)
		}
	}
	if user := req.URL.User; user != nil && req.Header.Get("Authorization") == "" {
		r.Header.Set("Authorization", basicCredentials(user))
	}
	if req.Body != nil && req.Body != http.NoBody {
		r.setHTTPBody(req)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return &clientCall{req: r, method: r.method(), target: target, decodes: req.Method != http.MethodHead}, nil
}

// setHTTPBody gives r the body of req, and its trailer.
func (r *ClientRequest) setHTTPBody(req *http.Request) {
	if req.Trailer != nil {
		r.Trailer = func(h *Header) { addHTTPFields(h, req.Trailer) } // final by then
		if names := slices.Sorted(maps.Keys(req.Trailer)); len(names) > 0 && !r.Header.has("Trailer") {
			r.Header.Set("Trailer", strings.Join(names, ", ")) // RFC 9110 §6.6.2
		}
	}
	r.Body, r.ContentLength, r.closes = req.Body, max(req.ContentLength, 0), true
	if req.GetBody != nil {
		r.GetBody = func() (io.Reader, error) { return req.GetBody() }
	}
}

// addHTTPFields adds fields of net/http's to h.
func addHTTPFields(h *Header, fields http.Header) {
	for name, values := range fields {
		for _, value := range values {
			h.Add(name, value)
		}
	}
}

// transportTarget takes a request's URL apart, with the forms of a target that
// http.Request has beside a path: "*" of OPTIONS, and Opaque.
func transportTarget(req *http.Request) (clientTarget, error) {
	u := *req.URL
	opaque := u.Opaque
	star := u.Path == "*" && req.Method == http.MethodOptions && opaque == "" && u.RawQuery == "" && !u.ForceQuery
	if opaque == "" && !star {
		return targetOf(&u, PhaseRequest)
	}
	u.Opaque, u.Path, u.RawPath = "", "/", ""
	t, err := targetOf(&u, PhaseRequest)
	if err != nil {
		return t, err
	}
	if star { // RFC 9112 §3.2.4
		t.path = "*"
		return t, nil
	}
	switch { // as http.Request writes it
	case strings.HasPrefix(opaque, "//"):
		opaque, t.absolute = t.scheme()+":"+opaque, true
	case strings.HasPrefix(opaque, "http://"), strings.HasPrefix(opaque, "https://"):
		t.absolute = true
	case opaque[0] != '/':
		return t, invalidURL(PhaseRequest, ruleURLForm)
	}
	t.path = escapeTarget(opaque) + strings.TrimPrefix(t.path, "/") // the query
	return t, nil
}

// httpResponse translates a response.
func httpResponse(resp *ClientResponse, req *http.Request) *http.Response {
	out := &http.Response{
		Status:        strconv.Itoa(resp.StatusCode),
		StatusCode:    resp.StatusCode,
		Proto:         resp.Proto(),
		ProtoMajor:    int(resp.major),
		ProtoMinor:    int(resp.minor),
		Header:        make(http.Header, resp.Header.Len()),
		Body:          resp.Body,
		ContentLength: resp.ContentLength,
		Uncompressed:  resp.Decoded,
		Request:       req,
		TLS:           resp.TLS(),
		Close:         resp.closes,
	}
	switch {
	case resp.major == 2:
		out.ProtoMinor = 0
		out.Status += " " + http.StatusText(resp.StatusCode)
	case !resp.bare:
		out.Status += " " + resp.Reason()
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		out.ContentLength = 0 // of the response; http.Response.Write takes -1 for a reason to close
	}
	for name, value := range resp.Header.All() {
		switch {
		case equalFoldASCII(name, "Transfer-Encoding"):
			out.TransferEncoding = []string{"chunked"}
		case equalFoldASCII(name, "Trailer"):
			out.Trailer = addTrailerNames(out.Trailer, value)
		default:
			out.Header.Add(name, value)
		}
	}
	if resp.body.kind == bodyChunked || resp.body.kind == bodyFramed {
		out.Body = &httpTrailerBody{ReadCloser: resp.Body, resp: resp, out: out}
	}
	return out
}

func addTrailerNames(trailer http.Header, list string) http.Header {
	if trailer == nil {
		trailer = make(http.Header)
	}
	for more := true; more; {
		var name string
		if name, list, more = nextListMember(list); isToken(name) && allowedInTrailer(name) {
			trailer[http.CanonicalHeaderKey(name)] = nil
		}
	}
	return trailer
}

// An httpTrailerBody fills http.Response.Trailer in when the body has ended.
type httpTrailerBody struct {
	io.ReadCloser
	resp  *ClientResponse
	out   *http.Response
	ended bool // Trailer is filled in
}

func (b *httpTrailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && !b.ended {
		b.ended = true
		for name, value := range b.resp.Trailer().All() {
			if b.out.Trailer == nil {
				b.out.Trailer = make(http.Header)
			}
			b.out.Trailer.Add(name, value)
		}
	}
	return n, err
}
