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
	bare       bool // there is no body; fixed when its turn is to come
	hasData    bool // octets of a body, or padding, have come
	urged      bool // by PRIORITY_UPDATE, which counts for more than the head
	running    bool // its turn is to come, or goes on
	awaits     bool // its turn waits for the body
	closed     bool // the peer hears no more of it, nor we of the peer
	headSent   bool // the final one
	priority   streamPriority
	said       uint16        // of http2Conn.round, in which it, or of its window, was said something last
	held       int32         // octets of tail that the server's count of buffers has
	sendWindow int64         // what the peer takes; may be negative
	recvWindow int64         // what the peer may send
	owed       int64         // octets received that the connection's window has not been given back
	opens      int64         // octets that recvWindow is to be opened by
	received   int64         // octets of the body
	length     int64         // Content-Length of the request, -1: none
	sent       int64         // octets of the response's body
	progress   time.Duration // when the peer was last seen to do something for it
	since      time.Duration // when the wait for the peer began
	askedAt    time.Duration // when its head was complete; fixed when its turn is to come
	next, prev *http2Stream
	list       *http2List   // that it is in, nil: none
	section    fieldSection // of the request's head; the owner's while it runs

	mu sync.Mutex // for both sides while it is lent, held for copies

	// Guarded by mu.
	in        sendQueue      // of the request's body
	consumed  int64          // octets that were read and not given back to the windows
	out       sendQueue      // of the response's body, behind heads
	taken     int64          // octets of out that were sent, or dropped
	rare      *http2Rare     // what few have; nil: nothing
	ended     bool           // nothing comes behind in
	outEnded  bool           // nothing comes behind out
	wantsRoom bool           // the owner waits for room in out
	final     bool           // the final head is among heads, or was
	excused   [2]shortMoment // when its wait to read, and that to write, was last seen not to be the peer's doing; 0: never

	// Guarded by http2Conn.wishMu.
	wished   bool // it is in http2Conn.wishes
	nextWish *http2Stream

	// The owner's.
	x         *http2Exchange // nil before its turn
	refusal   error          // why the request has no handler
	malformed http2Code      // what to reset with in place of an answer; codeNone: not
	cut       http2Code      // what to reset with behind what there is of one; codeNone: not
	keeps     bool           // x.kept is the final head, and nobody else has it yet
	complete  bool           // x.tail and x.behind are the end

	doneWith atomic.Int32 // how many of the two that have a tunnel are; see holds

	expect  atomic.Bool   // the client waits for a 100 (Continue)
	began   atomic.Bool   // the final head was given, and there is a request body
	noLimit atomic.Uint32 // directions in which the handler has lifted the limits of time
}

// An http2Rare is what few streams have. Before it settles, s.mu guards it.
type http2Rare struct {
	inErr   error         // why nothing comes behind in
	trailer *headerFields // behind in
	heads   []http2Outgoing
	through *http2Tunnel // that it has become, nil: none
	gone    error        // why nothing can be sent any more
}

var noHTTP2Rare http2Rare

// odd returns what few streams have, to be looked at.
func (s *http2Stream) odd() *http2Rare {
	if s.rare == nil {
		return &noHTTP2Rare
	}
	return s.rare
}

// makeOdd returns it to be changed.
func (s *http2Stream) makeOdd() *http2Rare {
	if s.rare == nil {
		s.rare = new(http2Rare)
	}
	return s.rare
}

// An http2Exchange is a request with its response, and the end of that as the stream
// has it. A stream has one from its turn on: one that waits for a body has none.
type http2Exchange struct {
	exchange
	kept    http2Outgoing
	tail    []byte // of the response's body, behind out
	behind  *headerFields
	writing pace
}

