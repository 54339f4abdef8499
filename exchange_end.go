package flare

import (
	"errors"
	"net/http"
	"time"
)

// This file is layer 4 (roles): what is told of a request once its response has
// ended, to Server.AccessHook and to metrics. Every version of HTTP ends an exchange here.

// errHandlerExited is told of a request whose handler has called runtime.Goexit.
var errHandlerExited = errors.New("flare: the handler has ended its goroutine")

// ended tells the hook of x, whose lease is closed. err is what its handler has
// returned, or what went wrong then. The strand is in its turn.
func (x *exchange) ended(err error) {
	if x.srv.AccessHook == nil && x.srv.observer == nil || x.told {
		return
	}
	x.told = true
	g := x.workset()
	e := x.entry(err)
	if x.srv.observer != nil {
		x.srv.observer.observe(x, e)
	}
	if x.srv.AccessHook == nil {
		return
	}
	if x.refused && !x.whole {
		x.r.raw, x.r.text = x.r.raw[:cap(x.r.raw)], "" // with the target; see refuse
	}
	x.open(g, leaseHooks)
	defer x.close()
	e.Request = &x.lease.r
	if p := guard(func() { x.srv.AccessHook(e) }, nil); p != nil {
		g.counts[countPanics]++
		logPanic(x.srv.logger(), "flare: AccessHook panicked", p)
	}
}

// entry is what is told of x, without its request.
func (x *exchange) entry(err error) AccessEntry {
	now := time.Now()
	e := AccessEntry{BytesIn: x.r.body.total, Err: err, Refused: x.refused, Start: now}
	if x.began != 0 {
		e.Duration = max(sinceOrigin(now)-x.began, 0)
		e.Start = now.Add(-e.Duration)
	}
	switch w := &x.w; {
	case w.switched != nil || w.hijacked && w.status == http.StatusSwitchingProtocols:
		e.Status = http.StatusSwitchingProtocols
	case w.hijacked && w.status == http.StatusOK && w.r.head.websocket: // a tunnel, by extended CONNECT
		e.Status = http.StatusOK
	case w.begun && !w.hijacked:
		e.Status = w.Status()
		if !w.noBody {
			e.BytesOut = w.written
		}
	}
	return e
}

// endedAway is ended for a request whose goroutine ends, or whose connection has
// gone, where no code of the user may be called any more: a goroutine of its own
// tells the hook, with a clone.
func (x *exchange) endedAway(err error) {
	if x.srv.AccessHook == nil && x.srv.observer == nil || x.told || !x.whole {
		return
	}
	x.told = true
	e, hook := x.entry(err), x.srv.AccessHook
	if x.srv.observer != nil {
		x.srv.observer.observe(x, e)
	}
	if hook == nil {
		return
	}
	e.Request = x.r.Clone()
	go func() {
		if p := guard(func() { hook(e) }, nil); p != nil {
			logPanic(x.srv.logger(), "flare: AccessHook panicked", p)
		}
	}()
}
