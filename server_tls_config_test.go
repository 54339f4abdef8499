package flare

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"slices"
	"testing"
)

// This file has what crypto/tls does with configurations of a Server that papers
// describe: versions and suites by the names of Mozilla's guidelines, sessions that
// several processes resume, configurations for one client.

// What is settled for TLSConfig is settled for what its GetConfigForClient returns,
// which stays as it is.
func TestTLSConfigForClient(t *testing.T) {
	t.Parallel()
	inner := &tls.Config{Certificates: []tls.Certificate{tlsTestCA().issue(t, 30, "localhost")}}
	for want, s := range map[string]*Server{"h2": {}, "http/1.1": {Protocols: onlyHTTP1()}} {
		s.Handler, s.TLSConfig = HandlerFunc(tlsRoutes), tlsConfigOf(inner)
		config := tlsClientConfig()
		config.NextProtos = []string{"h2", "http/1.1"}
		c := dialTLSRaw(t, startTLSServer(t, s), config)
		if got := c.ConnectionState().NegotiatedProtocol; got != want {
			t.Errorf("agreed on %q, not %q", got, want)
		}
	}
	if inner.NextProtos != nil {
		t.Errorf("the caller's configuration has %q", inner.NextProtos)
	}
}

// tlsTicketClient is a client that has at most one session, in a cache.
func tlsTicketClient(version uint16) *tls.Config {
	config := tlsClientConfig()
	config.MinVersion, config.MaxVersion = version, version
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	return config
}

// tlsResumes makes a connection with a request, and reports whether it resumes a
// session. Then the cache has one of this server's.
func tlsResumes(t *testing.T, addr string, config *tls.Config) bool {
	t.Helper()
	c := dialTLSRaw(t, addr, config)
	defer c.Close()
	c.get("/").want(t, 200, "hello") // which reads the ticket too
	return c.ConnectionState().DidResume
}

// Servers with the same keys resume each other's sessions, as processes do that follow
// each other or stand beside each other, while keys come and go.
func TestTLSTicketKeys(t *testing.T) {
	t.Parallel()
	cert := tlsTestCA().issue(t, 31, "localhost")
	type shared struct {
		addr   string
		config *tls.Config
	}
	start := func(keys ...[32]byte) (s shared) {
		s.config = &tls.Config{Certificates: []tls.Certificate{cert}}
		if keys != nil {
			s.config.SetSessionTicketKeys(keys)
		}
		s.addr = startTLSServer(t, &Server{Handler: HandlerFunc(tlsRoutes), TLSConfig: tlsConfigOf(s.config)})
		return s
	}
	old, key, next := [32]byte{1}, [32]byte{2}, [32]byte{3}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			one, two, alone := start(key, old), start(key), start()
			client := tlsTicketClient(version)
			for i, step := range []struct {
				addr string
				want bool
			}{{one.addr, false}, {one.addr, true}, {two.addr, true}, {one.addr, true}, {alone.addr, false}, {alone.addr, true}, {two.addr, false}} {
				if got := tlsResumes(t, step.addr, client); got != step.want {
					t.Errorf("connection %d: resumed is %v", i, got)
				}
			}
			// Keys of a server that serves are replaced: first of one, then of the other.
			one.config.SetSessionTicketKeys([][32]byte{next, key})
			if !tlsResumes(t, one.addr, client) {
				t.Error("the key before is not known any more")
			}
			if tlsResumes(t, two.addr, client) {
				t.Error("a key is known that is not there")
			}
			two.config.SetSessionTicketKeys([][32]byte{next, key})
			one.config.SetSessionTicketKeys([][32]byte{next})
			if tlsResumes(t, one.addr, client) {
				t.Error("the key that went is known still")
			}
			if !tlsResumes(t, two.addr, client) {
				t.Error("the new key is not shared")
			}
		})
	}
	// Keys that are there when the server starts need no function.
	config := &tls.Config{Certificates: []tls.Certificate{cert}}
	config.SetSessionTicketKeys([][32]byte{key})
	fixed := startTLSServer(t, &Server{Handler: HandlerFunc(tlsRoutes), TLSConfig: config})
	client := tlsTicketClient(tls.VersionTLS13)
	tlsResumes(t, start(key).addr, client)
	if !tlsResumes(t, fixed, client) {
		t.Error("keys of TLSConfig itself are not used")
	}
}

// tlsIntermediate are the suites of TLS 1.2 that Mozilla's "intermediate" has and
// crypto/tls too.
var tlsIntermediate = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// tlsBeyond are those that a server has beside them by default.
var tlsBeyond = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
}

// What a server takes by default, and with what OPERATIONS.md says to write for the
// names of Mozilla's guidelines: of all versions and suites that crypto/tls has, those.
func TestTLSPresets(t *testing.T) {
	t.Parallel()
	certs := tlsCertificatesOfBothKinds(t)
	for _, preset := range []struct {
		name   string
		config *tls.Config
		suites []uint16 // of TLS 1.2
	}{
		{"default", &tls.Config{}, slices.Concat(tlsIntermediate, tlsBeyond)},
		{"intermediate", &tls.Config{CipherSuites: tlsIntermediate}, tlsIntermediate},
		{"modern", &tls.Config{MinVersion: tls.VersionTLS13}, nil},
	} {
		t.Run(preset.name, func(t *testing.T) {
			t.Parallel()
			preset.config.Certificates = certs
			settings, err := (&Server{TLSConfig: preset.config}).tlsSettings("", "")
			if err != nil {
				t.Fatal(err)
			}
			for version := uint16(tls.VersionTLS10); version <= tls.VersionTLS13; version++ {
				for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
					if !slices.Contains(suite.SupportedVersions, version) {
						continue
					}
					want := version == tls.VersionTLS13 || version == tls.VersionTLS12 && slices.Contains(preset.suites, suite.ID)
					if got := tlsAgrees(settings.config, version, suite.ID); got != want {
						t.Errorf("%s with %s: %v, want %v", tls.VersionName(version), suite.Name, got, want)
					}
				}
			}
		})
	}
}

// tlsAgrees reports whether a client that has one version and, below TLS 1.3, one suite
// agrees with the server.
func tlsAgrees(server *tls.Config, version, suite uint16) bool {
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		defer b.Close()
		tls.Server(b, server).Handshake()
	}()
	return tls.Client(a, &tls.Config{
		InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, CipherSuites: []uint16{suite},
	}).Handshake() == nil
}

// tlsCertificatesOfBothKinds are a certificate with a key of ECDSA and one of RSA.
func tlsCertificatesOfBothKinds(t *testing.T) (certs []tls.Certificate) {
	t.Helper()
	one, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	two, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(32)}
	for _, key := range []crypto.Signer{one, two} {
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
	}
	return certs
}
