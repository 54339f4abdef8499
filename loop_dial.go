package flare

import (
	"net/netip"
	"os"
	"syscall"
	"time"
)

// This file is layer 3 (engine): how a connection on a loop begins: one that is
// dialled, until it is made, and the first turn of every connection that speaks
// a user's protocol.

// DialTCP begins to connect to addr, and has the loop call connected, once:
// with the connection, for which it returns the Protocol, in the connection's
// first turn, so that it may write and block; or with nil and the reason why
// there is none, on a goroutine of its own, what it returns being ignored then.
// The reason is ErrTimeout after opts.ConnectTimeout, ErrClosed when the loop
// has ended, and the system's error (ECONNREFUSED) otherwise. A connection for
// which it returns nil is closed.
//
// An error of DialTCP itself means that nothing was begun and connected will not
// be called. Any goroutine may call it.
func (l *Loop) DialTCP(addr netip.AddrPort, opts *ConnOptions, connected func(c *Conn, err error) Protocol) error {
	if opts == nil {
		opts = new(ConnOptions)
	}
	fd, err := connectTCP(addr, &opts.SocketOptions)
	if err != nil {
		return err
	}
	return l.dialOn(fd, addr, opts, connected)
}

// DialUnix is DialTCP for a socket in the file system. On Linux a path that
// starts with "@" is abstract.
func (l *Loop) DialUnix(path string, opts *ConnOptions, connected func(c *Conn, err error) Protocol) error {
	if opts == nil {
		opts = new(ConnOptions)
	}
	fd, err := connectUnix(path, &opts.SocketOptions)
	if err != nil {
		return err
	}
	return l.dialOn(fd, netip.AddrPort{}, opts, connected)
}

func (l *Loop) dialOn(fd int, peer netip.AddrPort, opts *ConnOptions, connected func(*Conn, error) Protocol) error {
	c := newOpening(l, opts.limits(), opts.route(), &openingProtocol{connected: connected}, fd, peer)
	c.user().wakeAt = after(time.Since(origin), limitOr(opts.ConnectTimeout, defaultConnectTimeout))
	if !l.call(func() { l.add(c) }) {
		closeFD(fd)
		return ErrClosed
	}
	return nil
}

// newOpening returns a connection whose first turn is to come.
func newOpening(l *Loop, limits *connLimits, rt *route, opening *openingProtocol, fd int, peer netip.AddrPort) *Conn {
	uc := new(struct {
		Conn
		userConn
	})
	uc.opening, uc.userConn.Protocol = true, opening
	c := &uc.Conn
	c.init(l, limits, fd, peer)
	c.state, c.route, c.proto = stateSwitched, rt, &uc.userConn
	return c
}

// An openingProtocol is what a connection speaks until its first turn has said
// what it really speaks. Connections of one listener share one.
type openingProtocol struct {
	accepted  func(*Conn) Protocol
	connected func(*Conn, error) Protocol // of a dialled one
}

// open is the beginning of a connection's first turn, or an earlier look at one
// that is still being made. False: v stands.
func (c *Conn) open(g *workset) (v verdict, ok bool) {
	u := c.user()
	opening := u.Protocol.(*openingProtocol)
	if opening.connected != nil {
		switch errno := connectResult(c.fd); errno {
		case 0:
		case syscall.EINPROGRESS:
			return verdictPartial, false
		default:
			c.end(endFlushed, os.NewSyscallError("connect", errno))
			return verdictClose, false
		}
	}
	u.opening, u.wakeAt = false, 0
	c.since, c.rearm = g.clock.now, true // from here on silence counts
	g.setRoute(c.route)
	u.Protocol = silentEnd{}
	switch p := c.begin(opening); {
	case u.Protocol != Protocol(silentEnd{}): // it has switched already
	case p == nil:
		c.end(endFlushed, nil)
	default:
		u.Protocol = p
	}
	if !c.flush(g) {
		return c.blocked(), false
	}
	return verdictMore, true
}

// begin asks the user what c speaks; nil for nothing.
func (c *Conn) begin(opening *openingProtocol) Protocol {
	if opening.connected != nil {
		return opening.connected(c, nil)
	}
	return opening.accepted(c)
}

// Data is never called.
func (o *openingProtocol) Data(*Conn, []byte, bool) (int, error) { return 0, nil }

// Drained is never called.
func (o *openingProtocol) Drained(*Conn) {}

// Closed tells who dialled that there is no connection.
func (o *openingProtocol) Closed(c *Conn, err error) {
	if o.connected == nil {
		return
	}
	if err == nil {
		err = ErrClosed
	}
	o.connected(nil, err)
}

// silentEnd is what a connection speaks that was refused.
type silentEnd struct{}

func (silentEnd) Data(_ *Conn, in []byte, _ bool) (int, error) { return len(in), nil }
func (silentEnd) Drained(*Conn)                                {}
func (silentEnd) Closed(*Conn, error)                          {}
