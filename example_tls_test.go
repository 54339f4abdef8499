package flare_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// exampleCertificate is one for example.com, and who trusts it.
func exampleCertificate() (certs []tls.Certificate, trusted *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	trusted = x509.NewCertPool()
	trusted.AddCert(s.Certificate())
	return s.TLS.Certificates, trusted
}
