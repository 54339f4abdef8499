package flare

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// acceptAndHold accepts a WebSocket, hands it to the test and reads it to its
// end.
func acceptAndHold(opened chan *WebSocket) Handler {
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/plain" {
			return w.Text(200, "plain")
		}
		ws, err := AcceptWebSocket(w, r, nil)
		if err != nil {
			return err
		}
		opened <- ws
		for {
			if _, _, err := ws.Read(context.Background()); err != nil {
				return nil
			}
		}
	})
}

// A connection that a handler accepts is one connection for the server from its
// first byte to its last: Shutdown, which waits for none to be left, and the
// limit for an address never miss it in between.
func TestAcceptWebSocketIsCountedThroughout(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []http.ConnState
	opened := make(chan *WebSocket, 1)
	s := &Server{Handler: acceptAndHold(opened), MaxConnsPerIP: 1, ConnState: func(_ net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, state)
	}}
	url := TestServer(t, s)
	for range 100 {
		c := dialRaw(t, strings.TrimPrefix(url, "http://"))
		c.send("GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
		c.answer("GET")
		stop, least := make(chan bool), make(chan int64)
		go func() {
			seen := s.conns.Load()
			for {
				select {
				case <-stop:
					least <- seen
					return
				default:
					seen = min(seen, s.conns.Load())
					runtime.Gosched() // where there is one processor
				}
			}
		}()
		c.send(wsTestHandshake, "\r\n")
		c.answer("GET")
		<-opened
		close(stop)
		if seen := <-least; seen != 1 {
			t.Fatalf("%d connections were counted during the handshake", seen)
		}
		other := dialRaw(t, strings.TrimPrefix(url, "http://"))
		if rest := other.toEnd(); len(rest) > 0 {
			t.Fatalf("a second connection of the address was told %q", rest)
		}
		c.Close()
		eventually(t, "the connection to end", func() bool { return s.conns.Load() == 0 })
	}
	mu.Lock()
	defer mu.Unlock()
	if slices.Contains(told, http.StateHijacked) {
		t.Error("a WebSocket was told to be hijacked")
	}
	if told[len(told)-1] != http.StateClosed {
		t.Errorf("the last that was told is %v", told[len(told)-1])
	}
}

// What is accepted when the server has ended already is cut.
func TestAcceptWebSocketAfterClose(t *testing.T) {
	running, leave, result := make(chan bool), make(chan bool), make(chan error, 1)
	s := &Server{Logger: quietLogger(), Handler: Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		srv := behindResponse(w).x.srv
		running <- true
		<-leave
		if srv.blocking.add(new(blockingSocket)) {
			result <- nil
		} else {
			result <- ErrServerClosed
		}
		return nil
	}))}
	c := dialRaw(t, strings.TrimPrefix(TestServer(t, s), "http://"))
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-running
	s.Close()
	leave <- true
	if err := <-result; err != ErrServerClosed {
		t.Error("the ended server took a WebSocket that nobody would cut")
	}
}

// The buffers of a WebSocket that a goroutine reads are in the server's bound on
// memory, with what has come of a message, and leave it with the connection.
func TestAcceptWebSocketBuffersAreCounted(t *testing.T) {
	opened := make(chan *WebSocket, 1)
	s := &Server{Handler: acceptAndHold(opened)}
	c := wsRaw(t, TestServer(t, s), "")
	<-opened
	idle := s.buffered.Load() // the handler may have the request in a buffer still
	if idle < blockingReadBytes {
		t.Errorf("%d bytes are counted, the buffer has %d", idle, blockingReadBytes)
	}
	const part = 300_000
	c.send(string(wsFrame(byte(BinaryMessage), strings.Repeat("x", part), true))) // the first frame of several
	eventually(t, "the message to be counted", func() bool { return s.buffered.Load() >= part })
	c.send(string(wsFrame(frameFin|byte(opContinuation), "", true)))
	eventually(t, "the message to be gone", func() bool { return s.buffered.Load() <= idle })
	c.Close()
	eventually(t, "all of it to be gone", func() bool { return s.buffered.Load() == 0 })
}

// Shutdown in the middle of a handshake waits for the WebSocket as well.
func TestAcceptWebSocketDuringShutdown(t *testing.T) {
	t.Parallel()
	go1, accepted := make(chan bool), make(chan bool, 1)
	s := &Server{Handler: Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		accepted <- true
		<-go1
		ws, err := AcceptWebSocket(w, r, nil)
		if err != nil {
			return err
		}
		for {
			if _, _, err := ws.Read(context.Background()); err != nil {
				return nil
			}
		}
	}))}
	url := TestServer(t, s)
	c := dialRaw(t, strings.TrimPrefix(url, "http://"))
	c.send(wsTestHandshake, "\r\n")
	<-accepted
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(ctx) }()
	eventually(t, "Shutdown to begin", s.draining.Load)
	close(go1)
	c.answer("GET")
	begun := time.Now()
	frame := make([]byte, 4)
	if _, err := c.br.Read(frame); err != nil || string(frame) != "\x88\x02\x03\xe9" {
		t.Errorf("%q, %v; want a close frame with 1001", frame, err)
	}
	c.send(string(wsFrame(0x88, "\x03\xe9", true)))
	if err := <-down; err != nil {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}

// A client that does not read the answer to its handshake has the time that it
// has for messages.
func TestAcceptWebSocketUnreadAnswer(t *testing.T) {
	result := make(chan error, 1)
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		_, err := AcceptWebSocket(w, r, &WebSocketOptions{WriteTimeout: 50 * time.Millisecond})
		result <- err
		return err
	})}
	p := dialPlain(t, startPlain(t, s))
	p.send(wsTestHandshake + "\r\n")
	select {
	case err := <-result:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the handler still waits")
		p.Close()
	}
}

// A response that has begun is no place for a handshake.
func TestWebSocketAfterCommit(t *testing.T) {
	for name, h := range map[string]Handler{"loop": wsEcho(WebSocketOptions{}), "blocking": wsEchoBlocking(WebSocketOptions{})} {
		s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if err := w.Flush(); err != nil {
				return err
			}
			return h.Serve(w, r)
		})}
		c := dialRaw(t, strings.TrimPrefix(TestServer(t, s), "http://"))
		c.send(wsTestHandshake, "\r\n")
		if got := string(c.toEnd()); !strings.HasPrefix(got, "HTTP/1.1 200 ") || strings.Contains(got, "101") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
