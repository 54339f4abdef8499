package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): one stream of a connection of HTTP/2, from the
// head of its request to the end of its response. http2_stream_turn.go has the
// handler's turn, http2_stream_read.go and http2_stream_write.go what the handler
// reads and writes, http2_conn.go the connection.
//
// Heads and bodies cross between the handler and the connection as values. What a
// handler that runs elsewhere has to say beside its end it says with a wish.

// An http2Stream belongs to the runner until its turn begins, and again when that
// has been settled. Between, its owner has it, as far as the fields say so.
type http2Stream struct {
	strand
	waiting ownerWaits // of strand

	h  *http2Conn // fixed while it is in use
	id uint32

	// The runner's.
	wire       http2StreamState
	running    bool // its turn is to come, or goes on
	awaits     bool // its turn waits for the body
	closed     bool // the peer hears no more of it, nor we of the peer
	headSent   bool // the final one
	priority   streamPriority
	sendWindow int64         // what the peer takes; may be negative
	recvWindow int64         // what the peer may send
	owed       int64         // octets received that the connection's window has not been given back
	opens      int64         // octets that recvWindow is to be opened by
	received   int64         // octets of the body
	length     int64         // Content-Length of the request, -1: none
	sent       int64         // octets of the response's body
	progress   time.Duration // when the peer was last seen to do something for it
	since      time.Duration // when the wait for the peer began
	held       int64         // octets of tail that the server's count of buffers has
	next, prev *http2Stream
	list       *http2List   // that it is in, nil: none
	section    fieldSection // of the request's head

	mu sync.Mutex // for both sides while it is lent, held for copies

	// Guarded by mu.
	in        sendQueue     // of the request's body
	consumed  int64         // octets that were read and not given back to the windows
	ended     bool          // nothing comes behind in
	inErr     error         // or this is why
	trailer   *headerFields // behind in
	heads     []http2Outgoing
	out       sendQueue     // of the response's body, behind heads
	taken     int64         // octets of out that were sent, or dropped
	outEnded  bool          // nothing comes behind out
	through   *http2Tunnel  // that it has become, nil: none
	wantsRoom bool          // the owner waits for room in out
	final     bool          // the final head is among heads, or was
	gone      error         // why nothing can be sent any more
	queuedAt  time.Duration // when it was last seen to wait for its turn behind others, 0: never

	// Guarded by http2Conn.wishMu.
	wished   bool // it is in http2Conn.wishes
	nextWish *http2Stream

	// The owner's.
	x        exchange
	refusal  error // why the request has no handler
	kept     http2Outgoing
	keeps    bool   // kept is the final head, and nobody else has it yet
	tail     []byte // of the response's body, behind out
	behind   *headerFields
	complete bool      // tail and behind are the end
	cut      http2Code // else what to reset with; codeNone: not
	writing  pace

	doneWith atomic.Int32 // how many of the two that have a tunnel are; see holds

	expect  atomic.Bool   // the client waits for a 100 (Continue)
	began   atomic.Bool   // the final head was given, and there is a request body
	noLimit atomic.Uint32 // directions in which the handler has lifted the limits of time
}

// An http2Outgoing is a head of a response on its way to the encoder. An interim
// one is only a status and fields.
type http2Outgoing struct {
	fields *headerFields
	status int
	length int64 // -1: none beside fields
	dated  bool  // among fields, or not wanted
}

// An http2StreamState is what a stream's sides have said (RFC 9113 §5.1).
type http2StreamState uint8

const (
	http2Ended   http2StreamState = 1 << iota // the peer has sent END_STREAM
	http2EndSent                              // we have
)

// newHTTP2Stream returns a stream whose head is to be read.
func (h *http2Conn) newStream(id uint32) *http2Stream {
	s, _ := h.srv.http2Streams.Get().(*http2Stream)
	if s == nil {
		s = new(http2Stream)
		s.x.init()
		s.x.stream, s.x.strand = s, &s.strand
		s.waiting.task = s
		s.waits = &s.waiting
	}
	s.h, s.id, s.conn, s.x.srv = h, id, h.c, h.srv
	s.sendWindow, s.recvWindow = int64(h.peer.window), h.config.streamWindow+h.unheard()
	s.priority = defaultPriority
	s.section.reset(&h.srv.lim.head)
	return s
}

