// Command nethttp answers the benchmark's requests with net/http as its documentation would.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"

	"flare/bench/waits"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	contentType := flag.String("type", "text/plain", "Content-Type of the answers")
	cert := flag.String("cert", "", "certificate, PEM: serve HTTPS")
	key := flag.String("key", "", "its key")
	h2c := flag.Bool("h2c", false, "HTTP/2 without TLS, too")
	flag.Parse()

	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", *contentType)
		w.Write([]byte("Hello, World!"))
	}
	mux.HandleFunc("GET /plaintext", func(w http.ResponseWriter, _ *http.Request) { answer(w) })
	for _, path := range []string{"GET /slow", "GET /work"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); len(q) > 0 {
				ms, _ := strconv.Atoi(q.Get("ms"))
				waits.For(q.Get("how"), time.Duration(ms)*time.Millisecond)
			}
			answer(w)
		})
	}

	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("nethttp: serving on http://%s\n", l.Addr())
	s := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(*h2c)
	if *cert != "" {
		log.Fatal(s.ServeTLS(l, *cert, *key))
	}
	log.Fatal(s.Serve(l))
}
