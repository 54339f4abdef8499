package flare

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tlsRoutes is a handler with a path for each kind of answer that matters here.
func tlsRoutes(w *ResponseWriter, r *Request) error {
	n, _ := strconv.Atoi(r.URL().RawQuery)
	switch r.Path() {
	case "/echo":
		_, err := w.ReadFrom(r.Body())
		return err
	case "/sum":
		sum := sha256.New()
		read, err := io.Copy(sum, r.Body())
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprintf("%d %s", read, hex.EncodeToString(sum.Sum(nil))))
	case "/bytes":
		piece := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
		for ; n > 0; n -= len(piece) {
			if _, err := w.Write(piece[:min(n, len(piece))]); err != nil {
				return err
			}
		}
		return nil
	case "/state":
		state := r.TLS()
		if state == nil {
			return w.Text(200, "none")
		}
		name := ""
		if len(state.PeerCertificates) > 0 {
			name = state.PeerCertificates[0].Subject.CommonName
		}
		return w.Text(200, fmt.Sprintf("%s %s resumed=%v sni=%s client=%s", r.Proto(), tls.VersionName(state.Version), state.DidResume, state.ServerName, name))
	}
	return w.Text(200, "hello")
}

func TestTLSServesHTTP1(t *testing.T) {
	pinVersions(t, func(t *testing.T, version uint16) {
		s := &Server{Handler: HandlerFunc(tlsRoutes), MaxBodyBytes: -1}
		addr := startTLSServer(t, s)
		client := tlsHTTPClient(t, false)
		client.Transport.(*http.Transport).TLSClientConfig.MaxVersion = version
		for range 50 { // the route comes onto the loop
			if code, body := getBy(t, client, "https://"+addr+"/"); code != 200 || body != "hello" {
				t.Fatalf("%d %q", code, body)
			}
		}
		if _, body := getBy(t, client, "https://"+addr+"/state"); body != "HTTP/1.1 "+tls.VersionName(version)+" resumed=false sni=localhost client=" {
			t.Errorf("state %q", body)
		}
		if _, body := getBy(t, client, "https://"+addr+"/bytes?3000000"); len(body) != 3000000 {
			t.Errorf("%d bytes", len(body))
		}
		sent := strings.Repeat("x", 5<<20)
		resp, err := client.Post("https://"+addr+"/echo", "text/plain", strings.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != sent {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if st := s.Stats(); st.Handshakes.Done != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// Every pair of neighbouring bytes of the whole conversation is torn apart.
func TestTLSCutAtEveryByte(t *testing.T) {
	pinVersions(t, func(t *testing.T, version uint16) {
		s := &Server{Handler: HandlerFunc(tlsRoutes)}
		addr := startTLSServer(t, s)
		config := tlsClientConfig()
		config.MaxVersion = version
		c := dialTLSOver(t, addr, config, func(nc net.Conn) net.Conn { return &tlsDrip{nc} })
		c.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
		c.answer("POST").want(t, 200, "hello")
		c.send("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		c.send("0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		c.answer("POST").want(t, 200, "hello")
		c.answer("GET").want(t, 200, "hello")
		if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
			t.Errorf("at the end: %q, %v", rest, err)
		}
	})
}

// A tlsDrip sends single bytes. Without Nagle's algorithm, which package net
// turns off, each is a segment.
type tlsDrip struct{ net.Conn }

func (d *tlsDrip) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// More than any buffer holds, in one go, both ways: nothing is left in
// crypto/tls that no readiness announces.
func TestTLSBurst(t *testing.T) {
	pinVersions(t, func(t *testing.T, version uint16) {
		s := &Server{Handler: HandlerFunc(tlsRoutes), Loops: 1}
		addr := startTLSServer(t, s)
		config := tlsClientConfig()
		config.MaxVersion = version
		c := dialTLSRaw(t, addr, config)
		body := strings.Repeat("0123456789", 30_000)
		const rounds, small = 4, 2000
		go func() {
			for range rounds {
				io.WriteString(c, strings.Repeat("GET / HTTP/1.1\r\nHost: h\r\n\r\n", small)+
					"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
			}
		}()
		for range rounds {
			for range small {
				c.answer("GET").want(t, 200, "hello")
			}
			c.answer("POST").want(t, 200, body)
		}
	})
}

// A response that the client reads slowly waits encrypted and whole.
func TestTLSBackPressure(t *testing.T) {
	s := &Server{Handler: HandlerFunc(tlsRoutes), MaxBodyBytes: -1}
	addr := startTLSServer(t, s)
	c := dialTLSRaw(t, addr, nil)
	c.tcp.(*net.TCPConn).SetReadBuffer(32 << 10)
	const size = 8 << 20
	c.send("GET /bytes?" + strconv.Itoa(size) + " HTTP/1.1\r\nHost: h\r\n\r\n")
	eventually(t, "records that wait for the client", func() bool { return s.buffered.Load() > 0 })
	a := c.answer("GET")
	if len(a.body) != size {
		t.Errorf("%d bytes", len(a.body))
	}
	for i := 0; i < size; i += 16 {
		if a.body[i:i+16] != "0123456789abcdef" {
			t.Fatalf("wrong at %d", i)
		}
	}
	eventually(t, "the return of all buffers", func() bool { return s.buffered.Load() == 0 })
}

// A long stream up and down stays within its buffers.
func TestTLSStreamsInBoundedMemory(t *testing.T) {
	s := &Server{Handler: HandlerFunc(tlsRoutes), MaxBodyBytes: -1}
	addr := startTLSServer(t, s)
	client := tlsHTTPClient(t, false)
	const size = 64 << 20
	var most atomic.Int64
	watch := func(p int) {
		if now := s.buffered.Load(); now > most.Load() {
			most.Store(now)
		}
	}
	resp, err := client.Post("https://"+addr+"/sum", "application/octet-stream", &tlsZeros{n: size, each: watch})
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	sum := sha256.New()
	io.Copy(sum, &tlsZeros{n: size, each: func(int) {}})
	if want := fmt.Sprintf("%d %x", size, sum.Sum(nil)); string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	resp, err = client.Get("https://" + addr + "/bytes?" + strconv.Itoa(size))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(tlsSink(watch), resp.Body)
	if n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if most.Load() > 256<<10 {
		t.Errorf("up to %d bytes in buffers", most.Load())
	}
}

type tlsZeros struct {
	n    int
	each func(int)
}

func (z *tlsZeros) Read(p []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.n)
	clear(p[:n])
	z.n -= n
	z.each(n)
	return n, nil
}

type tlsSink func(int)

func (s tlsSink) Write(p []byte) (int, error) { s(len(p)); return len(p), nil }

// A close_notify ends in order both ways; without one it is a cut.
func TestTLSEndOfStream(t *testing.T) {
	ends := make(chan error, 1)
	proto := func(*Conn) Protocol { return &tlsEndProtocol{ends} }
	addr := startTLSServer(t, &Server{NewProtocol: proto})
	end := func() error {
		select {
		case err := <-ends:
			return err
		case <-time.After(patience):
			t.Fatal("the connection does not end")
			return nil
		}
	}
	c := dialTLSRaw(t, addr, nil)
	c.send("x")
	c.CloseWrite()
	if text, err := io.ReadAll(c); string(text) != "X" || err != nil { // an EOF of tls.Conn may be a cut: see below
		t.Errorf("read %q, %v", text, err)
	}
	if err := end(); err != nil {
		t.Errorf("after a close_notify: %v", err)
	}
	c = dialTLSRaw(t, addr, nil)
	c.send("x")
	c.tcp.(*net.TCPConn).CloseWrite()
	if err := end(); err != io.ErrUnexpectedEOF {
		t.Errorf("without a close_notify: %v", err)
	}
	c = dialTLSRaw(t, addr, nil)
	io.WriteString(c.tcp, "\x17\x03\x03\x00\x20half")
	c.tcp.(*net.TCPConn).CloseWrite()
	if err := end(); err != io.ErrUnexpectedEOF {
		t.Errorf("in the middle of a record: %v", err)
	}
	c = dialTLSRaw(t, addr, nil)
	io.WriteString(c.tcp, "\x17\x03\x03\x00\x20"+strings.Repeat("x", 32))
	if err := end(); err == nil || err == io.ErrUnexpectedEOF {
		t.Errorf("after a forged record: %v", err)
	}
	if _, err := io.ReadAll(c); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("a forged record was answered %v, want an alert", err)
	}
}

// A tlsEndProtocol sends capitals back and tells how the connection ended.
type tlsEndProtocol struct{ ends chan error }

func (p *tlsEndProtocol) Data(c *Conn, in []byte, eof bool) (int, error) {
	return len(in), c.Write(bytes.ToUpper(in))
}

func (p *tlsEndProtocol) Drained(*Conn)             {}
func (p *tlsEndProtocol) Closed(_ *Conn, err error) { p.ends <- err }

// The server says goodbye whichever way it ends a connection.
func TestTLSCloseNotify(t *testing.T) {
	s := &Server{Handler: HandlerFunc(tlsRoutes), IdleTimeout: 50 * time.Millisecond, MaxURIBytes: 100}
	addr := startTLSServer(t, s)
	for name, request := range map[string]string{
		"idle":    "",
		"close":   "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"refused": "GET /" + strings.Repeat("x", 200) + " HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			spy := new(tlsSpy)
			c := dialTLSOver(t, addr, nil, func(nc net.Conn) net.Conn { spy.Conn = nc; return spy })
			io.WriteString(c, request)
			if _, err := io.ReadAll(c); err != nil {
				t.Fatal(err)
			}
			if err := spy.ended(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A tlsSpy notes the records that come from a server.
type tlsSpy struct {
	net.Conn
	got bytes.Buffer
	fin bool
}

func (s *tlsSpy) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.got.Write(p[:n])
	s.fin = s.fin || err == io.EOF
	return n, err
}

// ended looks whether the last record was an alert's size: what is in it is
// encrypted, and crypto/tls has ended on it without looking at the socket.
func (s *tlsSpy) ended() error {
	if s.fin {
		return errors.New("the client had to look at the end of the socket: there was no close_notify")
	}
	return nil
}

// What names of protocols are offered and agreed on, and that a name which is no version
// of HTTP gets no HTTP: authorities of ACME agree on one (RFC 8737 §3), look at the
// certificate, and leave.
func TestTLSNextProtos(t *testing.T) {
	t.Parallel()
	const acme = "acme-tls/1"
	for _, row := range []struct {
		name         string
		only1        bool
		names, wants []string // the server's, the client's
		agreed       string
		ended        bool
	}{
		{"a list without HTTP", false, []string{acme}, []string{"h2", "http/1.1"}, "h2", false},
		{"a list without HTTP, asked by name", false, []string{acme}, []string{acme}, acme, true},
		{"a list without HTTP, and no HTTP/2", true, []string{acme}, []string{"h2", "http/1.1"}, "http/1.1", false},
		{"no HTTP/2, asked by name", true, []string{"h2", "http/1.1", acme}, []string{acme}, acme, true},
		{"a list with HTTP/1.1", false, []string{"http/1.1", acme}, []string{"h2", "http/1.1"}, "http/1.1", false},
		{"an older name of HTTP", false, []string{"http/1.0"}, []string{"http/1.0"}, "http/1.0", false},
		{"an empty list", false, []string{}, []string{"h2", "http/1.1"}, "", false},
		{"no list", false, nil, []string{"http/1.1", "h2"}, "h2", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := &Server{Handler: HandlerFunc(tlsRoutes), TLSConfig: &tls.Config{NextProtos: row.names}}
			if row.only1 {
				s.Protocols = onlyHTTP1()
			}
			config := tlsClientConfig()
			config.NextProtos = row.wants
			c := dialTLSRaw(t, startTLSServer(t, s), config)
			if got := c.ConnectionState().NegotiatedProtocol; got != row.agreed {
				t.Fatalf("agreed on %q, not %q", got, row.agreed)
			}
			switch {
			case row.ended:
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n") // it may have ended by now
				if got, err := io.ReadAll(c); len(got) > 0 || isTimeout(err) {
					t.Errorf("%q, %v", got, err)
				}
				c.tcp.Close()
				gone(t, s)
			case row.agreed != "h2":
				c.get("/state")
			}
			eventually(t, "one handshake", func() bool { return s.Stats().Handshakes.Done == 1 })
			if n := s.Stats().Handshakes.Failed; n != 0 {
				t.Errorf("%d handshakes have failed", n)
			}
		})
	}
}
