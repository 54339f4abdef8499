package flare

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// This file has WebSockets over TLS.

// WebSockets over TLS, on the loop and read by a handler: echo, a burst, other
// writers, and a close in order.
func TestTLSWebSocket(t *testing.T) {
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			opened := make(chan *WebSocket, 1)
			var h Handler = &WebSocketHandler{
				OnOpen: func(ws *WebSocket, r *Request) error { opened <- ws; return nil },
				OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
					return ws.Write(context.Background(), kind, p)
				},
			}
			if style == "blocking" {
				h = HandlerFunc(func(w *ResponseWriter, r *Request) error {
					ws, err := AcceptWebSocket(w, r, nil)
					if err != nil {
						return err
					}
					opened <- ws
					for {
						kind, p, err := ws.Read(context.Background())
						if err != nil {
							return nil
						}
						if err := ws.Write(context.Background(), kind, p); err != nil {
							return nil
						}
					}
				})
			}
			s := &Server{Handler: h}
			addr := startTLSServer(t, s)
			ws, ctx := dialTLSWebSocket(t, addr)
			for _, n := range []int{0, 1, 125, 126, 70_000, 300_000} {
				want := bytes.Repeat([]byte("w"), n)
				if err := ws.Write(ctx, BinaryMessage, want); err != nil {
					t.Fatal(err)
				}
				if _, got, err := ws.Read(ctx); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes: got %d, %v", n, len(got), err)
				}
			}
			const messages, writers = 200, 4
			server := <-opened
			var writing sync.WaitGroup
			for range writers {
				writing.Go(func() {
					for range messages {
						if err := server.Write(ctx, BinaryMessage, bytes.Repeat([]byte("m"), 5000)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			for range messages * writers {
				if _, got, err := ws.Read(ctx); err != nil || len(got) != 5000 {
					t.Fatalf("got %d, %v", len(got), err)
				}
			}
			writing.Wait()
			if err := ws.Close(CloseNormal, ""); err != nil {
				t.Error(err)
			}
			gone(t, s)
		})
	}
}

// What OnMessage writes leaves while it runs, also when it fills the queue.
func TestTLSWebSocketWritesInsideOnMessage(t *testing.T) {
	proceed := make(chan struct{})
	s := &Server{Loops: 1, Handler: &WebSocketHandler{
		WebSocketOptions: WebSocketOptions{MaxQueueBytes: 64 << 10},
		OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
			if err := ws.WriteText(context.Background(), "first"); err != nil {
				return err
			}
			<-proceed
			for range 200 {
				if err := ws.Write(context.Background(), BinaryMessage, make([]byte, 32<<10)); err != nil {
					return err
				}
			}
			return nil
		},
	}}
	addr := startTLSServer(t, s)
	ws, ctx := dialTLSWebSocket(t, addr)
	defer ws.Close(CloseNormal, "")
	if err := ws.WriteText(ctx, "go"); err != nil {
		t.Fatal(err)
	}
	if _, got, err := ws.Read(ctx); err != nil || string(got) != "first" {
		t.Fatalf("%q, %v", got, err)
	}
	close(proceed)
	for i := range 200 {
		if _, got, err := ws.Read(ctx); err != nil || len(got) != 32<<10 {
			t.Fatalf("message %d: %d bytes, %v", i, len(got), err)
		}
	}
}

// A peer that does not read loses whole messages where the policy says so, never
// a part of one: what is encrypted cannot be taken back.
func TestTLSWebSocketDropOldest(t *testing.T) {
	opened := make(chan *WebSocket, 1)
	s := &Server{Handler: &WebSocketHandler{
		WebSocketOptions: WebSocketOptions{MaxQueueBytes: 64 << 10, QueuePolicy: QueueDropOldest},
		OnOpen:           func(ws *WebSocket, r *Request) error { opened <- ws; return nil },
	}}
	addr := startTLSServer(t, s)
	ws, ctx := dialTLSWebSocket(t, addr)
	defer ws.Close(CloseNormal, "")
	server := <-opened
	const messages = 3000
	for i := range messages {
		text := strconv.Itoa(i) + strings.Repeat(".", 10_000)
		if err := server.WriteText(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	last, got := -1, 0
	for last < messages-1 {
		_, p, err := ws.Read(ctx)
		if err != nil {
			t.Fatalf("after message %d: %v", last, err)
		}
		digits, _, _ := strings.Cut(string(p), ".")
		n, err := strconv.Atoi(digits)
		if err != nil || n <= last || len(p) != len(digits)+10_000 {
			t.Fatalf("after %d came %q", last, digits)
		}
		last = n
		got++
	}
	if got == messages {
		t.Skip("the sockets took everything: nothing was dropped")
	}
}
