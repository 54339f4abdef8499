package flare

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): listeners of a loop of one's own, and the
// bounds of the connections that come from them. loop_accept.go accepts,
// loop_dial.go makes connections the other way.

// ConnOptions are the bounds of connections on a loop and the options of their
// sockets. The zero value, and nil, is the default of each; a negative limit is
// none.
type ConnOptions struct {
	SocketOptions

	ConnectTimeout time.Duration // until a dialled connection is made; default 10 s, on breach ErrTimeout
	IdleTimeout    time.Duration // without input; default 75 s, on breach the end, with ErrTimeout
	WriteTimeout   time.Duration // without progress of output that waits; default 30 s, on breach a reset; less than 240 bytes a second for 5 s too
	MaxOutputBytes int           // queued by Conn.Write; default 1 MiB, on breach ErrBackpressure
	MaxInputBytes  int           // left unused by Data while it asks for more; default 1 MiB, on breach a reset
	MaxConns       int           // of a listener; default none, beyond it connections wait to be accepted

	// Inline calls the protocols on the loop from the first call on. Otherwise
	// they have to prove that they are quick, on goroutines of their own.
	Inline bool
}

const (
	defaultConnectTimeout = 10 * time.Second
	defaultIdleTimeout    = 75 * time.Second // above the 60 s of most proxies, so that they close first
	defaultWriteTimeout   = 30 * time.Second
	defaultOutputBytes    = 1 << 20

	// defaultRate is the pace of a very bad line: slower is an attack, or not
	// worth the memory.
	defaultRate = 240

	// After a refusal: what the peer still sends is discarded while it sends,
	// for so long.
	lingerSilent = 2 * time.Second
	lingerAll    = 10 * time.Second

	// inputBytesMax is how much unread input is kept for a Protocol that asks
	// for more.
	inputBytesMax = 1 << 20

	unlimited = int(^uint(0) >> 1)
)

// boundOr is limitOr for numbers of bytes, in which none is a very large one.
func boundOr(field, byDefault int) int {
	if field < 0 {
		return unlimited
	}
	return limitOr(field, byDefault)
}

// limits returns the bounds with the defaults filled in.
func (o *ConnOptions) limits() *connLimits {
	idle := max(limitOr(o.IdleTimeout, defaultIdleTimeout), 0)
	lim := &connLimits{
		idle:         idle,
		body:         idle, // of a NetConn's reads
		write:        max(limitOr(o.WriteTimeout, defaultWriteTimeout), 0),
		lingerSilent: lingerSilent,
		lingerAll:    lingerAll,
		outputBytes:  boundOr(o.MaxOutputBytes, defaultOutputBytes),
		inputBytes:   boundOr(o.MaxInputBytes, inputBytesMax),
		buffered:     new(bufferCount),
	}
	if lim.write > 0 { // without a limit there is none of the rate
		lim.writeRate = defaultRate
	}
	return lim
}

// route returns the predictor's record for connections with these options.
func (o *ConnOptions) route() *route {
	rt := newRoute()
	if o.Inline {
		rt.pin = pinInline
	}
	return rt
}

// A Listener accepts connections for a loop. Its methods may be called from any
// goroutine.
type Listener struct {
	loop *Loop
	addr netip.AddrPort
	open atomic.Int64 // its connections
	ln   *loopListener
}

// ListenTCP has the loop accept connections at addr, port 0 being one that the
// system chooses, and newProtocol say what each speaks. An unspecified IPv6
// address takes IPv4 connections too. The socket listens when ListenTCP returns
// and connections are accepted once the loop runs; names are for a Resolver, an
// address in text for ParseAddrPort.
//
// newProtocol is called in the connection's first turn, like a method of its
// Protocol: it may write, and block. A connection for which it returns nil is
// closed.
//
// ErrClosed means that the loop has ended; other errors are the system's. Any
// goroutine may call it.
func (l *Loop) ListenTCP(addr netip.AddrPort, opts *ConnOptions, newProtocol func(*Conn) Protocol) (*Listener, error) {
	if opts == nil {
		opts = new(ConnOptions)
	}
	fd, err := listenTCP(addr, 0, opts.ReusePort)
	if err != nil {
		return nil, err
	}
	if addr, err = localAddrPort(fd); err != nil {
		closeFD(fd)
		return nil, err
	}
	return l.listenOn(fd, addr, opts, newProtocol)
}

// ListenUnix is ListenTCP for a socket in the file system. A file that is there
// already is an error (EADDRINUSE); removing it, before and after, is for the
// caller. On Linux a path that starts with "@" is abstract and needs no file.
func (l *Loop) ListenUnix(path string, opts *ConnOptions, newProtocol func(*Conn) Protocol) (*Listener, error) {
	fd, err := listenUnix(path)
	if err != nil {
		return nil, err
	}
	return l.listenOn(fd, netip.AddrPort{}, opts, newProtocol)
}

// listenOn begins to accept from fd; it closes fd if it cannot.
func (l *Loop) listenOn(fd int, addr netip.AddrPort, opts *ConnOptions, newProtocol func(*Conn) Protocol) (*Listener, error) {
	if opts == nil {
		opts = new(ConnOptions)
	}
	tcp := addr.IsValid()
	if err := setSocketOptions(fd, &opts.SocketOptions, tcp); err != nil {
		closeFD(fd)
		return nil, err
	}
	ln := &Listener{loop: l, addr: addr}
	shortages := new(shortageLog)
	limits, rt, most := opts.limits(), opts.route(), opts.MaxConns
	limits.ended = func(*Conn) { ln.open.Add(-1) }
	opening := &openingProtocol{accepted: newProtocol}
	noDelay, keepAlive := tcp && !opts.Delay, opts.KeepAlive
	ln.ln = &loopListener{
		fd:  fd,
		tcp: noDelay,
		adopt: func(fd int, peer netip.AddrPort) {
			if tcp && keepAlive > 0 {
				setKeepAlive(fd, keepAlive) // Darwin hands it down to half of them only
			}
			ln.open.Add(1)
			l.add(newOpening(l, limits, rt, opening, fd, peer))
		},
		full:   func() bool { return most > 0 && ln.open.Load() >= int64(most) },
		short:  func(err error) { shortages.log(slog.Default(), err) },
		failed: l.fail,
	}
	if !l.call(func() {
		if err := l.listen(ln.ln); err != nil {
			closeFD(fd)
			l.fail(err)
		}
	}) {
		closeFD(fd)
		return nil, ErrClosed
	}
	return ln, nil
}

// Addr returns the address that is listened on; the zero value for a Unix
// socket.
func (ln *Listener) Addr() netip.AddrPort { return ln.addr }

// Close ends accepting. Connections that the system has accepted already are
// taken first, and all of them live on. It does not wait. ErrClosed means that the loop
// has ended, and the listener with it.
func (ln *Listener) Close() error {
	if !ln.loop.call(func() { ln.loop.unlistenOne(ln.ln) }) {
		return ErrClosed
	}
	return nil
}
