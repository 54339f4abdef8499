package flare

import (
	"context"
	"testing"
	"time"
)

// A peer that reads steadily is not cut off, however long what is written takes,
// though what it takes shows in the socket only now and then.
func TestSteadySlowWebSocketReaders(t *testing.T) {
	t.Parallel()
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			const size = 8 << 20
			const limit = 600 * time.Millisecond
			ws, c, _ := wsPair(t, style, WebSocketOptions{WriteTimeout: limit, MaxQueueBytes: size, Heartbeat: -1})
			done := make(chan error, 1)
			go func() { done <- ws.Write(context.Background(), BinaryMessage, make([]byte, size)) }()
			read, piece, late := 0, make([]byte, 32<<10), time.Duration(0)
			for read < size {
				n, err := c.br.Read(piece)
				if err != nil && late > limit/4 {
					t.Skipf("this machine held the peer up for %v", late) // which was not steady then
				}
				if err != nil {
					t.Fatalf("after %d bytes: %v", read, err)
				}
				read += n
				pause := time.Duration(n) * time.Second / (2 << 20) // the pace of the peer: 2 MiB/s
				began := time.Now()
				time.Sleep(pause)
				late = max(late, time.Since(began)-pause)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			c.Close()
		})
	}
}

// A peer that has yet to take what stands before a ping has WriteTimeout for that:
// that it does not answer meanwhile says nothing.
func TestHeartbeatBehindWrites(t *testing.T) {
	t.Parallel()
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			const size, heartbeat = 8 << 20, 50 * time.Millisecond
			ws, c, s := wsPair(t, style, WebSocketOptions{WriteTimeout: patience, MaxQueueBytes: 4 * size, Heartbeat: heartbeat})
			c.send(string(wsFrame(0x8a, "", true)))
			go ws.Write(context.Background(), BinaryMessage, make([]byte, size))
			if style == "blocking" {
				go ws.Read(context.Background())
			}
			for range 8 {
				if time.Sleep(heartbeat); ws.run.closing() { // the peer's time
					t.Fatal("ended before the peer has had the time to take what was written")
				}
			}
			c.Close()
			gone(t, s)
		})
	}
}
