package flare

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): what users hold of an exchange. An exchange is
// reused, and its user may keep what a handler was given for ever, in any
// goroutine. So users hold leases, which are made for one request and never
// reused, and every call enters the lease before it touches the exchange: after
// the handler's end there is no way in, and that end waits for those inside.
// lease_request.go and lease_response.go have the calls.

// The bits of lease.state.
const (
	leaseEnded  uint32 = 1 << iota // there is no way in
	leaseHooks                     // the handler has returned: only what hooks of OnCommit may use works
	leaseLogged                    // a use after the end was logged
	leaseInside                    // times the number of calls inside
)

// A lease is the right of one request's users to its exchange. Request,
// ResponseWriter, the body and both headers are views of it.
type lease struct {
	x     *exchange // read by those inside, written by the connection's owner while nobody is
	state atomic.Uint32
	srv   *Server // for the log

	// Pointers into the lease itself, set when it is made.
	w              ResponseWriter
	r              Request
	responseHeader Header
	requestHeader  Header
}

// leasesAtOnce are allocated in one piece, of 3 KiB: an allocation for each request
// would be dearer. Of pieces of 3 KiB the allocator has eight in a span, of 4 KiB two,
// and looking for a span costs more than the piece.
const leasesAtOnce = 42

// leases are some that nobody has held yet. They belong to a workset.
type leases []lease

func newLeases(n int) leases {
	all := make(leases, n)
	for i := range all {
		l := &all[i]
		l.w.lease, l.r.lease = l, l
		l.responseHeader.in = (*responseFields)(l)
		l.requestHeader.in = (*requestFields)(l)
	}
	return all
}

// next returns one for x.
func (all *leases) next(x *exchange, srv *Server) *lease {
	if len(*all) == 0 {
		*all = newLeases(leasesAtOnce)
	}
	l := &(*all)[0]
	*all = (*all)[1:]
	l.x, l.srv = x, srv
	return l
}

var (
	errWriterDone = errors.New("flare: ResponseWriter used after its handler returned")
	errBodyDone   = fmt.Errorf("flare: the handler has returned: %w", http.ErrBodyReadAfterClose)
)

// enter returns the exchange, for the time until exit, or nil after the end.
func (l *lease) enter() *exchange { return l.enterUnless(leaseEnded) }

// enterBody is enter for what reads the request's body or writes the response.
func (l *lease) enterBody() *exchange { return l.enterUnless(leaseEnded | leaseHooks) }

func (l *lease) enterUnless(bits uint32) *exchange {
	if l == nil {
		return nil // a Request or ResponseWriter that flare has not made
	}
	if l.state.Add(leaseInside)&bits != 0 {
		l.exit()
		return nil
	}
	return l.x
}

// exit is for after each successful enter.
func (l *lease) exit() {
	if s := l.state.Add(^(leaseInside - 1)); s&leaseEnded != 0 && s < leaseInside {
		stragglers.L.Lock()
		stragglers.Broadcast()
		stragglers.L.Unlock()
	}
}

// stragglers wakes those that wait for a lease to be left. That is rare enough
// for one of them in the process.
var stragglers = sync.NewCond(new(sync.Mutex))

// use is enter for a call that cannot fail: it does nothing after the end, and
// the program is told of its mistake.
func (l *lease) use() *exchange {
	x := l.enter()
	if x == nil {
		l.misused()
	}
	return x
}

// misused logs a use after the end, once. Under the race detector, where mistakes
// are looked for, it panics.
func (l *lease) misused() {
	const what = "flare: Request or ResponseWriter used after its handler returned"
	if raceEnabled {
		panic(what + "; Clone makes a Request that may be kept")
	}
	if l == nil || l.srv == nil || l.state.Or(leaseLogged)&leaseLogged != 0 {
		return
	}
	if now := time.Since(origin); l.srv.misuseLogged.due(now) {
		l.srv.logger().Error(what, slog.String("stack", string(debug.Stack())))
	}
}

// A logGap keeps lines of one kind a second apart.
type logGap struct{ last atomic.Int64 }

func (g *logGap) due(now time.Duration) bool {
	last := g.last.Load()
	return (last == 0 || int64(now)-last >= int64(time.Second)) && g.last.CompareAndSwap(last, int64(now))
}

// open lets users in, before their code is called: with bits 0 all of them, and
// what hooks need with leaseHooks.
func (x *exchange) open(g *workset, bits uint32) {
	if x.lease == nil {
		x.lease = g.exchanges().leases.next(x, x.srv)
		if bits == 0 {
			return
		}
	}
	x.lease.state.Or(bits)
	x.lease.state.And(^leaseEnded)
}

