package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// This file is layer 4 (roles): what a Server consists of. server_serve.go has its
// beginning, server_shutdown.go its end, server_limits.go the bounds, and
// server_route.go how a request finds its handler and what becomes of errors.

// A Server serves HTTP/1.1, or another Protocol, from event loops. The zero
// value with a Handler serves. Fields must not be changed once it serves. In
// every limit and timeout 0 means the default and a negative value no limit.
type Server struct {
	// Addr is the TCP address for ListenAndServe, "host:port"; "" is ":80". It may be
	// several addresses with blanks between them, and others than TCP, as
	// ListenConfig.Listen takes them.
	Addr string

	// Handler answers the requests. nil answers 404.
	Handler Handler

	// TLSConfig is for ServeTLS and ListenAndServeTLS, which take a copy.
	TLSConfig *tls.Config

	// Protocols are the versions of HTTP that are served. nil is HTTP/1.1, and
	// HTTP/2 over TLS with clients that offer it. UnencryptedHTTP2 is HTTP/2 on a
	// port without TLS for clients that begin with it (RFC 9113 §3.3), beside
	// HTTP/1.1 if that is there too. Where neither is, such a port answers 505.
	Protocols *http.Protocols

	// HTTP2 tunes HTTP/2. nil and fields of 0 are the defaults: 128 streams at
	// once, 256 KiB of a request's body ahead of its handler and 1 MiB of all on a
	// connection, a PING after 15 s of silence while streams are open, and the end
	// 15 s later. MaxReadFrameSize, MaxEncoderHeaderTableSize and the fields about
	// errors, clients and cipher suites have no effect.
	HTTP2 *http.HTTP2Config

	// NewProtocol makes the Protocol of a new connection, in the connection's
	// first turn, so that it may write and block; for nil the connection is
	// closed. IdleTimeout and MaxOutputBytes hold for it, limits on requests do
	// not. A NewProtocol that is nil is HTTP/1.1.
	NewProtocol func(*Conn) Protocol

	// Loops is the number of event loops. 0 is GOMAXPROCS.
	Loops int

	// NewPoller makes the poller of a loop. nil is the system's own.
	NewPoller func() (Poller, error)

	// ErrorHandler answers for handlers that failed, for routes that do not
	// exist and for requests that were refused. w is empty but for the fields
	// that stay (StatusError says which), and has the error's status unless
	// another is set; if nothing is written, the answer is that of a nil
	// ErrorHandler. nil answers with the status and the message of a *StatusError, and with
	// a bare 500 otherwise.
	ErrorHandler func(w *ResponseWriter, r *Request, err error)

	// TrustedProxies are the peers whose Forwarded and X-Forwarded-For, -Proto and
	// -Host fields are believed by Request.ClientAddr, Scheme and ClientHost: addresses
	// and prefixes ("192.0.2.7", "2001:db8::/32"), "loopback", "private" (RFC 1918,
	// RFC 4193), and "unix" for peers without an IP address, which are those on Unix
	// sockets. Of all others these fields are ignored. With an entry that is none of
	// these, Serve fails.
	TrustedProxies []string

	// ProxyProtocol has each connection from one of TrustedProxies, and no other, begin
	// with a header of the PROXY protocol, version 1 or 2 (107 octets, 4 KiB at most),
	// in front of TLS if there is some. The client's address that it tells is
	// RemoteAddr, and what MaxConnsPerIP counts; without one, the connection's own is.
	// A connection whose header is malformed, or not there within HandshakeTimeout, is
	// reset. What others send is not looked at: such a header is no request. Serve
	// fails without TrustedProxies.
	ProxyProtocol bool

	// Refusals, when set, wraps what answers requests that are refused before any
	// handler: for what is too large or too slow, or was not understood. It is for
	// middleware that says something of every response: request ids, CORS, security
	// fields. What it wraps returns the refusal, a *StatusError. Of a request that was
	// not understood the middleware sees nothing but the method.
	Refusals Middleware

	// AccessHook, when set, is called once for each request that was answered or
	// refused, or whose handler was called, when its response has ended: with all of
	// it handed to the connection, and before what comes next on that. It runs on the
	// goroutine of the request, which waits for it, from many at a time. AccessLog has
	// one.
	AccessHook func(AccessEntry)

	// Logger gets what handlers return or panic with. nil is slog.Default().
	Logger *slog.Logger

	MaxURIBytes    int   // request target; default 8 KiB, on breach 414
	MaxHeaderBytes int   // header fields; default 16 KiB, on breach 431
	MaxHeaders     int   // number of header fields; default 100, on breach 431
	MaxBodyBytes   int64 // request body; default 10 MiB, on breach 413
	MaxOutputBytes int   // queued for a connection by Conn.Write; default 1 MiB

	HandshakeTimeout time.Duration // of TLS, and before it of a PROXY header; default 10 s, on breach a close

	HeadTimeout  time.Duration // first byte to end of head; default 10 s, on breach 408
	BodyTimeout  time.Duration // without progress of a body; default 30 s, on breach 408
	IdleTimeout  time.Duration // between requests; default 75 s, on breach a silent close
	WriteTimeout time.Duration // while the client takes nothing of a response; default 30 s, on breach a reset

	MinBodyRate  int64 // bytes a second of a body while flare waits for it, after 5 s; default 240, on breach 408
	MinWriteRate int64 // bytes a second of a response while flare waits for room, after 5 s; default 240, on breach a reset

	MaxRequestsPerConn int // default unlimited; the last answer says close

	// MaxConnAge is how long a connection lives from its first request on, give or take
	// a tenth, so that those of one moment do not end at one moment; default unlimited.
	// Then the next answer says close. Over HTTP/2 the client is told at once (GOAWAY),
	// and streams that still run after MaxConnAgeGrace, default unlimited, are cut. Over
	// HTTP/1.1 the last answer has the time that any other has, whatever the grace, and
	// a connection that rests has until IdleTimeout.
	MaxConnAge      time.Duration
	MaxConnAgeGrace time.Duration

	MaxConns         int   // default unlimited; beyond it connections wait to be accepted
	MaxConnsPerIP    int   // default unlimited; beyond it a new connection is closed
	MaxBufferedBytes int64 // unread input and unsent output of all connections; default a quarter of memory, on breach idle connections are closed, accepting pauses and requests with bodies get 503

	// DrainDelay is how long after Shutdown begins connections that are idle
	// may still send one request each, which is answered with "Connection:
	// close". Default 0.
	DrainDelay time.Duration

	// ConnState, when set, is told of each change in a connection's life, in
	// order. http.StateNew, StateHijacked and StateClosed are told on a goroutine
	// of their own, and Shutdown waits for them; the others by the goroutine that
	// has the connection then, which waits for it.
	//
	// The net.Conn stands for the connection: it is the same in each call, differs
	// from that of any other connection, and may be a map's key for as long as it is
	// kept. It has the addresses; all else is the server's and fails with
	// errors.ErrUnsupported. Only of a request that came by another server (see
	// ToHTTP), and was hijacked, it is the connection itself. Any goroutine may use it.
	ConnState func(net.Conn, http.ConnState)

	// BaseContext, when set, is called by Serve and returns the context that those
	// of requests from that listener derive from; nil, or a panic, is an error of
	// Serve. Its end ends theirs, and cuts no connection. Requests that came by
	// another server (see ToHTTP) have contexts of that one's.
	BaseContext func(net.Listener) context.Context

	// ConnContext, when set, returns the context that those of a connection's
	// requests derive from, made of that of BaseContext. c is as ConnState has it.
	// It is called once, before a TLS handshake and before StateNew is told, on a
	// goroutine of its own for which the connection waits. A connection for which it
	// returns nil, or panics, is cut.
	ConnContext func(ctx context.Context, c net.Conn) context.Context

	lim    serverLimits
	router predictedRouter // Handler as one, or nil

	observer   requestObserver // MetricsHandler's, or nil
	refuser    Handler         // Refusals around the refusal, or nil
	proxies    *proxyTrust     // TrustedProxies; nil: nobody
	proxiesBad error           // why there are none

	routes routeRecords
	pin    pin
	data   *route // of Data, for other protocols than HTTP

	blocking  websocketSet // WebSockets that handlers read themselves
	greetings greetings    // connections of a listener of the user's, until their peer is known

	handshakes   handshakeCounts
	http2        http2Config
	http2Counts  http2Counts
	http2Streams sync.Pool // that no connection uses

	carriedOnce sync.Once
	carried     loopCounts // of requests that another server received

	draining     atomic.Bool
	onEnd        serverEnding
	acceptors    atomic.Int32 // goroutines that accept for the plain driver
	conns        atomic.Int64
	accepted     atomic.Uint64
	buffered     bufferCount  // bytes in buffers of connections
	shedNext     atomic.Int64 // idle connections are not shed again before
	refusals     refusalLog
	greetingLog  logThrottle
	shortages    shortageLog
	short        atomic.Uint64 // accepts that failed for want of something
	misuseLogged logGap        // of what handlers have left behind
	perIP        addrCounts

	starting sync.Mutex // held while loops are made; before mu

	mu        sync.Mutex
	slots     cryptoSlots       // guarded by mu; nil before the first listener with TLS
	loops     []*Loop           // guarded by mu until started, then fixed
	listeners []*servedListener // guarded by mu
	addrs     []net.Addr        // guarded by mu
	started   bool              // guarded by mu
	prepared  bool              // guarded by mu
	inMemory  bool              // guarded by mu: a TestClient's
	closed    bool              // guarded by mu: Shutdown or Close was called
	done      chan struct{}     // closed when all loops have ended
}

