package flare

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// This file has answers that come before the end of a request, and clients that
// go on sending it all the same.

// earlyAnswers are handlers that answer without having read a body, and the
// status of each; with the path before them.
var earlyAnswers = []struct {
	path   string
	status int
	h      Handler
}{
	{"/forbidden", 403, HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(403, "no") })},
	{"/basic", 401, RequireBasic("x", func(user, password string) bool { return false })(textHandler("x"))},
	{"/late", 422, HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if _, err := io.CopyN(io.Discard, r.Body(), 100_000); err != nil {
			return err
		}
		return &StatusError{Code: 422, Message: "enough"}
	})},
	{"/net", 403, FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) }))},
	{"/worker", 403, Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(403, "no") }))},
	{"/other", 404, nil},
	{"/get", 405, nil},
	{"/long", 413, nil},
}

func earlyServer() *Server {
	mux := NewMux()
	for _, row := range earlyAnswers {
		if row.h != nil {
			mux.Handle("POST "+row.path, row.h)
		}
	}
	mux.Get("/get", textHandler("x"))
	return &Server{Handler: mux, Loops: 1, Logger: quietLogger(), MaxBodyBytes: 512 << 20}
}

var earlyPosts = flag.Int("early.posts", 12, "how many of a kind TestNoEarlyAnswerIsLost sends")

// An answer that comes before the end of a body reaches a client that has
// megabytes still to send, whether it reads while it sends or after it.
func TestNoEarlyAnswerIsLost(t *testing.T) {
	t.Parallel()
	const bytesEach = 9 << 20
	posts := *earlyPosts
	body := make([]byte, bytesEach)
	post := func(t *testing.T, client *http.Client, base string) {
		for _, row := range earlyAnswers {
			lost := 0
			for range posts {
				var sent io.Reader = bytes.NewReader(body)
				length := int64(len(body))
				if row.status == 413 {
					length = 513 << 20
					sent = io.LimitReader(zeroReader{}, length)
				}
				req, _ := http.NewRequest("POST", base+row.path, io.NopCloser(sent))
				req.ContentLength = length
				resp, err := client.Do(req)
				if err != nil {
					lost++
					continue
				}
				resp.Body.Close()
				if resp.StatusCode != row.status {
					t.Errorf("%s: %d", row.path, resp.StatusCode)
				}
			}
			if lost > 0 {
				t.Errorf("%s: %d of %d answers were lost", row.path, lost, posts)
			}
		}
	}
	t.Run("read while sending", func(t *testing.T) {
		tr := new(http.Transport)
		defer tr.CloseIdleConnections()
		post(t, &http.Client{Transport: tr, Timeout: patience}, "http://"+startServer(t, earlyServer()))
	})
	t.Run("the same over TLS", func(t *testing.T) {
		post(t, tlsHTTPClient(t, false), "https://"+startTLSServer(t, earlyServer()))
	})
	t.Run("read after sending", func(t *testing.T) {
		addr := startServer(t, earlyServer())
		for _, row := range earlyAnswers {
			if row.status == 413 {
				continue // it would take half a gigabyte
			}
			c := dialRaw(t, addr)
			c.send(head("POST "+row.path+" HTTP/1.1", fmt.Sprint("Content-Length: ", bytesEach)))
			if _, err := c.Write(body); err != nil {
				t.Errorf("%s: %v", row.path, err)
				continue
			}
			if a := c.answer("POST"); a.StatusCode != row.status {
				t.Errorf("%s: %d", row.path, a.StatusCode)
			}
			c.Close()
		}
	})
}

// zeroReader reads zeros for ever.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// The close frame that says what was wrong reaches a peer that has megabytes of
// the wrong message still to send, and so does what was written before it.
func TestNoLastMessageIsLost(t *testing.T) {
	t.Parallel()
	message := wsFrame(0x82, strings.Repeat("x", 9<<20), true)
	for style, h := range wsStyles(WebSocketOptions{}) {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			url := TestServer(t, &Server{Handler: h})
			for range 6 {
				c := wsRaw(t, url, "")
				c.send(string(wsFrame(0x81, "before", true)))
				if _, err := c.Write(message); err != nil {
					t.Fatal(err)
				}
				if got, want := wsRest(t, c), "text \"before\"\nclose 1009 \"\"\n"; got != want {
					t.Fatalf("%q, want %q", got, want)
				}
				c.Close()
			}
		})
	}
}

// What came while an owner ended its connection is acted on at once, and not when
// lingering is over: there may be room for the rest of what ends it.
func TestLingerTakesWhatCame(t *testing.T) {
	f := newFeeder(t, &Server{})
	c, l := f.newConn(), f.loop
	l.workset = f.workset
	l.lent.Add(1)
	c.verdict = verdictLinger
	c.own.Store(ownLent | ownRead | ownWrite)
	l.takeBack(&c.strand)
	if s := l.ready.pop(); s != &c.strand || !l.lingering.empty() {
		t.Error("it discards input, and nothing is sent")
	}
}
