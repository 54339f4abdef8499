// Command gnet answers each request head with one fixed answer on a gnet event loop. Its parser is
// a toy, as in the web framework benchmarks: it looks for the end of the head and at nothing else,
// so it shows what gnet's loop costs, not what an HTTP server on it would.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
)

var headEnd = []byte("\r\n\r\n")

type server struct {
	gnet.BuiltinEventEngine
	addr, contentType string
	answer            atomic.Pointer[[]byte] // with the current Date, replaced once a second
}

// connection is the state of one connection: only its event loop touches it.
type connection struct {
	out []byte
}

func (s *server) OnBoot(gnet.Engine) gnet.Action {
	fmt.Printf("gnet: serving on http://%s\n", s.addr)
	return gnet.None
}

func (s *server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(new(connection))
	return nil, gnet.None
}

func (s *server) OnTick() (time.Duration, gnet.Action) {
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: 13\r\n\r\nHello, World!",
		time.Now().UTC().Format(http.TimeFormat), s.contentType)
	s.answer.Store(&answer)
	return time.Second, gnet.None
}

func (s *server) OnTraffic(c gnet.Conn) gnet.Action {
	in, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	state := c.Context().(*connection)
	answer := *s.answer.Load()
	used, out := 0, state.out[:0]
	for {
		end := bytes.Index(in[used:], headEnd)
		if end < 0 {
			break
		}
		used += end + len(headEnd)
		out = append(out, answer...)
	}
	state.out = out
	if used == 0 {
		return gnet.None
	}
	if _, err := c.Write(out); err != nil {
		return gnet.Close
	}
	if _, err := c.Discard(used); err != nil {
		return gnet.Close
	}
	return gnet.None
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	contentType := flag.String("type", "text/plain", "Content-Type of the answers")
	loops := flag.Int("loops", 1, "event loops")
	flag.Parse()

	s := &server{addr: *addr, contentType: *contentType}
	s.OnTick() // the first answer, before the ticker runs
	log.Fatal(gnet.Run(s, "tcp://"+*addr,
		gnet.WithNumEventLoop(*loops), gnet.WithTicker(true), gnet.WithTCPNoDelay(gnet.TCPNoDelay)))
}
