package flare

import (
	"sync"
	"time"
)

// This file is layer 4 (roles): what a connection of the client that speaks HTTP/2
// (RFC 9113) consists of, and its streams. Any number of exchanges are on it at a
// time, each a clientStream. One goroutine reads; whoever has something to send
// queues it and sees to it that somebody sends. The other files of http2_client
// have what is done with it.

// An http2ClientConn is shared by all who have a stream on it.
type http2ClientConn struct {
	clientLink
	cfg     *http2ClientConfig
	pool    *http2ClientPool
	resting http2ClientRest

	reading http2ClientReader // for the reading goroutine

	mu sync.Mutex // guards what follows, and the streams' own parts

	streams map[uint32]*clientStream // open on the wire
	active  int                      // streams that exist, begun or not
	waiting []*streamWaiter          // for one, in order
	next    uint32                   // number of the next stream
	idle    time.Time                // since when there is none
	peer    http2Settings
	greeted bool  // the server's SETTINGS have come
	leaving bool  // no stream begins any more
	err     error // why the connection has ended; nil: it has not

	enc    hpackEncoder
	output http2ClientOutput

	flow   http2ClientFlow
	resets resetMemory
	health http2ClientHealth
}

// An http2ClientRest is told when a connection has no streams, and when it has again
// or takes none any more; the connection's mutex is held.
type http2ClientRest interface {
	rest(c *http2ClientConn, now time.Time)
	wake(c *http2ClientConn)
}

// http2StreamsFirst is how many streams are opened before the server has said how
// many it takes.
const http2StreamsFirst = 100

// A streamWaiter is somebody who waits for a stream.
type streamWaiter struct {
	ready   chan struct{} // closed when it is over
	granted bool          // a stream is to be had; else the connection takes none
}

// A clientStream is one exchange. Its conn's mutex guards all of it but what says
// otherwise.
type clientStream struct {
	c     *http2ClientConn
	id    uint32 // 0: not begun
	first bool   // nothing went over the connection before

	open    bool  // on the wire
	gone    bool  // it counts no more as one of the connection's
	ended   bool  // the server has sent all
	endSent bool  // the client has
	err     error // why nothing more comes; nil while something may
	headAt  int64 // where its HEADERS are in all that is sent
	endAt   int64 // where its end is, once endSent

	// What came.
	section  fieldSection // of the head below
	head     responseHead
	came     bool         // a head
	ready    bool         // section and head are the next head
	more     []streamHead // those behind it
	final    bool         // the final head has come
	bodiless bool         // no body may come
	tunnel   bool         // nothing but octets may
	length   int64        // of the body, -1: unknown
	received int64        // of it
	recv     recvQueue
	trailer  headerFields
	grown    int64 // by which its window is larger than the usual one
	flow     streamFlow

	// For the goroutine of the exchange.
	method  string
	wake    chan struct{} // holds one; there is news
	by      time.Time     // when reads fail; zero: never
	waiting bool          // for news

	// For the goroutine that sends the body.
	writeWake    chan struct{} // holds one; nil: it has never waited
	writeTimeout time.Duration
	writeBy      time.Time
	roomBy       time.Time // when waiting for room ends; zero: nobody waits
}

// A streamHead is a head that came before the one before it was looked at.
type streamHead struct {
	section fieldSection
	head    responseHead
}

// An http2ClientOutput is guarded by its connection's mutex.
type http2ClientOutput struct {
	queue []byte // not handed to the socket yet
	spare []byte // room for the next queue

	sending bool  // somebody sends, and will see what is queued
	last    bool  // the connection ends behind the queue
	err     error // why nothing is sent any more
	due     int   // callers that were woken and may have another request

	handed  int64 // octets that have left the queue
	written int64 // of which the system has taken

	blocked []*clientStream // bodies that wait for room in the queue
}

// An http2ClientFlow is what of flow control belongs to the connection.
type http2ClientFlow struct {
	toSend int64 // the server takes

	window  int64           // that the server was given
	left    int64           // of it
	unsaid  int64           // octets that were consumed and not given back yet
	grown   int64           // by all streams that exist
	blocked []*clientStream // wait for toSend

	settingsAt time.Time     // when SETTINGS were sent; zero once they are acknowledged
	roundTrip  time.Duration // the least that was measured; 0: not yet
}

