package flare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wsPair returns the server's side of a WebSocket in the given style, and its
// client. The client's socket takes little, so that one that does not read is
// noticed soon.
func wsPair(t *testing.T, style string, o WebSocketOptions) (*WebSocket, *rawClient, *Server) {
	t.Helper()
	opened := make(chan *WebSocket, 1)
	var h Handler = &WebSocketHandler{WebSocketOptions: o, OnOpen: func(ws *WebSocket, r *Request) error { opened <- ws; return nil }}
	if style == "blocking" {
		h = HandlerFunc(func(w *ResponseWriter, r *Request) error {
			ws, err := AcceptWebSocket(w, r, &o)
			if err == nil {
				opened <- ws
			}
			return err
		})
	}
	s := &Server{Handler: h, Loops: 1}
	url := TestServer(t, s)
	c := wsRaw(t, url, "")
	return <-opened, c, s
}

var wsBothStyles = []string{"loop", "blocking"}

// A peer that never reads: each policy keeps the queue within its bound.
func TestQueuePolicies(t *testing.T) {
	t.Parallel()
	const bound = 64 << 10
	message := bytes.Repeat([]byte("0123456789abcdef"), 1<<10) // 16 KiB
	fill := func(t *testing.T, ws *WebSocket, until func(error) bool) error {
		deadline := time.Now().Add(patience)
		for time.Now().Before(deadline) {
			ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
			err := ws.Write(ctx, BinaryMessage, message)
			cancel()
			if until(err) {
				return err
			}
		}
		t.Fatal("the peer takes everything")
		return nil
	}
	waiting := func(ws *WebSocket) int {
		if b := ws.blocking(); b != nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.out.len()
		}
		outboxOf(ws).lock()
		defer outboxOf(ws).unlock()
		return outboxOf(ws).out.len()
	}
	t.Run("block", func(t *testing.T) {
		ws, c, _ := wsPair(t, "loop", WebSocketOptions{MaxQueueBytes: bound})
		err := fill(t, ws, func(err error) bool { return err != nil })
		if !errors.Is(err, context.DeadlineExceeded) || waiting(ws) > bound {
			t.Fatalf("%v, %d bytes wait", err, waiting(ws))
		}
		// Once the peer reads, the writer goes on, and nothing is missing.
		done := make(chan error, 1)
		go func() { done <- ws.Write(context.Background(), BinaryMessage, []byte("last")) }()
		go ws.Close(CloseNormal, "")
		c.send(string(wsFrame(0x88, "\x03\xe8", true)))
		if got := wsRest(t, c); strings.Count(got, "binary") < 5 || !strings.HasSuffix(got, "close 1000 \"\"\n") {
			t.Errorf("%d messages, end %q", strings.Count(got, "binary"), tail([]byte(got)))
		}
		if err := <-done; err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	for _, style := range wsBothStyles {
		t.Run("drop connection/"+style, func(t *testing.T) {
			ws, _, s := wsPair(t, style, WebSocketOptions{MaxQueueBytes: bound, QueuePolicy: QueueDropConnection})
			stuckWriter(ws, message)
			err := fill(t, ws, func(err error) bool { return err != nil })
			if !errors.Is(err, ErrBackpressure) {
				t.Errorf("%v", err)
			}
			gone(t, s)
		})
	}
	t.Run("drop oldest", func(t *testing.T) {
		ws, c, _ := wsPair(t, "loop", WebSocketOptions{MaxQueueBytes: bound, QueuePolicy: QueueDropOldest})
		n := 0
		fill(t, ws, func(err error) bool {
			if err != nil {
				t.Fatal(err)
			}
			n++
			if waiting(ws) > bound {
				t.Fatalf("%d bytes wait", waiting(ws))
			}
			return waiting(ws) > bound/2 && n > 1000
		})
		for i := range 20 {
			ws.Write(context.Background(), TextMessage, fmt.Appendf(nil, "%d", i))
		}
		ws.Close(CloseNormal, "")
		c.send(string(wsFrame(0x88, "\x03\xe8", true)))
		got := wsRest(t, c) // every frame is whole
		if sent := strings.Count(got, "binary"); sent == 0 || sent >= n || !strings.HasSuffix(got, "text \"19\"\nclose 1000 \"\"\n") {
			t.Errorf("%d of %d messages, end %q", sent, n, tail([]byte(got)))
		}
	})
	for _, style := range wsBothStyles {
		t.Run("write timeout/"+style, func(t *testing.T) {
			ws, _, s := wsPair(t, style, WebSocketOptions{MaxQueueBytes: bound, WriteTimeout: 50 * time.Millisecond})
			for deadline := time.Now().Add(patience); ws.Write(context.Background(), BinaryMessage, message) == nil; {
				if time.Now().After(deadline) {
					t.Fatal("the peer takes everything")
				}
			}
			gone(t, s)
		})
	}
}

// stuckWriter makes a blocking WebSocket have a sender that waits.
func stuckWriter(ws *WebSocket, message []byte) {
	if ws.blocking() != nil {
		go func() {
			for ws.Write(context.Background(), BinaryMessage, message) == nil {
			}
		}()
	}
}

// A connection whose peer does not read is not read from either, and goes on
// when it does.
func TestWebSocketReadingStops(t *testing.T) {
	s := &Server{Handler: wsEcho(WebSocketOptions{MaxQueueBytes: 64 << 10}), Loops: 1}
	url := TestServer(t, s)
	c := wsRaw(t, url, "")
	const n = 3000
	frame := wsFrame(0x82, strings.Repeat("x", 10<<10), true)
	go func() {
		for range n {
			if _, err := c.Write(frame); err != nil {
				return
			}
		}
		c.Write(wsFrame(0x88, "\x03\xe8", true))
	}()
	before := uint64(0)
	eventually(t, "the connection to wait for its peer", func() bool {
		st := s.Stats()
		stands := st.BytesIn > 0 && st.BytesIn == before
		before = st.BytesIn
		// On a busy machine a call may have been taken off the loop, and wait there.
		return st.Connections.Flush == 1 || stands && st.Connections.Handler == 1
	})
	if st := s.Stats(); st.BytesIn > 20<<20 {
		t.Errorf("%d bytes were read meanwhile", st.BytesIn)
	}
	got := wsRest(t, c)
	if m := strings.Count(got, "binary"); m != n || !strings.HasSuffix(got, "close 1000 \"\"\n") {
		t.Errorf("%d messages, end %q", m, tail([]byte(got)))
	}
}

// While the peer does not read, the newest answer to a ping takes the place of
// the earlier ones.
func TestPongsNewest(t *testing.T) {
	t.Parallel()
	ws, c, _ := wsPair(t, "loop", WebSocketOptions{MaxQueueBytes: 16 << 10})
	message := make([]byte, 8<<10)
	for stuck := false; !stuck; {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		stuck = ws.Write(ctx, BinaryMessage, message) != nil
		cancel()
	}
	for i := range 1000 {
		ws.pong(fmt.Appendf(nil, "%d", i))
	}
	outboxOf(ws).lock()
	held := outboxOf(ws).out.len()
	outboxOf(ws).unlock()
	if held > 16<<10 {
		t.Errorf("%d bytes wait", held)
	}
	var got bytes.Buffer
	frames := &messageReader{bytesMax: -1}
	buf := make([]byte, 64<<10)
	for !strings.Contains(got.String(), "pong") {
		n, err := c.br.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		for in := buf[:n]; len(in) > 0; {
			used, ev, err := frames.next(in)
			if err != nil {
				t.Fatal(err)
			}
			in = in[used:]
			if ev == eventPong {
				fmt.Fprintf(&got, "pong %s\n", frames.data)
			}
			if ev == eventNone && used == 0 {
				t.Fatal("a frame head was cut: read more at once")
			}
		}
	}
	if got.String() != "pong 999\n" {
		t.Errorf("%q", got.String())
	}
}

func TestBroadcast(t *testing.T) {
	var members []*WebSocket
	opened := make(chan *WebSocket)
	mux := NewMux()
	for i, mode := range []Compression{CompressionOff, CompressionOn, CompressionTakeover} {
		o := WebSocketOptions{Compression: mode}
		mux.Handle(fmt.Sprintf("/loop/%d", i), &WebSocketHandler{WebSocketOptions: o,
			OnOpen: func(ws *WebSocket, r *Request) error { go func() { opened <- ws }(); return nil }})
		mux.Handle(fmt.Sprintf("/blocking/%d", i), HandlerFunc(func(w *ResponseWriter, r *Request) error {
			ws, err := AcceptWebSocket(w, r, &o)
			if err == nil {
				opened <- ws
			}
			return err
		}))
	}
	url := TestServer(t, &Server{Handler: mux})
	var clients []*WebSocket
	for _, style := range wsBothStyles {
		for i := range 3 {
			for _, mode := range []Compression{CompressionOff, CompressionOn, CompressionTakeover} {
				ws, _, err := DialWebSocket(context.Background(), fmt.Sprintf("ws%s/%s/%d", strings.TrimPrefix(url, "http"), style, i),
					&WebSocketDialOptions{WebSocketOptions: WebSocketOptions{Compression: mode}})
				if err != nil {
					t.Fatal(err)
				}
				clients = append(clients, ws)
				members = append(members, <-opened)
			}
		}
	}
	ctx := wsPatience(t)
	for _, text := range []string{"short", strings.Repeat("long and repeated, ", 200), string(bytes.Repeat([]byte("κ"), 3000))} {
		m, err := NewPreparedMessage(TextMessage, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if n := Broadcast(slices.Values(members), m); n != len(members) {
				t.Fatalf("%d of %d took it", n, len(members))
			}
			for i, ws := range clients {
				if kind, p, err := ws.Read(ctx); err != nil || kind != TextMessage || string(p) != text {
					t.Fatalf("client %d: %v %.20q, %v", i, kind, p, err)
				}
			}
		}
	}
	clients[0].Close(CloseNormal, "")
	m, _ := NewPreparedMessage(BinaryMessage, []byte("x"))
	eventually(t, "the one that left to be passed over", func() bool { return Broadcast(slices.Values(members), m) == len(members)-1 })
	if err := members[1].WritePrepared(ctx, m); err != nil {
		t.Error(err)
	}
	if err := clients[1].WritePrepared(ctx, m); err != nil { // masked for itself
		t.Error(err)
	}
	if _, err := NewPreparedMessage(TextMessage, []byte("\xff")); err != errMessageText {
		t.Errorf("%v", err)
	}
}

func TestWriterAndReader(t *testing.T) {
	for style, h := range wsStyles(WebSocketOptions{MaxMessageBytes: -1, Compression: CompressionOn}) {
		for _, mode := range []Compression{CompressionOff, CompressionOn} {
			t.Run(fmt.Sprintf("%s/%d", style, mode), func(t *testing.T) {
				ws := wsDial(t, TestServer(t, &Server{Handler: h}), WebSocketOptions{MaxMessageBytes: -1, Compression: mode})
				ctx := wsPatience(t)
				for _, size := range []int{0, 1, 1000, fragmentBytes, fragmentBytes + 1, 300_000} {
					want := wsRandom(size)
					go func() {
						w, _ := ws.Writer(ctx, BinaryMessage)
						for p := want; len(p) > 0; {
							n := min(len(p), 777)
							w.Write(p[:n])
							p = p[n:]
						}
						if err := w.Close(); err != nil {
							t.Error(err)
						}
					}()
					kind, r, err := ws.Reader(ctx)
					if err != nil || kind != BinaryMessage {
						t.Fatal(kind, err)
					}
					got, err := io.ReadAll(r)
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("size %d: %d bytes, %v", size, len(got), err)
					}
				}
				// The rest of a message that is not read to its end is skipped.
				ws.Write(ctx, BinaryMessage, wsRandom(100_000))
				ws.WriteText(ctx, "next")
				_, r, err := ws.Reader(ctx)
				if err != nil {
					t.Fatal(err)
				}
				io.ReadFull(r, make([]byte, 10))
				if _, p, err := ws.Read(ctx); err != nil || string(p) != "next" {
					t.Fatalf("%q, %v", p, err)
				}
				if _, err := r.Read(make([]byte, 1)); err != errStreamStale {
					t.Errorf("the stream that was left: %v", err)
				}
			})
		}
	}
}

