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

// A takenOver is a transport with a net.Conn of its own for whoever takes the
// connection over, once its loop has let go of it. more is what the transport
// has received beyond what it gave.
type takenOver interface {
	takeOver() (conn net.Conn, more []byte, err error)
}

// Hijack takes the connection from the server. Answers to earlier requests
// have been sent. The reader begins with what the client has sent behind the
// request's head; a body that was not read is part of that. The caller closes
// the connection. After it w may no longer be used, and the server neither
// counts the connection nor ends it.
func (w *ResponseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.check()
	switch {
	case w.hijacked:
		return nil, nil, errHijacked
	case w.begun:
		return nil, nil, errHijackLate
	}
	c, b := w.c, &w.r.body
	from, _ := c.tr.(takenOver)
	if c.tr != nil && from == nil {
		return nil, nil, errors.ErrUnsupported
	}
	if err := c.sendWait(nil); err != nil {
		return nil, nil, err
	}
	c.frame.detach()
	for !c.delivered(c.frame) {
		if err := c.roomWait(); err != nil {
			return nil, nil, err
		}
	}
	c.removed = make(chan struct{})
	c.verdict = verdictRemove
	c.loop.post(c)
	<-c.removed
	// The loop has forgotten c: from here on it is this goroutine's alone.
	w.hijacked, c.gone = true, true
	c.setState(stateClosed)
	w.h.srv.connClosed(c, StateHijacked)

	rest := append([]byte(nil), b.in...)
	var conn net.Conn
	var err error
	if from != nil {
		var more []byte
		conn, more, err = from.takeOver()
		rest = append(rest, more...)
	} else {
		conn, err = fileConn(c.fd)
		closeFD(c.fd)
	}
	if err != nil {
		return nil, nil, err
	}
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(rest), conn), max(4096, len(rest)))
	r.Peek(len(rest)) // Buffered tells what has arrived, as net/http's does
	return conn, bufio.NewReadWriter(r, bufio.NewWriter(conn)), nil
}
