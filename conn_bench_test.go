//go:build linux || darwin

package flare

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
)

// A pairServer is a connection over a socketpair, driven as a loop drives it
// but with no loop running: the whole path of a request, and nothing else.
type pairServer struct {
	loop    *Loop
	conn    *Conn
	workset *workset
	client  int
	answer  []byte
}

func newPairServer(t testing.TB, s *Server) *pairServer {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if err := syscall.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	poller, err := NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	s.prepare()
	l := newLoop(poller)
	g := new(worksets).runner()
	l.workset = g
	g.clock.read()
	p := &pairServer{loop: l, workset: g, client: fds[1], answer: make([]byte, 64<<10)}
	p.conn = s.newConn(l, fds[0], netip.AddrPort{})
	s.conns.Add(1)
	l.add(p.conn)
	t.Cleanup(func() {
		l.close(p.conn)
		l.closeAll()
		closeFD(p.client)
		l.closePoller()
		if l.state.Load()&1 != 0 {
			t.Error("a turn is still running")
		}
	})
	return p
}

// roundTrip sends input and lets the connection have its turn, as the runner
// does. It returns the answer.
func (p *pairServer) roundTrip(t testing.TB, input []byte) []byte {
	if n, errno := sendConn(p.client, input); n != len(input) {
		t.Fatalf("sent %d: %v", n, errno)
	}
	if p.conn.take(ownRead) {
		if !p.loop.turn(&p.conn.strand, p.workset, turnDrive) {
			t.Fatal("the baton was taken")
		}
	}
	n, errno := recvConn(p.client, p.answer)
	if errno != 0 {
		t.Fatal(errno)
	}
	return p.answer[:n]
}

var plaintextRequest = []byte("GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n")

func plaintextServer() *Server {
	mux := NewMux()
	plaintext := func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Type", "text/plain")
		_, err := w.WriteString("Hello, World!")
		return err
	}
	mux.Get("/plaintext", plaintext, Inline)
	mux.Get("/plaintext/{page}", plaintext, Inline)
	for _, path := range []string{"/json", "/echo", "/bytes", "/status/{code}", "/files/{path...}"} {
		mux.Get(path, func(w *ResponseWriter, r *Request) error { return nil })
	}
	return &Server{Handler: mux}
}

// TestPlaintextAllocations holds the whole path of a small request to no
// allocation at all.
func TestPlaintextAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector nothing is reused, so that misuse is found")
	}
	p := newPairServer(t, plaintextServer())
	p.roundTrip(t, plaintextRequest)
	if n := testing.AllocsPerRun(1000, func() { p.roundTrip(t, plaintextRequest) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}

// TestAccessLogAllocations holds a line for each request, and a hook that asks for
// what is there anyway, to no allocation.
func TestAccessLogAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector nothing is reused, so that misuse is found")
	}
	log := &AccessLog{Output: io.Discard}
	for name, hook := range map[string]func(AccessEntry){
		"hook": func(e AccessEntry) {
			if e.Status != 200 || e.BytesOut != 13 || e.Request.Method() != "GET" || e.Request.Pattern() != "GET /plaintext" || e.Request.ClientAddr().IsValid() {
				t.Error(e)
			}
		},
		"log": log.Log,
	} {
		s := plaintextServer()
		s.AccessHook = hook
		p := newPairServer(t, s)
		p.roundTrip(t, plaintextRequest)
		if n := testing.AllocsPerRun(1000, func() { p.roundTrip(t, plaintextRequest) }); n != 0 {
			t.Errorf("%s: %v allocations a request", name, n)
		}
	}
}

// productionServer is plaintextServer with all that stands around handlers in
// production: a line of JSON for each request, request ids, CORS, security fields, a
// rate limit and metrics.
func productionServer() *Server {
	s := plaintextServer()
	mux := s.Handler.(*Mux)
	cors := &CORS{Origins: []string{"https://app.example.com"}}
	rate := &RateLimiter{Rate: 1e9, Burst: 1e9}
	mux.Use(Inline, RequestID, cors.Wrap, new(SecurityFields).Wrap, rate.Wrap)
	log := &AccessLog{Output: io.Discard}
	s.AccessHook = log.Log
	MetricsHandler(s)
	return s
}

// TestProductionAllocations holds all of that together to 3 allocations a request.
func TestProductionAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector nothing is reused, so that misuse is found")
	}
	p := newPairServer(t, productionServer())
	answer := string(p.roundTrip(t, plaintextRequest))
	for _, field := range []string{"X-Request-Id: ", "Vary: Origin", "X-Content-Type-Options: nosniff", "RateLimit: ", "Hello, World!"} {
		if !strings.Contains(answer, field) {
			t.Errorf("no %s in %q", field, answer)
		}
	}
	if n := testing.AllocsPerRun(1000, func() { p.roundTrip(t, plaintextRequest) }); n > 3 {
		t.Errorf("%v allocations a request, at most 3", n)
	}
}

