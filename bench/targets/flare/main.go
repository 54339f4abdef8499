// Command flare answers the benchmark's requests about handlers that wait, or run elsewhere, with
// flare. The plain workloads measure the root's examples/server instead.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"

	"flare"
	"flare/bench/waits"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	contentType := flag.String("type", "text/plain", "Content-Type of the answers")
	loops := flag.Int("loops", 0, "event loops, 0 is one for each processor")
	cert := flag.String("cert", "", "certificate, PEM: serve HTTPS")
	key := flag.String("key", "", "its key")
	h2c := flag.Bool("h2c", false, "HTTP/2 without TLS, too")
	flag.Parse()

	mux := flare.NewMux()
	answer := func(w *flare.ResponseWriter) error {
		w.Header().Set("Content-Type", *contentType)
		_, err := w.WriteString("Hello, World!")
		return err
	}
	mux.Get("/plaintext", func(w *flare.ResponseWriter, _ *flare.Request) error { return answer(w) })
	mux.Get("/offloaded", func(w *flare.ResponseWriter, _ *flare.Request) error { return answer(w) }, flare.Offload)
	mux.Get("/fill", func(w *flare.ResponseWriter, _ *flare.Request) error {
		_, err := w.Write(make([]byte, 1<<20))
		return err
	})
	mux.Handle("POST /upload", flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		if _, err := io.Copy(io.Discard, r.Body()); err != nil {
			return err
		}
		return answer(w)
	}))
	for _, path := range []string{"/slow", "/work"} {
		mux.Get(path, func(w *flare.ResponseWriter, r *flare.Request) error {
			if q := r.Query(); len(q) > 0 {
				ms, _ := strconv.Atoi(q.Get("ms"))
				waits.For(q.Get("how"), time.Duration(ms)*time.Millisecond)
			}
			return answer(w)
		})
	}

	l, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("flare: serving on http://%s\n", l.Addr())
	s := &flare.Server{Handler: mux, Loops: *loops, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(*h2c)
	if *cert != "" {
		log.Fatal(s.ServeTLS(l, *cert, *key))
	}
	log.Fatal(s.Serve(l))
}
