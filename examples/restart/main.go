// Restart is a server that is replaced by its next version without a lost
// connection: on SIGHUP it starts the program anew, which inherits the listening
// sockets, and when that one is ready it answers what it has been asked and ends.
//
//	go build -o restart ./examples/restart && ./restart &
//	curl http://127.0.0.1:8080/
//	kill -HUP $!
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"flare"
)

const (
	// drainDelay is for how long connections at rest may be used once more. It is
	// above the time for which a proxy in front keeps them.
	drainDelay = 2 * time.Second

	// drainTime is how long requests in progress have.
	drainTime = 30 * time.Second
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "addresses to listen on, with blanks between them: host:port, unix:/path, systemd:name")
	flag.Parse()
	if err := run(strings.Fields(*addr)); err != nil {
		fmt.Fprintln(os.Stderr, "restart:", err)
		os.Exit(1)
	}
}

func run(addrs []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	// What can fail comes before Wait: then the program before goes on.
	var up flare.Upgrader
	listen := flare.ListenConfig{Upgrader: &up}
	ln, err := listen.Listen(ctx, addrs...)
	if err != nil {
		return err
	}
	s := &flare.Server{Handler: routes(), DrainDelay: drainDelay}
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(ln)
		stop()
	}()
	fmt.Printf("process %d serves on %v\n", os.Getpid(), ln.Addr())

	go flare.SystemdWatchdog(ctx, nil)

	up.Wait(ctx) // until the next one has taken over, or the end
	select {
	case err := <-served: // it has failed
		return err
	default:
	}
	drain, done := context.WithTimeout(context.Background(), drainTime)
	defer done()
	return s.Shutdown(drain)
}

func routes() *flare.Mux {
	mux := flare.NewMux()
	mux.Get("/", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, fmt.Sprintf("process %d\n", os.Getpid()))
	})
	return mux
}
