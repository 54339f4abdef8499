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
//	http2_conn_frames.go   frames in, and which of them a stream may have
//	http2_conn_headers.go  field blocks: requests and trailers
//	http2_conn_data.go     bodies of requests, and the windows of what comes in
//	http2_conn_send.go     responses: heads, then bodies by priority
//	http2_conn_time.go     what takes too long
//	http2_conn_end.go      GOAWAY, and who is told of the end

// An http2Conn is the HTTP/2 side of a connection.
type http2Conn struct {
	// Fixed.
	srv    *Server
	c      *Conn
	config *http2Config
	local  netip.AddrPort

	tlsMu sync.Mutex // several handlers may ask for the state of TLS at once

	// The runner's.
	dec        hpackDecoder
	enc        hpackEncoder
	peer       http2Settings
	control    sendQueue // frames that are not of a response; they leave first
	table      []http2Entry
	heads      http2List // streams with a head to be encoded, first come first served
	ready      http2List // streams with octets of a body, most urgent first
	block      http2Block
	frame      http2Incoming
	last       uint32 // the highest number of a stream that the peer has begun
	open       int32  // streams that count: the peer, or a handler, is not done with them
	running    int32  // streams whose turn is to come or goes on
	requests   int    // begun
	sendWindow int64
	recvWindow int64
	credit     int64 // octets that the receive window is to be opened by
	budget     http2Budget
	closedAt   [http2ClosedKept]http2Closed // recently closed streams, a ring
	closedNext uint32                       // how many streams were closed
	prefaced   bool                         // the preface has come
	greeted    bool                         // and the SETTINGS behind it
	acked      bool                         // the peer has acknowledged ours
	dead       bool                         // the connection has ended
	eof        bool                         // the peer sends no more
	leaving    http2Leaving
	failure    *http2Error // sent in a GOAWAY: nothing more is read
	lookAt     time.Duration
	heard      time.Duration // when a frame came last
	partial    time.Duration // since when a frame, or a block, is not complete; 0: none
	pinged     time.Duration // when a PING was sent that is not answered, 0: none
	leftAt     time.Duration // when the end was announced

	wishMu sync.Mutex
	wishes *http2Stream // those that have something to say, last first; guarded by wishMu

	wishAt atomic.Int64 // octets that a handler has read when it makes a wish
	after  atomic.Int32 // streams that are running still, once the connection has ended

	told *http2Told // for Server.ConnState; nil: nobody is told
}

// An http2Entry finds a stream by its number. Entries are in order, since numbers
// only grow.
type http2Entry struct {
	id uint32
	s  *http2Stream
}

// A http2Closed remembers how a stream ended.
type http2Closed struct {
	id  uint32
	how http2ClosedHow
}

type http2ClosedHow uint8

const (
	http2ClosedLong    http2ClosedHow = iota // too long ago to be known
	http2ClosedNever                         // it was passed over
	http2ClosedInOrder                       // both sides have said all
	http2ClosedByUs                          // reset, so that frames may be under way
	http2ClosedByPeer                        // reset
)

// http2ClosedKept recently closed streams are remembered.
const http2ClosedKept = 16

// opensHTTP2 reports whether in, the first that came on a connection without TLS,
// is the preface of HTTP/2 or may become that. If it is, the connection speaks
// HTTP/2 from the next turn on, which finds the preface unread.
func (s *Server) opensHTTP2(c *Conn, in []byte) bool {
	if !s.http2.cleartext || c.tr.tlsState() != nil {
		return false
	}
	n := min(len(in), len(http2Preface))
	if s.http2.http1 && string(in[:n]) != http2Preface[:n] {
		return false
	}
	if n == len(http2Preface) || !s.http2.http1 {
		s.beginHTTP2(c)
		c.want = wantTurn
	}
	return true
}

// beginHTTP2 has c, whose owner the caller is, speak HTTP/2 from its next turn on.
func (s *Server) beginHTTP2(c *Conn) {
	h := &http2Conn{srv: s, c: c, config: &s.http2, peer: defaultHTTP2Settings}
	h.local = (*connSession)(c).localAddr()
	h.dec.reset()
	h.enc.reset()
	h.sendWindow, h.recvWindow = windowDefault, h.config.connWindow
	h.budget.left = http2BudgetMax
	if s.ConnState != nil {
		h.told = &http2Told{h: h}
	}
	h.sayFirst()
	c.proto, c.many = h, true
	c.held = true // the next turn has something to say, also when nothing has come
}

// sayFirst queues what a server begins with (RFC 9113 §3.4).
func (h *http2Conn) sayFirst() {
	var room [8]http2Setting
	settings := h.config.settings(room[:0])
	b := appendSettings(nil, settings...)
	if more := h.config.connWindow - windowDefault; more > 0 {
		b = appendWindowUpdate(b, 0, uint32(more))
	}
	h.control.append(b, nil)
}

func (h *http2Conn) now() time.Duration { return h.c.loop.workset.clock.now }

// find returns the stream of that number, nil for none.
func (h *http2Conn) find(id uint32) *http2Stream {
	i := h.index(id)
	if i < len(h.table) && h.table[i].id == id {
		return h.table[i].s
	}
	return nil
}

