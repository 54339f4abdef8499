package flare

// This file is layer 4 (roles): the turn of a stream of HTTP/2, in which its
// handler is called, and what becomes of it. The turn touches the stream alone and
// nothing of the connection, so it can be passed, stolen, or be on a worker.

// turn calls the handler, or whoever answers for a request that is refused.
func (s *http2Stream) turn(g *workset) verdict {
	if own := s.own.Load(); own&ownHup != 0 || own&ownLent == 0 && s.closed {
		return s.turned(g) // it was reset before its turn came
	}
	if s.x == nil && !s.beginRequest(g) {
		return s.turned(g)
	}
	x := s.x
	if s.refusal != nil {
		g.forget()
		x.refuse(g, s.section.octets, s.refusal)
		return s.turned(g)
	}
	x.r.begin(s.section.octets)
	if x.route == nil {
		x.due = g.batchTaken()
		x.handler, x.route = s.h.srv.routeOf(&x.r)
	}
	g.setRoute(x.route)
	if g.loop != nil && !g.loop.inline(x.route) {
		return verdictWork
	}
	s.beginBody()
	g.forget()
	err := x.run(g)
	if x.w.hijacked {
		if err != nil {
			x.srv.logHandlerError(&x.r, err)
		}
		s.endContext()
		x.ended(err)
		return s.turned(g)
	}
	x.w.finish(err)
	return s.turned(g)
}

// beginRequest makes the request of the section. False: it is malformed.
func (s *http2Stream) beginRequest(g *workset) bool {
	x, h := g.newHTTP2Exchange(), s.h
	x.stream, x.strand, x.srv, s.x = s, &s.strand, h.srv, x
	err := x.r.head.fillHTTP2(&s.section, &h.srv.lim.head, requestOffer{endStream: s.bare, connect: h.srv.http2.connect})
	if e, ok := err.(*http2Error); ok {
		s.malformed = e.code
		return false
	}
	x.whole, x.began = err == nil, s.askedAt
	if s.refusal == nil {
		s.refusal = err
	}
	return true
}

// turned is the end of a turn.
func (s *http2Stream) turned(*workset) verdict {
	s.endContext()
	return verdictClose
}

// exited ends a stream whose handler called runtime.Goexit.
func (s *http2Stream) exited(g *workset) verdict {
	if s.x == nil {
		s.cut = codeInternal
		return s.turned(g)
	}
	s.x.close()
	if !s.x.w.hijacked {
		s.x.endedAway(errHandlerExited)
		s.x.w.drop()
		s.cutOff(endReset)
	}
	return s.turned(g)
}

// settle hands the end of the response to the connection.
func (s *http2Stream) settle(verdict) {
	if s.holds() {
		return
	}
	s.running, s.complete = false, s.complete || s.odd().through != nil
	s.h.settled(s)
}

// abandon lets go of a connection whose loop is dead.
func (s *http2Stream) abandon() {
	if !s.holds() {
		s.h.leave()
	}
}
