package flare

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file has the clients and handlers of the simulated world. A handler is
// one entry of worldHandlers: what it answers has to follow from the request's
// number alone. A client is told by its requests what it has to receive.

const (
	clientsMax  = 12
	pipelineMax = 6
)

// A worldRequest is one that a client sends, and what has to be the answer.
type worldRequest struct {
	id   int
	kind string
	text string // head and body
	body string
}

// A worldClient sends requests on one connection, one behind the other.
type worldClient struct {
	w        *world
	s        *worldSocket
	requests []worldRequest
	unsent   string
	got      []byte
	released chan struct{}

	leaves   int  // octets left to send when it goes, -1: it stays to the end
	rudely   bool // by a reset
	half     bool // it shuts its write side behind the last request
	closed   bool // it has closed
	cutShort bool // it went in the middle
	lastOne  bool // the last answer said that there are no more
	answers  int  // that it has found in got
	parsed   int  // octets of got that they are
}

// begin readies the server.
func (w *world) begin() {
	for kind := range worldHandlers {
		w.kinds = append(w.kinds, kind)
	}
	slices.Sort(w.kinds)
	w.length = 20 + w.rand.IntN(worldSteps)
	mux := NewMux()
	for _, kind := range w.kinds {
		handler := Handler(HandlerFunc(w.serve))
		switch w.rand.IntN(3) {
		case 0:
			handler = Offload(handler)
		case 1:
			handler = Inline(handler)
		}
		mux.Handle("/"+kind+"/{id}", handler)
	}
	level := w.one(3)
	s := &Server{Handler: mux, Loops: 1 + w.rand.IntN(2), Logger: quietLogger()}
	s.NewPoller = func() (Poller, error) {
		p := &worldPoller{w: w, level: level, bell: make(chan struct{}, 1)}
		w.pollers = append(w.pollers, p)
		return p, nil
	}
	if w.one(4) {
		s.MaxConns = 3
	}
	w.srv = s
	w.listener = &worldSocket{w: w, number: 0, bell: make(chan struct{}, 1)}
	w.sockets = append(w.sockets, w.listener)
	w.open(w.listener)
	s.prepare()
	loops, err := s.newLoops()
	if err != nil {
		panic(err)
	}
	s.loops, s.started, s.done = loops, true, make(chan struct{})
	for _, l := range loops {
		l.env, l.unwatched = w, true
		l.start()
	}
	w.spawn(func() { s.awaitLoops(loops) })
	ln := &loopListener{fd: w.listener.fd, adopt: w.adopt, full: s.full, short: func(error) {}, failed: func(err error) { w.fail("accepting has failed: %v", err) }}
	loops[0].call(func() {
		if err := loops[0].listen(ln); err != nil {
			w.loseQueue()
			w.excused = true
			w.closeFD(ln.fd)
		}
	})
	for range 1 + w.rand.IntN(4) {
		w.connect()
	}
}

// connect adds a client.
func (w *world) connect() {
	c := &worldClient{w: w, leaves: -1, released: make(chan struct{})}
	c.s = w.newSocket()
	for range 1 + w.rand.IntN(pipelineMax) {
		r := w.newRequest(c, len(c.requests)+100*len(w.clients))
		c.requests = append(c.requests, r)
		c.unsent += r.text
		if r.kind == "hijack" {
			break
		}
	}
	switch w.rand.IntN(8) {
	case 0:
		c.leaves = w.rand.IntN(len(c.unsent))
	case 1:
		c.leaves, c.rudely = w.rand.IntN(len(c.unsent)+1), true
	case 2, 3:
		c.half = true
	}
	w.clients = append(w.clients, c)
	w.tell("client %d connects, with %d requests", len(w.clients)-1, len(c.requests))
}

func (w *world) newRequest(c *worldClient, id int) worldRequest {
	r := worldRequest{id: id, kind: w.kinds[w.rand.IntN(len(w.kinds))]}
	method := "GET"
	if n := w.rand.IntN(4); n > 0 && worldHandlers[r.kind].body {
		method = "POST"
		size := []int{1, 100, 5_000, 30_000}[w.rand.IntN(4)]
		r.body = strings.Repeat(fmt.Sprintf("body of %d. ", id), size/10+1)[:size]
	}
	head := fmt.Sprintf("%s /%s/%d HTTP/1.1\r\nHost: h\r\n", method, r.kind, id)
	switch {
	case method == "GET":
		r.text = head + "\r\n"
	case w.one(2):
		var b strings.Builder
		b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
		for rest := r.body; rest != ""; {
			n := 1 + w.rand.IntN(min(len(rest), 4000))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		r.text = b.String() + "0\r\n\r\n"
	default:
		r.text = head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(r.body)) + r.body
	}
	return r
}

