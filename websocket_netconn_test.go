package flare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A protocol of lines over a WebSocket: borders of messages do not show.
func TestNetConn(t *testing.T) {
	url := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		ws, err := AcceptWebSocket(w, r, nil)
		if err != nil {
			return err
		}
		conn := ws.NetConn(BinaryMessage)
		defer conn.Close()
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			fmt.Fprintf(conn, "%s\n", strings.ToUpper(lines.Text()))
		}
		return lines.Err()
	})})
	conn := wsDial(t, url, WebSocketOptions{}).NetConn(TextMessage)
	conn.SetDeadline(time.Now().Add(patience))
	for _, part := range []string{"he", "llo\nwor", "", "ld\nand more"} {
		if n, err := io.WriteString(conn, part); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := conn.Read(nil); n != 0 || err != nil { // does not wait, as no net.Conn's does
		t.Fatal(n, err)
	}
	br := bufio.NewReader(conn)
	for _, want := range []string{"HELLO\n", "WORLD\n"} {
		if line, err := br.ReadString('\n'); line != want || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if conn.RemoteAddr().String() != strings.TrimPrefix(url, "http://") || conn.LocalAddr() == nil {
		t.Error(conn.RemoteAddr(), conn.LocalAddr())
	}

	// Deadlines: passed, moved while a read waits, and taken away again.
	conn.SetReadDeadline(time.Unix(1, 0))
	if _, err := br.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	conn.SetReadDeadline(time.Time{})
	read := make(chan error, 1)
	go func() {
		_, err := br.ReadByte()
		read <- err
	}()
	conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "\n")
	if line, err := br.ReadString('\n'); line != "AND MORE\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != net.ErrClosed {
		t.Errorf("after Close: %v", err)
	}
	if _, err := conn.Write([]byte("x")); err != net.ErrClosed {
		t.Errorf("after Close: %v", err)
	}
}

// A handler on the loop that has to wait for its peer gives the loop away at
// once.
func TestWebSocketWriteWaitsOffLoop(t *testing.T) {
	h := &WebSocketHandler{WebSocketOptions: WebSocketOptions{MaxQueueBytes: 64 << 10}}
	const pieces = 400
	h.OnMessage = func(ws *WebSocket, kind MessageKind, p []byte) error {
		if string(p) != "flood" {
			return ws.Write(context.Background(), kind, p)
		}
		for range pieces {
			if err := ws.Write(context.Background(), BinaryMessage, make([]byte, 32<<10)); err != nil {
				return err
			}
		}
		return nil
	}
	s := &Server{Handler: Inline(h), Loops: 1}
	url := TestServer(t, s)
	quick, slow := wsDial(t, url, WebSocketOptions{}), wsDial(t, url, WebSocketOptions{})
	ctx := wsPatience(t)
	slow.WriteText(ctx, "flood")
	eventually(t, "the loop to be taken", func() bool { return s.Stats().Handlers.Steals > 0 })
	for i := range 50 {
		text := fmt.Sprint(i)
		quick.WriteText(ctx, text)
		if _, p, err := quick.Read(ctx); err != nil || string(p) != text {
			t.Fatalf("%q, %v", p, err)
		}
	}
	for range pieces {
		if _, p, err := slow.Read(ctx); err != nil || len(p) != 32<<10 {
			t.Fatalf("%d bytes, %v", len(p), err)
		}
	}
}

// A deadline that is moved in the moment in which it passes does not cut off
// what comes after.
func TestMovingDeadlineAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d movingDeadline
		for range 1000 {
			d.set(time.Now().Add(time.Second))
			time.Sleep(time.Second)
			d.set(time.Now().Add(time.Hour))
			ctx := d.context()
			synctest.Wait()
			if ctx.Err() != nil {
				t.Fatal("the deadline of before ended it")
			}
		}
		d.set(time.Time{})
	})
}
