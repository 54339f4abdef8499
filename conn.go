package flare

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): what a connection consists of, and the one seam
// above it, Protocol. It knows nothing of HTTP. conn_turn.go has its turns,
// conn_state.go its states and how it ends, conn_transport.go the seam below.

// A Protocol is what a connection speaks. Its methods are called for one
// connection by one goroutine at a time, which may block in them.
//
// A Protocol may have more methods, which connections ask for:
//
//	Expired(c *Conn) // the time of Conn.SetTimeout has passed; without it the connection ends with ErrTimeout
type Protocol interface {
	// Data uses the front of in and reports how much. It is called again while
	// it makes progress; 0 asks for more. in is valid only during the call.
	// eof: the peer sends no more. An error ends the connection after what was
	// written has been sent.
	Data(c *Conn, in []byte, eof bool) (n int, err error)

	// Drained is called when output that had to wait for the peer has fallen to
	// the low mark, a quarter of what may wait: it is time to write again. While
	// output waits Data is not called.
	Drained(c *Conn)

	// Closed is called once, last, on a goroutine of its own. err is nil when
	// the connection ended in order. The connection can only be asked for its
	// addresses and its loop.
	Closed(c *Conn, err error)
}

// An expirer is a Protocol with something to say when a deadline passes.
type expirer interface {
	expire(c *Conn)
}

// connLimits are the bounds of a connection, and what else is fixed before it
// begins. All connections of a server share them, unless it has hooks for them.
type connLimits struct {
	idle, head, body, write time.Duration // 0: none
	handshake               time.Duration // 0: none
	bodyRate, writeRate     int64         // bytes a second, 0: none
	lingerSilent, lingerAll time.Duration
	outputBytes             int                 // queued by Write
	inputBytes              int                 // kept for a protocol that asks for more
	buffered                *bufferCount        // bytes in buffers of all connections
	ended                   func(*Conn)         // told of each that has ended, by whoever had it; may be nil
	logger                  func() *slog.Logger // nil: slog.Default; asked from any goroutine
	base                    context.Context     // the parent of handlers' contexts; nil: context.Background

	// known is what hooks know the connection by. It is set before a loop has the
	// connection, whose limits are its own then; nil: there are no hooks.
	known net.Conn

	// proxied is the header that a proxy has sent in front of the connection, which has
	// limits of its own then; set before a loop has it. nil: there was none.
	proxied *ProxyHeader
}

// What a protocol asks of the turn it is in.
type connWant uint8

const (
	wantNothing connWant = iota
	wantWork             // the next call belongs on a worker
	wantTurn             // there is more to do, but others' turn first
)

// A Conn is a connection on a loop. Its methods may be called from the
// methods of its Protocol and from functions that were posted to it, and from
// nowhere else, unless they say otherwise.
type Conn struct {
	strand // whoever owns it owns the connection

	// Fixed when the connection is made.
	loop   *Loop
	limits *connLimits
	tr     transport
	peer   netip.Addr
	fd     int // negative: of the plain driver, see conn_plain.go

	// Any goroutine.
	outbox    atomic.Pointer[outbox] // nil: only the owner writes; the owner itself looks at shared
	unsentMax atomic.Int32           // as the socket has it, 0: as the system does

	// The owner's: the runner, or the goroutine it is lent to.
	proto  Protocol
	route  *route        // of Data, for protocols other than HTTP
	cause  error         // why it ended, nil: in order
	unread *buffer       // input that the protocol has not used
	out    *unsent       // output that the peer did not take
	since  time.Duration // what the state's deadline counts from
	began  time.Duration // when the body or the lingering began
	moved  int           // bytes of a body received, or discarded, since began
	state  connState
	shown  connState // state as in the loop's gauges
	resume connState // state after flush
	want   connWant
	held   bool   // unread can be used without more input
	eof    bool   // the peer sends no more, and it has been read
	torn   bool   // a part of the output is missing: nothing may follow
	ending ending // how it ends; end sets it, and why
	shut   bool   // the write side has been shut; input is discarded
	shared bool   // there is an outbox; setOutbox
	rearm  bool   // the deadline may be earlier than the timer
	many   bool   // its protocol is a multiplexer: it is never lent; conn_session.go
	due    bool   // in Loop.flushing; the holder's

	// The holder's.
	asked    Interest // what the poller was asked for, on a managed loop
	peerPort uint16   // fixed; here, and apart from peer, to fill a gap
	timer    WheelTimer
	armed    time.Duration // what timer is set to, 0: not
}

// init readies a connection that no loop knows yet.
func (c *Conn) init(l *Loop, limits *connLimits, fd int, peer netip.AddrPort) {
	c.conn = c
	c.loop, c.limits, c.fd, c.tr = l, limits, fd, (*fdConn)(c)
	c.peer, c.peerPort = peer.Addr(), peer.Port()
}

// verdictAdopt marks a posted connection that its loop has not seen before.
const verdictAdopt = verdictGone + 1

type turnKind uint8

const (
	turnDrive   turnKind = iota // readiness, or bytes that were held
	turnExpire                  // the state's deadline has passed
	turnDiscard                 // the connection lingers and has input
	turnFlush                   // its streams have something to send
)

// called is for after each call of what may have waited: the limits of what
// comes next count from then.
func (c *Conn) called(g *workset) {
	if c.own.Load()&ownLent != 0 {
		g.clock.read()
	}
}

// getBuffer, growBuffer and putBuffer are those of buffer.go, counted for the
// server's bound.
func (c *Conn) getBuffer(n int) *buffer {
	b := getBuffer(n)
	c.limits.buffered.Add(int64(cap(b.b)))
	return b
}

func (c *Conn) growBuffer(b *buffer, n int) *buffer {
	before := cap(b.b)
	b = b.grown(n)
	c.limits.buffered.Add(int64(cap(b.b) - before))
	return b
}

func (c *Conn) putBuffer(b *buffer) {
	c.limits.buffered.Add(-int64(cap(b.b)))
	b.release()
}

// Switch hands the connection to another protocol: the bytes after those that
// the running Data uses go to p.
func (c *Conn) Switch(p Protocol) {
	if u := c.user(); u != nil {
		u.Protocol = p
	} else {
		c.proto = p
	}
	if c.state != stateSwitched {
		c.setState(stateSwitched)
	}
}

// Close ends the connection once everything written has been sent. It does not
// wait. ErrClosed means that the connection was ending already, which goes on as
// it was begun.
func (c *Conn) Close() error {
	if c.ending != endNot {
		return ErrClosed
	}
	c.end(endFlushed, nil)
	return nil
}

// Abort ends the connection at once, with a reset.
func (c *Conn) Abort() { c.end(endReset, nil) }
