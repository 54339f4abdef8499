// Server is the first program to run: an HTTP server on flare's event loops
// with a route for each thing that flare does.
//
//	go run ./examples/server
//	curl -i http://127.0.0.1:8080/
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"flare"
)

// drainTime is how long requests in progress have on SIGINT or SIGTERM.
const drainTime = 10 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run() error {
	s := new(flare.Server)
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on, host:port")
	poller := flag.String("poller", "system", "how the loops wait: system (epoll on Linux, kqueue on macOS) or poll (Linux)")
	flag.IntVar(&s.Loops, "loops", 0, "event loops, 0 is one for each processor")
	flag.DurationVar(&s.HeadTimeout, "head-timeout", 0, "first byte to the end of a request's head, 0 is 10s, negative none")
	flag.DurationVar(&s.BodyTimeout, "body-timeout", 0, "without progress of a request's body, 0 is 30s, negative none")
	flag.DurationVar(&s.IdleTimeout, "idle-timeout", 0, "between requests, 0 is 75s, negative none")
	flag.DurationVar(&s.WriteTimeout, "write-timeout", 0, "without progress of a response, 0 is 30s, negative none")
	flag.Int64Var(&s.MaxBodyBytes, "max-body", 0, "bytes of a request's body, 0 is 10 MiB, -1 none")
	var cert certificate
	flag.StringVar(&cert.certFile, "cert", "", "PEM `file` with a certificate: HTTPS; looked at again while serving")
	flag.StringVar(&cert.keyFile, "key", "", "PEM `file` with its key")
	flag.BoolVar(&cert.selfSigned, "self-signed", false, "HTTPS with a certificate made up for localhost")
	flag.DurationVar(&s.HandshakeTimeout, "handshake-timeout", 0, "of a TLS handshake, 0 is 10s, negative none")
	noHTTP2 := flag.Bool("no-http2", false, "HTTP/1.1 only, also over TLS")
	h2c := flag.Bool("h2c", false, "HTTP/2 without TLS too, for clients that begin with it (prior knowledge)")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument; see -help")
	}
	if err := cert.check(); err != nil {
		return err
	}
	switch *poller {
	case "system":
	case "poll":
		s.NewPoller = flare.NewPollPoller
	default:
		return fmt.Errorf("unknown -poller; there are: system, poll")
	}
	s.Handler = routes(s)
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(!*noHTTP2)
	s.Protocols.SetUnencryptedHTTP2(*h2c)

	ln, err := net.Listen("tcp", *addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; choose another port with -addr, as in -addr 127.0.0.1:0", err)
	}
	if err != nil {
		return err
	}
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- cert.serve(s, ln) }()
	fmt.Printf("flare: serving on %s://%s\n", cert.scheme(), ln.Addr()) // the kernel queues what comes before the loop accepts

	select {
	case err := <-served:
		return err
	case <-stop.Done():
	}
	cancel() // a second signal kills
	drain, done := context.WithTimeout(context.Background(), drainTime)
	defer done()
	if err := s.Shutdown(drain); err != nil {
		return err
	}
	if err := <-served; !errors.Is(err, flare.ErrServerClosed) {
		return err
	}
	return nil
}
