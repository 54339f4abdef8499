package flare

import "net/http"

// This file is layer 4 (roles): how a handler is called with an exchange, and what
// is learned of where it should run.

// run calls the handler and times it where the predictor asks for it. Users are
// let in for as long.
func (x *exchange) run(g *workset) error {
	if x.began == 0 {
		x.began = g.clock.now
	}
	x.open(g, 0)
	err := x.timed(g)
	x.close()
	return err
}

func (x *exchange) timed(g *workset) error {
	rt := x.route
	if g.loop != nil {
		g.counts[countInline]++
		if g.timed == 0 {
			return x.call(g, x.handler)
		}
		g.clock.read()
		before := g.clock.now
		err := x.call(g, x.handler)
		g.clock.read()
		if g.clock.now-before > longCall && rt.pin == pinNone {
			rt.demote()
		}
		return err
	}
	g.counts[countWorker]++
	g.clock.read()
	before := g.clock.now
	err := x.call(g, x.handler)
	g.clock.read()
	if !x.spared && rt.record(g.clock.now-before) {
		g.counts[countPromotions]++
	}
	return err
}

// call calls a handler, or what else of the user's there is to call for x. A
// panic becomes an error.
func (x *exchange) call(g *workset, handler Handler) (err error) {
	p := guard(func() { err = handler.Serve(&x.lease.w, &x.lease.r) }, nil)
	switch {
	case p == nil:
		return err
	case p.value == http.ErrAbortHandler:
		return http.ErrAbortHandler
	}
	g.counts[countPanics]++
	return p
}

// refuse answers with err what no handler gets to see. in has the head, as far as
// it has come.
func (x *exchange) refuse(g *workset, in []byte, err error) {
	x.refused = true
	head := &x.r.head
	if x.whole {
		x.r.begin(in)
	} else {
		// The method, since HEAD gets no content (RFC 9110 §9.3.2); the target is for
		// AccessHook, which answers nothing that could repeat it.
		x.r.begin(in[:head.method.end:max(head.method.end, min(head.target.end, uint32(len(in))))])
	}
	x.r.refuse(!x.whole)
	x.w.close = true
	x.srv.refused(x, in, err)
	if err == errMemoryShort {
		x.w.header.setValid(headerField{"Retry-After", "1"}) // others are being served meanwhile
	}
	err = refusalOf(err)
	if x.srv.refuser != nil {
		err = x.refuseThrough(g, err)
	}
	x.w.finish(err)
}

// refuseThrough has the middleware of Server.Refusals see the refusal.
func (x *exchange) refuseThrough(g *workset, refusal error) error {
	x.refusal = refusal
	x.open(g, 0)
	err := x.call(g, x.srv.refuser)
	if x.close(); err == nil && x.w.untouched() {
		return refusal // who has swallowed it has not answered either
	}
	return err
}

// refuse is the innermost handler of Server.Refusals.
func refuse(w *ResponseWriter, r *Request) error {
	x := r.lease.enter()
	if x == nil {
		return errRequestDone
	}
	defer r.lease.exit()
	return x.refusal
}

// refusalOf turns an error of the parser into what the client is told.
func refusalOf(err error) error {
	if e, ok := err.(*ParseError); ok {
		return &StatusError{Code: e.Status, Err: e}
	}
	return err
}