// close ends the lease, if there is one: what waits inside is broken off, and
// waited for. Behind it nobody but the connection's owner touches x, and none of
// the user's goroutines the connection.
func (x *exchange) close() {
	if l := x.lease; l != nil && !l.state.CompareAndSwap(0, leaseEnded) { // it usually can be
		x.end(l)
	}
	if x.r.form != nil {
		x.endForm()
	}
}

// sublease lets somebody in beside those who have x's lease, until end. The caller is
// inside of that.
func (x *exchange) sublease() *lease {
	one := newLeases(1)
	return one.next(x, x.srv)
}

// end ends a lease of x.
func (x *exchange) end(l *lease) {
	old := l.state.Or(leaseEnded)
	if old&leaseEnded != 0 {
		return
	}
	l.state.And(^leaseHooks)
	if old < leaseInside {
		return
	}
	x.workset().detach()
	x.breakOff(breakReads | breakWrites)
	stragglers.L.Lock()
	for l.state.Load() >= leaseInside {
		stragglers.Wait()
	}
	stragglers.L.Unlock()
	x.strand.loop().resumed()
	x.mend(breakReads | breakWrites)
}

// endForm forgets the form of a request whose handler has returned.
func (x *exchange) endForm() {
	if form := x.r.form.form; form != nil && len(form.File) > 0 {
		x.workset().detach() // a disk can block
		form.RemoveAll()
	}
	x.r.form = nil
}

// breakOff makes what waits in the given directions fail. It may be called by
// whoever is inside, or by the owner.
func (x *exchange) breakOff(directions uint32) {
	x.workset().breaking.Or(directions)
	x.stream.breakOff(directions)
}

// mend lets waits in the given directions be again.
func (x *exchange) mend(directions uint32) {
	x.stream.mend(directions)
	x.workset().breaking.And(^directions)
}

// lockBroken locks mu, which is held in waits in one direction, and breaks those
// off. The caller is inside.
func (x *exchange) lockBroken(mu *sync.Mutex, direction uint32) {
	if mu.TryLock() {
		return
	}
	x.workset().detach() // there are other locks behind that one
	x.breakOff(direction)
	x.strand.loop().lock(mu)
	x.mend(direction)
}

// The four lists of fields that a lease leads to, each as the owner of a Header.
type (
	requestFields   lease
	responseFields  lease
	requestTrailer  lease
	responseTrailer lease
)

func (o *requestFields) enterFields() *headerFields {
	if x := (*lease)(o).use(); x != nil {
		return x.r.Header()
	}
	return nil
}

func (o *responseFields) enterFields() *headerFields {
	if x := (*lease)(o).use(); x != nil {
		return &x.w.header
	}
	return nil
}

func (o *requestTrailer) enterFields() *headerFields {
	if x := (*lease)(o).use(); x != nil {
		return x.r.Trailer()
	}
	return nil
}

func (o *responseTrailer) enterFields() *headerFields {
	if x := (*lease)(o).use(); x != nil {
		return x.w.Trailer()
	}
	return nil
}

func (o *requestFields) exitFields()   { (*lease)(o).exit() }
func (o *responseFields) exitFields()  { (*lease)(o).exit() }
func (o *requestTrailer) exitFields()  { (*lease)(o).exit() }
func (o *responseTrailer) exitFields() { (*lease)(o).exit() }

// A commitSink is the innermost writer that hooks are given.
type commitSink lease

func (s *commitSink) Write(p []byte) (int, error) {
	x := (*lease)(s).enter()
	if x == nil {
		return 0, errWriterDone
	}
	defer (*lease)(s).exit()
	return x.w.write(p)
}

func (s *commitSink) Flush() error {
	x := (*lease)(s).enter()
	if x == nil {
		return errWriterDone
	}
	defer (*lease)(s).exit()
	return x.w.flush()
}

func (s *commitSink) Close() error { return nil }

// A hookWriter is a hook's writer as the next hook is given it: flare's own hooks
// reuse theirs.
type hookWriter struct {
	lease *lease
	next  io.WriteCloser
}

func (s *hookWriter) Write(p []byte) (int, error) {
	if s.lease.enter() == nil {
		return 0, errWriterDone
	}
	defer s.lease.exit()
	return s.next.Write(p)
}

func (s *hookWriter) Flush() error {
	if s.lease.enter() == nil {
		return errWriterDone
	}
	defer s.lease.exit()
	if f, ok := s.next.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}

func (s *hookWriter) Close() error {
	if s.lease.enter() == nil {
		return errWriterDone
	}
	defer s.lease.exit()
	return s.next.Close()
}
