package flare

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// This file is layer 4 (roles): how an accepted descriptor becomes a connection of a
// server: at once, or when a trusted proxy has said for whom it is (conn_greeting.go).

var errProxyNobody = errors.New("flare: Server.ProxyProtocol without TrustedProxies")

// proxied reports whether what comes from peer begins with a header of the PROXY
// protocol.
func (s *Server) proxied(peer netip.AddrPort) bool {
	return s.ProxyProtocol && s.proxies.trusts(peer.Addr())
}

// clientOf is the peer of a connection with that header, which has come from peer.
func (h *ProxyHeader) clientOf(peer netip.AddrPort) netip.AddrPort {
	if h == nil || !h.Source.IsValid() {
		return peer
	}
	return h.Source
}

// admit counts an accepted descriptor in, negative for none. It returns nil, and
// closes the descriptor, if its address has too many.
func (s *Server) admit(fd int, peer netip.AddrPort) *Conn {
	if s.counts(peer) && !s.perIP.add(peer.Addr(), s.MaxConnsPerIP) {
		if fd >= 0 {
			s.loops[0].closeFD(fd)
		}
		return nil
	}
	s.conns.Add(1)
	return s.newConn(s.nextLoop(), fd, peer)
}

// newConn returns a connection that speaks s's protocol.
func (s *Server) newConn(l *Loop, fd int, peer netip.AddrPort) *Conn {
	if s.NewProtocol == nil {
		return s.newHTTPConn(l, fd, peer)
	}
	return newOpening(l, &s.lim.conn, s.data, &openingProtocol{accepted: s.NewProtocol}, fd, peer)
}

func (s *Server) newHTTPConn(l *Loop, fd int, peer netip.AddrPort) *Conn {
	hc := &struct {
		Conn
		httpConn
	}{}
	hc.httpConn.srv = s
	hc.proto = &hc.httpConn
	hc.Conn.init(l, &s.lim.conn, fd, peer)
	return &hc.Conn
}

// greetingFailed tells of a proxy, or of whoever else has its address, that has not
// sent what it should. It does not wait.
func (s *Server) greetingFailed(err error) {
	switch {
	case err == nil, errors.Is(err, io.EOF), isGone(err), errors.Is(err, ErrServerClosed), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe):
		return
	}
	if skipped, passes := s.greetingLog.pass(time.Since(origin)); passes {
		go logTo(s.logger(), slog.LevelInfo, "flare: a connection from a trusted proxy was refused", slog.Any("error", err), slog.Int("skipped", skipped))
	}
}

// nextLoop returns the loop of the next connection: in turn, save those that have
// failed.
func (s *Server) nextLoop() *Loop {
	n := uint64(len(s.loops))
	next := s.accepted.Add(1)
	for i := range n {
		if l := s.loops[(next+i)%n]; !l.failed.Load() {
			return l
		}
	}
	return s.loops[next%n] // all have, and whatever comes is closed
}
