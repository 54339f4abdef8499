package flare

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"time"
)

// This file has a protocol of a user's in the simulated world: it sends each line
// back, in order, by all the ways that a Protocol has to write.

func lineText(id, number int) string {
	return fmt.Sprintf("line %d of %d%s\n", number, id, strings.Repeat(".", 700*(number%3)))
}

// A lineProtocol is the server's side of a connection.
type lineProtocol struct {
	w       *world
	c       *Conn
	s       *worldSocket
	id      int // of the client
	heard   int
	replies [][]byte // lines to be sent back
	due     time.Time
	inside  bool
	closed  bool
}

// newProtocol is Server.NewProtocol.
func (w *world) newProtocol(c *Conn) Protocol {
	l := &lineProtocol{w: w, c: c, s: w.socketOf(c)}
	w.whim("NewProtocol", l.spoil)
	w.protocols = append(w.protocols, l)
	return l
}

// enter begins a method, of which one runs at a time.
func (l *lineProtocol) enter() {
	if l.inside || l.closed {
		l.w.fail("%v: a method of its protocol is called beside another, or behind the end", l.s)
	}
	l.inside = true
}

func (l *lineProtocol) leave() { l.inside = false }
func (l *lineProtocol) spoil() { l.s.lost = true }

func (l *lineProtocol) Data(c *Conn, in []byte, eof bool) (int, error) {
	l.enter()
	defer l.leave()
	w, n := l.w, bytes.LastIndexByte(in, '\n')+1
	for line := range bytes.Lines(in[:n]) {
		if l.heard == 0 {
			fmt.Sscanf(string(line), "line 0 of %d", &l.id)
		}
		if string(line) != lineText(l.id, l.heard) {
			w.fail("%v: line %d is %q", l.s, l.heard, tail(line))
		}
		l.heard++
		l.replies = append(l.replies, bytes.Clone(line))
	}
	if eof || w.one(8) {
		_, err := c.NetConn(nil, l.write)
		return n, err
	}
	switch w.rand.IntN(8) {
	case 0:
		w.sleep(20 * time.Millisecond)
	case 1:
		d := time.Duration(w.rand.IntN(50)) * time.Millisecond
		l.due = time.Now().Add(d)
		c.SetTimeout(d + 1)
		return n, nil
	case 2:
		w.spawn(func() {
			w.sleep(10 * time.Millisecond)
			c.Post(l.posted)
		})
		return n, nil
	case 3:
		c.Pause()
		w.spawn(func() {
			w.sleep(10 * time.Millisecond)
			c.Resume()
		})
	case 4:
		w.whim("Data", l.spoil)
	}
	l.push()
	return n, nil
}

// push writes lines for as long as they are taken; Drained goes on.
func (l *lineProtocol) push() {
	for len(l.replies) > 0 && l.c.Write(l.replies[0]) == nil {
		l.replies = l.replies[1:]
	}
}

// write writes them in the blocking style.
func (l *lineProtocol) write(nc net.Conn) error {
	for ; len(l.replies) > 0; l.replies = l.replies[1:] {
		if _, err := nc.Write(l.replies[0]); err != nil {
			return err
		}
	}
	return nil
}

func (l *lineProtocol) posted() {
	l.enter()
	defer l.leave()
	l.push()
}

func (l *lineProtocol) Drained(*Conn) { l.posted() }

func (l *lineProtocol) Expired(*Conn) {
	if time.Now().Before(l.due) {
		l.w.fail("%v: its time is over before it has passed", l.s)
	}
	l.posted()
}

func (l *lineProtocol) Closed(*Conn, error) {
	l.enter()
	l.closed = true
	l.w.point("has ended")
}

// Lines are the talk of its clients.
type lines struct {
	quiet
	sent, heard int
}

// newLines has p send some.
func (w *world) newLines(p *peer) {
	t := &lines{sent: 1 + w.rand.IntN(12)}
	p.talk = t
	for i := range t.sent {
		p.say([]byte(lineText(p.number, i)))
	}
}

func (t *lines) hear(p *peer) {
	for end := bytes.IndexByte(p.got, '\n') + 1; end > 0; end = bytes.IndexByte(p.got, '\n') + 1 {
		if line := string(p.got[:end]); line != lineText(p.number, t.heard) {
			p.w.fail("%v: client %d receives %q for line %d", p.s, p.number, tail(p.got[:end]), t.heard)
		}
		p.got = p.got[end:]
		t.heard++
	}
}

func (t *lines) owed() string {
	if t.heard == t.sent {
		return ""
	}
	return fmt.Sprintf("line %d", t.heard)
}
