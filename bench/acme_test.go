//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"flare"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	acmeName = "www.example.com"

	// acmeRenewals is how many renewals a test waits for.
	acmeRenewals = 2

	// acmePatience bounds the waits for an authority. A certificate takes some seconds,
	// since autocert asks once a second how far it is.
	acmePatience = time.Minute
)

// An acmeAuthority is Pebble, Let's Encrypt's server for tests. It validates names at
// the ports that it is given, and has certificates for a day.
type acmeAuthority struct {
	directory string
	client    *http.Client // trusts the directory
	roots     *x509.CertPool
}

func newACMEAuthority(t *testing.T, httpPort, tlsPort int) *acmeAuthority {
	logger := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	issuer := ca.New(logger, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: 24 * 60 * 60}})
	validator := va.New(logger, httpPort, tlsPort, true, acmeDNS(t), store)
	front := wfe.New(logger, store, validator, issuer, []string{"example.com"}, true, false, 1, 1)
	srv := httptest.NewTLSServer(front.Handler())
	t.Cleanup(srv.Close)
	a := &acmeAuthority{directory: srv.URL + wfe.DirectoryPath, client: srv.Client(), roots: x509.NewCertPool()}
	a.roots.AddCert(issuer.GetRootCert(0).Cert)
	return a
}

// acmeDNS is a resolver to which every name is this machine.
func acmeDNS(t *testing.T) (addr string) {
	ln := listenLocal(t)
	started := make(chan struct{})
	srv := &dns.Server{Listener: ln, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, ask *dns.Msg) {
		answer := new(dns.Msg).SetReply(ask)
		if q := ask.Question[0]; q.Qtype == dns.TypeA {
			head := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}
			answer.Answer = append(answer.Answer, &dns.A{Hdr: head, A: net.IPv4(127, 0, 0, 1)})
		}
		w.WriteMsg(answer)
	})}
	go srv.ActivateAndServe()
	<-started
	t.Cleanup(func() { srv.Shutdown() })
	return ln.Addr().String()
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func portOf(ln net.Listener) int { return ln.Addr().(*net.TCPAddr).Port }

// manager is autocert's, whose certificates are due for renewal as soon as they are
// there. It goes on until the authority has ended.
func (a *acmeAuthority) manager() *autocert.Manager {
	allowed := autocert.HostWhitelist(acmeName)
	return &autocert.Manager{
		Prompt: autocert.AcceptTOS,
		HostPolicy: func(ctx context.Context, host string) error {
			name, _, _ := strings.Cut(host, ":") // http-01's port is not 80 here
			return allowed(ctx, name)
		},
		RenewBefore: 48 * time.Hour,
		Client:      &acme.Client{DirectoryURL: a.directory, HTTPClient: a.client},
	}
}

// acmeServe serves until the test ends.
func acmeServe(t *testing.T, s *flare.Server, serve func() error) {
	served := make(chan error, 1)
	go func() { served <- serve() }()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
}

// acmeServer is the server that has a certificate from the authority, and none to
// begin with.
func acmeServer(t *testing.T, config *tls.Config, ln net.Listener) *flare.Server {
	s := &flare.Server{
		TLSConfig:        config,
		HandshakeTimeout: acmePatience, // the first ones wait for the certificate
		Logger:           quiet(),
		Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
			return w.Text(200, r.Proto())
		}),
	}
	acmeServe(t, s, func() error { return s.ServeTLS(ln, "", "") })
	return s
}

// TestACME has a server get its certificate from an authority, and renew it, by
// autocert and either challenge, while clients make connections all the time: no
// handshake fails, from the first on.
func TestACME(t *testing.T) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_AUTHZREUSE", "0") // validate for each certificate
	t.Run("tls-alpn-01", func(t *testing.T) {
		t.Parallel()
		ln := listenLocal(t)
		a := newACMEAuthority(t, portOf(ln), portOf(ln)) // nobody speaks HTTP in the clear there
		s := acmeServer(t, a.manager().TLSConfig(), ln)
		acmeClients(t, a, ln.Addr().String())
		acmeDone(t, s, true)
	})
	t.Run("tls-alpn-01 by its name alone", func(t *testing.T) {
		t.Parallel()
		ln := listenLocal(t)
		a := newACMEAuthority(t, portOf(ln), portOf(ln))
		config := &tls.Config{GetCertificate: a.manager().GetCertificate, NextProtos: []string{acme.ALPNProto}}
		s := acmeServer(t, config, ln)
		acmeClients(t, a, ln.Addr().String())
		acmeDone(t, s, true)
	})
	t.Run("http-01", func(t *testing.T) {
		t.Parallel()
		ln, plain := listenLocal(t), listenLocal(t)
		a := newACMEAuthority(t, portOf(plain), portOf(plain)) // nobody speaks TLS there
		m := a.manager()
		redirect := &flare.Server{Logger: quiet(), Handler: flare.FromHTTP(m.HTTPHandler(nil))}
		acmeServe(t, redirect, func() error { return redirect.Serve(plain) })
		s := acmeServer(t, &tls.Config{GetCertificate: m.GetCertificate}, ln)
		acmeClients(t, a, ln.Addr().String())
		acmeDone(t, s, false)
		if n := redirect.Stats().Responses.Class2xx; n < 1+acmeRenewals {
			t.Errorf("%d answers to the authority", n)
		}
	})
}

// acmeClients connect until the certificate has been renewed so often.
func acmeClients(t *testing.T, a *acmeAuthority, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), acmePatience)
	defer cancel()
	var mu sync.Mutex
	serials := make(map[string]int)
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for enough := false; !enough && ctx.Err() == nil; <-pace.C {
				serial, proto, err := a.connect(addr, i%2 == 0)
				if want := []string{"HTTP/2.0", "HTTP/1.1"}[i%2]; err != nil || proto != want {
					t.Errorf("%q, not %q: %v", proto, want, err)
					return
				}
				mu.Lock()
				serials[serial]++
				enough = len(serials) > acmeRenewals
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	if ctx.Err() != nil && !t.Failed() {
		t.Errorf("certificates after %v: %d", acmePatience, len(serials))
	}
	t.Logf("connections by certificate: %v", serials)
}

// connect makes a connection and a request, and returns by which certificate.
func (a *acmeAuthority) connect(addr string, http2 bool) (serial, proto string, err error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: a.roots, ServerName: acmeName},
		Protocols:       protocols,
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: acmePatience}
	resp, err := client.Get("https://" + addr + "/")
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.TLS.PeerCertificates[0].SerialNumber.String(), strings.TrimSpace(string(text)), err
}

// acmeDone looks at what the server has counted: no handshake has failed, and those of
// the authority, of which there may be some, got no HTTP.
func acmeDone(t *testing.T, s *flare.Server, validated bool) {
	t.Helper()
	if n := s.Stats().Handshakes.Failed; n != 0 {
		t.Errorf("%d handshakes have failed", n)
	}
	eventually(t, "the counts of handshakes and requests, which a loop tells a little later", func() bool {
		st := s.Stats()
		return validated == (st.Handshakes.Done > st.Requests)
	})
}
