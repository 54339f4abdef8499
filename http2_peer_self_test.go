package flare

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// This file has the tests of http2_peer_test.go.

// A cannedConn is a connection whose other end has sent everything already.
type cannedConn struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (c *cannedConn) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *cannedConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *cannedConn) Close() error                     { return nil }
func (c *cannedConn) SetDeadline(time.Time) error      { return nil }
func (c *cannedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *cannedConn) SetWriteDeadline(time.Time) error { return nil }

// The peer finds what a server may not send, and takes what it may.
func TestHTTP2PeerIsStrict(t *testing.T) {
	status := func(flags uint8, stream uint32, lines ...string) string {
		var block []byte
		for _, line := range lines {
			name, value, _ := strings.Cut(line[1:], ": ")
			block = appendHPACKLiteral(block, 0, 0x0f, 0, line[:1]+name, value)
		}
		return string(http2Frame(frameHeaders, flags, stream, string(block)))
	}
	frame := func(kind http2FrameType, flags uint8, stream uint32, payload string) string {
		return string(http2Frame(kind, flags, stream, payload))
	}
	settings := string(appendSettings(nil))
	data := func(flags uint8, stream uint32, n int) string {
		return frame(frameData, flags, stream, strings.Repeat("x", n))
	}
	full := strings.Repeat(data(0, 1, 1<<14), 3) + data(0, 1, 1<<14-1)
	// Streams 1 and 3 were opened, 1 by GET and 3 by HEAD.
	for _, test := range []struct{ name, in, fault string }{
		{"an answer", settings + status(flagEndHeaders, 1, ":status: 200") + data(flagEndStream, 1, 5), ""},
		{"1xx before it", settings + status(flagEndHeaders, 1, ":status: 103") + status(5, 1, ":status: 204"), ""},
		{"trailers", settings + status(4, 1, ":status: 200") + data(0, 1, 5) + status(5, 1, "a: b"), ""},
		{"a reset behind the end", settings + status(5, 1, ":status: 200") + string(appendRSTStream(nil, 1, codeNone)), ""},
		{"a full window", settings + status(4, 1, ":status: 200") + full, ""},
		{"HEAD", settings + status(5, 3, ":status: 200", "content-length: 7"), ""},
		{"an answer to SETTINGS", settings + string(appendSettingsAck(nil)), ""},
		{"an unknown frame", settings + frame(0x77, 0xff, 1, "x"), ""},

		{"no SETTINGS", status(5, 1, ":status: 200"), "no SETTINGS"},
		{"an acknowledgement first", string(appendSettingsAck(nil)), "no SETTINGS"},
		{"a second acknowledgement", settings + strings.Repeat(string(appendSettingsAck(nil)), 2), "of no SETTINGS"},
		{"push allowed", string(appendSettings(nil, http2Setting{settingPush, 1})), "ENABLE_PUSH"},
		{"too large a frame", settings + status(4, 1, ":status: 200") + data(0, 1, 1<<14+1), "larger"},
		{"a stream of its own", settings + status(5, 2, ":status: 200"), "never opened"},
		{"a stream that was not opened", settings + status(5, 5, ":status: 200"), "never opened"},
		{"DATA first", settings + data(1, 1, 1), "before a final head"},
		{"DATA behind 1xx", settings + status(4, 1, ":status: 100") + data(1, 1, 1), "before a final head"},
		{"DATA behind the end", settings + status(5, 1, ":status: 200") + data(0, 1, 1), "behind the end"},
		{"DATA behind a reset", settings + status(4, 1, ":status: 200") + string(appendRSTStream(nil, 1, codeCancel)) + data(0, 1, 1), "behind the end"},
		{"HEADERS behind the end", settings + status(5, 1, ":status: 200") + status(5, 1, "a: b"), "behind the end"},
		{"a second head", settings + status(4, 1, ":status: 200") + status(4, 1, ":status: 200"), "do not end"},
		{"a pseudo-field in trailers", settings + status(4, 1, ":status: 200") + status(5, 1, ":status: 200"), "trailer"},
		{"1xx at the end", settings + status(5, 1, ":status: 103"), "interim"},
		{"Connection", settings + status(5, 1, ":status: 200", "connection: close"), "connection"},
		{"101", settings + status(4, 1, ":status: 101"), "101"},
		{"too short a body", settings + status(4, 1, ":status: 200", "content-length: 7") + data(1, 1, 6), "Content-Length 7, and 6"},
		{"no body at all", settings + status(5, 1, ":status: 200", "content-length: 7"), "Content-Length 7, and 0"},
		{"a body for HEAD", settings + status(4, 3, ":status: 200") + data(1, 3, 6), "where there is none"},
		{"a body for 204", settings + status(4, 1, ":status: 204") + data(1, 1, 6), "where there is none"},
		{"a length for 204", settings + status(5, 1, ":status: 204", "content-length: 0"), "where there is no body"},
		{"beyond the window", settings + status(4, 1, ":status: 200") + full + data(0, 1, 1), "windows are 0 and 0"},
		{"beyond the connection's", settings + status(4, 1, ":status: 200") + status(4, 3, ":status: 200") + full + data(0, 1, 1), "windows are 0 and 0"},
		{"a frame in a field block", settings + status(0, 1, ":status: 200") + data(0, 1, 1), "inside of a field block"},
		{"CONTINUATION alone", settings + frame(frameContinuation, 4, 1, ""), "no field block"},
		{"an index beyond the tables", settings + frame(frameHeaders, 5, 1, "\xff"+"\x00"), "index"},
		{"PUSH_PROMISE", settings + frame(framePushPromise, 4, 1, "\x00\x00\x00\x02"), "push is off"},
		{"PRIORITY", settings + frame(framePriority, 0, 1, "\x00\x00\x00\x00\x00"), "not allowed"},
		{"PRIORITY_UPDATE", settings + frame(framePriorityUpdate, 0, 0, "\x00\x00\x00\x01u=1"), "not allowed"},
		{"an answer to no PING", settings + string(appendHTTP2Ping(nil, pingPayload(1), true)), "no PING"},
		{"a window too wide", settings + string(appendWindowUpdate(nil, 0, streamMax)), "beyond 2^31-1"},
		{"a window of a stream too wide", settings + string(appendWindowUpdate(nil, 1, streamMax)), "beyond 2^31-1"},
		{"a window of a stream that is not open", settings + string(appendWindowUpdate(nil, 7, 1)), "never opened"},
		{"GOAWAY that goes up", settings + string(appendGoAway(appendGoAway(nil, 1, codeNone), 3, codeNone)), "later"},
	} {
		p := newHTTP2Peer(t, &cannedConn{in: strings.NewReader(test.in)})
		p.manual = true
		p.open(true, requestLines("GET", "/")...)
		p.open(true, requestLines("HEAD", "/")...)
		var err error
		for err == nil {
			err = p.next()
		}
		if test.fault == "" && (err != io.EOF || len(p.streams) != 2) {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.fault != "" && !strings.Contains(err.Error(), test.fault) {
			t.Errorf("%s: %v, want %q", test.name, err, test.fault)
		}
	}
}

// The peer's own frames are those of a client, in any sizes and windows.
func TestHTTP2Peer(t *testing.T) {
	t.Parallel()
	addr := startTLSServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/bytes" {
			_, err := w.Write(make([]byte, 300_000))
			return err
		}
		return describe(w, r)
	})})
	p := dialHTTP2TLS(t, addr, http2Setting{settingWindow, 20_000}, http2Setting{settingTableSize, 0})
	for range 3 {
		a := p.get("/a", "x: y")
		if text := strings.ToLower(string(a.body)); !strings.HasPrefix(text, "get /a \"h\" http/2.0 0\n") || !strings.Contains(text, "\nx=\"y\"\n") {
			t.Errorf("%v", a)
		}
	}
	slow, fast := p.open(false, requestLines("POST", "/slow")...), p.start("/bytes")
	if a := p.answer(fast); a.status != 200 || a.size != 300_000 {
		t.Errorf("%v", a)
	}
	p.settings(http2Setting{settingWindow, 5}, http2Setting{settingTableSize, 4096})
	p.data(slow, []byte("body"), true)
	if a := p.answer(slow); !strings.HasSuffix(string(a.body), "\"body\"\n") {
		t.Errorf("%v", a)
	}
	if a := p.post("/big", strings.Repeat("x", 2_000_000)); !strings.HasSuffix(string(a.body), "2000000 bytes\n") {
		t.Errorf("%v", a)
	}
	stream := p.start("/bytes")
	p.reset(stream, codeCancel)
	p.sync()
	if a := p.open(true, requestLines("HEAD", "/bytes")...); p.answer(a).size != 0 || p.streams[a].status != 200 {
		t.Errorf("%v", p.streams[a])
	}
	p.send(http2Frame(frameData, 0, 0, "x"))
	p.failed(codeProtocol)
}
