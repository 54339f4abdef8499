package flare

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"testing"
)

// clientAccept has serve called for each connection until the test ends.
func clientAccept(t testing.TB, serve func(c net.Conn)) (url string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	clientAcceptFrom(t, ln, serve)
	return "http://" + ln.Addr().String()
}

// clientAcceptFrom has serve called for each connection from ln, which it
// closes when the test ends.
func clientAcceptFrom(t testing.TB, ln net.Listener, serve func(c net.Conn)) {
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

// clientBenchServer is a server that costs next to nothing: each read is a
// request.
func clientBenchServer(t testing.TB) string {
	answer := []byte("HTTP/1.1 200 OK\r\nServer: x\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!")
	return clientAccept(t, func(c net.Conn) {
		for p := make([]byte, 4096); ; {
			if _, err := c.Read(p); err != nil {
				return
			}
			c.Write(answer)
		}
	}) + "/plaintext"
}

func clientNoLog() *log.Logger { return log.New(io.Discard, "", 0) }

// tlsTrusting is TLS of a client that trusts these authorities alone.
func tlsTrusting(authorities ...*x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	for _, cert := range authorities {
		pool.AddCert(cert)
	}
	return &tls.Config{RootCAs: pool}
}
