package flare

import (
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): a connection of HTTP/2 as the server has it. It
// knows frames and streams, and what becomes of each; http2_stream.go has one
// stream. Nothing here waits or calls code of the user's: all of it is the
// runner's, in turns of the connection (conn_session.go).
//
//	http2_conn_streams.go  how streams begin, and what becomes of them
//	http2_conn_frames.go   frames in, and which of them a stream may have
//	http2_conn_headers.go  field blocks: requests and trailers
//	http2_conn_data.go     bodies of requests, and the windows of what comes in
//	http2_conn_send.go     responses: heads, then bodies by priority
//	http2_conn_time.go     what takes too long
//	http2_conn_end.go      GOAWAY, and who is told of the end

// An http2Conn is the HTTP/2 side of a connection.
type http2Conn struct {
	// Fixed.
	srv   *Server
	c     *Conn
	local *netip.AddrPort // several connections may have one

	// The runner's.
	dec        hpackDecoder
	enc        hpackEncoder
	peer       http2Settings
	credit     int32     // octets that the receive window is to be opened by
	control    sendQueue // frames that are not of a response; they leave first
	table      http2Table
	encoded    *buffer   // of responses; it leaves at the end of the round; nil: nothing
	heads      http2List // streams with a head to be encoded, first come first served
	ready      http2List // streams with octets of a body, most urgent first
	block      http2Block
	frame      http2Incoming
	last       uint32 // the highest number of a stream that the peer has begun
	open       int32  // streams that count: the peer, or a handler, is not done with them
	running    int32  // streams whose turn is to come or goes on
	requests   int32  // begun; it stays where it would be negative
	sendWindow int64
	recvWindow int32
	late       int32 // octets of DATA that may be under way of streams that we have reset
	budget     http2Budget
	closedAt   [http2ClosedKept]http2Closed // recently closed streams, a ring
	lastSaid   uint32                       // in the GOAWAY that was the last but for a fault's
	closedNext uint8                        // how many streams were closed, modulo http2ClosedKept where there were more
	prefaced   bool                         // the preface has come
	greeted    bool                         // and the SETTINGS behind it
	acked      bool                         // the peer has acknowledged ours
	dead       bool                         // the connection has ended
	eof        bool                         // the peer sends no more
	leaving    http2Leaving
	asked      bool        // the loop is to look at wishes; guarded by wishMu, and here to fill a gap
	round      uint16      // of looks at what the peer takes; see taking
	failure    *http2Error // sent in a GOAWAY: nothing more is read
	lookAt     time.Duration
	heard      time.Duration // when a frame came last
	partial    time.Duration // since when a frame, or a block, is not complete; 0: none
	pinged     time.Duration // when a PING was sent that is not answered, or the peer took something since; 0: none
	taking     http2Taking
	ages       time.Duration // when it is to be, by the age of the connection; 0: never
	leftAt     time.Duration // when the end was announced

	wishMu sync.Mutex   // also, one handler after the other asks for the state of TLS
	wishes *http2Stream // those that have something to say, last first; guarded by wishMu

	after  atomic.Int32 // streams that are running still, once the connection has ended
	wishAt atomic.Int32 // octets that a handler has read when it makes a wish

	told *http2Told // for Server.ConnState; nil: nobody is told
}

// A http2Closed remembers how a stream ended: its number, which is odd, without the
// lowest bit and behind that how. 0: none.
type http2Closed uint32

func (c http2Closed) id() uint32          { return uint32(c)>>http2ClosedBits<<1 | 1 }
func (c http2Closed) how() http2ClosedHow { return http2ClosedHow(c & (1<<http2ClosedBits - 1)) }

func newHTTP2Closed(id uint32, how http2ClosedHow) http2Closed {
	return http2Closed(id>>1<<http2ClosedBits | uint32(how))
}

// http2ClosedBits are enough for how a stream is known to have ended.
const http2ClosedBits = 2

type http2ClosedHow uint8

const (
	http2ClosedInOrder http2ClosedHow = 1 + iota // both sides have said all
	http2ClosedByUs                              // reset, so that frames may be under way
	http2ClosedByPeer                            // reset
	http2ClosedNever                             // it was passed over
	http2ClosedLong                              // too long ago to be known
)

// http2ClosedKept recently closed streams are remembered.
const http2ClosedKept = 16

func (h *http2Conn) now() time.Duration { return h.c.loop.workset.clock.now }

// unheard is by how much the window that every stream begins with is beyond ours,
// for a peer that has not acknowledged ours yet (RFC 9113 §6.9.2).
func (h *http2Conn) unheard() int64 {
	if h.acked {
		return 0
	}
	return max(windowDefault-h.srv.http2.streamWindow, 0)
}

// remember notes how a stream was closed.
func (h *http2Conn) remember(id uint32, how http2ClosedHow) {
	if how == http2ClosedByUs {
		h.late = int32(min(int64(h.late)+h.srv.http2.streamWindow+h.unheard(), streamMax))
	}
	h.closedAt[h.closedNext%http2ClosedKept] = newHTTP2Closed(id, how)
	if h.closedNext++; h.closedNext > 2*http2ClosedKept {
		h.closedNext -= http2ClosedKept
	}
}

