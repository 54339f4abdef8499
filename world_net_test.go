package flare

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

// This file has the sockets and pollers of the simulated world. To add a fault,
// let recv, send, acceptFD or worldPoller.Wait draw it from the seed, and mark
// what it excuses with lost.

const (
	firstFD = 5000 // far from the real ones, should a number get out
	roomMax = 6000 // octets that a socket takes unread
)

// worldNet is the system's part of a world. Descriptors are numbered as a system
// does it, the lowest free one first.
type worldNet struct {
	sockets  []*worldSocket // all that there ever were
	fds      []*worldSocket // open ones, by number
	pollers  []*worldPoller
	listener *worldSocket
	queue    []*worldSocket // not accepted yet
}

// A worldSocket is the server's end of a connection, or a listener. It is the
// connection's transport too.
type worldSocket struct {
	memoryBase
	w      *world
	number int
	fd     int // -1: not accepted yet
	c      *Conn
	poller *worldPoller
	asked  Interest
	edges  Interest  // to be reported
	busy   [2]string // the calls that go on: one that receives, one that sends

	in       []byte // sent by the client, not received yet
	inEnd    bool   // and no more comes
	out      []byte // sent by the server, not read by the client yet
	outEnd   bool
	reset    bool // nothing goes any more
	dead     bool // cut by the server
	lost     bool // the client cannot be held to get its answers
	closed   bool
	byReset  bool
	wantRoom bool
	handed   bool             // to a hijacker
	waking   [2]chan struct{} // calls of a hijacker that wait, to read and to write
	until    [2]time.Time     // their deadlines
}

// newWorldSocket returns one that nobody has accepted.
func (w *world) newWorldSocket() *worldSocket {
	s := &worldSocket{w: w, number: len(w.sockets), fd: -1}
	s.waking[0], s.waking[1] = make(chan struct{}, 1), make(chan struct{}, 1)
	w.sockets = append(w.sockets, s)
	return s
}

func (w *world) socketOf(c *Conn) *worldSocket {
	return w.sockets[slices.IndexFunc(w.sockets, func(s *worldSocket) bool { return s.c == c })]
}

func (s *worldSocket) String() string { return fmt.Sprintf("socket %d (fd %d)", s.number, s.fd) }

// open gives s the lowest free number.
func (w *worldNet) open(s *worldSocket) {
	i := slices.Index(w.fds, nil)
	if i < 0 {
		i = len(w.fds)
		w.fds = append(w.fds, nil)
	}
	w.fds[i] = s
	s.fd = firstFD + i
}

func (w *worldNet) at(fd int) *worldSocket {
	if i := fd - firstFD; i >= 0 && i < len(w.fds) {
		return w.fds[i]
	}
	return nil
}

// newSocket is a connection that a client begins.
func (w *world) newSocket() *worldSocket {
	s := w.newWorldSocket()
	if w.listener.closed {
		s.closed, s.reset, s.lost = true, true, true
		return s
	}
	w.queue = append(w.queue, s)
	w.listener.edge(Readable)
	return s
}

func (w *world) acceptFD(fd int) (int, netip.AddrPort, syscall.Errno) {
	w.point("accepts")
	if w.at(fd) != w.listener {
		w.fail("accept of descriptor %d, which is no listener", fd)
		return -1, netip.AddrPort{}, syscall.EBADF
	}
	if w.one(8) {
		w.listener.edge(Readable)
		errno := []syscall.Errno{syscall.EAGAIN, syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM}[w.rand.IntN(6)]
		w.tell("accept: %v", errno)
		if w.srv.loops[0].unlistened {
			w.loseQueue() // the listener may be closed with it
		}
		return -1, netip.AddrPort{}, errno
	}
	if len(w.queue) == 0 {
		return -1, netip.AddrPort{}, syscall.EAGAIN
	}
	s := w.queue[0]
	w.queue = w.queue[1:]
	w.open(s)
	w.tell("accept: %v", s)
	return s.fd, netip.AddrPortFrom(netip.IPv6Loopback(), uint16(s.number)), 0
}

// listen has the first loop accept.
func (w *world) listen() {
	w.listener = w.newWorldSocket()
	w.open(w.listener)
	failed := func(err error) { w.fail("accepting has failed: %v", err) }
	ln := &loopListener{fd: w.listener.fd, adopt: w.adopt, full: w.srv.full, short: func(error) {}, failed: failed}
	l := w.srv.loops[0]
	l.call(func() {
		if err := l.listen(ln); err != nil {
			w.loseQueue()
			w.excused = true
			w.closeFD(ln.fd)
		}
	})
}

