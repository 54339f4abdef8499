package flare

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// wsDialWith connects with what a Client lends, and has a message echoed.
func wsDialWith(t *testing.T, rawURL string, o *WebSocketDialOptions) *ClientResponse {
	t.Helper()
	ctx := wsPatience(t)
	ws, resp, err := DialWebSocket(ctx, rawURL, o)
	if err != nil {
		t.Fatalf("%v, %+v", err, resp)
	}
	if err := ws.WriteText(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, p, err := ws.Read(ctx); err != nil || string(p) != "hello" {
		t.Fatalf("%q, %v", p, err)
	}
	if err := ws.Close(CloseNormal, ""); err != nil {
		t.Error(err)
	}
	return resp
}

func wsScheme(rawURL string) string { return "ws" + strings.TrimPrefix(rawURL, "http") }

// What a server says about its refusal is the caller's to read.
func TestDialWebSocketRefusal(t *testing.T) {
	long := strings.Repeat("no ", 5000)
	url := wsScheme(TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Retry-After", "7")
		return w.Text(503, long)
	})}))
	ws, resp, err := DialWebSocket(wsPatience(t), url+"/busy", nil)
	var he *handshakeError
	if ws != nil || !errors.As(err, &he) || he.status != 503 {
		t.Fatalf("%v, %v", ws, err)
	}
	if resp.StatusCode != 503 || resp.Reason() != "Service Unavailable" || resp.Header.Get("Retry-After") != "7" || resp.URL().Path != "/busy" || resp.OK() {
		t.Errorf("%+v", resp)
	}
	if text, err := resp.Text(); err != nil || text != long[:refusalBytesMax] {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	resp.Body.Close()
	if err := resp.Err(); !errors.As(err, new(*ResponseError)) {
		t.Errorf("%v", err)
	}
}

// A Client's credentials answer the challenge, and its jar has the cookies.
func TestDialWebSocketWithClient(t *testing.T) {
	digest := &DigestVerifier{Realm: "sockets"}
	echo := wsEcho(WebSocketOptions{})
	guarded := digest.Require(func(user string) (string, bool) { return "secret", user == "ann" })(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if value, ok := r.Cookie("seen"); ok && value == "yes" {
			w.Header().Set("X-Seen", "yes")
		}
		w.SetCookie(&Cookie{Name: "seen", Value: "yes", Path: "/"})
		return echo.Serve(w, r)
	}))
	url := wsScheme(TestServer(t, &Server{Handler: guarded}))
	client := &Client{Auth: DigestAuth("ann", "secret"), Jar: new(Jar)}
	if resp := wsDialWith(t, url+"/x?y=1", &WebSocketDialOptions{Client: client}); resp.Header.Get("X-Seen") != "" {
		t.Error("a cookie came from nowhere")
	}
	if resp := wsDialWith(t, url, &WebSocketDialOptions{Client: client}); resp.Header.Get("X-Seen") != "yes" {
		t.Error("the cookie of the first handshake was not sent with the second")
	}
	client.Auth = DigestAuth("ann", "wrong")
	if _, resp, err := DialWebSocket(wsPatience(t), url, &WebSocketDialOptions{Client: client}); err == nil || resp.StatusCode != 401 {
		t.Errorf("%v, %v", resp, err)
	}
	if _, resp, err := DialWebSocket(wsPatience(t), url, nil); err == nil || resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%v, %v", resp, err)
	}
}

// wsTunnels is a proxy that opens tunnels and does nothing else. It notes whom
// it was asked for.
func wsTunnels(t *testing.T, asked chan string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "tunnels only", http.StatusBadRequest)
			return
		}
		if r.Header.Get("Proxy-Authorization") != "Basic YTpi" { // a:b
			http.Error(w, "who are you", http.StatusProxyAuthRequired)
			return
		}
		asked <- r.Host
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		defer up.Close()
		down, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		done := make(chan bool)
		go func() {
			io.Copy(up, rw)
			up.(*net.TCPConn).CloseWrite()
			close(done)
		}()
		io.Copy(down, up)
		down.Close()
		<-done
	})
}

