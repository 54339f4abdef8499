package flare

import "net/http"

// This file is layer 4 (roles): how a handler is called with an exchange, and what
// is learned of where it should run.

// run calls the handler and times it where the predictor asks for it. Users are
// let in for as long.
func (x *exchange) run(g *workset) error {
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
	if rt.record(g.clock.now - before) {
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
	x.r.begin(in[:x.r.head.method.end]) // HEAD gets no content (RFC 9110 §9.3.2)
	x.r.refuse()
	x.w.close = true
	x.srv.refused(x, in, err)
	x.w.finish(refusalOf(err))
}

// refusalOf turns an error of the parser into what the client is told.
func refusalOf(err error) error {
	if e, ok := err.(*ParseError); ok {
		return &StatusError{Code: e.Status, Err: e}
	}
	return err
}
