package flare

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// This file has what RFC 9113 asks about frames in the states of a stream, and at the
// beginning and the end of a connection, where no other test shows it.

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
		"/ws": &WebSocketHandler{},
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
		{"an answer to no PING", func(p *http2Peer) { p.send(appendHTTP2Ping(nil, pingPayload(99), true)) }, nil}, // the peer takes none for it
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
	t.Run("HEADERS in a tunnel", func(t *testing.T) { // §8.5
		p := s.dial(t)
		p.sync()
		stream := p.open(false, webSocketLines("/ws")...)
		p.readUntil("the handshake", func() bool { return p.streams[stream].status == 200 })
		p.send(headers(p, stream, true, "x: y"))
		p.readUntil("a reset", func() bool { return p.streams[stream].done() })
		if a := p.streams[stream]; !a.reset || a.code != codeProtocol {
			t.Errorf("%v", a)
		}
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

// Frames of streams behind the last one of GOAWAY are not wanted, and count all the same:
// the header table and the connection's window are both sides' (RFC 9113 §6.8).
func TestHTTP2GoAwayCounts(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, func(s *Server) {
		s.MaxBodyBytes = -1
		s.Handler = HandlerFunc(func(w *ResponseWriter, r *Request) error {
			n, err := io.Copy(io.Discard, r.Body())
			if err != nil {
				return err
			}
			return w.Text(200, fmt.Sprint(n, r.Trailer().Get("X-New")))
		})
	})
	p := s.dial(t)
	slow := p.open(false, requestLines("POST", "/")...)
	p.data(slow, []byte("x"), false)
	p.sync()
	ended := s.shutdown(t.Context())
	p.readUntil("the second GOAWAY", func() bool { return len(p.goAway) == 2 })
	late := p.open(false, requestLines("POST", "/", "x-new: which only a table has from here on")...)
	sent, window := 0, int(p.window)
	for sent < 4*window {
		a := p.streams[late]
		n := min(p.window, a.window, frameSizeDefault)
		switch {
		case p.window == 0:
			p.readUntil("room of the connection", func() bool { return p.window > 0 })
		case n == 0: // more than that cannot be under way
			late = p.open(false, requestLines("POST", "/")...)
		default:
			p.send(appendData(nil, late, make([]byte, n), false))
			a.window, p.window, sent = a.window-n, p.window-n, sent+int(n)
		}
	}
	b, at := beginHeaders(nil)
	p.send(endHeaders(append(b, p.encode("x-new: which only a table has from here on")...), at, slow, true, frameSizeDefault))
	p.answer(slow).want(t, 200, "1which only a table has from here on")
	for id, a := range p.streams {
		if id != slow && a.status != 0 {
			t.Errorf("a stream behind the last: %v", a)
		}
	}
	p.failed(codeNone)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Streams behind the last one do not count in the GOAWAY of a fault either.
func TestHTTP2GoAwayStays(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, func(*Server) {})
	p := s.dial(t)
	p.start("/wait")
	p.sync()
	ended := s.shutdown(t.Context())
	p.readUntil("the second GOAWAY", func() bool { return len(p.goAway) == 2 })
	p.start("/good")
	p.send(append(appendHTTP2Head(nil, http2Head{kind: framePing, length: 1}), 0))
	p.failed(codeFrameSize)
	if first, fault := p.goAway[1].last, p.goAway[2].last; fault > first {
		t.Errorf("GOAWAY with %d behind one with %d", fault, first)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What a client does with frames that end more, or are of another kind, than it asked for.
func TestHTTP2ClientMusts(t *testing.T) {
	t.Parallel()
	t.Run("an answer is whole also if the upload is not wanted", func(t *testing.T) { // §8.1
		t.Parallel()
		c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
			p.settings()
			for {
				stream, ok := p.request()
				if !ok {
					return
				}
				p.answer(stream, "fine")
				p.send(appendRSTStream(nil, stream, codeNone))
			}
		})
		for range 20 {
			body, upload := io.Pipe()
			resp, err := c.Do(soon(t), &ClientRequest{Method: "POST", URL: url, Body: body})
			if err != nil {
				t.Fatal(err)
			}
			if text, err := resp.Text(); err != nil || text != "fine" {
				t.Fatalf("%q, %v", text, err)
			}
			upload.Close()
		}
	})
	t.Run("HEADERS in a tunnel", func(t *testing.T) { // §8.5
		t.Parallel()
		told := make(chan http2Code, 1)
		c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
			p.settings(http2Setting{settingConnect, 1})
			first, _ := p.request()
			p.answer(first, "x")
			stream, _ := p.request()
			p.send(p.headers(nil, stream, false, [2]string{":status", "200"}))
			p.send(p.headers(nil, stream, true, [2]string{"x", "y"}))
			for p.reset[stream] == codeNone {
				if _, _, ok := p.next(); !ok {
					break
				}
			}
			told <- p.reset[stream]
			p.drain()
		})
		resp, err := c.Get(soon(t), url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		ws, _, err := DialWebSocket(soon(t), strings.Replace(url, "http", "ws", 1), &WebSocketDialOptions{Client: c})
		if err == nil {
			_, _, err = ws.Read(soon(t))
		}
		if err == nil {
			t.Error("no error")
		}
		if code := <-told; code != codeProtocol {
			t.Errorf("the server was told %v", code)
		}
	})
	t.Run("one authority", func(t *testing.T) { // §8.3.1
		t.Parallel()
		std, c := http2Std(t, "TLS", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s %q %q", r.Method, r.RequestURI, r.Host, r.Header["Host"])
		}))
		host := strings.TrimPrefix(std, "https://")
		for _, row := range []struct{ method, url, host, want string }{
			{"GET", strings.Replace(std, "://", "://user:secret@", 1), "", "GET / \"" + host + "\" []"},
			{"GET", std + "/a?b", "other", "GET /a?b \"other\" []"},
			{"OPTIONS", std + "/", "", "OPTIONS / \"" + host + "\" []"},
			{"OPTIONS", std, "", ""}, // of "*", which net/http answers by itself
		} {
			req := &ClientRequest{Method: row.method, URL: row.url}
			if row.host != "" {
				req.Header.Set("Host", row.host)
			}
			resp, err := c.Do(soon(t), req)
			if err != nil {
				t.Fatal(err)
			}
			if text, err := resp.Text(); err != nil || text != row.want || resp.Proto() != "HTTP/2.0" {
				t.Errorf("%s %s, %v; want %s", resp.Proto(), text, err, row.want)
			}
		}
	})
}

