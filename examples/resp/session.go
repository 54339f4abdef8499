package main

import (
	"sync"

	"flare"
)

// This file is a connection: it takes commands off the input, has them carried
// out and sends the replies of all that came together in one write.

// replyBytes of replies are handed to the connection before the next command is
// looked at.
const replyBytes = 32 << 10

// A session is one client's connection.
type session struct {
	store   *store
	refused []byte // replies that the connection had no room for
	quit    bool   // the client has said goodbye
}

// scratch is what a turn of a session needs and an idle one does not.
type scratch struct {
	args  [][]byte
	reply []byte
}

var scratches = sync.Pool{New: func() any { return &scratch{reply: make([]byte, 0, 2*replyBytes)} }}

// release makes s another turn's.
func (s *scratch) release() {
	if cap(s.reply) <= 4*replyBytes {
		s.reply = s.reply[:0]
		clear(s.args[:cap(s.args)]) // they point into input
		s.args = s.args[:0]
		scratches.Put(s)
	}
}

// Data implements flare.Protocol.
func (p *session) Data(c *flare.Conn, in []byte, eof bool) (int, error) {
	sc := scratches.Get().(*scratch)
	defer sc.release()
	if !p.send(c, sc) {
		return 0, nil
	}
	used := 0
	p.store.lock()
	for used < len(in) && !p.quit {
		args, n, err := parse(sc.args[:0], in[used:])
		sc.args = args
		if err != nil {
			sc.reply = appendError(sc.reply, "ERR "+err.Error())
			used, p.quit = len(in), true
			break
		}
		if n == 0 {
			break
		}
		used += n
		if len(args) == 0 {
			continue
		}
		sc.reply = p.execute(sc.reply, args)
		if len(sc.reply) >= replyBytes {
			p.store.unlock()
			if !p.send(c, sc) {
				return used, nil // Data is called again when the client has read
			}
			p.store.lock()
		}
	}
	p.store.unlock()
	if p.send(c, sc) && p.quit {
		c.Close()
	}
	return used, nil
}

// send hands the replies to the connection. False: the client does not read, and
// they wait for Drained.
func (p *session) send(c *flare.Conn, sc *scratch) bool {
	if len(p.refused) > 0 {
		if c.Write(p.refused) != nil {
			return false
		}
		p.refused = nil
	}
	if len(sc.reply) == 0 {
		return true
	}
	if c.Write(sc.reply) != nil {
		p.refused = append([]byte(nil), sc.reply...)
		return false
	}
	sc.reply = sc.reply[:0]
	return true
}

// Drained implements flare.Protocol.
func (p *session) Drained(c *flare.Conn) {
	if p.send(c, new(scratch)) && p.quit {
		c.Close()
	}
}

// Closed implements flare.Protocol.
func (p *session) Closed(*flare.Conn, error) {}
