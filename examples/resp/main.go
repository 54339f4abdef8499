// Resp is a small server of the Redis protocol on a loop of flare: what a
// protocol of your own looks like.
//
//	go run ./examples/resp
//	redis-cli -p 6380 set greeting hello EX 60
//	redis-cli -p 6380 get greeting
//
// It knows strings and when they expire (the table in commands.go), RESP2 with
// pipelining, and inline commands. resp.go reads and writes the protocol,
// session.go is a connection, store.go what is stored.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"flare"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "resp:", err)
		os.Exit(1)
	}
}

func run() error {
	at := flag.String("addr", "127.0.0.1:6380", "address to listen on: an IP address and a port")
	idle := flag.Duration("idle-timeout", 5*time.Minute, "without a command of a client, negative is none")
	maxConns := flag.Int("max-conns", 10_000, "clients; others wait to be accepted")
	maxBytes := flag.Int64("max-memory", 256<<20, "bytes of keys and values; beyond it writes are refused")
	flag.Parse()
	if flag.NArg() > 0 {
		return errors.New("unexpected argument; see -help")
	}
	addr, err := flare.ParseAddrPort(*at)
	if err != nil {
		return err
	}
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	loop, err := flare.NewLoop(nil)
	if err != nil {
		return err
	}
	defer loop.Close()
	ln, err := serve(loop, addr, newStore(loop, *maxBytes), &flare.ConnOptions{
		IdleTimeout: *idle, MaxConns: *maxConns, MaxInputBytes: commandBytesMax,
		Inline: true, // no command waits for anything
	})
	if err != nil {
		return err
	}
	fmt.Printf("resp: serving on %s\n", ln.Addr())
	if err := loop.Run(stop); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// serve has the loop answer clients at addr from the store.
func serve(loop *flare.Loop, addr netip.AddrPort, st *store, opts *flare.ConnOptions) (*flare.Listener, error) {
	return loop.ListenTCP(addr, opts, func(*flare.Conn) flare.Protocol { return &session{store: st} })
}
