package flare

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// This file is layer 4 (roles): what a handler may do while its response is on
// the way: interim answers, and deadlines of its own.

func (w *serverResponse) Informational(code int, h *Header) error {
	switch {
	case code < 100 || code > 199 || code == http.StatusSwitchingProtocols:
		return fmt.Errorf("flare: Informational with status %d", code)
	case w.hijacked:
		return errHijacked
	case w.begun:
		return errors.New("flare: Informational after the response was committed")
	}
	if h == nil {
		h = new(Header)
	}
	fields := h.snapshot()
	if fields.err != nil {
		return fields.err
	}
	return w.x.stream.sendInterim(code, fields)
}

func (w *serverResponse) SetReadDeadline(t time.Time) error {
	if w.hijacked {
		return errHijacked
	}
	return w.x.stream.setReadDeadline(t)
}

func (w *serverResponse) SetWriteDeadline(t time.Time) error {
	if w.hijacked {
		return errHijacked
	}
	return w.x.stream.setWriteDeadline(t)
}

// eventStream begins the response of ResponseWriter.EventStream.
func (w *serverResponse) eventStream() error {
	switch {
	case w.hijacked:
		return errHijacked
	case w.begun || w.answered:
		return errAnswered
	}
	w.answered = true
	w.header.Set("Content-Type", "text/event-stream")
	w.header.Set("Cache-Control", "no-cache")
	w.x.stream.context()
	w.x.strand.endWith(w.x.srv.onEnd.context(), ErrServerClosed)
	return w.Flush()
}
