package flare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// dialEcho sends what each connection sends back to it, until the test ends.
func dialEcho(t *testing.T, ln net.Listener) string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String()
}

func dialListen(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Skip("cannot listen: ", err)
	}
	return ln
}

// dialCheck sends a word over c, gets it back and closes c.
func dialCheck(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("word")); err != nil {
		t.Error(err)
		return
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "word" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDial(t *testing.T) {
	four := dialEcho(t, dialListen(t, "tcp4", "127.0.0.1:0"))
	_, port, _ := net.SplitHostPort(four)
	six := dialEcho(t, dialListen(t, "tcp6", "[::1]:0"))
	path := filepath.Join(t.TempDir(), "s")
	if ln, err := net.Listen("unix", path); err != nil {
		t.Skip("no Unix sockets here:", err)
	} else {
		ln.Close() // which removes the file
	}
	unix := dialEcho(t, dialListen(t, "unix", path))
	for _, tt := range []struct{ network, addr string }{
		{"tcp", four}, {"tcp4", four}, {"tcp", six}, {"tcp6", six},
		{"tcp", "localhost:" + port}, {"tcp4", "localhost:" + port}, {"unix", unix},
	} {
		c, err := Dial(clientContext(t), tt.network, tt.addr)
		if err != nil {
			t.Errorf("%s %s: %v", tt.network, tt.addr, err)
			continue
		}
		dialCheck(t, c)
	}
	gone := dialListen(t, "tcp4", "127.0.0.1:0")
	refused := gone.Addr().String()
	gone.Close()
	nobody := dnsHosts{}
	for _, tt := range []struct {
		name, network, addr string
		dialer              Dialer
		want                error
	}{
		{"refused", "tcp", refused, Dialer{}, ErrRefused},
		{"unix, no file", "unix", path + "x", Dialer{}, os.ErrNotExist},
		{"unix, empty", "unix", "", Dialer{}, ErrInvalidAddr},
		{"unix, NUL", "unix", path + "\x00x", Dialer{}, ErrInvalidAddr},
		{"no such host", "tcp", "a.test:80", Dialer{Resolver: nobody}, ErrNoSuchHost},
		{"other family", "tcp6", four, Dialer{}, ErrNoSuchHost},
		{"network", "udp", four, Dialer{}, errDialNetwork},
		{"timeout", "tcp", "a.test:80", Dialer{Resolver: dnsHosts{"ip4": {wait: true}, "ip6": {wait: true}}, Timeout: 1}, ErrTimeout},
	} {
		c, err := tt.dialer.Dial(clientContext(t), tt.network, tt.addr)
		var e *ClientError
		if c != nil || !errors.Is(err, tt.want) || !errors.As(err, &e) {
			t.Errorf("%s: %v, %v", tt.name, c, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Dial(ctx, "tcp", four); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// The resolver's order says which family is tried first, or at all.
func TestDialOrder(t *testing.T) {
	hosts := dnsHosts{"ip6": {addrs: dnsAddrs("2001:db8::1", "2001:db8::2")}, "ip4": {addrs: dnsAddrs("192.0.2.1")}}
	nobody := errors.New("nobody")
	for _, tt := range []struct {
		order AddrOrder
		first string
		tries int
	}{
		{IPv6First, "[2001:db8::1]:80", 3}, {IPv4First, "192.0.2.1:80", 3},
		{IPv6Only, "[2001:db8::1]:80", 2}, {IPv4Only, "192.0.2.1:80", 1},
	} {
		var mu sync.Mutex
		var tried []string
		race := dialRace{port: 80, dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			tried = append(tried, addr)
			return nil, nobody
		}}
		if _, err := race.run(clientContext(t), &Resolver{Source: hosts, Order: tt.order}, "a.test"); err != nobody {
			t.Error(err)
		}
		if len(tried) != tt.tries || tried[0] != tt.first {
			t.Errorf("order %d: tried %v", tt.order, tried)
		}
	}
}

func TestDialAddressSyntax(t *testing.T) {
	for _, addr := range []string{
		"", ":", ":80", "host", "host:", "host:http", "host:65536", "host:-1", "host:+1", "host:080", "host:80 ", "host:80\r\n",
		"::1", "::1:80", "[::1]", "[::1]:", "[::1]80", "[::1", "[127.0.0.1]:80", "[host]:80", "user@host:80", "host\x00:80",
		"127.1:80", "0177.0.0.1:80", "1.2.3.4:80:80", "[fe80::1%]:80",
	} {
		c, err := Dial(clientContext(t), "tcp", addr)
		if c != nil || !errors.Is(err, ErrInvalidAddr) {
			t.Errorf("%q: %v", addr, err)
		} else if len(addr) > 6 && strings.Contains(err.Error(), addr) {
			t.Errorf("%q is repeated: %v", addr, err)
		}
	}
	for _, tt := range []struct {
		in, host string
		port     uint16
	}{{"a.test:0", "a.test", 0}, {"127.0.0.1:65535", "127.0.0.1", 65535}, {"[fe80::1%eth0]:1", "fe80::1%eth0", 1}} {
		if host, port, err := splitHostPort(tt.in); err != nil || host != tt.host || port != tt.port {
			t.Errorf("%q: %q, %d, %v", tt.in, host, port, err)
		}
	}
}

// dialCertificate makes a certificate of its own authority, valid for a day
// around at.
func dialCertificate(t *testing.T, name string, at time.Time) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name, Organization: []string{"flare"}},
		DNSNames:  []string{name},
		NotBefore: at.Add(-12 * time.Hour), NotAfter: at.Add(12 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	return (&tlsAuthority{t: t}).sign(template, template)
}

func TestDialEncrypted(t *testing.T) {
	pair := dialCertificate(t, "localhost", time.Now())
	old := dialCertificate(t, "localhost", time.Now().Add(-48*time.Hour))
	client := dialCertificate(t, "somebody", time.Now())
	clients := x509.NewCertPool()
	clients.AddCert(client.Leaf)
	trusting := func(change func(*tls.Config)) *tls.Config {
		config := tlsTrusting(pair.Leaf)
		change(config)
		return config
	}
	serve := func(config *tls.Config) string {
		addr := dialEcho(t, tls.NewListener(dialListen(t, "tcp4", "127.0.0.1:0"), config))
		_, port, _ := net.SplitHostPort(addr)
		return "localhost:" + port
	}
	names := make(chan string, 1)
	plain := serve(&tls.Config{Certificates: []tls.Certificate{pair}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		select {
		case names <- h.ServerName:
		default:
		}
		return nil, nil
	}})
	expired := serve(&tls.Config{Certificates: []tls.Certificate{old}})
	legacy := serve(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	mutual := serve(&tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MaxVersion: tls.VersionTLS12})
	notTLS := strings.Replace(dialEcho(t, dialListen(t, "tcp4", "127.0.0.1:0")), "127.0.0.1", "localhost", 1)

	asked := tlsTrusting(pair.Leaf)
	c, err := DialTLS(clientContext(t), plain, asked)
	if err != nil {
		t.Fatal(err)
	}
	if state := c.ConnectionState(); state.Version != tls.VersionTLS13 || !state.PeerCertificates[0].Equal(pair.Leaf) {
		t.Errorf("%s, %s", tls.VersionName(state.Version), state.PeerCertificates[0].Subject)
	}
	if name := <-names; name != "localhost" || asked.ServerName != "" || asked.MinVersion != 0 {
		t.Errorf("SNI %q, the caller's config %q and %x", name, asked.ServerName, asked.MinVersion)
	}
	dialCheck(t, c)
	c, err = DialTLS(clientContext(t), mutual, trusting(func(config *tls.Config) { config.Certificates = []tls.Certificate{client} }))
	if err != nil {
		t.Fatal(err)
	}
	if state := c.ConnectionState(); state.Version != tls.VersionTLS12 {
		t.Error(tls.VersionName(state.Version))
	}
	dialCheck(t, c)
	c, err = DialTLS(clientContext(t), expired, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	dialCheck(t, c)
	for _, tt := range []struct {
		name, addr string
		config     *tls.Config
		want       error // nil: any
	}{
		{"nobody trusts it", plain, nil, ErrCertificateUntrusted},
		{"another authority", plain, tlsTrusting(client.Leaf), ErrCertificateUntrusted},
		{"expired", expired, tlsTrusting(old.Leaf), ErrCertificateExpired},
		{"address for a name", strings.Replace(plain, "localhost", "127.0.0.1", 1), asked, ErrCertificateHost},
		{"another name", plain, trusting(func(config *tls.Config) { config.ServerName = "example.com" }), ErrCertificateHost},
		{"TLS 1.1", legacy, asked, nil},
		{"TLS 1.1 allowed", legacy, trusting(func(config *tls.Config) { config.MinVersion = tls.VersionTLS10 }), nil},
		{"not TLS", notTLS, asked, nil},
		{"no certificate", mutual, asked, nil},
	} {
		c, err := DialTLS(clientContext(t), tt.addr, tt.config)
		var e *ClientError
		if c != nil || tt.want != nil && !errors.Is(err, tt.want) || !errors.As(err, &e) || e.Phase != PhaseTLS {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	// The kernel accepts, and nobody answers.
	ln := dialListen(t, "tcp4", "127.0.0.1:0")
	defer ln.Close()
	d := Dialer{HandshakeTimeout: 20 * time.Millisecond}
	if _, err := d.DialTLS(clientContext(t), ln.Addr().String(), nil); !errors.Is(err, ErrTimeout) {
		t.Errorf("a handshake without an answer: %v", err)
	}
}

// FuzzSplitHostPort: what is taken is one host and one port, in octets that can
// go into a log or a header, and means the same when put together again.
func FuzzSplitHostPort(f *testing.F) {
	for _, s := range []string{"a.test:80", "127.0.0.1:0", "[::1]:443", "[fe80::1%eth0]:1", "010.0.0.1:80", "a:80\r\n", "[::1", "::1:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, err := splitHostPort(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidAddr) {
				t.Fatal(err)
			}
			return
		}
		if strings.ContainsAny(host, "\x00\r\n @/\\[]") || host == "" {
			t.Fatalf("host %q", host)
		}
		again, samePort, err := splitHostPort(joinHostPort(host, port))
		if err != nil || again != host || samePort != port {
			t.Fatalf("%q, %d: put together %q, %d, %v", host, port, again, samePort, err)
		}
	})
}
