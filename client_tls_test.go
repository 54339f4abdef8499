package flare

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// A tlsAuthority signs certificates for one test.
type tlsAuthority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newTLSAuthority(t *testing.T, name string) *tlsAuthority {
	t.Helper()
	a := &tlsAuthority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	pair := a.sign(template, template)
	a.key, a.cert = pair.PrivateKey.(*ecdsa.PrivateKey), pair.Leaf
	return a
}

// sign makes a key and its certificate; the authority's own is its first.
func (a *tlsAuthority) sign(template, parent *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// leaf makes a certificate for a server or client of that name, or address,
// valid for an hour from notBefore on.
func (a *tlsAuthority) leaf(name string, notBefore time.Time) tls.Certificate {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: notBefore, NotAfter: notBefore.Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	return a.sign(template, a.cert)
}

// tlsServer serves clientEcho with that configuration.
func tlsServer(t *testing.T, config *tls.Config) string {
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("X-Client", r.TLS.PeerCertificates[0].Subject.CommonName)
		}
		clientEcho(w, r)
	}))
	ts.TLS, ts.Config.ErrorLog = config, clientNoLog()
	ts.StartTLS()
	t.Cleanup(ts.Close)
	return ts.URL
}

// Each way in which a certificate can be wrong has its own error, and none of
// the servers sees a request.
func TestClientCertificates(t *testing.T) {
	ours, theirs := newTLSAuthority(t, "ours"), newTLSAuthority(t, "theirs")
	trusting := tlsTrusting(ours.cert)
	named := trusting.Clone()
	named.ServerName = "a.test"
	now := time.Now().Add(-time.Minute)
	self := &tlsAuthority{t: t}
	selfSigned := &x509.Certificate{Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: now, NotAfter: now.Add(time.Hour)}
	tests := []struct {
		name   string
		server tls.Certificate
		client *Client
		want   error
	}{
		{"right", ours.leaf("127.0.0.1", now), &Client{TLSConfig: trusting}, nil},
		{"right, of two authorities", ours.leaf("127.0.0.1", now), &Client{TLSConfig: tlsTrusting(theirs.cert, ours.cert)}, nil},
		{"expired", ours.leaf("127.0.0.1", now.Add(-2*time.Hour)), &Client{TLSConfig: trusting}, ErrCertificateExpired},
		{"not yet valid", ours.leaf("127.0.0.1", now.Add(2*time.Hour)), &Client{TLSConfig: trusting}, ErrCertificateExpired},
		{"of another address", ours.leaf("127.0.0.2", now), &Client{TLSConfig: trusting}, ErrCertificateHost},
		{"of a name", ours.leaf("a.test", now), &Client{TLSConfig: trusting}, ErrCertificateHost},
		{"of the name to verify", ours.leaf("a.test", now), &Client{TLSConfig: named}, nil},
		{"of another name to verify", ours.leaf("127.0.0.1", now), &Client{TLSConfig: named}, ErrCertificateHost},
		{"of an unknown authority", theirs.leaf("127.0.0.1", now), &Client{TLSConfig: trusting}, ErrCertificateUntrusted},
		{"of the system's authorities", ours.leaf("127.0.0.1", now), &Client{}, ErrCertificateUntrusted},
		{"self-signed", self.sign(selfSigned, selfSigned), &Client{TLSConfig: trusting}, ErrCertificateUntrusted},
		{"expired, and nobody looks", ours.leaf("a.test", now.Add(-2*time.Hour)), &Client{TLSConfig: &tls.Config{InsecureSkipVerify: true}}, nil},
	}
	kinds := []error{ErrCertificateExpired, ErrCertificateHost, ErrCertificateUntrusted, ErrTimeout, ErrRefused, ErrReset}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := clientOf(t, tt.client)
			c.BaseURL = tlsServer(t, &tls.Config{Certificates: []tls.Certificate{tt.server}})
			for range 2 { // the second on a connection that rests, or with a session
				resp, err := c.Post(clientContext(t), "/", "x")
				if tt.want == nil {
					clientWantText(t, resp, err, 200, "x")
					continue
				}
				var e *ClientError
				if !errors.As(err, &e) || e.Phase != PhaseTLS {
					t.Fatalf("%v, want a *ClientError of the handshake", err)
				}
				for _, kind := range kinds {
					if errors.Is(err, kind) != (kind == tt.want) {
						t.Errorf("%v is %v: %v", err, kind, errors.Is(err, kind))
					}
				}
			}
		})
	}
}

