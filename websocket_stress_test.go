package flare

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A room of clients whose handlers wait, spin and broadcast, on few loops, with
// members that come and go: every echo arrives, in order and whole, and nothing
// is left behind.
func TestWebSocketStress(t *testing.T) {
	for name, pin := range map[string]Middleware{"learned": func(h Handler) Handler { return h }, "inline": Inline, "offload": Offload} {
		t.Run(name, func(t *testing.T) { stressWebSockets(t, pin) })
	}
}

func stressWebSockets(t *testing.T, pin Middleware) {
	var mu sync.Mutex
	room := make(map[*WebSocket]bool)
	var closed atomic.Int64
	h := &WebSocketHandler{
		WebSocketOptions: WebSocketOptions{Compression: CompressionTakeover, MaxQueueBytes: 256 << 10},
		OnOpen: func(ws *WebSocket, r *Request) error {
			mu.Lock()
			defer mu.Unlock()
			room[ws] = true
			return nil
		},
		OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
			switch rand.IntN(200) {
			case 0:
				time.Sleep(15 * time.Millisecond)
			case 1:
				for end := time.Now().Add(12 * time.Millisecond); time.Now().Before(end); {
				}
			case 2:
				m, _ := NewPreparedMessage(TextMessage, bytes.Repeat([]byte("to all "), rand.IntN(300)))
				mu.Lock()
				Broadcast(maps.Keys(room), m)
				mu.Unlock()
			case 3: // a part before, and a part after a wait
				ws.Ping(context.Background(), nil)
				time.Sleep(time.Millisecond)
			}
			return ws.Write(context.Background(), kind, p)
		},
		OnClose: func(ws *WebSocket, code CloseCode, reason string) {
			mu.Lock()
			defer mu.Unlock()
			delete(room, ws)
			closed.Add(1)
		},
	}
	s := &Server{Handler: pin(h), Loops: 2}
	url := TestServer(t, s)
	const clients, rounds, deep = 24, 12, 20
	var opened atomic.Int64
	var wg sync.WaitGroup
	for n := range clients {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			rng := rand.New(rand.NewPCG(uint64(n), 1))
			for round := range rounds {
				ws := wsDial(t, url, WebSocketOptions{Compression: Compression(n % 3)})
				opened.Add(1)
				sent := make(chan []byte, deep)
				written := make(chan struct{})
				go func() {
					defer close(written)
					for i := range deep {
						p := fmt.Appendf(nil, "%d %d %d ", n, round, i)
						p = append(p, bytes.Repeat([]byte{byte(i)}, rng.IntN(1<<rng.IntN(16)))...)
						sent <- p
						if err := ws.Write(ctx, BinaryMessage, p); err != nil {
							t.Error(err)
							return
						}
					}
				}()
				for i := 0; i < deep; {
					kind, p, err := ws.Read(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					if kind == TextMessage {
						continue // a broadcast
					}
					if want := <-sent; !bytes.Equal(p, want) {
						t.Errorf("client %d, message %d: %d bytes %.20q, want %d %.20q", n, i, len(p), p, len(want), want)
						return
					}
					i++
				}
				<-written
				if round%3 == 0 {
					ws.blocking().finish(ErrClosed, false) // without a word
				} else if err := ws.Close(CloseNormal, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	gone(t, s)
	eventually(t, "the end of all buffers", func() bool { return s.buffered.Load() == 0 })
	mu.Lock()
	defer mu.Unlock()
	if closed.Load() != opened.Load() || len(room) != 0 {
		t.Errorf("%d opened, %d closed, %d in the room", opened.Load(), closed.Load(), len(room))
	}
	t.Logf("%+v", s.Stats().Handlers)
}
