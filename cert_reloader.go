package flare

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): certificates that are renewed while a server
// runs. It knows files, and nothing of connections.

const (
	// certLookEvery is how often the files are looked at, at most: a renewal
	// may wait a second, and a handshake should not cost two system calls.
	certLookEvery = time.Second

	// certSettles is how long a file has to be unchanged until its time of
	// change can be trusted to tell of the next change: clocks of file systems
	// are coarse.
	certSettles = 2 * time.Second
)

// A CertReloader reads a certificate and its key from files, and again when
// they change. It looks at them when it is asked for the certificate, once a
// second at most; connections that exist keep what they have. A pair that does
// not fit together, as it is for a moment while files are replaced, is logged
// and the old one stays. All methods may be called from any goroutine.
//
//	certs, err := flare.NewCertReloader("cert.pem", "key.pem")
//	s.TLSConfig = &tls.Config{GetCertificate: certs.GetCertificate}
type CertReloader struct {
	// Logger is told of pairs that could not be used. nil is slog.Default(). It
	// must not be changed once the CertReloader is in use.
	Logger *slog.Logger

	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
	nextLook          atomic.Int64 // nanoseconds since origin

	mu    sync.Mutex // held by whoever looks
	stamp certStamp  // of the pair that was tried last; guarded by mu
}

// A certStamp tells whether files are as they were: the same ones, which they are
// not where a symbolic link was turned to others of the same age and size, and
// unchanged. Its zero value stands for files that are not there.
type certStamp struct {
	cert, key os.FileInfo
	settled   bool
}

// same reports whether s, of files that are there, and o stamp the same pair.
func (s certStamp) same(o certStamp) bool {
	return sameCertFile(s.cert, o.cert) && sameCertFile(s.key, o.key)
}

// sameCertFile reports whether b, which may be nil, is a, unchanged.
func sameCertFile(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// NewCertReloader reads the files, in PEM. The first may hold intermediate
// certificates behind the server's own.
func NewCertReloader(certFile, keyFile string) (*CertReloader, error) {
	r := &CertReloader{certFile: certFile, keyFile: keyFile}
	stamp, err := r.look(time.Now())
	if err != nil {
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	r.stamp = stamp
	r.current.Store(&cert)
	r.nextLook.Store(int64(time.Since(origin) + certLookEvery))
	return r, nil
}

// GetCertificate is for the field of that name in a tls.Config. It never fails.
func (r *CertReloader) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := int64(time.Since(origin))
	if at := r.nextLook.Load(); now >= at && r.nextLook.CompareAndSwap(at, now+int64(certLookEvery)) {
		r.reload(time.Now())
	}
	return r.current.Load(), nil
}

// reload reads the files if they have changed.
func (r *CertReloader) reload(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	stamp, err := r.look(now)
	if err == nil {
		if stamp.settled && r.stamp.settled && stamp.same(r.stamp) {
			return
		}
		var cert tls.Certificate
		if cert, err = tls.LoadX509KeyPair(r.certFile, r.keyFile); err == nil {
			r.current.Store(&cert)
		}
	}
	gone := stamp.cert == nil && r.stamp.cert == nil // which was told when they went
	if err != nil && !gone {
		logger := r.Logger
		if logger == nil {
			logger = slog.Default()
		}
		logger.Error("flare: the certificate was not renewed", slog.String("file", r.certFile), slog.Any("error", err))
	}
	r.stamp = stamp
}

// look returns the stamp of the files as they are.
func (r *CertReloader) look(now time.Time) (certStamp, error) {
	cert, err := os.Stat(r.certFile)
	if err != nil {
		return certStamp{}, err
	}
	key, err := os.Stat(r.keyFile)
	if err != nil {
		return certStamp{}, err
	}
	for _, info := range []os.FileInfo{cert, key} {
		os.SameFile(info, info) // or Windows would look which file it is later, by name
	}
	settled := now.Sub(cert.ModTime()) > certSettles && now.Sub(key.ModTime()) > certSettles
	return certStamp{cert: cert, key: key, settled: settled}, nil
}
