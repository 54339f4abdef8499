package flare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// wsStyles are the two ways to serve an echo.
func wsStyles(o WebSocketOptions) map[string]Handler {
	return map[string]Handler{"loop": wsEcho(o), "blocking": wsEchoBlocking(o)}
}

func wsDial(t testing.TB, url string, o WebSocketOptions) *WebSocket {
	t.Helper()
	ws, _, err := DialWebSocket(context.Background(), "ws"+strings.TrimPrefix(url, "http")+"/ws", &WebSocketDialOptions{WebSocketOptions: o})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.blocking().finish(ErrClosed, false) })
	return ws
}

// wsPatience bounds the waits of a test.
func wsPatience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// wsRest reads what the server sends until it closes.
func wsRest(t testing.TB, c *rawClient) string {
	t.Helper()
	rest, err := io.ReadAll(c.br)
	if err != nil {
		t.Fatalf("%v after %q", err, tail(rest))
	}
	return wsEvents(&messageReader{bytesMax: -1}, rest)
}

func TestFramesBehindHandshake(t *testing.T) {
	for style, h := range wsStyles(WebSocketOptions{}) {
		t.Run(style, func(t *testing.T) {
			url := TestServer(t, &Server{Handler: h})
			c := dialRaw(t, strings.TrimPrefix(url, "http://"))
			c.send(wsTestHandshake, "\r\n", string(wsFrame(0x81, "with it", true)), string(wsFrame(0x88, "\x03\xe8", true)))
			if a := c.answer("GET"); a.StatusCode != 101 {
				t.Fatalf("%d", a.StatusCode)
			}
			if got, want := wsRest(t, c), "text \"with it\"\nclose 1000 \"\"\n"; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		})
	}
}

