package flare

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// This file has WebSockets over HTTP/2 (RFC 8441), and what else CONNECT may be.

// webSocketLines is an extended CONNECT for a WebSocket.
func webSocketLines(path string, more ...string) []string {
	return append([]string{":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: " + path, ":authority: h",
		"sec-websocket-version: 13", "origin: http://h"}, more...)
}

// maskedText is a text message of a client, whose mask is 0.
func maskedText(text string) []byte {
	return append([]byte{0x81, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
}

// A WebSocket on a stream echoes, beside other requests, and closes in order.
func TestHTTP2WebSocket(t *testing.T) {
	t.Parallel()
	overBoth(t, func() *Server {
		mux := NewMux()
		mux.Handle("GET /handler", &WebSocketHandler{
			OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
				return ws.Write(context.Background(), kind, p)
			},
		})
		mux.Get("/accept", func(w *ResponseWriter, r *Request) error {
			ws, err := AcceptWebSocket(w, r, &WebSocketOptions{Subprotocols: []string{"chat"}})
			if err != nil {
				return err
			}
			go func() { // it outlives the handler
				for {
					kind, p, err := ws.Read(context.Background())
					if err != nil {
						return
					}
					if ws.Write(context.Background(), kind, p) != nil {
						return
					}
				}
			}()
			return nil
		})
		mux.Get("/plain", func(w *ResponseWriter, r *Request) error { return w.Text(200, r.Method()) })
		return &Server{Loops: 1, Handler: mux}
	}, func(t *testing.T, s *Server, dial func(...http2Setting) *http2Peer) {
		p := dial()
		p.get("/plain").want(t, 200, "GET")
		if !p.theirs.connect {
			t.Fatal("extended CONNECT is not offered")
		}
		for _, path := range []string{"/handler", "/accept", "/handler"} {
			id := p.open(false, webSocketLines(path, "sec-websocket-protocol: chat")...)
			a := p.streams[id]
			p.readUntil("the handshake", func() bool { return a.status != 0 || a.done() })
			if a.status != 200 || a.ended {
				t.Fatalf("%v", a)
			}
			if got := a.fields.Get("sec-websocket-protocol"); path == "/accept" && got != "chat" {
				t.Errorf("subprotocol %q", got)
			}
			if a.fields.has("sec-websocket-accept") || a.fields.has("upgrade") {
				t.Errorf("%q", a.fields.list)
			}
			want := ""
			for range 3 {
				p.data(id, maskedText("hello"), false)
				want += "\x81\x05hello"
				p.readUntil("the echo", func() bool { return len(a.body) >= len(want) || a.done() })
				if string(a.body) != want {
					t.Fatalf("%v", a)
				}
				p.get("/plain").want(t, 200, "GET")
			}
			p.data(id, []byte{0x88, 0x82, 0, 0, 0, 0, 3, 0xe8}, false) // close, 1000
			p.readUntil("the close frame", func() bool { return len(a.body) >= len(want)+4 || a.done() })
			if got := string(a.body[len(want):]); got != "\x88\x02\x03\xe8" {
				t.Fatalf("%q", got)
			}
			p.data(id, nil, true)
			p.answer(id)
			if !a.ended {
				t.Errorf("%v", a)
			}
		}
		p.nc.Close()
		gone(t, s)
	})
}

// A WebSocket ends with its stream, and Shutdown says goodbye to it.
func TestHTTP2WebSocketEnds(t *testing.T) {
	t.Parallel()
	closed := make(chan CloseCode, 4)
	s := &Server{Loops: 1, Handler: &WebSocketHandler{
		OnClose: func(ws *WebSocket, code CloseCode, reason string) { closed <- code },
	}}
	p := dialHTTP2(t, startHTTP2Server(t, s))
	p.sync()
	open := func() uint32 {
		id := p.open(false, webSocketLines("/")...)
		p.readUntil("the handshake", func() bool { return p.streams[id].status == 200 })
		return id
	}
	p.reset(open(), codeCancel)
	if code := <-closed; code != CloseAbnormal {
		t.Errorf("a stream that is reset: %v", code)
	}
	id := open()
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	a := p.streams[id]
	p.readUntil("the close frame", func() bool { return len(a.body) >= 4 || a.done() })
	if got := string(a.body); !strings.HasPrefix(got, "\x88\x02\x03\xe9") {
		t.Errorf("%q", got)
	}
	p.data(id, []byte{0x88, 0x82, 0, 0, 0, 0, 3, 0xe9}, true)
	if code := <-closed; code != CloseGoingAway {
		t.Errorf("Shutdown: %v", code)
	}
	p.toEnd()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// CONNECT reaches a route for it, and else is refused.
func TestHTTP2Connect(t *testing.T) {
	t.Parallel()
	mux := NewMux()
	mux.Get("/", func(w *ResponseWriter, r *Request) error { return w.Text(200, "get") })
	p := dialHTTP2(t, startHTTP2Server(t, &Server{Loops: 1, Handler: mux}))
	p.sync()
	if a := p.answer(p.open(true, ":method: CONNECT", ":authority: h:443")); a.status != 405 {
		t.Errorf("CONNECT: %v", a)
	}
	if a := p.answer(p.open(true, ":method: CONNECT", ":protocol: other", ":scheme: http", ":path: /", ":authority: h")); a.status != 405 {
		t.Errorf("an extended CONNECT for something else: %v", a)
	}
	if a := p.get("/", "upgrade: websocket"); !a.reset || a.code != codeProtocol {
		t.Errorf("Upgrade: %v", a)
	}
}

// The pings of a WebSocket stand behind other answers of the connection: that the
// client does not answer them meanwhile says nothing.
func TestHTTP2WebSocketBehindOthers(t *testing.T) {
	t.Parallel()
	const heartbeat = time.Second
	closed := make(chan CloseCode, 1)
	s := &Server{Loops: 1, HTTP2: &http.HTTP2Config{SendPingTimeout: 400 * time.Millisecond, PingTimeout: patience}, Handler: routes{
		"/endless": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for octets := make([]byte, 16<<10); ; {
				if _, err := w.Write(octets); err != nil {
					return err
				}
			}
		}),
		"/": &WebSocketHandler{
			WebSocketOptions: WebSocketOptions{Heartbeat: heartbeat},
			OnClose:          func(ws *WebSocket, code CloseCode, reason string) { closed <- code },
		},
	}}
	p := dialHTTP2(t, startHTTP2Server(t, s), http2Setting{settingWindow, 1 << 20})
	p.sync()
	p.keep = false
	pings := 0
	p.onData = func(a *http2Answer, octets []byte) {
		if a.tunnel && len(octets) > 0 { // one that was not behind
			pings++
			p.send(appendData(nil, a.id, wsFrame(0x8a, "", true), false))
		}
	}
	p.start("/endless")
	p.open(false, webSocketLines("/")...)
	began := time.Now()
	p.readUntil("some heartbeats", func() bool { return time.Since(began) > 7*heartbeat/2 || len(closed) > 0 })
	if len(closed) > 0 {
		t.Errorf("ended with %v, behind %d pings", <-closed, pings)
	}
	p.nc.Close()
	gone(t, s)
}
