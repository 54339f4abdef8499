package flare

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
)

// This file is layer 5 (surface): what users' own tests need: a handler called
// without a socket, and a server on a random port.

// TestClient returns a client whose requests go straight into h: no socket, no
// server, any host name. What lies between is flare's own parser and response
// writer, so limits, refusals, chunking and panics behave as they do in a
// server. Redirects are followed as http.Client does. A handler cannot Hijack,
// and the whole request body has to end before the handler can.
func TestClient(h Handler) *http.Client {
	s := &Server{Handler: h}
	s.prepare()
	return &http.Client{Transport: &handlerTransport{srv: s, loop: newLoop(nil)}}
}

// handlerTransport is an http.RoundTripper into a handler. Any number of
// goroutines may use it; the loop never runs and has the counters.
type handlerTransport struct {
	srv  *Server
	loop *Loop
}

func (t *handlerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		return nil, err
	}
	tr := &memoryTransport{in: wire.Bytes()}
	t.srv.conns.Add(1)
	c := t.srv.newConn(t.loop, -1, netip.AddrPort{})
	c.tr, c.edges = tr, ownRead
	g := newOwnerWorkset()
	g.clock.read()
	c.lend()
	for v := verdictMore; v == verdictMore || v == verdictWork; {
		v = c.drive(g)
	}
	g.publish(t.loop)
	g.release()
	t.loop.lent.Add(-1)
	c.setState(stateClosed)
	c.ended()
	resp, err := http.ReadResponse(bufio.NewReader(&tr.out), req)
	if errors.Is(err, io.ErrUnexpectedEOF) && tr.out.Len() == 0 {
		return nil, io.EOF // the handler aborted the connection
	}
	return resp, err
}

// memoryTransport gives a request and then the end of the stream.
type memoryTransport struct {
	memoryBase
	in  []byte
	out bytes.Buffer
}

func (t *memoryTransport) recv(p []byte) (int, error) {
	n := copy(p, t.in)
	t.in = t.in[n:]
	return n, nil
}

func (t *memoryTransport) send(a, b []byte) (int, error) {
	t.out.Write(a)
	t.out.Write(b)
	return len(a) + len(b), nil
}

// TestingT is the part of testing.TB that TestServer needs.
type TestingT interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// TestServer serves s on a random port of 127.0.0.1 until the test ends, and
// returns its URL, without a slash at the end.
func TestServer(t TestingT, s *Server) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("flare: %v", err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("flare: Serve: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}
