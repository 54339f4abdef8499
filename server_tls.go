package flare

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): HTTPS: what a server offers and how its TLS is
// configured. The engine has the handshake and the records.

// slotsPerProcessor handshakes compute at once, for each processor: some wait
// for a lock or the garbage collector, and more would only keep the loops
// waiting.
const slotsPerProcessor = 4

var (
	errNoServerCertificate = errors.New("flare: no certificate: neither files nor Certificates, GetCertificate or GetConfigForClient of TLSConfig")
	errNotOffered          = errors.New("flare: not a version of HTTP that Protocols has")
	errOldTLS              = errors.New("flare: HTTP/2 over TLS older than 1.2 (RFC 9113 §9.2)")
)

// ListenAndServeTLS serves HTTPS on a TCP address until it fails. The files are
// in PEM; the first may hold intermediate certificates behind the server's own.
func ListenAndServeTLS(addr, certFile, keyFile string, h Handler) error {
	s := &Server{Addr: addr, Handler: h}
	return s.ListenAndServeTLS(certFile, keyFile)
}

// ListenAndServeTLS listens on s.Addr, ":443" if that is empty, and serves as
// ServeTLS does.
func (s *Server) ListenAndServeTLS(certFile, keyFile string) error {
	ln, err := s.listenAll(":443")
	if err != nil {
		return err
	}
	return s.ServeTLS(ln, certFile, keyFile)
}

// ServeTLS is Serve for connections that speak TLS. The files are looked at
// again while it serves, as a CertReloader does; both may be "" when s.TLSConfig
// has certificates. Beside TLSConfig's functions, which are asked first, files
// are for every name. Without MinVersion in TLSConfig 1.2 is the oldest version;
// without a version of HTTP in NextProtos those of s.Protocols are offered, also by
// what GetConfigForClient returns. A connection that agrees on a name that is no
// version of HTTP, as the authorities of ACME do ("acme-tls/1", RFC 8737), ends with
// its handshake. A Server with NewProtocol offers no names of its own accord, and
// serves what is agreed on.
func (s *Server) ServeTLS(ln net.Listener, certFile, keyFile string) error {
	settings, err := s.tlsSettings(certFile, keyFile)
	if err != nil {
		ln.Close()
		return err
	}
	return s.serve(ln, settings)
}

// tlsSettings is what connections of a listener need.
func (s *Server) tlsSettings(certFile, keyFile string) (*tlsSettings, error) {
	config := new(tls.Config)
	if s.TLSConfig != nil {
		config = s.TLSConfig.Clone()
	}
	if config.MinVersion == 0 {
		config.MinVersion = tls.VersionTLS12
	}
	s.offerProtocols(config)
	if certFile != "" || keyFile != "" {
		files, err := NewCertReloader(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		files.Logger = s.Logger
		serveFiles(config, files)
	}
	if len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil {
		return nil, errNoServerCertificate
	}
	settings := s.handshakeSettings()
	settings.config, settings.slots = config, s.handshakeSlots()
	s.askOutside(config, settings.slots)
	return settings, nil
}

// offerProtocols settles which protocols are offered by name, unless the user
// has protocols of their own.
func (s *Server) offerProtocols(config *tls.Config) {
	if s.NewProtocol != nil {
		return
	}
	config.NextProtos = slices.Clone(config.NextProtos)
	if config.NextProtos == nil || len(config.NextProtos) > 0 && !slices.ContainsFunc(config.NextProtos, isHTTP) {
		config.NextProtos = append([]string{protoHTTP2, protoHTTP1}, config.NextProtos...)
	}
	served := s.servedVersions()
	config.NextProtos = slices.DeleteFunc(config.NextProtos, func(name string) bool {
		return name == protoHTTP2 && !served.overTLS || name == protoHTTP1 && !served.http1
	})
}

// isHTTP reports whether the name of a protocol is that of a version of HTTP.
func isHTTP(name string) bool { return name == protoHTTP2 || strings.HasPrefix(name, "http/1.") }

// serveFiles lets the certificate of files stand in for those of config; its
// function is asked first.
func serveFiles(config *tls.Config, files *CertReloader) {
	first := config.GetCertificate
	config.Certificates = nil
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if first != nil {
			if cert, err := first(hello); cert != nil || err != nil {
				return cert, err
			}
		}
		return files.GetCertificate(hello)
	}
}