// What HTTP/2 asks of TLS, beside what crypto/tls does.
func TestHTTP2TLSMusts(t *testing.T) {
	t.Parallel()
	t.Run("h2 is what a server chooses", func(t *testing.T) { // §3.2, §9.2
		t.Parallel()
		addr := startTLSServer(t, &Server{Handler: textHandler("fine"), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS10}})
		for _, row := range []struct {
			offers  string
			version uint16
			chosen  string // "": the connection is of no use
		}{
			{"h2c http/1.1", tls.VersionTLS13, "http/1.1"},
			{"h2c", tls.VersionTLS13, ""},
			{"h2 http/1.1", tls.VersionTLS13, "h2"},
			{"h2", tls.VersionTLS12, "h2"},
			{"http/1.1", tls.VersionTLS11, "http/1.1"},
			{"h2 http/1.1", tls.VersionTLS11, ""}, // which clients of HTTP/2 do not offer together
		} {
			config := tlsClientConfig()
			config.NextProtos, config.MinVersion, config.MaxVersion = strings.Fields(row.offers), tls.VersionTLS10, row.version
			conn, err := tls.Dial("tcp", addr, config)
			if err == nil {
				defer conn.Close()
				if row.chosen == "" {
					_, err = conn.Read(make([]byte, 1))
				} else if got := conn.ConnectionState().NegotiatedProtocol; got != row.chosen {
					t.Errorf("%s: %q", row.offers, got)
				}
			}
			if (err == nil) != (row.chosen != "") {
				t.Errorf("%s: %v", row.offers, err)
			}
		}
	})
	t.Run("a client offers h2, and says the name", func(t *testing.T) { // §3.2, §9.2
		t.Parallel()
		hellos := make(chan string, 10)
		addr := startTLSServer(t, &Server{Handler: textHandler("fine"), TLSConfig: &tls.Config{Certificates: []tls.Certificate{tlsTestCA().issue(t, 2, "localhost")}, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			hellos <- fmt.Sprint(hello.SupportedProtos, hello.ServerName, " ", hello.SupportedVersions[len(hello.SupportedVersions)-1] >= tls.VersionTLS12)
			return nil, nil
		}}})
		_, port, _ := net.SplitHostPort(addr)
		c := &Client{TLSConfig: &tls.Config{RootCAs: tlsTestCA().pool, MinVersion: tls.VersionTLS10}}
		defer c.CloseIdleConnections()
		resp, err := c.Get(soon(t), "https://localhost:"+port)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := <-hellos; got != "[h2 http/1.1]localhost true" {
			t.Error(got)
		}
	})
	t.Run("an origin has a connection of its own", func(t *testing.T) { // §9.1.1
		t.Parallel()
		srv := newTLSProtocols(t, nil) // whose certificate is good for both
		var dials atomic.Int32
		c := &Client{TLSConfig: &tls.Config{RootCAs: srv.roots}, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(srv.url, "https://"))
		}}
		defer c.CloseIdleConnections()
		for i, url := range []string{srv.url, "https://example.com", srv.url, "https://example.com"} {
			resp, err := c.Get(soon(t), url)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.Proto() != "HTTP/2.0" || int(dials.Load()) != min(i+1, 2) {
				t.Errorf("%s: %s, %d connections", url, resp.Proto(), dials.Load())
			}
		}
	})
}