// index is where the stream of that number is in the table, or would be.
func (h *http2Conn) index(id uint32) int {
	lo, hi := 0, len(h.table)
	for lo < hi {
		if mid := (lo + hi) / 2; h.table[mid].id < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// add makes s, new, one of the streams.
func (h *http2Conn) add(s *http2Stream) {
	h.table = append(h.table, http2Entry{s.id, s})
	h.open++
	h.shareWindow()
	if h.open == 1 {
		h.lookAt = h.now() + h.config.lookEvery
		h.c.setState(stateStreams)
		h.tell(http.StateActive)
	}
}

// start has s take its turn.
func (h *http2Conn) start(s *http2Stream) {
	s.awaits, s.running = false, true
	h.running++
	h.c.loop.tasks.push(&s.strand)
}

// close ends a stream as far as the peer is concerned.
func (h *http2Conn) close(s *http2Stream, how http2ClosedHow) {
	if s.closed {
		return
	}
	s.closed = true
	if i := h.index(s.id); i < len(h.table) && h.table[i].s == s {
		copy(h.table[i:], h.table[i+1:])
		h.table[len(h.table)-1] = http2Entry{}
		h.table = h.table[:len(h.table)-1]
	}
	h.remember(s.id, how)
	if s.list != nil {
		s.list.remove(s)
	}
	if h.frame.s == s {
		h.frame.s = nil
	}
	if h.block.s == s {
		h.block.s = nil
	}
	h.giveBack(s.owed)
	s.owed = 0
	if h.dead {
		return
	}
	if !s.running {
		h.forget(s)
	}
}

// remember notes how a stream was closed.
func (h *http2Conn) remember(id uint32, how http2ClosedHow) {
	h.closedAt[h.closedNext%http2ClosedKept] = http2Closed{id, how}
	h.closedNext++
}

// closedHow returns how a stream was closed that is not open, and has no higher
// number than the last.
func (h *http2Conn) closedHow(id uint32) http2ClosedHow {
	oldest := h.last
	for i := range h.closedAt {
		switch was := &h.closedAt[i]; {
		case was.id == id:
			return was.how
		case was.id != 0:
			oldest = min(oldest, was.id)
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
		if h.closedAt[i].id == id {
			h.closedAt[i].how = http2ClosedByPeer
		}
	}
}

// abort closes a stream that ends before its time. Its handler, if it runs, is told
// so: cause ends its writes, and edges its context.
func (h *http2Conn) abort(s *http2Stream, how http2ClosedHow, edges uint32, cause error) {
	if s.running {
		s.mu.Lock()
		s.gone = cause
		if !s.ended {
			s.ended, s.inErr = true, cause
			if cause == errPeerLeft {
				s.inErr = errBodyCut()
			}
		}
		s.in.drop()
		s.in.count(h.c.limits.buffered)
		s.dropOut()
		s.mu.Unlock()
		s.take(edges | ownRead | ownWrite)
	}
	h.close(s, how)
}

// forget lets go of a stream that is closed and does not run.
func (h *http2Conn) forget(s *http2Stream) {
	h.unwish(s)
	buffered := h.c.limits.buffered
	s.in.drop()
	s.in.count(buffered)
	s.out.drop()
	s.out.count(buffered)
	buffered.Add(-s.held)
	s.recycle()
	if h.open--; h.open == 0 && !h.dead && h.c.state == stateStreams {
		h.c.setState(stateIdle)
		h.c.since = h.now()
		h.tell(http.StateIdle)
		if cap(h.table) > 8 {
			h.table = nil
		}
	}
}

// settled takes back a stream whose turn is over.
func (h *http2Conn) settled(s *http2Stream) {
	if h.dead {
		s.closed = true
		h.forget(s)
		h.leave()
		return
	}
	h.running--
	if s.closed {
		h.forget(s)
		h.c.flushLater() // it may have been the last
		return
	}
	if !s.complete && s.cut == codeNone {
		s.cut = codeInternal
	}
	h.budget.earn()
	h.collect(s)
	s.progress = h.now()
	s.since = s.progress
	h.enqueue(s)
}

// wished looks at streams that are lent and have something to say.
func (h *http2Conn) wished(*Conn) {
	h.wishMu.Lock()
	var room [16]*http2Stream
	all := room[:0]
	for h.wishes != nil {
		s := h.wishes
		h.wishes, s.nextWish, s.wished = s.nextWish, nil, false
		all = append(all, s)
	}
	h.wishMu.Unlock()
	for _, s := range all {
		if !s.closed {
			h.collect(s)
			h.enqueue(s)
		}
	}
}

// unwish takes s, whose turn is over, out of the wishes: it may be another
// connection's soon. Nobody but the runner changes s.wished by now.
func (h *http2Conn) unwish(s *http2Stream) {
	if !s.wished {
		return
	}
	h.wishMu.Lock()
	defer h.wishMu.Unlock()
	at := &h.wishes
	for *at != s {
		at = &(*at).nextWish
	}
	*at, s.nextWish, s.wished = s.nextWish, nil, false
}

// Drained goes on with what had to wait for the peer.
func (h *http2Conn) Drained(c *Conn) { c.flushLater() }