// A server that asks for a certificate gets the client's, and says no to one
// of an authority it does not know.
func TestClientCertificateOfClient(t *testing.T) {
	ours, theirs := newTLSAuthority(t, "ours"), newTLSAuthority(t, "theirs")
	now := time.Now().Add(-time.Minute)
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		url := tlsServer(t, &tls.Config{
			Certificates: []tls.Certificate{ours.leaf("127.0.0.1", now)}, MaxVersion: version,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		})
		pair := func(a *tlsAuthority) *Client {
			c := a.leaf("ada", now)
			config := tlsTrusting(ours.cert)
			config.Certificates = []tls.Certificate{c}
			return clientOf(t, &Client{BaseURL: url, TLSConfig: config})
		}
		resp, err := pair(ours).Post(clientContext(t), "/", "x")
		clientWantText(t, resp, err, 200, "x")
		if got := resp.Header.Get("X-Client"); got != "ada" {
			t.Errorf("the server saw %q", got)
		}
		for name, c := range map[string]*Client{"none": clientOf(t, &Client{BaseURL: url, TLSConfig: tlsTrusting(ours.cert)}), "theirs": pair(theirs)} {
			resp, err := c.Get(clientContext(t), "/")
			if err == nil { // the refusal comes with the answer in TLS 1.3
				t.Fatalf("%s: status %d", name, resp.StatusCode)
			}
			var alert *net.OpError
			if (!errors.As(err, &alert) || alert.Op != "remote error") && !errors.Is(err, ErrReset) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// What is wrong with a client's fields is an error of the first request.
func TestClientFields(t *testing.T) {
	for name, c := range map[string]*Client{
		"bad default":       {Header: func() (h Header) { h.Set("A", "\n"); return }()},
		"bad base":          {BaseURL: "ftp://a"},
		"base without host": {BaseURL: "http://"},
	} {
		_, err := c.Get(clientContext(t), "https://127.0.0.1:1/")
		if !errors.Is(err, ErrInvalidRequest) && !errors.Is(err, ErrInvalidURL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A plain server behind https is told from one with a bad certificate.
func TestClientTLSToPlain(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer ts.Close()
	_, err := clientOf(t, &Client{}).Get(clientContext(t), strings.Replace(ts.URL, "http:", "https:", 1))
	if !errors.Is(err, ErrMalformed) {
		t.Errorf("%v", err)
	}
}

// A proxy that is itself behind TLS: with its own certificate, for plain and
// for https origins, whose TLS goes through the proxy's.
func TestClientHTTPSProxy(t *testing.T) {
	ours := newTLSAuthority(t, "ours")
	now := time.Now().Add(-time.Minute)
	secure := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ours.leaf("127.0.0.1", now)}})
	plain := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer plain.Close()
	through := func(cert tls.Certificate, serverName string) (*Client, *[]string) {
		handler, asked := clientProxyHandler(0)
		proxy := httptest.NewUnstartedServer(handler)
		proxy.TLS, proxy.Config.ErrorLog = &tls.Config{Certificates: []tls.Certificate{cert}}, clientNoLog()
		proxy.StartTLS()
		t.Cleanup(proxy.Close)
		at := strings.Replace(proxy.URL, "//", "//u:p@", 1)
		config := tlsTrusting(ours.cert)
		config.ServerName = serverName
		return clientOf(t, &Client{TLSConfig: config, Proxy: func(*url.URL) (*url.URL, error) { return url.Parse(at) }}), asked
	}
	c, asked := through(ours.leaf("127.0.0.1", now), "")
	long := strings.Repeat("x", 300<<10)
	for _, target := range []string{plain.URL, secure, secure, plain.URL} {
		resp, err := c.Post(clientContext(t), target+"/x", long)
		clientWantText(t, resp, err, 200, long)
		if (resp.TLS() != nil) != true { // of the proxy's hop, or the origin's
			t.Error("the response knows of no TLS")
		}
	}
	want := "POST " + plain.URL + "/x Basic dTpw|CONNECT " + strings.TrimPrefix(secure, "https://") + " Basic dTpw|POST " + plain.URL + "/x Basic dTpw"
	if got := strings.Join(*asked, "|"); got != want {
		t.Errorf("the proxy was asked %s, want %s", got, want)
	}
	// A name to verify is the origin's and not the proxy's.
	named := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ours.leaf("a.test", now)}})
	c, _ = through(ours.leaf("127.0.0.1", now), "a.test")
	resp, err := c.Post(clientContext(t), named, "x")
	clientWantText(t, resp, err, 200, "x")
	c, asked = through(ours.leaf("a.test", now), "")
	for _, target := range []string{plain.URL, secure} {
		if _, err := c.Get(clientContext(t), target); !errors.Is(err, ErrCertificateHost) || len(*asked) > 0 {
			t.Errorf("a proxy with another's certificate: %v, asked %v", err, *asked)
		}
	}
}

// A response in TLS that the peer breaks off without a close_notify is not
// taken for whole where only the end of the connection ends it.
func TestClientTLSTruncated(t *testing.T) {
	ours := newTLSAuthority(t, "ours")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	config := &tls.Config{Certificates: []tls.Certificate{ours.leaf("127.0.0.1", time.Now().Add(-time.Minute))}}
	notify := make(chan bool, 1)
	go func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, config)
			if clientReadHead(c) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nabc")
				if <-notify {
					c.CloseWrite()
				}
			}
			raw.Close()
		}
	}()
	c := clientOf(t, &Client{TLSConfig: tlsTrusting(ours.cert)})
	for _, whole := range []bool{true, false} {
		notify <- whole
		body, err := clientFetch(t, c, "https://"+ln.Addr().String())
		if whole && (err != nil || body != "abc") || !whole && !errors.Is(err, ErrUnexpectedEOF) {
			t.Errorf("with close_notify %v: %q, %v", whole, body, err)
		}
	}
}
