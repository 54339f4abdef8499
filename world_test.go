package flare

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"hash"
	"hash/fnv"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// This file has the simulated world: a server whose goroutines run one at a
// time, in an order drawn from a seed, over sockets (world_net_test.go) that
// misbehave as the seed has it, with clients (world_peer_test.go) that do the
// same. What a seed has found once it finds again:
//
//	go test -run 'TestWorld$' -world.seed N
//
// Nothing here knows of real time or real sockets. A bubble of testing/synctest
// tells when every goroutine waits, and has the clock; which of those that
// could go on does so is the world's to say.

var (
	worldSeed = flag.Uint64("world.seed", 0, "the only seed that TestWorld runs, and prints the story of")
	worldFrom = flag.Uint64("world.from", 0, "the first seed that TestWorld tries; 0: one of the clock")
	worldTime = flag.Duration("world.time", 10*time.Second, "for how long TestWorld tries fresh seeds")
)

const (
	worldSteps  = 600     // steps while clients begin
	settleSteps = 100_000 // steps until all that was begun has to have ended
	storyLines  = 100
)

// A task is a goroutine of the engine or of a handler.
type task struct {
	id   int
	wake chan struct{}
	at   string // where it stands at the gate
}

// A world is one run. Its fields belong to whoever runs: one task, or the world
// itself while all tasks wait. mu is for the moments between the two.
type world struct {
	seed uint64
	rand *rand.Rand

	mu     sync.Mutex
	tasks  map[int64]*task // by goroutine
	parked []*task         // at the gate
	live   int
	lastID int

	step   int
	length int // steps until the server ends
	began  time.Time
	story  []string  // the last storyLines
	trace  hash.Hash // of all steps

	worldNet
	t           testing.TB
	srv         *Server
	settings    *tlsSettings // nil: without TLS
	kinds       []string     // of handlers
	streamKinds []string     // of those that HTTP/2 has
	http2       bool         // clients may speak it
	chatting    *WebSocketHandler
	peers       []*peer
	requests    []*worldRequest
	chats       []*chat
	protocols   []*lineProtocol
	news        int  // sent to all WebSockets
	begun       int  // posted functions
	called      int  // of them
	excused     bool // from answering: it was closed, or time has jumped
	calm        bool // nothing new befalls it
	ending      bool
	cut         bool // by Close
	ended       bool // Shutdown or Close has returned
}

func newWorld(t testing.TB, seed uint64) *world {
	return &world{t: t, http2: seed&8 != 0, seed: seed, rand: rand.New(rand.NewPCG(seed, 16)), tasks: make(map[int64]*task), began: time.Now(), trace: fnv.New128a()}
}

// begin readies the server.
func (w *world) begin() {
	w.length = 20 + w.rand.IntN(worldSteps)
	w.kinds = slices.Sorted(maps.Keys(worldHandlers))
	w.streamKinds = slices.DeleteFunc(slices.Clone(w.kinds), func(kind string) bool { return kind == "hijack" })
	mux := NewMux()
	for _, kind := range w.kinds {
		if kind == "patient" || worldHandlers[kind].many && !w.http2 {
			continue
		}
		mux.Handle("/"+kind+"/{id}", w.pinned(HandlerFunc(w.serve)))
	}
	w.kinds = slices.DeleteFunc(w.kinds, func(kind string) bool { return worldHandlers[kind].many })
	mux.Handle("/patient/{id}", Offload(HandlerFunc(w.serve))) // a call that waits
	w.chatting = w.newChatHandler()
	s := &Server{Handler: mux, Loops: 1 + w.rand.IntN(2), Logger: slog.New(worldLogger{w}), MaxOutputBytes: 3000}
	s.MinWriteRate = int64(slowRate * w.slowness())
	if w.one(4) {
		s.Handler = worldRouter{w, mux}
	}
	if w.one(4) {
		s.NewProtocol = w.newProtocol
	}
	if w.one(4) {
		s.ConnState = w.connState
	}
	if w.one(4) {
		s.MaxConns = 3
	}
	level := w.one(3)
	s.NewPoller = func() (Poller, error) { return w.newPoller(level), nil }
	if w.srv = s; w.http2 {
		w.http2Server(s)
	}
	s.prepare()
	if w.one(3) {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{worldCertificate()}}
		s.slots = make(cryptoSlots, 1+w.rand.IntN(2))
		w.settings, _ = s.tlsSettings("", "")
	}
	s.loops, _ = s.newLoops()
	s.started, s.done = true, make(chan struct{})
	for _, l := range s.loops {
		l.env, l.unwatched = w, true
		l.start()
	}
	w.spawn(func() { s.awaitLoops(s.loops) })
	w.listen()
	for range 1 + w.rand.IntN(4) {
		w.connect()
	}
}

