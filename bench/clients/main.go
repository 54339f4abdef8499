// Clients compares HTTP clients by requests per CPU second of the client's
// process: flare's, net/http's and fasthttp's over HTTP/1.1, and flare's and
// net/http's over HTTP/2 by prior knowledge, with 1, 64 and 1,000 callers, each
// window in a fresh process, against one server in a process of its own.
//
//	cd bench && go run ./clients
package main

import (
	"bufio"
	"context"
	"encoding/binary"
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
			br := bufio.NewReaderSize(c, 64<<10)
			if front, _ := br.Peek(len(preface)); string(front) == preface {
				br.Discard(len(preface))
				serveHTTP2(c, br)
				return
			}
			for p := make([]byte, 4096); ; {
				if _, err := br.Read(p); err != nil {
					return
				}
				io.WriteString(c, answer)
			}
		}()
	}
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// answerHTTP2 is answer's field block, without tables, and its body.
const answerHTTP2 = "\x88" + "\x0f\x27\x01x" + "\x0f\x12\x1dMon, 01 Jan 2024 00:00:00 GMT" +
	"\x0f\x10\x0atext/plain" + "\x0f\x0d\x0213"

// appendFrame appends a frame of HTTP/2.
func appendFrame(b []byte, kind, flags byte, stream uint32, payload string) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return append(binary.BigEndian.AppendUint32(b, stream), payload...)
}

// serveHTTP2 answers each HEADERS frame, those that have arrived together in one
// write. It looks into no field block and keeps no windows: the answers of a run
// are less than any client's.
func serveHTTP2(c net.Conn, br *bufio.Reader) {
	const data, headers, settings, ping, ack, endStream, endHeaders = 0, 1, 4, 6, 1, 1, 4
	out := appendFrame(nil, settings, 0, 0, "\x00\x03\x00\x00\x04\x00") // 1,024 streams
	for {
		if br.Buffered() == 0 && len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
		var head [9]byte
		if _, err := io.ReadFull(br, head[:]); err != nil {
			return
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(br, payload); err != nil {
			return
		}
		switch stream := binary.BigEndian.Uint32(head[5:]); {
		case head[3] == headers:
			out = appendFrame(out, headers, endHeaders, stream, answerHTTP2)
			out = appendFrame(out, data, endStream, stream, "Hello, World!")
		case head[3] == settings && head[4]&ack == 0:
			out = appendFrame(out, settings, ack, 0, "")
		case head[3] == ping && head[4]&ack == 0:
			out = appendFrame(out, ping, ack, 0, string(payload))
		}
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
	names := []string{"flare", "net/http", "fasthttp", "flare HTTP/2", "net/http HTTP/2"}
	fmt.Printf("%-15s %8s %22s\n", "client", "callers", "requests/CPU second")
	for _, callers := range []int{1, 64, 1000} {
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
			fmt.Printf("%-15s %8d %22.0f\n", name, callers, got[name][len(got[name])/2])
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
	var versions *http.Protocols
	name, http2 := strings.CutSuffix(name, " HTTP/2")
	if http2 {
		versions = new(http.Protocols)
		versions.SetUnencryptedHTTP2(true)
	}
	switch name {
	case "flare":
		c := &flare.Client{MaxIdleConns: callers, MaxIdleConnsPerHost: callers, Protocols: versions}
		ctx := context.Background()
		return func() error {
			resp, err := c.Get(ctx, url)
			if err != nil {
				return err
			}
			return check(resp.Bytes())
		}, nil
	case "net/http":
		c := &http.Client{Transport: &http.Transport{MaxIdleConns: callers, MaxIdleConnsPerHost: callers, Protocols: versions}}
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
