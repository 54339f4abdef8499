package flare_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"flare"
)

// ticketKeys reads keys of 32 octets each from a file. The first one is for new tickets.
func ticketKeys(file string) (keys [][32]byte, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(text) == 0 || len(text)%32 != 0 {
		return nil, errors.New("the file of keys is incomplete")
	}
	for ; len(text) > 0; text = text[32:] {
		keys = append(keys, [32]byte(text))
	}
	return keys, nil
}

// sharedTickets returns a TLSConfig that is config, with keys from the file, which is
// read again from time to time.
func sharedTickets(ctx context.Context, config *tls.Config, file string, every time.Duration) (*tls.Config, error) {
	keys, err := ticketKeys(file)
	if err != nil {
		return nil, err
	}
	config.SetSessionTicketKeys(keys)
	go func() {
		for tick := time.NewTicker(every); ; {
			select {
			case <-tick.C:
				if keys, err := ticketKeys(file); err == nil {
					config.SetSessionTicketKeys(keys)
				}
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}()
	// The Server has a copy of its TLSConfig. What the function returns is asked for the
	// keys at each handshake.
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return config, nil
	}}, nil
}

// Several processes resume each other's TLS sessions: one behind the other when the
// program is restarted, or beside each other.
func ExampleServer_ticketKeys() {
	dir, err := os.MkdirTemp("", "flare")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "ticket-keys")
	key := make([]byte, 32)
	rand.Read(key)
	if err := os.WriteFile(file, key, 0o600); err != nil {
		log.Fatal(err)
	}
	certs, trusted := exampleCertificate()

	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: trusted, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "example.com"},
		DisableKeepAlives: true,
	}}
	for range 2 {
		ctx, cancel := context.WithCancel(context.Background())
		config, err := sharedTickets(ctx, &tls.Config{Certificates: certs}, file, time.Minute)
		if err != nil {
			log.Fatal(err)
		}
		s := &flare.Server{TLSConfig: config, Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
			return w.Text(200, fmt.Sprint("resumed: ", r.TLS().DidResume))
		})}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.ServeTLS(ln, "", "") }()
		resp, err := client.Get("https://" + ln.Addr().String() + "/")
		if err != nil {
			log.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(string(text))
		s.Close()
		<-served
		cancel()
	}
	// Output:
	// resumed: false
	// resumed: true
}

// Beside the server for https, one on port 80 sends everybody there. SecurityFields with
// HSTS has browsers remember it.
func ExampleServer_redirectToHTTPS() {
	redirect := &flare.Server{Addr: ":80", Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Redirect(308, "https://www.example.com"+r.URL().RequestURI())
	})}
	resp, _ := serveExample(redirect, "GET", "http://example.com/a%20b?c=d")
	fmt.Println(resp.StatusCode, resp.Header.Get("Location"))
	// Output:
	// 308 https://www.example.com/a%20b?c=d
}

// trustAgain returns a TLSConfig that is config, with the authorities for certificates of
// clients from a file, and a function that reads it again, for SIGHUP or a clock.
func trustAgain(config *tls.Config, file string) (*tls.Config, func() error, error) {
	var current atomic.Pointer[tls.Config]
	read := func() error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		next := config.Clone()
		next.ClientCAs = x509.NewCertPool()
		if !next.ClientCAs.AppendCertsFromPEM(text) {
			return errors.New("no certificate in " + file)
		}
		current.Store(next)
		return nil
	}
	err := read()
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return current.Load(), nil
	}}, read, err
}

// A route is for clients with certificates, whose authority is replaced while the server
// runs.
func ExampleRequireClientCert() {
	dir, err := os.MkdirTemp("", "flare")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "clients.pem")
	before, after := exampleClient("ada"), exampleClient("grace")
	write := func(client tls.Certificate) {
		block := &pem.Block{Type: "CERTIFICATE", Bytes: client.Certificate[0]} // which is its own authority
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	write(before)
	certs, trusted := exampleCertificate()
	config, read, err := trustAgain(&tls.Config{Certificates: certs, ClientAuth: tls.VerifyClientCertIfGiven}, file)
	if err != nil {
		log.Fatal(err)
	}
	mux := flare.NewMux()
	mux.Get("/who", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, flare.AuthUser(r))
	}, flare.RequireClientCert(nil))
	s := &flare.Server{TLSConfig: config, Handler: mux, Logger: slog.New(slog.DiscardHandler)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go s.ServeTLS(ln, "", "")
	defer s.Close()

	ask := func(clients ...tls.Certificate) {
		client := &http.Client{Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: trusted, Certificates: clients, ServerName: "example.com"},
			DisableKeepAlives: true,
		}}
		resp, err := client.Get("https://" + ln.Addr().String() + "/who")
		if err != nil {
			log.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, strings.TrimSpace(string(text)))
	}
	ask()
	ask(before)
	write(after)
	if err := read(); err != nil {
		log.Fatal(err)
	}
	ask(before)
	ask(after)
	// Output:
	// 403 a certificate of the client is needed
	// 200 ada
	// 403 a certificate of the client is needed
	// 200 grace
}

// exampleClient is a certificate of a client, signed by itself.
func exampleClient(name string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// exampleCertificate is one for example.com, and who trusts it.
func exampleCertificate() (certs []tls.Certificate, trusted *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	trusted = x509.NewCertPool()
	trusted.AddCert(s.Certificate())
	return s.TLS.Certificates, trusted
}
