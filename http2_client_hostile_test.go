package flare

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// What servers do that break RFC 9113, or nothing but its spirit. The call ends
// with an error that says so, the connection or the stream with the code that the
// RFC names, and the next call goes over a connection that works.
func TestHTTP2ClientHostile(t *testing.T) {
	head := func(p *http2Answerer, stream uint32, fields ...[2]string) []byte {
		return p.headers(nil, stream, false, append([][2]string{{":status", "200"}}, fields...)...)
	}
	zero := [pingBytes]byte{}
	for _, test := range []struct {
		name  string
		act   func(p *http2Answerer, stream uint32)
		phase ClientPhase
		kind  error
		code  http2Code // of GOAWAY, or RST_STREAM
	}{
		{"DATA beyond the stream's window", func(p *http2Answerer, s uint32) {
			p.send(head(p, s))
			for range http2StreamWindow/frameSizeDefault + 1 {
				p.send(appendData(nil, s, make([]byte, frameSizeDefault), false))
			}
		}, PhaseBody, ErrMalformed, codeFlowControl},
		{"DATA before the head", func(p *http2Answerer, s uint32) {
			p.send(appendData(nil, s, []byte("x"), true))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"DATA longer than Content-Length", func(p *http2Answerer, s uint32) {
			p.send(appendData(head(p, s, [2]string{"content-length", "3"}), s, []byte("four"), true))
		}, PhaseBody, ErrMalformed, codeProtocol},
		{"DATA shorter than Content-Length", func(p *http2Answerer, s uint32) {
			p.send(appendData(head(p, s, [2]string{"content-length", "5"}), s, []byte("four"), true))
		}, PhaseBody, ErrMalformed, codeProtocol},
		{"no body in place of Content-Length", func(p *http2Answerer, s uint32) {
			p.send(p.headers(nil, s, true, [2]string{":status", "200"}, [2]string{"content-length", "5"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"two Content-Length", func(p *http2Answerer, s uint32) {
			p.send(head(p, s, [2]string{"content-length", "5"}, [2]string{"content-length", "6"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"no status", func(p *http2Answerer, s uint32) {
			p.send(p.headers(nil, s, false, [2]string{"a", "b"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"status 101", func(p *http2Answerer, s uint32) {
			p.send(p.headers(nil, s, false, [2]string{":status", "101"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"status 99", func(p *http2Answerer, s uint32) {
			p.send(p.headers(nil, s, false, [2]string{":status", "099"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"field of the connection", func(p *http2Answerer, s uint32) {
			p.send(head(p, s, [2]string{"connection", "close"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"control character in a value", func(p *http2Answerer, s uint32) {
			p.send(head(p, s, [2]string{"a", "b\r\nc: d"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"name in upper case", func(p *http2Answerer, s uint32) {
			b, at := beginHeaders(nil)
			b = append(p.enc.begin(b), 0x88, 0x00, 1, 'A', 1, 'b')
			p.send(endHeaders(b, at, s, true, frameSizeDefault))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"pseudo-field of a request", func(p *http2Answerer, s uint32) {
			p.send(p.headers(nil, s, false, [2]string{":status", "200"}, [2]string{":path", "/"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"too large a head", func(p *http2Answerer, s uint32) {
			p.send(head(p, s, [2]string{"a", strings.Repeat("~", 70<<10)}))
		}, PhaseHead, ErrTooLarge, codeCancel},
		{"too many fields", func(p *http2Answerer, s uint32) {
			var fields [][2]string
			for range 300 {
				fields = append(fields, [2]string{"a", "b"})
			}
			p.send(head(p, s, fields...))
		}, PhaseHead, ErrTooLarge, codeCancel},
		{"head without end", func(p *http2Answerer, s uint32) {
			b := appendHTTP2Head(nil, http2Head{length: 1, kind: frameHeaders, stream: s})
			p.send(append(b, 0x88))
			field := appendHPACKLiteral(nil, 0, 0x0f, 0, "a", strings.Repeat("~", 16000))
			for range 100 {
				b := appendHTTP2Head(nil, http2Head{length: uint32(len(field)), kind: frameContinuation, stream: s})
				p.send(append(b, field...))
			}
		}, PhaseHead, ErrTooLarge, codeEnhanceYourCalm},
		{"empty CONTINUATION without end", func(p *http2Answerer, s uint32) {
			p.send(append(appendHTTP2Head(nil, http2Head{length: 1, kind: frameHeaders, stream: s}), 0x88))
			p.send(bytes.Repeat(appendHTTP2Head(nil, http2Head{kind: frameContinuation, stream: s}), 1000))
		}, PhaseHead, ErrTooLarge, codeEnhanceYourCalm},
		{"bomb of references", func(p *http2Answerer, s uint32) {
			b, at := beginHeaders(nil)
			b = append(b, 0x88)
			b = appendHPACKLiteral(b, 0x40, 0x3f, 0, "bomb", strings.Repeat("x", 3000))
			b = append(b, bytes.Repeat([]byte{0xbe}, 10000)...)
			p.send(endHeaders(b, at, s, true, frameSizeDefault))
		}, PhaseHead, ErrTooLarge, codeCancel},
		{"index beyond the tables", func(p *http2Answerer, s uint32) {
			b, at := beginHeaders(nil)
			p.send(endHeaders(append(b, 0xff, 0x80, 0x01), at, s, true, frameSizeDefault))
		}, PhaseHead, ErrMalformed, codeCompression},
		{"1xx without end", func(p *http2Answerer, s uint32) {
			for range 50 {
				p.send(p.headers(nil, s, false, [2]string{":status", "103"}))
			}
		}, PhaseHead, ErrMalformed, codeCancel},
		{"1xx that ends the stream", func(p *http2Answerer, s uint32) {
			p.send(p.headers(nil, s, true, [2]string{":status", "103"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"trailer section that does not end", func(p *http2Answerer, s uint32) {
			p.send(p.headers(head(p, s), s, false, [2]string{"a", "b"}))
		}, PhaseBody, ErrMalformed, codeProtocol},
		{"pseudo-field in a trailer section", func(p *http2Answerer, s uint32) {
			p.send(p.headers(head(p, s), s, true, [2]string{":status", "200"}))
		}, PhaseBody, ErrMalformed, codeProtocol},
		{"PUSH_PROMISE", func(p *http2Answerer, s uint32) {
			p.send(appendHTTP2Head(nil, http2Head{kind: framePushPromise, stream: s, flags: flagEndHeaders}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"HEADERS on a stream of the server", func(p *http2Answerer, s uint32) {
			p.send(p.headers(nil, 2, true, [2]string{":status", "200"}))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"DATA on a stream to come", func(p *http2Answerer, s uint32) {
			p.send(appendData(nil, s+20, []byte("x"), true))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"WINDOW_UPDATE on a stream to come", func(p *http2Answerer, s uint32) {
			p.send(appendWindowUpdate(nil, s+20, 1))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"DATA on a stream that has ended", func(p *http2Answerer, s uint32) {
			p.answer(s, "") // the call is over; what follows is the next one's
			p.request()
			p.send(appendData(nil, s, []byte("x"), true))
		}, PhaseHead, ErrMalformed, codeStreamClosed},
		{"windows beyond 2^31-1", func(p *http2Answerer, s uint32) {
			p.send(appendWindowUpdate(nil, 0, streamMax))
		}, PhaseHead, ErrMalformed, codeFlowControl},
		{"window of a stream beyond 2^31-1", func(p *http2Answerer, s uint32) {
			p.send(appendWindowUpdate(nil, s, streamMax))
		}, PhaseHead, ErrMalformed, codeFlowControl},
		{"window increment of 0", func(p *http2Answerer, s uint32) {
			p.send(appendWindowUpdate(nil, s, 0))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"SETTINGS out of range", func(p *http2Answerer, s uint32) {
			p.settings(http2Setting{settingFrameSizeMax, 1})
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"SETTINGS with push", func(p *http2Answerer, s uint32) {
			p.settings(http2Setting{settingPush, 1})
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"too large a frame", func(p *http2Answerer, s uint32) {
			p.send(appendHTTP2Head(nil, http2Head{length: 1 << 20, kind: frameData, stream: s}))
		}, PhaseHead, ErrMalformed, codeFrameSize},
		{"PRIORITY_UPDATE", func(p *http2Answerer, s uint32) {
			p.send(append(appendHTTP2Head(nil, http2Head{length: 4, kind: framePriorityUpdate}), 0, 0, 0, 1))
		}, PhaseHead, ErrMalformed, codeProtocol},
		{"flood of PING", func(p *http2Answerer, s uint32) {
			p.send(bytes.Repeat(appendHTTP2Ping(nil, zero, false), 1000))
		}, PhaseHead, ErrTooLarge, codeEnhanceYourCalm},
		{"flood of SETTINGS", func(p *http2Answerer, s uint32) {
			p.send(bytes.Repeat(appendSettings(nil), 1000))
		}, PhaseHead, ErrTooLarge, codeEnhanceYourCalm},
		{"flood of empty DATA", func(p *http2Answerer, s uint32) {
			p.send(append(head(p, s), bytes.Repeat(appendData(nil, s, nil, false), 1000)...))
		}, PhaseBody, ErrTooLarge, codeEnhanceYourCalm},
		{"flood of RST_STREAM", func(p *http2Answerer, s uint32) {
			p.answer(s, "")
			p.request()
			p.send(bytes.Repeat(appendRSTStream(nil, s, codeCancel), 1000))
		}, PhaseHead, ErrTooLarge, codeEnhanceYourCalm},
		{"flood of unknown frames", func(p *http2Answerer, s uint32) {
			p.send(bytes.Repeat(appendHTTP2Head(nil, http2Head{kind: 0x50}), 1000))
		}, PhaseHead, ErrTooLarge, codeEnhanceYourCalm},
		{"RST_STREAM", func(p *http2Answerer, s uint32) {
			p.send(appendRSTStream(nil, s, codeInternal))
		}, PhaseHead, ErrReset, codeNone},
		{"RST_STREAM in the body", func(p *http2Answerer, s uint32) {
			p.send(appendRSTStream(appendData(head(p, s), s, []byte("x"), false), s, codeInternal))
		}, PhaseBody, ErrReset, codeNone},
		{"end of the connection in the body", func(p *http2Answerer, s uint32) {
			p.send(appendData(head(p, s), s, []byte("x"), false))
			p.nc.(*net.TCPConn).CloseWrite() // not Close: that resets if something has come since
		}, PhaseBody, ErrUnexpectedEOF, codeNone},
		{"GOAWAY with a reason, and the end", func(p *http2Answerer, s uint32) {
			p.send(appendGoAway(nil, s, codeInternal))
			p.nc.(*net.TCPConn).CloseWrite()
		}, PhaseHead, ErrReset, codeNone},
		{"silence", func(p *http2Answerer, s uint32) {}, PhaseHead, ErrTimeout, codeCancel},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			told := make(chan http2Code, 1)
			c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
				if n > 0 {
					p.serveAll("fine")
					return
				}
				p.settings()
				stream, ok := p.request()
				if !ok {
					return
				}
				test.act(p, stream)
				p.drain()
				code := codeNone
				for _, code = range p.reset {
				}
				if p.away != nil {
					code = p.away.code
				}
				told <- code
			})
			if test.kind == ErrTimeout {
				c.ResponseTimeout = 500 * time.Millisecond
			}
			var err error
			for range 2 { // some need the stream to be over
				resp, callErr := c.Do(soon(t), &ClientRequest{Method: "POST", URL: url})
				if err = callErr; err == nil {
					if test.code == codeFlowControl {
						awaitNoStreams(t, c) // who reads meanwhile opens the window
					}
					_, err = resp.Bytes()
				}
				if err != nil {
					break
				}
			}
			wantClientError(t, err, test.phase, test.kind)
			if strings.Contains(err.Error(), "~~") {
				t.Error("the error echoes the server")
			}
			c.http2.mu.Lock()
			for _, r := range c.http2.routes {
				if r.conn != nil {
					defer r.conn.close() // what was only a stream's fault left it open
				}
			}
			c.http2.mu.Unlock()
			c.CloseIdleConnections()
			if code := <-told; code != test.code {
				t.Errorf("the server was told %v, want %v", code, test.code)
			}
			resp, err := c.Get(soon(t), url)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := resp.Text(); err != nil || text != "fine" {
				t.Errorf("the next call: %q, %v", text, err)
			}
		})
	}
}

// A server that does not begin with SETTINGS, or speaks HTTP/1.1.
func TestHTTP2ClientNoPreface(t *testing.T) {
	for name, first := range map[string]string{
		"PING":     string(appendHTTP2Ping(nil, [pingBytes]byte{}, false)),
		"ACK":      string(appendSettingsAck(nil)),
		"HTTP/1.1": "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
	} {
		c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
			p.send([]byte(first))
			p.drain()
		})
		_, err := c.Get(soon(t), url)
		phase := PhaseHead
		if failed := (*ClientError)(nil); errors.As(err, &failed) && failed.Phase == PhaseWrite {
			phase = PhaseWrite // it was read before the request was sent
		}
		wantClientError(t, err, phase, ErrMalformed)
		if fault := (*http2Error)(nil); !errors.As(err, &fault) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// awaitNoStreams waits until c's connections have no streams.
func awaitNoStreams(t *testing.T, c *Client) {
	t.Helper()
	eventually(t, "the end of all streams", func() bool {
		c.http2.mu.Lock()
		defer c.http2.mu.Unlock()
		for _, r := range c.http2.routes {
			if r.conn != nil {
				r.conn.mu.Lock()
				n := len(r.conn.streams)
				r.conn.mu.Unlock()
				if n > 0 {
					return false
				}
			}
		}
		return true
	})
}
