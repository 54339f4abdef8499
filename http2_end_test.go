package flare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file has how connections of HTTP/2 end: by Shutdown and Close, by a peer
// that leaves, and by GOAWAY of either side.

// An endServer has handlers that wait until they are told to go on.
type endServer struct {
	*http2Target
	entered atomic.Int32
	left    atomic.Int32
	leave   chan struct{}
}

func newEndServer(t testing.TB, set func(*Server)) *endServer {
	s := &endServer{leave: make(chan struct{})}
	srv := &Server{Handler: routes{
		"/good": textHandler("fine"),
		"/wait": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			s.entered.Add(1)
			defer s.left.Add(1)
			select {
			case <-s.leave:
				return w.Text(200, "waited")
			case <-r.Context().Done():
				return r.Context().Err()
			}
		}),
		"/deaf": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			s.entered.Add(1)
			defer s.left.Add(1)
			<-s.leave
			return w.Text(200, "waited")
		}),
		"/read": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			s.entered.Add(1)
			defer s.left.Add(1)
			_, err := io.Copy(io.Discard, r.Body())
			return err
		}),
		"/write": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			s.entered.Add(1)
			defer s.left.Add(1)
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return err
				}
			}
		}),
	}}
	if set != nil {
		set(srv)
	}
	s.http2Target = startHTTP2(t, srv)
	return s
}

// shutdown calls Shutdown beside the test.
func (s *endServer) shutdown(ctx context.Context) chan error {
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	return ended
}

