package flare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stallMax is how long a handler that waits may delay others in these tests:
// two ticks and what a busy test machine adds. bench has the figures.
const stallMax = 400 * time.Millisecond

// others sends requests on a connection of its own until stop is closed, and
// returns the worst latency.
func others(t *testing.T, addr, path string, stop <-chan bool) (worst time.Duration) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		select {
		case <-stop:
			return worst
		default:
		}
		before := time.Now()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(io.Discard, resp.Body)
		worst = max(worst, time.Since(before))
	}
}

func TestHandlersThatWaitDelayNobody(t *testing.T) {
	never := make(chan bool)
	waits := map[string]func(time.Duration){
		"sleep": time.Sleep,
		"channel": func(d time.Duration) {
			select {
			case <-never:
			case <-time.After(d):
			}
		},
		"syscall": blockThread,
		"spin": func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); {
			}
		},
	}
	for name, wait := range waits {
		for _, pin := range []struct {
			name string
			wrap Middleware
		}{{"fresh", func(h Handler) Handler { return h }}, {"inline", Inline}} {
			t.Run(name+"/"+pin.name, func(t *testing.T) {
				mux := NewMux()
				mux.Get("/quick", func(w *ResponseWriter, r *Request) error { return w.Text(200, "ok") })
				mux.Handle("GET /wait", HandlerFunc(func(w *ResponseWriter, r *Request) error {
					wait(800 * time.Millisecond)
					return w.Text(200, "waited")
				}), pin.wrap)
				s := &Server{Handler: mux, Loops: 1}
				addr := startServer(t, s)
				stop, worst := make(chan bool), make(chan time.Duration)
				go func() { worst <- others(t, addr, "/quick", stop) }()
				for s.Stats().Handlers.Inline == 0 { // the quick route has come inline
					runtime.Gosched()
				}
				if status, body := get(t, "http://"+addr+"/wait"); status != 200 || body != "waited" {
					t.Errorf("%d %q", status, body)
				}
				close(stop)
				if w := <-worst; w > stallMax {
					t.Errorf("others waited up to %v", w)
				}
				if st := s.Stats().Handlers; pin.name == "inline" && st.Steals == 0 {
					t.Errorf("the loop was not taken from the handler: %+v", st)
				}
			})
		}
	}
}

func TestPredictorLearns(t *testing.T) {
	var slow atomic.Bool
	s := &Server{Loops: 1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if slow.Load() {
			time.Sleep(50 * time.Millisecond)
		}
		return w.Text(200, "ok")
	})}
	addr := startServer(t, s)
	deadline := time.Now().Add(10 * time.Second)
	for s.Stats().Handlers.Inline == 0 {
		get(t, "http://"+addr+"/a/b")
		if time.Now().After(deadline) {
			t.Fatalf("the route never came inline: %+v", s.Stats().Handlers)
		}
	}
	slow.Store(true)
	for s.Stats().Handlers.Steals == 0 {
		get(t, "http://"+addr+"/a/c")
		if time.Now().After(deadline) {
			t.Fatalf("the loop was never taken from the handler: %+v", s.Stats().Handlers)
		}
	}
	rt := s.routes.find("GET/a", pinNone)
	if rt.onLoop() || rt.need.Load() < 2*needFirst {
		t.Errorf("on loop %v, needs %d", rt.onLoop(), rt.need.Load())
	}
}

func TestRouteProvesItself(t *testing.T) {
	rt := newRoute()
	prove := func(n uint32) {
		t.Helper()
		for i := range n {
			if rt.onLoop() {
				t.Fatalf("inline after %d short calls of %d", i, n)
			}
			rt.record(shortCall / 2)
		}
		if !rt.onLoop() {
			t.Fatalf("not inline after %d short calls", n)
		}
	}
	prove(needFirst)
	rt.demote()
	rt.demote() // a second goroutine that finds out as well counts once
	prove(2 * needFirst)
	rt.demote()
	for range 4*needFirst - 1 {
		rt.record(0)
	}
	rt.record(shortCall) // one long call, and it starts over
	prove(4 * needFirst)
	for range 64 {
		rt.demote()
		rt.inline.Store(true)
	}
	if need := rt.need.Load(); need > needMax {
		t.Errorf("needs %d", need)
	}
}

func TestRouteRecordsAreBounded(t *testing.T) {
	var rs routeRecords
	for i := range 2 * routesLearned {
		rs.find(fmt.Sprint("GET/", i), pinNone)
	}
	if n := len(*rs.known.Load()); n != routesLearned {
		t.Errorf("%d routes learned", n)
	}
	if rs.find("GET/x", pinNone) != rs.find("GET/y", pinNone) {
		t.Error("routes beyond the bound do not share a record")
	}
}

