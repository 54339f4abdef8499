package flare

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
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
			if code, body := tlsGet(t, client, "https://"+addr+"/"); code != 200 || body != "hello" {
				t.Fatalf("%d %q", code, body)
			}
		}
		if _, body := tlsGet(t, client, "https://"+addr+"/state"); body != "HTTP/1.1 "+tls.VersionName(version)+" resumed=false sni=localhost client=" {
			t.Errorf("state %q", body)
		}
		if _, body := tlsGet(t, client, "https://"+addr+"/bytes?3000000"); len(body) != 3000000 {
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

func tlsGet(t testing.TB, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestTLSServesHTTP2(t *testing.T) {
	s := &Server{Handler: HandlerFunc(tlsRoutes), MaxBodyBytes: 1 << 20}
	addr := startTLSServer(t, s)
	client := tlsHTTPClient(t, true)
	if _, body := tlsGet(t, client, "https://"+addr+"/state"); body != "HTTP/2.0 TLS 1.3 resumed=false sni=localhost client=" {
		t.Errorf("state %q", body)
	}
	if _, body := tlsGet(t, client, "https://"+addr+"/bytes?3000000"); len(body) != 3000000 {
		t.Errorf("%d bytes", len(body))
	}
	resp, err := client.Post("https://"+addr+"/echo", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20+1)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("a body beyond the limit: %d", resp.StatusCode)
	}
	eventually(t, "the count of requests", func() bool { return s.Stats().Requests == 3 })
	if st := s.Stats(); st.Connections.Open != 1 {
		t.Errorf("open %d", st.Connections.Open)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestTLSHTTP2SwitchedOff(t *testing.T) {
	for name, s := range map[string]*Server{
		"by the field":  {DisableHTTP2: true},
		"by NextProtos": {TLSConfig: &tls.Config{NextProtos: []string{"http/1.1"}}},
		"by both":       {DisableHTTP2: true, TLSConfig: &tls.Config{NextProtos: []string{"h2", "http/1.1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s.Handler = HandlerFunc(tlsRoutes)
			addr := startTLSServer(t, s)
			if _, body := tlsGet(t, tlsHTTPClient(t, true), "https://"+addr+"/state"); !strings.HasPrefix(body, "HTTP/1.1 ") {
				t.Errorf("state %q", body)
			}
		})
	}
}

// Shutdown lets an HTTP/2 request in progress end, and counts its connection.
func TestTLSShutdownWaitsForHTTP2(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		close(entered)
		<-leave
		return w.Text(200, "done")
	})}
	addr := startTLSServer(t, s)
	client := tlsHTTPClient(t, true)
	got := make(chan string, 1)
	go func() {
		resp, err := client.Get("https://" + addr + "/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		got <- resp.Proto + " " + string(body)
	}()
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	eventually(t, "the end of accepting", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("Shutdown has not waited: %v", err)
	default:
	}
	close(leave)
	if text := <-got; text != "HTTP/2.0 done" {
		t.Errorf("got %q", text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Every pair of neighbouring bytes of the whole conversation is torn apart.
func TestTLSCutAtEveryByte(t *testing.T) {
	pinVersions(t, func(t *testing.T, version uint16) {
		s := &Server{Handler: HandlerFunc(tlsRoutes)}
		addr := startTLSServer(t, s)
		config := tlsClientConfig()
		config.MaxVersion = version
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(patience))
		tc := tls.Client(&tlsDrip{Conn: nc}, config)
		c := &tlsRawClient{Conn: tc, t: t, br: bufio.NewReader(tc)}
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
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(patience))
			spy := &tlsSpy{Conn: nc}
			tc := tls.Client(spy, tlsClientConfig())
			io.WriteString(tc, request)
			if _, err := io.ReadAll(tc); err != nil {
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

// A certificate for each name, sessions that are resumed on whichever loop, and
// clients that show one.
func TestTLSCertificates(t *testing.T) {
	ca := tlsTestCA()
	s := &Server{Handler: HandlerFunc(tlsRoutes), Loops: 3, DisableHTTP2: true, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, 10, "one.test"), ca.issue(t, 11, "two.test")},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: ca.pool,
	}}
	addr := startTLSServer(t, s)
	config := tlsClientConfig()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	for _, name := range []string{"one.test", "two.test"} {
		config.ServerName = name
		for i := range 6 {
			c := dialTLSRaw(t, addr, config)
			want := fmt.Sprintf("HTTP/1.1 TLS 1.3 resumed=%v sni=%s client=", i > 0, name)
			c.get("/state").want(t, 200, want)
			if got := c.ConnectionState().PeerCertificates[0].Subject.CommonName; got != name {
				t.Errorf("the certificate of %s for %s", got, name)
			}
			c.Close()
		}
	}
	eventually(t, "the count of handshakes", func() bool {
		got := s.Stats().Handshakes
		return got.Done == 12 && got.Resumed == 10
	})
	config = tlsClientConfig()
	config.ServerName = "one.test"
	config.Certificates = []tls.Certificate{ca.issue(t, 12, "somebody")}
	dialTLSRaw(t, addr, config).get("/state").want(t, 200, "HTTP/1.1 TLS 1.3 resumed=false sni=one.test client=somebody")
}

// A server that insists on a client's certificate takes no other.
func TestTLSMutual(t *testing.T) {
	ca := tlsTestCA()
	s := &Server{Handler: HandlerFunc(tlsRoutes), TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool}}
	addr := startTLSServer(t, s)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := tlsClientConfig()
		config.MaxVersion = version
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(patience))
		tc := tls.Client(nc, config)
		_, err = io.ReadAll(tc) // with 1.3 a client is done before it hears
		if err == nil || !strings.Contains(err.Error(), "certificate") && !strings.Contains(err.Error(), "handshake failure") {
			t.Errorf("%s without a certificate: %v", tls.VersionName(version), err)
		}
		config.Certificates = []tls.Certificate{ca.issue(t, 13, "somebody")}
		dialTLSRaw(t, addr, config).get("/state").want(t, 200, "HTTP/1.1 "+tls.VersionName(version)+" resumed=false sni=localhost client=somebody")
	}
	eventually(t, "the count of handshakes", func() bool {
		got := s.Stats().Handshakes
		return got.Failed == 2 && got.Done == 2
	})
}

func TestTLSOldVersionsAreRefused(t *testing.T) {
	addr := startTLSServer(t, &Server{Handler: HandlerFunc(tlsRoutes)})
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(patience))
		config := tlsClientConfig()
		config.MinVersion, config.MaxVersion = version, version
		err = tls.Client(nc, config).Handshake()
		if err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

// Whoever takes the port for one of HTTP is told.
func TestTLSAnswersPlainHTTP(t *testing.T) {
	s := &Server{Handler: HandlerFunc(tlsRoutes)}
	addr := startTLSServer(t, s)
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000)} {
		c := dialRaw(t, addr)
		c.send(request)
		c.answer("GET").want(t, 400, "Client sent an HTTP request to an HTTPS server.\n")
		c.CloseWrite()
		if !onPlain() { // which does not linger after a handshake
			c.ended()
		}
	}
	c := dialRaw(t, addr)
	c.send("SSH-2.0-client\r\n")
	c.CloseWrite()
	if rest := c.toEnd(); len(rest) > 0 {
		t.Errorf("answer to what is neither: %q", rest)
	}
	gone(t, s)
}