// recycle gives s to another request. Nobody has it any more.
func (s *http2Stream) recycle() {
	s.x.handler = nil
	if !s.x.reset() {
		return // under the race detector, or who is inside is not known
	}
	s.strand.own.Store(0)
	s.strand.edges, s.strand.workset, s.strand.conn = 0, nil, nil
	s.wire, s.running, s.awaits, s.closed, s.headSent = 0, false, false, false, false
	s.owed, s.opens, s.received, s.sent, s.held = 0, 0, 0, 0, 0
	s.in.drop()
	s.out.drop()
	s.consumed, s.ended, s.inErr, s.trailer, s.taken = 0, false, nil, nil, 0
	if s.heads != nil {
		clear(s.heads)
		s.heads = s.heads[:0]
	}
	s.wantsRoom, s.gone, s.queuedAt, s.outEnded, s.through = false, nil, 0, false, nil
	s.doneWith.Store(0)
	s.refusal, s.kept, s.keeps, s.tail, s.behind = nil, http2Outgoing{}, false, nil, nil
	s.complete, s.cut, s.final, s.writing = false, codeNone, false, pace{}
	s.expect.Store(false)
	s.began.Store(false)
	s.noLimit.Store(0)
	pool := &s.x.srv.http2Streams
	s.h, s.x.srv = nil, nil
	pool.Put(s)
}

func (s *http2Stream) session() session { return (*http2Session)(s.h) }

func (s *http2Stream) version() (name string, major, minor int) { return "HTTP/2.0", 2, 0 }

func (s *http2Stream) context() context.Context { return s.strand.context() }
func (s *http2Stream) left() bool               { return s.strand.left() }

func (s *http2Stream) value(key any) any {
	if base := s.conn.limits.base; base != nil {
		return base.Value(key)
	}
	return nil
}

func (s *http2Stream) endContext() {
	if s.ctx.Load() != nil {
		s.strand.endContext()
	}
}

func (s *http2Stream) setReadDeadline(t time.Time) error {
	s.lift(breakReads, t.IsZero())
	s.workset.readBy.set(handlerDeadline(t))
	s.wakeOwner(ownRead)
	return nil
}

func (s *http2Stream) setWriteDeadline(t time.Time) error {
	s.lift(breakWrites, t.IsZero())
	s.workset.writeBy.set(handlerDeadline(t))
	s.wakeOwner(ownWrite)
	return nil
}

// lift notes whether the limits of time hold in a direction.
func (s *http2Stream) lift(direction uint32, lifted bool) {
	if lifted {
		s.noLimit.Or(direction)
	} else {
		s.noLimit.And(^direction)
	}
}

func (s *http2Stream) breakOff(directions uint32) {
	if directions&breakReads != 0 {
		s.wakeOwner(ownRead)
	}
	if directions&breakWrites != 0 {
		s.wakeOwner(ownWrite)
	}
}

func (s *http2Stream) mend(uint32) {}

// takeable: what carries others' streams too is nobody's to take.
func (s *http2Stream) takeable() bool { return false }

func (s *http2Stream) takeOver() (net.Conn, []byte, error) { return nil, nil, errors.ErrUnsupported }

func (s *http2Stream) ownConn() *Conn { return nil }

func (s *http2Stream) sendSwitch(*handshake, *headerFields) {}

// sendFile: octets of files are framed here.
func (s *http2Stream) sendFile(*os.File, int64, int64) (int64, error) {
	return 0, errors.ErrUnsupported
}

// An http2Session is a connection of HTTP/2 as the session of its streams, whose
// handlers may ask for it on any goroutine, also when it has ended.
type http2Session http2Conn

func (h *http2Session) peerAddr() netip.AddrPort  { return h.c.RemoteAddr() }
func (h *http2Session) localAddr() netip.AddrPort { return h.local }
func (h *http2Session) proxyHeader() *ProxyHeader { return h.c.limits.proxied }

func (h *http2Session) tlsState() *tls.ConnectionState {
	h.tlsMu.Lock()
	defer h.tlsMu.Unlock()
	return h.c.tr.tlsState()
}