// A message in fragments is not interrupted by others, but by pings.
func TestWriterExcludes(t *testing.T) {
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			ws, c, _ := wsPair(t, style, WebSocketOptions{})
			ctx := wsPatience(t)
			w, _ := ws.Writer(ctx, TextMessage)
			long := strings.Repeat("long ", fragmentBytes/4)
			io.WriteString(w, long)
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			if err := ws.WriteText(short, "in between"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("another message: %v", err)
			}
			cancel()
			m, _ := NewPreparedMessage(TextMessage, nil)
			if n := Broadcast(slices.Values([]*WebSocket{ws}), m); n != 0 {
				t.Error("a broadcast went into the middle of a message")
			}
			if err := ws.Ping(ctx, []byte("p")); err != nil {
				t.Error(err)
			}
			after := make(chan error, 1)
			go func() { after <- ws.WriteText(ctx, "after") }()
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if err := w.Close(); err != errWriterClosed {
				t.Errorf("closed twice: %v", err)
			}
			if err := <-after; err != nil {
				t.Error(err)
			}
			go ws.Close(CloseNormal, "")
			c.send(string(wsFrame(0x88, "\x03\xe8", true)))
			if got, want := wsRest(t, c), fmt.Sprintf("ping \"p\"\ntext %q\ntext \"after\"\nclose 1000 \"\"\n", long); got != want {
				t.Errorf("%q", tail([]byte(got)))
			}
		})
	}
}

