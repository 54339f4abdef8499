package flare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// This file has handshakes of TLS: those that fail, are refused or wait, and what
// is known after them.

// A certificate for each name, sessions that are resumed on whichever loop, and
// clients that show one.
func TestTLSCertificates(t *testing.T) {
	ca := tlsTestCA()
	s := &Server{Handler: HandlerFunc(tlsRoutes), Loops: 3, Protocols: onlyHTTP1(), TLSConfig: &tls.Config{
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
		c := dialTLSOver(t, addr, config, unwrapped)
		_, err := io.ReadAll(c) // with 1.3 a client is done before it hears
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
		config := tlsClientConfig()
		config.MinVersion, config.MaxVersion = version, version
		err := dialTLSOver(t, addr, config, unwrapped).Handshake()
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
	if err := dialTLSOver(t, addr, nil, unwrapped).Handshake(); err == nil || isTimeout(err) {
		t.Errorf("the connection goes on: %v", err)
	}
	dialTLSRaw(t, addr, nil).get("/").want(t, 200, "hello")
	eventually(t, "the return of all slots", func() bool { return len(s.slots) == 0 })
}

// Functions of the configuration may wait as long as they like: there are more
// of them than slots here, and all wait for the last. So may those of a configuration
// that GetConfigForClient returns.
func TestTLSConfigurationMayWait(t *testing.T) {
	ca := tlsTestCA()
	cert := ca.issue(t, 15, "localhost")
	for name, set := range map[string]func(c *tls.Config, wait func()){
		"GetCertificate": func(c *tls.Config, wait func()) {
			c.Certificates = nil
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { wait(); return &cert, nil }
		},
		"VerifyPeerCertificate": func(c *tls.Config, wait func()) {
			c.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { wait(); return nil }
		},
		"VerifyConnection": func(c *tls.Config, wait func()) {
			c.VerifyConnection = func(tls.ConnectionState) error { wait(); return nil }
		},
		"WrapSession": func(c *tls.Config, wait func()) {
			c.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
				wait()
				return c.EncryptTicket(state, session)
			}
		},
		"UnwrapSession": func(c *tls.Config, wait func()) {
			c.UnwrapSession = func([]byte, tls.ConnectionState) (*tls.SessionState, error) { wait(); return nil, nil }
		},
	} {
		for _, returned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", name, returned), func(t *testing.T) {
				s := &Server{Handler: HandlerFunc(tlsRoutes)}
				n := 2*cap(s.handshakeSlots()) + 1
				var waits atomic.Bool
				var together sync.WaitGroup
				together.Add(n)
				s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool}
				set(s.TLSConfig, func() {
					if waits.Load() {
						together.Done()
						together.Wait()
					}
				})
				if returned {
					s.TLSConfig = tlsConfigOf(s.TLSConfig)
				}
				addr := startTLSServer(t, s)
				config := tlsClientConfig()
				config.Certificates = []tls.Certificate{cert}
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				dialTLSRaw(t, addr, config).get("/").want(t, 200, "hello")
				if name != "UnwrapSession" {
					config.ClientSessionCache = nil // or no certificate is verified any more
				}
				waits.Store(true)
				var clients sync.WaitGroup
				for range n {
					c := dialTLSOver(t, addr, config, unwrapped)
					clients.Go(func() {
						io.WriteString(c, request("/"))
						if a, err := readAnswer(c.br, "GET"); err != nil || a.body != "hello" {
							t.Errorf("%q, %v", a.body, err)
						}
					})
				}
				clients.Wait()
			})
		}
	}
}

// Connections in their handshake count, for the limits as for Stats and the
// hook.
func TestTLSHandshakesCount(t *testing.T) {
	t.Parallel()
	var states sync.Map
	s := &Server{Handler: HandlerFunc(tlsRoutes), MaxConnsPerIP: 2, ConnState: func(_ net.Conn, state http.ConnState) {
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
	for _, state := range []http.ConnState{http.StateNew, http.StateClosed} {
		if n, ok := states.Load(state); !ok || n.(*atomic.Int32).Load() != 2 {
			t.Errorf("%v was told %v times, want 2", state, n)
		}
	}
}

// An askedPoller keeps what is asked of it.
type askedPoller struct {
	Poller // nil: nothing else is called
	asked  map[int]Interest
}

func (p *askedPoller) Add(fd int, want Interest) error    { return p.Modify(fd, want) }
func (p *askedPoller) Modify(fd int, want Interest) error { p.asked[fd] = want; return nil }

// What TLS still has to send of a handshake, or answers by itself, waits for room
// like output of the connection's, also over a poller that has to be asked for it.
func TestTLSLeftoverAsksForRoom(t *testing.T) {
	p := &askedPoller{asked: make(map[int]Interest)}
	l := newLoop(p)
	l.workset = new(workset)
	c := new(Conn)
	c.init(l, &connLimits{buffered: new(bufferCount)}, 5, netip.AddrPort{})
	c.secure(new(tlsSettings))
	c.state = stateIdle
	l.add(c)
	tr := c.tr.(*tlsTransport)
	for _, left := range []string{"", "the end of a handshake", ""} {
		want := Readable
		if tr.out.drop(); left != "" {
			tr.out.append([]byte(left), nil)
			want |= Writable
		}
		if l.apply(&c.strand, verdictIdle); p.asked[c.fd] != want {
			t.Errorf("with %q left the poller is asked for %v, not %v", left, p.asked[c.fd], want)
		}
	}
}