func (w *world) loseQueue() {
	for _, s := range w.queue {
		s.lost = true
	}
}

func (w *world) acceptQueue(int) int { return len(w.queue) }

func (w *world) resetFD(fd int) {
	if s := w.at(fd); s != nil {
		s.byReset = true
	}
}

func (w *world) closeFD(fd int) {
	s := w.at(fd)
	if s == nil {
		w.fail("descriptor %d is closed, and is not open", fd)
		return
	}
	w.tell("close of %v", s)
	s.closed = true
	if s.poller != nil {
		if s.c == nil || !s.c.loop.isDead() {
			w.fail("%v is closed while a poller has it", s)
		}
		s.poller.Remove(fd) // nobody waits in it any more
	}
	w.fds[fd-firstFD] = nil
	if s == w.listener {
		for _, waits := range w.queue {
			waits.closed, waits.reset, waits.lost = true, true, true
		}
		w.queue = nil
		return
	}
	if s.byReset || len(s.in) > 0 && !s.reset {
		if len(s.in) > 0 && !s.byReset && !s.inEnd && !s.lost && !w.excused {
			w.tell("%v: %d octets are unread at its end, which makes it a reset", s, len(s.in))
		}
		s.reset, s.out = true, nil
	}
	s.outEnd = true
}

// isDead reports whether l has ended.
func (l *Loop) isDead() bool {
	l.postMu.Lock()
	defer l.postMu.Unlock()
	return l.dead
}

// adopt makes an accepted descriptor a connection of the server.
func (w *world) adopt(fd int, peer netip.AddrPort) {
	s := w.at(fd)
	if c := w.srv.admit(fd, peer); c != nil {
		s.c, c.tr = c, s
		if w.settings != nil {
			c.secure(w.settings)
		}
		w.srv.connBegins(&servedListener{limits: &w.srv.lim.conn, addr: memoryAddr{}}, c, nil, nil)
	}
}

// edge has the poller report on s.
func (s *worldSocket) edge(ready Interest) {
	s.edges |= ready
	if s.poller != nil {
		s.poller.Wake()
	}
	for _, waking := range s.waking {
		select {
		case waking <- struct{}{}:
		default:
		}
	}
}

func (s *worldSocket) endInput() {
	s.inEnd = true
	s.edge(Readable | Hangup)
}

// level is all that holds just now.
func (s *worldSocket) level() (ready Interest) {
	if s == s.w.listener {
		if len(s.w.queue) > 0 {
			ready = Readable
		}
		return ready
	}
	if s.reset {
		return interestAll
	}
	if len(s.in) > 0 || s.inEnd {
		ready |= Readable
	}
	if s.inEnd {
		ready |= Hangup
	}
	if len(s.out) < roomMax {
		ready |= Writable
	}
	return ready
}

func (s *worldSocket) resetByPeer() {
	s.reset, s.lost = true, true
	s.in, s.out = nil, nil
	s.edge(interestAll)
}

// enter begins a call, in which others may run: none of them may call too.
func (s *worldSocket) enter(call string) {
	if s.closed {
		s.w.fail("%s on %v, which is closed", call, s)
	}
	way := 0
	if call == "send" {
		way = 1
	}
	if s.busy[way] != "" {
		s.w.fail("%s on %v while another goroutine is in %s", call, s, s.busy[way])
	}
	if way == 1 && (s.c.outbox.Load() != nil || s.w.settings != nil) {
		return // a mutex is held
	}
	s.busy[way] = call
	s.w.point(fmt.Sprintf("in %s of %v", call, s))
	s.busy[way] = ""
}

func (s *worldSocket) recv(p []byte) (int, error) {
	s.enter("recv")
	n, err := s.take(p)
	s.enter("recv") // what comes about now is not in the answer any more
	return n, err
}

