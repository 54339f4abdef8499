package flare

import (
	"sync"
	"time"
)

// This file is layer 3 (engine): what an outbox holds while something is
// written or waits. It comes with the lock and goes with it once nothing has to
// be remembered, since there may be very many outboxes that only wait.

// outStored is what an outbox needs once something is written, and until all of
// it has been sent.
type outStored struct {
	outMessages
	head    [32]byte      // of the write in progress, so that the writer's own stays on its stack
	stuck   bool          // the peer takes no more until readiness says so
	nudged  bool          // a turn was asked for
	pace    roomPace      // of the peer while it has something to catch up with
	closeBy time.Duration // when the end is forced, 0: no end is wanted yet
}

var outStores sync.Pool

// lock is mu.Lock for those who may store something; unlock undoes it.
func (ob *outbox) lock() {
	ob.mu.Lock()
	ob.store()
}

// store sees to it that there is an outStored. ob.mu is held.
func (ob *outbox) store() {
	if ob.outStored == nil {
		st, _ := outStores.Get().(*outStored)
		if st == nil {
			st = new(outStored)
		}
		st.bound, st.policy = ob.rules.bound, ob.rules.policy
		ob.outStored = st
	}
}

// outKeptMax bounds what a pooled outStored keeps of its slices.
const outKeptMax = 256

// settled reports whether nothing of st has to be remembered.
func (st *outStored) settled() bool {
	return st.out.len() == 0 && !st.stuck && !st.nudged && st.err == nil && !st.sealed && len(st.latest) == 0 && st.closeBy == 0 && st.room == nil
}

// unlock ends what was done under ob.mu to the queue. Output that only waits
// for the end of its turn is gone in a moment and not counted; what the peer
// does not take is.
func (ob *outbox) unlock() {
	st := ob.outStored
	if st == nil {
		ob.mu.Unlock()
		return
	}
	if st.stuck || st.out.counted > 0 {
		st.out.count(ob.c.limits.buffered)
	}
	if !st.settled() {
		ob.mu.Unlock()
		return
	}
	ob.outStored = nil
	ob.mu.Unlock()
	if raceEnabled || cap(st.messages) > outKeptMax || cap(st.latest) > outKeptMax {
		return
	}
	*st = outStored{outMessages: outMessages{messages: st.messages[:0], latest: st.latest[:0]}}
	outStores.Put(st)
}
