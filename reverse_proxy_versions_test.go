package flare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
)

// protocols are one version without TLS.
func proxyProtocols(http2 bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	return p
}

// eachProxyVersion runs a test with HTTP/1.1 and HTTP/2, in front of a proxy and behind
// it.
func eachProxyVersion(t *testing.T, upstream Handler, test func(t *testing.T, c *Client, url string, proto string)) {
	for _, front := range []bool{false, true} {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("front %v back %v", front, back), func(t *testing.T) {
				t.Parallel()
				behind := TestServer(t, &Server{Handler: upstream, Protocols: proxyProtocols(back), Logger: quietLogger(), TrustedProxies: []string{"loopback"}})
				pc := proxyTestClient(t)
				pc.Protocols = proxyProtocols(back)
				addr := startProxyOf(t, &Server{Protocols: proxyProtocols(front)}, &ReverseProxy{Upstreams: []string{behind}, Client: pc})
				c := proxyTestClient(t)
				c.Protocols = proxyProtocols(front)
				proto := "HTTP/1.1"
				if back {
					proto = "HTTP/2.0"
				}
				test(t, c, "http://"+addr, proto)
			})
		}
	}
}

// TestReverseProxyVersions passes on what all versions of HTTP have: bodies, trailers
// both ways, early hints.
func TestReverseProxyVersions(t *testing.T) {
	t.Parallel()
	mux := NewMux()
	mux.Post("/sum", func(w *ResponseWriter, r *Request) error {
		h := new(Header)
		h.Add("Link", "</a.css>; rel=preload")
		w.Informational(http.StatusEarlyHints, h)
		n, err := io.Copy(w, r.Body())
		if err != nil {
			return err
		}
		w.Flush()
		w.Trailer().Set("X-Sum", fmt.Sprint(n, " ", r.Trailer().Get("X-Told"), " ", r.Proto(), " ", r.Header().Get("TE")))
		return nil
	})
	eachProxyVersion(t, mux, func(t *testing.T, c *Client, url, proto string) {
		for _, n := range []int{0, 1, 100_000, 3 << 20} {
			hints := ""
			ctx := httptrace.WithClientTrace(soon(t), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				hints += fmt.Sprint(code, h.Get("Link"))
				return nil
			}})
			body := strings.Repeat("x", n)
			req := &ClientRequest{Method: "POST", URL: url + "/sum", Body: struct{ io.Reader }{strings.NewReader(body)}}
			req.Trailer = func(h *Header) { h.Set("X-Told", "told") }
			req.Header.Set("TE", "trailers")
			resp, err := c.Do(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := resp.Text()
			if err != nil || got != body {
				t.Errorf("%d of %d octets, %v", len(got), n, err)
			}
			if sum, want := resp.Trailer().Get("X-Sum"), fmt.Sprintf("%d told %s trailers", n, proto); sum != want {
				t.Errorf("trailer %q, want %q", sum, want)
			}
			if want := "103</a.css>; rel=preload"; hints != want {
				t.Errorf("hints %q", hints)
			}
		}
	})
}

// TestReverseProxyDuplex has each octet come back before the next is sent.
func TestReverseProxyDuplex(t *testing.T) {
	t.Parallel()
	echo := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if err := w.Flush(); err != nil {
			return err
		}
		var p [1]byte
		for {
			if _, err := r.Body().Read(p[:]); err != nil {
				return nil
			}
			w.Write(p[:])
			if err := w.Flush(); err != nil {
				return err
			}
		}
	})
	eachProxyVersion(t, echo, func(t *testing.T, c *Client, url, _ string) {
		body, send := io.Pipe()
		resp, err := c.Do(soon(t), &ClientRequest{Method: "POST", URL: url, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		var p [1]byte
		for i := range 20 {
			if _, err := send.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, p[:]); err != nil || p[0] != byte(i) {
				t.Fatalf("octet %d: %d, %v", i, p[0], err)
			}
		}
		send.Close()
		if _, err := resp.Body.Read(p[:]); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		resp.Body.Close()
	})
}

// TestReverseProxyClientGone has the server learn that the client has left, before its
// answer and in the middle of it.
func TestReverseProxyClientGone(t *testing.T) {
	t.Parallel()
	var seen sync.Map // of targets, to channels
	news := func(target string) chan string {
		c, _ := seen.LoadOrStore(target, make(chan string, 2))
		return c.(chan string)
	}
	waits := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/middle" {
			w.WriteString("x")
			w.Flush()
		}
		news(r.Target()) <- "began"
		<-r.Context().Done()
		news(r.Target()) <- "ended"
		return nil
	})
	eachProxyVersion(t, waits, func(t *testing.T, c *Client, url, _ string) {
		for _, path := range []string{"/before", "/middle"} {
			path += "?" + url
			ctx, cancel := context.WithCancel(soon(t))
			done := make(chan error, 1)
			go func() {
				resp, err := c.Get(ctx, url+path)
				if err == nil {
					_, err = resp.Text()
				}
				done <- err
			}()
			<-news(path)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", path, err)
			}
			<-news(path)
		}
	})
}