// canAct reports whether the client has something to do.
func (c *worldClient) canAct() bool {
	return !c.closed && (c.s.reset || c.unsent != "" && len(c.s.in) < roomMax || len(c.s.out) > 0 || c.s.outEnd || c.half && c.unsent == "" || len(c.unsent) <= c.leaves)
}

// act is one step of the client.
func (c *worldClient) act() {
	w, s := c.w, c.s
	sends := c.unsent != "" && len(s.in) < roomMax && !s.inEnd
	switch {
	case s.reset:
		w.tell("the client of %v sees a reset", s)
		c.closed = true
	case c.leaves >= 0 && len(c.unsent) <= c.leaves:
		c.cutShort, c.closed = true, true
		if w.tell("the client of %v leaves", s); c.rudely {
			s.resetByPeer()
		} else {
			s.lost = true
			s.inEnd = true
			s.edge(Readable | Hangup)
		}
	case sends && (len(s.out) == 0 || w.one(2)):
		n := min(len(c.unsent), 1+w.rand.IntN(1<<w.rand.IntN(14)))
		s.in = append(s.in, c.unsent[:n]...)
		c.unsent = c.unsent[n:]
		w.tell("the client of %v sends %d octets", s, n)
		s.edge(Readable)
	case len(s.out) > 0:
		n := 1 + w.rand.IntN(len(s.out))
		c.got = append(c.got, s.out[:n]...)
		s.out = s.out[n:]
		w.tell("the client of %v reads %d octets", s, n)
		if s.wantRoom && len(s.out) < roomMax/2 {
			s.wantRoom = false
			s.edge(Writable)
		}
		c.parse()
	case s.outEnd:
		w.tell("the client of %v closes, behind the server", s)
		c.closed = true
		s.inEnd = true
		s.edge(Readable | Hangup)
	case c.half && c.unsent == "":
		w.tell("the client of %v shuts its write side", s)
		c.half = false
		s.inEnd = true
		s.edge(Readable | Hangup)
	default:
		w.tell("the client of %v dawdles", s)
	}
}

// parse looks at the answers that are complete.
func (c *worldClient) parse() {
	for c.answers < len(c.requests) && c.w.failure == "" {
		if !bytes.Contains(c.got[c.parsed:], []byte("\r\n\r\n")) {
			return
		}
		rest := bytes.NewReader(c.got[c.parsed:])
		br := bufio.NewReader(rest)
		r := c.requests[c.answers]
		if r.kind == "hijack" {
			return
		}
		a, err := readAnswer(br, "GET")
		if err != nil && strings.Contains(err.Error(), "EOF") {
			return // not all of it has come
		}
		if err != nil {
			c.w.fail("%v: answer %d: %v", c.s, c.answers, err)
			return
		}
		used := len(c.got) - c.parsed - rest.Len() - br.Buffered()
		if a.ContentLength < 0 && len(a.TransferEncoding) == 0 {
			return // up to the end
		}
		c.judge(r, a)
		c.lastOne = a.Close
		c.parsed += used
		c.answers++
	}
}

// judge compares an answer with what its request has to be answered with.
func (c *worldClient) judge(r worldRequest, a answer) {
	if a.StatusCode == http.StatusRequestTimeout && (c.w.excused || c.s.lost) {
		return
	}
	code, body := worldHandlers[r.kind].answer(r)
	if a.StatusCode != code || body != "" && a.body != body {
		c.w.fail("%v: request %d (%s) is answered %d %q, not %d %q", c.s, r.id, r.kind, a.StatusCode, tail([]byte(a.body)), code, tail([]byte(body)))
	}
}

// checkCalm is for when nothing happens any more: a server that has all of a
// client's requests has answered all of them.
func (c *worldClient) checkCalm() {
	if c.w.excused || c.s.lost || c.cutShort || c.s.fd < 0 || c.w.failure != "" {
		return
	}
	for _, r := range c.requests[:min(c.answers+1, len(c.requests))] {
		if worldHandlers[r.kind].cuts {
			return
		}
	}
	switch {
	case c.unsent != "" && !c.s.outEnd:
		c.w.fail("%v: the client waits for ever to send the rest of its requests", c.s)
	case c.answers < len(c.requests) && !c.s.outEnd:
		c.w.fail("%v: the client waits for ever for answer %d, to %s", c.s, c.answers, c.requests[c.answers].kind)
	case c.answers < len(c.requests) && !c.lastOne:
		c.w.fail("%v: the server has closed before answer %d, and not said so", c.s, c.answers)
	}
}

