package flare

// This file is layer 3 (engine): descriptors of a loop that are no connections
// of it, such as datagram sockets. It knows when to call whom; what is done
// with the descriptor is for the function that is called.

// A watch is such a descriptor. ready is called when something has come about,
// under the guard of a turn: it may block and must not touch the loop. It is
// not called again before it has returned; what comes about meanwhile is noted.
// What it returns is noted too: readiness that it has not used up, for when
// others have had their turn.
type watch struct {
	fd    int
	ready func(noted Interest) (more Interest)
	ended func()   // called by the runner before it closes fd
	want  Interest // what is asked for between calls; ready may change it
	asked Interest
	noted Interest
	busy  bool // ready runs, here or, after a steal, elsewhere
	muted bool // not asked for while busy, on a managed loop
	gone  bool
}

// watch begins to watch w for want. The runner calls it. The descriptor is the
// loop's from here on, and closed after unwatch.
func (l *Loop) watch(w *watch, want Interest) error {
	if l.dead {
		return ErrClosed // nobody would unwatch it
	}
	if err := l.poller.Add(w.fd, want); err != nil {
		return err
	}
	w.want, w.asked = want, want
	l.watches = append(l.watches, w)
	return nil
}

// rewatch changes what w is watched for, and has reported anew what is ready.
// The runner calls it.
func (l *Loop) rewatch(w *watch, want Interest) {
	if !w.gone {
		w.asked = want
		l.poller.Modify(w.fd, want)
	}
}

// unwatch ends w; its descriptor is closed after the batch. The runner calls it.
func (l *Loop) unwatch(w *watch) {
	if w.gone {
		return
	}
	w.gone = true
	w.ended()
	l.poller.Remove(w.fd)
	l.closing = append(l.closing, w.fd)
	for i := range l.watches {
		if l.watches[i] == w {
			l.watches = append(l.watches[:i], l.watches[i+1:]...)
			return
		}
	}
}

func (l *Loop) unwatchAll() {
	for len(l.watches) > 0 {
		l.unwatch(l.watches[0])
	}
}

// otherReady deals with an event of a descriptor that is no connection. False:
// the baton was taken.
func (l *Loop) otherReady(ev *Event, g *workset) bool {
	for _, w := range l.watches {
		if w.fd == ev.FD {
			w.noted |= ev.Ready
			if w.busy && l.managed && !w.muted {
				w.muted = true
				l.poller.Modify(w.fd, 0)
			}
			return l.notify(w, g)
		}
	}
	l.listenerReady(ev.FD)
	return true
}

// notify calls w's function for what was noted, unless it is busy: then it is
// called again when it has returned.
func (l *Loop) notify(w *watch, g *workset) bool {
	if w.busy || w.gone || w.noted == 0 {
		return true
	}
	var more Interest
	ready := w.noted
	w.busy, w.noted = true, 0
	again := func() { l.call(func() { l.notified(w, more) }) }
	if !l.callback(g, func() { more = w.ready(ready) }, func() {
		more = ready // what ready has done of it is not known
		again()
	}) {
		again()
		return false
	}
	l.notified(w, more)
	return true
}

// notified ends a call of w's function.
func (l *Loop) notified(w *watch, more Interest) {
	w.busy = false
	if w.muted || w.want != w.asked {
		w.muted = false
		l.rewatch(w, w.want)
	}
	if w.noted |= more; w.noted != 0 {
		l.due = append(l.due, w)
	}
}

// notifyDue calls those that have more to do.
func (l *Loop) notifyDue(g *workset) bool {
	for len(l.noting) > 0 {
		w := l.noting[0]
		l.noting = l.noting[1:]
		if !l.notify(w, g) {
			return false
		}
	}
	return true
}
