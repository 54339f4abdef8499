package flare

import (
	"bytes"
	"compress/flate"
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hostileOptions have short times, so that the ends are seen.
var hostileOptions = WebSocketOptions{
	Compression: CompressionOn, MaxQueueBytes: 64 << 10, WriteTimeout: 300 * time.Millisecond, CloseTimeout: 300 * time.Millisecond,
}

// hostileEcho echoes, and closes when it is told to.
func hostileEcho(ws *WebSocket, kind MessageKind, p []byte) error {
	if string(p) == "close" {
		go ws.Close(CloseNormal, "you asked") // which waits, in the blocking style
		return nil
	}
	return ws.Write(context.Background(), kind, p)
}

// hostileHandlers are the two styles of hostileEcho.
func hostileHandlers() map[string]Handler {
	return map[string]Handler{
		"loop": &WebSocketHandler{WebSocketOptions: hostileOptions, OnMessage: hostileEcho},
		"blocking": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			ws, err := AcceptWebSocket(w, r, &hostileOptions)
			for err == nil {
				var kind MessageKind
				var p []byte
				if kind, p, err = ws.Read(context.Background()); err == nil {
					err = hostileEcho(ws, kind, p)
				}
			}
			return nil // the peer's doing
		}),
	}
}

// Peers that want memory or patience, many of each at once: what they hold is
// bounded, each ends with the right code or in time, and the others notice
// nothing.
func TestWebSocketHostilePeers(t *testing.T) {
	const each = 4
	over := wsFrame(0x82, string(make([]byte, defaultMessageBytes+1)), true)
	const bombBytes = 16 << 20
	var squeezed bytes.Buffer
	fw, _ := flate.NewWriter(&squeezed, flate.BestCompression)
	fw.Write(make([]byte, bombBytes))
	fw.Flush()
	bomb := wsFrame(0xc2, strings.TrimSuffix(squeezed.String(), flateTail), true)
	if ratio := bombBytes / len(bomb); ratio < 1000 {
		t.Fatalf("a bomb of 1:%d only", ratio)
	}
	endless := append(wsFrameHead(0x82, 4<<30, true, 1), make([]byte, 1<<20)...)
	message := wsFrame(0x82, string(wsRandom(32<<10)), true) // which does not compress

	// closes sends something and reads the close frame, and the end.
	closes := func(wire []byte, want string) func(t *testing.T, c *rawClient) {
		return func(t *testing.T, c *rawClient) {
			go c.Write(wire) // the server may stop to take it
			if got := wsEvents(&messageReader{bytesMax: -1}, c.toEnd()); got != want {
				t.Errorf("%.100q, want %q", got, want)
			}
		}
	}
	peers := map[string]func(t *testing.T, c *rawClient){
		"one byte over the limit": closes(over, "close 1009 \"\"\n"),
		"4 GiB declared":          closes(endless, "close 1009 \"\"\n"),
		"bomb of 1,000:1":         closes(bomb, "close 1009 \"\"\n"),
		"never answers the close": closes(wsFrame(0x81, "close", true), "close 1000 \"you asked\"\n"),
		"never reads": func(t *testing.T, c *rawClient) {
			var err error
			for err == nil { // until the server has had enough
				_, err = c.Write(message)
			}
			if isTimeout(err) {
				t.Error("is still there")
			}
		},
	}
	for style, h := range hostileHandlers() {
		t.Run(style, func(t *testing.T) {
			s := &Server{Handler: h, Loops: 1, Logger: quietLogger()}
			url := TestServer(t, s)
			friend := wsDial(t, url, WebSocketOptions{})
			ctx, cancel := context.WithTimeout(context.Background(), 4*patience) // it goes on as long as they do
			defer cancel()

			var mem runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&mem)
			before := mem.HeapInuse

			var hostile sync.WaitGroup
			var done atomic.Bool
			for name, play := range peers {
				for range each {
					c := wsRaw(t, url, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
					hostile.Go(func() {
						defer c.Close()
						t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) { play(t, c) })
					})
				}
			}
			go func() {
				hostile.Wait()
				done.Store(true)
			}()

			var slowest time.Duration
			var most uint64
			text := bytes.Repeat([]byte("friend "), 20)
			for turn := 0; !done.Load(); turn++ {
				begun := time.Now()
				if err := friend.Write(ctx, TextMessage, text); err != nil {
					t.Fatal(err)
				}
				if _, p, err := friend.Read(ctx); err != nil || !bytes.Equal(p, text) {
					t.Fatalf("%q, %v", p, err)
				}
				slowest = max(slowest, time.Since(begun))
				if turn%16 == 0 { // it stops the world
					runtime.ReadMemStats(&mem)
					most = max(most, mem.HeapInuse)
				}
			}
			// Each may have a message, its inflated form and what waits for it,
			// twice for the collector's sake; without bounds it would be gigabytes.
			if limit := before + 2*each*uint64(len(peers))*(3<<20); most > limit {
				t.Errorf("the heap grew from %d to %d KiB", before>>10, most>>10)
			}
			if slowest > patience/2 {
				t.Errorf("an echo of another peer took %v", slowest)
			}
			t.Logf("heap %d to %d KiB at most, slowest echo beside them %v", before>>10, most>>10, slowest)
			friend.Close(CloseNormal, "")
			gone(t, s)
		})
	}
}