// A request before the handshake is answered first, in the same breath.
func TestHandshakePipelined(t *testing.T) {
	mux := NewMux()
	mux.Get("/plain", func(w *ResponseWriter, r *Request) error { return w.Text(200, "plain") })
	mux.Handle("/ws", &WebSocketHandler{OnOpen: func(ws *WebSocket, r *Request) error {
		return ws.WriteText(context.Background(), "hello from "+r.Path())
	}})
	url := TestServer(t, &Server{Handler: mux})
	c := dialRaw(t, strings.TrimPrefix(url, "http://"))
	c.send("GET /plain HTTP/1.1\r\nHost: h\r\n\r\n", wsTestHandshake, "\r\n", string(wsFrame(0x88, "", true)))
	c.answer("GET").want(t, 200, "plain")
	if a := c.answer("GET"); a.StatusCode != 101 {
		t.Fatalf("%d", a.StatusCode)
	}
	if got, want := wsRest(t, c), "text \"hello from /ws\"\nclose 1005 \"\"\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWebSocketLimits(t *testing.T) {
	bomb := deflated(new(deflater), make([]byte, 4<<20))
	cases := []struct {
		name string
		in   []byte
		want string
	}{
		{"at the limit", append(wsFrame(0x82, strings.Repeat("x", 1000), true), wsFrame(0x88, "", true)...), fmt.Sprintf("binary %q\nclose 1005 \"\"\n", strings.Repeat("x", 1000))},
		{"one byte over", wsFrame(0x82, strings.Repeat("x", 1001), true), "close 1009 \"\"\n"},
		{"one byte over in fragments", append(wsFrame(0x02, strings.Repeat("x", 1000), true), wsFrame(0x80, "x", true)...), "close 1009 \"\"\n"},
		{"4 GiB declared", wsFrameHead(0x82, 4<<30, true, 1), "close 1009 \"\"\n"},
		{"bomb", wsFrame(0xc2, string(bomb), true), "close 1009 \"\"\n"},
		{"not masked", wsFrame(0x81, "x", false), "close 1002 \"\"\n"},
	}
	for style, h := range wsStyles(WebSocketOptions{MaxMessageBytes: 1000, Compression: CompressionOn}) {
		t.Run(style, func(t *testing.T) {
			s := &Server{Handler: h}
			url := TestServer(t, s)
			for _, c := range cases {
				conn := wsRaw(t, url, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
				conn.send(string(c.in))
				got := wsEvents(&messageReader{bytesMax: -1, rules: frameRules{rsv: frameRSV1}, inflater: new(inflater)}, conn.toEnd())
				if got != c.want {
					t.Errorf("%s: %.200q, want %.200q", c.name, got, c.want)
				}
				conn.Close()
			}
			gone(t, s)
		})
	}
}

func TestWebSocketCallbacks(t *testing.T) {
	t.Parallel()
	type end struct {
		code   CloseCode
		reason string
	}
	ends := make(chan end, 1)
	handler := func() *WebSocketHandler {
		return &WebSocketHandler{
			OnOpen: func(ws *WebSocket, r *Request) error {
				switch r.Query().Get("open") {
				case "error":
					return errors.New("refused late")
				case "panic":
					panic("open")
				case "close":
					return &CloseError{Code: 4001, Reason: "not you"}
				case "goexit":
					runtime.Goexit()
				}
				ws.Data = r.Query().Get("name")
				return nil
			},
			OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
				switch string(p) {
				case "error":
					return errors.New("failed")
				case "panic":
					panic("message")
				case "goexit":
					runtime.Goexit()
				case "close":
					return &CloseError{Code: ClosePolicyViolation, Reason: "enough"}
				case "bad close":
					return &CloseError{Code: CloseNoStatus}
				case "name":
					return ws.WriteText(context.Background(), ws.Data.(string))
				}
				return nil
			},
			OnClose: func(ws *WebSocket, code CloseCode, reason string) { ends <- end{code, reason} },
		}
	}
	answer := string(wsFrame(0x88, "\x03\xe8", true))
	cases := []struct {
		query string
		send  string
		want  string
		end   end
	}{
		{"", string(wsFrame(0x88, "\x0f\xa3bye", true)), "close 4003 \"\"\n", end{4003, "bye"}},
		{"", string(wsFrame(0x88, "", true)), "close 1005 \"\"\n", end{CloseNoStatus, ""}},
		{"", string(wsFrame(0x83, "", true)), "close 1002 \"\"\n", end{CloseProtocolError, ""}},
		{"?name=ann", string(wsFrame(0x81, "name", true)) + answer, "text \"ann\"\nclose 1000 \"\"\n", end{CloseNormal, ""}},
		{"", string(wsFrame(0x81, "error", true)) + answer, "close 1011 \"\"\n", end{CloseNormal, ""}},
		{"", string(wsFrame(0x81, "panic", true)) + answer, "close 1011 \"\"\n", end{CloseNormal, ""}},
		{"", string(wsFrame(0x81, "goexit", true)), "close 1011 \"\"\n", end{CloseInternalError, ""}},
		{"", string(wsFrame(0x81, "close", true)) + answer, "close 1008 \"enough\"\n", end{CloseNormal, ""}},
		{"", string(wsFrame(0x81, "bad close", true)) + answer, "close 1011 \"\"\n", end{CloseNormal, ""}},
		{"", string(wsFrame(0x81, "close", true)) + string(wsFrame(0x81, "name", true)) + answer, "close 1008 \"enough\"\n", end{CloseNormal, ""}},
		{"?open=error", answer, "close 1011 \"\"\n", end{CloseNormal, ""}},
		{"?open=panic", answer, "close 1011 \"\"\n", end{CloseNormal, ""}},
		{"?open=goexit", "", "close 1011 \"\"\n", end{CloseInternalError, ""}},
		{"?open=close", answer, "close 4001 \"not you\"\n", end{CloseNormal, ""}},
	}
	for name, where := range map[string]Middleware{"loop": Inline, "workers": Offload, "carried": func(h Handler) Handler { return h }} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Handler: where(handler()), Logger: quietLogger(), Loops: 1}
			url := wsServe(t, s, name)
			for _, c := range cases {
				conn := dialRaw(t, strings.TrimPrefix(url, "http://"))
				conn.send(strings.Replace(wsTestHandshake, "/ws", "/ws"+c.query, 1), "\r\n")
				if a := conn.answer("GET"); a.StatusCode != 101 {
					t.Fatalf("%d", a.StatusCode)
				}
				conn.send(c.send)
				if got := wsRest(t, conn); got != c.want {
					t.Fatalf("%q %q: %q, want %q", c.query, c.send, got, c.want)
				}
				conn.Close()
				if got := <-ends; got != c.end {
					t.Fatalf("%q %q: OnClose %v, want %v", c.query, c.send, got, c.end)
				}
			}
			// Without a close frame.
			conn := wsRaw(t, url, "")
			conn.Close()
			if got := <-ends; got != (end{CloseAbnormal, ""}) {
				t.Errorf("cut: OnClose %v", got)
			}
			st := s.Stats().Handlers
			if st.Panics == 0 || !onPlain() && name != "carried" && (st.Inline == 0) != (name == "workers") {
				t.Errorf("%+v", st)
			}
			gone(t, s)
		})
	}
}

