package flare

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"unsafe"
)

// This file has the promise that a request on the inline path allocates nothing.

// A rawHTTP2 asks for the same again and again, without allocating.
type rawHTTP2 struct {
	t     testing.TB
	nc    net.Conn
	block []byte // a field block that leaves no trace in the decoder's table
	out   []byte
	in    []byte
	next  uint32
}

func dialRawHTTP2(t testing.TB, addr string, lines ...string) *rawHTTP2 {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := &rawHTTP2{t: t, nc: nc, in: make([]byte, 0, 64<<10), next: 1}
	for _, line := range lines {
		name, value := line[:1], line[1:]
		for i, r := range value {
			if r == ':' {
				name, value = line[:1+i], value[i+2:]
				break
			}
		}
		c.block = appendHPACKLiteral(c.block, 0, 0x0f, 0, name, value)
	}
	first := appendWindowUpdate(appendSettings([]byte(http2Preface)), 0, streamMax-windowDefault)
	if _, err := nc.Write(first); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask asks n times at once, and reads the answers.
func (c *rawHTTP2) ask(n int) {
	c.out = c.out[:0]
	for range n {
		c.out = appendHTTP2Head(c.out, http2Head{length: uint32(len(c.block)), kind: frameHeaders, flags: flagEndHeaders | flagEndStream, stream: c.next})
		c.out = append(c.out, c.block...)
		c.next += 2
	}
	if _, err := c.nc.Write(c.out); err != nil {
		c.t.Fatal(err)
	}
	for n > 0 {
		for len(c.in) >= http2HeadBytes {
			h := parseHTTP2Head((*[http2HeadBytes]byte)(c.in))
			if len(c.in) < http2HeadBytes+int(h.length) {
				break
			}
			if (h.kind == frameData || h.kind == frameHeaders) && h.endStream() {
				n--
			}
			if h.kind == frameGoAway {
				c.t.Fatalf("GOAWAY %v", http2Code(binary.BigEndian.Uint32(c.in[http2HeadBytes+4:])))
			}
			c.in = c.in[:copy(c.in, c.in[http2HeadBytes+int(h.length):])]
		}
		if n == 0 {
			return
		}
		k, err := c.nc.Read(c.in[len(c.in):cap(c.in)])
		if err == io.EOF || err != nil {
			c.t.Fatal(err)
		}
		c.in = c.in[:len(c.in)+k]
	}
}

// What waits costs its structs: one more word, and a connection of HTTP/2 would take up
// the next size class of the allocator, which keeps a word of its own.
func TestHTTP2Size(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("size classes are looked at for 64 bits")
	}
	if size := unsafe.Sizeof(http2Conn{}); size > 640-8 {
		t.Errorf("a connection has %d bytes", size)
	}
	if size := unsafe.Sizeof(http2Stream{}); size > 480 { // of those classes have no word of its own
		t.Errorf("a stream has %d bytes", size)
	}
}

// A request on the loop allocates nothing, alone or among a hundred of a round.
func TestHTTP2Allocations(t *testing.T) {
	notPlain(t, "it starts a goroutine for what it writes")
	if raceEnabled {
		t.Skip("under the race detector nothing is reused")
	}
	mux := NewMux()
	mux.Handle("GET /plaintext", Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "Hello, World!") })))
	addr := startHTTP2Server(t, &Server{Loops: 1, Handler: mux})
	for _, n := range []int{1, 100} {
		c := dialRawHTTP2(t, addr, ":method: GET", ":scheme: http", ":path: /plaintext", ":authority: h", "user-agent: x")
		for range 20 {
			c.ask(n)
		}
		if got := testing.AllocsPerRun(200, func() { c.ask(n) }) / float64(n); got >= 0.5 {
			t.Errorf("%.2f allocations a request, %d at once", got, n)
		}
	}
}

func BenchmarkHTTP2Plaintext(b *testing.B) {
	mux := NewMux()
	mux.Handle("GET /plaintext", Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "Hello, World!") })))
	addr := startHTTP2Server(b, &Server{Loops: 1, Handler: mux})
	c := dialRawHTTP2(b, addr, ":method: GET", ":scheme: http", ":path: /plaintext", ":authority: h", "user-agent: x")
	b.ReportAllocs()
	for i := 0; i < b.N; i += 100 {
		c.ask(100)
	}
}
