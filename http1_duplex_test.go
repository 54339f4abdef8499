package flare

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// This file has handlers that read and write at once, from two goroutines. It
// is the race detector that judges most of it.

// duplexBody is what clients send, long enough not to be awaited.
var duplexBody = strings.Repeat("0123456789abcdef", 6<<10) // 96 KiB

// duplexHandler reads the body in one goroutine, and writes an answer that is
// the same whatever was read in another.
func duplexHandler(t *testing.T, answer []byte) Handler {
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		var got []byte
		var readErr error
		var reading sync.WaitGroup
		reading.Go(func() { got, readErr = io.ReadAll(r.Body()) })
		var writeErr error
		var hints Header
		hints.Add("Link", "</style.css>; rel=preload")
		for range 3 {
			if err := w.Informational(103, &hints); err != nil {
				writeErr = err
			}
		}
		for p := answer; len(p) > 0 && writeErr == nil; p = p[min(len(p), 10_000):] {
			_, writeErr = w.Write(p[:min(len(p), 10_000)])
		}
		if err := w.Flush(); writeErr == nil {
			writeErr = err
		}
		reading.Wait()
		if readErr != nil || string(got) != duplexBody {
			t.Errorf("read %d octets, %v", len(got), readErr)
		}
		if r.ContentLength() < 0 && r.Trailer().Get("X-Sum") != "7" {
			t.Errorf("trailer %v", r.Trailer())
		}
		return writeErr
	})
}

// TestFullDuplexFramings answers while the body comes, with all that may be on
// the wire before and behind it.
func TestFullDuplexFramings(t *testing.T) {
	chunked := func(body string) string {
		var b strings.Builder
		for ; len(body) > 0; body = body[min(len(body), 5000):] {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", min(len(body), 5000), body[:min(len(body), 5000)])
		}
		return b.String() + "0\r\nX-Sum: 7\r\n\r\n"
	}
	answer := bytes.Repeat([]byte("answer "), 20_000)
	for name, wrap := range map[string]Middleware{"inline": Inline, "offload": Offload} {
		s := &Server{Loops: 1, Logger: quietLogger(), Handler: wrap(duplexHandler(t, answer))}
		addr := startServer(t, s)
		for _, framing := range []string{"Content-Length", "chunked"} {
			for _, expect := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, expect %v", name, framing, expect), func(t *testing.T) {
					fields, body := []string{"Content-Length: " + fmt.Sprint(len(duplexBody))}, duplexBody
					if framing == "chunked" {
						fields, body = []string{"Transfer-Encoding: chunked"}, chunked(duplexBody)
					}
					if expect {
						fields = append(fields, "Expect: 100-continue")
					}
					interims := 0
					for range 20 {
						c := dialRaw(t, addr)
						interims += duplexExchange(t, c, head("POST / HTTP/1.1", fields...), body, string(answer), expect)
						c.Close()
					}
					t.Logf("%d of 20 were asked to continue", interims)
				})
			}
		}
		gone(t, s)
	}
}

// duplexExchange sends a request, its body when the server wants it, and reads
// the answer meanwhile. It reports whether a 100 came.
func duplexExchange(t *testing.T, c *rawClient, head, body, want string, expect bool) (interims int) {
	t.Helper()
	wanted := make(chan bool, 2)
	var sending sync.WaitGroup
	sending.Go(func() {
		io.WriteString(c, head)
		if expect {
			<-wanted
		}
		io.WriteString(c, body)
	})
	defer sending.Wait()
	for {
		resp, err := http.ReadResponse(c.br, &http.Request{Method: "POST"})
		if err != nil {
			t.Errorf("%v; received %q", err, tail(c.got.Bytes()))
			wanted <- false
			return interims
		}
		switch {
		case resp.StatusCode == 100:
			interims++
			wanted <- true
		case resp.StatusCode == 200:
			wanted <- true // without a 100, too: the handler waits for it
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != want {
				t.Errorf("%d octets of the answer, %v; want %d", len(got), err, len(want))
			}
			return interims
		case resp.StatusCode != 103:
			t.Errorf("status %d", resp.StatusCode)
		}
		if interims > 1 || interims > 0 && !expect {
			t.Errorf("%d times 100", interims)
		}
	}
}
