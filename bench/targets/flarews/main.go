// Command flarews serves the benchmark's WebSockets with flare, on the loop.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"sync"

	"flare"
)

// members has the connections of /all.
type members struct {
	mu  sync.Mutex
	set map[*flare.WebSocket]bool
}

func (m *members) handler() *flare.WebSocketHandler {
	return &flare.WebSocketHandler{
		OnOpen: func(ws *flare.WebSocket, _ *flare.Request) error {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.set[ws] = true
			return nil
		},
		OnMessage: func(_ *flare.WebSocket, kind flare.MessageKind, p []byte) error {
			prepared, err := flare.NewPreparedMessage(kind, p)
			if err != nil {
				return err
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			flare.Broadcast(func(yield func(*flare.WebSocket) bool) {
				for ws := range m.set {
					if !yield(ws) {
						return
					}
				}
			}, prepared)
			return nil
		},
		OnClose: func(ws *flare.WebSocket, _ flare.CloseCode, _ string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			delete(m.set, ws)
		},
	}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.String("type", "", "taken like other targets do; a WebSocket has none")
	loops := flag.Int("loops", 0, "event loops, 0 is one for each processor")
	flag.Parse()

	mux := flare.NewMux()
	mux.Handle("/ws", &flare.WebSocketHandler{
		OnMessage: func(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
			return ws.Write(context.Background(), kind, p)
		},
	})
	mux.Handle("/all", (&members{set: make(map[*flare.WebSocket]bool)}).handler())
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("flarews: serving on ws://%s\n", l.Addr())
	log.Fatal((&flare.Server{Handler: mux, Loops: *loops}).Serve(l))
}
