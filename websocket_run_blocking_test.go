package flare

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
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

// CloseTimeout is the end, also where TLS would like to say so to a peer that does
// not read.
func TestWebSocketCloseTimeoutTLS(t *testing.T) {
	cert := tlsTestCA().issue(t, 1, "one.test")
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		nc := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{cert}})
		go tls.Client(client, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake()
		if err := nc.Handshake(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		b := newBlockingSocket(nc, newWebSocketProfile(new(handshake), &WebSocketOptions{CloseTimeout: time.Second}, false), nil, func() { close(ended) })
		began := time.Now()
		if err := b.ws.Close(CloseNormal, ""); err != ErrTimeout {
			t.Errorf("Close: %v", err)
		}
		<-ended
		if took := time.Since(began); took != time.Second {
			t.Errorf("the end took %v", took)
		}
	})
}

// A close reads what the peer still sends, and skips it; a Read that waits meanwhile
// gets nothing of the rest.
func TestWebSocketReadBesideClose(t *testing.T) {
	t.Parallel()
	for range 20 {
		server, client := net.Pipe()
		b := newBlockingSocket(server, newWebSocketProfile(new(handshake), &WebSocketOptions{CloseTimeout: 20 * time.Millisecond}, false), nil, nil)
		go io.Copy(io.Discard, client)
		go func() { // it never answers the close
			for frames := bytes.Repeat(wsFrame(frameFin|byte(TextMessage), "message", true), 100); ; {
				if _, err := client.Write(frames); err != nil {
					return
				}
			}
		}()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			b.ws.Close(CloseNormal, "")
		}()
		eventually(t, "the close", func() bool {
			select {
			case <-closed: // already
				return true
			default:
				return len(b.reading) == 1
			}
		})
		if _, p, err := b.ws.Read(t.Context()); err == nil {
			t.Fatalf("Read returns %q", p)
		}
		<-closed
		client.Close()
	}
}
