package flare

import (
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// This file is layer 4 (roles): how a server admits a WebSocket, and those that it
// has off its loops. A connection that a handler reads itself leaves the loop, as
// with Hijack, and belongs to the goroutine that reads it.

// AcceptWebSocket answers the handshake and returns the WebSocket, for handlers
// that want to read it in their own goroutine. It outlives the handler; who
// accepts it closes it. A request that is refused gives a *StatusError that the
// handler may just return. opts may be nil. A connection that mostly waits is
// cheaper with a WebSocketHandler: this one has a goroutine and a buffer.
func AcceptWebSocket(w *ResponseWriter, r *Request, opts *WebSocketOptions) (*WebSocket, error) {
	if opts == nil {
		opts = new(WebSocketOptions)
	}
	var a *websocketTakeover
	err := admitWebSocket(w, r, opts, func(w *serverResponse, hs *handshake) (err error) {
		a, err = w.takeOverForWebSocket(hs, newWebSocketProfile(hs, opts, false))
		return err
	})
	if err != nil {
		return nil, err
	}
	b, err := a.runBlocking()
	if err != nil {
		return nil, err
	}
	return &b.ws, nil
}

// admitWebSocket holds a request to the handshake, and calls run, which answers
// it. run has the exchange, and must not wait for the peer.
func admitWebSocket(w *ResponseWriter, r *Request, o *WebSocketOptions, run func(w *serverResponse, hs *handshake) error) error {
	wx := w.lease.enterBody()
	if wx == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	rx := r.lease.enter()
	if rx == nil {
		return errRequestDone
	}
	defer r.lease.exit()
	hs, err := checkHandshake(&wx.w, &rx.r, o)
	if err != nil {
		return err
	}
	return run(&wx.w, &hs)
}

// A websocketTakeover is a connection that was taken over for a WebSocket.
type websocketTakeover struct {
	profile *websocketProfile
	nc      net.Conn
	in      []byte // the frames that came with the handshake
	answer  []byte // to the handshake; nil: it has been given
	tunnel  bool   // nc is on a connection that goes on without it
	srv     *Server
	peer    netip.AddrPort
	home    *Loop    // that the connection was on, nil: none
	known   net.Conn // what hooks know it by
}

// takeOverForWebSocket takes the connection from its loop.
func (w *serverResponse) takeOverForWebSocket(hs *handshake, profile *websocketProfile) (*websocketTakeover, error) {
	a := &websocketTakeover{profile: profile, srv: w.x.srv, peer: w.x.stream.session().peerAddr(), home: w.x.strand.loop()}
	var err error
	if a.nc, err = w.x.stream.tunnel(hs, &w.header); !errors.Is(err, errors.ErrUnsupported) {
		w.status, a.tunnel = http.StatusOK, true
		return a, err
	}
	a.answer = hs.appendAnswer(nil, &w.header)
	if a.nc, a.in, err = w.takeOver(); err == nil {
		a.known = w.known(a.nc)
		w.status = http.StatusSwitchingProtocols // which runBlocking sends
	}
	return a, err
}

// runBlocking answers the handshake, and makes the WebSocket.
func (a *websocketTakeover) runBlocking() (*blockingSocket, error) {
	if limit := a.profile.lim.write; limit > 0 {
		a.nc.SetWriteDeadline(time.Now().Add(limit)) // newBlockingSocket takes it away
	}
	if _, err := a.nc.Write(a.answer); err != nil {
		a.nc.Close()
		a.ended()
		return nil, err
	}
	var b *blockingSocket
	b = newBlockingSocket(a.nc, a.profile, a.in, func() {
		a.srv.blocking.remove(b)
		a.ended()
	})
	b.home = a.home
	b.count(&a.srv.buffered)
	if !a.srv.blocking.add(b) {
		b.finish(ErrServerClosed, false)
		return nil, ErrServerClosed
	}
	return b, nil
}

// ended counts the connection out.
func (a *websocketTakeover) ended() {
	if !a.tunnel {
		a.srv.connClosed(a.home, a.known, a.peer, http.StateClosed)
	}
}

// A websocketSet has the WebSockets of a server that are not on a loop.
type websocketSet struct {
	mu    sync.Mutex
	set   map[*blockingSocket]int // with their numbers; guarded by mu
	count int                     // numbers given; guarded by mu
	ended bool                    // guarded by mu
}

// add reports whether the server is still there to end b with.
func (s *websocketSet) add(b *blockingSocket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.set == nil {
		s.set = make(map[*blockingSocket]int)
	}
	s.count++
	s.set[b] = s.count
	return true
}

// end cuts all of them, and those that come later.
func (s *websocketSet) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.each(func(b *blockingSocket) { b.finish(ErrServerClosed, false) })
}

func (s *websocketSet) remove(b *blockingSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, b)
}

// each calls fn with all of them, in the order in which they began, without the lock.
func (s *websocketSet) each(fn func(*blockingSocket)) {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.set))
	slices.SortFunc(all, func(a, b *blockingSocket) int { return s.set[a] - s.set[b] })
	s.mu.Unlock()
	for _, b := range all {
		fn(b)
	}
}
