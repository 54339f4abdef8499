package flare

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// This file is layer 4 (roles): what a handler may do while its response is on
// the way: interim answers, deadlines of its own, and events sent one by one.

// Informational sends an interim response at once, such as 103 (Early Hints,
// RFC 8297), with the fields of h, which may be nil. It does nothing for a
// client of HTTP/1.0 (RFC 9110 §15.2). 101 is not for it.
func (w *ResponseWriter) Informational(code int, h *Header) error {
	w.check()
	switch {
	case code < 100 || code > 199 || code == http.StatusSwitchingProtocols:
		return fmt.Errorf("flare: Informational with status %d", code)
	case w.begun:
		return errors.New("flare: Informational after the response was committed")
	case w.r.head.minor == 0:
		return nil
	}
	if h == nil {
		h = new(Header)
	}
	if err := h.fault(); err != nil {
		return err
	}
	if w.via != nil {
		return w.via.sendInterim(code, h)
	}
	g := w.c.workset
	if w.r.head.expectContinue {
		w.r.body.lockInterim(g)
		defer w.r.body.interim.Unlock()
	}
	g.out = h.appendTo(appendStatusLine(g.out, code))
	g.out = append(g.out, '\r', '\n')
	return w.c.sendWait(nil)
}

// SetReadDeadline bounds the time that reads of this request's body may wait.
// A read that would wait longer fails with a 408. The zero time takes the bound
// away, and BodyTimeout and MinBodyRate with it, for this request: its client may
// then be silent for as long as it likes.
func (w *ResponseWriter) SetReadDeadline(t time.Time) error {
	w.check()
	if w.via != nil {
		return w.via.setReadDeadline(t)
	}
	w.c.workset.readBy.set(handlerDeadline(t))
	return nil
}

// SetWriteDeadline bounds the time that writes of this response may wait. A
// write that would wait longer fails with ErrTimeout and breaks the
// connection. The zero time takes the bound away, and WriteTimeout and
// MinWriteRate with it, while the handler runs.
func (w *ResponseWriter) SetWriteDeadline(t time.Time) error {
	w.check()
	if w.via != nil {
		return w.via.setWriteDeadline(t)
	}
	w.c.workset.writeBy.set(handlerDeadline(t))
	return nil
}

// A ServerSentEvent is one event of an event stream (HTML, §9.2).
type ServerSentEvent struct {
	ID    string        // may be empty; one line
	Type  string        // may be empty; one line
	Data  string        // any number of lines
	Retry time.Duration // how long the client waits before it reconnects; 0 leaves it as it is
}

// An EventStream sends events to one client. It is for the handler's
// goroutine.
type EventStream struct{ w *ResponseWriter }

// EventStream commits a response of type text/event-stream. The handler then
// sends until r.Context() ends.
func (w *ResponseWriter) EventStream() (*EventStream, error) {
	w.check()
	if w.begun || w.answered {
		return nil, errAnswered
	}
	w.answered = true
	w.header.Set("Content-Type", "text/event-stream")
	w.header.Set("Cache-Control", "no-cache")
	return &EventStream{w}, w.Flush()
}

// Send sends an event at once. It waits while the client does not read.
func (s *EventStream) Send(e ServerSentEvent) error {
	if strings.ContainsAny(e.ID, "\r\n\x00") || strings.ContainsAny(e.Type, "\r\n") {
		return errors.New("flare: line break in the ID or type of an event")
	}
	var b []byte
	if e.ID != "" {
		b = append(append(append(b, "id: "...), e.ID...), '\n')
	}
	if e.Type != "" {
		b = append(append(append(b, "event: "...), e.Type...), '\n')
	}
	if e.Retry > 0 {
		b = append(strconv.AppendInt(append(b, "retry: "...), e.Retry.Milliseconds(), 10), '\n')
	}
	return s.send(appendLines(b, "data: ", e.Data))
}

// Comment sends a comment, which clients ignore: it keeps proxies from closing
// a silent connection.
func (s *EventStream) Comment(text string) error {
	return s.send(appendLines(nil, ": ", text))
}

func (s *EventStream) send(b []byte) error {
	if _, err := s.w.Write(append(b, '\n')); err != nil {
		return err
	}
	return s.w.Flush()
}

// lineEnds makes LF of all three ends of line that clients know.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// appendLines appends text with prefix before each of its lines.
func appendLines(b []byte, prefix, text string) []byte {
	for line := range strings.SplitSeq(lineEnds.Replace(text), "\n") {
		b = append(append(append(b, prefix...), line...), '\n')
	}
	return b
}
