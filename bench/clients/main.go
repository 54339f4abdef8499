// Clients compares HTTP clients by requests per CPU second of the client's
// process: flare's, net/http's and fasthttp's, with 1 and 64 callers, each
// window in a fresh process, against one server in a process of its own.
//
//	cd bench && go run ./clients
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"flare"
)

const answer = "HTTP/1.1 200 OK\r\nServer: x\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"

func main() {
	serving := flag.Bool("serve", false, "be the server")
	client := flag.String("client", "", "be this client")
	url := flag.String("url", "", "what the client asks for")
	callers := flag.Int("callers", 1, "goroutines of the client")
	requests := flag.Int("n", 100_000, "requests a window")
	rounds := flag.Int("rounds", 5, "windows a client and number of callers")
	flag.Parse()
	var err error
	switch {
	case *serving:
		err = serve()
	case *client != "":
		err = window(*client, *url, *callers, *requests)
	default:
		err = compare(*requests, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "clients:", err)
		os.Exit(1)
	}
}

// serve answers each read as a request until its standard input ends.
func serve() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + ln.Addr().String() + "/plaintext")
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for p := make([]byte, 4096); ; {
				if _, err := c.Read(p); err != nil {
					return
				}
				io.WriteString(c, answer)
			}
		}()
	}
}

func compare(requests, rounds int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self, "-serve")
	hold, err := server.StdinPipe()
	if err != nil {
		return err
	}
	defer hold.Close() // ends it
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	names := []string{"flare", "net/http", "fasthttp"}
	fmt.Printf("%-10s %8s %22s\n", "client", "callers", "requests/CPU second")
	for _, callers := range []int{1, 64} {
		got := map[string][]float64{}
		for round := range rounds {
			for i := range names {
				name := names[(round+i)%len(names)]
				p, err := exec.Command(self, "-client", name, "-url", strings.TrimSpace(line),
					"-callers", fmt.Sprint(callers), "-n", fmt.Sprint(requests)).Output()
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				var rate float64
				if _, err := fmt.Sscan(string(p), &rate); err != nil {
					return err
				}
				got[name] = append(got[name], rate)
			}
		}
		for _, name := range names {
			slices.Sort(got[name])
			fmt.Printf("%-10s %8d %22.0f\n", name, callers, got[name][len(got[name])/2])
		}
	}
	return nil
}

// window prints the requests per CPU second of this process.
func window(name, url string, callers, requests int) error {
	get, err := getter(name, url, callers)
	if err != nil {
		return err
	}
	if err := spread(get, callers, requests/10); err != nil { // connections, pools, heap
		return err
	}
	before := cpu()
	if err := spread(get, callers, requests); err != nil {
		return err
	}
	fmt.Println(float64(requests/callers*callers) / (cpu() - before).Seconds())
	return nil
}

func spread(get func() error, callers, requests int) error {
	var all sync.WaitGroup
	failed := make(chan error, callers)
	for range callers {
		all.Go(func() {
			for range requests / callers {
				if err := get(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// getter returns a function that gets url and looks at the body.
func getter(name, url string, callers int) (func() error, error) {
	check := func(p []byte, err error) error {
		if err == nil && len(p) != len("Hello, World!") {
			err = fmt.Errorf("body of %d bytes", len(p))
		}
		return err
	}
	switch name {
	case "flare":
		c := &flare.Client{MaxIdleConnsPerHost: callers}
		ctx := context.Background()
		return func() error {
			resp, err := c.Get(ctx, url)
			if err != nil {
				return err
			}
			return check(resp.Bytes())
		}, nil
	case "net/http":
		c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
		return func() error {
			resp, err := c.Get(url)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return check(io.ReadAll(resp.Body))
		}, nil
	case "fasthttp":
		c := &fasthttp.Client{MaxConnsPerHost: callers}
		return func() error {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			defer fasthttp.ReleaseRequest(req)
			defer fasthttp.ReleaseResponse(resp)
			req.SetRequestURI(url)
			if err := c.Do(req, resp); err != nil {
				return err
			}
			return check(resp.Body(), nil)
		}, nil
	}
	return nil, fmt.Errorf("unknown client %q", name)
}