func TestWebSocketWriteChecks(t *testing.T) {
	for _, style := range wsBothStyles {
		ws, _, _ := wsPair(t, style, WebSocketOptions{})
		ctx := context.Background()
		over, cancel := context.WithCancel(ctx)
		cancel()
		for name, c := range map[string]struct{ got, want error }{
			"kind":          {ws.Write(ctx, 3, nil), errMessageKind},
			"text":          {ws.WriteText(ctx, "\xff"), errMessageText},
			"ping":          {ws.Ping(ctx, make([]byte, 126)), errPingLong},
			"code 1005":     {ws.Close(CloseNoStatus, "x"), errCloseReason},
			"code 1006":     {ws.Close(CloseAbnormal, ""), errCloseCode},
			"code 999":      {ws.Close(999, ""), errCloseCode},
			"code 5000":     {ws.Close(5000, ""), errCloseCode},
			"long reason":   {ws.Close(CloseNormal, strings.Repeat("x", 124)), errCloseReason},
			"reason":        {ws.Close(CloseNormal, "\xff"), errCloseReason},
			"context ended": {ws.WriteText(over, "x"), context.Canceled},
		} {
			if c.got != c.want {
				t.Errorf("%s, %s: %v, want %v", style, name, c.got, c.want)
			}
		}
		if style == "loop" {
			if _, _, err := ws.Read(ctx); err != errReadOnLoop {
				t.Errorf("%v", err)
			}
			if err := ws.Close(CloseNormal, ""); err != nil {
				t.Error(err)
			}
			if err := ws.WriteText(ctx, "x"); err != ErrClosed {
				t.Errorf("after Close: %v", err)
			}
			if err := ws.Close(CloseNormal, ""); err != ErrClosed {
				t.Errorf("closed twice: %v", err)
			}
		}
	}
}