// askOutside lets the functions of config run without a slot: they may look at
// files or ask somebody else. What GetConfigForClient returns is settled as config is.
func (s *Server) askOutside(config *tls.Config, slots cryptoSlots) {
	callOutside(config, slots)
	if ask := config.GetConfigForClient; ask != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (c *tls.Config, err error) {
			slots.outside(nil, func() { c, err = ask(hello) })
			if c != nil {
				c = c.Clone() // with the keys of tickets that it has now
				s.offerProtocols(c)
				callOutside(c, slots)
			}
			return c, err
		}
	}
}

// callOutside is askOutside for all functions but that one.
func callOutside(config *tls.Config, slots cryptoSlots) {
	if ask := config.GetCertificate; ask != nil {
		config.GetCertificate = func(hello *tls.ClientHelloInfo) (cert *tls.Certificate, err error) {
			slots.outside(nil, func() { cert, err = ask(hello) })
			return cert, err
		}
	}
	if verify := config.VerifyPeerCertificate; verify != nil {
		config.VerifyPeerCertificate = func(raw [][]byte, chains [][]*x509.Certificate) (err error) {
			slots.outside(nil, func() { err = verify(raw, chains) })
			return err
		}
	}
	if verify := config.VerifyConnection; verify != nil {
		config.VerifyConnection = func(state tls.ConnectionState) (err error) {
			slots.outside(nil, func() { err = verify(state) })
			return err
		}
	}
	if wrap := config.WrapSession; wrap != nil {
		config.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) (ticket []byte, err error) {
			slots.outside(nil, func() { ticket, err = wrap(state, session) })
			return ticket, err
		}
	}
	if unwrap := config.UnwrapSession; unwrap != nil {
		config.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (session *tls.SessionState, err error) {
			slots.outside(nil, func() { session, err = unwrap(ticket, state) })
			return session, err
		}
	}
}

// foreignTLS is what connections need that a listener of the user's has put TLS
// on, such as tls.NewListener's.
func (s *Server) foreignTLS() *tlsSettings { return s.handshakeSettings() }

// handshakeSettings is what the two have in common: what becomes of handshakes.
func (s *Server) handshakeSettings() *tlsSettings {
	return &tlsSettings{
		done: s.handshakeDone,
		agreed: func(state *tls.ConnectionState) (begin func(c *Conn), err error) {
			protocol := state.NegotiatedProtocol
			switch {
			case s.NewProtocol != nil:
				return nil, nil
			case protocol == protoHTTP2 && state.Version < tls.VersionTLS12: // RFC 9113 §9.2
				return nil, errOldTLS
			case protocol == protoHTTP2 && s.http2.overTLS:
				return s.beginHTTP2, nil
			case protocol == protoHTTP2 || protocol != "" && !isHTTP(protocol) || !s.http2.http1:
				return nil, errNotOffered
			}
			return nil, nil
		},
	}
}

// handshakeSlots returns the slots of all of the server's listeners.
func (s *Server) handshakeSlots() cryptoSlots {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots == nil {
		s.slots = make(cryptoSlots, slotsPerProcessor*runtime.GOMAXPROCS(0))
	}
	return s.slots
}

// handshakeCounts are what Stats tells of handshakes.
type handshakeCounts struct {
	done, resumed, failed atomic.Uint64
	log                   refusalLog
}

// handshakeDone counts a handshake, and logs one that failed, unless all there is
// to say is that the client has left.
func (s *Server) handshakeDone(resumed bool, err error) {
	switch {
	case err == nil:
		s.handshakes.done.Add(1)
		if resumed {
			s.handshakes.resumed.Add(1)
		}
	default:
		s.handshakes.failed.Add(1)
		if !isGone(err) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			s.handshakes.log.log(s.logger(), "flare: TLS handshake failed", time.Since(origin), err)
		}
	}
}
