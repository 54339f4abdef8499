package flare

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// This file is layer 4 (roles): events for many clients at once, each with a queue of
// its own that is bounded. event_stream.go has the stream of one.

// A Hub sends events to all clients that have a stream of it: a Handler whose
// requests are the streams. An event is encoded once. The zero value is ready; fields
// must not be changed once it serves.
type Hub struct {
	// MaxQueueBytes bounds what waits for one client; default 256 KiB.
	MaxQueueBytes int

	// QueuePolicy says what becomes of an event that a client's queue has no room
	// for. With QueueBlock that client does not get it, since Broadcast waits for
	// nobody. A client whose connection is dropped comes back, and says which event
	// was its last.
	QueuePolicy QueuePolicy

	// MaxHistory is how many of the last events that have an ID are kept, within
	// MaxQueueBytes, for clients that come back: whoever names one of them gets those
	// behind it, and whoever names another gets all. Default none.
	MaxHistory int

	// Heartbeat is the silence after which a client is sent a comment; default 15 s,
	// negative for none.
	Heartbeat time.Duration

	mu      sync.Mutex
	clients map[*hubClient]struct{} // guarded by mu
	history []hubEvent              // guarded by mu; oldest first
	kept    int                     // guarded by mu; octets of history
}

// hubQueueBytesDefault is some thousand events of the usual size.
const hubQueueBytesDefault = 256 << 10

// A hubEvent is an event as it is sent. It is never changed.
type hubEvent struct {
	id   string
	text []byte
}

// A hubClient is a stream of a Hub.
type hubClient struct {
	w    *ResponseWriter
	wake chan struct{} // has one element while there may be something to do

	mu      sync.Mutex
	queue   [][]byte // guarded by mu; of hubEvents
	bytes   int      // guarded by mu; of queue
	dropped bool     // guarded by mu; for QueueDropConnection
}

func (h *Hub) queueBytesMax() int {
	if h.MaxQueueBytes == 0 {
		return hubQueueBytesDefault
	}
	return h.MaxQueueBytes
}

// Broadcast sends e to each of the clients and returns how many took it. It never
// waits. What it sends is received in that order. An event that no queue could hold
// is ErrTooLarge, and one with a line break in its ID or type an error; neither is
// sent. Any goroutine may call it.
func (h *Hub) Broadcast(e ServerSentEvent) (sent int, err error) {
	text, err := e.append(nil)
	if err != nil {
		return 0, err
	}
	most := h.queueBytesMax()
	if most >= 0 && len(text) > most {
		return 0, fmt.Errorf("flare: an event of %d bytes for queues of %d: %w", len(text), most, ErrTooLarge)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.ID != "" && h.MaxHistory > 0 {
		h.keep(hubEvent{e.ID, text}, most)
	}
	for c := range h.clients {
		if c.put(text, most, h.QueuePolicy) {
			sent++
		}
	}
	return sent, nil
}

// Len returns the number of clients. Any goroutine may call it.
func (h *Hub) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients)
}

// Serve is one client's stream. It ends when the client has left, when the server
// shuts down, and by QueueDropConnection.
func (h *Hub) Serve(w *ResponseWriter, r *Request) error {
	events, err := w.EventStream()
	if err != nil {
		return err
	}
	ctx := r.Context()
	c := h.join(w, events.LastEventID())
	defer h.leave(c)
	beat := newHeartbeat(h.Heartbeat)
	defer beat.stop()
	for {
		if wrote, err := c.send(events); err != nil {
			return err
		} else if wrote {
			beat.restart()
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return endOfEvents(ctx)
		case <-beat.due:
			if err := events.Comment(""); err != nil {
				return err
			}
			beat.restart()
		}
	}
}

// pinned: a stream waits for nearly all of its life.
func (h *Hub) pinned() pin { return pinOffload }

// keep keeps e for those who come back. h.mu is held.
func (h *Hub) keep(e hubEvent, most int) {
	h.history = append(h.history, e)
	h.kept += len(e.text)
	drop := 0
	for len(h.history)-drop > h.MaxHistory || most >= 0 && h.kept > most {
		h.kept -= len(h.history[drop].text)
		h.history[drop] = hubEvent{}
		drop++
	}
	h.history = h.history[drop:]
}

// join begins a stream behind the event with an ID, "" for the next one.
func (h *Hub) join(w *ResponseWriter, lastID string) *hubClient {
	c := &hubClient{w: w, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if lastID != "" {
		missed := h.history
		for i := len(missed) - 1; i >= 0; i-- {
			if missed[i].id == lastID {
				missed = missed[i+1:]
				break
			}
		}
		for _, e := range missed {
			c.queue = append(c.queue, e.text)
			c.bytes += len(e.text)
		}
	}
	if h.clients == nil {
		h.clients = make(map[*hubClient]struct{})
	}
	h.clients[c] = struct{}{}
	return c
}

func (h *Hub) leave(c *hubClient) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
}

// put queues an event. It reports whether c will get it.
func (c *hubClient) put(text []byte, most int, policy QueuePolicy) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for most >= 0 && c.bytes+len(text) > most {
		switch policy {
		case QueueDropOldest:
			c.bytes -= len(c.queue[0])
			c.queue[0], c.queue = nil, c.queue[1:]
			continue
		case QueueDropConnection:
			if !c.dropped {
				c.dropped = true
				c.w.SetWriteDeadline(longAgo) // a write that waits fails
			}
		}
		c.notify()
		return false
	}
	if c.dropped {
		return false
	}
	c.queue = append(c.queue, text)
	c.bytes += len(text)
	c.notify()
	return true
}

func (c *hubClient) notify() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// send sends what is queued. It reports whether there was anything.
func (c *hubClient) send(events *EventStream) (wrote bool, err error) {
	var b []byte
	for {
		if b, err = c.take(b[:0]); err != nil || len(b) == 0 {
			return wrote, err
		}
		if err := events.send(b); err != nil {
			return wrote, err
		}
		wrote = true
	}
}

// take appends events from the queue's front, as many as make a piece: those that
// are on the way no longer count for the bound.
func (c *hubClient) take(b []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped {
		return nil, http.ErrAbortHandler // its end must not look like one in order
	}
	for len(c.queue) > 0 && (len(b) == 0 || len(b)+len(c.queue[0]) <= streamBytes) {
		b = append(b, c.queue[0]...)
		c.bytes -= len(c.queue[0])
		c.queue[0], c.queue = nil, c.queue[1:]
	}
	if len(c.queue) == 0 {
		c.queue = nil // an idle client holds no memory
	}
	return b, nil
}
