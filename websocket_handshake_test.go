package flare

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestHandshakeRefusals(t *testing.T) {
	const (
		line    = "GET /ws HTTP/1.1\r\n"
		host    = "Host: h.example:80\r\n"
		upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
		key     = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		version = "Sec-WebSocket-Version: 13\r\n"
		good    = line + host + upgrade + key + version
	)
	cases := []struct {
		name    string
		request string
		status  int
		fields  string // of the answer
	}{
		{"good", good, 101, "Upgrade: websocket"},
		{"lists and case", line + host + "upgrade: h2c, WebSocket\r\nconnection: keep-alive, UPGRADE\r\n" + key + version, 101, ""},
		{"Content-Length 0", good + "Content-Length: 0\r\n", 101, ""},
		{"no Upgrade", line + host + "Connection: Upgrade\r\n" + key + version, 426, "Upgrade: websocket"},
		{"no Connection", line + host + "Upgrade: websocket\r\n" + key + version, 426, "Upgrade: websocket"},
		{"plain request", line + host, 426, "Upgrade: websocket"},
		{"version 8", line + host + upgrade + key + "Sec-WebSocket-Version: 8\r\n", 426, "Sec-Websocket-Version: 13"},
		{"no version", line + host + upgrade + key, 426, "Sec-Websocket-Version: 13"},
		{"two versions", good + version, 426, "Sec-Websocket-Version: 13"},
		{"POST", strings.Replace(good, "GET", "POST", 1), 400, ""},
		{"HEAD", strings.Replace(good, "GET", "HEAD", 1), 400, ""},
		{"HTTP/1.0", strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), 400, ""},
		{"no key", line + host + upgrade + version, 400, ""},
		{"two keys", good + key, 400, ""},
		{"empty key", line + host + upgrade + version + "Sec-WebSocket-Key:\r\n", 400, ""},
		{"key of 15 octets", line + host + upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j\r\n", 400, ""},
		{"key of 17 octets", line + host + upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE=\r\n", 400, ""},
		{"key with bits left over", line + host + upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n", 400, ""},
		{"key not base64", line + host + upgrade + version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!\r\n", 400, ""},
		{"body", good + "Content-Length: 5\r\n\r\nhel", 400, "Connection: close"},
		{"chunked body", good + "Transfer-Encoding: chunked\r\n\r\n0\r\n", 400, "Connection: close"},
		{"own origin", good + "Origin: http://h.example:80\r\n", 101, ""},
		{"own origin, case", good + "Origin: https://H.Example:80\r\n", 101, ""},
		{"other origin", good + "Origin: http://evil.example\r\n", 403, ""},
		{"other port", good + "Origin: http://h.example:81\r\n", 403, ""},
		{"own name as a suffix", good + "Origin: http://evilh.example:80\r\n", 403, ""},
		{"null", good + "Origin: null\r\n", 403, ""},
		{"empty origin", good + "Origin:\r\n", 403, ""},
		{"two origins", good + "Origin: http://h.example:80\r\nOrigin: http://h.example:80\r\n", 403, ""},
		{"user in the origin", good + "Origin: http://h.example:80@evil.example\r\n", 403, ""},
		{"host pattern", good + "Origin: https://a.friend.example\r\n", 101, ""},
		{"host pattern, not below", good + "Origin: https://friend.example\r\n", 403, ""},
		{"pattern with scheme", good + "Origin: https://app.example:8443\r\n", 101, ""},
		{"pattern with scheme, other scheme", good + "Origin: http://app.example:8443\r\n", 403, ""},
		{"subprotocol", good + "Sec-WebSocket-Protocol: x, b\r\n", 101, "Sec-Websocket-Protocol: b"},
		{"the server's favourite", good + "Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Protocol: a\r\n", 101, "Sec-Websocket-Protocol: a"},
		{"no subprotocol in common", good + "Sec-WebSocket-Protocol: c, B\r\n", 101, "-Sec-Websocket-Protocol"},
		{"subprotocol no token", good + "Sec-WebSocket-Protocol: a, (\r\n", 400, ""},
		{"subprotocol empty", good + "Sec-WebSocket-Protocol: a,,b\r\n", 400, ""},
		{"compression", good + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n", 101,
			"Sec-Websocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{"compression not understood", good + "Sec-WebSocket-Extensions: permessage-deflate; x\r\n", 101, "-Sec-Websocket-Extensions"},
		{"extensions malformed", good + "Sec-WebSocket-Extensions: ;\r\n", 400, ""},
	}
	opts := WebSocketOptions{
		Subprotocols: []string{"a", "b"}, OriginPatterns: []string{"*.friend.example", "https://app.example:8443"}, Compression: CompressionOn,
	}
	for style, h := range map[string]Handler{"loop": wsEcho(opts), "blocking": wsEchoBlocking(opts)} {
		t.Run(style, func(t *testing.T) {
			s := &Server{Handler: h, Logger: quietLogger()}
			url := TestServer(t, s)
			for _, c := range cases {
				conn := dialRaw(t, strings.TrimPrefix(url, "http://"))
				conn.send(c.request, "\r\n")
				method, _, _ := strings.Cut(c.request, " ")
				a := conn.answer(method)
				if a.StatusCode != c.status {
					t.Errorf("%s: %d %q, want %d", c.name, a.StatusCode, a.body, c.status)
				}
				name, value, _ := strings.Cut(c.fields, ": ")
				if absent, ok := strings.CutPrefix(name, "-"); ok {
					if a.Header.Get(absent) != "" {
						t.Errorf("%s: %s is %q", c.name, absent, a.Header.Get(absent))
					}
				} else if name == "Connection" {
					if !a.Close {
						t.Errorf("%s: the connection stays open", c.name)
					}
				} else if name != "" && a.Header.Get(name) != value {
					t.Errorf("%s: %s is %q, want %q", c.name, name, a.Header.Get(name), value)
				}
				conn.Close()
			}
			gone(t, s)
		})
	}
}

func TestOriginAny(t *testing.T) {
	url := TestServer(t, &Server{Handler: wsEcho(WebSocketOptions{OriginPatterns: []string{"*"}})})
	for _, origin := range []string{"http://evil.example", "null", "file://"} {
		wsRaw(t, url, "Origin: "+origin+"\r\n")
	}
}

// TestOriginDefaultPort holds that a default port may be written or left out,
// on either side: what is behind a proxy sees another Host than the page's.
func TestOriginDefaultPort(t *testing.T) {
	patterns := []string{"a.example", "b.example:443", "https://c.example", "https://d.example:443", "*.e.example:80", "f.example:8443", "x-app://g"}
	for _, c := range []struct {
		host, origin string
		want         bool
	}{
		{"h", "http://h:80", true},
		{"h", "https://h:443", true},
		{"h:80", "http://h", true},
		{"h:443", "https://h", true},
		{"h:", "https://h", true},
		{"H:443", "HTTPS://h", true},
		{"[::1]:443", "https://[::1]", true},
		{"[::1]", "http://[::1]:80", true},
		{"h", "https://h:80", false},
		{"h", "http://h:443", false},
		{"h:443", "http://h", false},
		{"h:80", "https://h", false},
		{"h:8080", "http://h", false},
		{"h", "http://h:8080", false},
		{"h:80", "http://h:8080", false},
		{"h:180", "http://h:1", false},
		{"h", "x-app://h:80", false},
		{"h", "https://a.example:443", true},
		{"h", "http://a.example:80", true},
		{"h", "http://a.example:8080", false},
		{"h", "https://b.example", true},
		{"h", "https://b.example:443", true},
		{"h", "http://b.example", false},
		{"h", "https://c.example:443", true},
		{"h", "http://c.example:443", false},
		{"h", "https://d.example", true},
		{"h", "http://d.example", false},
		{"h", "http://x.e.example", true},
		{"h", "https://x.e.example", false},
		{"h", "https://f.example", false},
		{"h", "https://f.example:8443", true},
		{"h", "x-app://g", true},
		{"h", "x-app://i", false},
	} {
		r := serverRequest{x: new(exchange)}
		r.head.reset()
		r.raw = []byte("GET / HTTP/1.1\r\nHost: " + c.host + "\r\nOrigin: " + c.origin + "\r\n\r\n")
		if _, err := r.head.parse(r.raw, &benchLimits); err != nil {
			t.Fatal(err)
		}
		if got := originAllowed(&r, patterns); got != c.want {
			t.Errorf("page of %s on host %s: allowed %t, want %t", c.origin, c.host, got, c.want)
		}
	}
}

// A handler's own fields stand in the 101, and none that would break it.
func TestHandshakeFields(t *testing.T) {
	ws := wsEcho(WebSocketOptions{})
	url := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-Mine", "yes")
		w.Header().Set("Content-Length", "7")
		w.Header().Set("Connection", "close")
		w.Header().Set("Sec-WebSocket-Accept", "wrong")
		return ws.Serve(w, r)
	})})
	c := dialRaw(t, strings.TrimPrefix(url, "http://"))
	c.send(wsTestHandshake, "\r\n")
	a := c.answer("GET")
	if a.StatusCode != 101 || a.Header.Get("X-Mine") != "yes" || a.Header.Get("Content-Length") != "" ||
		a.Header.Get("Connection") != "Upgrade" || len(a.Header.Values("Sec-WebSocket-Accept")) != 1 {
		t.Errorf("%d %q", a.StatusCode, a.Header)
	}
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	const (
		top    = "HTTP/1.1 101 Switching Protocols\r\n"
		fields = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
		accept = "Sec-WebSocket-Accept: $\r\n"
	)
	cases := []struct {
		name   string
		answer string // $ stands for the right value
		rule   string // "": accepted
	}{
		{"good", top + fields + accept + "\r\n", ""},
		{"early response before", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + top + fields + accept + "\r\n", ""},
		{"several before", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 3) + top + fields + accept + "\r\n", ""},
		{"200", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope", "not 101"},
		{"302", "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "not 101"},
		{"no Upgrade", top + "Connection: Upgrade\r\n" + accept + "\r\n", "Upgrade"},
		{"other Upgrade", top + "Upgrade: h2c\r\nConnection: Upgrade\r\n" + accept + "\r\n", "Upgrade"},
		{"no Connection", top + "Upgrade: websocket\r\n" + accept + "\r\n", "Upgrade"},
		{"no accept", top + fields + "\r\n", "Accept"},
		{"wrong accept", top + fields + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n", "Accept"},
		{"two accepts", top + fields + accept + accept + "\r\n", "Accept"},
		{"subprotocol", top + fields + accept + "Sec-WebSocket-Protocol: b\r\n\r\n", ""},
		{"subprotocol not offered", top + fields + accept + "Sec-WebSocket-Protocol: c\r\n\r\n", "subprotocol"},
		{"two subprotocols", top + fields + accept + "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n\r\n", "subprotocol"},
		{"compression", top + fields + accept + "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n", ""},
		{"compression with takeover", top + fields + accept + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "extension"},
		{"other extension", top + fields + accept + "Sec-WebSocket-Extensions: x\r\n\r\n", "extension"},
		{"malformed extension", top + fields + accept + "Sec-WebSocket-Extensions: ;\r\n\r\n", "extension"},
	}
	for _, c := range cases {
		client, server := net.Pipe()
		go func() {
			br := make([]byte, 4096)
			n, _ := server.Read(br)
			_, key, _ := strings.Cut(string(br[:n]), "Sec-WebSocket-Key: ")
			key, _, _ = strings.Cut(key, "\r\n")
			server.Write([]byte(strings.ReplaceAll(c.answer, "$", string(appendAccept(nil, key)))))
		}()
		opts := &WebSocketDialOptions{WebSocketOptions: WebSocketOptions{Subprotocols: []string{"a", "b"}, Compression: CompressionOn}}
		opts.NetDial = func(context.Context, string, string) (net.Conn, error) { return client, nil }
		ws, resp, err := DialWebSocket(context.Background(), "ws://h/", opts)
		var he *handshakeError
		switch {
		case c.rule == "" && (err != nil || ws == nil):
			t.Errorf("%s: %v", c.name, err)
		case c.rule != "" && (!errors.As(err, &he) || !strings.Contains(he.rule, c.rule) || !errors.Is(err, ErrMalformed)):
			t.Errorf("%s: %v; want %q", c.name, err, c.rule)
		case resp == nil:
			t.Errorf("%s: no response", c.name)
		case c.name == "200":
			if text, err := resp.Text(); err != nil || text != "nope" || resp.ContentLength != 4 || resp.Reason() != "OK" {
				t.Errorf("%s: body %q, %v", c.name, text, err)
			}
		}
		server.Close()
		client.Close()
	}
}

// What a caller gives is checked before a byte is sent.
func TestDialChecks(t *testing.T) {
	dialled := false
	for _, url := range []string{"", "http://h/", "ws://", "ws:///x", "ws://u:p@h/", "ws://h/#f", "ws://h:port/", "ws://h\r\n/", "ws://h/\x00", "h", "wss:h"} {
		opts := &WebSocketDialOptions{NetDial: func(context.Context, string, string) (net.Conn, error) { dialled = true; return nil, net.ErrClosed }}
		if _, _, err := DialWebSocket(context.Background(), url, opts); err == nil || dialled {
			t.Errorf("%q: %v, dialled %v", url, err, dialled)
		}
	}
	for _, name := range []string{"Host", "Upgrade", "Sec-WebSocket-Key", "Content-Length", "Sec-WebSocket-Extensions"} {
		opts := new(WebSocketDialOptions)
		opts.Header.Set(name, "x")
		if _, _, err := DialWebSocket(context.Background(), "ws://127.0.0.1:1/", opts); err != errHandshakeHeader {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, list := range [][]string{{"a b"}, {""}, {"a", "b", "a"}} {
		opts := &WebSocketDialOptions{WebSocketOptions: WebSocketOptions{Subprotocols: list}}
		if _, _, err := DialWebSocket(context.Background(), "ws://127.0.0.1:1/", opts); err != errHandshakeHeader {
			t.Errorf("%q: %v", list, err)
		}
	}
	opts := new(WebSocketDialOptions)
	opts.Header.Set("X", "a\r\nb")
	if _, _, err := DialWebSocket(context.Background(), "ws://127.0.0.1:1/", opts); err == nil {
		t.Error("a field with a line break was sent")
	}
}

func TestDialContext(t *testing.T) {
	client, server := net.Pipe() // a server that never answers
	defer server.Close()
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := server.Read(buf); err != nil {
				return
			}
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	opts := &WebSocketDialOptions{NetDial: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
	if _, _, err := DialWebSocket(ctx, "ws://h/", opts); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Keys come from a CSPRNG and are never the same.
func TestWebSocketKeys(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		key := newWebSocketKey()
		if !isWebSocketKey(key) || seen[key] {
			t.Fatalf("key %q", key)
		}
		seen[key] = true
	}
}

func TestHandshakeThroughTestClient(t *testing.T) {
	resp, err := TestClient(t, &Server{Handler: wsEcho(WebSocketOptions{})}).Get("http://h/")
	if err != nil || resp.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("%v, %v", resp, err)
	}
}