// wsServe serves s itself, or has another server carry its requests. It returns
// the URL.
func wsServe(t *testing.T, s *Server, how string) string {
	if how == "carried" {
		return "http://" + bridgeNetHTTP(t, s)
	}
	return TestServer(t, s)
}

// A WebSocket of a WebSocketHandler is the same to its user on a loop and on
// another server's request: Close does not wait, nothing is delivered behind it,
// and Read is not for it.
func TestWebSocketHandlerIsTheSame(t *testing.T) {
	for _, how := range []string{"loop", "carried"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			type outcome struct {
				closed, again, read error
				netConn             bool
			}
			done, ends := make(chan outcome, 2), make(chan CloseCode, 1)
			h := &WebSocketHandler{WebSocketOptions: WebSocketOptions{CloseTimeout: patience}}
			h.OnMessage = func(ws *WebSocket, kind MessageKind, p []byte) (err error) {
				var o outcome
				o.closed = ws.Close(4000, "enough")
				o.again = ws.Close(4001, "")
				_, _, o.read = ws.Read(context.Background())
				o.netConn = ws.NetConn(TextMessage) != nil
				done <- o
				return nil
			}
			h.OnClose = func(_ *WebSocket, code CloseCode, _ string) { ends <- code }
			s := &Server{Handler: h, Loops: 1}
			c := wsRaw(t, wsServe(t, s, how), "")
			c.send(string(wsFrame(0x81, "first", true)))
			if got, want := <-done, (outcome{nil, ErrClosed, errReadOnLoop, false}); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			// Only now the peer answers, with a message before.
			c.send(string(wsFrame(0x81, "second", true)), string(wsFrame(0x88, "\x0f\xa2", true)))
			if got := wsRest(t, c); got != "close 4000 \"enough\"\n" {
				t.Errorf("%q", got)
			}
			if code := <-ends; code != 4002 || len(done) != 0 {
				t.Errorf("OnClose %d, %d more messages", code, len(done))
			}
			gone(t, s)
		})
	}
}

// What there is of a connection that waits fits a small size class of the
// allocator.
func TestLoopSocketSize(t *testing.T) {
	if size := unsafe.Sizeof(loopSocket{}); unsafe.Sizeof(uintptr(0)) == 8 && size > 176 {
		t.Errorf("%d bytes", size)
	}
}

// Connections that wait have no goroutine and no buffer.
func TestWebSocketIdleCost(t *testing.T) {
	notPlain(t, "its connections have a goroutine each")
	s := &Server{Handler: wsEcho(WebSocketOptions{})}
	url := TestServer(t, s)
	wsRaw(t, url, "")
	before := runtime.NumGoroutine()
	for range 50 {
		c := wsRaw(t, url, "")
		c.send(string(wsFrame(0x81, "x", true)))
		if b, _ := c.br.Peek(3); string(b) != "\x81\x01x" {
			t.Fatalf("%q", b)
		}
	}
	eventually(t, "goroutines of idle connections to end", func() bool { return runtime.NumGoroutine() <= before+1 })
	s.mu.Lock()
	loops := s.loops
	s.mu.Unlock()
	for _, l := range loops {
		done := make(chan bool)
		l.call(func() {
			for _, c := range l.conns {
				if c != nil && c.take(0) && (c.unread != nil || c.out != nil || c.proto.(*loopSocket).out.outStored != nil || c.proto.(*loopSocket).reader != nil) {
					t.Error("an idle connection holds a buffer")
				}
			}
			close(done)
		})
		<-done
	}
}