// A configuration that cannot work says so at once.
func TestTLSConfigErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := new(Server).ServeTLS(ln, "", ""); err != errNoServerCertificate {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener: %v", err)
	}
	if err := ListenAndServeTLS("127.0.0.1:0", "/nowhere/cert.pem", "/nowhere/key.pem", nil); err == nil {
		t.Error("files that are not there are no error")
	}
}

// A panic in a function of the configuration ends its connection alone.
func TestTLSPanicInTheConfiguration(t *testing.T) {
	var first atomic.Bool
	cert := tlsTestCA().issue(t, 14, "localhost")
	s := &Server{Handler: HandlerFunc(tlsRoutes), TLSConfig: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if first.CompareAndSwap(false, true) {
			panic("at first")
		}
		return &cert, nil
	}}}
	addr := startTLSServer(t, s)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	if err := tls.Client(nc, tlsClientConfig()).Handshake(); err == nil || isTimeout(err) {
		t.Errorf("the connection goes on: %v", err)
	}
	dialTLSRaw(t, addr, nil).get("/").want(t, 200, "hello")
	eventually(t, "the return of all slots", func() bool { return len(s.slots) == 0 })
}

// Functions of the configuration may wait as long as they like: there are more
// of them than slots here, and all wait for the last.
func TestTLSConfigurationMayWait(t *testing.T) {
	s := &Server{Handler: HandlerFunc(tlsRoutes)}
	n := 2*cap(s.handshakeSlots()) + 1
	cert := tlsTestCA().issue(t, 15, "localhost")
	var together sync.WaitGroup
	together.Add(n)
	s.TLSConfig = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		together.Done()
		together.Wait()
		return &cert, nil
	}}
	addr := startTLSServer(t, s)
	var clients sync.WaitGroup
	for range n {
		clients.Go(func() {
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(patience))
			if err := tls.Client(nc, tlsClientConfig()).Handshake(); err != nil {
				t.Error(err)
			}
		})
	}
	clients.Wait()
}

// Connections in their handshake count, for the limits as for Stats and the
// hook.
func TestTLSHandshakesCount(t *testing.T) {
	var states sync.Map
	s := &Server{Handler: HandlerFunc(tlsRoutes), MaxConnsPerIP: 2, ConnState: func(_ netip.AddrPort, state ConnState) {
		n, _ := states.LoadOrStore(state, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
	}}
	addr := startTLSServer(t, s)
	one, two := dialRaw(t, addr), dialRaw(t, addr)
	two.send("\x16\x03\x01\x02\x00\x01") // half a ClientHello: a goroutine waits for the rest
	eventually(t, "one connection that is silent and one in its handshake", func() bool {
		c := s.Stats().Connections
		return c.Open == 2 && (c.Handshake == 1 && c.Handler == 1 || onPlain() && c.Handshake == 2)
	})
	three := dialRaw(t, addr)
	if rest := three.toEnd(); len(rest) > 0 {
		t.Errorf("a third connection of the address was told %q", rest)
	}
	one.Close()
	eventually(t, "the end of the first", func() bool { return s.Stats().Connections.Open == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown does not end handshakes: %v", err)
	}
	for _, state := range []ConnState{StateNew, StateClosed} {
		if n, ok := states.Load(state); !ok || n.(*atomic.Int32).Load() != 2 {
			t.Errorf("%v was told %v times, want 2", state, n)
		}
	}
}
