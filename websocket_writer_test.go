package flare

import (
	"bytes"
	"encoding/binary"
	"io"
	"sync"
	"testing"
)

// TestWriterClosedByAnother has one goroutine write to a message that another
// closes: each message has its own octets only, all that a Write has taken, and a
// Write behind Close fails.
func TestWriterClosedByAnother(t *testing.T) {
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			ws, c, _ := wsPair(t, style, WebSocketOptions{})
			ctx := wsPatience(t)
			for i := range 100 {
				octet := []byte{'a' + byte(i%26)}
				w, err := ws.Writer(ctx, BinaryMessage)
				if err != nil {
					t.Fatal(err)
				}
				taken, begun := 0, make(chan bool)
				var stray sync.WaitGroup
				stray.Go(func() {
					for {
						if taken == 1 {
							close(begun)
						}
						if _, err := w.Write(octet); err != nil {
							if err != errWriterClosed {
								t.Error(err)
							}
							return
						}
						taken++
					}
				})
				<-begun
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				other, err := ws.Writer(ctx, BinaryMessage) // may have the buffer
				if err != nil {
					t.Fatal(err)
				}
				other.Write([]byte("other"))
				stray.Wait()
				if err := other.Close(); err != nil {
					t.Fatal(err)
				}
				if got := wsMessageFrom(t, c); !bytes.Equal(got, bytes.Repeat(octet, taken)) {
					t.Fatalf("message %d has %d octets, of which %d were written", i, len(got), taken)
				}
				if got := wsMessageFrom(t, c); string(got) != "other" {
					t.Fatalf("the message behind it is %q", tail(got))
				}
			}
		})
	}
}

// wsMessageFrom reads one message of a server's, in fragments or not.
func wsMessageFrom(t *testing.T, c *rawClient) (message []byte) {
	t.Helper()
	for {
		var head [10]byte
		_, err := io.ReadFull(c.br, head[:2])
		n := uint64(head[1])
		switch n {
		case 126:
			_, err = io.ReadFull(c.br, head[8:])
			n = uint64(binary.BigEndian.Uint16(head[8:]))
		case 127:
			_, err = io.ReadFull(c.br, head[2:])
			n = binary.BigEndian.Uint64(head[2:])
		}
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, n)
		if _, err := io.ReadFull(c.br, p); err != nil {
			t.Fatal(err)
		}
		if message = append(message, p...); head[0]&0x80 != 0 {
			return message
		}
	}
}