// OnMessage may block: others go on, and the messages behind it keep their
// order.
func TestWebSocketBlockingHandler(t *testing.T) {
	var calls atomic.Int32
	release := make(chan bool)
	h := &WebSocketHandler{OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
		calls.Add(1)
		if string(p) == "wait" {
			<-release
		}
		return ws.Write(context.Background(), kind, p)
	}}
	s := &Server{Handler: Inline(h), Loops: 1}
	url := TestServer(t, s)
	quick, slow := wsDial(t, url, WebSocketOptions{}), wsDial(t, url, WebSocketOptions{})
	ctx := wsPatience(t)
	echo := func(text string) {
		t.Helper()
		if err := quick.WriteText(ctx, text); err != nil {
			t.Fatal(err)
		}
		if _, p, err := quick.Read(ctx); err != nil || string(p) != text {
			t.Fatalf("%q, %v", p, err)
		}
	}
	for range 3 {
		before := calls.Load()
		for _, m := range []string{"wait", "1", "2", "3"} {
			slow.WriteText(ctx, m)
		}
		eventually(t, "the call", func() bool { return calls.Load() > before })
		for i := range 20 {
			echo(fmt.Sprint(i))
		}
		release <- true
		for _, want := range []string{"wait", "1", "2", "3"} {
			if _, p, err := slow.Read(ctx); err != nil || string(p) != want {
				t.Fatalf("%q, %v; want %q", p, err, want)
			}
		}
	}
	if s.Stats().Handlers.Steals == 0 {
		t.Error("the loop was never taken from a handler")
	}
}

// What a handler writes leaves although it does not return, and so does what
// others write meanwhile.
func TestWebSocketWritesBeforeReturn(t *testing.T) {
	release := make(chan bool)
	var mine atomic.Pointer[WebSocket]
	h := &WebSocketHandler{OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
		ws.Write(context.Background(), kind, p)
		mine.Store(ws)
		if string(p) == "wait" {
			<-release
		}
		return nil
	}}
	url := TestServer(t, &Server{Handler: Inline(h), Loops: 1})
	ws := wsDial(t, url, WebSocketOptions{})
	ctx := wsPatience(t)
	read := func(want string) {
		t.Helper()
		if _, p, err := ws.Read(ctx); err != nil || string(p) != want {
			t.Fatalf("%q, %v; want %q", p, err, want)
		}
	}
	ws.WriteText(ctx, "wait")
	read("wait")
	mine.Load().WriteText(ctx, "from outside")
	read("from outside")
	close(release)
}

