package flare

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// This file has windows for bodies of requests that are smaller than what a client
// may take for granted, or than the body.

// smallWindows is a server that lets little of a body in, and sends it back.
func smallWindows(t *testing.T) *http2Target {
	return startHTTP2(t, &Server{
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 1000},
		Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			body, err := io.ReadAll(r.Body())
			if err != nil {
				return err
			}
			return w.Blob(200, "text/plain", body)
		})})
}

// A body is not awaited whole that its stream's window does not let in whole.
func TestHTTP2BodyBeyondItsWindow(t *testing.T) {
	t.Parallel()
	p := smallWindows(t).dial(t)
	p.sync()
	body := strings.Repeat("0123456789", 500)
	p.post("/", body, "content-length: 5000").want(t, 200, body)
}

// A body that is no longer than its window may be, with its padding: that leaves room
// behind it, whether its handler waits for octets or is not called before all have come.
func TestHTTP2PaddedBody(t *testing.T) {
	t.Parallel()
	p := smallWindows(t).dial(t)
	p.sync()
	for _, lines := range [][]string{nil, {"content-length: 900"}} {
		stream := p.open(false, requestLines("POST", "/", lines...)...)
		a, padding := p.streams[stream], strings.Repeat("\x00", 255)
		for sent := 0; sent < 900; sent += 9 {
			for _, piece := range []string{"", "123456789"}[min(sent%90, 1):] {
				size := int64(len(piece) + 256)
				p.readUntil("room for padding", func() bool { return min(a.window, p.window) >= size })
				p.send(http2Frame(frameData, flagPadded, stream, "\xff"+piece+padding))
				a.window -= size
				p.window -= size
			}
		}
		p.data(stream, nil, true)
		p.answer(stream).want(t, 200, strings.Repeat("123456789", 100))
	}
}

// A client that has not heard of a smaller window may use the one that everybody
// begins with (RFC 9113 §6.9.2), and then end the body when it has heard of it.
func TestHTTP2WindowNotHeardOf(t *testing.T) {
	t.Parallel()
	p := smallWindows(t).quiet(t)
	body := strings.Repeat("0123456789", windowDefault/10)
	p.pending = append(p.pending, nil)
	head, stream := p.head(false, requestLines("POST", "/")...)
	b := append([]byte(http2Preface), appendSettings(nil)...)
	b = append(b, head...)
	for rest := body; rest != ""; {
		n := min(len(rest), frameSizeDefault)
		b = appendData(b, stream, []byte(rest[:n]), false)
		rest = rest[n:]
	}
	p.send(b)
	p.readUntil("the settings", func() bool { return p.greeted })
	p.send(appendData(nil, stream, nil, true))
	p.answer(stream).want(t, 200, body)
	p.post("/", body).want(t, 200, body) // within the window that it has heard of
}