// An AccessEntry is a request whose response has ended. It may be kept, but for what
// is said of Request.
type AccessEntry struct {
	// Request works until the hook returns, except for its body. Of a request that was
	// refused before its head was understood it has the method, the target as far as
	// they are known, and the addresses.
	Request *Request

	Status   int   // sent; 0 if none was, as for a connection that was hijacked or cut
	BytesIn  int64 // of the request's body, as the handler has read it
	BytesOut int64 // of the response's body, as it was sent, compressed if it was

	Start    time.Time     // the first byte of the request had come
	Duration time.Duration // from there to the end of the response

	// Err is what the handler has returned or panicked with, why the request was
	// refused, or why the response is not whole; nil if all went well.
	Err error

	// Refused means that no handler has seen the request.
	Refused bool
}

// A requestObserver is told of each request whose response has ended, as AccessHook
// is, in the turn of the request.
type requestObserver interface {
	observe(x *exchange, e AccessEntry)
}

// served returns the listeners. They are the user's, so that nothing is called
// of them with s.mu held.
func (s *Server) served() []*servedListener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.listeners)
}

// Addrs returns the addresses that the server listens on.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]net.Addr(nil), s.addrs...)
}

// counts reports whether peer is one of those that MaxConnsPerIP is about: one
// that has an address.
func (s *Server) counts(peer netip.AddrPort) bool { return s.MaxConnsPerIP > 0 && peer.IsValid() }

// connEnded counts a connection out.
func (s *Server) connEnded(c *Conn, state http.ConnState) {
	s.connClosed(c.loop, c.limits.known, c.RemoteAddr(), state)
}

// connClosed counts a connection out that hooks know as known. It was on l, or on no
// loop of the server's.
func (s *Server) connClosed(l *Loop, known net.Conn, peer netip.AddrPort, state http.ConnState) {
	if s.counts(peer) {
		s.perIP.remove(peer.Addr())
	}
	if s.ConnState == nil {
		s.conns.Add(-1)
		return
	}
	l.spawn(func() { // nothing of the user's is called by who closes connections
		defer s.conns.Add(-1)
		s.callConnState(known, state)
	})
}

// logger returns where the server logs to.
func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// isGone reports whether err only says that the client has left.
func isGone(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, ErrClosed)
}