// TestReverseProxyWebSocket talks through a proxy, by HTTP/1.1 and over a stream of
// HTTP/2 (RFC 8441), with what both ends have agreed on.
func TestReverseProxyWebSocket(t *testing.T) {
	t.Parallel()
	opts := WebSocketOptions{Compression: CompressionTakeover, Subprotocols: []string{"chat"}}
	mux := NewMux()
	mux.Get("/hello", func(w *ResponseWriter, r *Request) error { return w.Text(200, r.ClientAddr().Addr().String()) })
	mux.Get("/ws", func(w *ResponseWriter, r *Request) error {
		ws, err := AcceptWebSocket(w, r, &opts)
		if err != nil {
			return err
		}
		defer ws.Close(CloseNormal, "")
		for {
			kind, p, err := ws.Read(context.Background())
			if err != nil {
				return nil
			}
			if err := ws.Write(context.Background(), kind, p); err != nil {
				return nil
			}
		}
	})
	eachProxyVersion(t, mux, func(t *testing.T, c *Client, url, proto string) {
		if proto != "HTTP/1.1" {
			t.Skip("an upgrade is asked for by HTTP/1.1")
		}
		if resp, err := c.Get(soon(t), url+"/hello"); err != nil { // from here on there is a connection
			t.Fatal(err)
		} else if text, err := resp.Text(); text != "127.0.0.1" {
			t.Errorf("%q, %v", text, err)
		}
		dial := &WebSocketDialOptions{Client: c, WebSocketOptions: opts}
		ws, resp, err := DialWebSocket(soon(t), strings.Replace(url, "http", "ws", 1)+"/ws", dial)
		if err != nil {
			t.Fatal(err)
		}
		if ws.Subprotocol() != "chat" || !strings.Contains(resp.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate") {
			t.Errorf("%d %q %q", resp.StatusCode, ws.Subprotocol(), resp.Header.Get("Sec-WebSocket-Extensions"))
		}
		for _, n := range []int{0, 1, 1000, 200_000} {
			text := strings.Repeat("m", n)
			if err := ws.Write(soon(t), TextMessage, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if _, p, err := ws.Read(soon(t)); err != nil || string(p) != text {
				t.Fatalf("%d octets: %d, %v", n, len(p), err)
			}
		}
		if err := ws.Close(CloseNormal, "bye"); err != nil {
			t.Error(err)
		}
		if _, _, err := DialWebSocket(soon(t), strings.Replace(url, "http", "ws", 1)+"/none", dial); err == nil || !strings.Contains(err.Error(), "404") {
			t.Errorf("where no WebSocket is: %v", err)
		}
	})
}

// TestReverseProxyTunnelEnds ends tunnels for each of the reasons that there are.
func TestReverseProxyTunnelEnds(t *testing.T) {
	t.Parallel()
	const upgrade = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly"
	sides := make(chan net.Conn, 8)
	up := clientAccept(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		early := make([]byte, len("early"))
		io.ReadFull(br, early)
		if string(early) != "early" {
			t.Errorf("behind the request: %q", early)
		}
		sides <- c
		io.Copy(io.Discard, c)
		sides <- c
	})
	open := func(t *testing.T, p *ReverseProxy) (*Server, *rawClient, net.Conn) {
		s := new(Server)
		p.Upstreams, p.Client = []string{up}, proxyTestClient(t)
		c := dialRaw(t, startProxyOf(t, s, p))
		c.send(upgrade)
		if resp, err := http.ReadResponse(c.br, nil); err != nil || resp.StatusCode != 101 {
			t.Fatalf("%v, %v", resp, err)
		}
		return s, c, <-sides
	}
	t.Run("the client", func(t *testing.T) {
		s, c, _ := open(t, new(ReverseProxy))
		c.Close()
		<-sides
		gone(t, s)
	})
	t.Run("the server", func(t *testing.T) {
		s, c, up := open(t, new(ReverseProxy))
		up.Close()
		c.ended()
		c.Close()
		<-sides
		gone(t, s)
	})
	t.Run("one half of it", func(t *testing.T) {
		s, c, up := open(t, new(ReverseProxy))
		c.CloseWrite()
		<-sides // it has seen the end, and still can send
		if rest := string(c.toEnd()); rest != "" {
			t.Errorf("%q", rest)
		}
		up.Close()
		gone(t, s)
	})
	t.Run("silence", func(t *testing.T) {
		s, c, _ := open(t, &ReverseProxy{TunnelTimeout: 50 * time.Millisecond})
		c.toEnd()
		<-sides
		gone(t, s)
	})
	t.Run("Shutdown", func(t *testing.T) {
		s, c, _ := open(t, new(ReverseProxy))
		if err := s.Shutdown(soon(t)); err != nil {
			t.Error(err)
		}
		c.toEnd()
		<-sides
	})
}

// TestReverseProxyEventStream ends an event stream with Shutdown, in order.
func TestReverseProxyEventStream(t *testing.T) {
	t.Parallel()
	up := TestServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		events, err := w.EventStream()
		if err != nil {
			return err
		}
		events.Send(ServerSentEvent{Data: "hello"})
		<-r.Context().Done()
		return nil
	})})
	s := new(Server)
	c := dialRaw(t, startProxy(t, s, up))
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, len("data: hello\n\n"))
	if _, err := io.ReadFull(resp.Body, p); err != nil || string(p) != "data: hello\n\n" {
		t.Fatalf("%q, %v", p, err)
	}
	if err := s.Shutdown(soon(t)); err != nil {
		t.Error(err)
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
}
