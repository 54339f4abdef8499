package flare

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"
)

// This file is layer 4 (roles): a stream of events for one client (HTML, §9.2).
// event_hub.go sends them to many.

// A ServerSentEvent is one event of an event stream (HTML, §9.2).
type ServerSentEvent struct {
	ID    string        // may be empty; one line
	Type  string        // may be empty; one line
	Data  string        // any number of lines
	Retry time.Duration // how long the client waits before it reconnects; 0 leaves it as it is
}

// An EventStream sends events to one client. It is for the handler's
// goroutine. From its beginning on r.Context() also ends, with ErrServerClosed as
// its cause, when the server's Shutdown begins: a stream has no end of its own, and
// its client comes back, to another server.
type EventStream struct {
	w *ResponseWriter
	r *Request
}

// LastEventID is the ID of the last event that the client has received, on an
// earlier connection; "" if it says nothing of one. The client may say anything.
func (s *EventStream) LastEventID() string {
	return s.r.Header().Get("Last-Event-ID")
}

// Send sends an event at once. It waits while the client does not read. An ID or type
// with a line break is an error, and nothing is sent.
func (s *EventStream) Send(e ServerSentEvent) error {
	b, err := e.append(nil)
	if err != nil {
		return err
	}
	return s.send(b)
}

// SendFrom sends what comes from events, and a comment whenever nothing has come for
// as long as heartbeat (0: 15 s, negative: none), so that proxies keep the connection
// and a client that has left is noticed. It returns nil when events is closed, when
// the client has left, and when the server shuts down.
func (s *EventStream) SendFrom(events <-chan ServerSentEvent, heartbeat time.Duration) error {
	if err := s.w.Flush(); err != nil { // the handler has returned, for example
		return err
	}
	ctx := s.r.Context()
	beat := newHeartbeat(heartbeat)
	defer beat.stop()
	for {
		select {
		case <-ctx.Done():
			return endOfEvents(ctx)
		case e, ok := <-events:
			if !ok {
				return nil
			}
			if err := s.Send(e); err != nil {
				return err
			}
		case <-beat.due:
			if err := s.Comment(""); err != nil {
				return err
			}
		}
		beat.restart()
	}
}

// endOfEvents is what a stream of events ends with whose context has ended: nothing,
// unless that is the doing of the user's.
func endOfEvents(ctx context.Context) error {
	switch cause := context.Cause(ctx); cause {
	case ErrServerClosed, errPeerLeft:
		return nil
	default:
		return cause
	}
}

// heartbeatDefault is below what the usual proxies take for the end of a silent
// response, 30 to 60 s.
const heartbeatDefault = 15 * time.Second

// A heartbeat is due when a stream has been silent for too long.
type heartbeat struct {
	timer *time.Timer // nil: never
	every time.Duration
	due   <-chan time.Time
}

func newHeartbeat(every time.Duration) *heartbeat {
	if every < 0 {
		return new(heartbeat)
	}
	if every == 0 {
		every = heartbeatDefault
	}
	timer := time.NewTimer(every)
	return &heartbeat{timer, every, timer.C}
}

func (h *heartbeat) restart() {
	if h.timer != nil {
		h.timer.Reset(h.every)
	}
}

func (h *heartbeat) stop() {
	if h.timer != nil {
		h.timer.Stop()
	}
}

// Comment sends a comment, which clients ignore: it keeps proxies from closing
// a silent connection.
func (s *EventStream) Comment(text string) error {
	return s.send(append(appendLines(nil, ": ", text), '\n'))
}

func (s *EventStream) send(b []byte) error {
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.w.Flush()
}

// append appends e as it is sent.
func (e *ServerSentEvent) append(b []byte) ([]byte, error) {
	if strings.ContainsAny(e.ID, "\r\n\x00") || strings.ContainsAny(e.Type, "\r\n") {
		return nil, errors.New("flare: line break in the ID or type of an event")
	}
	if e.ID != "" {
		b = append(append(append(b, "id: "...), e.ID...), '\n')
	}
	if e.Type != "" {
		b = append(append(append(b, "event: "...), e.Type...), '\n')
	}
	if e.Retry > 0 {
		b = append(strconv.AppendInt(append(b, "retry: "...), e.Retry.Milliseconds(), 10), '\n')
	}
	return append(appendLines(b, "data: ", e.Data), '\n'), nil
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