// pinned is h, or h on the loop or a worker only.
func (w *world) pinned(h Handler) Handler {
	switch w.rand.IntN(3) {
	case 0:
		return Offload(h)
	case 1:
		return Inline(h)
	}
	return h
}

// connState is a hook that may fail.
func (w *world) connState(nc net.Conn, state http.ConnState) {
	w.whim(fmt.Sprintf("ConnState of %v", state), func() {
		w.sockets[nc.RemoteAddr().(*net.TCPAddr).Port].lost = true
	})
}

// A worldLogger is a log whose code may fail.
type worldLogger struct{ w *world }

func (l worldLogger) Enabled(context.Context, slog.Level) bool { return true }
func (l worldLogger) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l worldLogger) WithGroup(string) slog.Handler            { return l }

func (l worldLogger) Handle(context.Context, slog.Record) error {
	if l.w.current() != nil {
		l.w.whim("a logger", func() { l.w.excused = true })
	}
	return nil
}

// one reports true once in n times.
func (w *world) one(n int) bool { return w.rand.IntN(n) == 0 }

func (w *world) tell(format string, args ...any) {
	line := fmt.Sprintf("%5d %8v  ", w.step, time.Since(w.began).Round(time.Microsecond)) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintln(w.trace, line)
	if w.story = append(w.story, line); len(w.story) > storyLines && w.seed != *worldSeed {
		w.story = w.story[1:]
	}
}

// fail tells what is wrong, and how it came to that. It ends the process: what is
// left of such a world has no end of its own.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	fmt.Printf("--- FAIL: -world.seed %d\n%s\nstep %d, of %d in all: %s\n", w.seed, strings.Join(w.story, "\n"), w.step, worldsTaken+w.step, fmt.Sprintf(format, args...))
	os.Exit(1)
}

// goroutineID is what a stack trace calls the goroutine: there is no other name
// by which one finds itself again after code that is not the world's.
func goroutineID() int64 {
	var buf [64]byte
	text := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	number, _, _ := bytes.Cut(text, []byte(" "))
	id, _ := strconv.ParseInt(string(number), 10, 64)
	return id
}

// spawn is Loop.spawn.
func (w *world) spawn(fn func()) { go w.task(fn)() }

// task is Loop.task: the goroutine begins at the gate.
func (w *world) task(fn func()) func() {
	w.mu.Lock()
	w.lastID++
	t := &task{id: w.lastID, wake: make(chan struct{})}
	w.mu.Unlock()
	return func() {
		g := goroutineID()
		w.mu.Lock()
		w.tasks[g] = t
		w.live++
		w.mu.Unlock()
		defer func() {
			if p := recover(); p != nil {
				w.fail("task %d panics: %v\n%s", t.id, p, debug.Stack())
			}
			w.mu.Lock()
			delete(w.tasks, g)
			w.live--
			w.mu.Unlock()
		}()
		w.park("begins")
		fn()
	}
}

// current is the task that calls it; nil for a goroutine that is none.
func (w *world) current() *task {
	g := goroutineID()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tasks[g]
}

// park stands the calling goroutine at the gate until its turn comes.
func (w *world) park(at string) {
	t := w.current()
	w.mu.Lock()
	if t == nil { // one that is not the engine's, such as a timer's of package context
		w.mu.Unlock()
		return
	}
	t.at = at
	w.parked = append(w.parked, t)
	w.mu.Unlock()
	<-t.wake
}

// point lets others run here, now and then.
func (w *world) point(at string) {
	if w.one(2) {
		w.park(at)
	}
}

// whim is for code of the user's: seldom it panics or ends its goroutine, and says
// so before.
func (w *world) whim(at string, fails func()) {
	w.point("is in " + at)
	if !w.one(20) {
		return
	}
	w.tell("%s fails", at)
	if fails(); w.one(2) {
		runtime.Goexit()
	}
	panic(at)
}

func (w *world) resumed() { w.park("goes on") }

func (w *world) lock(mu *sync.Mutex) {
	for !mu.TryLock() {
		w.park("locks")
	}
}

