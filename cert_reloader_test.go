package flare

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// look makes the next handshake look at the files.
func (r *CertReloader) lookNow() { r.nextLook.Store(0) }

func certSerial(t *testing.T, r *CertReloader) int64 {
	t.Helper()
	cert, err := r.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.SerialNumber.Int64()
}

func TestCertReloader(t *testing.T) {
	dir, ca := t.TempDir(), tlsTestCA()
	certFile, keyFile := tlsFiles(t, dir, ca.issue(t, 100, "localhost"))
	var log strings.Builder
	r, err := NewCertReloader(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	r.Logger = slog.New(slog.NewTextHandler(&log, nil))
	tlsFiles(t, dir, ca.issue(t, 101, "localhost"))
	if got := certSerial(t, r); got != 100 {
		t.Errorf("within a second: certificate %d", got)
	}
	r.lookNow()
	if got := certSerial(t, r); got != 101 {
		t.Errorf("after a second: certificate %d", got)
	}
	// A pair that does not fit together: the key is an older one's.
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	tlsFiles(t, dir, ca.issue(t, 102, "localhost"))
	renewed, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{string(key), "", "not PEM"} {
		os.WriteFile(keyFile, []byte(bad), 0o600)
		r.lookNow()
		before := log.Len()
		if got := certSerial(t, r); got != 101 {
			t.Errorf("with a bad key: certificate %d", got)
		}
		if !strings.Contains(log.String()[before:], "the certificate was not renewed") {
			t.Errorf("the log has %q", log.String()[before:])
		}
	}
	os.Remove(keyFile)
	r.lookNow()
	if got := certSerial(t, r); got != 101 {
		t.Errorf("without a key: certificate %d", got)
	}
	os.WriteFile(keyFile, renewed, 0o600)
	r.lookNow()
	if got := certSerial(t, r); got != 102 {
		t.Errorf("with the right key: certificate %d", got)
	}
	if _, err := NewCertReloader(certFile, dir+"/none"); err == nil {
		t.Error("a file that is not there is no error at the start")
	}
}

// Files that have been as they are for a while are not read again, and what is
// wrong with them is said once.
func TestCertReloaderRests(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := tlsFiles(t, dir, tlsTestCA().issue(t, 110, "localhost"))
	past := time.Now().Add(-time.Hour)
	for _, name := range []string{certFile, keyFile} {
		if err := os.Chtimes(name, past, past); err != nil {
			t.Fatal(err)
		}
	}
	r, err := NewCertReloader(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	r.Logger = slog.New(slog.NewTextHandler(&log, nil))
	first, _ := r.GetCertificate(nil)
	r.lookNow()
	if again, _ := r.GetCertificate(nil); again != first {
		t.Error("files that have not changed were read again")
	}
	os.WriteFile(keyFile, []byte("bad"), 0o600)
	os.Chtimes(keyFile, past, past.Add(time.Minute))
	for range 3 {
		r.lookNow()
		r.GetCertificate(nil)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines about one change:\n%s", n, log.String())
	}
	os.Remove(keyFile)
	for range 3 {
		r.lookNow()
		r.GetCertificate(nil)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines when a file had gone:\n%s", n, log.String())
	}
}

// Names have files of their own, each looked at by itself.
func TestCertReloaderNames(t *testing.T) {
	t.Parallel()
	ca, files, serial := tlsTestCA(), make(map[string]*CertReloader), int64(40)
	renew := func(dir, name string) (certFile, keyFile string) {
		serial++
		return tlsFiles(t, dir, ca.issue(t, serial, name))
	}
	dirs := map[string]string{"a.example": t.TempDir(), "b.example": t.TempDir()}
	for name, dir := range dirs {
		r, err := NewCertReloader(renew(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = r
	}
	addr := startTLSServer(t, &Server{Handler: HandlerFunc(tlsRoutes), TLSConfig: &tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if r := files[hello.ServerName]; r != nil {
				return r.GetCertificate(hello)
			}
			return files["a.example"].GetCertificate(hello)
		},
	}})
	seen := func(name string) int64 {
		config := tlsClientConfig()
		config.ServerName = name
		c := dialTLSRaw(t, addr, config) // which verifies the name
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	a, b := seen("a.example"), seen("b.example")
	renew(dirs["b.example"], "b.example")
	files["b.example"].lookNow()
	if again := seen("a.example"); again != a {
		t.Errorf("a.example has certificate %d, and had %d", again, a)
	}
	if again := seen("b.example"); again != serial || again == b {
		t.Errorf("b.example has certificate %d, not %d", again, serial)
	}
}

// TestCertReloaderSeesTurnedLink holds that a symbolic link which was turned is
// seen where nothing but the file is another one: ages and sizes are equal.
func TestCertReloaderSeesTurnedLink(t *testing.T) {
	dir, ca := t.TempDir(), tlsTestCA()
	past := time.Now().Add(-time.Hour)
	size := 4 << 10
	for i, name := range []string{"first", "second"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		certFile, keyFile := tlsFiles(t, filepath.Join(dir, name), ca.issue(t, int64(120+i), "localhost"))
		for _, file := range []string{certFile, keyFile} {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, strings.Repeat("\n", size-len(text))...)
			if err := errors.Join(os.WriteFile(file, text, 0o600), os.Chtimes(file, past, past)); err != nil {
				t.Fatal(err)
			}
		}
	}
	live := filepath.Join(dir, "live")
	turn := func(name string) {
		next := filepath.Join(dir, "next")
		if err := os.Symlink(name, next); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
		if err := os.Rename(next, live); err != nil {
			t.Fatal(err)
		}
	}
	turn("first")
	r, err := NewCertReloader(filepath.Join(live, "cert.pem"), filepath.Join(live, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"first", "second", "first"} {
		turn(name)
		r.lookNow()
		if got, want := certSerial(t, r), int64(120+i%2); got != want {
			t.Errorf("turned to %s: certificate %d, want %d", name, got, want)
		}
	}
}

// Certificates change under load: no request fails, and the new one is there
// soon.
func TestTLSCertificateReloadUnderLoad(t *testing.T) {
	dir, ca := t.TempDir(), tlsTestCA()
	certFile, keyFile := tlsFiles(t, dir, ca.issue(t, 200, "localhost"))
	s := &Server{Handler: HandlerFunc(tlsRoutes), Logger: quietLogger()}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(ln, certFile, keyFile) }()
	defer func() {
		s.Close()
		<-served
	}()
	stop := make(chan struct{})
	var newest, requests atomic.Int64
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			client := tlsHTTPClient(t, i%2 == 0)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := client.Get("https://" + addr + "/")
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				resp.Body.Close()
				requests.Add(1)
				serial := resp.TLS.PeerCertificates[0].SerialNumber.Int64()
				for old := newest.Load(); serial > old && !newest.CompareAndSwap(old, serial); old = newest.Load() {
				}
				if n%4 == 0 {
					client.CloseIdleConnections()
				}
			}
		})
	}
	for serial := int64(201); serial < 203; serial++ {
		eventually(t, "the certificate of before", func() bool { return newest.Load() == serial-1 })
		tlsFiles(t, dir, ca.issue(t, serial, "localhost"))
	}
	eventually(t, "the last certificate", func() bool { return newest.Load() == 202 })
	close(stop)
	clients.Wait()
	if requests.Load() < 20 {
		t.Errorf("%d requests", requests.Load())
	}
	kept := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }}
	if _, err := (&Server{TLSConfig: kept}).tlsSettings(certFile, keyFile); err != nil {
		t.Error(err)
	}
	if kept.MinVersion != 0 || kept.NextProtos != nil {
		t.Error("the caller's configuration was changed")
	}
}
