package flare

import "sync/atomic"

// This file is layer 3 (engine): what the right to run on a connection consists
// of. baton.go says how it moves, and workset.go has what the goroutine that has
// it works with.

// The bits of strand.own: what the loop tells a goroutine that a connection is
// lent to. The bits below ownLent are edges: readiness noted while lent.
const (
	ownRead      uint32 = 1 << iota // there may be something to read
	ownWrite                        // there may be room to write
	ownRDHup                        // the peer sends no more
	ownHup                          // the connection is dead
	ownLent                         // owned by a goroutine that is not the runner
	ownWaitRead                     // the owner blocks on waits.read until an edge comes
	ownWaitWrite                    // the same for waits.write: a handler may read and write at once
	ownCancel                       // the owner has a context to cancel on ownHup and ownRDHup
	ownStop                         // the server is closing: end now
	ownNudge                        // an edge too: another goroutine asked for a turn

	ownEdges = ownRead | ownWrite | ownRDHup | ownHup | ownNudge
	ownWaits = ownWaitRead | ownWaitWrite
)

// A strand is the right to run on a connection, with what goes with it: who has
// it, what the loop has to tell that goroutine, and where it stands in the lists
// of those that want a turn. A connection that answers one request after the
// other has one, its own; one of many streams has one for each beside, whose
// waits name its task, and is itself never lent.
type strand struct {
	conn *Conn // fixed while there is a task; nil: on a goroutine of others, never to be lent

	// Any goroutine.
	own atomic.Uint32
	ctx atomic.Pointer[requestContext]

	// The owner's: the runner, or the goroutine that has it lent.
	edges   uint32 // readiness noted and not yet used up
	verdict verdict
	listed  bool        // the holder's: in a strandList; here to fill a gap
	workset *workset    // of the turn that runs, nil between turns
	waits   *ownerWaits // made before it is lent

	// The holder's.
	nextReady  *strand
	nextPosted *strand
}

// loop returns the loop that s is on; nil for none.
func (s *strand) loop() *Loop {
	if s.conn == nil {
		return nil
	}
	return s.conn.loop
}

// isConns reports whether s is the strand of a connection itself, and not that of
// one of many tasks on it. There is a connection.
func (s *strand) isConns() bool { return s == &s.conn.strand }

// A strandTask is what runs on a strand that is not its connection's own: one stream of
// many. It lives as long as somebody has its strand, whatever becomes of the
// connection meanwhile.
type strandTask interface {
	// turn is one turn, guarded like that of a connection: it may be lent in it.
	turn(g *workset) verdict

	// exited is what is left of a turn in which code of the user ended the
	// goroutine.
	exited(g *workset) verdict

	// settle does what a turn has left to be done. The runner calls it.
	settle(v verdict)

	// abandon is settle on whatever goroutine, when the loop is dead.
	abandon()
}

// An ownerWaits is what an owner blocks on. It is kept for the next one.
type ownerWaits struct {
	task        strandTask    // of a strand that is not its connection's own; fixed
	read, write chan struct{} // capacity 1; made by an owner before it sets a bit of ownWaits
	removed     func()        // called once, when the loop has let go of the connection
}

// note returns what an owner that waits for bit blocks on, and the bit that says
// so.
func (w *ownerWaits) note(bit uint32) (note *chan struct{}, wait uint32) {
	if bit == ownWrite {
		return &w.write, ownWaitWrite
	}
	return &w.read, ownWaitRead
}

// A verdict is what a turn of a connection leaves to be done by the loop.
type verdict uint8

const (
	verdictIdle    verdict = iota // nothing unread, everything sent
	verdictPartial                // unread bytes are kept, more has to come
	verdictFlush                  // output waits for the peer to read
	verdictMore                   // more to read, but others' turn first
	verdictWork                   // the next call is one for a worker
	verdictLinger                 // the last answer is sent, input is discarded
	verdictPaused                 // the protocol asked for no more input
	verdictRemove                 // hand the descriptor over: hijacked
	verdictClose
	verdictGone // nothing: the connection was handed over in the turn
)