func (s *worldSocket) take(p []byte) (int, error) {
	w := s.w
	switch {
	case s.reset:
		return 0, syscall.ECONNRESET
	case w.one(10): // what is there came a moment later
		s.edge(s.level() | Readable)
		w.tell("recv of %v: EAGAIN, before its time", s)
		return 0, errWouldBlock
	case w.one(1500):
		w.tell("recv of %v: ECONNRESET", s)
		s.resetByPeer()
		return 0, syscall.ECONNRESET
	case len(s.in) == 0 && s.inEnd:
		w.tell("recv of %v: the end", s)
		return 0, nil
	case len(s.in) == 0:
		return 0, errWouldBlock
	}
	n := min(len(p), len(s.in))
	if n > 1 && w.one(4) {
		n = 1 + w.rand.IntN(n-1)
	}
	copy(p, s.in[:n])
	s.in = s.in[n:]
	if n < len(p) && (len(s.in) > 0 || s.inEnd) { // the rest came behind the call
		s.edge(s.level())
	}
	w.tell("recv of %v: %d octets", s, n)
	return n, nil
}

func (s *worldSocket) discard(room []byte) (int, error) { return s.recv(room) }
func (s *worldSocket) drained() bool                    { return true }
func (s *worldSocket) anyoneSends() bool                { return true }
func (s *worldSocket) unacked() int                     { return len(s.out) }

func (s *worldSocket) send(a, b []byte) (int, error) {
	s.enter("send")
	return s.put(a, b)
}

func (s *worldSocket) put(a, b []byte) (int, error) {
	w := s.w
	switch {
	case s.dead:
		return 0, syscall.EPIPE
	case s.outEnd:
		w.fail("send on %v, whose write side is shut", s)
		return 0, syscall.EPIPE
	case s.reset:
		return 0, syscall.EPIPE
	case w.one(1500):
		w.tell("send of %v: EPIPE", s)
		s.resetByPeer()
		return 0, syscall.EPIPE
	}
	n := min(len(a)+len(b), roomMax-len(s.out))
	if n > 1 && w.one(4) {
		n = 1 + w.rand.IntN(n-1)
	}
	if n > 0 && w.one(10) {
		n = 0
		s.edge(Writable)
	}
	if n == 0 {
		s.wantRoom = true
		w.tell("send of %v: EAGAIN", s)
		return 0, errWouldBlock
	}
	s.out = append(s.out, a[:min(n, len(a))]...)
	s.out = append(s.out, b[:n-min(n, len(a))]...)
	w.tell("send of %v: %d octets", s, n)
	return n, nil
}

func (s *worldSocket) shutdownWrite() {
	s.w.tell("the write side of %v is shut", s)
	s.outEnd = true
}

func (s *worldSocket) cut() {
	s.w.tell("%v is cut", s)
	s.inEnd, s.outEnd, s.dead, s.lost = true, true, true, true
	s.edge(interestAll)
}

func (s *worldSocket) canTakeOver() bool { return true }

func (s *worldSocket) takeOver() (net.Conn, []byte, error) {
	s.handed = true
	return worldConn{s}, nil, nil
}

// A worldConn is a socket that was hijacked.
type worldConn struct{ s *worldSocket }

// do makes a call until it has found something to do, or may not go on.
func (c worldConn) do(way int, call func() (int, error)) (n int, err error) {
	for {
		at := c.s.until[way]
		switch {
		case c.s.closed:
			return 0, net.ErrClosed
		case !at.IsZero() && !time.Now().Before(at):
			return 0, os.ErrDeadlineExceeded
		}
		if n, err = call(); err != errWouldBlock {
			return n, err
		}
		var late <-chan time.Time
		if !at.IsZero() {
			late = time.After(time.Until(at))
		}
		select {
		case <-c.s.waking[way]:
		case <-late:
		}
		c.s.w.park("has waited for what is hijacked")
	}
}

func (c worldConn) Read(p []byte) (int, error) {
	n, err := c.do(0, func() (int, error) { return c.s.take(p) })
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (c worldConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var sent int
		sent, err = c.do(1, func() (int, error) { return c.s.put(p[n:], nil) })
		n += sent
	}
	return n, err
}

func (c worldConn) Close() error {
	if c.s.closed {
		return net.ErrClosed
	}
	c.s.w.closeFD(c.s.fd)
	c.s.edge(interestAll)
	return nil
}

func (c worldConn) CloseWrite() error {
	c.s.shutdownWrite()
	return nil
}

func (c worldConn) SetReadDeadline(t time.Time) error  { return c.setDeadlines(t, c.s.until[1]) }
func (c worldConn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(c.s.until[0], t) }
func (c worldConn) SetDeadline(t time.Time) error      { return c.setDeadlines(t, t) }

