package flare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// This file has bodies that io.Copy moves.

// A sizedWriter notes what it is given, and answers as told.
type sizedWriter struct {
	bytes.Buffer
	largest int
	err     error
	short   bool
}

func (w *sizedWriter) Write(p []byte) (int, error) {
	w.largest = max(w.largest, len(p))
	if w.short {
		return len(p) - 1, nil
	}
	if w.err != nil {
		return 0, w.err
	}
	return w.Buffer.Write(p)
}

// ReadFrom would ask for as little as it likes.
func (w *sizedWriter) ReadFrom(r io.Reader) (int64, error) {
	return 0, errors.New("the writer was asked to read")
}

func TestCopyBody(t *testing.T) {
	t.Parallel()
	const n = 700_000
	body := strings.Repeat("0123456789", n/10)
	broken := errors.New("broken")
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		to := &sizedWriter{short: r.Path() == "/short"}
		if r.Path() == "/broken" {
			to.err = broken
		}
		copied, err := io.Copy(to, r.Body())
		switch {
		case to.short && err == io.ErrShortWrite, to.err != nil && err == broken:
			return w.Text(200, "as told")
		case err != nil:
			return err
		case to.String() != body || copied != n:
			return w.Text(200, fmt.Sprintf("%d octets of another body, %d copied", to.Len(), copied))
		case to.largest > bodyCopyBytes:
			return w.Text(200, fmt.Sprintf("%d octets at once", to.largest))
		}
		return w.Text(200, "whole")
	})}
	addr := startServer(t, s)
	for name, input := range map[string]string{
		"length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, body),
		"chunks": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n", 100_000, body[:100_000], n-100_000, body[100_000:]),
	} {
		for path, want := range map[string]string{"/": "whole", "/short": "as told", "/broken": "as told"} {
			t.Run(name+path, func(t *testing.T) {
				t.Parallel()
				c := dialRaw(t, addr)
				go c.send("POST " + path + " HTTP/1.1\r\nHost: h\r\n" + input)
				c.answer("POST").want(t, 200, want)
			})
		}
	}
	t.Run("too large", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, startServer(t, &Server{MaxBodyBytes: 1000, Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := io.Copy(io.Discard, r.Body())
			if !errors.Is(err, ErrTooLarge) {
				t.Errorf("copied with %v", err)
			}
			return err
		})}))
		c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + "7d0\r\n" + body[:2000] + "\r\n0\r\n\r\n")
		if a := c.answer("POST"); a.StatusCode != 413 {
			t.Errorf("status %d", a.StatusCode)
		}
	})
}

// After the handler's end there is nothing to copy, and nobody's connection to touch.
func TestCopyBodyLate(t *testing.T) {
	t.Parallel()
	kept := make(chan io.Reader, 1)
	addr := startServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		kept <- r.Body()
		return nil
	})})
	c := dialRaw(t, addr)
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
	c.answer("POST")
	if n, err := io.Copy(io.Discard, <-kept); n != 0 || err != errBodyDone {
		t.Errorf("copied %d octets with %v", n, err)
	}
}
