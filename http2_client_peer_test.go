package flare

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// This file has the server of HTTP/2 that tests of the client talk to: it sends
// what it is told to, frame by frame, whatever RFC 9113 says about it.

// An http2Answerer is the server's end of one connection, for one goroutine.
type http2Answerer struct {
	t     testing.TB
	nc    net.Conn
	br    *bufio.Reader
	enc   hpackEncoder
	dec   hpackDecoder
	sect  fieldSection
	reset map[uint32]http2Code // RST_STREAM that have come
	away  *http2Reset          // GOAWAY of the client with a code
	data  map[uint32]int       // octets of DATA that have come
	ended map[uint32]bool
}

// hostileHTTP2 calls serve with each connection, the n-th, behind the client's
// preface. It returns a client that speaks HTTP/2 by prior knowledge, and the URL.
func hostileHTTP2(t testing.TB, serve func(p *http2Answerer, n int)) (*Client, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ; n++ {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				p := newHTTP2Answerer(t, nc)
				preface := make([]byte, len(http2Preface))
				if _, err := io.ReadFull(p.br, preface); err == nil && string(preface) == http2Preface {
					serve(p, n)
				}
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-ended })
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	c := &Client{Protocols: &protocols}
	t.Cleanup(c.CloseIdleConnections)
	return c, "http://" + ln.Addr().String()
}

func newHTTP2Answerer(t testing.TB, nc net.Conn) *http2Answerer {
	p := &http2Answerer{t: t, nc: nc, br: bufio.NewReader(nc), reset: make(map[uint32]http2Code), data: make(map[uint32]int), ended: make(map[uint32]bool)}
	p.enc.reset()
	p.dec.reset()
	return p
}

func (p *http2Answerer) send(b []byte) { p.nc.Write(b) }

// settings sends SETTINGS and acknowledges nothing.
func (p *http2Answerer) settings(s ...http2Setting) { p.send(appendSettings(nil, s...)) }

// next reads a frame, and answers SETTINGS and PING.
func (p *http2Answerer) next() (h http2Head, payload []byte, ok bool) {
	for {
		var b [http2HeadBytes]byte
		if _, err := io.ReadFull(p.br, b[:]); err != nil {
			return h, nil, false
		}
		h = parseHTTP2Head(&b)
		payload = make([]byte, h.length)
		if _, err := io.ReadFull(p.br, payload); err != nil {
			return h, nil, false
		}
		switch {
		case h.kind == frameSettings && !h.ack():
			p.send(appendSettingsAck(nil))
		case h.kind == framePing && !h.ack():
			p.send(appendHTTP2Ping(nil, [pingBytes]byte(payload), true))
		case h.kind == frameRSTStream:
			p.reset[h.stream] = parseRSTStream(payload)
		case h.kind == frameGoAway:
			if _, code, _ := parseGoAway(payload); code != codeNone {
				p.away = &http2Reset{code: code, away: true}
			}
		case h.kind == frameData:
			p.data[h.stream] += len(payload)
			p.ended[h.stream] = h.endStream()
		}
		return h, payload, true
	}
}

// request reads up to the next request. ok is false at the end of the connection.
func (p *http2Answerer) request() (stream uint32, ok bool) {
	for {
		h, payload, ok := p.next()
		if !ok {
			return 0, false
		}
		if h.kind != frameHeaders {
			continue
		}
		p.sect.reset(&sectionLimits)
		if err := p.dec.decode(&p.sect, payload, h.endHeaders()); err != nil || !h.endHeaders() {
			p.t.Errorf("field block of a request: %v", err)
		}
		p.ended[h.stream] = h.endStream()
		return h.stream, true
	}
}

// drain reads to the end of the connection.
func (p *http2Answerer) drain() {
	for {
		if _, _, ok := p.next(); !ok {
			return
		}
	}
}

// headers appends a HEADERS frame with these fields.
func (p *http2Answerer) headers(b []byte, stream uint32, end bool, fields ...[2]string) []byte {
	b, at := beginHeaders(b)
	b = p.enc.begin(b)
	for _, f := range fields {
		b = p.enc.appendField(b, f[0], f[1])
	}
	return endHeaders(b, at, stream, end, frameSizeDefault)
}

// answer sends a response.
func (p *http2Answerer) answer(stream uint32, body string) {
	b := p.headers(nil, stream, body == "", [2]string{":status", "200"})
	if body != "" {
		b = appendData(b, stream, []byte(body), true)
	}
	p.send(b)
}

// serveAll answers all requests.
func (p *http2Answerer) serveAll(body string) {
	p.settings()
	for {
		stream, ok := p.request()
		if !ok {
			return
		}
		p.answer(stream, body)
	}
}

// soon is a context for calls that end in no time.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wantClientError checks phase and kind of an error.
func wantClientError(t testing.TB, err error, phase ClientPhase, kind error) {
	t.Helper()
	var e *ClientError
	if !errors.As(err, &e) || e.Phase != phase || e.Kind != kind {
		t.Errorf("error is %v (%+v), want phase %s and kind %v", err, e, phase, kind)
	}
}

// A tlsProtocols is net/http's server behind TLS with some versions.
type tlsProtocols struct {
	url   string
	roots *x509.CertPool
}

func newTLSProtocols(t testing.TB, p *http.Protocols) tlsProtocols {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
	}))
	srv.EnableHTTP2 = p == nil || p.HTTP2()
	srv.Config.Protocols = p
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return tlsProtocols{srv.URL, srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
}
