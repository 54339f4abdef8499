package main

import (
	"context"
	"maps"
	"sync"
	"time"

	"flare"
)

// wsEcho sends every message back, text and binary, compressed when the client
// offers it. OnMessage is plain blocking Go: Write waits while the client does
// not read.
func wsEcho() *flare.WebSocketHandler {
	return &flare.WebSocketHandler{
		WebSocketOptions: flare.WebSocketOptions{
			Compression:     flare.CompressionOn,
			MaxMessageBytes: 16 << 20, // the largest that conformance suites send
		},
		OnMessage: func(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
			return ws.Write(context.Background(), kind, p)
		},
	}
}

// A wsClock sends the time to all who listen, once a second. There is one
// goroutine while anybody listens, whatever their number.
type wsClock struct {
	mu        sync.Mutex
	listeners map[*flare.WebSocket]bool
	ticking   bool
}

func (c *wsClock) handler() *flare.WebSocketHandler {
	return &flare.WebSocketHandler{
		// Who does not keep up misses old times, not new ones.
		WebSocketOptions: flare.WebSocketOptions{QueuePolicy: flare.QueueDropOldest, MaxQueueBytes: 1 << 10},
		OnOpen: func(ws *flare.WebSocket, r *flare.Request) error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.listeners == nil {
				c.listeners = make(map[*flare.WebSocket]bool)
			}
			c.listeners[ws] = true
			if !c.ticking {
				c.ticking = true
				go c.tick()
			}
			return ws.WriteText(context.Background(), time.Now().Format(time.RFC3339))
		},
		OnClose: func(ws *flare.WebSocket, code flare.CloseCode, reason string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.listeners, ws)
		},
	}
}

// tick runs until nobody listens.
func (c *wsClock) tick() {
	for range time.Tick(time.Second) {
		if !c.tell(time.Now()) {
			return
		}
	}
}

// tell sends the time, and reports whether anybody was there.
func (c *wsClock) tell(now time.Time) bool {
	m, _ := flare.NewPreparedMessage(flare.TextMessage, []byte(now.Format(time.RFC3339))) // it is UTF-8
	c.mu.Lock()
	defer c.mu.Unlock()
	flare.Broadcast(maps.Keys(c.listeners), m) // never waits
	c.ticking = len(c.listeners) > 0
	return c.ticking
}
