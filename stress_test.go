package flare

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var stressTime = flag.Duration("stress", 2*time.Second, "how long TestStress runs")

// stressHandler does what the query asks for and answers with the request's
// id, in the header and in the body.
func stressHandler(w *ResponseWriter, r *Request) error {
	q := r.Query()
	id := q.Get("id")
	w.Header().Set("X-Id", id)
	amount, _ := strconv.Atoi(q.Get("n"))
	d := time.Duration(amount) * time.Microsecond
	switch q.Get("do") {
	case "sleep":
		time.Sleep(d)
	case "spin":
		for end := time.Now().Add(d); time.Now().Before(end); {
		}
	case "panic":
		panic("asked for")
	case "goexit":
		runtime.Goexit()
	case "error":
		return &StatusError{Code: 418, Message: id}
	case "stream":
		for range 3 {
			io.WriteString(w, strings.Repeat(".", amount))
			if err := w.Flush(); err != nil {
				return err
			}
		}
	case "body":
		body, err := r.Bytes()
		if err != nil {
			return err
		}
		w.Write(body)
	case "context":
		select {
		case <-r.Context().Done():
		case <-time.After(d):
		}
	case "hijack":
		conn, rw, err := w.Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprintf(rw, "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id)
		return rw.Flush()
	}
	if r.Query().Get("id") != id {
		return errors.New("the request has changed under its handler")
	}
	_, err := w.WriteString(id)
	return err
}

// A stressClient drives one connection after another.
type stressClient struct {
	t        *testing.T
	addr     string
	name     int
	rng      *rand.Rand
	next     int
	stopping *atomic.Bool
	answers  *atomic.Int64
}

type stressRequest struct {
	id, do string
	n      int
}

func (s *stressClient) request() stressRequest {
	s.next++
	q := stressRequest{id: fmt.Sprintf("%d-%d", s.name, s.next)}
	switch roll := s.rng.IntN(100); {
	case roll < 50:
	case roll < 60:
		q.do, q.n = "sleep", s.rng.IntN(20_000)
	case roll < 65:
		q.do, q.n = "spin", s.rng.IntN(15_000)
	case roll < 68:
		q.do = "panic"
	case roll < 70:
		q.do = "goexit"
	case roll < 75:
		q.do = "error"
	case roll < 82:
		q.do, q.n = "stream", s.rng.IntN(30_000)
	case roll < 92:
		q.do, q.n = "body", s.rng.IntN(100_000)
	case roll < 97:
		q.do, q.n = "context", s.rng.IntN(5_000)
	default:
		q.do = "hijack"
	}
	return q
}

func (q stressRequest) appendTo(b []byte) []byte {
	if q.do != "body" {
		return fmt.Appendf(b, "GET /%s?id=%s&do=%s&n=%d HTTP/1.1\r\nHost: x\r\n\r\n", q.do, q.id, q.do, q.n)
	}
	if q.n%2 == 0 {
		b = fmt.Appendf(b, "POST /body?id=%s&do=body HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", q.id, q.n)
		return append(b, strings.Repeat("b", q.n)...)
	}
	b = fmt.Appendf(b, "POST /body?id=%s&do=body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", q.id)
	for left := q.n; left > 0; left -= min(left, 10_000) {
		b = fmt.Appendf(b, "%x\r\n%s\r\n", min(left, 10_000), strings.Repeat("b", min(left, 10_000)))
	}
	return append(b, "0\r\n\r\n"...)
}

// connection sends a burst and checks the answers until something ends it.
func (s *stressClient) connection() {
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		if !s.stopping.Load() {
			s.t.Error(err)
		}
		return
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for range 1 + s.rng.IntN(10) {
		burst := make([]stressRequest, 1+s.rng.IntN(8)*s.rng.IntN(3))
		var out []byte
		for i := range burst {
			burst[i] = s.request()
			out = burst[i].appendTo(out)
			if burst[i].do == "hijack" {
				// Its handler closes with a reset what is sent behind it, and
				// that destroys earlier answers.
				burst = burst[:i+1]
				break
			}
		}
		var sent sync.WaitGroup
		sent.Go(func() {
			for len(out) > 0 {
				n := 1 + rand.IntN(len(out))
				if _, err := c.Write(out[:n]); err != nil {
					return
				}
				out = out[n:]
			}
		})
		end := s.rng.IntN(20)
		if end == 0 {
			c.(*net.TCPConn).SetLinger(0) // a reset, with all of it in flight
			c.Close()
			sent.Wait()
			return
		}
		ok := s.check(br, burst)
		if !ok {
			c.Close()
		}
		sent.Wait()
		if !ok {
			return
		}
		if end == 1 {
			c.(*net.TCPConn).CloseWrite()
			if rest, err := io.ReadAll(br); len(rest) > 0 {
				s.t.Errorf("%d bytes after the last answer, %v", len(rest), err)
			}
			return
		}
	}
}

// check reads the answers to burst. False: the connection is over.
func (s *stressClient) check(br *bufio.Reader, burst []stressRequest) bool {
	for _, q := range burst {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			if q.do != "goexit" && !s.stopping.Load() {
				s.t.Errorf("%+v: %v", q, err)
			}
			return false
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			if !s.stopping.Load() {
				s.t.Errorf("%+v: %v", q, err)
			}
			return false
		}
		want, status := q.id, 200
		switch q.do {
		case "panic":
			want, status = "Internal Server Error\n", 500
		case "error":
			want, status = q.id+"\n", 418
		case "stream":
			want = strings.Repeat(".", 3*q.n) + q.id
		case "body":
			want = strings.Repeat("b", q.n) + q.id
		}
		if resp.StatusCode != status || string(body) != want {
			s.t.Errorf("%+v: status %d, %d bytes of body, %d expected", q, resp.StatusCode, len(body), len(want))
			return false
		}
		if status == 200 && resp.Header.Get("X-Id") != q.id {
			s.t.Errorf("%+v: answer of %q", q, resp.Header.Get("X-Id"))
			return false
		}
		s.answers.Add(1)
		if resp.Close {
			return false
		}
	}
	return true
}

// TestStress has hostile clients and handlers at each other until the server
// is shut down in the middle of it.
func TestStress(t *testing.T) {
	var stopping atomic.Bool
	var answers atomic.Int64
	s := &Server{Handler: HandlerFunc(stressHandler), Loops: 2}
	addr := startServer(t, s)
	var clients sync.WaitGroup
	for i := range 24 {
		clients.Go(func() {
			c := stressClient{t: t, addr: addr, name: i, rng: rand.New(rand.NewPCG(uint64(i), 1)), stopping: &stopping, answers: &answers}
			for !stopping.Load() && !t.Failed() {
				c.connection()
			}
		})
	}
	<-time.After(*stressTime)
	stopping.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	clients.Wait()
	st := s.Stats()
	t.Logf("%d answers checked; %+v", answers.Load(), st.Handlers)
	if st.Connections.Open != 0 {
		t.Errorf("%d connections left: %+v", st.Connections.Open, st.Connections)
	}
	for _, l := range s.loops {
		eventually(t, "the return of all that were lent", func() bool { return l.lent.Load() == 0 })
	}
}
