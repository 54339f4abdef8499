package flare

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// clientAccept has serve called for each connection until the test ends.
func clientAccept(t testing.TB, serve func(c net.Conn)) (url string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	return "http://" + ln.Addr().String()
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

// clientCAFile writes the certificate of a test server to a file.
func clientCAFile(t *testing.T, ts *httptest.Server) string {
	name := filepath.Join(t.TempDir(), "ca.pem")
	p := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw})
	if err := os.WriteFile(name, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
