package flare

import (
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// This file is layer 4 (roles): the bounds of a server and their defaults. All
// of them are safe; each says why it is what it is.

const (
	defaultURIBytes    = 8 << 10  // what browsers and proxies stay below
	defaultHeaderBytes = 16 << 10 // nginx takes 32, Apache 8; cookies rarely pass 8
	defaultHeaders     = 100      // Apache's
	defaultBodyBytes   = 10 << 20 // an upload is a decision of its own

	defaultTLSHandshakeTimeout = 10 * time.Second // some round trips on a bad line

	defaultHeadTimeout = 10 * time.Second
	defaultBodyTimeout = 30 * time.Second

	// memoryShare of the machine's memory may be in buffers of connections.
	memoryShare = 4
)

// serverLimits are a server's limits with the defaults filled in; negative
// means none.
type serverLimits struct {
	head      headLimits
	conn      connLimits
	bodyBytes int64
	requests  int
	buffered  int64
}

func (s *Server) limits() serverLimits {
	lim := serverLimits{
		head: headLimits{
			uriBytes:    limitOr(s.MaxURIBytes, defaultURIBytes),
			headerBytes: limitOr(s.MaxHeaderBytes, defaultHeaderBytes),
			headers:     limitOr(s.MaxHeaders, defaultHeaders),
		},
		conn: connLimits{
			idle:         max(limitOr(s.IdleTimeout, defaultIdleTimeout), 0),
			handshake:    max(limitOr(s.HandshakeTimeout, defaultTLSHandshakeTimeout), 0),
			head:         max(limitOr(s.HeadTimeout, defaultHeadTimeout), 0),
			body:         max(limitOr(s.BodyTimeout, defaultBodyTimeout), 0),
			write:        max(limitOr(s.WriteTimeout, defaultWriteTimeout), 0),
			bodyRate:     max(limitOr(s.MinBodyRate, defaultRate), 0),
			writeRate:    max(limitOr(s.MinWriteRate, defaultRate), 0),
			buffered:     &s.buffered,
			logger:       s.logger,
			lingerSilent: lingerSilent,
			lingerAll:    lingerAll,
			outputBytes:  boundOr(s.MaxOutputBytes, defaultOutputBytes),
			inputBytes:   inputBytesMax,
		},
		bodyBytes: limitOr(s.MaxBodyBytes, defaultBodyBytes),
		requests:  limitOr(s.MaxRequestsPerConn, -1),
		buffered:  limitOr(s.MaxBufferedBytes, int64(systemMemory()/memoryShare)),
	}
	if s.NewProtocol == nil {
		lim.conn.inputBytes = unlimited // heads and awaited bodies have bounds of their own
	} else {
		// Not HTTP: nothing says when a peer has to send.
		lim.conn.body, lim.conn.bodyRate = lim.conn.idle, 0
		lim.conn.ended = func(c *Conn) { s.connEnded(c, http.StateClosed) }
	}
	return lim
}

// full reports whether the server takes no more connections at the moment.
func (s *Server) full() bool {
	if s.MaxConns > 0 && s.conns.Load() >= int64(s.MaxConns) {
		return true
	}
	if s.buffered.isOver() {
		s.shed()
		return true
	}
	return false
}

// shedEvery is how often idle connections are closed for the sake of buffers: it
// means a walk over all connections.
const shedEvery = acceptRetry

// shed has idle connections closed, soon. Any goroutine may call it.
func (s *Server) shed() {
	now, next := int64(time.Since(origin)), s.shedNext.Load()
	if now >= next && s.shedNext.CompareAndSwap(next, now+int64(shedEvery)) {
		s.drain(false)
	}
}

// addrCounts counts connections by address.
type addrCounts struct {
	mu sync.Mutex
	n  map[netip.Addr]int // guarded by mu
}

// add counts one more, unless there are limit already.
func (a *addrCounts) add(addr netip.Addr, limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n[addr] >= limit {
		return false
	}
	if a.n == nil {
		a.n = make(map[netip.Addr]int)
	}
	a.n[addr]++
	return true
}

func (a *addrCounts) remove(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.n[addr]--; a.n[addr] <= 0 {
		delete(a.n, addr)
	}
}
