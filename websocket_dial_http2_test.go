package flare

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

// WebSockets and calls share one connection to flare's own server, of handlers and of
// AcceptWebSocket, compressed and not, with messages beyond the windows.
func TestWebSocketDialHTTP2Server(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("0123456789abcdef", 64<<10) // 1 MiB
	for _, base := range []string{"cleartext", "TLS"} {
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			var conns atomic.Int32
			s := &Server{Handler: echoSockets(), ConnState: func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					conns.Add(1)
				}
			}}
			c := &Client{Protocols: new(http.Protocols), TLSConfig: tlsClientConfig()}
			defer c.CloseIdleConnections()
			if base == "TLS" {
				c.Protocols.SetHTTP2(true)
				c.BaseURL = "https://" + startHTTP2TLS(t, s).addr
			} else {
				c.Protocols.SetUnencryptedHTTP2(true)
				c.BaseURL = "http://" + startHTTP2(t, s).addr
			}
			resp, err := c.Get(soon(t), "/plain")
			clientWantText(t, resp, err, 200, "HTTP/2.0")
			waitForHTTP2(t, c, func(conn *http2ClientConn) bool { return conn.greeted })
			var all sync.WaitGroup
			for i := range 12 {
				all.Go(func() {
					opts := &WebSocketDialOptions{Client: c, WebSocketOptions: WebSocketOptions{MaxMessageBytes: 2 << 20, Subprotocols: []string{"echo"}}}
					if i%2 == 0 {
						opts.Compression = CompressionOn
					}
					url := strings.Replace(c.BaseURL, "http", "ws", 1) + []string{"/handler", "/accept", "/refuse"}[i%3]
					ws, resp, err := DialWebSocket(soon(t), url, opts)
					if i%3 == 2 {
						if err == nil || resp == nil || resp.StatusCode != 403 || resp.Proto() != "HTTP/2.0" {
							t.Errorf("a refusal: %v, %v", resp, err)
						}
						return
					}
					if err != nil {
						t.Errorf("%s: %v", url, err)
						return
					}
					if resp.StatusCode != 200 || resp.Proto() != "HTTP/2.0" || ws.Subprotocol() != "echo" || ws.compressed != (i%2 == 0) {
						t.Errorf("%d, %s, %q, compressed: %v", resp.StatusCode, resp.Proto(), ws.Subprotocol(), ws.compressed)
					}
					for _, text := range []string{"", "hello", large, "bye"} {
						if err := ws.WriteText(soon(t), text); err != nil {
							t.Errorf("%s: %v", url, err)
							return
						}
						if _, p, err := ws.Read(soon(t)); err != nil || string(p) != text {
							t.Errorf("%s: %d octets came back as %d, %v", url, len(text), len(p), err)
							return
						}
						resp, err := c.Get(soon(t), "/plain")
						clientWantText(t, resp, err, 200, "HTTP/2.0")
					}
					if err := ws.Close(CloseNormal, ""); err != nil {
						t.Errorf("%s: %v", url, err)
					}
				})
			}
			all.Wait()
			waitForHTTP2(t, c, func(conn *http2ClientConn) bool { return conn.active == 0 })
			if n := conns.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
			gone := make(chan error, 1) // a WebSocket hears of the server's end
			ws, _, err := DialWebSocket(soon(t), strings.Replace(c.BaseURL, "http", "ws", 1)+"/handler", &WebSocketDialOptions{Client: c})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _, err := ws.Read(soon(t))
				gone <- err
			}()
			if err := s.Shutdown(soon(t)); err != nil {
				t.Error(err)
			}
			var closed *CloseError
			if err := <-gone; !errors.As(err, &closed) || closed.Code != CloseGoingAway {
				t.Errorf("Shutdown: %v", err)
			}
		})
	}
}

// echoSockets has WebSockets of both kinds, and what is none.
func echoSockets() routes {
	opts := WebSocketOptions{MaxMessageBytes: 2 << 20, Compression: CompressionOn, Subprotocols: []string{"echo"}}
	return routes{
		"/plain":  HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, r.Proto()) }),
		"/refuse": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(403, "no") }),
		"/handler": &WebSocketHandler{WebSocketOptions: opts, OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
			return ws.Write(context.Background(), kind, p)
		}},
		"/accept": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			ws, err := AcceptWebSocket(w, r, &opts)
			for err == nil {
				var kind MessageKind
				var p []byte
				if kind, p, err = ws.Read(context.Background()); err == nil {
					err = ws.Write(context.Background(), kind, p)
				}
			}
			return nil
		}),
	}
}
