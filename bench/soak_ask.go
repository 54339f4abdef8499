//go:build linux

package main

// This file has the requests of -soak, made at random, each with what its answer has to be. They go
// over any http.RoundTripper: net/http's, flare's, and a bare connection here.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"flare/bench/content"
)

// A soakAsk is one request.
type soakAsk struct {
	method, path string
	body         io.Reader
	length       int64 // of the body, -1: not told
	fields       [2]string
	want         int
	check        func(resp *http.Response) error
	abandon      bool // read a part, then leave
}

func bodyIs(want string) func(*http.Response) error {
	return func(resp *http.Response) error {
		got, err := io.ReadAll(resp.Body)
		if err == nil && string(got) != want {
			err = wrongf("body %.80q, %.80q is due", got, want)
		}
		return err
	}
}

// contentIs expects the bytes of seed from off on, n of them.
func contentIs(seed uint64, off, n int64) func(*http.Response) error {
	return func(resp *http.Response) error {
		c := content.Checker{Seed: seed, Off: off}
		_, err := io.Copy(&c, resp.Body)
		var wrong *content.Wrong
		switch {
		case errors.As(err, &wrong):
			return wrongAnswer(wrong.Error())
		case err == nil && c.Off != off+n:
			return wrongf("%d bytes came, %d are due", c.Off-off, n)
		}
		return err
	}
}

// someBytes is mostly few, now and then up to 2 MiB.
func someBytes(r *rand.Rand) int64 {
	switch r.IntN(10) {
	case 0:
		return r.Int64N(2 << 20)
	case 1, 2, 3:
		return r.Int64N(64 << 10)
	}
	return r.Int64N(2 << 10)
}

// anyAsk makes a request of any kind.
func anyAsk(r *rand.Rand) *soakAsk {
	switch r.IntN(12) {
	case 0, 1, 2:
		return askBytes(r)
	case 3, 4:
		return askSum(r, someBytes(r))
	case 5:
		p := make([]byte, r.IntN(16<<10))
		content.Fill(p, r.Uint64(), 0)
		return &soakAsk{method: "POST", path: "/echo", body: bytes.NewReader(p), length: int64(len(p)), want: 200, check: bodyIs(string(p))}
	case 6:
		ms := r.IntN(30)
		return &soakAsk{method: "GET", path: fmt.Sprint("/sleep?ms=", ms), want: 200, check: bodyIs(fmt.Sprint(ms))}
	case 7:
		from := r.Int64N(content.FileBytes)
		to := from + r.Int64N(content.FileBytes-from)
		return &soakAsk{method: "GET", path: "/file", fields: [2]string{"Range", fmt.Sprintf("bytes=%d-%d", from, to)},
			want: 206, check: contentIs(content.FileSeed, from, to-from+1)}
	case 8:
		return &soakAsk{method: "GET", path: "/nothing/here", want: 404, check: func(*http.Response) error { return nil }}
	case 9:
		return &soakAsk{method: "GET", path: "/panic", want: 500, check: func(*http.Response) error { return nil }}
	case 10:
		n := r.Int64N(1 << 20)
		return &soakAsk{method: "HEAD", path: fmt.Sprint("/bytes?n=", n), want: 200, check: func(resp *http.Response) error {
			if p, err := io.ReadAll(resp.Body); len(p) > 0 || err != nil {
				return wrongf("%d bytes behind the answer to HEAD, %v", len(p), err)
			}
			if resp.ContentLength >= 0 && resp.ContentLength != n { // it may be left out: it would be compressed
				return wrongf("Content-Length %d, %d is due", resp.ContentLength, n)
			}
			return nil
		}}
	}
	return &soakAsk{method: "GET", path: "/plaintext", want: 200, check: bodyIs(wantBody)}
}