// tail returns what its turn has left of the body.
func (s *http2Stream) tail() []byte {
	if s.x == nil {
		return nil
	}
	return s.x.tail
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

// http2Spares are what a workset keeps for reuse. An exchange is a stream's from its
// turn to the end of its answer, so that one is enough while answers leave at once.
type http2Spares struct {
	exchange *http2Exchange // nil: none
	streams  []*http2Stream
	entries  []http2Entry // of a table; nil: none
	section  fieldSection // that is looked at
	local    *netip.AddrPort
}

// http2SparesMax streams are kept by a workset; the pool has the others.
const http2SparesMax = 128

// http2ExchangePool has exchanges that no workset keeps, and Server.http2Streams streams.
var http2ExchangePool sync.Pool

func (h *http2Conn) spares() *http2Spares { return h.c.loop.workset.http2Spares() }

func (g *workset) http2Spares() *http2Spares {
	cache := g.exchanges()
	spares, ok := cache.streams.(*http2Spares)
	if !ok {
		spares = new(http2Spares)
		cache.streams = spares
	}
	return spares
}

// What a short head needs: its memory is made at once, and grows for others.
const (
	http2SectionBytes  = 128
	http2SectionFields = 8
)

// newStream returns a stream whose head is to be read.
func (h *http2Conn) newStream(id uint32) *http2Stream {
	var s *http2Stream
	if spares := h.spares(); len(spares.streams) > 0 {
		last := len(spares.streams) - 1
		s, spares.streams = spares.streams[last], spares.streams[:last]
	} else if s, _ = h.srv.http2Streams.Get().(*http2Stream); s == nil {
		s = new(http2Stream)
		s.waiting.task = s
		s.waits = &s.waiting
		s.section.octets, s.section.fields = make([]byte, 0, http2SectionBytes), make([]sectionField, 0, http2SectionFields)
	}
	s.h, s.id, s.conn = h, id, h.c
	s.sendWindow, s.recvWindow = int64(h.peer.window), h.srv.http2.streamWindow+h.unheard()
	s.priority, s.said = defaultPriority, h.round-2
	s.section.reset(&h.srv.lim.head)
	return s
}

// newHTTP2Exchange returns an exchange for a stream whose turn it is.
func (g *workset) newHTTP2Exchange() *http2Exchange {
	spares := g.http2Spares()
	x := spares.exchange
	if spares.exchange = nil; x == nil {
		if x, _ = http2ExchangePool.Get().(*http2Exchange); x == nil {
			x = new(http2Exchange)
			x.init()
		}
	}
	return x
}

// recycleExchange gives x, whose request is over, to another.
func (all *http2Spares) recycleExchange(x *http2Exchange) bool {
	x.handler, x.kept.fields, x.tail, x.behind, x.writing = nil, nil, nil, nil, pace{}
	switch {
	case !x.reset():
		return false // under the race detector, or who is inside is not known
	case all.exchange == nil:
		all.exchange = x
	default:
		http2ExchangePool.Put(x)
	}
	return true
}

// recycle gives s to another request. Nobody has it any more.
func (s *http2Stream) recycle() {
	spares, pool := s.h.spares(), &s.h.srv.http2Streams
	if x := s.x; x != nil && !spares.recycleExchange(x) || raceEnabled {
		return
	}
	if s.strand.own.Load() != 0 { // looking is cheaper
		s.strand.own.Store(0)
	}
	s.wire, s.bare, s.hasData, s.urged, s.running, s.awaits, s.closed, s.headSent = 0, false, false, false, false, false, false, false
	s.strand.edges, s.owed, s.opens, s.received, s.sent, s.held, s.taken, s.consumed = 0, 0, 0, 0, 0, 0, 0, 0
	s.ended, s.wantsRoom, s.outEnded, s.final, s.excused = false, false, false, false, [2]shortMoment{}
	s.keeps, s.complete, s.cut, s.malformed = false, false, codeNone, codeNone
	s.h, s.conn, s.x = nil, nil, nil
	s.recycleRare()
	if len(spares.streams) < http2SparesMax {
		spares.streams = append(spares.streams, s)
	} else {
		pool.Put(s)
	}
}

// recycleRare forgets what few requests have.
func (s *http2Stream) recycleRare() {
	if s.refusal != nil {
		s.refusal = nil
	}
	if rare := s.rare; rare != nil {
		clear(rare.heads)
		*rare = http2Rare{heads: rare.heads[:0]}
		s.doneWith.Store(0)
	}
	if s.expect.Load() {
		s.expect.Store(false)
	}
	if s.began.Load() {
		s.began.Store(false)
	}
	if s.noLimit.Load() != 0 {
		s.noLimit.Store(0)
	}
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
func (h *http2Session) localAddr() netip.AddrPort { return *h.local }
func (h *http2Session) proxyHeader() *ProxyHeader { return h.c.limits.proxied }

func (h *http2Session) tlsState() *tls.ConnectionState {
	h.wishMu.Lock()
	defer h.wishMu.Unlock()
	return h.c.tr.tlsState()
}