// Any number of goroutines write to one connection; each one's messages arrive
// in order, and none is torn.
func TestWebSocketConcurrentWriters(t *testing.T) {
	const writers, each = 8, 200
	for _, compression := range []Compression{CompressionOff, CompressionTakeover} {
		for _, style := range []string{"loop", "blocking"} {
			t.Run(fmt.Sprintf("%s/%d", style, compression), func(t *testing.T) {
				var wg sync.WaitGroup
				start := func(ws *WebSocket) {
					for w := range writers {
						wg.Go(func() {
							for i := range each {
								m := fmt.Sprintf("%d %d %s", w, i, strings.Repeat("x", i*w))
								if err := ws.WriteText(context.Background(), m); err != nil {
									t.Error(err)
									return
								}
								if i%50 == 0 {
									ws.Ping(context.Background(), []byte("p"))
								}
							}
						})
					}
				}
				o := WebSocketOptions{Compression: compression, MaxQueueBytes: 16 << 10}
				var h Handler = &WebSocketHandler{WebSocketOptions: o, OnOpen: func(ws *WebSocket, r *Request) error { start(ws); return nil }}
				if style == "blocking" {
					h = HandlerFunc(func(w *ResponseWriter, r *Request) error {
						ws, err := AcceptWebSocket(w, r, &o)
						if err == nil {
							start(ws)
							ws.Read(context.Background())
						}
						return err
					})
				}
				url := TestServer(t, &Server{Handler: h})
				ws := wsDial(t, url, o)
				ctx := wsPatience(t)
				var next [writers]int
				for range writers * each {
					_, p, err := ws.Read(ctx)
					if err != nil {
						t.Fatal(err)
					}
					var w, i int
					fmt.Sscanf(string(p), "%d %d", &w, &i)
					if next[w] != i || strings.Count(string(p), "x") != i*w {
						t.Fatalf("writer %d: message %d of %d bytes, want %d", w, i, len(p), next[w])
					}
					next[w]++
				}
				wg.Wait()
				if err := ws.Close(CloseNormal, ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Shutdown closes with 1001 and waits for the answers.
func TestWebSocketShutdown(t *testing.T) {
	for style, h := range wsStyles(WebSocketOptions{}) {
		t.Run(style, func(t *testing.T) {
			s := &Server{Handler: h}
			url := TestServer(t, s)
			var sockets []*WebSocket
			ctx := wsPatience(t)
			for range 10 {
				ws := wsDial(t, url, WebSocketOptions{})
				ws.WriteText(ctx, "x")
				ws.Read(ctx)
				sockets = append(sockets, ws)
			}
			down := make(chan error, 1)
			go func() { down <- s.Shutdown(ctx) }()
			for _, ws := range sockets {
				_, _, err := ws.Read(ctx)
				var ce *CloseError
				if !errors.As(err, &ce) || ce.Code != CloseGoingAway || !errors.Is(err, ErrClosed) {
					t.Errorf("%v", err)
				}
			}
			if err := <-down; err != nil {
				t.Error(err)
			}
		})
	}
}

// Close of the server cuts what is there, and what is written then fails.
func TestWebSocketServerClose(t *testing.T) {
	for style, h := range wsStyles(WebSocketOptions{}) {
		t.Run(style, func(t *testing.T) {
			s := &Server{Handler: h}
			url := TestServer(t, s)
			ws := wsDial(t, url, WebSocketOptions{})
			s.Close()
			if _, _, err := ws.Read(wsPatience(t)); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the connection is still there: %v", err)
			}
			gone(t, s)
		})
	}
}

func TestWebSocketCloseTimeout(t *testing.T) {
	o := WebSocketOptions{CloseTimeout: 50 * time.Millisecond}
	bye := func(ws *WebSocket) { ws.Close(CloseNormal, "bye") }
	closed := make(chan CloseCode, 1)
	styles := map[string]Handler{
		"loop": &WebSocketHandler{WebSocketOptions: o,
			OnOpen:  func(ws *WebSocket, r *Request) error { bye(ws); return nil },
			OnClose: func(ws *WebSocket, code CloseCode, reason string) { closed <- code }},
		"blocking": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			ws, err := AcceptWebSocket(w, r, &o)
			if err == nil {
				bye(ws)
				closed <- CloseAbnormal
			}
			return err
		}),
	}
	for style, h := range styles {
		t.Run(style, func(t *testing.T) {
			s := &Server{Handler: h}
			url := TestServer(t, s)
			c := wsRaw(t, url, "") // never answers
			if code := <-closed; code != CloseAbnormal {
				t.Errorf("%d", code)
			}
			if got := wsEvents(&messageReader{bytesMax: -1}, c.toEnd()); got != "close 1000 \"bye\"\n" {
				t.Errorf("%q", got)
			}
			gone(t, s)
		})
	}
}

func TestWebSocketHeartbeat(t *testing.T) {
	for style, h := range wsStyles(WebSocketOptions{Heartbeat: 250 * time.Millisecond}) {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			s := &Server{Handler: h}
			url := TestServer(t, s)
			c := wsRaw(t, url, "")
			for range 3 { // pings while it is silent, and lives while they are answered
				var frame [2]byte
				if _, err := io.ReadFull(c.br, frame[:]); err != nil || string(frame[:]) != "\x89\x00" {
					t.Fatalf("%q, %v", frame, err)
				}
				c.send(string(wsFrame(0x8a, "", true)))
			}
			if rest := c.toEnd(); string(rest) != "\x89\x00" { // one more ping, and then the end
				t.Errorf("%q", rest)
			}
			gone(t, s)
		})
	}
}

func TestWebSocketIdleTimeout(t *testing.T) {
	for style, h := range wsStyles(WebSocketOptions{Heartbeat: 200 * time.Millisecond, IdleTimeout: 500 * time.Millisecond, CloseTimeout: time.Second}) {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			s := &Server{Handler: h}
			ws := wsDial(t, TestServer(t, s), WebSocketOptions{})
			_, _, err := ws.Read(wsPatience(t)) // answers pings, sends nothing
			var ce *CloseError
			if !errors.As(err, &ce) || ce.Code != CloseGoingAway || ce.Reason != "idle" {
				t.Errorf("%v", err)
			}
			gone(t, s)
		})
	}
}

// The longest limits there are never end anything.
func TestWebSocketLongestTimes(t *testing.T) {
	const never = time.Duration(math.MaxInt64)
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			ws, c, _ := wsPair(t, style, WebSocketOptions{WriteTimeout: never, Heartbeat: never, IdleTimeout: never, CloseTimeout: never})
			if err := ws.WriteText(wsPatience(t), "x"); err != nil {
				t.Fatal(err)
			}
			closed := make(chan error, 1)
			go func() { closed <- ws.Close(CloseNormal, "") }()
			in := make([]byte, len("\x81\x01x\x88\x02\x03\xe8"))
			if _, err := io.ReadFull(c.br, in); err != nil {
				t.Fatal(err)
			}
			c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // many ticks of the loop
			if _, err := c.br.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("before the peer has answered: %v", err)
			}
			c.SetReadDeadline(time.Now().Add(patience))
			c.send(string(wsFrame(0x88, "\x03\xe8", true)))
			if rest := c.toEnd(); len(rest) > 0 {
				t.Errorf("%q", rest)
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	}
}

