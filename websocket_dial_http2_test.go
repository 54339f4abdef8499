package flare

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// webSocketFrame takes a masked frame of less than 126 octets apart.
func webSocketFrame(t testing.TB, p []byte) (opcode byte, text string, rest []byte) {
	n := int(p[1] & 0x7f)
	if p[1]&0x80 == 0 || n > 125 || len(p) < 6+n {
		t.Errorf("frame % x", p)
		return 0, "", nil
	}
	b := slices.Clone(p[6 : 6+n])
	for i := range b {
		b[i] ^= p[2+i%4]
	}
	return p[0] & 0x0f, string(b), p[6+n:]
}

// A WebSocket shares the connection that its client has (RFC 8441).
func TestWebSocketDialHTTP2(t *testing.T) {
	t.Parallel()
	closed := make(chan bool, 1)
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		if n > 0 {
			t.Error("a second connection was made")
		}
		p.settings(http2Setting{settingConnect, 1})
		first, _ := p.request()
		p.answer(first, "x")
		stream, ok := p.request()
		if !ok {
			return
		}
		lines := p.sect.lines()
		for _, want := range []string{":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: /chat?a=b", "sec-websocket-version: 13", "x-own: yes"} {
			if !slices.Contains(lines, want) {
				t.Errorf("no %q in %q", want, lines)
			}
		}
		for _, line := range lines {
			for _, not := range []string{"host:", "connection:", "upgrade:", "sec-websocket-key:"} {
				if strings.HasPrefix(line, not) {
					t.Errorf("field %q", line)
				}
			}
		}
		p.send(p.headers(nil, stream, false, [2]string{":status", "200"}, [2]string{"sec-websocket-protocol", "b"}))
		for {
			h, payload, ok := p.next()
			if !ok {
				return
			}
			for h.kind == frameData && h.stream == stream && len(payload) > 0 {
				var opcode byte
				var text string
				if opcode, text, payload = webSocketFrame(t, payload); opcode == 8 {
					p.send(appendData(nil, stream, append([]byte{0x88, byte(len(text))}, text...), true))
				} else {
					p.send(appendData(nil, stream, append([]byte{0x80 | opcode, byte(len(text))}, text...), false))
				}
			}
			if h.kind == frameData && h.endStream() {
				closed <- true
				p.drain()
			}
		}
	})
	resp, err := c.Get(soon(t), url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	opts := &WebSocketDialOptions{Client: c, WebSocketOptions: WebSocketOptions{Subprotocols: []string{"a", "b"}}}
	opts.Header.Set("X-Own", "yes")
	ws, resp, err := DialWebSocket(soon(t), strings.Replace(url, "http", "ws", 1)+"/chat?a=b", opts)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Proto() != "HTTP/2.0" || ws.Subprotocol() != "b" {
		t.Errorf("%d, %s, %q", resp.StatusCode, resp.Proto(), ws.Subprotocol())
	}
	for range 3 {
		if err := ws.WriteText(soon(t), "hello"); err != nil {
			t.Fatal(err)
		}
		_, p, err := ws.Read(soon(t))
		if err != nil || string(p) != "hello" {
			t.Fatalf("%q, %v", p, err)
		}
	}
	short, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := ws.Read(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a Read whose context ends: %v", err)
	}
	ws.Close(1000, "")
	<-closed
	waitForHTTP2(t, c, func(conn *http2ClientConn) bool { return conn.active == 0 })
}

// A refusal over HTTP/2 has its body; without the setting, or without a connection,
// the handshake goes over HTTP/1.1.
func TestWebSocketDialHTTP2Refused(t *testing.T) {
	t.Parallel()
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		p.settings(http2Setting{settingConnect, 1})
		first, _ := p.request()
		p.answer(first, "x")
		stream, _ := p.request()
		b := p.headers(nil, stream, false, [2]string{":status", "403"})
		p.send(appendData(b, stream, []byte("no"), true))
		p.drain()
	})
	resp, err := c.Get(soon(t), url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, resp, err = DialWebSocket(soon(t), strings.Replace(url, "http", "ws", 1), &WebSocketDialOptions{Client: c})
	if err == nil || resp == nil || resp.StatusCode != 403 {
		t.Fatalf("%v, %v", resp, err)
	}
	if text, _ := resp.Text(); text != "no" {
		t.Errorf("body %q", text)
	}
	std, c := http2Std(t, "TLS", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		io.WriteString(w, r.Proto)
	}))
	if resp, err = c.Get(soon(t), std); err != nil || resp.Proto() != "HTTP/2.0" {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	_, resp, err = DialWebSocket(soon(t), strings.Replace(std, "http", "ws", 1), &WebSocketDialOptions{Client: c})
	if err == nil || resp == nil {
		t.Fatal(resp, err)
	}
	if text, _ := resp.Text(); text != "HTTP/1.1" {
		t.Errorf("the handshake went over %q", text)
	}
}
