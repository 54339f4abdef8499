//go:build linux || darwin

package flare_test

import (
	"fmt"
	"log"
	"syscall"
	"time"

	"flare"
)

// A Poller by itself, with a pipe: what is below loops, and can be replaced.
func ExamplePoller() {
	p, err := flare.NewPoller() // epoll or kqueue; NewPollPoller is another
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		log.Fatal(err)
	}
	defer syscall.Close(pipe[0])
	defer syscall.Close(pipe[1])
	if err := p.Add(pipe[0], flare.Readable); err != nil {
		log.Fatal(err)
	}

	events := make([]flare.Event, 8)
	n, err := p.Wait(events, 0) // a look, without waiting
	fmt.Println(n, err)

	syscall.Write(pipe[1], []byte("x"))
	n, err = p.Wait(events, time.Second)
	fmt.Println(n, err, events[0].FD == pipe[0], events[0].Ready == flare.Readable)

	fmt.Println(p.Add(pipe[0], flare.Readable) != nil) // it is there already
	fmt.Println(p.Remove(pipe[0]))
	// Output:
	// 0 <nil>
	// 1 <nil> true true
	// true
	// <nil>
}