// A Client's proxy is asked for a tunnel, for ws as for wss (RFC 6455 §4.1),
// over TLS to the proxy too.
func TestDialWebSocketThroughProxy(t *testing.T) {
	asked := make(chan string, 1)
	plain := wsScheme(TestServer(t, &Server{Handler: wsEcho(WebSocketOptions{})}))
	secure := httptest.NewUnstartedServer(nil)
	secure.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		hs := handshake{key: r.Header.Get(fieldWSKey)}
		conn.Write(hs.appendAnswer(nil, new(headerFields)))
		reader := &messageReader{rules: frameRules{masked: true}, bytesMax: -1}
		buf := make([]byte, 4096)
		for {
			n, err := rw.Read(buf)
			for in := buf[:n]; err == nil && len(in) > 0; {
				used, ev, readErr := reader.next(in)
				if in = in[used:]; readErr != nil {
					t.Error(readErr)
				}
				switch ev {
				case eventMessage:
					conn.Write(append(appendFrameHead(nil, frameFin|byte(reader.kind), len(reader.data), false, 0), reader.data...))
				case eventClose:
					conn.Write(wsFrame(0x88, "\x03\xe8", false))
				}
			}
			if err != nil {
				return
			}
		}
	})
	secure.StartTLS()
	defer secure.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	config := &tls.Config{RootCAs: trusted}

	for name, start := range map[string]func(*httptest.Server){"http proxy": (*httptest.Server).Start, "https proxy": (*httptest.Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			proxy := httptest.NewUnstartedServer(wsTunnels(t, asked))
			start(proxy)
			defer proxy.Close()
			if cert := proxy.Certificate(); cert != nil {
				trusted.AddCert(cert)
			}
			via, _ := url.Parse(proxy.URL)
			via.User = url.UserPassword("a", "b")
			client := &Client{TLSConfig: config, Proxy: func(*url.URL) (*url.URL, error) { return via, nil }}
			for _, target := range []string{plain, wsScheme(secure.URL)} {
				wsDialWith(t, target, &WebSocketDialOptions{Client: client})
				_, want, _ := strings.Cut(target, "://")
				if got := <-asked; got != want {
					t.Errorf("the proxy was asked for %q, want %q", got, want)
				}
			}
			via.User = nil
			var refused *ResponseError
			if _, _, err := DialWebSocket(wsPatience(t), plain, &WebSocketDialOptions{Client: client}); !errors.As(err, &refused) || refused.StatusCode != 407 {
				t.Errorf("%v", err)
			}
		})
	}
}

// A proxy that says nothing is waited for as long as ctx says.
func TestDialWebSocketSilentProxy(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	via := &url.URL{Scheme: "http", Host: ln.Addr().String()}
	ctx, cancel := context.WithCancel(wsPatience(t))
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		request := make([]byte, 1024)
		if n, err := conn.Read(request); err != nil || !bytes.HasPrefix(request[:n], []byte("CONNECT h.test:80 ")) {
			t.Errorf("%q, %v", request[:n], err)
		}
		cancel()
		conn.Read(request) // to the end
	}()
	client := &Client{Proxy: func(*url.URL) (*url.URL, error) { return via, nil }}
	if _, _, err := DialWebSocket(ctx, "ws://h.test/", &WebSocketDialOptions{Client: client}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A refusal is one however the end of its body is found, and also where that
// does not come.
func TestDialWebSocketRefusalBodies(t *testing.T) {
	const head = "HTTP/1.1 403 Forbidden\r\n"
	for _, tt := range []struct {
		name, answer, want string
		stalls             bool
	}{
		{"length", head + "Content-Length: 2\r\n\r\nno", "no", false},
		{"chunked", head + "Transfer-Encoding: chunked\r\n\r\n1\r\nn\r\n1;a=b\r\no\r\n0\r\n\r\n", "no", false},
		{"until the end", head + "\r\nno", "no", false},
		{"no body", "HTTP/1.1 304 Not Modified\r\n\r\n", "", false},
		{"interim", "HTTP/1.1 103 Early Hints\r\n\r\n" + head + "Content-Length: 2\r\n\r\nno", "no", false},
		{"length, stalls", head + "Content-Length: 9\r\n\r\nno", "no", true},
		{"chunked, stalls", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nno", "no", true},
		{"until the end, stalls", head + "\r\nno", "no", true},
		{"malformed chunks", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nnox", "no", false},
		{"long, stalls", head + "Content-Length: 100000\r\n\r\n" + strings.Repeat("n", 10_000), strings.Repeat("n", refusalBytesMax), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := clientRawServer(t, func(c net.Conn) {
				io.WriteString(c, tt.answer)
				if !tt.stalls {
					c.(*net.TCPConn).CloseWrite()
				}
				io.Copy(io.Discard, c)
			})
			ws, resp, err := DialWebSocket(wsPatience(t), wsScheme(url), &WebSocketDialOptions{HandshakeTimeout: patience})
			if !errors.As(err, new(*handshakeError)) || ws != nil || resp == nil {
				t.Fatalf("%v, %+v", err, resp)
			}
			if got, err := resp.Text(); err != nil || got != tt.want {
				t.Errorf("%.20q, %v", got, err)
			}
		})
	}
	// The time for the handshake may end in the body: the refusal has come.
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, head+"Content-Length: 9\r\n\r\nno")
		io.Copy(io.Discard, c)
	})
	ctx, cancel := context.WithCancel(wsPatience(t))
	defer cancel()
	nd := func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return cancelBehindHead{c, cancel}, err
	}
	if _, resp, err := DialWebSocket(ctx, wsScheme(url), &WebSocketDialOptions{NetDial: nd}); !errors.As(err, new(*handshakeError)) || resp.StatusCode != 403 {
		t.Errorf("%v", err)
	}
}

// cancelBehindHead calls cancel once something was read.
type cancelBehindHead struct {
	net.Conn
	cancel func()
}

func (c cancelBehindHead) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p[:min(len(p), len("HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n"))])
	if n > 20 {
		c.cancel()
	}
	return n, err
}

// No more interim responses are read than for other requests.
func TestDialWebSocketInterims(t *testing.T) {
	url := clientRawServer(t, func(c net.Conn) {
		for { // until the client has had enough
			if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
				return
			}
		}
	})
	_, resp, err := DialWebSocket(wsPatience(t), wsScheme(url), nil)
	if resp != nil || !errors.Is(err, ErrMalformed) || !errors.Is(err, errInterim) {
		t.Errorf("%v, %v", resp, err)
	}
}
