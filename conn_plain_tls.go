package flare

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// This file is layer 3 (engine): TLS on the plain driver. There crypto/tls reads
// and writes a net.Conn that waits, as it likes it best; the reader's first work
// is the handshake, and the loop has the deadline. conn_handshake.go has the
// slots and what becomes of a handshake.

// A plainTLS is the net.Conn below the *tls.Conn of a plain connection. One that
// came as a *tls.Conn reads and writes past it: then it knows no records.
type plainTLS struct {
	net.Conn
	settings *tlsSettings
	foreign  bool                 // it came so; fixed
	next     connState            // after the handshake
	shaking  bool                 // a slot is held; the reader's
	state    *tls.ConnectionState // made on first use, by the connection's owner
	changed  func()               // tells the loop that more of a record has come, which is incomplete
	fin      bool                 // the peer has closed the connection below; the reader's

	mu      sync.Mutex
	heard   bool          // the peer has sent something; guarded by mu
	records tlsRecords    // guarded by mu
	arrived int           // bytes that no rate has counted yet; guarded by mu
	part    partialRecord // a complete one until its bytes were taken; guarded by mu
}

// Read gives the slot back while the peer is waited for, and follows records.
func (s *plainTLS) Read(p []byte) (n int, err error) {
	s.mu.Lock()
	if s.records.got == 0 {
		s.part = partialRecord{} // the reader has come back for more: all was taken
	}
	s.mu.Unlock()
	if s.shaking {
		s.settings.slots.outside(nil, func() { n, err = s.Conn.Read(p) })
	} else {
		n, err = s.Conn.Read(p)
	}
	if n > 0 && err == io.EOF {
		err = nil // it comes again, unless a close_notify in p comes first
	}
	s.fin = s.fin || err == io.EOF
	s.mu.Lock()
	s.heard = s.heard || n > 0
	s.records.feed(p[:n])
	s.arrived += n
	partial := s.records.got > 0
	if now := time.Since(origin); partial {
		s.part.now(int(s.records.got), now)
	} else if s.part.began != 0 {
		// No turn has seen the bytes yet, and one for a deadline may come first.
		s.part.grew = now
	}
	s.mu.Unlock()
	if partial && !s.shaking {
		s.changed()
	}
	return n, err
}

// begun reports whether a handshake is under way that may have begun so long ago.
// Of a foreign one nobody knows, and a server that ends gives it a moment.
func (s *plainTLS) begun(age time.Duration) bool {
	if s.foreign {
		return age < handshakeGrace
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heard || age < plainSettle
}

// cutOff is err, or that the stream ended without a close_notify: see
// tlsTransport.recv.
func (s *plainTLS) cutOff(err error) error {
	if err == io.EOF && s.fin {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (t *plainTransport) partial() partialRecord {
	if t.secured == nil || t.secured.foreign {
		return partialRecord{}
	}
	t.secured.mu.Lock()
	defer t.secured.mu.Unlock()
	return t.secured.part
}

func (t *plainTransport) counted(n int) int {
	if t.secured == nil || t.secured.foreign {
		return n
	}
	t.secured.mu.Lock()
	defer t.secured.mu.Unlock()
	n, t.secured.arrived = t.secured.arrived, 0
	return n
}

// Write does the same.
func (s *plainTLS) Write(p []byte) (n int, err error) {
	if !s.shaking {
		return s.Conn.Write(p)
	}
	s.settings.slots.outside(nil, func() { n, err = s.Conn.Write(p) })
	return n, err
}

// handshake is the reader's part of it. False: it has failed, and there is nothing
// to read.
func (t *plainTransport) shakeHands() bool {
	s, tc := t.secured, t.conn.(*tls.Conn)
	s.shaking = true
	err := s.settings.run(nil, tc)
	s.shaking = false
	var begin func(c *Conn)
	if err == nil {
		state := tc.ConnectionState()
		s.settings.done(state.DidResume, nil)
		begin, err = s.settings.agreed(&state)
	} else {
		s.settings.done(false, err)
	}
	if isPlainHTTP(err) {
		io.WriteString(s.Conn, answerPlainHTTP)
	}
	return t.handshakeEnded(begin, err)
}

// shook tells the loop how the handshake ended. False: nothing is read any more.
func (t *plainTransport) handshakeEnded(begin func(c *Conn), err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.handshaken, t.refused = true, err
	t.begin = begin
	if err != nil || t.closed {
		t.stopReading()
	}
	t.announce(ownRead)
	return t.reading
}

// plainShaken is a turn of a connection in its handshake.
func (t *plainTransport) handshake(g *workset) verdict {
	c := t.c
	t.mu.Lock()
	shaken, begin, err := t.handshaken, t.begin, t.refused
	t.mu.Unlock()
	switch {
	case err != nil:
		c.end(endFlushed, err)
		return verdictClose
	case !shaken:
		return verdictPartial
	}
	c.setState(t.secured.next)
	if begin != nil {
		begin(c)
	}
	return verdictMore
}

// tlsState returns what was agreed with the peer; nil without TLS. Only the
// connection's owner calls it.
func (t *plainTransport) tlsState() *tls.ConnectionState {
	if t.secured == nil {
		return nil
	}
	if t.secured.state == nil {
		state := t.conn.(*tls.Conn).ConnectionState()
		t.secured.state = &state
	}
	return t.secured.state
}

func (t *plainTransport) handshaking() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.secured != nil && !t.handshaken
}
