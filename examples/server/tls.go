package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"time"

	"flare"
)

// Where the server's certificate comes from.
type certificate struct {
	certFile, keyFile string
	selfSigned        bool
}

// scheme is what URLs of the server begin with.
func (c *certificate) scheme() string {
	if c.certFile != "" || c.selfSigned {
		return "https"
	}
	return "http"
}

func (c *certificate) check() error {
	switch {
	case (c.certFile == "") != (c.keyFile == ""):
		return errors.New("-cert and -key go together")
	case c.certFile != "" && c.selfSigned:
		return errors.New("-self-signed is instead of -cert and -key")
	}
	return nil
}

// serve serves on ln, with TLS if there is a certificate.
func (c *certificate) serve(s *flare.Server, ln net.Listener) error {
	if c.scheme() == "http" {
		return s.Serve(ln)
	}
	if c.selfSigned {
		cert, err := selfSigned()
		if err != nil {
			return err
		}
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	return s.ServeTLS(ln, c.certFile, c.keyFile)
}

// selfSignedFor is how long such a certificate is valid. It lives as long as
// the process.
const selfSignedFor = 90 * 24 * time.Hour

// selfSigned makes a certificate for this machine that nobody vouches for.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(selfSignedFor),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