// checkEnd is for when the server has ended.
func (c *worldClient) checkEnd() {
	if c.w.excused || c.s.lost || c.cutShort {
		return
	}
	c.got = append(c.got, c.s.out...)
	c.parse()
	if c.answers == 0 && len(c.got) == 0 {
		return // Shutdown came before the first request
	}
	for _, r := range c.requests[:min(c.answers+1, len(c.requests))] {
		if worldHandlers[r.kind].cuts {
			return
		}
	}
	if len(c.got) > c.parsed {
		c.w.fail("%v: answer %d is cut without an end: %q", c.s, c.answers, tail(c.got[c.parsed:]))
	}
}

// A worldHandler is a kind of handler.
type worldHandler struct {
	serve  func(w *world, rw *ResponseWriter, r *Request, id int) error
	answer func(r worldRequest) (code int, body string) // "": any
	body   bool                                         // its requests may have one
	cuts   bool                                         // its answer may be cut short, and the connection with it
}

// says is the answer of most handlers.
func says(r worldRequest) (int, string) { return 200, fmt.Sprintf("this is %s %d", r.kind, r.id) }

func (w *world) serve(rw *ResponseWriter, r *Request) error {
	_, rest, _ := strings.Cut(r.Path()[1:], "/")
	kind, _, _ := strings.Cut(r.Path()[1:], "/")
	id, err := strconv.Atoi(rest)
	if err != nil {
		w.fail("a request for %q, which nobody has sent", r.Path())
		return err
	}
	w.tell("handler of %s %d", kind, id)
	return worldHandlers[kind].serve(w, rw, r, id)
}

func answers(w *world, rw *ResponseWriter, r *Request, id int) error {
	kind, _, _ := strings.Cut(r.Path()[1:], "/")
	return rw.Text(200, fmt.Sprintf("this is %s %d", kind, id))
}

// sleep is a wait of a handler's.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	w.park("has slept")
}

var worldHandlers = map[string]worldHandler{
	"now": {serve: answers, answer: says, body: true}, // leaves the body unread
	"wait": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		w.sleep(time.Duration(1+w.rand.IntN(20)) * time.Millisecond)
		return answers(w, rw, r, id)
	}, answer: says, body: true},
	"spin": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		for range 1 + w.rand.IntN(4) {
			w.park("spins in its handler")
		}
		return answers(w, rw, r, id)
	}, answer: says, body: true},
	"panic": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		w.point("is about to panic")
		panic("a handler")
	}, answer: func(worldRequest) (int, string) { return 500, "" }, body: true},
	"fails": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		return errors.New("a handler's error")
	}, answer: func(worldRequest) (int, string) { return 500, "" }, body: true},
	"goexit": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		w.point("is about to exit")
		runtime.Goexit()
		return nil
	}, answer: func(worldRequest) (int, string) { return 500, "" }, cuts: true},
	"echo": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		body, err := io.ReadAll(r.Body())
		if err != nil {
			return err
		}
		return rw.Blob(200, "text/plain", body)
	}, answer: func(r worldRequest) (int, string) { return 200, r.body }, body: true},
	"stream": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		for i := range 3 {
			fmt.Fprintf(rw, "part %d of %d. ", i, id)
			if err := rw.Flush(); err != nil {
				return err
			}
			w.point("streams")
		}
		return nil
	}, answer: func(r worldRequest) (int, string) {
		return 200, fmt.Sprintf("part 0 of %d. part 1 of %d. part 2 of %d. ", r.id, r.id, r.id)
	}},
	"big": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		return rw.Text(200, bigAnswer(id))
	}, answer: func(r worldRequest) (int, string) { return 200, bigAnswer(r.id) }},
	"stray": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		body := r.Body()
		w.spawn(func() { // it may outlive the handler
			all, err := io.ReadAll(body)
			if own := fmt.Sprintf("body of %d. ", id); !strings.HasPrefix(string(all), own[:min(len(own), len(all))]) {
				w.fail("what is left of request %d reads %q, %v", id, tail(all), err)
			}
		})
		if w.one(2) {
			w.sleep(time.Millisecond)
		}
		return answers(w, rw, r, id)
	}, answer: says, body: true, cuts: true},
	"context": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		timer := time.NewTimer(20 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
		case <-timer.C:
		}
		w.park("has waited for its context")
		return answers(w, rw, r, id)
	}, answer: says},
	"hijack": {serve: func(w *world, rw *ResponseWriter, r *Request, id int) error {
		conn, _, err := rw.Hijack()
		if err != nil {
			return err
		}
		w.point("has the connection")
		io.WriteString(conn, "hijacked")
		return conn.Close()
	}, answer: says, cuts: true},
}

func bigAnswer(id int) string { return strings.Repeat(fmt.Sprintf("much of %d. ", id), 2_500) }
