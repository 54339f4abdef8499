package flare

import (
	"context"
	"io"
	"net/http"
	"time"
)

// This file is layer 4 (roles): a body of an http.Request whose length
// is unknown: it may be empty. client_transport.go calls it.

// probeTime is what a body gets to show whether it is empty.
const probeTime = 200 * time.Millisecond

// probeBody looks whether a body of unknown length is empty, where the method
// usually has none: net/http does so, since servers stumble over the chunks of
// a GET, and http.NewRequest cannot tell the length of most readers.
func probeBody(ctx context.Context, x *clientCall) {
	r := x.req
	if r.Body == nil || r.Trailer != nil || r.knownLength() >= 0 || !usuallyBare(x.method) {
		return
	}
	p := &probedBody{Reader: r.Body, read: make(chan struct{})}
	go p.probe()
	late := time.NewTimer(probeTime)
	defer late.Stop()
	select {
	case <-p.read:
		if p.n == 0 && p.err == io.EOF {
			r.Body.(io.Closer).Close()
			r.Body, r.GetBody, r.closes = nil, nil, false
			return
		}
	case <-late.C:
	case <-ctx.Done():
	}
	r.Body = p
}

// usuallyBare says whether requests of a method usually have no body.
func usuallyBare(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "PROPFIND", "SEARCH":
		return true
	}
	return false
}

// A probedBody is a body whose first octet is read before it is asked for.
type probedBody struct {
	io.Reader               // an io.Closer too
	read      chan struct{} // closed once first, n and err are set
	first     [1]byte
	n         int
	err       error // of the read of the first octet, until it was handed out
	begun     bool  // owned by who reads: the first octet was handed out
}

func (p *probedBody) probe() {
	for range lineEmptyReads {
		if p.n, p.err = p.Reader.Read(p.first[:]); p.n > 0 || p.err != nil {
			break
		}
	}
	if p.n == 0 && p.err == nil {
		p.err = io.ErrNoProgress
	}
	close(p.read)
}

func (p *probedBody) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if !p.begun {
		<-p.read
		p.begun = true
		return copy(b, p.first[:p.n]), p.err
	}
	if p.err != nil {
		return 0, p.err
	}
	return p.Reader.Read(b)
}

func (p *probedBody) Close() error { return p.Reader.(io.Closer).Close() }
