package flare

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// This file lets the clients of TestFromHTTP's table, which write HTTP/1.1,
// speak HTTP/2: the same rows over both versions.

// A bridgePeer turns what such a client writes into frames, and what comes back
// into lines of a transcript.
type bridgePeer struct {
	b *bridgeTalk
	p *http2Peer

	text    string // was written, and is no complete head or chunk yet
	stream  uint32 // whose body is being written, 0: none
	chunked bool
	left    int // of a body with a length

	asked []uint32     // streams whose heads were not noted yet
	a     *http2Answer // whose head was noted last
	hints int          // of its interim heads, how many were noted
	taken int          // of its body, how much was noted
}

func newBridgePeer(b *bridgeTalk, nc net.Conn) *bridgePeer {
	return &bridgePeer{b: b, p: newHTTP2Peer(b.t, nc)}
}

// send takes octets of HTTP/1.1.
func (w *bridgePeer) send(text string) {
	w.b.t.Helper()
	w.text += text
	for w.step() {
	}
}

// step uses the front of what was written, if it is complete.
func (w *bridgePeer) step() bool {
	w.b.t.Helper()
	switch {
	case w.text == "":
		return false
	case w.stream == 0:
		text, rest, ok := strings.Cut(w.text, "\r\n\r\n")
		if w.text = rest; !ok {
			w.b.t.Fatalf("%s: half a head: %q", w.b.name, text)
		}
		w.head(strings.Split(text, "\r\n"))
	case !w.chunked:
		n := min(len(w.text), w.left)
		w.left -= n
		w.body(w.text[:n], w.left == 0)
		w.text = w.text[n:]
	default:
		line, rest, _ := strings.Cut(w.text, "\r\n")
		n, err := strconv.ParseInt(line, 16, 32)
		if err != nil || int(n) > len(rest) {
			w.b.t.Fatalf("%s: half a chunk: %q", w.b.name, w.text)
		}
		if w.text = rest[n+2*min(n, 1):]; n > 0 {
			w.body(rest[:n], false)
			break
		}
		trailer, rest, _ := strings.Cut(w.text, "\r\n")
		var lines []string
		for ; trailer != ""; trailer, rest, _ = strings.Cut(rest, "\r\n") {
			lines = append(lines, bridgeLower(trailer))
		}
		if w.text = rest; len(lines) == 0 {
			w.body("", true)
			break
		}
		block, at := beginHeaders(nil)
		block = append(block, w.p.encode(lines...)...)
		w.p.write(endHeaders(block, at, w.stream, true, w.p.theirs.frameSizeMax))
		w.stream = 0
	}
	return true
}

func (w *bridgePeer) body(text string, end bool) {
	w.p.data(w.stream, []byte(text), end)
	if end {
		w.stream = 0
	}
}

func bridgeLower(line string) string {
	name, value, _ := strings.Cut(line, ":")
	return strings.ToLower(name) + ": " + strings.Trim(value, " ")
}

// head opens a stream for a head of HTTP/1.1.
func (w *bridgePeer) head(lines []string) {
	words := strings.Split(lines[0], " ")
	method, path, authority := words[0], words[1], "h"
	if rest, ok := strings.CutPrefix(path, "http://"); ok {
		authority, path, _ = strings.Cut(rest, "/")
		path = "/" + path
	}
	var fields []string
	w.chunked, w.left = false, 0
	for _, line := range lines[1:] {
		line = bridgeLower(line)
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "host":
			if path == words[1] {
				authority = value
			}
			continue
		case "connection", "upgrade":
			continue
		case "transfer-encoding":
			w.chunked = true
			continue
		case "content-length":
			w.left, _ = strconv.Atoi(value)
		}
		fields = append(fields, line)
	}
	fields = append([]string{":method: " + method, ":scheme: http", ":path: " + path, ":authority: " + authority}, fields...)
	end := !w.chunked && w.left == 0
	block, stream := w.p.head(end, fields...)
	w.p.write(block) // a server that has closed already is not an error
	w.asked = append(w.asked, stream)
	if !end {
		w.stream = stream
	}
}

// next notes the next head of a response.
func (w *bridgePeer) next() int {
	w.b.t.Helper()
	if w.a == nil || w.a.status != 0 || w.a.done() {
		w.a, w.asked = w.p.streams[w.asked[0]], w.asked[1:]
		w.hints, w.taken = 0, 0
	}
	a := w.a
	if !w.wait("a head", func() bool { return len(a.interim) > w.hints || a.status != 0 || a.done() }) {
		w.b.took("closed")
		return 999
	}
	status, fields := a.status, &a.fields
	switch {
	case len(a.interim) > w.hints:
		status, fields = a.interim[w.hints].status, &a.interim[w.hints].fields
		w.hints++
	case status == 0:
		w.cut()
		w.b.took("closed")
		return 999
	}
	w.b.took("< %d", status)
	var lines []string
	for name, value := range fields.All() {
		if name == "date" {
			value = "DATE"
		}
		lines = append(lines, fmt.Sprintf("<   %s: %s", name, value))
	}
	slices.Sort(lines)
	w.b.took("%s", strings.Join(lines, "\n"))
	return status
}

// wait reads until cond is true; false: the connection has ended.
func (w *bridgePeer) wait(what string, cond func() bool) bool {
	w.b.t.Helper()
	for !cond() {
		err := w.p.next()
		if w.b.inTime(err); w.p.over != nil {
			return false
		}
		if err != nil {
			w.b.t.Fatalf("%s, waiting for %s: %v", w.b.name, what, err)
		}
	}
	return true
}

// some notes the next n octets of the body.
func (w *bridgePeer) some(n int) {
	w.b.t.Helper()
	a := w.a
	w.wait("a part of the body", func() bool { return len(a.body)-w.taken >= n || a.done() })
	n = min(n, len(a.body)-w.taken)
	w.b.took("part %q", a.body[w.taken:w.taken+n])
	w.taken += n
}

// rest notes what is left of the body, its trailer, and how it ends.
func (w *bridgePeer) rest() {
	w.b.t.Helper()
	a := w.a
	if a.status == 0 {
		return
	}
	over := !w.wait("the end of the stream", a.done)
	for name, value := range a.trailer.All() {
		w.b.took("trailer %s: %s", name, value)
	}
	switch p := a.body[w.taken:]; {
	case len(p) > 10_000:
		w.b.took("body of %d: %q ... %q", len(p), p[:20], p[len(p)-20:])
	case len(p) > 0:
		w.b.took("body %q", p)
	}
	w.taken = len(a.body)
	if over || !a.ended {
		w.b.took("cut in the body")
		w.cut()
	}
}

// cut notes why the stream ended, if not as one whose handler has failed.
func (w *bridgePeer) cut() {
	if w.a.reset && w.a.code != codeInternal {
		w.b.took("reset by %v", w.a.code)
	}
}

// alive fails the test unless the connection takes another request.
func (w *bridgePeer) alive() {
	w.b.t.Helper()
	block, stream := w.p.head(true, requestLines("GET", "/ping")...)
	w.p.write(block)
	a := w.p.streams[stream]
	if !w.wait("the answer to a ping", a.done) || a.status != 200 || string(a.body) != "pong" {
		w.b.t.Errorf("%s: the connection is over: %v, GOAWAY %v", w.b.name, a, w.p.goAway)
	}
}
