package flare

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"
)

// A connection that waits costs its struct: one more word and it would take up
// the next size class of the allocator, for each of a million.
func TestConnSize(t *testing.T) {
	const sizeClass = 320
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("size classes are looked at for 64 bits")
	}
	if size := unsafe.Sizeof(struct {
		Conn
		httpConn
	}{}); size > sizeClass {
		t.Errorf("%d bytes, more than %d", size, sizeClass)
	}
}

// What a peer does not take, and the part of a message that has come, are in
// the server's count until they are gone.
func TestOutboxBuffered(t *testing.T) {
	message := []byte(strings.Repeat("m", 10<<10))
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			ws, c, s := wsPair(t, style, WebSocketOptions{QueuePolicy: QueueDropOldest, MaxQueueBytes: 256 << 10})
			var full atomic.Bool
			for range 2 { // a blocking one that sends waits for the peer, and the other fills the queue
				go func() {
					for !full.Load() && ws.Write(context.Background(), BinaryMessage, message) == nil {
					}
				}()
			}
			eventually(t, "the queue to fill", func() bool { return s.buffered.Load() >= 200<<10 })
			full.Store(true)
			if n := s.buffered.Load(); n > 2<<20 {
				t.Errorf("%d bytes of a queue with room for 256 KiB", n)
			}
			c.Close()
			if style == "blocking" {
				ws.blocking().finish(ErrClosed, false)
			}
			gone(t, s)
			eventually(t, "the end of all buffers", func() bool { return s.buffered.Load() == 0 })
		})
	}
	t.Run("caught up", func(t *testing.T) {
		ws, c, s := wsPair(t, "loop", WebSocketOptions{QueuePolicy: QueueDropOldest, MaxQueueBytes: 256 << 10})
		for s.buffered.Load() < 200<<10 {
			if err := ws.Write(context.Background(), BinaryMessage, message); err != nil {
				t.Fatal(err)
			}
		}
		ws.Close(CloseNormal, "")
		if got := wsRestOf(t, c); !strings.HasSuffix(got, "close 1000 \"\"\n") {
			t.Errorf("%q", tail([]byte(got)))
		}
		eventually(t, "the end of all buffers", func() bool { return s.buffered.Load() == 0 })
	})
	t.Run("part of a message", func(t *testing.T) {
		_, c, s := wsPair(t, "loop", WebSocketOptions{})
		c.send(string(wsFrame(0x02, string(message), true)))
		eventually(t, "the message to be kept", func() bool { return s.buffered.Load() >= int64(len(message)) })
		c.send(string(wsFrame(0x80, "", true)))
		eventually(t, "the message to be handed out", func() bool { return s.buffered.Load() == 0 })
		c.send(string(wsFrame(0x02, string(message), true)))
		eventually(t, "the next to be kept", func() bool { return s.buffered.Load() >= int64(len(message)) })
		c.Close()
		gone(t, s)
		if n := s.buffered.Load(); n != 0 {
			t.Errorf("%d bytes are still counted", n)
		}
	})
}

// wsRestOf reads up to and with the server's close frame, and answers it.
func wsRestOf(t *testing.T, c *rawClient) string {
	t.Helper()
	c.send(string(wsFrame(0x88, "\x03\xe8", true)))
	return wsRest(t, c)
}

// Shedding idle connections is not the server's end: WebSockets stay, and are
// told only then.
func TestShedSparesWebSockets(t *testing.T) {
	for style, h := range wsStyles(WebSocketOptions{}) {
		t.Run(style, func(t *testing.T) {
			s := &Server{Handler: h, Loops: 1}
			ws := wsDial(t, TestServer(t, s), WebSocketOptions{})
			ctx := wsPatience(t)
			s.drain(false)
			for range 2 { // rounds of the loop: the drain is in the first
				done := make(chan struct{})
				s.loops[0].call(func() { close(done) })
				<-done
			}
			if err := ws.WriteText(ctx, "still here"); err != nil {
				t.Fatal(err)
			}
			if _, p, err := ws.Read(ctx); err != nil || string(p) != "still here" {
				t.Fatalf("%q, %v", p, err)
			}
			go s.Shutdown(ctx)
			_, _, err := ws.Read(ctx)
			if ce, ok := err.(*CloseError); !ok || ce.Code != CloseGoingAway {
				t.Errorf("%v", err)
			}
		})
	}
}

// A heldConn returns from Write when it is let go, after the bytes have left.
type heldConn struct {
	net.Conn
	left  chan struct{}
	letGo chan struct{}
}

func (c *heldConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.left <- struct{}{}
	<-c.letGo
	return n, err
}

// A message that has left was written, also when the connection ends before
// Write is back: its answer may have come by then.
func TestWriteThatLeft(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	nc := &heldConn{client, make(chan struct{}), make(chan struct{})}
	ws := &newBlockingSocket(nc, newWebSocketProfile(new(handshake), new(WebSocketOptions), true), nil, nil).ws
	go server.Read(make([]byte, 64))
	wrote := make(chan error, 1)
	go func() { wrote <- ws.WriteText(context.Background(), "left") }()
	<-nc.left
	ws.blocking().finish(ErrClosed, false)
	close(nc.letGo)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if err := ws.WriteText(context.Background(), "late"); err != ErrClosed {
		t.Errorf("%v", err)
	}
}
