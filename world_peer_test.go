package flare

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"sync"
	"testing/synctest"
	"time"
)

// This file has the clients of the simulated world: what every client does with
// its connection, whatever it speaks. It sends in pieces, reads when it likes, and
// may leave at any moment. What it says and has to hear is its talk's matter:
// requests (world_http_test.go), WebSocket messages (world_websocket_test.go) or
// lines of a user's protocol (world_protocol_test.go).

const (
	clientsMax = 12
	leavesMax  = 4000 // octets sent when a client leaves

	// A client that reads slowly is quicker than the rate that is asked of it, and
	// frees no socket within chatWriteTimeout. Over HTTP/2 all of it is many times as
	// much, or a world would have no time for what waits behind others.
	slowOctets = 16
	slowPause  = 50 * time.Millisecond
	slowRate   = 180 // octets a second, where each pause is up to half a step too long
	slowMany   = 4
)

// A talk is what a client says, and what it makes of what it hears.
type talk interface {
	// hear takes what it understands from the front of p.got, and may say more.
	hear(p *peer)

	// owed says what the server has yet to say, "" for nothing.
	owed() string

	// open reports whether what came last has no end yet.
	open(p *peer) bool

	// ready reports whether the client has something to say, speak says it.
	ready() bool
	speak()

	// loose reports whether the server may end the connection just now.
	loose(p *peer) bool
}

// Quiet is what a client has of it that says nothing on its own, and hears what has
// an end.
type quiet struct{}

func (quiet) ready() bool       { return false }
func (quiet) speak()            {}
func (quiet) open(p *peer) bool { return len(p.got) > 0 }
func (quiet) loose(*peer) bool  { return false }

// A peer is a client and its connection.
type peer struct {
	w      *world
	s      *worldSocket
	number int
	talk   talk
	tls    *peerTLS // nil: none

	unsent []byte
	sent   int
	got    []byte // not understood yet
	next   time.Time

	leaves   int  // octets sent when it goes, -1: it stays to the end
	rudely   bool // by a reset
	half     bool // it shuts its write side behind what it has to say
	slow     bool // it reads little, steadily
	deaf     bool // it never reads
	closed   bool // it has closed
	excused  bool // from hearing everything: it went in the middle, or does not read
	farewell bool // the server has said that it says no more
}

// connect adds a client.
func (w *world) connect() {
	p := &peer{w: w, number: len(w.peers), leaves: -1, s: w.newSocket()}
	w.peers = append(w.peers, p)
	switch w.rand.IntN(16) {
	case 0, 1, 2, 3:
		p.leaves, p.rudely = w.rand.IntN(leavesMax), w.one(2)
	case 4, 5, 6, 7:
		p.half = true
	case 8:
		p.deaf, p.excused = true, true
	case 9:
		p.slow = true
	case 10:
		p.next = time.Now().Add(time.Duration(w.rand.IntN(2000)) * time.Millisecond)
	}
	many := w.http2 && w.srv.NewProtocol == nil && !w.one(4)
	if w.settings != nil {
		p.beginTLS(many)
	}
	switch {
	case w.srv.NewProtocol != nil:
		w.newLines(p)
	case many:
		w.newStreams(p)
	default:
		w.newRequests(p)
	}
	w.tell("client %d connects", p.number)
}

// slowness is how much more a slow client takes where there is HTTP/2.
func (w *world) slowness() int {
	if w.http2 {
		return slowMany
	}
	return 1
}

// say sends text, sooner or later.
func (p *peer) say(text []byte) {
	if p.tls != nil {
		p.tls.say(text)
		return
	}
	p.unsent = append(p.unsent, text...)
}

// canSend, canRead and canAct report whether the client has something to do.
func (p *peer) canSend() bool { return len(p.unsent) > 0 && len(p.s.in) < roomMax && !p.s.inEnd }

func (p *peer) canRead() bool {
	return len(p.s.out) > 0 && !p.deaf && !time.Now().Before(p.next)
}

func (p *peer) canAct() bool {
	return !p.closed && (p.s.reset || p.leaving() || p.talk.ready() || p.canSend() || p.canRead() || p.ends() || p.s.outEnd && len(p.s.out) == 0)
}

// busy reports whether it will have.
func (p *peer) busy() bool { return p.canAct() || !p.closed && !p.deaf && len(p.s.out) > 0 }

func (p *peer) leaving() bool { return p.leaves >= 0 && p.sent >= p.leaves }
func (p *peer) ends() bool {
	return p.half && len(p.unsent) == 0 && !p.talk.ready() && (p.tls == nil || p.tls.shaken)
}

