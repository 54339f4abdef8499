package flare

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// This file is layer 4 (roles): a handler takes the connection over. The loop
// has to let go of it first, and only the loop's runner can do that: the
// handler passes the baton, posts the wish and waits.

var (
	errHijacked   = errors.New("flare: the connection has been hijacked")
	errHijackLate = errors.New("flare: Hijack after the response was committed")
	errHijackNone = fmt.Errorf("flare: Hijack of a request whose connection is not its own, as over HTTP/2: %w", errors.ErrUnsupported)
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
	w.x.srv.connClosed(w.x.strand.loop(), w.known(conn), w.x.stream.session().peerAddr(), http.StateHijacked)
	r := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(rest), conn), max(4096, len(rest)))
	r.Peek(len(rest)) // Buffered tells what has arrived, as net/http's does
	return conn, bufio.NewReadWriter(r, bufio.NewWriter(conn)), nil
}

// hijackable reports whether there is a connection that could be taken over: not
// one that carries other requests too, nor one that is in a test's memory.
func (w *serverResponse) hijackable() bool { return w.x.stream.takeable() }

// takeOver takes the connection from its loop, and returns it with what the
// client has sent behind the head. The server goes on counting it, until the
// caller has it do connClosed.
func (w *serverResponse) takeOver() (conn net.Conn, rest []byte, err error) {
	switch {
	case w.hijacked:
		return nil, nil, errHijacked
	case !w.hijackable():
		return nil, nil, errHijackNone
	}
	return w.x.stream.takeOver()
}

// known is what hooks know the connection by, which was taken over as conn. That
// of another server is known to its hooks by nothing else.
func (w *serverResponse) known(conn net.Conn) net.Conn {
	if c := w.x.stream.ownConn(); c != nil {
		return c.limits.known
	}
	return conn
}