func TestHandlerCallsItsOwnServer(t *testing.T) {
	for name, wrap := range map[string]Middleware{"inline": Inline, "offload": Offload, "learned": func(h Handler) Handler { return h }} {
		t.Run(name, func(t *testing.T) {
			var addr string
			mux := NewMux()
			mux.Handle("/inner", wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "inner") })))
			mux.Handle("/outer", wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error {
				resp, err := http.Get("http://" + addr + "/inner")
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				_, err = io.Copy(w, resp.Body)
				return err
			})))
			addr = startServer(t, &Server{Handler: mux, Loops: 1})
			for range 100 {
				if status, body := get(t, "http://"+addr+"/outer"); status != 200 || body != "inner" {
					t.Fatalf("%d %q", status, body)
				}
			}
		})
	}
}

func TestGoexitEndsOnlyItsConnection(t *testing.T) {
	for name, wrap := range map[string]Middleware{"inline": Inline, "offload": Offload} {
		t.Run(name, func(t *testing.T) {
			addr := startServer(t, &Server{Loops: 1, Handler: wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error {
				if r.Path() == "/goexit" {
					runtime.Goexit()
				}
				return w.Text(200, "ok")
			}))})
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /goexit HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
			got, err := io.ReadAll(c)
			if n := strings.Count(string(got), "HTTP/1.1 200 OK"); n != 1 {
				t.Errorf("%d answers before the connection ended: %v", n, err)
			}
			if status, _ := get(t, "http://"+addr+"/"); status != 200 {
				t.Errorf("status %d afterwards", status)
			}
		})
	}
}

func TestPipelinedRequestsHaveOneHandlerAtATime(t *testing.T) {
	var running, most atomic.Int32
	addr := startServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Millisecond)
		running.Add(-1)
		return w.Text(200, r.Path())
	})})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 50
	go func() {
		for i := range n {
			fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
		}
	}()
	br := bufio.NewReader(c)
	for i := range n {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); string(body) != fmt.Sprint("/", i) {
			t.Fatalf("answer %d is %q", i, body)
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d handlers of one connection at once", most.Load())
	}
}

func TestContextEnds(t *testing.T) {
	type outcome struct {
		err   error
		cause error
	}
	for _, where := range []struct {
		name string
		wrap Middleware
	}{{"inline", Inline}, {"offload", Offload}} {
		for name, end := range map[string]func(*Server, *net.TCPConn){
			"fin":   func(s *Server, c *net.TCPConn) { c.CloseWrite() },
			"reset": func(s *Server, c *net.TCPConn) { c.SetLinger(0); c.Close() },
			"close": func(s *Server, c *net.TCPConn) { s.Close() },
		} {
			t.Run(where.name+"/"+name, func(t *testing.T) {
				entered, ended := make(chan bool), make(chan outcome, 1)
				s := &Server{Loops: 1, Handler: where.wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error {
					ctx := r.Context()
					if r.Context() != ctx {
						t.Error("another context the second time")
					}
					close(entered)
					<-ctx.Done()
					ended <- outcome{ctx.Err(), context.Cause(ctx)}
					return nil
				}))}
				addr := startServer(t, s)
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				<-entered
				end(s, c.(*net.TCPConn))
				select {
				case o := <-ended:
					if !errors.Is(o.err, context.Canceled) {
						t.Errorf("%v, cause %v", o.err, o.cause)
					}
				case <-time.After(10 * time.Second):
					t.Error("the context did not end")
				}
			})
		}
	}
	t.Run("return", func(t *testing.T) {
		ctxs := make(chan context.Context, 1)
		addr := startServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			ctxs <- r.Context()
			return nil
		})})
		get(t, "http://"+addr+"/")
		<-(<-ctxs).Done()
	})
}

func TestRequestIsDeadAfterItsHandler(t *testing.T) {
	var kept *Request
	var clone *Request
	addr := startServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if kept == nil {
			kept, clone = r, r.Clone()
		}
		return nil
	})})
	get(t, "http://"+addr+"/kept?a=b")
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "Clone") {
			t.Errorf("panic: %v", p)
		}
		if clone.Path() != "/kept" || clone.Query().Get("a") != "b" || clone.Header().Get("Host") != addr {
			t.Error("the clone has changed")
		}
	}()
	kept.Path()
}

// A countingPoller counts how often a loop comes out of the poller.
type countingPoller struct {
	Poller
	waits *atomic.Int64
}

