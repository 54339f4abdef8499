package main

// This file has the servers that suites from outside connect to, and h2spec, which is one of them.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flare"
)

// A served is a server that runs.
type served struct {
	*flare.Server
	host, port string
	ended      chan error
}

func (s *served) stop() {
	s.Close()
	<-s.ended
}

// plainListener has no descriptor that a loop could wait for, so flare serves it on the plain driver.
type plainListener struct{ net.Listener }

func (ln plainListener) Accept() (net.Conn, error) {
	nc, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{nc}, nil
}

// serve serves h, in HTTP/1.1 or in HTTP/2.
func serve(h flare.Handler, http2, overTLS, plain bool) (*served, error) {
	s := &served{Server: &flare.Server{Handler: h, Logger: slog.New(slog.DiscardHandler), Protocols: new(http.Protocols)}, ended: make(chan error, 1)}
	s.Protocols.SetHTTP1(!http2)
	s.Protocols.SetHTTP2(http2)
	s.Protocols.SetUnencryptedHTTP2(http2)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.host, s.port, _ = net.SplitHostPort(ln.Addr().String())
	if plain {
		ln = plainListener{ln}
	}
	if !overTLS {
		go func() { s.ended <- s.Serve(ln) }()
		return s, nil
	}
	cert, err := certificate()
	if err != nil {
		return nil, err
	}
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	go func() { s.ended <- s.ServeTLS(ln, "", "") }()
	return s, nil
}

func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// echo answers with the request's content, and GET with a few KiB.
var echo = flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
	p, err := r.Bytes()
	if err != nil {
		return err
	}
	if len(p) == 0 && r.Method() == http.MethodGet {
		return w.Text(200, strings.Repeat("flare ", 1000))
	}
	return w.Blob(200, "text/plain", p)
})

// echoSockets echoes messages.
func echoSockets(mode flare.Compression) flare.Handler {
	return &flare.WebSocketHandler{
		WebSocketOptions: flare.WebSocketOptions{Compression: mode, MaxMessageBytes: 32 << 20, MaxQueueBytes: 64 << 20},
		OnMessage: func(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
			return ws.Write(context.Background(), kind, p)
		},
	}
}

// A specReport is what h2spec writes, in JUnit's form.
type specReport struct {
	Suites []struct {
		Cases []struct {
			Section string  `xml:"package,attr"`
			Name    string  `xml:"classname,attr"`
			Skipped *string `xml:"skipped"`
			Failure *string `xml:"failure"`
			Error   *string `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// h2spec runs all of its cases, the strict ones too. bench/go.mod has the version.
func (r *runner) h2spec() ([]row, error) {
	program := filepath.Join(r.dir, "h2spec")
	bench := filepath.Join(r.root, "bench")
	if _, err := r.command(bench, "go", "mod", "download", "github.com/summerwind/h2spec"); err != nil {
		return skip("%v", err), nil
	}
	if _, err := r.command(bench, "go", "build", "-o", program, "github.com/summerwind/h2spec/cmd/h2spec"); err != nil {
		return nil, err
	}
	var rows []row
	for _, way := range []struct {
		name           string
		overTLS, plain bool
	}{
		{"TLS on the loop", true, false}, {"TLS on the plain driver", true, true},
		{"cleartext on the loop", false, false}, {"cleartext on the plain driver", false, true},
	} {
		s, err := serve(echo, true, way.overTLS, way.plain)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(r.dir, "report.xml")
		args := []string{program, "--strict", "--timeout", "5", "--port", s.port, "--junit-report", file}
		if way.overTLS {
			args = append(args, "--tls", "--insecure")
		}
		_, failed := r.command(r.dir, args...) // also where a case failed
		s.stop()
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("no report: %w", failed)
		}
		os.Remove(file)
		w, err := parseSpec(text)
		if err != nil {
			return nil, err
		}
		w.name = way.name
		rows = append(rows, w)
	}
	return rows, nil
}

func parseSpec(text []byte) (w row, err error) {
	var report specReport
	if err := xml.Unmarshal(text, &report); err != nil {
		return w, err
	}
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			switch {
			case c.Failure != nil:
				w.failed++
				w.why = append(w.why, fmt.Sprintf("%s %s: %s", c.Section, c.Name, strings.Join(strings.Fields(*c.Failure), " ")))
			case c.Error != nil:
				w.failed++
				w.why = append(w.why, fmt.Sprintf("%s %s: error %s", c.Section, c.Name, *c.Error))
			case c.Skipped != nil:
				w.skipped++
				w.why = append(w.why, fmt.Sprintf("%s %s: skipped", c.Section, c.Name))
			default:
				w.passed++
			}
		}
	}
	if w.passed+w.failed+w.skipped == 0 {
		return w, io.ErrUnexpectedEOF
	}
	return w, nil
}
