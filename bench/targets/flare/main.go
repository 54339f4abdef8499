// Command flare answers the benchmark's requests about handlers that wait, with flare. The plain
// workloads measure the root's examples/server instead.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"strconv"
	"time"

	"flare"
	"flare/bench/waits"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	contentType := flag.String("type", "text/plain", "Content-Type of the answers")
	loops := flag.Int("loops", 0, "event loops, 0 is one for each processor")
	flag.Parse()

	mux := flare.NewMux()
	answer := func(w *flare.ResponseWriter) error {
		w.Header().Set("Content-Type", *contentType)
		_, err := w.WriteString("Hello, World!")
		return err
	}
	mux.Get("/plaintext", func(w *flare.ResponseWriter, _ *flare.Request) error { return answer(w) })
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
	log.Fatal((&flare.Server{Handler: mux, Loops: *loops}).Serve(l))
}