// BenchmarkProductionSocketpair is BenchmarkPlaintextSocketpair with productionServer:
// the difference is what it all costs.
func BenchmarkProductionSocketpair(b *testing.B) {
	p := newPairServer(b, productionServer())
	b.ReportAllocs()
	for b.Loop() {
		p.roundTrip(b, plaintextRequest)
	}
}

// BenchmarkPlaintextSocketpair is the whole path of GET /plaintext, the
// client's two system calls included.
func BenchmarkPlaintextSocketpair(b *testing.B) {
	p := newPairServer(b, plaintextServer())
	b.ReportAllocs()
	for b.Loop() {
		p.roundTrip(b, plaintextRequest)
	}
}

// BenchmarkSocketpairFloor is what the kernel takes of that: the same four
// system calls without a server in between.
func BenchmarkSocketpairFloor(b *testing.B) {
	p := newPairServer(b, plaintextServer())
	answer := append([]byte(nil), p.roundTrip(b, plaintextRequest)...)
	buf := make([]byte, 4096)
	for b.Loop() {
		sendConn(p.client, plaintextRequest)
		recvConn(p.conn.fd, buf)
		sendConn(p.conn.fd, answer)
		recvConn(p.client, buf)
	}
}

// differingRequests are GET /plaintext as people send it who go from page to page:
// path, cookie and id are others in each, so that nothing of a whole head can be
// remembered.
func differingRequests() (list [][]byte) {
	for i := range 64 {
		word := func(k int) int { return (i + 1) * k % 99_999_989 } // up to 8 digits
		list = append(list, fmt.Appendf(nil, "GET /plaintext/%d HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nCookie: session=%08d%08d\r\nX-Request-Id: %08d\r\n\r\n",
			word(104_729), word(15_485_863), word(32_452_843), word(49_979_687)))
	}
	return list
}

// A loopTransport gives its inputs in turn to every receive but each second, and
// takes all output: what is left is flare's own work.
type loopTransport struct {
	memoryBase
	inputs [][]byte
	next   int
	given  bool
}

func (t *loopTransport) recv(p []byte) (int, error) {
	if t.given = !t.given; !t.given {
		return 0, errWouldBlock
	}
	if t.next++; t.next >= len(t.inputs) {
		t.next = 0
	}
	return copy(p, t.inputs[t.next]), nil
}

func (t *loopTransport) send(a, b []byte) (int, error) { return len(a) + len(b), nil }

// benchmarkUser is the user part of requests: guard, receive, parse, handler,
// response, without the system calls.
func benchmarkUser(b *testing.B, inputs ...[]byte) {
	p := newPairServer(b, plaintextServer())
	p.conn.tr = &loopTransport{inputs: inputs}
	b.ReportAllocs()
	for b.Loop() {
		for range 2 {
			p.conn.take(ownRead)
			p.loop.turn(&p.conn.strand, p.workset, turnDrive)
		}
	}
	if n := p.workset.counts; n[countRequests] == 0 || n[countRequests] != n[countClass2] {
		b.Error("not every request was answered with 200")
	}
}

// BenchmarkPlaintextUser is that part of GET /plaintext with heads that differ.
func BenchmarkPlaintextUser(b *testing.B) { benchmarkUser(b, differingRequests()...) }

// BenchmarkPlaintextUserEqual has the same short head each time.
func BenchmarkPlaintextUserEqual(b *testing.B) { benchmarkUser(b, plaintextRequest) }

// BenchmarkPlaintextUser16 is that for bursts of 16 requests.
func BenchmarkPlaintextUser16(b *testing.B) { benchmarkUser(b, bytes.Repeat(plaintextRequest, 16)) }

// BenchmarkPlaintextUserUnguarded is BenchmarkPlaintextUserEqual without the guard
// around the turn: the difference is what the baton costs a request.
func BenchmarkPlaintextUserUnguarded(b *testing.B) {
	p := newPairServer(b, plaintextServer())
	p.conn.tr = &loopTransport{inputs: [][]byte{plaintextRequest}}
	for b.Loop() {
		for range 2 {
			p.conn.take(ownRead)
			p.workset.loop = p.loop
			v := p.conn.takeTurn(p.workset, turnDrive)
			p.workset.loop = nil
			p.loop.apply(&p.conn.strand, v)
		}
	}
}
