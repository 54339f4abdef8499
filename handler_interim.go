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

func (w *serverResponse) Informational(code int, h *Header) error {
	switch {
	case code < 100 || code > 199 || code == http.StatusSwitchingProtocols:
		return fmt.Errorf("flare: Informational with status %d", code)
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
	return w.x.stream.setReadDeadline(t)
}

func (w *serverResponse) SetWriteDeadline(t time.Time) error {
	return w.x.stream.setWriteDeadline(t)
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

// eventStream begins the response of ResponseWriter.EventStream.
func (w *serverResponse) eventStream() error {
	if w.begun || w.answered {
		return errAnswered
	}
	w.answered = true
	w.header.Set("Content-Type", "text/event-stream")
	w.header.Set("Cache-Control", "no-cache")
	return w.Flush()
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
