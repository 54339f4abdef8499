package flare

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"hash"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file has what tests of TLS share: an authority of their own, and servers
// and clients that know it.

// A tlsIssuer issues certificates for tests.
type tlsIssuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

var tlsTestCA = sync.OnceValue(func() *tlsIssuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "flare tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	a := &tlsIssuer{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
})

// issue returns a certificate for those names, for 127.0.0.1 and for clients.
func (a *tlsIssuer) issue(t testing.TB, serial int64, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// tlsFiles writes cert and its key to files, each in one step.
func tlsFiles(t testing.TB, dir string, cert tls.Certificate) (certFile, keyFile string) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]},
		keyFile:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// startTLSServer serves s over TLS until the test ends.
func startTLSServer(t testing.TB, s *Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	startTLSOn(t, s, ln)
	return ln.Addr().String()
}

// startTLSOn is startTLSServer on a listener of the test's own.
func startTLSOn(t testing.TB, s *Server, ln net.Listener) {
	t.Helper()
	config := new(tls.Config)
	if s.TLSConfig != nil {
		config = s.TLSConfig
	}
	if config.Certificates == nil && config.GetCertificate == nil && config.GetConfigForClient == nil {
		config.Certificates = []tls.Certificate{tlsTestCA().issue(t, 2, "localhost")}
	}
	s.TLSConfig = config
	if s.Logger == nil {
		s.Logger = quietLogger()
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(ln, "", "") }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("ServeTLS: %v", err)
		}
	})
}

// tlsConfigOf is a configuration that has config for every client.
func tlsConfigOf(config *tls.Config) *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return config, nil }}
}

// tlsClientConfig is that of a client who trusts the tests' authority.
func tlsClientConfig() *tls.Config {
	return &tls.Config{RootCAs: tlsTestCA().pool, ServerName: "localhost"}
}

// A tlsRawClient is a rawClient over TLS.
type tlsRawClient struct {
	*tls.Conn
	t   testing.TB
	br  *bufio.Reader
	tcp net.Conn
}

// dialTLSRaw connects; config may be nil.
func dialTLSRaw(t testing.TB, addr string, config *tls.Config) *tlsRawClient {
	t.Helper()
	c := dialTLSOver(t, addr, config, unwrapped)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

func unwrapped(nc net.Conn) net.Conn { return nc }

// dialTLSOver connects through what wrap makes of the socket. The handshake
// comes with what is read or written first.
func dialTLSOver(t testing.TB, addr string, config *tls.Config, wrap func(net.Conn) net.Conn) *tlsRawClient {
	t.Helper()
	if config == nil {
		config = tlsClientConfig()
	}
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	tc := tls.Client(wrap(nc), config)
	return &tlsRawClient{Conn: tc, t: t, br: bufio.NewReader(tc), tcp: nc}
}

// dialTLSWebSocket opens a WebSocket at addr.
func dialTLSWebSocket(t testing.TB, addr string) (*WebSocket, context.Context) {
	t.Helper()
	ctx := wsPatience(t)
	ws, _, err := DialWebSocket(ctx, "wss://"+addr+"/", &WebSocketDialOptions{TLSConfig: tlsClientConfig()})
	if err != nil {
		t.Fatal(err)
	}
	return ws, ctx
}

func (c *tlsRawClient) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

func (c *tlsRawClient) answer(method string) answer {
	c.t.Helper()
	a, err := readAnswer(c.br, method)
	if err != nil {
		c.t.Fatalf("answer to %s: %v", method, err)
	}
	return a
}

func (c *tlsRawClient) get(path string) answer {
	c.t.Helper()
	c.send("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n")
	return c.answer("GET")
}

// tlsHTTPClient is net/http's client, by HTTP/1.1 or HTTP/2.
func tlsHTTPClient(t testing.TB, http2 bool) *http.Client {
	tr := &http.Transport{TLSClientConfig: tlsClientConfig(), ForceAttemptHTTP2: http2}
	if !http2 {
		tr.TLSClientConfig.NextProtos = []string{"http/1.1"}
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 2 * patience}
}

// A tlsForger writes records of TLS 1.3 as a client that has agreed on keys,
// those that crypto/tls writes for no caller among them.
type tlsForger struct {
	newHash func() hash.Hash
	keySize int
	secret  []byte
	aead    cipher.AEAD
	iv      []byte
	seq     uint64
}

// tlsSecrets has a client's secrets, by the names of NSS's key log.
type tlsSecrets struct{ text bytes.Buffer }

func (s *tlsSecrets) Write(p []byte) (int, error) { return s.text.Write(p) }

// forger returns the forger of a client whose KeyLogWriter s was.
func (s *tlsSecrets) forger(t testing.TB, state tls.ConnectionState) *tlsForger {
	t.Helper()
	f := &tlsForger{newHash: sha256.New, keySize: 16}
	switch state.CipherSuite {
	case tls.TLS_AES_128_GCM_SHA256:
	case tls.TLS_AES_256_GCM_SHA384:
		f.newHash, f.keySize = sha512.New384, 32
	default:
		t.Skipf("this processor prefers %s, which the standard library has for nobody", tls.CipherSuiteName(state.CipherSuite))
	}
	for line := range strings.Lines(s.text.String()) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			f.secret, _ = hex.DecodeString(words[2])
		}
	}
	if f.secret == nil {
		t.Fatal("no secret in the key log")
	}
	f.derive(t)
	return f
}

// expand is HKDF-Expand-Label (RFC 8446 §7.1).
func (f *tlsForger) expand(t testing.TB, label string, n int) []byte {
	t.Helper()
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(f.newHash, f.secret, string(append(info, 0)), n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *tlsForger) derive(t testing.TB) {
	t.Helper()
	block, err := aes.NewCipher(f.expand(t, "key", f.keySize))
	if err != nil {
		t.Fatal(err)
	}
	if f.aead, err = cipher.NewGCM(block); err != nil {
		t.Fatal(err)
	}
	f.iv, f.seq = f.expand(t, "iv", f.aead.NonceSize()), 0
}

// record appends a record of that type (RFC 8446 §5.2).
func (f *tlsForger) record(to []byte, kind byte, data []byte) []byte {
	nonce := bytes.Clone(f.iv)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(f.seq >> (8 * i))
	}
	f.seq++
	n := len(data) + 1 + f.aead.Overhead()
	header := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return f.aead.Seal(append(to, header...), nonce, append(bytes.Clone(data), kind), header)
}

// data appends a record of application data.
func (f *tlsForger) data(to []byte, text string) []byte { return f.record(to, 23, []byte(text)) }

// keyUpdate appends a KeyUpdate that asks for another (RFC 8446 §4.6.3).
func (f *tlsForger) keyUpdate(t testing.TB, to []byte) []byte {
	t.Helper()
	to = f.record(to, 22, []byte{24, 0, 0, 1, 1})
	f.secret = f.expand(t, "traffic upd", f.newHash().Size())
	f.derive(t)
	return to
}
