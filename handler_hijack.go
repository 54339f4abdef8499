package flare

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
)

// This file is layer 4 (roles): a handler takes the connection over. The loop
// has to let go of it first, and only the loop's runner can do that: the
// handler passes the baton, posts the wish and waits.

var (
	errHijacked   = errors.New("flare: the connection has been hijacked")
	errHijackLate = errors.New("flare: Hijack after the response was committed")
)

func (w *serverResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.begun && !w.hijacked {
		return nil, nil, errHijackLate
	}
	return w.hijackAnyway()
}

// hijackAnyway is Hijack that may come behind a part of the response.
func (w *serverResponse) hijackAnyway() (net.Conn, *bufio.ReadWriter, error) {
	conn, rest, err := w.takeOver()
	if err != nil {
		return nil, nil, err
	}
	w.h.srv.connClosed(w.c.RemoteAddr(), StateHijacked)
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(rest), conn), max(4096, len(rest)))
	r.Peek(len(rest)) // Buffered tells what has arrived, as net/http's does
	return conn, bufio.NewReadWriter(r, bufio.NewWriter(conn)), nil
}

// hijackable reports whether there is a connection that could be taken over: not
// one that carries other requests too, nor one that is in a test's memory.
func (w *serverResponse) hijackable() bool {
	if w.via != nil {
		return w.via.hijackable()
	}
	return w.c.tr.canTakeOver()
}

// takeOver takes the connection from its loop, and returns it with what the
// client has sent behind the head. The server goes on counting it, until the
// caller has it do connClosed.
func (w *serverResponse) takeOver() (conn net.Conn, rest []byte, err error) {
	switch {
	case w.hijacked:
		return nil, nil, errHijacked
	case !w.hijackable():
		return nil, nil, errors.ErrUnsupported
	case w.via != nil:
		return w.takeOverCarried()
	}
	c, b := w.c, &w.r.body
	if err := c.sendWait(nil); err != nil {
		return nil, nil, err
	}
	c.workset.detach()
	for c.tr.unwritten() > 0 {
		if err := c.roomWait(); err != nil {
			return nil, nil, err
		}
	}
	w.h.x.lockBroken(&b.mu, breakReads) // a reader must not find another's descriptor
	defer b.mu.Unlock()
	conn, unread, err := c.takeOff()
	w.hijacked = true
	if err != nil {
		w.h.srv.connClosed(c.RemoteAddr(), StateHijacked)
	}
	rest = append(append([]byte(nil), b.data...), b.in...) // in is right behind what is left of a chunk
	rest = append(rest, unread...)
	c.end(endHandedOver, errHijacked) // the descriptor's number may be another connection's by now
	b.end(errHijacked)
	return conn, rest, err
}
