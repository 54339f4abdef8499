package flare

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// This file is layer 3 (engine): the handshake of TLS. It runs on a goroutine
// of its own, which holds one of a few slots while it computes and none while it
// waits for its peer: handshakes cannot keep more than the slots' processors from
// the loops, and peers that stall keep nothing from anybody. Before its first
// byte a connection has no goroutine either.

// A cryptoSlots bounds how many handshakes compute at once. nil bounds nothing. A
// handshake of a connection on a loop names it, others have nil.
type cryptoSlots chan struct{}

func (s cryptoSlots) acquire(l *Loop) {
	if s != nil {
		s <- struct{}{}
		l.resumed()
	}
}

func (s cryptoSlots) release() {
	if s != nil {
		<-s
	}
}

// A tlsSettings is what the TLS connections of a listener share.
type tlsSettings struct {
	config *tls.Config // nil: each net.Conn is a *tls.Conn already, somebody else's
	slots  cryptoSlots // nil in that case: what is below cannot be seen to wait

	// agreed is told what protocol was agreed on, and returns what makes it the
	// connection's, nil if nothing has to. An error ends the connection. The former
	// is called on whatever goroutine, the latter by the connection's owner.
	agreed func(state *tls.ConnectionState) (begin func(c *Conn), err error)

	// done is told of the end of each handshake.
	done func(resumed bool, err error)
}

// secure puts TLS between a connection that no loop knows yet and its transport.
func (c *Conn) secure(settings *tlsSettings) {
	t := &tlsTransport{c: c, under: c.tr, settings: settings, next: c.state}
	t.shaking.Store(true)
	c.tr, c.state = t, stateHandshake
}

func (t *tlsTransport) handshake(g *workset) verdict {
	switch {
	case t.c.edges&ownRead == 0:
		return verdictPartial
	case g.loop != nil:
		return verdictWork
	}
	return t.c.shakeHands(g, t)
}

// shakeHands runs on the connection's own goroutine.
func (c *Conn) shakeHands(g *workset, t *tlsTransport) verdict {
	t.until = after(c.since, c.limits.handshake)
	t.tls = tls.Server(t, t.settings.config)
	err := t.settings.run(c.loop, t.tls)
	var begin func(c *Conn)
	if err == nil {
		state := t.tls.ConnectionState()
		t.settings.done(state.DidResume, nil)
		begin, err = t.settings.agreed(&state)
	} else {
		t.settings.done(false, err)
	}
	g.clock.read()
	t.shaking.Store(false)
	if err != nil {
		return c.refuseHandshake(g, t, err)
	}
	t.mode = tlsLooping
	t.flush() // session tickets; what does not fit now leaves with the next turn
	c.setState(t.next)
	if begin != nil {
		begin(c)
	}
	return verdictMore
}

// exitedHandshake ends a connection in whose handshake a function of the
// configuration ended the goroutine.
func (c *Conn) exitedHandshake(g *workset) verdict {
	t, _ := c.tr.(*tlsTransport)
	if t == nil {
		c.end(endReset, errHandshakeExit)
		return verdictClose
	}
	go t.settings.done(false, errHandshakeExit) // it calls a logger
	g.clock.read()
	t.shaking.Store(false)
	return c.refuseHandshake(g, t, errHandshakeExit)
}

// errHandshakeExit is the end of a handshake in which a function of the
// configuration called runtime.Goexit: it ends the goroutine, and the connection,
// but nothing else.
var errHandshakeExit = errors.New("flare: runtime.Goexit in a handshake")

// run is the handshake of tc, over whatever connection. A panic of a function
// of the configuration becomes an error.
func (s *tlsSettings) run(l *Loop, tc *tls.Conn) (err error) {
	s.slots.acquire(l)
	defer s.slots.release()
	if p := guard(func() { err = tc.Handshake() }, nil); p != nil {
		return fmt.Errorf("flare: panic in a handshake: %v\n%s", p.value, p.stack)
	}
	return err
}

// outside runs a function of the configuration without a slot: it may wait.
func (s cryptoSlots) outside(l *Loop, fn func()) {
	s.release()
	defer s.acquire(l)
	fn()
}

// awaitPeer sends what is queued and waits until the peer has sent something,
// without a slot.
func (t *tlsTransport) awaitPeer() (err error) {
	bit := ownRead
	if t.flush() == errWouldBlock {
		bit = ownWrite
	}
	limit := time.Duration(0)
	if t.until != 0 {
		if limit = t.until - time.Since(origin); limit <= 0 {
			return ErrTimeout
		}
	}
	t.settings.slots.outside(t.c.loop, func() { err = t.c.await(bit, limit) })
	return err
}

// refuseHandshake ends a connection whose handshake failed. A peer that waits
// for the reason gets it: an alert, or words if it does not speak TLS at all.
func (c *Conn) refuseHandshake(g *workset, t *tlsTransport, err error) verdict {
	c.end(endFlushed, err)
	if errors.Is(err, ErrTimeout) {
		g.counts[countTimeoutHandshake]++
		return verdictClose
	}
	t.mode = tlsOff
	if t.fin || c.own.Load()&ownStop != 0 {
		return verdictClose
	}
	if isPlainHTTP(err) {
		g.out = append(g.out, answerPlainHTTP...)
	}
	c.setState(stateDrain)
	if !c.flush(g) {
		return c.blocked()
	}
	return c.closeGracefully(g)
}

// answerPlainHTTP is for a client that mistook the port.
const answerPlainHTTP = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n" +
	"Content-Length: 48\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

// isPlainHTTP reports whether a handshake failed since it began like a request.
func isPlainHTTP(err error) bool {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return false
	}
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH", "CONNE", "PRI *"} {
		if bytes.HasPrefix(record.RecordHeader[:], []byte(method)) {
			return true
		}
	}
	return false
}

// takeOver makes t the net.Conn below a tls.Conn that blocks.
func (t *tlsTransport) takeOver() (net.Conn, []byte, error) {
	nc, _, err := t.under.takeOver()
	if err != nil {
		return nil, nil, err
	}
	t.mode, t.nc = tlsBlocking, nc
	return t.tls, nil, nil
}

// takeOff has the loop let go of c, and returns a connection that blocks in its
// place, with what was received and not used; c's own descriptor is closed.
func (c *Conn) takeOff() (net.Conn, []byte, error) {
	removed := make(chan struct{})
	c.waits.removed = func() { close(removed) }
	c.verdict = verdictRemove
	c.loop.post(&c.strand)
	<-removed
	c.loop.resumed()
	// The loop has forgotten c: from here on it is this goroutine's alone.
	c.end(endHandedOver, nil)
	c.setState(stateClosed)
	return c.tr.takeOver()
}

// handshakeGrace is how long the first request may take after a handshake that
// ended while the server did: it is under way, usually right behind it.
const handshakeGrace = time.Second

// greets reports whether c has that time still.
func (l *Loop) greets(c *Conn, now time.Duration) bool {
	return l.leaving && c.since > l.leftAt && now < c.since+handshakeGrace && c.tr.tlsState() != nil
}
