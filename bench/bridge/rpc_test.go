package bridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
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
)

// This file has what the tests of remote procedure calls have in common: servers of
// HTTP/2, and calls at once.

// anyVersion is HTTP/1.1 and HTTP/2, with TLS and without.
func anyVersion() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// onlyHTTP2 is what a client has to say that begins with HTTP/2 without TLS, too.
func onlyHTTP2() *http.Protocols {
	p := anyVersion()
	p.SetHTTP1(false)
	return p
}

// overHTTP2 runs test on net/http's server and on flare's, with TLS and without. base
// is the URL of h, trust nil without TLS.
func overHTTP2(t *testing.T, h http.Handler, test func(t *testing.T, base string, trust *tls.Config)) {
	for _, kind := range []string{"cleartext", "TLS"} {
		std := httptest.NewUnstartedServer(h)
		std.Config.Protocols = anyVersion()
		std.Config.ErrorLog = log.New(io.Discard, "", 0)
		std.EnableHTTP2 = kind == "TLS"
		var trust, secret *tls.Config
		if kind == "cleartext" {
			std.Start()
		} else {
			std.StartTLS()
			trust = &tls.Config{RootCAs: x509.NewCertPool()}
			trust.RootCAs.AddCert(std.Certificate())
			secret = &tls.Config{Certificates: std.TLS.Certificates}
		}
		t.Run("nethttp/"+kind, func(t *testing.T) { test(t, std.URL, trust) })
		std.Close()
		t.Run("flare/"+kind, func(t *testing.T) { test(t, serveFlare(t, h, secret), trust) })
	}
}

// serveFlare serves h until the test ends, over TLS unless secret is nil.
func serveFlare(t *testing.T, h http.Handler, secret *tls.Config) (base string) {
	s := &flare.Server{
		Handler: flare.FromHTTP(h), Protocols: anyVersion(), TLSConfig: secret,
		Logger: slog.New(slog.NewTextHandler(failing{t}, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	if secret == nil {
		return flare.TestServer(t, s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { s.ServeTLS(ln, "", ""); close(ended) }()
	t.Cleanup(func() { s.Close(); <-ended })
	return "https://" + ln.Addr().String()
}

// failing fails a test for what is written to it.
type failing struct{ t *testing.T }

func (f failing) Write(p []byte) (int, error) {
	f.t.Errorf("logged: %s", p)
	return len(p), nil
}

// atOnce calls call a hundred times at once.
func atOnce(t *testing.T, call func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if err := call(i); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// echoText is what the services answer to a text, of the lengths that are of interest.
func echoText(text string) string { return "echo of " + text }

var echoTexts = []string{"", "x", "hello", strings.Repeat("much ", 3300), strings.Repeat("0123456789abcdef", 64<<10)}

// wantText returns what is wrong with an answer.
func wantText(got, want string, err error) error {
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%d octets, %.40q, want %d, %.40q", len(got), got, len(want), want)
	}
	return nil
}

// deadline makes calls whose deadline passes, until the handler of one hears of it: one
// that has little time may never reach a handler.
func deadline(t *testing.T, ctx context.Context, call func(ctx context.Context), heard <-chan error) {
	t.Helper()
	for limit := 30 * time.Millisecond; limit < patience; limit *= 2 {
		short, cancel := context.WithTimeout(ctx, limit)
		call(short)
		cancel()
		select {
		case <-heard:
			return
		case <-time.After(10 * limit):
		}
	}
	t.Error("no handler has heard of a deadline")
}
