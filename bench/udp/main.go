// Udp compares UDP echo servers by packets per CPU second of the server's
// process: flare's loop, flare's blocking socket and package net's UDPConn. The
// server has one core, the load another; both servers get the same load: a
// fixed number of datagrams is always under way, sent again as they come back.
//
//	cd bench && go run ./udp
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"flare"
)

var (
	server  = flag.String("server", "", "be this server")
	sockets = flag.Int("sockets", 16, "peers")
	flight  = flag.Int("flight", 16, "datagrams of a peer under way")
	size    = flag.Int("size", 64, "bytes of a datagram")
	window  = flag.Duration("window", time.Second, "length of a measurement")
	rounds  = flag.Int("rounds", 5, "measurements of each server")
)

const receiveBuffer = 1 << 20 // what the system allows of it

func main() {
	flag.Parse()
	var err error
	if *server != "" {
		err = serve(*server)
	} else {
		err = compare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "udp:", err)
		os.Exit(1)
	}
}

// serve echoes until its standard input ends. It prints its address, and for
// each line of input the CPU time and the number of datagrams until then.
func serve(name string) error {
	runtime.GOMAXPROCS(1)
	any := netip.MustParseAddrPort("127.0.0.1:0")
	var echoed atomic.Uint64
	failed := make(chan error, 1)
	var addr netip.AddrPort
	switch name {
	case "flare":
		l, err := flare.NewLoop(nil)
		if err != nil {
			return err
		}
		u, err := l.ListenUDP(any, &flare.UDPOptions{ReadBuffer: receiveBuffer}, func(d *flare.Datagram) {
			echoed.Add(1)
			d.Reply(d.Data)
		})
		if err != nil {
			return err
		}
		addr = u.LocalAddr()
		go func() { failed <- l.Run(context.Background()) }()
	case "flare-blocking":
		s, err := flare.ListenUDP(any, &flare.UDPOptions{ReadBuffer: receiveBuffer})
		if err != nil {
			return err
		}
		addr = s.LocalAddr()
		go func() {
			for p := make([]byte, 2048); ; echoed.Add(1) {
				n, from, err := s.ReadFrom(p)
				if err == nil {
					err = s.WriteTo(p[:n], from)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	case "net":
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(any))
		if err != nil {
			return err
		}
		c.SetReadBuffer(receiveBuffer)
		addr = c.LocalAddr().(*net.UDPAddr).AddrPort()
		go func() {
			for p := make([]byte, 2048); ; echoed.Add(1) {
				n, from, err := c.ReadFromUDPAddrPort(p)
				if err == nil {
					_, err = c.WriteToUDPAddrPort(p[:n], from)
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	default:
		return errors.New("there is no such server")
	}
	fmt.Println(addr)
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			var use syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
				failed <- err
				return
			}
			fmt.Println(use.Utime.Nano()+use.Stime.Nano(), echoed.Load())
		}
		failed <- nil
	}()
	return <-failed
}

// A target is a server's process.
type target struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr netip.AddrPort
}

func start(name string) (*target, error) {
	t := &target{cmd: exec.Command("taskset", "-c", "0", os.Args[0], "-server", name)}
	t.cmd.Stderr = os.Stderr
	out, err := t.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if t.in, err = t.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := t.cmd.Start(); err != nil {
		return nil, err
	}
	t.out = bufio.NewReader(out)
	line, err := t.out.ReadString('\n')
	if err != nil {
		return nil, err
	}
	t.addr, err = flare.ParseAddrPort(strings.TrimSpace(line))
	return t, err
}

// mark asks how much CPU time has gone into how many datagrams.
func (t *target) mark() (cpu time.Duration, echoed uint64, err error) {
	if _, err := io.WriteString(t.in, "mark\n"); err != nil {
		return 0, 0, err
	}
	_, err = fmt.Fscanln(t.out, &cpu, &echoed)
	return cpu, echoed, err
}

func (t *target) stop() error {
	t.in.Close()
	return t.cmd.Wait()
}

// load keeps datagrams under way to addr until ctx ends. Some get lost where
// buffers are small; what a socket has not got back for a while it sends anew.
func load(ctx context.Context, addr netip.AddrPort) error {
	l, err := flare.NewLoop(nil)
	if err != nil {
		return err
	}
	var came atomic.Uint64
	p := make([]byte, *size)
	var all []*flare.LoopUDPConn
	for range *sockets {
		u, err := l.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), &flare.UDPOptions{ReadBuffer: receiveBuffer, MaxDatagramBytes: 2048}, func(d *flare.Datagram) {
			came.Add(1)
			d.Reply(d.Data)
		})
		if err != nil {
			return err
		}
		all = append(all, u)
	}
	send := func() {
		for range *flight {
			for _, u := range all {
				u.WriteTo(p, addr)
			}
		}
	}
	send()
	var look func()
	last := uint64(0)
	look = func() {
		if n := came.Load(); n == last { // all of them got lost
			send()
		} else {
			last = n
		}
		l.After(50*time.Millisecond, look)
	}
	l.After(50*time.Millisecond, look)
	if err := l.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// measure returns the packets per CPU second and per second of a window.
func measure(name string) (perCPU, perSecond float64, err error) {
	t, err := start(name)
	if err != nil {
		return 0, 0, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- load(ctx, t.addr) }()
	time.Sleep(*window / 4) // warm
	began := time.Now()
	cpu, n, err := t.mark()
	if err == nil {
		time.Sleep(*window)
		var cpuAfter time.Duration
		var after uint64
		cpuAfter, after, err = t.mark()
		perCPU = float64(after-n) / (cpuAfter - cpu).Seconds()
		perSecond = float64(after-n) / time.Since(began).Seconds()
	}
	cancel()
	return perCPU, perSecond, errors.Join(err, <-ended, t.stop())
}

func compare() error {
	if _, err := exec.LookPath("taskset"); err != nil {
		return err
	}
	names := []string{"net", "flare-blocking", "flare"}
	results := make(map[string][]float64)
	fmt.Printf("%d peers, %d datagrams of %d bytes each under way\n", *sockets, *flight, *size)
	for range *rounds {
		for _, name := range names {
			perCPU, perSecond, err := measure(name)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			results[name] = append(results[name], perCPU)
			fmt.Printf("%-15s %9.0f packets per CPU second, %9.0f a second\n", name, perCPU, perSecond)
		}
	}
	median := func(name string) float64 {
		slices.Sort(results[name])
		return results[name][len(results[name])/2]
	}
	fmt.Printf("medians, to net's:")
	for _, name := range names {
		fmt.Printf("  %s %.0f (%.2f)", name, median(name), median(name)/median("net"))
	}
	fmt.Println()
	return nil
}
