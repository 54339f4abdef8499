package flare

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// This file has the requests and handlers of the simulated world. A handler is
// one entry of worldHandlers: what it answers has to follow from the request
// alone. A client is told by its requests what it has to receive.

const pipelineMax = 6

// A worldRequest is one that a client sends.
type worldRequest struct {
	id      int
	kind    string
	body    string
	trailer string // behind it
	p       *peer
	before  int  // requests on its connection
	sized   bool // the body has its length ahead
	served  bool
	chat    *chat // the WebSocket that it has become
	spoilt  bool  // code beside its handler has failed: it may be answered with 500, or be cut
}

// A worldHandler is a kind of handler. One that is not told otherwise answers with
// says, behind what it does before.
type worldHandler struct {
	before func(w *world, r *Request, q *worldRequest)
	serve  func(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error

	// answer is what the client has to receive, a body of "" being any.
	answer func(q *worldRequest) (code int, body string)

	body    bool // its requests may have one
	partial bool // its answer may be the front of the body
	trails  bool // its answer has the trailer of the body
	cuts    bool // its answer may be cut short, and the connection with it
	last    bool // nothing can be asked behind it
	many    bool // it is for HTTP/2
	fields  string
}

func (q *worldRequest) handler() *worldHandler { return worldHandlers[q.kind] }

// says is the answer of most handlers.
func says(q *worldRequest) (int, string) { return 200, fmt.Sprintf("this is %s %d", q.kind, q.id) }

func fails(*worldRequest) (int, string) { return 500, "" }

func much(q *worldRequest) (int, string) {
	return 200, strings.Repeat(fmt.Sprintf("much of %d. ", q.id), 2_500)
}

// drips is more than windows and queues hold, for who is slow.
func drips(q *worldRequest) (int, string) {
	code, all := much(q)
	if q.p.slow {
		all = strings.Repeat(all, 3)
	}
	return code, all
}

func echoes(q *worldRequest) (int, string) { return 200, q.body }

// answers sends the answer of q at once.
func answers(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
	code, body := q.handler().answer(q)
	return rw.Text(code, body)
}

// inPieces writes all in pieces of that size.
func inPieces(rw *ResponseWriter, all string, size int, between func()) error {
	for at := 0; at < len(all); at += size {
		if _, err := io.WriteString(rw, all[at:min(at+size, len(all))]); err != nil {
			return err
		}
		between()
	}
	return nil
}

var worldHandlers map[string]*worldHandler

func init() { // its functions look at it
	worldHandlers = map[string]*worldHandler{
		"now":  {body: true}, // leaves the body unread
		"wait": {before: func(w *world, _ *Request, _ *worldRequest) { w.sleep(20 * time.Millisecond) }, body: true},
		"patient": {before: func(w *world, _ *Request, q *worldRequest) {
			held := func() bool {
				t, ok := q.p.talk.(*requests)
				return ok && q.p.held() && q.p.next.IsZero() && t.answered < q.before
			}
			for n := 0; n < 300 && held(); n++ {
				w.sleep(20 * time.Millisecond)
			}
			if held() {
				w.fail("answers before request %d are held back by its handler", q.id)
			}
		}},
		"spin": {before: func(w *world, _ *Request, _ *worldRequest) {
			for range 1 + w.rand.IntN(4) {
				w.park("spins in its handler")
			}
		}, body: true},
		"context": {before: func(w *world, r *Request, _ *worldRequest) {
			timer := time.NewTimer(20 * time.Millisecond)
			defer timer.Stop()
			select {
			case <-r.Context().Done():
			case <-timer.C:
			}
			w.park("has waited for its context")
		}},
		"goexit": {before: func(w *world, _ *Request, _ *worldRequest) {
			w.point("is about to exit")
			runtime.Goexit()
		}, answer: fails, cuts: true},
		"fails": {serve: func(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
			w.point("is about to fail")
			if w.one(2) {
				panic("a handler")
			}
			return errors.New("a handler's error")
		}, answer: fails, body: true},
		"big": {answer: much},
		"stream": {serve: func(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
			_, all := says(q)
			for all != "" {
				n := 1 + w.rand.IntN(len(all))
				io.WriteString(rw, all[:n])
				all = all[n:]
				if err := rw.Flush(); err != nil {
					return err
				}
				w.point("streams")
			}
			return nil
		}},
		"drip": {serve: func(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
			_, all := drips(q)
			return inPieces(rw, all, 5_000, func() { w.sleep(20 * time.Millisecond) })
		}, answer: drips, many: true},
		"writer": {serve: func(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
			_, all := much(q)
			w.spawn(func() { inPieces(rw, all, 600, func() { w.point("writes on") }) }) // it may outlive the handler
			w.sleep(10 * time.Millisecond)
			return nil
		}, answer: much, partial: true, cuts: true},
		"echo": {serve: func(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
			body, err := io.ReadAll(r.Body())
			if err != nil {
				return err
			}
			if check := r.Trailer().Get("check"); check != "" {
				rw.Trailer().Set("check", check)
			}
			return rw.Blob(200, "text/plain", body)
		}, answer: echoes, body: true, trails: true},
		"sip": {serve: func(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
			var all []byte
			for room := make([]byte, 1_000); ; w.point("sips") {
				n, err := r.Body().Read(room)
				if all = append(all, room[:n]...); err == io.EOF {
					return rw.Blob(200, "text/plain", all)
				} else if err != nil {
					return err
				}
			}
		}, answer: echoes, body: true, many: true},
		"reader": {before: func(w *world, r *Request, q *worldRequest) {
			body := r.Body()
			w.spawn(func() { // it may outlive the handler
				all, err := io.ReadAll(body)
				if !strings.HasPrefix(q.body, string(all)) {
					w.fail("what is left of request %d reads %q, %v", q.id, tail(all), err)
				}
			})
			if w.one(2) {
				w.sleep(time.Millisecond)
			}
		}, body: true, cuts: true},
		"hijack": {serve: func(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
			conn, _, err := rw.Hijack()
			if err != nil {
				return err
			}
			rw.Informational(100, nil) // for nobody
			w.point("has the connection")
			io.WriteString(conn, "hijacked")
			return conn.Close()
		}, cuts: true, last: true},
		"loop":   {serve: chatOnLoop, answer: switches, fields: chatFields, last: true},
		"accept": {serve: chatAccepted, answer: switches, fields: chatFields, last: true},
	}
	for _, h := range worldHandlers {
		if h.answer == nil {
			h.answer = says
		}
		if h.serve == nil {
			h.serve = answers
		}
	}
}

// sleep is a wait of the user's code, for most at most.
func (w *world) sleep(most time.Duration) {
	time.Sleep(1 + time.Duration(w.rand.Int64N(int64(most))))
	w.park("has slept")
}

// serve is the handler of all of them.
func (w *world) serve(rw *ResponseWriter, r *Request) error {
	q := w.requestOf(r)
	if q == nil {
		w.fail("a request for %q, which nobody has sent", r.Path())
		return nil
	}
	w.tell("handler of %s %d", q.kind, q.id)
	q.served = true
	h := q.handler()
	if h.before != nil {
		h.before(w, r, q)
	}
	return h.serve(w, rw, r, q)
}

func (w *world) requestOf(r *Request) *worldRequest {
	kind, number, _ := strings.Cut(r.Path()[1:], "/")
	if id, err := strconv.Atoi(number); err == nil && id < len(w.requests) && w.requests[id].kind == kind {
		return w.requests[id]
	}
	return nil
}

// A worldRouter is a Router whose code may fail.
type worldRouter struct {
	w   *world
	mux *Mux
}

func (h worldRouter) Serve(rw *ResponseWriter, r *Request) error { return h.mux.Serve(rw, r) }

func (h worldRouter) Route(r *Request) (Handler, string) {
	q := h.w.requestOf(r)
	h.w.whim("a router", func() { q.spoilt = true })
	return h.mux.Route(r)
}

// Requests are the talk of a client of HTTP/1.1, one behind the other.
type requests struct {
	quiet
	list     []*worldRequest
	answered int
}

// newRequests has p send some.
func (w *world) newRequests(p *peer) {
	t := new(requests)
	p.talk = t
	for range 1 + w.rand.IntN(pipelineMax) {
		q := w.newRequest(w.kinds)
		q.p, q.before = p, len(t.list)
		t.list = append(t.list, q)
		if p.say(q.text(w)); q.handler().last {
			p.half = p.half && q.kind == "hijack"
			break
		}
	}
}

// newRequest returns one of one of these kinds.
func (w *world) newRequest(kinds []string) *worldRequest {
	q := &worldRequest{id: len(w.requests), kind: kinds[w.rand.IntN(len(kinds))]}
	w.requests = append(w.requests, q)
	if !q.handler().body || w.one(4) {
		return q
	}
	size := []int{1, 100, 5_000, 30_000}[w.rand.IntN(4)]
	long := q.kind == "now" && w.one(4)
	if long {
		size = 400_000
	}
	q.body = strings.Repeat(fmt.Sprintf("body of %d. ", q.id), size/10+1)[:size]
	q.sized = long || w.one(2) // that a body in chunks is long shows too late for the answer to say so
	return q
}

// text is q in HTTP/1.1.
func (q *worldRequest) text(w *world) []byte {
	head := fmt.Sprintf(" /%s/%d HTTP/1.1\r\nHost: h\r\n%s", q.kind, q.id, q.handler().fields)
	switch {
	case q.body == "":
		return []byte("GET" + head + "\r\n")
	case q.sized:
		return fmt.Appendf(nil, "POST%sContent-Length: %d\r\n\r\n%s", head, len(q.body), q.body)
	}
	b := []byte("POST" + head + "Transfer-Encoding: chunked\r\n\r\n")
	for rest := q.body; rest != ""; {
		n := 1 + w.rand.IntN(min(len(rest), 4000))
		b = fmt.Appendf(b, "%x\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	return append(b, "0\r\n\r\n"...)
}

// hear looks at the answers that are complete.
func (t *requests) hear(p *peer) {
	for p.talk == talk(t) && t.answered < len(t.list) && bytes.Contains(p.got, []byte("\r\n\r\n")) {
		rest := bytes.NewReader(p.got)
		br := bufio.NewReader(rest)
		a, err := readAnswer(br, "GET")
		switch {
		case err != nil && strings.Contains(err.Error(), "EOF"):
			return // not all of it has come
		case err != nil:
			p.w.fail("%v: answer %d: %v", p.s, t.answered, err)
			return
		case a.ContentLength < 0 && len(a.TransferEncoding) == 0:
			return // up to the end
		}
		p.got = p.got[len(p.got)-rest.Len()-br.Buffered():]
		t.judge(p, t.list[t.answered], a)
		t.answered++
	}
}

// judge takes an answer.
func (t *requests) judge(p *peer, q *worldRequest, a answer) {
	p.farewell = a.Close
	if q.judge(p, a.StatusCode, a.body); a.StatusCode == http.StatusSwitchingProtocols {
		p.w.newMessages(p, q)
	}
}

// judge compares an answer with what q has to be answered with.
func (q *worldRequest) judge(p *peer, status int, text string) {
	code, body := q.handler().answer(q)
	switch {
	case status == http.StatusRequestTimeout && (p.w.excused || p.excused || p.s.lost):
	case status == 500 && q.spoilt:
	case status != code, body != "" && text != body && !(q.handler().partial && strings.HasPrefix(body, text)):
		p.w.fail("%v: request %d (%s) is answered %d %q, not %d %q", p.s, q.id, q.kind, status, tail([]byte(text)), code, tail([]byte(body)))
	}
}

func (t *requests) owed() string {
	if t.answered == len(t.list) {
		return ""
	}
	return fmt.Sprintf("answer %d, to %s", t.answered, t.list[t.answered].kind)
}

func (t *requests) loose(p *peer) bool {
	if p.s.handed { // what a hijacker does to unread octets costs the client earlier answers too
		return true
	}
	if last := t.list[len(t.list)-1]; p.hurried(last.chat) {
		return true
	}
	for _, q := range t.list[:min(t.answered+1, len(t.list))] {
		if q.handler().cuts || q.spoilt {
			return true
		}
	}
	return false
}
