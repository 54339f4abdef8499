package flare

import (
	"strings"
	"testing"
)

// This file has what RFC 9113 asks of a server about frames in the states of a
// stream, and of the beginning of a connection, where no other test shows it.

// What a client may not send in the state that a stream is in, and what it may
// (RFC 9113 §5.1).
func TestHTTP2Musts(t *testing.T) {
	t.Parallel()
	s := startHTTP2(t, &Server{Logger: quietLogger(), Handler: routes{
		"/good": textHandler("fine"),
		"/wait": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if r.Method() == "POST" {
				_, err := r.Bytes()
				return err
			}
			<-r.Context().Done()
			return nil
		}),
	}})
	headers := func(p *http2Peer, stream uint32, end bool, lines ...string) []byte {
		b, at := beginHeaders(nil)
		return endHeaders(append(b, p.encode(lines...)...), at, stream, end, frameSizeDefault)
	}
	ended := func(p *http2Peer) uint32 {
		stream := p.start("/good")
		p.answer(stream).want(t, 200, "fine")
		return stream
	}
	for _, row := range []struct {
		name  string
		do    func(p *http2Peer)
		codes []http2Code // of GOAWAY; none: the connection goes on
	}{
		{"DATA on an idle stream", func(p *http2Peer) { p.send(appendData(nil, 9, []byte("x"), false)) }, []http2Code{codeProtocol}},
		{"RST_STREAM on an idle stream", func(p *http2Peer) { p.send(appendRSTStream(nil, 9, codeCancel)) }, []http2Code{codeProtocol}},
		{"WINDOW_UPDATE on an idle stream", func(p *http2Peer) { p.send(appendWindowUpdate(nil, 9, 1)) }, []http2Code{codeProtocol}},
		{"DATA on a stream that has ended", func(p *http2Peer) { p.send(appendData(nil, ended(p), []byte("x"), false)) }, []http2Code{codeStreamClosed}},
		{"HEADERS on a stream that has ended", func(p *http2Peer) { p.send(headers(p, ended(p), true, requestLines("GET", "/good")...)) }, []http2Code{codeStreamClosed, codeProtocol}},
		{"CONTINUATION on a stream that has ended", func(p *http2Peer) { p.send(http2Frame(frameContinuation, flagEndHeaders, ended(p), "x")) }, []http2Code{codeProtocol, codeStreamClosed}},
		{"PUSH_PROMISE of a client", func(p *http2Peer) {
			p.send(http2Frame(framePushPromise, flagEndHeaders, p.start("/wait"), "\x00\x00\x00\x02x"))
		}, []http2Code{codeProtocol}},
		{"PRIORITY on a stream of any state", func(p *http2Peer) {
			p.send(http2Frame(framePriority, 0, 99, "\x00\x00\x00\x00\x10"))
			p.send(http2Frame(framePriority, 0, ended(p), "\x00\x00\x00\x00\x10"))
		}, nil},
		{"WINDOW_UPDATE and RST_STREAM behind an answer", func(p *http2Peer) {
			stream := ended(p)
			p.send(appendWindowUpdate(nil, stream, 1))
			p.send(appendRSTStream(nil, stream, codeCancel))
		}, nil},
		{"a setting that nobody knows", func(p *http2Peer) { p.settings(http2Setting{0x7777, 1}) }, nil},
		{"an error code that nobody knows", func(p *http2Peer) {
			p.reset(p.start("/wait"), 0x7777)
			p.send(http2Frame(frameSettings, 0xfe, 0, "")) // and flags
			p.pending = append(p.pending, nil)
		}, nil},
		{"a reserved bit", func(p *http2Peer) {
			b := appendWindowUpdate(nil, 0, 1)
			b[5] |= 0x80
			p.send(b)
		}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := s.dial(t)
			row.do(p)
			if row.codes == nil {
				p.get("/good").want(t, 200, "fine")
				p.readUntil("acknowledgements", func() bool { return len(p.pending) == 0 })
				return
			}
			p.toEnd()
			if n := len(p.goAway); n == 0 || p.goAway[n-1].code != row.codes[0] && p.goAway[n-1].code != row.codes[len(row.codes)-1] {
				t.Errorf("GOAWAY %v, want %v", p.goAway, row.codes)
			}
		})
	}
	t.Run("DATA behind the end of a request", func(t *testing.T) {
		p := s.dial(t)
		stream := p.start("/wait")
		p.send(appendData(nil, stream, []byte("x"), false))
		p.answer(stream).wantReset(t, codeStreamClosed)
		p.get("/good").want(t, 200, "fine")
	})
	t.Run("HEADERS in the middle of a request", func(t *testing.T) { // §8.1
		p := s.dial(t)
		stream := p.open(false, requestLines("POST", "/wait")...)
		p.send(headers(p, stream, false, "x: y"))
		p.answer(stream).wantReset(t, codeProtocol)
		p.get("/good").want(t, 200, "fine")
	})
	t.Run("RST_STREAM is not answered by one", func(t *testing.T) { // §5.4.2
		p := s.dial(t)
		stream := p.start("/wait")
		p.reset(stream, codeCancel)
		p.get("/good").want(t, 200, "fine")
		p.sync()
		if a := p.streams[stream]; a.reset || a.status != 0 {
			t.Errorf("a stream that was reset got %+v", a)
		}
	})
	t.Run("PING is answered with its octets", func(t *testing.T) { // §6.7; the peer compares
		p := s.dial(t)
		p.sync()
		p.sync()
	})
	// Beginnings, §3.4: over TLS, where nothing else was agreed on.
	secured := startHTTP2TLS(t, &Server{Logger: quietLogger(), Handler: textHandler("fine")})
	for name, begin := range map[string]string{
		"a preface that is cut off":    "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
		"a preface and no SETTINGS":    http2Preface + string(appendHTTP2Ping(nil, pingPayload(1), false)),
		"a preface and an answer":      http2Preface + string(appendSettingsAck(nil)),
		"a preface and half a request": http2Preface + strings.Repeat("x", 100),
	} {
		t.Run(name, func(t *testing.T) {
			p := secured.quiet(t)
			p.manual = true
			p.send([]byte(begin))
			p.toEnd()
			if n := len(p.goAway); n > 0 && p.goAway[n-1].code != codeProtocol && p.goAway[n-1].code != codeFrameSize {
				t.Errorf("GOAWAY %v", p.goAway)
			}
		})
	}
}
