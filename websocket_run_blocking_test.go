package flare

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// What is sent in several rounds, since others write meanwhile, is counted out as
// it was counted in.
func TestWebSocketCountsRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		b := newBlockingSocket(server, newWebSocketProfile(new(handshake), new(WebSocketOptions), false), nil, nil)
		var count bufferCount
		b.count(&count)
		before := count.Load()
		text := make([]byte, 1000)
		for range 4 { // a writer that sends, the rest behind it, and what comes behind that
			go b.ws.Write(context.Background(), BinaryMessage, text)
			synctest.Wait()
		}
		frame := len(text) + 4
		for range 2 {
			io.ReadFull(client, make([]byte, 2*frame-1)) // the round of the last octet goes on
			synctest.Wait()
			go b.ws.Write(context.Background(), BinaryMessage, text)
			synctest.Wait()
		}
		io.ReadFull(client, make([]byte, 6*frame-2*(2*frame-1)))
		synctest.Wait()
		if n := count.Load(); n != before {
			t.Errorf("%d bytes are counted behind what was sent, %d before", n, before)
		}
		b.finish(ErrClosed, false)
		if n := count.Load(); n != 0 {
			t.Errorf("%d bytes are counted at the end", n)
		}
	})
}
