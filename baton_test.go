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

// stallMax is how long a handler that waits may delay others in these tests: two
// ticks, and what the busiest test machine adds. bench has the figures.
const stallMax = 2 * time.Second

// A load asks for something quick, again and again, on a connection of its own.
type load struct {
	answers atomic.Int64
	worst   time.Duration // for one answer; to be looked at when it is over
	stop    chan bool
	over    chan bool
}

func newLoad() *load { return &load{stop: make(chan bool), over: make(chan bool)} }

// begin has it ask addr. read reads one answer.
func (l *load) begin(t *testing.T, addr, ask string, read func(*bufio.Reader) error) {
	c := dialRaw(t, addr)
	go func() {
		defer close(l.over)
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			before := time.Now()
			_, err := io.WriteString(c, ask)
			if err == nil {
				err = read(c.br)
			}
			if err != nil {
				t.Error(err)
				return
			}
			l.worst = max(l.worst, time.Since(before))
			l.answers.Add(1)
		}
	}()
}

// goesOn calls wait until the load has had some more answers. A handler that
// calls it holds up the others for ever if it holds up any, and gives up then.
func (l *load) goesOn(wait func()) error {
	enough := l.answers.Load() + 20
	for deadline := time.Now().Add(patience / 2); l.answers.Load() < enough; wait() {
		if time.Now().After(deadline) {
			return errors.New("nobody else was answered")
		}
	}
	return nil
}

// end ends the load, and fails the test if somebody had to wait for long.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	<-l.over
	if l.worst > stallMax {
		t.Errorf("others waited up to %v", l.worst)
	}
}

func TestHandlersThatWaitDelayNobody(t *testing.T) {
	const a = 50 * time.Millisecond // ten ticks
	waits := map[string]func(){
		"sleep":   func() { time.Sleep(a) },
		"channel": func() { <-time.After(a) },
		"syscall": func() { blockThread(a) },
		"spin":    func() {},
	}
	for name, wait := range waits {
		for _, pin := range []struct {
			name string
			wrap Middleware
		}{{"fresh", func(h Handler) Handler { return h }}, {"inline", Inline}} {
			t.Run(name+"/"+pin.name, func(t *testing.T) {
				others, mux := newLoad(), NewMux()
				mux.Handle("GET /quick", textHandler("ok"), Inline)
				mux.Handle("GET /wait", HandlerFunc(func(w *ResponseWriter, r *Request) error {
					if err := others.goesOn(wait); err != nil {
						return err
					}
					return w.Text(200, "waited")
				}), pin.wrap)
				s := &Server{Handler: mux, Loops: 1}
				addr := startServer(t, s)
				others.begin(t, addr, request("/quick"), func(br *bufio.Reader) error {
					_, err := readAnswer(br, "GET")
					return err
				})
				if status, body := get(t, "http://"+addr+"/wait"); status != 200 || body != "waited" {
					t.Errorf("%d %q", status, body)
				}
				others.end(t)
				if st := s.Stats().Handlers; pin.name == "inline" && st.Steals == 0 {
					t.Errorf("the loop was not taken from the handler: %+v", st)
				}
			})
		}
	}
}

// However many calls come at once, each is made without any other having to end: here
// each waits until all the others have begun.
func TestWorkersCallSideBySide(t *testing.T) {
	t.Parallel()
	const calls = 100
	var begun sync.WaitGroup
	begun.Add(calls)
	mux := NewMux()
	mux.Handle("GET /", Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		begun.Done()
		begun.Wait()
		return w.Text(200, "")
	})))
	addr := startHTTP2Server(t, &Server{Loops: 1, Handler: mux})
	c := dialRawHTTP2(t, addr, ":method: GET", ":scheme: http", ":path: /", ":authority: h")
	c.nc.SetDeadline(time.Now().Add(patience))
	c.ask(calls)
}

func TestPredictorLearns(t *testing.T) {
	var slow atomic.Bool
	s := &Server{Loops: 1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if slow.Load() {
			time.Sleep(10 * tick) // a slow handler
		}
		return w.Text(200, "ok")
	})}
	addr := startServer(t, s)
	rt := s.routes.find("GET/a", pinNone)
	rt.need.Store(1) // how many it takes in a row hangs on the machine
	eventually(t, "the loop to be taken from the handler", func() bool {
		slow.Store(false)
		eventually(t, "the route to come inline", func() bool {
			get(t, "http://"+addr+"/a/b")
			return rt.onLoop()
		})
		slow.Store(true)
		get(t, "http://"+addr+"/a/c")
		return s.Stats().Handlers.Steals > 0
	})
	eventually(t, "the route to go back to workers", func() bool { return !rt.onLoop() && rt.need.Load() >= 2 })
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
	t.Parallel()
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
		time.Sleep(time.Millisecond) // a second one would have time to begin
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
				case <-time.After(patience):
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
	if p, err := NewPoller(); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this system has no poller")
	} else if err == nil {
		p.Close()
	}
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
	eventually(t, "the monitor to rest", func() bool { return !monitor.active.Load() })
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
type lineEcho struct {
	others *load
	closed chan error
}

func (p *lineEcho) Data(c *Conn, in []byte, eof bool) (int, error) {
	i := strings.IndexByte(string(in), '\n')
	if i < 0 {
		return 0, nil
	}
	if strings.HasPrefix(string(in), "wait") {
		wait := func() { time.Sleep(10 * tick) } // what is tested: Data that blocks
		if err := p.others.goesOn(wait); err != nil {
			return 0, err
		}
	}
	return i + 1, c.Write(in[:i+1])
}

func (p *lineEcho) Drained(*Conn)           {}
func (p *lineEcho) Closed(c *Conn, e error) { p.closed <- e }

func TestProtocolDataMayWait(t *testing.T) {
	others, closed := newLoad(), make(chan error, 2)
	s := &Server{Loops: 1, NewProtocol: func(*Conn) Protocol { return &lineEcho{others, closed} }}
	addr := startServer(t, s)
	eventually(t, "the loop", func() bool { return len(loopsOf(s)) == 1 })
	s.data.inline.Store(true) // as if it had proven to be quick
	slow := dialRaw(t, addr)
	others.begin(t, addr, "quick\n", func(br *bufio.Reader) error {
		line, err := br.ReadString('\n')
		if err == nil && line != "quick\n" {
			err = fmt.Errorf("read %q", line)
		}
		return err
	})
	slow.send("wait\nmore\n")
	for _, want := range []string{"wait\n", "more\n"} {
		if line, err := slow.br.ReadString('\n'); line != want {
			t.Errorf("%q %v", line, err)
		}
	}
	others.end(t)
	slow.Close()
	if s.Stats().Handlers.Steals == 0 {
		t.Error("the loop was not taken from Data")
	}
	<-closed
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
		c.conn, c.loop, c.workset, c.waits = c, l, new(workset), new(ownerWaits)
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
