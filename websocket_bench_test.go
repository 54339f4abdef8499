//go:build linux || darwin

package flare

import (
	"bytes"
	"fmt"
	"testing"
)

// An echo on the loop allocates nothing.
func TestWebSocketEchoAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector nothing is reused")
	}
	h := wsEcho(WebSocketOptions{})
	p := newPairServer(t, &Server{Handler: Inline(h)})
	if got := p.roundTrip(t, []byte(wsTestHandshake+"\r\n")); !bytes.HasPrefix(got, []byte("HTTP/1.1 101 ")) {
		t.Fatalf("%q", got)
	}
	frame := wsFrame(0x81, "hello, world", true)
	if allocs := testing.AllocsPerRun(200, func() {
		if got := p.roundTrip(t, frame); string(got) != "\x81\x0chello, world" {
			t.Fatalf("%q", got)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations an echo", allocs)
	}
}

func BenchmarkWebSocketEcho(b *testing.B) {
	for _, size := range []int{16, 1 << 10, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			h := wsEcho(WebSocketOptions{})
			p := newPairServer(b, &Server{Handler: Inline(h)})
			p.roundTrip(b, []byte(wsTestHandshake+"\r\n"))
			frame := wsFrame(0x82, string(wsRandom(size)), true)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				p.roundTrip(b, frame)
			}
		})
	}
}