func (c worldConn) setDeadlines(read, write time.Time) error {
	c.s.until = [2]time.Time{read, write}
	c.s.edge(0)
	return nil
}

func (c worldConn) LocalAddr() net.Addr  { return memoryAddr{} }
func (c worldConn) RemoteAddr() net.Addr { return memoryAddr{} }

// A worldPoller reports in the order, and as late, as the seed has it.
type worldPoller struct {
	w      *world
	level  bool // it repeats itself
	socks  []*worldSocket
	bell   chan struct{}
	waits  bool
	closed bool
}

func (w *world) newPoller(level bool) Poller {
	p := &worldPoller{w: w, level: level, bell: make(chan struct{}, 1)}
	w.pollers = append(w.pollers, p)
	return p
}

func (p *worldPoller) EdgeTriggered() bool { return !p.level }

func (p *worldPoller) Add(fd int, want Interest) error {
	s := p.w.at(fd)
	if s == nil || s.poller != nil {
		p.w.fail("Add of descriptor %d: %v", fd, s)
		return &pollerError{"add", fd, ErrPollerAdded}
	}
	if s != p.w.listener && p.w.one(200) {
		p.w.tell("Add of %v: ENOMEM", s)
		s.lost = true
		return &pollerError{"add", fd, syscall.ENOMEM}
	}
	s.poller, s.asked, s.edges = p, want, s.level()
	p.socks = append(p.socks, s)
	return nil
}

func (p *worldPoller) Modify(fd int, want Interest) error {
	if s := p.w.at(fd); s != nil && s.poller == p {
		s.asked = want
		s.edges = s.level()
		return nil
	}
	return &pollerError{"modify", fd, ErrPollerUnknown}
}

func (p *worldPoller) Remove(fd int) error {
	s := p.w.at(fd)
	if s == nil || s.poller != p {
		return &pollerError{"remove", fd, ErrPollerUnknown}
	}
	s.poller = nil
	p.socks = slices.DeleteFunc(p.socks, func(other *worldSocket) bool { return other == s })
	return nil
}

// ready is what there is to report on s.
func (p *worldPoller) ready(s *worldSocket) Interest {
	ready := s.edges
	if p.level {
		ready = s.level()&(Readable|Writable) | s.edges&(Hangup|Failed)
	}
	return ready & (s.asked | Hangup | Failed)
}

// report fills events with some of it.
func (p *worldPoller) report(events []Event) (n int) {
	for _, i := range p.w.rand.Perm(len(p.socks)) {
		s := p.socks[i]
		ready := p.ready(s)
		if ready == 0 || n == len(events) || p.w.one(4) { // late
			continue
		}
		if p.w.one(4) && !p.level {
			ready |= s.level() // a kernel reports all that holds
		}
		s.edges = 0
		events[n] = Event{FD: s.fd, Ready: ready}
		n++
	}
	return n
}

func (p *worldPoller) Wait(events []Event, timeout time.Duration) (int, error) {
	if p.waits || p.closed {
		p.w.fail("Wait of a poller in which somebody waits already, %v, or that is closed", p.waits)
	}
	p.waits = true
	switch pending := slices.ContainsFunc(p.socks, func(s *worldSocket) bool { return p.ready(s) != 0 }); {
	case timeout == 0:
		if p.w.one(4) {
			p.w.park("looks at its poller")
		}
	case pending:
		p.w.park("has events in its poller")
	case timeout < 0:
		<-p.bell
		p.w.park("is woken in its poller")
	default:
		select {
		case <-p.bell:
		case <-time.After(timeout):
		}
		p.w.park("has waited in its poller")
	}
	p.waits = false
	return p.report(events), nil
}

func (p *worldPoller) Wake() error {
	select {
	case p.bell <- struct{}{}:
	default:
	}
	return nil
}

func (p *worldPoller) Close() error {
	for _, s := range p.socks {
		s.poller = nil
	}
	p.closed = true
	return nil
}

// spurious reports on a connection for no reason.
func (w *world) spurious() {
	p := w.pollers[w.rand.IntN(len(w.pollers))]
	if len(p.socks) > 0 {
		s := p.socks[w.rand.IntN(len(p.socks))]
		w.tell("%v is reported for no reason", s)
		s.edge(Readable | Writable)
	}
}