func (p countingPoller) Wait(events []Event, timeout time.Duration) (int, error) {
	n, err := p.Poller.Wait(events, timeout)
	p.waits.Add(1)
	return n, err
}

func TestIdleServerDoesNotWake(t *testing.T) {
	var waits atomic.Int64
	addr := startServer(t, &Server{
		Loops:   2,
		Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "ok") }),
		NewPoller: func() (Poller, error) {
			p, err := NewPoller()
			return countingPoller{p, &waits}, err
		},
	})
	for range 100 {
		get(t, "http://"+addr+"/")
	}
	for deadline := time.Now().Add(5 * time.Second); monitor.active.Load(); {
		if time.Now().After(deadline) {
			t.Fatal("the monitor goes on ticking")
		}
		time.Sleep(tick) // the monitor's own time has to pass
	}
	before := waits.Load()
	time.Sleep(20 * tick) // idle time is what is measured
	if n := waits.Load() - before; n > 1 {
		t.Errorf("an idle server's loops came out of the poller %d times", n)
	}
	if monitor.active.Load() {
		t.Error("the monitor ticks while nothing runs")
	}
}

func TestHijack(t *testing.T) {
	for name, wrap := range map[string]Middleware{"inline": Inline, "offload": Offload} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Loops: 1, Handler: wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error {
				if r.Path() != "/hijack" {
					return w.Text(200, "first")
				}
				conn, rw, err := w.Hijack()
				if err != nil {
					return err
				}
				defer conn.Close()
				line, err := rw.ReadString('\n')
				rw.WriteString("echo " + line)
				rw.Flush()
				return err
			}))}
			addr := startServer(t, s)
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /hijack HTTP/1.1\r\nHost: x\r\n\r\nbytes behind the head\n")
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasSuffix(string(got), "firstecho bytes behind the head\n") {
				t.Fatalf("%q, %v", got, err)
			}
			if n := s.Stats().Connections.Open; n != 0 {
				t.Errorf("%d connections counted after a hijack", n)
			}
		})
	}
}

// A lineEcho is a protocol whose Data waits.
type lineEcho struct{ closed chan error }

func (p *lineEcho) Data(c *Conn, in []byte, eof bool) (int, error) {
	i := strings.IndexByte(string(in), '\n')
	if i < 0 {
		return 0, nil
	}
	if strings.HasPrefix(string(in), "wait") {
		time.Sleep(300 * time.Millisecond)
	}
	return i + 1, c.Write(in[:i+1])
}

func (p *lineEcho) Drained(*Conn)           {}
func (p *lineEcho) Closed(c *Conn, e error) { p.closed <- e }

func TestProtocolDataMayWait(t *testing.T) {
	closed := make(chan error, 8)
	s := &Server{Loops: 1, NewProtocol: func(*Conn) Protocol { return &lineEcho{closed} }}
	addr := startServer(t, s)
	var wg sync.WaitGroup
	slow, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan bool)
	var worst time.Duration
	wg.Go(func() {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		for {
			select {
			case <-stop:
				return
			default:
			}
			before := time.Now()
			io.WriteString(c, "quick\n")
			if line, err := br.ReadString('\n'); line != "quick\n" {
				t.Errorf("%q %v", line, err)
				return
			}
			worst = max(worst, time.Since(before))
		}
	})
	for s.Stats().Handlers.Inline == 0 {
		runtime.Gosched()
	}
	io.WriteString(slow, "wait\nmore\n")
	br := bufio.NewReader(slow)
	for _, want := range []string{"wait\n", "more\n"} {
		if line, err := br.ReadString('\n'); line != want {
			t.Errorf("%q %v", line, err)
		}
	}
	close(stop)
	wg.Wait()
	slow.Close()
	if worst > stallMax {
		t.Errorf("others waited up to %v", worst)
	}
	for range 2 {
		<-closed
	}
}

// Waits end in time although signals of other edges come just when their time
// is over.
func TestAwaitEndsInTimeBesideOtherEdges(t *testing.T) {
	const conns, limit = 2000, 50 * time.Millisecond
	l := newLoop(nil)
	var all [conns]Conn
	ended := make(chan error, conns)
	for i := range all {
		c := &all[i]
		c.loop, c.frame = l, new(frame)
		c.own.Store(ownLent)
		go func() { ended <- c.await(ownRead, limit) }()
	}
	patient := time.After(patience)
	for n := 0; n < conns; {
		for i := range all {
			all[i].take(ownWrite)
		}
		select {
		case err := <-ended:
			if n++; err != ErrTimeout {
				t.Fatalf("got %v", err)
			}
		case <-patient:
			t.Fatalf("%d waits do not end", conns-n)
		default:
		}
	}
}