// act is one step of the client.
func (p *peer) act() {
	w, s := p.w, p.s
	switch {
	case s.reset:
		w.tell("client %d sees a reset", p.number)
		p.close()
	case p.leaving():
		w.tell("client %d leaves", p.number)
		p.excused = true
		if p.close(); p.rudely {
			s.resetByPeer()
		} else {
			s.endInput()
		}
	case p.talk.ready() && (!p.canSend() && !p.canRead() || w.one(3)):
		p.talk.speak()
	case p.canSend() && (!p.canRead() || w.one(2)):
		most := 14
		if len(p.unsent) > 50_000 {
			most = 18
		}
		n := min(len(p.unsent), 1+w.rand.IntN(1<<w.rand.IntN(most)))
		s.in = append(s.in, p.unsent[:n]...)
		p.unsent = p.unsent[n:]
		p.sent += n
		w.tell("client %d sends %d octets", p.number, n)
		s.edge(Readable)
	case p.canRead():
		n := 1 + w.rand.IntN(len(s.out))
		if p.slow {
			n = min(n, slowOctets*w.slowness())
			p.next = time.Now().Add(slowPause)
		}
		w.tell("client %d reads %d octets", p.number, n)
		p.read(n)
	case p.ends() && p.tls != nil && !p.tls.ending:
		p.tls.ending = true
		p.tls.conn.CloseWrite() // says so first
	case p.ends():
		w.tell("client %d shuts its write side", p.number)
		p.half = false
		s.endInput()
	case s.outEnd:
		w.tell("client %d closes, behind the server", p.number)
		p.close()
		s.endInput()
	}
}

func (p *peer) read(n int) {
	s := p.s
	heard := s.out[:n]
	s.out = s.out[n:]
	if s.wantRoom && (len(s.out) < roomMax/2 || s.handed) { // nobody looks at what a hijacked one holds
		s.wantRoom = false
		s.edge(Writable)
	}
	if p.tls != nil {
		p.tls.hear(heard)
	} else {
		p.got = append(p.got, heard...)
	}
	p.talk.hear(p)
}

func (p *peer) close() {
	p.closed = true
	if p.tls != nil {
		p.tls.hear(nil)
		p.talk.hear(p)
	}
}

// held reports whether the server owes the client everything.
func (p *peer) held() bool {
	return !p.w.excused && !p.excused && !p.s.lost && p.s.fd >= 0 && !p.talk.loose(p)
}

// checkCalm is for when nothing happens any more: a server that was told all has
// said all.
func (p *peer) checkCalm() {
	owed := p.talk.owed()
	switch {
	case !p.held() || p.farewell:
	case len(p.unsent) > 0 && !p.s.outEnd:
		p.w.fail("%v: client %d waits for ever to send the rest", p.s, p.number)
	case owed != "" && !p.s.outEnd:
		p.w.fail("%v: client %d waits for ever for %s", p.s, p.number, owed)
	case owed != "":
		p.w.fail("%v: the server has closed before %s, and not said so", p.s, owed)
	}
}

// checkEnd is for when the server has ended.
func (p *peer) checkEnd() {
	if !p.closed && !p.deaf {
		p.read(len(p.s.out))
	}
	p.close()
	if p.held() && p.talk.open(p) {
		p.w.fail("%v: client %d is cut off: %q", p.s, p.number, tail(p.got))
	}
}

// A peerTLS is the client's part of TLS, and the net.Conn below it. It runs on a
// goroutine of its own, only while the client has its step.
type peerTLS struct {
	worldConn // for its addresses
	p         *peer
	conn      *tls.Conn
	later     []byte // said before the handshake is done
	shaken    bool
	ending    bool // it has said that nothing more comes
	in        *io.PipeReader
	heard     *io.PipeWriter // behind it
}

func (p *peer) beginTLS(http2 bool) {
	t := &peerTLS{worldConn: worldConn{p.s}, p: p}
	t.in, t.heard = io.Pipe()
	p.tls = t
	config := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12 + uint16(p.w.rand.IntN(2))}
	if http2 {
		config.NextProtos = []string{protoHTTP2}
	}
	t.conn = tls.Client(t, config)
	go func() {
		defer t.in.Close()
		if err := t.conn.Handshake(); err != nil {
			return
		}
		t.shaken = true
		t.conn.Write(t.later)
		for room := make([]byte, roomMax); ; {
			n, err := t.conn.Read(room)
			p.got = append(p.got, room[:n]...)
			if err != nil {
				return
			}
		}
	}()
	synctest.Wait()
}

func (t *peerTLS) say(text []byte) {
	if !t.shaken {
		t.later = append(t.later, text...)
		return
	}
	t.conn.Write(text)
}

// hear takes octets of the server; none are the end.
func (t *peerTLS) hear(octets []byte) {
	if len(octets) == 0 {
		t.heard.Close()
	}
	t.heard.Write(octets)
	synctest.Wait()
}

func (t *peerTLS) Read(b []byte) (int, error) { return t.in.Read(b) }

func (t *peerTLS) Write(b []byte) (int, error) {
	t.p.unsent = append(t.p.unsent, b...)
	return len(b), nil
}

// worldCertificate is of a kind whose signatures are all of one size.
var worldCertificate = sync.OnceValue(func() tls.Certificate {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})
