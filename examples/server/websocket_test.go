package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"flare"
)

// The echo takes what conformance suites send, up to 16 MiB, and refuses more.
func TestWebSocketEcho(t *testing.T) {
	if testing.Short() {
		t.Skip("megabytes through a socket")
	}
	p := start(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const most = 16 << 20
	for _, mode := range []flare.Compression{flare.CompressionOff, flare.CompressionOn, flare.CompressionTakeover} {
		ws, _, err := flare.DialWebSocket(ctx, "ws"+strings.TrimPrefix(p.url, "http")+"/ws", &flare.WebSocketDialOptions{
			WebSocketOptions: flare.WebSocketOptions{Compression: mode, MaxMessageBytes: most, CloseTimeout: time.Second},
		})
		if err != nil {
			t.Fatal(err)
		}
		text := []byte(strings.Repeat("BAsd7&jh", most/8))
		if mode != flare.CompressionOff { // what compresses so well is taken for a bomb
			text = text[:1<<20]
		}
		for _, kind := range []flare.MessageKind{flare.TextMessage, flare.BinaryMessage} {
			if err := ws.Write(ctx, kind, text); err != nil {
				t.Fatal(err)
			}
			if got, echo, err := ws.Read(ctx); err != nil || got != kind || string(echo) != string(text) {
				t.Fatalf("%v of %d bytes came back as %v of %d: %v", kind, len(text), got, len(echo), err)
			}
		}
		if mode == flare.CompressionOff {
			// In fragments, so that nothing is on its way any more when the server
			// has had enough: it would reset, and that could overtake its answer.
			w, err := ws.Writer(ctx, flare.BinaryMessage)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(make([]byte, most+1))
			w.Close()
			_, _, err = ws.Read(ctx)
			var closed *flare.CloseError
			if !errors.As(err, &closed) || closed.Code != flare.CloseMessageTooBig {
				t.Errorf("one byte more: %v", err)
			}
		}
		ws.Close(flare.CloseNormal, "")
	}
}
