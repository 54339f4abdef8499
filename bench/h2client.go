//go:build linux

package main

// This file is a client of HTTP/2 that does what it is told, frame by frame: it leaves windows shut,
// streams open and connections idle. It knows golang.org/x/net's framer and nothing of benchmarks.

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An h2conn is a connection without TLS. Writing is safe for several goroutines, reading is not.
type h2conn struct {
	net.Conn
	mu     sync.Mutex
	framer *http2.Framer // writes under mu
	enc    *hpack.Encoder
	block  bytes.Buffer
	next   uint32
}

// dialHTTP2 begins a connection, whose streams may send window octets at first.
func dialHTTP2(addr string, deadline time.Time, window uint32) (*h2conn, error) {
	d := net.Dialer{Deadline: deadline, KeepAlive: -1}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(deadline)
	c := &h2conn{Conn: nc, framer: http2.NewFramer(nc, nc), next: 1}
	c.enc = hpack.NewEncoder(&c.block)
	if _, err = nc.Write([]byte(http2.ClientPreface)); err == nil {
		err = c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	}
	if err == nil {
		err = c.framer.WriteWindowUpdate(0, 1<<30)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// ask begins a stream with those fields, of which :path is never indexed, and returns its number.
func (c *h2conn) ask(end bool, fields ...[2]string) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.next
	c.next += 2
	c.block.Reset()
	for _, f := range fields {
		c.enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: f[0] == ":path"})
	}
	return id, c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndStream: end, EndHeaders: true})
}

// data sends octets of a request's body.
func (c *h2conn) data(id uint32, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.framer.WriteData(id, false, p)
}

// read reads a frame, and deals with those that are not of a stream. Fields are not decoded.
func (c *h2conn) read() (http2.Frame, error) {
	for {
		f, err := c.framer.ReadFrame()
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = c.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = c.framer.WritePing(true, f.Data)
			}
		case *http2.GoAwayFrame:
			err = fmt.Errorf("GOAWAY: %v", f.ErrCode)
		}
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if f.Header().StreamID != 0 {
			return f, nil
		}
	}
}

// answer reads until that stream has ended, and holds the body to the usual one.
func (c *h2conn) answer(id uint32) error {
	var body []byte
	for {
		f, err := c.read()
		if err != nil {
			return err
		}
		ended := false
		switch f := f.(type) {
		case *http2.HeadersFrame:
			ended = f.StreamEnded()
		case *http2.DataFrame:
			if ended = f.StreamEnded(); f.StreamID == id {
				body = append(body, f.Data()...)
			}
		case *http2.RSTStreamFrame:
			return errors.New("RST_STREAM")
		}
		if ended && f.Header().StreamID == id {
			break
		}
	}
	if string(body) != wantBody {
		return fmt.Errorf("body %q", body)
	}
	return nil
}