// run is one world from its beginning to its end.
func (w *world) run() {
	w.begin()
	for w.step < w.length {
		w.next()
	}
	if w.calm = w.one(2); w.calm {
		w.await()
	}
	w.endServer()
	for limit := w.step + settleSteps; !w.ended || w.live > 0; w.next() {
		if w.step > limit {
			w.fail("something waits for ever: %s", w.waiting())
		}
	}
	w.checkEnd()
}

// await lets everything that was begun come to rest, and looks whether each
// client has what it waits for.
func (w *world) await() {
	still, since, queued := 0, time.Now(), len(w.queue)
	for still < 60 || time.Since(since) < 3*time.Second { // an accept that failed is tried again in one
		w.next()
		if still++; slices.ContainsFunc(w.peers, (*peer).busy) || len(w.queue) != queued { // who waited there has an answer to wait for
			still, since, queued = 0, time.Now(), len(w.queue)
		}
		if w.step > w.length+settleSteps {
			w.fail("there is no rest: %s", w.waiting())
		}
	}
	for _, p := range w.peers {
		p.checkCalm()
	}
}

// next takes a step. All tasks wait when it returns: what is theirs is the world's
// then.
func (w *world) next() {
	synctest.Wait()
	w.check()
	w.takeStep()
	synctest.Wait()
}