// closedHow returns how a stream was closed that is not open, and has no higher
// number than the last.
func (h *http2Conn) closedHow(id uint32) http2ClosedHow {
	oldest := h.last
	for _, was := range h.closedAt {
		switch {
		case was == 0:
		case was.id() == id:
			return was.how()
		default:
			oldest = min(oldest, was.id())
		}
	}
	if h.closedNext <= http2ClosedKept || id > oldest {
		return http2ClosedNever
	}
	return http2ClosedLong
}

// resetAgain notes that the peer has reset a stream that was closed already.
func (h *http2Conn) resetAgain(id uint32) {
	for i := range h.closedAt {
		if was := h.closedAt[i]; was != 0 && was.id() == id {
			h.closedAt[i] = newHTTP2Closed(id, http2ClosedByPeer)
		}
	}
}

// An http2Block is a field block that is not complete.
type http2Block struct {
	id      uint32        // of its stream; 0: there is none
	s       *http2Stream  // whose it is; nil: nobody's
	section *fieldSection // that it is decoded into
	begins  bool          // s begins with it, else it is the trailer
	end     bool          // END_STREAM
	code    http2Code     // what to reset the stream with that is nobody's; codeNone: not
}

// An http2Incoming is a frame whose payload is taken as it comes: DATA, and those
// that are ignored.
type http2Incoming struct {
	s    *http2Stream // whose DATA it is; nil: nobody wants it
	left uint32       // octets of the payload, without padding
	pad  uint8        // octets of padding
	end  bool         // END_STREAM
}

// goes reports whether there is more of the payload to come.
func (f *http2Incoming) goes() bool { return f.left > 0 || f.pad > 0 }

// An http2List is a list of streams; each is in one at most.
type http2List struct{ first, last *http2Stream }

// http2Leaving is how far that has come.
type http2Leaving uint8

const (
	http2Stays     http2Leaving = iota
	http2Announced              // the peer has been told, and asked for a PING back
	http2Left                   // the last stream is settled
)

// An http2Told has the changes of state that the ConnState hook has not been told
// of yet: it may take its time.
type http2Told struct {
	h *http2Conn

	mu      sync.Mutex
	states  []http.ConnState // guarded by mu
	telling bool             // somebody tells; guarded by mu
}

// sayReset queues a RST_STREAM.
func (h *http2Conn) sayReset(id uint32, code http2Code) {
	h.srv.http2Counts.resetByServer.Add(1)
	if h.encoded != nil { // a head of the stream may be in it
		h.keepEncoded(appendRSTStream(h.encoded.b, id, code))
		return
	}
	var room [http2HeadBytes + rstStreamBytes]byte
	h.say(appendRSTStream(room[:0], id, code))
}

// say queues a frame of the connection.
func (h *http2Conn) say(frame []byte) {
	h.control.append(frame, nil)
	h.control.count(h.c.limits.buffered)
	h.c.flushLater()
	if h.control.len() > http2ControlMax && h.failure == nil {
		h.fail(&http2Error{code: codeEnhanceYourCalm, rule: ruleControlMax})
	}
}

// charge is for a frame that is not part of a request that will be answered.
func (h *http2Conn) charge() error {
	if !h.budget.spend(h.now()) {
		return connFault(codeEnhanceYourCalm, ruleBudget)
	}
	return nil
}

// chargeSmall is charge for what a peer that reads much sends much of.
func (h *http2Conn) chargeSmall() error {
	if h.budget.small > 0 {
		h.budget.small--
		return nil
	}
	return h.charge()
}

// lastServed is for a GOAWAY: no later one names a stream that was refused because of
// an earlier (RFC 9113 §6.8).
func (h *http2Conn) lastServed() uint32 {
	if h.leaving == http2Left {
		return h.lastSaid
	}
	return h.last
}

// fail ends the connection: nothing more is read, and what was queued before leaves
// before the GOAWAY.
func (h *http2Conn) fail(e *http2Error) {
	if h.failure != nil {
		return
	}
	h.failure = e
	h.srv.http2Counts.goAway(e.code)
	var room [http2HeadBytes + goAwayBytesMin]byte
	if h.encoded != nil { // the GOAWAY is behind it
		h.control.append(h.encoded.b, nil)
		h.dropEncoded()
	}
	h.control.append(appendGoAway(room[:0], h.lastServed(), e.code), nil)
	h.c.flushLater()
	if h.c.out != nil { // behind what waits
		h.c.keepUnsent(h.control.waiting())
		h.control.drop()
		h.ends()
	}
}

// fault ends the connection for an error of it.
func (h *http2Conn) fault(err error) {
	e, ok := err.(*http2Error)
	if !ok {
		e = &http2Error{code: codeInternal, rule: err.Error()}
	}
	h.fail(e)
}

// keepEncoded keeps b, which is what is encoded with something behind it, until the
// end of the round.
func (h *http2Conn) keepEncoded(b []byte) {
	if cap(b) > cap(h.encoded.b) { // it is no pool's now
		h.encoded.release()
		h.encoded = &buffer{class: -1}
	}
	h.encoded.b = b
	h.c.flushLater()
}

func (h *http2Conn) dropEncoded() {
	if h.encoded != nil {
		h.encoded.release()
		h.encoded = nil
	}
}

// ends ends the connection if nothing is left to do on it.
func (h *http2Conn) ends() {
	c := h.c
	switch {
	case h.failure != nil && h.failure.code == codeNone:
		c.end(endFlushed, nil)
	case h.failure != nil:
		c.end(endFlushed, h.failure)
	case h.leaving == http2Left && h.open == 0, h.eof && h.running == 0:
		c.end(endFlushed, nil)
	}
}