// What OnOpen fails with is in the log once.
func TestWebSocketOpenFailsOnce(t *testing.T) {
	var log bytes.Buffer
	s := &Server{Logger: slog.New(slog.NewTextHandler(&log, nil)), Handler: &WebSocketHandler{
		OnOpen: func(*WebSocket, *Request) error { return errors.New("not today") },
	}}
	c := wsRaw(t, TestServer(t, s), "")
	c.send(string(wsFrame(0x88, "\x03\xf3", true)))
	if got := wsRest(t, c); got != "close 1011 \"\"\n" {
		t.Errorf("%q", got)
	}
	c.Close()
	gone(t, s)
	if n := strings.Count(log.String(), "not today"); n != 1 {
		t.Errorf("%d times in the log:\n%s", n, log.String())
	}
}

// What has come while nobody read ends the silence: the loop was busy with
// something else, or a blocking reader with the message before.
func TestWebSocketNotIdleUnread(t *testing.T) {
	const idle = 500 * time.Millisecond
	o := WebSocketOptions{IdleTimeout: idle}
	t.Run("loop", func(t *testing.T) {
		t.Parallel()
		seen := make(chan string, 2)
		opened := make(chan *WebSocket, 1)
		s := &Server{Loops: 1, Handler: Inline(&WebSocketHandler{WebSocketOptions: o,
			OnOpen:    func(ws *WebSocket, r *Request) error { opened <- ws; return nil },
			OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error { seen <- string(p); return nil },
			OnClose:   func(ws *WebSocket, code CloseCode, reason string) { seen <- "closed" }})}
		c := wsRaw(t, TestServer(t, s), "")
		ob := outboxOf(<-opened)
		l := ob.c.loop
		l.call(func() {
			c.send(string(wsFrame(0x81, "here", true)))
			time.Sleep(2 * idle)
			l.workset.clock.read()
			l.expire(l.workset) // before its poller has told anything
			if ob.ended() {
				seen <- "idle"
			}
		})
		if got := <-seen; got != "here" {
			t.Errorf("%q", got)
		}
	})
	t.Run("blocking", func(t *testing.T) {
		t.Parallel()
		ws, c, _ := wsPair(t, "blocking", o)
		for _, m := range []string{"first", "second"} {
			c.send(string(wsFrame(0x81, m, true)))
			if m == "second" {
				time.Sleep(2 * idle)
			}
			if _, p, err := ws.Read(wsPatience(t)); err != nil || string(p) != m {
				t.Fatalf("%q, %v", p, err)
			}
		}
		go c.toEnd()
		if _, _, err := ws.Read(wsPatience(t)); err != ErrTimeout {
			t.Errorf("a peer that is idle: %v", err)
		}
	})
}

// Close ends a Write that waits for the peer, on the goroutine of OnMessage as on
// any other, and CloseTimeout ends the connection of a peer that does not read.
func TestCloseEndsWritesThatWait(t *testing.T) {
	t.Parallel()
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			o := WebSocketOptions{WriteTimeout: -1, Heartbeat: -1, CloseTimeout: 500 * time.Millisecond, MaxQueueBytes: 64 << 10}
			written, opened := make(chan error, 2), make(chan *WebSocket, 1)
			fill := func(ws *WebSocket) {
				err := error(nil)
				for message := make([]byte, 32<<10); err == nil; {
					err = ws.Write(context.Background(), BinaryMessage, message)
				}
				written <- err
			}
			var h Handler = &WebSocketHandler{WebSocketOptions: o, OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
				opened <- ws
				fill(ws)
				return nil
			}}
			writers := 1
			if style == "blocking" {
				writers = 2 // of which one waits in the socket, and one for it
				h = HandlerFunc(func(w *ResponseWriter, r *Request) error {
					ws, err := AcceptWebSocket(w, r, &o)
					if err != nil {
						return err
					}
					go fill(ws)
					opened <- ws
					fill(ws)
					return nil
				})
			}
			s := &Server{Handler: h}
			c := wsRaw(t, TestServer(t, s), "")
			c.send(string(wsFrame(0x81, "go", true)))
			ws := <-opened
			eventually(t, "a queue that is full", func() bool {
				if b := ws.blocking(); b != nil {
					b.mu.Lock()
					defer b.mu.Unlock()
					return b.room != nil
				}
				outboxOf(ws).lock()
				defer outboxOf(ws).unlock()
				return outboxOf(ws).room != nil
			})
			ws.Close(CloseNormal, "")
			for range writers {
				if err := <-written; !errors.Is(err, ErrClosed) && !errors.Is(err, ErrTimeout) {
					t.Errorf("Write: %v", err)
				}
			}
			gone(t, s)
			c.Close()
		})
	}
}