// A read that is given up loses nothing, whichever kind of read comes next.
func TestReadContext(t *testing.T) {
	frame := wsFrame(0x81, "in two parts", true)
	type read func(ws *WebSocket, ctx context.Context) (string, error)
	whole := func(ws *WebSocket, ctx context.Context) (string, error) {
		_, p, err := ws.Read(ctx)
		return string(p), err
	}
	stream := func(ws *WebSocket, ctx context.Context) (string, error) {
		_, r, err := ws.Reader(ctx)
		if err != nil {
			return "", err
		}
		p, err := io.ReadAll(r)
		return string(p), err
	}
	for name, c := range map[string]struct {
		sent  int // of the frame, when the first read gives up
		reads []read
	}{
		"Read, Read":           {9, []read{whole, whole}},
		"Read, Reader":         {9, []read{whole, stream}},
		"Reader, Read, head":   {6, []read{stream, whole}},
		"Reader, Reader, head": {6, []read{stream, stream}},
		"half a head":          {3, []read{stream, whole, stream, whole}},
		"many":                 {6, []read{stream, whole, stream, whole, stream}},
	} {
		ws, conn, _ := wsPair(t, "blocking", WebSocketOptions{})
		conn.send(string(frame[:c.sent]))
		for i, read := range c.reads {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
			if i == len(c.reads)-1 {
				ctx = wsPatience(t)
				conn.send(string(frame[c.sent:]), string(wsFrame(0x81, "next", true)))
				if got, err := read(ws, ctx); err != nil || got != "in two parts" {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				if got, err := whole(ws, ctx); err != nil || got != "next" {
					t.Errorf("%s: %q, %v", name, got, err)
				}
			} else if _, err := read(ws, ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: read %d: %v", name, i, err)
			}
			cancel()
		}
	}
}

// Each frame of a client has a key of its own (RFC 6455 §5.3).
func TestClientMaskKeys(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	ws := &newBlockingSocket(client, newWebSocketProfile(new(handshake), new(WebSocketOptions), true), nil, nil).ws
	go func() {
		for range 200 {
			ws.WriteText(context.Background(), "same")
		}
	}()
	seen := map[uint32]bool{}
	for range 200 {
		var b [10]byte
		if _, err := io.ReadFull(server, b[:]); err != nil {
			t.Fatal(err)
		}
		var h frameHead
		if n, rule, _ := h.parse(b[:], frameRules{masked: true}); n != 6 || rule != "" || seen[h.key] || h.key == 0 {
			t.Fatalf("%x: %q, key seen before: %v", b, rule, seen[h.key])
		}
		seen[h.key] = true
	}
}

// A slow handler of one connection does not keep broadcasts from its peer.
func TestBroadcastToBusyHandler(t *testing.T) {
	release := make(chan bool)
	var busy atomic.Bool
	h := &WebSocketHandler{}
	opened := make(chan *WebSocket, 1)
	h.OnOpen = func(ws *WebSocket, r *Request) error { opened <- ws; return nil }
	h.OnMessage = func(ws *WebSocket, kind MessageKind, p []byte) error {
		busy.Store(true)
		<-release
		return nil
	}
	c := wsDial(t, TestServer(t, &Server{Handler: h, Loops: 1}), WebSocketOptions{})
	ws, ctx := <-opened, wsPatience(t)
	c.WriteText(ctx, "x")
	eventually(t, "the handler", busy.Load)
	m, _ := NewPreparedMessage(BinaryMessage, wsRandom(100_000))
	go func() { // more than the socket takes: the rest goes when there is room
		for range 50 {
			ws.WritePrepared(ctx, m)
		}
	}()
	for range 50 {
		if _, p, err := c.Read(ctx); err != nil || len(p) != 100_000 {
			t.Fatalf("%d bytes, %v", len(p), err)
		}
	}
	close(release)
}

// A close frame of the peer is answered behind what another goroutine sends.
func TestCloseAnsweredBehindWriter(t *testing.T) {
	const long = 32 << 20
	ws, c, _ := wsPair(t, "blocking", WebSocketOptions{CloseTimeout: patience})
	ctx := wsPatience(t)
	wrote, read := make(chan error, 1), make(chan error, 1)
	go func() { wrote <- ws.Write(ctx, BinaryMessage, make([]byte, long)) }()
	eventually(t, "a writer that waits", func() bool {
		ws.blocking().mu.Lock()
		defer ws.blocking().mu.Unlock()
		return ws.blocking().sending
	})
	if err := ws.WriteText(ctx, "behind"); err != nil && err != ErrBackpressure {
		t.Fatal(err)
	}
	c.send(string(wsFrame(0x88, "\x03\xe8", true)))
	go func() {
		_, _, err := ws.Read(ctx)
		read <- err
	}()
	eventually(t, "the close frame to be read", func() bool {
		ws.blocking().mu.Lock()
		defer ws.blocking().mu.Unlock()
		return ws.blocking().sealed
	})
	const end = "\x81\x06behind\x88\x02\x03\xe8"
	if got := c.toEnd(); len(got) != 10+long+len(end) || !bytes.HasSuffix(got, []byte(end)) {
		t.Errorf("%d bytes that end with %q", len(got), tail(got))
	}
	var ce *CloseError
	if err := <-read; !errors.As(err, &ce) || ce.Code != CloseNormal {
		t.Errorf("read: %v", err)
	}
	if err := <-wrote; err != nil {
		t.Errorf("write: %v", err)
	}
}

// The end of a writer's context ends the connection if half a frame is out, but
// is not what others are told.
func TestWriteGivenUp(t *testing.T) {
	t.Parallel()
	ws, c, _ := wsPair(t, "blocking", WebSocketOptions{})
	long := make([]byte, 32<<20)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := ws.Write(ctx, BinaryMessage, long); err != context.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	if _, _, err := ws.Read(wsPatience(t)); err != ErrClosed {
		t.Errorf("read: %v", err)
	}
	if err := ws.WriteText(wsPatience(t), "x"); err != ErrClosed {
		t.Errorf("write: %v", err)
	}
	if _, err := ws.NetConn(TextMessage).Read(make([]byte, 1)); err != net.ErrClosed {
		t.Errorf("net.Conn: %v", err)
	}
	c.Close()
}

// A Writer that fails in the middle of its message closes the WebSocket, which
// has CloseTimeout to end.
func TestWriterFailsInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			ws, c, s := wsPair(t, style, WebSocketOptions{CloseTimeout: 500 * time.Millisecond})
			w, err := ws.Writer(wsPatience(t), TextMessage)
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(w, strings.Repeat("x", fragmentBytes+1))
			if _, err := w.Write([]byte("\xff")); err != errMessageText {
				t.Errorf("%v", err)
			}
			if got := c.toEnd(); !bytes.HasSuffix(got, []byte("\x88\x02\x03\xf3")) {
				t.Errorf("%q", tail(got))
			}
			c.Close()
			gone(t, s)
		})
	}
}

