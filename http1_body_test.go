package flare

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// This file has bodies that handlers do not want, or want only when asked for.

func TestUnreadBody(t *testing.T) {
	s := &Server{Handler: routes{
		"/ignore": textHandler("ignored"),
		"/close": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			r.Body().Close()
			if _, err := r.Body().Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
				t.Errorf("read after close: %v", err)
			}
			return w.Text(200, "closed")
		}),
		"/part": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p := make([]byte, 3)
			_, err := io.ReadFull(r.Body(), p)
			w.Text(200, string(p))
			return err
		}),
	}}
	addr := startServer(t, s)
	const n = 100_000 // streams, and is discarded
	smuggled := request("/smuggled")
	body := strings.Repeat("x", n-len(smuggled)) + smuggled
	chunks := "5;a=b\r\nxxxxx\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\nX: y\r\n\r\n", n, body)
	for path, want := range map[string]string{"/ignore": "ignored", "/close": "closed", "/part": "xxx"} {
		for name, input := range map[string]string{
			"length": head("POST "+path+" HTTP/1.1", fmt.Sprintf("Content-Length: %d", n)) + body,
			"chunks": head("POST "+path+" HTTP/1.1", "Transfer-Encoding: chunked") + chunks,
		} {
			t.Run(name+path, func(t *testing.T) {
				c := dialRaw(t, addr)
				c.send(input, request("/ignore"))
				c.answer("POST").want(t, 200, want)
				c.answer("GET").want(t, 200, "ignored")
				// And when the body comes after the answer to its head.
				at := strings.Index(input, "\r\n\r\n") + len("\r\n\r\n")
				if path == "/part" {
					at += 20 // what the handler wants
				}
				c.send(input[:at])
				c.answer("POST").want(t, 200, want)
				for _, piece := range octets(input[at:], 30_000) {
					c.send(piece)
				}
				c.get("/ignore").want(t, 200, "ignored")
			})
		}
	}
	t.Run("above the bound", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /ignore HTTP/1.1", fmt.Sprintf("Content-Length: %d", drainBytesMax+1)), strings.Repeat("x", 200_000))
		if a := c.answer("POST"); a.body != "ignored" || !a.Close {
			t.Errorf("%q close %v", a.body, a.Close)
		}
		c.ended()
	})
	t.Run("chunks above the bound", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /ignore HTTP/1.1", "Transfer-Encoding: chunked"))
		c.answer("POST").want(t, 200, "ignored")
		for range drainBytesMax>>12 + 1 {
			c.send("1000\r\n", strings.Repeat("x", 4<<10), "\r\n")
		}
		c.ended()
	})
	t.Run("bad chunk", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /ignore HTTP/1.1", "Transfer-Encoding: chunked"), "nonsense\r\n", smuggled)
		c.answer("POST").want(t, 200, "ignored")
		started := time.Now()
		c.ended()
		if took := time.Since(started); took > lingerSilent/2 {
			t.Errorf("the end came after %v", took)
		}
	})
	gone(t, s)
}

func TestExpectContinue(t *testing.T) {
	s := &Server{MaxBodyBytes: 1000, Logger: quietLogger(), Handler: routes{
		"/read": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p, err := r.Bytes()
			if err != nil {
				return err
			}
			return w.Text(200, string(p))
		}),
		"/ignore": textHandler("ignored"),
		"/late": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString("begun ")
			if err := w.Flush(); err != nil {
				return err
			}
			p, err := r.Bytes()
			w.Write(p)
			return err
		}),
		"/fail": HandlerFunc(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 403, Message: "no"} }),
	}}
	addr := startServer(t, s)
	const expect = "Expect: 100-continue"
	interim := func(t *testing.T, c *rawClient) {
		t.Helper()
		const want = "HTTP/1.1 100 Continue\r\n\r\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.br, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for name, frame := range map[string][2]string{
		"length": {"Content-Length: 5", "hello"},
		"chunks": {"Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
	} {
		t.Run("read "+name, func(t *testing.T) {
			c := dialRaw(t, addr)
			for range 2 {
				c.send(head("POST /read HTTP/1.1", frame[0], expect))
				interim(t, c)
				c.send(frame[1])
				c.answer("POST").want(t, 200, "hello")
			}
			c.send(head("POST /read HTTP/1.1", frame[0], expect), frame[1])
			c.answer("POST").want(t, 200, "hello") // it has come: nobody waits
			if n := strings.Count(c.got.String(), "100 Continue"); n != 2 {
				t.Errorf("%d times 100", n)
			}
		})
		for path, want := range map[string]string{"/ignore": "ignored", "/fail": "no\n"} {
			t.Run("not read "+name+path, func(t *testing.T) {
				c := dialRaw(t, addr)
				c.send(head("POST "+path+" HTTP/1.1", frame[0], expect))
				a := c.answer("POST")
				if a.StatusCode == 100 || a.body != want || !a.Close {
					t.Errorf("%d %q close %v", a.StatusCode, a.body, a.Close)
				}
				c.ended()
			})
		}
	}
	for name, input := range map[string]string{
		"too large":           head("POST /read HTTP/1.1", "Content-Length: 1001", expect),
		"unknown expectation": head("POST /read HTTP/1.1", "Content-Length: 5", "Expect: 200-ok"),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.send(input)
			if a := c.answer("POST"); a.StatusCode/100 != 4 || !a.Close {
				t.Errorf("%d close %v", a.StatusCode, a.Close)
			}
			c.ended()
		})
	}
	t.Run("read behind a committed answer", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /late HTTP/1.1", "Content-Length: 5", expect))
		if _, err := c.br.Peek(1); err != nil { // the answer has begun
			t.Fatal(err)
		}
		c.send("hello")
		c.answer("POST").want(t, 200, "begun hello")
		if strings.Contains(c.got.String(), "100 Continue") {
			t.Errorf("a 100 inside the answer: %q", c.got.String())
		}
		c.ended()
	})
	t.Run("pipelined behind another", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(request("/ignore"), head("POST /read HTTP/1.1", "Content-Length: 5", expect))
		c.answer("GET").want(t, 200, "ignored")
		interim(t, c)
		c.send("hello")
		c.answer("POST").want(t, 200, "hello")
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /read HTTP/1.0", "Content-Length: 5", expect), "hello")
		c.answer("POST").want(t, 200, "hello")
		c.ended()
	})
	gone(t, s)
}

// A 100 that a handler sends for a request without a body is of no effect on
// the requests that its objects serve later.
func TestContinueOfAnotherRequest(t *testing.T) {
	s := &Server{Loops: 1, Handler: routes{
		"/early": Inline(FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(100) }))),
		"/read": Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p, err := r.Bytes()
			if err != nil {
				return err
			}
			return w.Text(200, string(p))
		})),
	}}
	c := dialRaw(t, startServer(t, s))
	for range 2 {
		c.send(request("/early"))
		c.answer("GET") // the 100
		c.answer("GET")
	}
	for range 2 {
		c.send("POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		line, err := c.br.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
			t.Fatalf("%q, %v", line, err)
		}
		c.br.ReadString('\n')
		c.send("hello")
		if a := c.answer("POST"); a.StatusCode != 200 {
			t.Fatal(a.Status)
		}
	}
}
