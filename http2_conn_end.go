package flare

import (
	"net/http"
	"time"
)

// This file is layer 4 (roles): how a connection of HTTP/2 ends (RFC 9113 §6.8,
// §9.1). In order it does so in two steps: the peer is told that the connection
// ends, and once it knows, which streams were the last; what is in flight then is
// answered.

// http2LeaveTime is how long the peer may take to answer the PING.
const http2LeaveTime = time.Second

var (
	http2PingLeaving = [pingBytes]byte{'f', 'l', 'a', 'r', 'e', 'e', 'n', 'd'}
	http2PingAlive   = [pingBytes]byte{'f', 'l', 'a', 'r', 'e', 'a', 's', 'k'}
)

// lastRequest reports whether the connection should end with what has been asked.
func (h *http2Conn) lastRequest() bool {
	lim := &h.srv.lim
	return lim.requests >= 0 && int(h.requests) >= lim.requests || h.srv.draining.Load()
}

// announce begins the end in order.
func (h *http2Conn) announce() {
	if h.leaving != http2Stays || h.failure != nil {
		return
	}
	h.leaving, h.leftAt = http2Announced, h.now()
	h.lookAt = h.now() + h.srv.http2.lookEvery
	var room [2*http2HeadBytes + goAwayBytesMin + pingBytes]byte
	b := appendGoAway(room[:0], streamMax, codeNone)
	h.say(appendHTTP2Ping(b, http2PingLeaving, false))
}

// sayLast tells the peer which stream was the last.
func (h *http2Conn) sayLast() {
	h.leaving, h.lastSaid = http2Left, h.last
	var room [http2HeadBytes + goAwayBytesMin]byte
	h.say(appendGoAway(room[:0], h.last, codeNone))
}

// dropFailed ends the streams of a connection that has failed: nothing of theirs is
// sent any more.
func (h *http2Conn) dropFailed() {
	for h.failure != nil && h.table.count > 0 {
		h.abort(h.table.last(), http2ClosedByUs, ownHup, errPeerLeft)
	}
}

// dropShut ends the streams whose windows are shut. It is called when the peer sends
// no more, so that they stay so.
func (h *http2Conn) dropShut() {
	for s := range h.table.all() {
		if min(s.sendWindow, h.sendWindow) <= 0 && s.pending() > 0 {
			h.abort(s, http2ClosedByUs, ownHup, errPeerLeft)
		}
	}
}

// peerEnded is the end of what the peer sends. Requests that are complete are
// answered, as far as the windows allow that without it.
func (h *http2Conn) peerEnded() {
	if h.eof {
		return
	}
	h.eof = true
	for s := range h.table.all() {
		switch {
		case s.running:
			s.mu.Lock()
			if !s.ended {
				s.ended, s.makeOdd().inErr = true, errBodyCut()
			}
			s.wakeThrough()
			s.mu.Unlock()
			s.take(ownRDHup | ownRead)
		case s.awaits:
			h.close(s, http2ClosedByUs)
		}
	}
	h.c.flushLater()
}

// drain has the connection end, as Shutdown and a server that is short of memory
// ask for it.
func (h *http2Conn) drain(c *Conn, leaving bool) {
	switch {
	case leaving:
		h.announce()
	case h.open == 0 && h.prefaced:
		h.fail(&http2Error{code: codeNone})
	}
}

// Closed lets go of the streams. Those that run are told, and hold on to the
// connection until they come back.
func (h *http2Conn) Closed(c *Conn, err error) {
	h.dead = true
	h.srv.http2Counts.open.Add(-1)
	edges, cause := ownHup, errPeerLeft
	if c.cause == ErrServerClosed || c.own.Load()&ownStop != 0 {
		edges, cause = ownStop, ErrServerClosed
	}
	h.after.Store(h.running + 1)
	for h.table.count > 0 {
		s := h.table.last()
		h.abort(s, http2ClosedByUs, edges, cause)
		if !s.running {
			h.forget(s)
		}
	}
	h.control.release(c.limits.buffered)
	h.dropEncoded()
	h.leave()
}

// leave is for each of those that hold on to a connection that has ended. The last
// one counts it out.
func (h *http2Conn) leave() {
	if h.after.Add(-1) > 0 {
		return
	}
	if h.told == nil {
		h.srv.connEnded(h.c, http.StateClosed)
		return
	}
	h.tell(http.StateClosed)
}

// tell has the hook told of a state, if there is one.
func (h *http2Conn) tell(state http.ConnState) {
	if h.told != nil {
		h.told.add(state)
	}
}

func (t *http2Told) add(state http.ConnState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.states = append(t.states, state)
	if !t.telling {
		t.telling = true
		t.h.c.loop.spawn(t.tell) // nothing of the user's is called by who reads frames
	}
}

// tell calls the hook until it knows everything.
func (t *http2Told) tell() {
	ended := true
	defer func() {
		if ended { // the hook has ended the goroutine
			t.h.c.loop.spawn(t.tell)
		}
	}()
	for state, ok := t.next(); ok; state, ok = t.next() {
		if state == http.StateClosed {
			t.h.srv.connEnded(t.h.c, state)
		} else {
			t.h.srv.notifyState(t.h.c, state)
		}
	}
	ended = false
}

func (t *http2Told) next() (http.ConnState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.states) == 0 {
		t.telling = false
		return 0, false
	}
	state := t.states[0]
	t.states = t.states[1:]
	return state, true
}
