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

// Hijack takes the connection from the server. Answers to earlier requests
// have been sent. The reader begins with what the client has sent behind the
// request's head; a body that was not read is part of that. The caller closes
// the connection. After it w may no longer be used, and the server neither
// counts the connection nor ends it. Over TLS it is a *tls.Conn.
func (w *ResponseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.check()
	switch {
	case w.hijacked:
		return nil, nil, errHijacked
	case w.begun:
		return nil, nil, errHijackLate
	case w.via != nil:
		return w.hijackCarried()
	case w.c.tr != nil && w.c.tls() == nil:
		return nil, nil, errors.ErrUnsupported
	}
	c, b := w.c, &w.r.body
	if err := c.sendWait(nil); err != nil {
		return nil, nil, err
	}
	c.frame.detach()
	conn, err := c.leave()
	w.hijacked = true
	w.h.srv.connClosed(c, StateHijacked)
	if err != nil {
		return nil, nil, err
	}
	if t := c.tls(); t != nil {
		conn = t.detach(conn)
	}
	rest := append([]byte(nil), b.in...)
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(rest), conn), max(4096, len(rest)))
	r.Peek(len(rest)) // Buffered tells what has arrived, as net/http's does
	return conn, bufio.NewReadWriter(r, bufio.NewWriter(conn)), nil
}
