package flare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// This file is the part of the table of TestFromHTTP about bodies in pieces.

// bridgeGate lets a handler wait for its client.
type bridgeGate chan struct{}

func (g bridgeGate) open() { close(g) }

func (g bridgeGate) wait(b *bridgeTalk) {
	select {
	case <-g:
	case <-time.After(patience):
		b.t.Errorf("%s: the gate stays closed", b.name)
	}
}

// bridgeSteps has a gate for each step of a handler.
func bridgeSteps(n int) []bridgeGate {
	gates := make([]bridgeGate, n)
	for i := range gates {
		gates[i] = make(bridgeGate)
	}
	return gates
}

// bridgeStreams: bodies in pieces, both ways.
func bridgeStreams() []bridgeCase {
	var cases []bridgeCase
	add := func(name string, make func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk))) {
		// One pair of gates for each server.
		type pair struct {
			handler func(b *bridgeTalk) http.HandlerFunc
			client  func(b *bridgeTalk)
		}
		made := map[*bridgeTalk]pair{}
		cases = append(cases, bridgeCase{
			name: name,
			handler: func(b *bridgeTalk) http.HandlerFunc {
				h, c := make()
				made[b] = pair{h, c}
				return h(b)
			},
			client: func(b *bridgeTalk) { made[b].client(b) },
		})
	}
	add("flushed parts", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		steps := bridgeSteps(3)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					for i, step := range steps {
						step.wait(b)
						fmt.Fprintf(w, "part %d;", i)
						if err := http.NewResponseController(w).Flush(); err != nil {
							b.say("%v", err)
						}
					}
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				for i, step := range steps {
					step.open()
					if i == 0 {
						b.head("GET")
					}
					b.some(len("part 0;"))
				}
				b.rest()
				b.alive()
			}
	})
	add("server-sent events", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		steps, gone := bridgeSteps(3), make(bridgeGate)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					w.Header().Set("Cache-Control", "no-cache")
					w.WriteHeader(200)
					w.(http.Flusher).Flush()
					for i, step := range steps {
						step.wait(b)
						fmt.Fprintf(w, "id: %d\ndata: now\n\n", i)
						w.(http.Flusher).Flush()
					}
					select {
					case <-r.Context().Done():
						b.say("context: %v", r.Context().Err())
					case <-time.After(patience):
						b.t.Errorf("%s: the client is gone and nobody says so", b.name)
					}
					gone.open()
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
				b.head("GET")
				for _, step := range steps {
					step.open()
					b.some(len("id: 0\ndata: now\n\n"))
				}
				b.conn.Close()
				gone.wait(b)
			}
	})
	add("client closes early", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		gone := make(bridgeGate)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					defer gone.open()
					for limit := time.Now().Add(patience); time.Now().Before(limit); {
						if _, err := w.Write(make([]byte, 64<<10)); err != nil {
							b.say("a write fails")
							break
						}
					}
					<-r.Context().Done()
					b.say("context: %v", r.Context().Err())
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				b.head("GET")
				b.conn.Close()
				gone.wait(b)
			}
	})
	add("client half-closes", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					io.WriteString(w, "still answered")
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				b.closeWrite()
				b.answer("GET")
				b.over()
			}
	})
	cases[len(cases)-1].over2.none = "a connection that is shut on one side is over"
	add("upload read in pieces", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		read := bridgeSteps(2)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					p := make([]byte, 5)
					for _, step := range read {
						_, err := io.ReadFull(r.Body, p)
						b.say("%q, %v", p, err)
						step.open()
					}
					n, err := r.Body.Read(p)
					b.say("%d, %v", n, err)
					n, err = r.Body.Read(p)
					b.say("again %d, %v", n, err)
				}
			}, func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
				for _, step := range read {
					b.send("5\r\nabcde\r\n")
					step.wait(b)
				}
				b.send("0\r\n\r\n")
				b.answer("POST")
				b.alive()
			}
	})
	add("echo in full duplex", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					rc := http.NewResponseController(w)
					b.say("%v", rc.EnableFullDuplex())
					p := make([]byte, 5)
					for range 3 {
						if _, err := io.ReadFull(r.Body, p); err != nil {
							b.say("%v", err)
						}
						w.Write(bytes.ToUpper(p))
						rc.Flush()
					}
					n, err := r.Body.Read(p)
					b.say("%d, %v", n, err)
				}
			}, func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
				for i := range 3 {
					b.send("5\r\nabcde\r\n")
					if i == 0 {
						b.head("POST")
					}
					b.some(5)
				}
				b.send("0\r\n\r\n")
				b.rest()
				b.alive()
			}
	})
	add("4 MiB both ways", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					http.NewResponseController(w).EnableFullDuplex()
					n, err := io.Copy(w, r.Body)
					b.say("%d, %v", n, err)
				}
			}, func(b *bridgeTalk) {
				b.beside(func() {
					b.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Type: x/y\r\nContent-Length: 4194304\r\n\r\n")
					for range 64 {
						b.send(strings.Repeat("0123456789abcdef", 4096))
					}
				})
				b.answer("POST")
				b.alive()
			}
	})
	add("read deadline", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					rc := http.NewResponseController(w)
					b.say("%v", rc.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
					_, err := io.ReadAll(r.Body)
					var ne net.Error
					b.say("%v, %v", errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout())
					http.Error(w, "slow", http.StatusRequestTimeout)
				}
			}, func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
				b.answer("POST")
				b.over()
			}
	})
	add("read deadline set by another goroutine", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					reading := make(chan struct{})
					go func() {
						<-reading
						time.Sleep(20 * time.Millisecond) // so that it waits, as a rule
						http.NewResponseController(w).SetReadDeadline(time.Now())
					}()
					r.Body.Read(make([]byte, 3))
					close(reading)
					_, err := io.ReadAll(r.Body)
					b.say("%v", errors.Is(err, os.ErrDeadlineExceeded))
				}
			}, func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
				b.answer("POST")
				b.over()
			}
	})
	add("write deadline", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		failed := make(bridgeGate)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					defer failed.open()
					http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
					for limit := time.Now().Add(patience); time.Now().Before(limit); {
						if _, err := w.Write(make([]byte, 64<<10)); err != nil {
							b.say("%v", errors.Is(err, os.ErrDeadlineExceeded))
							return
						}
					}
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				failed.wait(b)
			}
	})
	return cases
}
