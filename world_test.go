package flare

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
// misbehave as the seed has it, with clients (world_http_test.go) that do the
// same. What a seed has found once it finds again:
//
//	go test -run 'TestWorld$' -world.seed N
//
// Nothing here knows of real time or real sockets. A bubble of testing/synctest
// tells when every goroutine waits, and has the clock; which of those that
// could go on does so is the world's to say.

var (
	worldSeed = flag.Uint64("world.seed", 0, "the only seed that TestWorld runs, and prints the story of")
	worldTime = flag.Duration("world.time", 10*time.Second, "for how long TestWorld tries fresh seeds")
)

const (
	worldSteps  = 600    // steps while clients begin
	settleSteps = 40_000 // steps until all that was begun has to have ended
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

	step    int
	length  int // steps until the server ends
	began   time.Time
	story   []string // the last storyLines
	all     *strings.Builder
	failure string
	over    bool // the gate stands open

	worldNet
	srv     *Server
	clients []*worldClient
	kinds   []string // of handlers that this run has
	excused bool     // of answers: the server was closed, or time has jumped
	calm    bool     // nothing new befalls it
	ending  bool
	cut     bool // by Close
	ended   bool // Shutdown or Close has returned
}

func newWorld(seed uint64) *world {
	return &world{seed: seed, rand: rand.New(rand.NewPCG(seed, 16)), tasks: make(map[int64]*task), began: time.Now()}
}

// one reports true once in n times.
func (w *world) one(n int) bool { return w.rand.IntN(n) == 0 }

func (w *world) tell(format string, args ...any) {
	line := fmt.Sprintf("%5d %8v  ", w.step, time.Since(w.began).Round(time.Microsecond)) + fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if w.all != nil {
		w.all.WriteString(line + "\n")
	}
	if w.story = append(w.story, line); len(w.story) > storyLines {
		w.story = w.story[1:]
	}
}

// fail notes the first thing that is wrong; the run ends with the step.
func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == "" {
		w.failure = fmt.Sprintf("step %d: ", w.step) + fmt.Sprintf(format, args...)
	}
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

// spawn is Loop.spawn: the goroutine begins at the gate.
func (w *world) spawn(fn func()) {
	w.mu.Lock()
	w.lastID++
	w.live++
	t := &task{id: w.lastID, wake: make(chan struct{})}
	w.mu.Unlock()
	go func() {
		g := goroutineID()
		w.mu.Lock()
		w.tasks[g] = t
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
	}()
}