// A streamFlow is what of flow control belongs to a stream.
type streamFlow struct {
	toSend int64 // the server takes; negative where it has taken some back

	window int64 // that the server was given
	left   int64 // of it
	unsaid int64 // octets that were consumed and not given back yet

	since time.Time // when sample began; zero: it has not
	taken int64     // octets that were consumed since
}

// An http2ClientHealth is guarded by its connection's mutex.
type http2ClientHealth struct {
	timer   *time.Timer
	at      time.Time // when timer comes; zero: it does not
	heardAt time.Time // when something was received last
	pinged  time.Time // when a PING was sent that is not answered; zero: none
	signAt  time.Time // when the server was last seen to be alive behind it
	taken   int64     // octets by the server, then
	budget  http2Budget
}

// An http2ClientReader is the reading goroutine's.
type http2ClientReader struct {
	in       []byte // received and not consumed
	settings bool   // the first frame has come
	dec      hpackDecoder
	section  fieldSection
	head     responseHead
	away     *http2Reset // what a GOAWAY with a reason said; nil: none
	last     uint32      // stream that a GOAWAY named

	block    uint32 // stream whose field block is not complete; 0: none
	blockEnd bool   // it ends the stream
	blockErr error  // of the stream, found before its end

	woken []*clientStream // have news
	ended int             // streams that were answered
	now   time.Time       // when this input came
}

// An http2ClientPool knows connections that take streams. The zero value is ready.
type http2ClientPool struct {
	mu     sync.Mutex
	routes map[clientRoute]*http2ClientRoute // guarded by mu
}

// An http2ClientRoute is guarded by its pool's mutex.
type http2ClientRoute struct {
	conn    *http2ClientConn // takes streams, as far as is known; nil: none
	dialing *http2ClientDial // under way; nil: none
	http1   bool             // the server spoke HTTP/1.1 when it was asked last
}

// An http2ClientDial is somebody's way to a connection, for others to wait for.
type http2ClientDial struct {
	done chan struct{}
	err  error // for all who wait; nil: look again. Valid once done is closed
}

// forget takes a connection out that takes no more streams.
func (p *http2ClientPool) forget(c *http2ClientConn) {
	p.mu.Lock()
	if r := p.routes[c.route]; r != nil && r.conn == c {
		r.conn = nil
		if r.dialing == nil {
			delete(p.routes, c.route)
		}
	}
	p.mu.Unlock()
}

// streamsMax is how many streams there may be. c.mu is held.
func (c *http2ClientConn) streamsMax() int {
	if !c.greeted {
		return http2StreamsFirst
	}
	return int(min(c.peer.streamsMax, 1<<30))
}

// gone says whether the connection takes no stream. c.mu is held.
func (c *http2ClientConn) gone() bool { return c.leaving || c.err != nil || c.next > streamMax }

// close cuts the connection. It is for any goroutine, and does not wait.
func (c *http2ClientConn) close() { c.raw.Close() }

func (st *clientStream) wakeReader() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

func (st *clientStream) wakeWriter() {
	select {
	case st.writeWake <- struct{}{}:
	default: // also where the channel is nil
	}
}

// arm sees to it that the timer comes at t at the latest; not for the zero time.
func (h *http2ClientHealth) arm(t time.Time) {
	if t.IsZero() || !h.at.IsZero() && !t.Before(h.at) {
		return
	}
	h.at = t
	h.timer.Reset(time.Until(t))
}

// at is the offset of the next octet that is queued, of all that are ever sent.
func (o *http2ClientOutput) at() int64 { return o.handed + int64(len(o.queue)) }

// expire wakes those whose time is up. c.mu is held.
func (st *clientStream) expire(now time.Time) {
	if st.waiting && !st.by.IsZero() && !now.Before(st.by) {
		st.waiting = false
		st.wakeReader()
	}
	if !st.roomBy.IsZero() && !now.Before(st.roomBy) {
		st.roomBy = time.Time{}
		st.wakeWriter()
	}
}
