// Command soak is the server that bench -soak holds to what it promises: something of everything
// that flare serves, without TLS and with it, with answers that the clients know beforehand. It
// restarts when it is told to, within the process, so that what a Server leaves behind shows.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"flare"
)

// slowMax is what slow clients are given. The pauses of the others have to stay far below.
const slowMax = 6 * time.Second

// shutdownMax is how long Shutdown waits. Slow clients are cut then, and handlers that it does not
// wait for have leaveMax.
const (
	shutdownMax = 2 * time.Second
	leaveMax    = 5 * time.Second
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address of HTTP/1.1 and HTTP/2 without TLS")
	tlsAddr := flag.String("tls", "127.0.0.1:8443", "address of HTTPS")
	admin := flag.String("admin", "127.0.0.1:8081", "address of /figures, /goroutines and /restart, which net/http serves")
	cert := flag.String("cert", "", "certificate, PEM")
	key := flag.String("key", "", "its key")
	flag.Parse()
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	t := &target{file: filepath.Join(dir, "file"), cert: *cert, key: *key, restarts: make(chan restart)}
	if err := writeFile(t.file); err != nil {
		log.Fatal(err)
	}
	if t.plain, err = net.Listen("tcp", *addr); err == nil {
		t.tls, err = net.Listen("tcp", *tlsAddr)
	}
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.ListenAndServe(*admin, t.admin())) }()
	s, ended := t.serve()
	for r := range t.restarts {
		said := end(s, r.how)
		for range 2 {
			if err := <-ended; err != flare.ErrServerClosed {
				said = fmt.Sprintf("Serve: %v", err)
			}
		}
		if n := left(s); n != 0 {
			said = fmt.Sprintf("%d connections are open %s behind the end", n, leaveMax)
		}
		s, ended = t.serve()
		r.done <- said
	}
}

// A target is the process. Its listeners outlive its servers: whoever connects between two of them
// waits, and the port stays this process's.
type target struct {
	plain, tls net.Listener
	file       string
	cert, key  string
	restarts   chan restart
}

// A restart ends a server in that way (shutdown or close). done is told what was wrong with it, or
// "", when the next one serves.
type restart struct {
	how  string
	done chan string
}

// again returns a listener for the same socket.
func again(ln net.Listener) (net.Listener, error) {
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}

// serve starts a server; both of its calls of Serve tell how they ended.
func (t *target) serve() (*flare.Server, <-chan error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &flare.Server{
		Handler:     t.routes(),
		Protocols:   protocols,
		Logger:      slog.New(slog.DiscardHandler), // handlers panic here, and clients leave
		HeadTimeout: slowMax, BodyTimeout: slowMax, WriteTimeout: slowMax, HandshakeTimeout: slowMax,
	}
	plain, err := again(t.plain)
	if err != nil {
		log.Fatal(err)
	}
	secure, err := again(t.tls)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- s.Serve(plain) }()
	go func() { ended <- s.ServeTLS(secure, t.cert, t.key) }()
	return s, ended
}

// end ends a server and says what was wrong with that.
func end(s *flare.Server, how string) string {
	if how == "close" {
		if err := s.Close(); err != nil {
			return fmt.Sprintf("Close: %v", err)
		}
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), shutdownMax)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil && ctx.Err() == nil {
		return fmt.Sprintf("Shutdown: %v", err)
	}
	return ""
}

// left waits until the handlers whose connections were cut have noticed, and returns how many connections
// are open still.
func left(s *flare.Server) (n int64) {
	for until := time.Now().Add(leaveMax); ; time.Sleep(10 * time.Millisecond) {
		if n = s.Stats().Connections.Open; n == 0 || time.Now().After(until) {
			return n
		}
	}
}

// admin tells what the process is made of. It is not flare's, since it counts what flare has.
func (t *target) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /figures", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]int{"goroutines": runtime.NumGoroutine()})
	})
	mux.HandleFunc("GET /goroutines", func(w http.ResponseWriter, _ *http.Request) {
		pprof.Lookup("goroutine").WriteTo(w, 1)
	})
	mux.HandleFunc("POST /restart", func(w http.ResponseWriter, r *http.Request) {
		done := make(chan string)
		t.restarts <- restart{r.FormValue("how"), done}
		if said := <-done; said != "" {
			http.Error(w, said, http.StatusInternalServerError)
		}
	})
	return mux
}