// CloseTimeout holds for a connection whose OnMessage is busy.
func TestCloseTimeoutBesideOnMessage(t *testing.T) {
	t.Parallel()
	opened, over := make(chan *WebSocket, 1), make(chan struct{})
	h := &WebSocketHandler{WebSocketOptions: WebSocketOptions{CloseTimeout: 100 * time.Millisecond}, OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
		opened <- ws
		<-over
		return nil
	}}
	s := &Server{Handler: h}
	url := TestServer(t, s)
	defer close(over)
	c := wsRaw(t, url, "")
	c.send(string(wsFrame(0x81, "go", true)))
	(<-opened).Close(CloseNormal, "")
	if got := wsEvents(&messageReader{bytesMax: -1}, c.toEnd()); got != "close 1000 \"\"\n" {
		t.Errorf("%q", got)
	}
}

// CloseTimeout is over once: a close frame of a peer that takes nothing, which comes
// while the server's waits, begins no other.
func TestCloseTimeoutIsOne(t *testing.T) {
	t.Parallel()
	for _, style := range wsBothStyles {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			const limit = 2 * time.Second
			ws, c, _ := wsPair(t, style, WebSocketOptions{WriteTimeout: -1, Heartbeat: -1, CloseTimeout: limit, MaxQueueBytes: 32 << 20})
			written := make(chan error, 1)
			go func() { written <- ws.Write(context.Background(), BinaryMessage, make([]byte, 16<<20)) }()
			if style == "loop" { // where Write is done when all is queued
				<-written
				written <- nil
			} else {
				eventually(t, "a write that waits in the socket", func() bool { b := ws.blocking(); b.mu.Lock(); defer b.mu.Unlock(); return b.sending })
			}
			began := time.Now()
			go ws.Close(CloseNormal, "")
			time.Sleep(limit * 8 / 10) // the peer's time
			c.send(string(wsFrame(0x88, "\x03\xe8", true)))
			<-written
			eventually(t, "the end", func() bool { return ws.run.closing() })
			if took := time.Since(began); took > limit*17/10 {
				t.Errorf("it took %v of a CloseTimeout of %v", took, limit)
			}
			c.toEnd()
		})
	}
}

// Compressed messages that become large are inflated in several turns of a loop,
// with others' between them.
func TestInflatedTurnsEnd(t *testing.T) {
	const size, messages = 900 << 10, 9
	got := 0
	h := &WebSocketHandler{WebSocketOptions: WebSocketOptions{Compression: CompressionOn}, OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
		got++
		return nil
	}}
	f := newFeeder(t, &Server{Handler: Inline(h)})
	c := f.srv.newConn(f.loop, -1, netip.AddrPort{})
	small, _ := new(deflater).deflate(getBuffer(size), make([]byte, size))
	one := string(wsFrame(frameFin|frameRSV1|byte(BinaryMessage), string(small.b), true))
	handshake := wsTestHandshake + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
	c.tr = &scriptedTransport{c: c, shutAt: -1, pieces: [][]byte{[]byte(handshake + strings.Repeat(one, messages))}}
	c.edges = ownRead | ownWrite
	turns := 0
	for before := 0; got < messages; before = got {
		v := f.driveOnLoop(c)
		if got > before+2 || got < messages && v != verdictMore {
			t.Fatalf("%d messages in one turn, verdict %d", got-before, v)
		}
		if turns++; turns > 2*messages {
			t.Fatal("the messages do not come")
		}
	}
	c.outbox.Load().kill(ErrClosed)
	c.setState(stateClosed)
	c.ended()
}