// Shutdown says first that it ends, then, a round trip later, with which
// stream: what was opened in between is answered.
func TestHTTP2Shutdown(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	p, idle := s.dial(t), s.dial(t)
	idle.get("/good").want(t, 200, "fine")
	slow := p.start("/wait")
	eventually(t, "the handler", func() bool { return s.entered.Load() == 1 })
	ended := s.shutdown(t.Context())
	p.manual = true
	p.readUntil("the first GOAWAY, and a PING", func() bool { return len(p.goAway) == 1 && len(p.pinged) == 1 })
	if got := p.goAway[0]; got != (http2Away{streamMax, codeNone}) {
		t.Errorf("the first GOAWAY is %v", got)
	}
	late := p.start("/good")
	p.answer(late).want(t, 200, "fine")
	p.send(appendHTTP2Ping(nil, p.pinged[0], true))
	p.readUntil("the second GOAWAY", func() bool { return len(p.goAway) == 2 })
	if got := p.goAway[1]; got != (http2Away{late, codeNone}) {
		t.Errorf("the second GOAWAY is %v, want stream %d", got, late)
	}
	ignored := p.start("/wait")
	idle.failed(codeNone)
	select {
	case err := <-ended:
		t.Fatalf("Shutdown has not waited: %v", err)
	default:
	}
	close(s.leave)
	p.answer(slow).want(t, 200, "waited")
	p.failed(codeNone)
	if a := p.streams[ignored]; a.status != 0 || s.entered.Load() != 1 {
		t.Errorf("a stream behind the last: %v", a)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// haproxy resets a stream that has no number yet when it is told that the
// connection ends. That costs nobody an answer; before it is told, it does.
func TestHTTP2ResetOfNoStream(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	reset := appendRSTStream(nil, 0, codeCancel)
	early := s.dial(t)
	early.send(reset)
	early.failed(codeProtocol)

	p := s.dial(t)
	slow := p.start("/wait")
	eventually(t, "the handler", func() bool { return s.entered.Load() == 1 })
	ended := s.shutdown(t.Context())
	p.readUntil("the second GOAWAY", func() bool { return len(p.goAway) == 2 })
	p.send(reset)
	close(s.leave)
	p.answer(slow).want(t, 200, "waited")
	p.failed(codeNone)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A client that does not answer the PING does not hold Shutdown up for long.
func TestHTTP2ShutdownWithoutPong(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	p := s.dial(t)
	p.get("/good").want(t, 200, "fine")
	p.manual = true
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	if err := <-s.shutdown(ctx); err != nil {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
	p.failed(codeNone)
}

// Requests that race with Shutdown: each that the last GOAWAY counts is
// answered, each that it does not count reaches no handler.
func TestHTTP2ShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	var served sync.Map // number of a request to true
	s := startHTTP2(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		served.Store(r.Path(), true)
		return w.Text(200, r.Path())
	})})
	const clients = 4
	var asking sync.WaitGroup
	var asked atomic.Int32
	for c := range clients {
		p := s.dial(t)
		asking.Go(func() {
			paths := make(map[uint32]string)
			var open []uint32
			last := func() bool { return len(p.goAway) > 0 && p.goAway[len(p.goAway)-1].last < streamMax }
			for i := 0; p.over == nil && !last(); i++ {
				path := fmt.Sprintf("/%d/%d", c, i)
				b, stream := p.head(true, requestLines("GET", path)...)
				paths[stream], open = path, append(open, stream)
				if p.write(b) != nil {
					break
				}
				asked.Add(1)
				for len(open) > 20 && p.over == nil && !last() {
					if err := p.next(); err != nil && p.over == nil {
						t.Error(err)
						return
					}
					open = slices.DeleteFunc(open, func(stream uint32) bool { return p.streams[stream].done() })
				}
			}
			p.toEnd()
			if n := len(p.goAway); n == 0 || p.goAway[n-1].code != codeNone {
				t.Errorf("ended by GOAWAY %v, %v", p.goAway, p.over)
				return
			}
			final := p.goAway[len(p.goAway)-1].last
			for stream, path := range paths {
				_, reached := served.Load(path)
				a := p.streams[stream]
				if whole := a.ended && a.status == 200 && string(a.body) == path; whole != (stream <= final) || reached != whole {
					t.Errorf("%v: reached a handler: %v; the last stream is %d", a, reached, final)
				}
			}
		})
	}
	eventually(t, "requests", func() bool { return asked.Load() > 500 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	asking.Wait()
}

// At the deadline of Shutdown what is left is cut, handlers of every kind.
func TestHTTP2ShutdownCutsAtTheDeadline(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	p := s.dial(t)
	streams := []uint32{p.start("/wait"), p.open(false, requestLines("POST", "/read")...), p.start("/write")}
	p.manual = true
	eventually(t, "the handlers", func() bool { return s.entered.Load() == 3 })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	eventually(t, "the end of the handlers", func() bool { return s.left.Load() == 3 })
	p.toEnd()
	for _, stream := range streams {
		if a := p.streams[stream]; a.ended {
			t.Errorf("%v", a)
		}
	}
	gone(t, s.Server)
}

// A client that shuts its side in order will never open a window again: what
// waits for one ends at once, what does not is still answered.
func TestHTTP2ClientLeavesShutWindows(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	p := s.dial(t)
	p.manual = true
	var streams []uint32
	for range 3 {
		streams = append(streams, p.start("/write"))
	}
	last := p.start("/deaf")
	p.readUntil("a shut window", func() bool { return p.room == 0 })
	eventually(t, "the handlers", func() bool { return s.entered.Load() == 4 })
	p.nc.(*net.TCPConn).CloseWrite()
	eventually(t, "the end of the writers", func() bool { return s.left.Load() == 3 })
	close(s.leave)
	p.toEnd()
	for _, stream := range streams {
		if a := p.streams[stream]; a.ended {
			t.Errorf("%v", a)
		}
	}
	if a := p.streams[last]; a.status != 200 {
		t.Errorf("%v", a)
	}
	gone(t, s.Server)
}

// The handlers of a connection that has failed are told so at once, not when its
// client has taken note.
func TestHTTP2FailureEndsHandlers(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	p := s.dial(t)
	streams := []uint32{p.start("/wait"), p.open(false, requestLines("POST", "/read")...), p.start("/write")}
	p.manual = true
	eventually(t, "the handlers", func() bool { return s.entered.Load() == 3 })
	p.send(http2Frame(frameData, 0, 0, "x"))
	eventually(t, "the end of the handlers", func() bool { return s.left.Load() == 3 })
	if gauge(s.Server, stateDrain) != 1 && !onPlain() {
		t.Error("the connection has ended before")
	}
	p.failed(codeProtocol)
	for _, stream := range streams {
		if a := p.streams[stream]; a.ended {
			t.Errorf("%v", a)
		}
	}
}

// A client that says GOAWAY is answered what it has asked.
func TestHTTP2ClientGoesAway(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	p := s.dial(t)
	slow := p.start("/wait")
	eventually(t, "the handler", func() bool { return s.entered.Load() == 1 })
	p.send(appendGoAway(nil, 0, codeNone))
	p.sync()
	close(s.leave)
	p.answer(slow).want(t, 200, "waited")
}

// The numbers of streams only go up, and a client's are odd (RFC 9113 §5.1.1).
func TestHTTP2StreamNumbers(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	frame := func(p *http2Peer, stream uint32) []byte {
		b, at := beginHeaders(nil)
		b = append(b, p.encode(requestLines("GET", "/good")...)...)
		return endHeaders(b, at, stream, true, frameSizeDefault)
	}
	for _, row := range []struct {
		name  string
		ask   []uint32
		codes []http2Code
	}{
		{"0", []uint32{0}, []http2Code{codeProtocol}},
		{"even", []uint32{2}, []http2Code{codeProtocol}},
		{"twice", []uint32{1, 1}, []http2Code{codeProtocol, codeStreamClosed}},
		{"back", []uint32{5, 3}, []http2Code{codeProtocol, codeStreamClosed}},
	} {
		p := s.dial(t)
		for i, stream := range row.ask {
			p.streams[stream] = &http2Answer{id: stream, length: -1, room: windowDefault}
			p.send(frame(p, stream))
			if i < len(row.ask)-1 {
				p.answer(stream).want(t, 200, "fine")
			}
		}
		p.toEnd()
		if n := len(p.goAway); n == 0 || p.goAway[n-1].code != row.codes[0] && p.goAway[n-1].code != row.codes[len(row.codes)-1] {
			t.Errorf("%s: GOAWAY %v, want %v", row.name, p.goAway, row.codes)
		}
	}
	// Leaving some out is allowed.
	p := s.dial(t)
	p.fresh = 1001
	p.get("/good").want(t, 200, "fine")
	p.fresh = streamMax
	p.get("/good").want(t, 200, "fine")
}

// Streams beyond the setting are refused so that the client can ask again
// elsewhere, and none of them reaches a handler.
func TestHTTP2TooManyStreams(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, nil)
	p := s.dial(t)
	p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
	most := int(p.theirs.streamsMax)
	if most < 100 || most > 1000 {
		t.Fatalf("MAX_CONCURRENT_STREAMS is %d", most)
	}
	var open, refused []uint32
	for range most {
		open = append(open, p.start("/wait"))
	}
	for range 20 {
		refused = append(refused, p.start("/wait"))
	}
	for _, stream := range refused {
		p.answer(stream).wantReset(t, codeRefusedStream)
	}
	eventually(t, "the handlers", func() bool { return int(s.entered.Load()) == most })
	close(s.leave)
	for _, stream := range open {
		p.answer(stream).want(t, 200, "waited")
	}
	if n := s.entered.Load(); int(n) != most {
		t.Errorf("%d calls of the handler, at most %d streams", n, most)
	}
	p.get("/wait").want(t, 200, "waited")
}
