//go:build linux

// Listeners compares the ways in which several event loops can share an address: one loop accepts
// and deals out (what flare does), a socket for each loop with SO_REUSEPORT, or one socket that all
// loops watch, with and without EPOLLEXCLUSIVE. It measures connections a second and CPU time for
// each, and how evenly the loops have them.
//
//	go run ./listeners -seconds 5 -rounds 2
//
// It needs nothing of flare that a program could not do itself: the other ways are several servers
// with a loop each.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"flare"
)

var ways = []string{"dealt out", "reuseport", "shared", "exclusive"}

func main() {
	way := flag.String("serve", "", "")
	loops := flag.Int("loops", runtime.GOMAXPROCS(0), "loops of the server")
	seconds := flag.Int("seconds", 5, "for each way and round")
	rounds := flag.Int("rounds", 2, "rounds, ways taking turns")
	clients := flag.Int("clients", 16, "clients that connect at the same time")
	flag.Parse()
	if *way != "" {
		if err := serve(*way, *loops); err != nil {
			log.Fatal(err)
		}
		return
	}
	fmt.Printf("%d loops, %d clients, %d s\n", *loops, *clients, *seconds)
	fmt.Printf("%-10s %10s %12s   %s\n", "", "conns/s", "CPU µs/conn", "open connections of the loops: 16, 64, 1000")
	for range *rounds {
		for _, way := range ways {
			if err := measure(way, *loops, *clients, time.Duration(*seconds)*time.Second); err != nil {
				log.Fatalf("%s: %v", way, err)
			}
		}
	}
}

// A report is what a server says when it is asked.
type report struct {
	CPU  time.Duration // of the process
	Open []int64       // descriptors by loop, listeners included
}

// measure starts a server and prints one line about it.
func measure(way string, loops, clients int, d time.Duration) error {
	cmd := exec.Command(os.Args[0], "-serve", way, "-loops", fmt.Sprint(loops))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer in.Close() // ends it
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return io.ErrUnexpectedEOF
	}
	addr := lines.Text()
	ask := func() (r report, err error) {
		if _, err = io.WriteString(in, "\n"); err == nil && !lines.Scan() {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = json.Unmarshal(lines.Bytes(), &r)
		}
		return r, err
	}
	none, err := ask()
	if err != nil {
		return err
	}
	var shares []string
	for _, n := range []int{16, 64, 1000} {
		share, err := open(addr, n, none.Open, ask)
		if err != nil {
			return err
		}
		shares = append(shares, share)
	}
	before, err := ask()
	if err != nil {
		return err
	}
	conns, err := connect(addr, clients, d)
	if err != nil {
		return err
	}
	after, err := ask()
	if err != nil {
		return err
	}
	fmt.Printf("%-10s %10.0f %12.1f   %s\n", way, float64(conns)/d.Seconds(),
		float64((after.CPU-before.CPU).Microseconds())/float64(conns), strings.Join(shares, "  "))
	return nil
}

// open makes n connections, asks once on each, and tells how many each loop has.
func open(addr string, n int, none []int64, ask func() (report, error)) (string, error) {
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			drop(c)
		}
	}()
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return "", err
		}
		conns = append(conns, c)
		if err := request(c, make([]byte, 1<<10)); err != nil {
			return "", err
		}
	}
	r, err := ask()
	if err != nil {
		return "", err
	}
	var share []string
	for i, open := range r.Open {
		share = append(share, fmt.Sprint(open-none[i]))
	}
	slices.Sort(share)
	for _, c := range conns {
		drop(c)
	}
	conns = nil
	for !slices.Equal(r.Open, none) {
		time.Sleep(10 * time.Millisecond)
		if r, err = ask(); err != nil {
			return "", err
		}
	}
	return strings.Join(share, ":"), nil
}

// connect has clients connect, ask once and go, for d.
func connect(addr string, clients int, d time.Duration) (int64, error) {
	var conns atomic.Int64
	failed := make(chan error, clients)
	var all sync.WaitGroup
	end := time.Now().Add(d)
	for range clients {
		all.Go(func() {
			buf := make([]byte, 1<<10)
			for time.Now().Before(end) {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					err = request(c, buf)
					drop(c)
				}
				if err != nil {
					failed <- err
					return
				}
				conns.Add(1)
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return conns.Load(), nil
	}
}

func request(c net.Conn, buf []byte) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return err
	}
	_, err := c.Read(buf)
	return err
}

// drop closes with a reset, which leaves no port in TIME-WAIT.
func drop(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// serve is the server's process: it prints its address, and a report for each line it reads.
func serve(way string, loops int) error {
	var pollers []*countingPoller
	newPoller := func() (flare.Poller, error) {
		p := new(countingPoller)
		var err error
		if way == "exclusive" {
			p.Poller, err = newExclusivePoller()
		} else {
			p.Poller, err = flare.NewPoller()
		}
		pollers = append(pollers, p)
		return p, err
	}
	mux := flare.NewMux()
	mux.Get("/", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, "fine") }, flare.Inline)
	servers, each := loops, 1
	if way == "dealt out" {
		servers, each = 1, loops
	}
	var config net.ListenConfig
	if way == "reuseport" {
		config.Control = func(_, _ string, c syscall.RawConn) error {
			const reusePort = 0xf // SO_REUSEPORT, but on MIPS
			var failed error
			err := c.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, reusePort, 1) })
			if err == nil {
				err = failed
			}
			return err
		}
	}
	first, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := first.Addr().String()
	for i := range servers {
		ln := first
		switch {
		case i == 0:
		case way == "reuseport":
			ln, err = config.Listen(context.Background(), "tcp", addr)
		default:
			var f *os.File
			if f, err = first.(*net.TCPListener).File(); err == nil {
				ln, err = net.FileListener(f)
				f.Close()
			}
		}
		if err != nil {
			return err
		}
		s := &flare.Server{Handler: mux, Loops: each, NewPoller: newPoller}
		go func() { log.Fatal(s.Serve(ln)) }()
		for len(s.Addrs()) == 0 { // its pollers are made one after another
			time.Sleep(time.Millisecond)
		}
	}
	time.Sleep(100 * time.Millisecond) // until all of them listen
	fmt.Println(addr)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var u syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &u)
		r := report{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano())}
		for _, p := range pollers {
			r.Open = append(r.Open, p.open.Load())
		}
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", line)
	}
	return nil
}

// A countingPoller counts the descriptors of a loop.
type countingPoller struct {
	flare.Poller
	open atomic.Int64
}

func (p *countingPoller) Add(fd int, want flare.Interest) error {
	err := p.Poller.Add(fd, want)
	if err == nil {
		p.open.Add(1)
	}
	return err
}

func (p *countingPoller) Remove(fd int) error {
	p.open.Add(-1)
	return p.Poller.Remove(fd)
}
