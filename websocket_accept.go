package flare

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// This file is layer 4 (roles): WebSockets that a handler reads itself. The
// connection leaves the loop, as with Hijack, and belongs to the goroutine that
// reads it.

// AcceptWebSocket answers the handshake and returns the WebSocket, for handlers
// that want to read it in their own goroutine. It outlives the handler; who
// accepts it closes it. A request that is refused gives a *StatusError that the
// handler may just return. opts may be nil. A connection that mostly waits is
// cheaper with a WebSocketHandler: this one has a goroutine and a buffer.
func AcceptWebSocket(w *ResponseWriter, r *Request, opts *WebSocketOptions) (*WebSocket, error) {
	if opts == nil {
		opts = new(WebSocketOptions)
	}
	a, err := takeOverForWebSocket(w, r, opts)
	if err != nil {
		return nil, err
	}
	hs, nc, in, answer, srv, peer := a.hs, a.nc, a.in, a.answer, a.srv, a.peer
	shape := newWebSocketShape(&hs, opts, false)
	if limit := shape.lim.write; limit > 0 {
		nc.SetWriteDeadline(time.Now().Add(limit)) // newBlockingSocket takes it away
	}
	if _, err := nc.Write(answer); err != nil {
		nc.Close()
		srv.connClosed(peer, StateClosed)
		return nil, err
	}
	ws := new(WebSocket)
	newBlockingSocket(ws, nc, shape, in, func() {
		srv.blocking.remove(ws.blocking)
		srv.connClosed(peer, StateClosed)
	})
	ws.blocking.count(&srv.buffered)
	if !srv.blocking.add(ws.blocking) {
		ws.blocking.finish(ErrServerClosed, false)
		return nil, ErrServerClosed
	}
	return ws, nil
}

// A websocketTakeover is a connection that was taken over for a WebSocket.
type websocketTakeover struct {
	hs     handshake
	nc     net.Conn
	in     []byte // the frames that came with the handshake
	answer []byte // to the handshake
	srv    *Server
	peer   netip.AddrPort
}

// takeOverForWebSocket is the part of AcceptWebSocket that needs w and r.
func takeOverForWebSocket(w *ResponseWriter, r *Request, opts *WebSocketOptions) (a websocketTakeover, err error) {
	wx := w.lease.enterBody()
	if wx == nil {
		return a, errWriterDone
	}
	defer w.lease.exit()
	rx := r.lease.enter()
	if rx == nil {
		return a, errRequestDone
	}
	defer r.lease.exit()
	if a.hs, err = checkHandshake(&wx.w, &rx.r, opts); err != nil {
		return a, err
	}
	a.answer = a.hs.appendAnswer(nil, &wx.w.header)
	a.srv, a.peer = wx.w.h.srv, wx.w.c.RemoteAddr()
	a.nc, a.in, err = wx.w.takeOver()
	return a, err
}

// A websocketSet has the WebSockets of a server that are not on a loop.
type websocketSet struct {
	mu    sync.Mutex
	set   map[*blockingSocket]struct{} // guarded by mu
	ended bool                         // guarded by mu
}

// add reports whether the server is still there to end b with.
func (s *websocketSet) add(b *blockingSocket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	if s.set == nil {
		s.set = make(map[*blockingSocket]struct{})
	}
	s.set[b] = struct{}{}
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

// each calls fn with all of them, without the lock.
func (s *websocketSet) each(fn func(*blockingSocket)) {
	s.mu.Lock()
	all := make([]*blockingSocket, 0, len(s.set))
	for b := range s.set {
		all = append(all, b)
	}
	s.mu.Unlock()
	for _, b := range all {
		fn(b)
	}
}