func askBytes(r *rand.Rand) *soakAsk {
	n, seed := someBytes(r), r.Uint64()
	path := fmt.Sprintf("/bytes?n=%d&seed=%d", n, seed)
	if r.IntN(2) == 0 {
		path += "&chunked=1"
	}
	return &soakAsk{method: "GET", path: path, want: 200, check: contentIs(seed, 0, n)}
}

// askSum uploads n bytes, half of the time without saying how many.
func askSum(r *rand.Rand, n int64) *soakAsk {
	seed, sum := r.Uint64(), crc32.NewIEEE()
	io.Copy(sum, content.NewReader(seed, n))
	a := &soakAsk{method: "POST", path: "/upload", body: content.NewReader(seed, n), length: n, want: 200,
		check: bodyIs(fmt.Sprintf("%d %08x", n, sum.Sum32()))}
	switch {
	case n == 0:
		a.body, a.length = nil, 0
	case r.IntN(2) == 0:
		a.length = -1
	}
	if r.IntN(4) == 0 && n > 0 {
		a.fields = [2]string{"Expect", "100-continue"}
	}
	return a
}

func (a *soakAsk) request(ctx context.Context, base *url.URL) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, a.method, base.String()+a.path, a.body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = a.length
	if a.fields[0] != "" {
		req.Header.Set(a.fields[0], a.fields[1])
	}
	return req, nil
}

// judge reads the answer.
func (a *soakAsk) judge(resp *http.Response) error {
	defer resp.Body.Close()
	if resp.StatusCode != a.want {
		p, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return wrongf("%s %s: status %d, %d is due; %q", a.method, a.path, resp.StatusCode, a.want, p)
	}
	if a.abandon {
		_, err := io.CopyN(io.Discard, resp.Body, 1000)
		if err == io.EOF {
			err = nil
		}
		return err
	}
	err := a.check(resp)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	var wrong wrongAnswer
	switch {
	case errors.As(err, &wrong):
		return wrongf("%s %s: %v", a.method, a.path, err)
	case err != nil:
		return fmt.Errorf("%s %s: the body: %w", a.method, a.path, err)
	}
	return nil
}

// over sends the request over t and judges the answer.
func (a *soakAsk) over(ctx context.Context, t http.RoundTripper, base *url.URL) error {
	req, err := a.request(ctx, base)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", a.method, a.path, err)
	}
	var wrong wrongAnswer
	if err = a.judge(resp); errors.As(err, &wrong) {
		err = wrongf("%s, over %s by %T", wrong, resp.Proto, t)
	}
	return err
}

// A soakConn is a connection that speaks HTTP/1.1 and nothing else, as a RoundTripper for one request
// after another.
type soakConn struct {
	net.Conn
	r *bufio.Reader
}

// dialSoak connects, over TLS if config is not nil. Each actor has an address of its own: many
// connections a second would use up the ports of one.
func dialSoak(ctx context.Context, from, addr string, config *tls.Config) (*soakConn, error) {
	nc, err := soakDialer(from).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(soakActMax / 2))
	if config != nil {
		nc = tls.Client(nc, config)
	}
	return &soakConn{nc, bufio.NewReader(nc)}, nil
}

func soakDialer(from string) *net.Dialer {
	return &net.Dialer{Timeout: soakActMax / 2, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
}

func (c *soakConn) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header.Del("Expect") // it would have to be waited for
	if err := req.Write(c); err != nil {
		return nil, err
	}
	return c.read(req)
}

// read reads one answer.
func (c *soakConn) read(req *http.Request) (*http.Response, error) {
	resp, err := http.ReadResponse(c.r, req)
	if err != nil && strings.Contains(err.Error(), "malformed") {
		err = wrongAnswer(err.Error())
	}
	return resp, err
}

// ended expects the end of the connection, without a byte before it.
func (c *soakConn) ended() error {
	p, err := io.ReadAll(c.r)
	if len(p) > 0 {
		return wrongf("%.80q came behind the last answer", p)
	}
	return err
}