// The stream of a message that was left gives nothing more of it, also when the
// read that left it was given up.
func TestStreamLeftByReadGivenUp(t *testing.T) {
	ws, c, _ := wsPair(t, "blocking", WebSocketOptions{})
	c.send(string(wsFrame(0x01, "first", true)))
	_, r, err := ws.Reader(wsPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	read := make(chan error, 1)
	go func() {
		_, _, err := ws.Read(ctx)
		read <- err
	}()
	c.send(string(wsFrame(0x00, "SECOND", true)))
	eventually(t, "the message to be skipped", func() bool { return len(ws.blocking().reading) == 1 })
	cancel()
	if err := <-read; err != context.Canceled {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 10)); n != 0 || err != errStreamStale {
		t.Errorf("%d bytes, %v", n, err)
	}
	c.send(string(wsFrame(0x80, "third", true)), string(wsFrame(0x81, "next", true)))
	if _, p, err := ws.Read(wsPatience(t)); err != nil || string(p) != "next" {
		t.Errorf("%q, %v", p, err)
	}
}

// A read ends with its context also while the answer to a ping waits for the
// peer, and may be called again.
func TestReadContextBehindPong(t *testing.T) {
	client, server := net.Pipe() // takes nothing unread
	defer client.Close()
	ws := &newBlockingSocket(server, newWebSocketProfile(&handshake{}, &WebSocketOptions{}, false), wsFrame(0x89, "p", true), nil).ws
	defer ws.blocking().finish(ErrClosed, false)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := ws.Read(ctx); err != context.DeadlineExceeded {
		t.Fatal(err)
	}
	go func() {
		io.ReadFull(client, make([]byte, len("\x8a\x01p")))
		client.Write(wsFrame(0x81, "still here", true))
	}()
	if _, p, err := ws.Read(wsPatience(t)); err != nil || string(p) != "still here" {
		t.Errorf("%q, %v", p, err)
	}
}

// outboxOf is the way out of a WebSocket on a loop.
func outboxOf(ws *WebSocket) *outbox { return &ws.run.(*loopSocket).out }