// park stands the calling goroutine at the gate until its turn comes.
func (w *world) park(at string) {
	g := goroutineID()
	w.mu.Lock()
	t := w.tasks[g]
	if w.over || t == nil { // one that is not the engine's, such as a timer's of package context
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
	if !w.over && w.one(2) {
		w.park(at)
	}
}

func (w *world) resumed() { w.park("goes on") }

func (w *world) lock(mu *sync.Mutex) {
	for !mu.TryLock() {
		if w.over {
			mu.Lock()
			return
		}
		w.park("locks")
	}
}

// run is one world from its beginning to its end.
func (w *world) run(t *testing.T) {
	w.begin()
	for w.step < w.length && w.next() {
	}
	if w.calm = w.one(2); w.calm {
		w.await()
	}
	if w.failure == "" {
		w.endServer()
	}
	for limit := w.step + settleSteps; w.next() && !w.settled(); {
		if w.step > limit {
			w.fail("something waits for ever: %s", w.waiting())
		}
	}
	w.checkEnd()
	w.finish()
}

// await lets everything that was begun come to rest, and looks whether each
// client has what it waits for.
func (w *world) await() {
	for still := 0; still < 40 && w.next(); {
		still++
		if len(w.parked) > 0 || slices.ContainsFunc(w.clients, (*worldClient).canAct) {
			still = 0
		}
		if w.step > w.length+settleSteps {
			w.fail("there is no rest: %s", w.waiting())
		}
	}
	for _, c := range w.clients {
		c.checkCalm()
	}
}

// finish opens the gate and lets all that is left end, so that a failure can be
// told.
func (w *world) finish() {
	if w.failure == "" {
		return
	}
	w.mu.Lock()
	w.over = true
	parked := w.parked
	w.parked = nil
	w.mu.Unlock()
	fmt.Printf("world %d: %s\n%s\n", w.seed, w.failure, strings.Join(w.story, "\n"))
	for _, t := range parked {
		close(t.wake)
	}
	for _, s := range w.sockets {
		s.resetByPeer()
	}
	for _, c := range w.clients {
		close(c.released)
	}
	go w.srv.Close()
	time.Sleep(time.Hour)
}

// next takes a step, and reports whether there may be another. All tasks wait
// when it returns: what is theirs is the world's then.
func (w *world) next() bool {
	synctest.Wait()
	more := w.takeStep()
	synctest.Wait()
	return more
}

func (w *world) takeStep() bool {
	w.check()
	if w.failure != "" {
		return false
	}
	w.step++
	slices.SortFunc(w.parked, func(a, b *task) int { return a.id - b.id })
	type choice struct {
		weight int
		do     func()
	}
	choices := []choice{{4 * len(w.parked), w.runOne}}
	for _, c := range w.clients {
		if c.canAct() {
			choices = append(choices, choice{2, c.act})
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
		return true
	}
	for at := w.rand.IntN(total); ; choices = choices[1:] {
		if at -= choices[0].weight; at < 0 {
			choices[0].do()
			return true
		}
	}
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
	case w.ending && len(w.parked) == 0:
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
		if len(w.clients) < clientsMax {
			w.connect()
		}
	case 3:
		w.spurious()
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
	w.ending = true
	end := func() {
		if err := w.srv.Shutdown(context.Background()); err != nil {
			w.fail("Shutdown: %v", err)
		}
		w.ended = true
	}
	if w.one(4) {
		w.excused, w.cut = true, true
		end = func() {
			w.srv.Close()
			w.ended = true
		}
		w.tell("Close")
	} else {
		w.tell("Shutdown")
	}
	w.spawn(end)
}

// settled reports whether all has ended.
func (w *world) settled() bool {
	return w.ended && w.live == 0
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
		if n := l.lent.Load(); n < 0 {
			w.fail("loop %d has lent %d connections", i, n)
		}
		shown := 0
		for state := range l.gauges {
			n := int(l.gauges[state].Load())
			if n < 0 {
				w.fail("loop %d has %d connections that are %v", i, n, connState(state))
			}
			shown += n
		}
		if l.state.Load()&1 == 0 && shown != l.open && !l.quit {
			w.fail("loop %d shows %d connections of %d", i, shown, l.open)
		}
	}
}

// checkEnd is what has to hold when all has ended.
func (w *world) checkEnd() {
	if w.failure != "" {
		return
	}
	if n := w.srv.conns.Load(); n != 0 {
		w.fail("%d connections are counted at the end", n)
	}
	if n := w.srv.buffered.n.Load(); n != 0 {
		w.fail("%d bytes of buffers are counted at the end", n)
	}
	if w.called != w.begun {
		w.fail("%d posted functions were called, of %d", w.called, w.begun)
	}
	for i, l := range w.srv.loops {
		if n := l.lent.Load(); n != 0 {
			w.fail("loop %d has lent %d connections at the end", i, n)
		}
		for state := range l.gauges {
			if n := l.gauges[state].Load(); n != 0 {
				w.fail("loop %d has %d connections at the end that are %v", i, n, connState(state))
			}
		}
	}
	for _, s := range w.sockets {
		if !s.closed {
			w.fail("%v is left open", s)
		}
		if s.c != nil && s.c.timer.Armed() && !w.cut { // a loop that was cut has no wheel any more
			w.fail("%v has left a timer", s)
		}
	}
	for _, c := range w.clients {
		c.checkEnd()
	}
}

// A worldResult is what is known of a run.
type worldResult struct {
	steps   int
	failure string
	trace   string
}

// runWorld runs the world of a seed. Only one may run at a time: a condition
// variable of the whole process must not be signalled from another bubble.
func runWorld(t *testing.T, seed uint64, trace bool) (r worldResult) {
	before := slog.Default() // which gets the panics of posted functions
	slog.SetDefault(quietLogger())
	defer slog.SetDefault(before)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(seed)
		if trace {
			w.all = new(strings.Builder)
		}
		w.run(t)
		r.steps, r.failure = w.step, w.failure
		if trace {
			r.trace = w.all.String()
		}
	})
	return r
}

// TestWorld tries fresh seeds, or the one that is given.
func TestWorld(t *testing.T) {
	if *worldSeed != 0 {
		r := runWorld(t, *worldSeed, true)
		os.Stdout.WriteString(r.trace)
		if r.failure != "" {
			t.Fatal(r.failure)
		}
		return
	}
	steps, worlds := 0, 0
	began := time.Now()
	for seed := uint64(began.UnixNano()); time.Since(began) < *worldTime; seed++ {
		r := runWorld(t, seed, false)
		steps, worlds = steps+r.steps, worlds+1
		if r.failure != "" {
			t.Fatalf("-world.seed %d, world %d of this run: %s", seed, worlds, r.failure)
		}
	}
	t.Logf("%d worlds, %d steps, %.0f a second", worlds, steps, float64(steps)/time.Since(began).Seconds())
}

// The same seed twice takes the same steps.
func TestWorldSameTrace(t *testing.T) {
	for seed := range uint64(5) {
		one, other := runWorld(t, seed+1, true), runWorld(t, seed+1, true)
		if one.failure != "" {
			t.Errorf("seed %d: %s", seed+1, one.failure)
		}
		if one.trace != other.trace {
			a, b := strings.Split(one.trace, "\n"), strings.Split(other.trace, "\n")
			i := 0
			for i < min(len(a), len(b))-1 && a[i] == b[i] {
				i++
			}
			t.Fatalf("seed %d: line %d is %q, then %q", seed+1, i, a[i], b[i])
		}
	}
}
