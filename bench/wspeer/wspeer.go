// Package wspeer is what the WebSocket peers on net/http have in common: flags, routes, and the
// set of connections that a broadcast goes to.
package wspeer

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
)

// Listen reads the flags that every target takes and listens.
func Listen(name string) net.Listener {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	flag.String("type", "", "taken like other targets do; a WebSocket has none")
	flag.Parse()
	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: serving on ws://%s\n", name, l.Addr())
	return l
}

// Serve serves /ws, which echoes, and /all, where every message goes to all, until the process ends.
func Serve(name string, echo, all http.HandlerFunc) {
	http.HandleFunc("GET /ws", echo)
	http.HandleFunc("GET /all", all)
	log.Fatal(http.Serve(Listen(name), nil))
}

// A Set has the connections of /all.
type Set[C comparable] struct {
	mu  sync.Mutex
	set map[C]struct{}
}

func (s *Set[C]) Add(c C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = make(map[C]struct{})
	}
	s.set[c] = struct{}{}
}

func (s *Set[C]) Remove(c C) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, c)
}

// Each calls f with each of them.
func (s *Set[C]) Each(f func(C)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.set {
		f(c)
	}
}
