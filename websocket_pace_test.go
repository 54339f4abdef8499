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
			ws, c, _ := wsPair(t, style, WebSocketOptions{WriteTimeout: 600 * time.Millisecond, MaxQueueBytes: size, Heartbeat: -1})
			done := make(chan error, 1)
			go func() { done <- ws.Write(context.Background(), BinaryMessage, make([]byte, size)) }()
			read, piece := 0, make([]byte, 32<<10)
			for read < size {
				n, err := c.br.Read(piece)
				if err != nil {
					t.Fatalf("after %d bytes: %v", read, err)
				}
				read += n
				time.Sleep(time.Duration(n) * time.Second / (2 << 20)) // the pace of the peer: 2 MiB/s
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			c.Close()
		})
	}
}