func (w *world) takeStep() {
	w.step++
	slices.SortFunc(w.parked, func(a, b *task) int { return a.id - b.id })
	type choice struct {
		weight int
		do     func()
	}
	choices := []choice{{4 * len(w.parked), w.runOne}}
	for _, p := range w.peers {
		if p.canAct() {
			choices = append(choices, choice{2, p.act})
		}
	}
	for _, l := range w.srv.loops {
		if state := l.state.Load(); state&1 != 0 {
			choices = append(choices, choice{1, func() {
				w.tell("the monitor takes the loop away")
				l.steal(state)
			}})
		}
	}
	if !w.ending && !w.calm {
		choices = append(choices, choice{1, w.mishap})
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	if total == 0 || w.one(60) {
		w.passTime()
		return
	}
	at := w.rand.IntN(total)
	for at >= choices[0].weight {
		at -= choices[0].weight
		choices = choices[1:]
	}
	choices[0].do()
}

// runOne lets one task of those at the gate run until it waits.
func (w *world) runOne() {
	i := w.rand.IntN(len(w.parked))
	t := w.parked[i]
	w.parked = slices.Delete(w.parked, i, i+1)
	w.tell("task %d %s", t.id, t.at)
	t.wake <- struct{}{}
}

// passTime moves the clock, mostly by little.
func (w *world) passTime() {
	d := []time.Duration{time.Millisecond, tick, 2 * tick, 50 * time.Millisecond}[w.rand.IntN(4)]
	switch {
	case w.ending && len(w.parked) == 0 && !slices.ContainsFunc(w.peers, (*peer).busy):
		d = 300 * time.Millisecond
	case w.calm:
	case w.one(200):
		d = time.Duration(1+w.rand.IntN(100)) * time.Second
		w.excused = true // limits of time may have been reached
	}
	w.tell("%v pass", d)
	time.Sleep(d)
}

// mishap is what befalls a server: work of others for its loops, or a worse
// system.
func (w *world) mishap() {
	l := w.srv.loops[w.rand.IntN(len(w.srv.loops))]
	switch w.rand.IntN(8) {
	case 0:
		w.tell("a function is posted")
		w.begun++
		l.Post(func() { w.callback() })
	case 1:
		d := time.Duration(w.rand.IntN(int(50 * time.Millisecond)))
		w.tell("a timer of %v begins", d)
		due := time.Now().Add(d)
		l.After(d, func() {
			if time.Now().Before(due) {
				w.fail("a timer comes early")
			}
			w.point("in a timer's function")
		})
	case 2:
		if len(w.peers) < clientsMax {
			w.connect()
		}
	case 3:
		w.spurious()
	case 4:
		w.spawn(w.broadcast)
	case 5:
		if open := w.openChats(); len(open) > 0 {
			w.spawn(open[w.rand.IntN(len(open))].close)
		}
	}
}

// callback is a posted function of the user's.
func (w *world) callback() {
	w.called++
	w.point("in a posted function")
	if w.one(8) {
		runtime.Goexit()
	}
	if w.one(8) {
		panic("a posted function")
	}
}

// endServer has the server end, in one of the ways it can.
func (w *world) endServer() {
	w.ending, w.cut = true, w.one(4)
	w.excused = w.excused || w.cut
	w.tell("the server ends, cut %v", w.cut)
	w.spawn(func() {
		var err error
		if w.cut {
			err = w.srv.Close()
		} else {
			err = w.srv.Shutdown(context.Background())
		}
		if w.ended = true; err != nil {
			w.fail("the end: %v", err)
		}
	})
}

// waiting says who is not done, for a story.
func (w *world) waiting() string {
	var b strings.Builder
	for _, t := range w.tasks {
		fmt.Fprintf(&b, "task %d (%s), ", t.id, t.at)
	}
	for _, s := range w.sockets {
		if !s.closed {
			fmt.Fprintf(&b, "%v, ", s)
		}
	}
	if w.seed == *worldSeed {
		buf := make([]byte, 1<<20)
		b.Write(buf[:runtime.Stack(buf, true)])
	}
	return b.String()
}

// check is what has to hold after every step.
func (w *world) check() {
	for i, l := range w.srv.loops {
		shown := 0
		for state := range l.gauges {
			n := int(l.gauges[state].Load())
			if shown += n; n < 0 {
				w.fail("loop %d has %d connections that are %v", i, n, connState(state))
			}
		}
		if n := l.lent.Load(); n < 0 || l.state.Load()&1 == 0 && shown != l.open && !l.quit {
			w.fail("loop %d has %d connections, of which it shows %d and has lent %d", i, l.open, shown, n)
		}
	}
}

// checkEnd is what has to hold when all has ended.
func (w *world) checkEnd() {
	left := []int64{w.srv.conns.Load(), w.srv.buffered.n.Load(), int64(w.begun - w.called)}
	for _, l := range w.srv.loops {
		left = append(left, int64(l.lent.Load()))
		for state := range l.gauges {
			left = append(left, int64(l.gauges[state].Load()))
		}
	}
	if slices.ContainsFunc(left, func(n int64) bool { return n != 0 }) {
		w.fail("what is left of connections, bytes of buffers, posted functions, and for each loop of lent connections and those of each state: %v", left)
	}
	for _, s := range w.sockets {
		if !s.closed {
			w.fail("%v is left open", s)
		}
		if s.c != nil && s.c.timer.Armed() && !w.cut { // a loop that was cut has no wheel any more
			w.fail("%v has left a timer", s)
		}
	}
	for _, c := range w.openChats() {
		w.fail("request %d: its WebSocket has not ended", c.q.id)
	}
	for _, l := range w.protocols {
		if !l.closed {
			w.fail("%v: its protocol was not told of the end", l.s)
		}
	}
	for _, p := range w.peers {
		p.checkEnd()
	}
}

// worldsTaken are the steps of the worlds before.
var worldsTaken int

// runWorld runs the world of a seed, and returns how many steps it took, which
// ones, and the end of their story. Only one may run at a time: a condition
// variable of the whole process must not be signalled from another bubble.
func runWorld(t *testing.T, seed uint64) (steps int, trace string, story []string) {
	before := slog.Default() // which gets the panics of posted functions
	slog.SetDefault(quietLogger())
	defer slog.SetDefault(before)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		w.run()
		worldsTaken += w.step
		steps, trace, story = w.step, fmt.Sprintf("%x", w.trace.Sum(nil)), w.story
	})
	return steps, trace, story
}

// TestWorld tries fresh seeds, or the one that is given.
func TestWorld(t *testing.T) {
	if *worldSeed != 0 {
		_, trace, story := runWorld(t, *worldSeed)
		fmt.Println(strings.Join(story, "\n"), "\ntrace", trace)
		return
	}
	steps, worlds := 0, 0
	began := time.Now()
	seed := *worldFrom
	if seed == 0 {
		seed = uint64(began.UnixNano())
	}
	for ; time.Since(began) < *worldTime; seed++ {
		n, _, _ := runWorld(t, seed)
		steps, worlds = steps+n, worlds+1
	}
	t.Logf("%d worlds, %d steps, %.0f a second", worlds, steps, float64(steps)/time.Since(began).Seconds())
}

// The same seed twice takes the same steps, on one processor and on several.
func TestWorldSameTrace(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for seed := range uint64(20) {
		runtime.GOMAXPROCS(1)
		_, one, story := runWorld(t, seed+1)
		runtime.GOMAXPROCS(2)
		_, other, again := runWorld(t, seed+1)
		if one != other {
			t.Fatalf("seed %d: %s\nand then\n%s", seed+1, strings.Join(story, "\n"), strings.Join(again, "\n"))
		}
	}
}
