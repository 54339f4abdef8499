package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flare"
)

// The program at its bounds: of descriptors, of memory, of time. What takes
// long runs only when FLARE_SOAK is set.

// soak skips what takes too long for every day.
func soak(t *testing.T) {
	t.Helper()
	if os.Getenv("FLARE_SOAK") == "" {
		t.Skip("takes long; set FLARE_SOAK=1 to run it")
	}
}

// needsProc skips where there is no /proc to read a process's accounts in.
func needsProc(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc/self/status on this system")
	}
}

// peakBytes is the most memory that the process ever had (VmHWM).
func (p *program) peakBytes() int64 {
	p.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				p.Fatal(err)
			}
			return kb << 10
		}
	}
	p.Fatal("no VmHWM")
	return 0
}

// cpuTicks is the CPU time of the process, in units of 10 ms.
func (p *program) cpuTicks() int {
	p.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.Fatal(err)
	}
	fields := strings.Fields(string(data)[strings.LastIndexByte(string(data), ')')+1:])
	user, _ := strconv.Atoi(fields[11]) // utime and stime of proc(5)
	system, err := strconv.Atoi(fields[12])
	if err != nil {
		p.Fatal(err)
	}
	return user + system
}

// limited starts the server under a limit of descriptors that it cannot raise.
func limited(t *testing.T, files int, args ...string) *program {
	t.Helper()
	shell := have(t, "sh")
	whole := serverPath
	defer func() { serverPath = whole }()
	script := t.TempDir() + "/limited"
	text := fmt.Sprintf("#!%s\nulimit -n %d && exec '%s' \"$@\"\n", shell, files, whole)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	serverPath = script
	return start(t, args...)
}

// askOnce has one request answered on c.
func askOnce(c net.Conn, target, want string) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", target); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(text) != want) {
		err = fmt.Errorf("answer %d %q", resp.StatusCode, text)
	}
	return err
}

// Out of descriptors the server neither spins nor loses anybody: who comes too
// early waits, and those inside are served as ever.
func TestOutOfDescriptors(t *testing.T) {
	needsProc(t)
	p := limited(t, 64)
	var inside []net.Conn
	closeAll := func() {
		for _, c := range inside {
			c.Close()
		}
		inside = nil
	}
	defer closeAll()
	// More than there can be; the kernel lets all of them connect.
	const clients = 100
	var waiting sync.WaitGroup
	answered := make(chan net.Conn, clients)
	for range clients {
		c, err := net.DialTimeout("tcp", p.addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		waiting.Go(func() {
			if err := askOnce(c, "/plaintext", "Hello, World!"); err != nil {
				t.Errorf("a client at a server without descriptors: %v", err)
			}
			answered <- c
		})
	}
	// Some 50 get in and stay. When no more comes, the server has run out.
	for quiet := false; !quiet; {
		select {
		case c := <-answered:
			inside = append(inside, c)
		case <-time.After(300 * time.Millisecond):
			quiet = len(inside) > 20
		}
	}
	if len(inside) >= clients {
		t.Fatalf("%d of %d got in: the limit did not hold", len(inside), clients)
	}
	const look = time.Second
	before := p.cpuTicks()
	time.Sleep(look) // what it is: the time over which an exhausted server is watched
	if used := p.cpuTicks() - before; used > 10 {
		t.Errorf("%d0 ms of CPU in %v of nothing to do", used, look)
	}
	for _, c := range inside {
		if err := askOnce(c, "/plaintext", "Hello, World!"); err != nil {
			t.Errorf("one that is inside: %v", err)
		}
	}
	t.Logf("%d inside, %d outside", len(inside), clients-len(inside))
	go func() {
		waiting.Wait()
		close(answered)
	}()
	n := len(inside)
	closeAll()
	for c := range answered {
		n++
		c.Close()
	}
	if n != clients {
		t.Errorf("%d of %d clients were answered", n, clients)
	}
}

// Load that opens more connections than there are descriptors, all the time.
func TestLoadOutOfDescriptors(t *testing.T) {
	needsProc(t)
	p := limited(t, 64)
	var all sync.WaitGroup
	for range 128 {
		all.Go(func() {
			for range 5 {
				c, err := net.DialTimeout("tcp", p.addr, patience)
				if err == nil {
					err = askOnce(c, "/plaintext", "Hello, World!")
					c.Close()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if _, text := p.ask("GET", "/plaintext", nil); text != "Hello, World!" {
		t.Errorf("after it: %q", text)
	}
}

// Connects as fast as they go, one request each.
func TestAcceptFlood(t *testing.T) {
	connects := 1000
	if os.Getenv("FLARE_SOAK") != "" {
		connects = 10_000
	}
	p := start(t)
	var all sync.WaitGroup
	const dialers = 64
	began := time.Now()
	for d := range dialers {
		all.Go(func() {
			for i := d; i < connects; i += dialers {
				c, err := net.DialTimeout("tcp", p.addr, patience)
				if err == nil {
					err = askOnce(c, "/plaintext", "Hello, World!")
					c.(*net.TCPConn).SetLinger(0) // a flood, but not of ports that wait
					c.Close()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d connections in %v", connects, time.Since(began))
	p.await("the count of all connections and requests", func(s flare.Stats) bool {
		return s.Accepted >= uint64(connects) && s.Requests >= uint64(connects)
	})
}

// pacedReader gives n bytes of the pattern at a rate, 0: as fast as they go.
type pacedReader struct {
	left, moved int64
	rate        int64
	began       time.Time
}

func (r *pacedReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.left)], pattern())
	r.left -= int64(n)
	r.moved += int64(n)
	if r.rate > 0 {
		time.Sleep(time.Until(r.began.Add(time.Duration(float64(r.moved) / float64(r.rate) * 1e9))))
	}
	return n, nil
}

// Bodies far longer than what may be kept of them.
func TestLongTransfers(t *testing.T) {
	needsProc(t)
	const growthMax = 4 << 20
	long := int64(64 << 20)
	if os.Getenv("FLARE_SOAK") != "" {
		long = 1 << 30
	}
	for _, test := range []struct {
		name    string
		upload  bool
		chunked bool
		size    int64
		rate    int64
	}{
		{"upload", true, false, long, 0},
		{"upload in chunks", true, true, long, 0},
		{"download", false, false, long, 0},
		{"upload at 8 MB/s", true, false, 64 << 20, 8_000_000},
		{"download at 8 MB/s", false, false, 64 << 20, 8_000_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.rate > 0 {
				soak(t)
			}
			p := start(t, "-max-body", "-1")
			p.ask("GET", "/plaintext", nil)
			before := p.peakBytes()
			sum, want := sha256.New(), sha256.New()
			paced := func() io.Reader { return &pacedReader{left: test.size, rate: test.rate, began: time.Now()} }
			if test.upload {
				req, err := http.NewRequest("POST", p.url+"/upload", io.TeeReader(paced(), want))
				if err != nil {
					t.Fatal(err)
				}
				if req.ContentLength = test.size; test.chunked {
					req.ContentLength = -1
				}
				resp, err := p.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				var got struct {
					Bytes  int64
					SHA256 string
				}
				err = json.NewDecoder(resp.Body).Decode(&got)
				resp.Body.Close()
				if err != nil || got.Bytes != test.size || got.SHA256 != hex.EncodeToString(want.Sum(nil)) {
					t.Errorf("got %+v, %v", got, err)
				}
			} else {
				resp, err := p.client.Get(fmt.Sprintf("%s/bytes?n=%d", p.url, test.size))
				if err != nil {
					t.Fatal(err)
				}
				pace := &pacedReader{left: test.size, rate: test.rate, began: time.Now()}
				n, err := io.Copy(sum, io.TeeReader(resp.Body, writerFunc(func(b []byte) (int, error) {
					return io.ReadFull(pace, make([]byte, len(b)))
				})))
				resp.Body.Close()
				io.Copy(want, &pacedReader{left: test.size})
				if err != nil || n != test.size || hex.EncodeToString(sum.Sum(nil)) != hex.EncodeToString(want.Sum(nil)) {
					t.Errorf("got %d bytes, %v", n, err)
				}
			}
			growth := p.peakBytes() - before
			t.Logf("the peak of memory grew by %d KiB", growth>>10)
			if growth >= growthMax {
				t.Errorf("the peak of memory grew by %d bytes", growth)
			}
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// The attacks of slowhttptest, beside a client that wants an answer.
func TestSlowHTTPTest(t *testing.T) {
	path := have(t, "slowhttptest")
	limit, length := "1s", "6"
	if os.Getenv("FLARE_SOAK") != "" {
		limit, length = "3s", "20"
	}
	for _, test := range []struct {
		name  string
		args  []string
		ended func(flare.Stats) uint64 // connections that came to the end they should
	}{
		{"slow headers", []string{"-H", "-i", "4", "-u", "/plaintext"}, func(s flare.Stats) uint64 { return s.Timeouts.Head }},
		{"slow body", []string{"-B", "-i", "4", "-s", "8192", "-u", "/upload"}, func(s flare.Stats) uint64 { return s.Timeouts.Body }},
		{"slow read", []string{"-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "1", "-u", "/bytes?n=67108864"}, func(s flare.Stats) uint64 { return s.Timeouts.Write }},
		{"ranges", []string{"-R", "-t", "GET", "-a", "5", "-b", "2000", "-u", "/bytes?n=2000"}, func(s flare.Stats) uint64 { return s.Responses.Class2xx }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "-head-timeout", limit, "-body-timeout", limit, "-write-timeout", limit)
			args := append([]string{"-c", "500", "-r", "500", "-l", length, "-p", "3"}, test.args...)
			for i, arg := range args {
				if strings.HasPrefix(arg, "/") {
					args[i] = p.url + arg
				}
			}
			cmd := exec.Command(path, args...)
			var out output
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			stop := time.AfterFunc(patience, func() { cmd.Process.Signal(syscall.SIGKILL) })
			defer stop.Stop()
			var slowest time.Duration
			for asked := 0; ; asked++ {
				select {
				case err := <-ended:
					var exit *exec.ExitError
					if err != nil && !errors.As(err, &exit) {
						t.Fatal(err)
					}
					text := out.String()
					if strings.Contains(text, "service available:   NO") {
						t.Errorf("slowhttptest found the server unavailable:\n%s", text)
					}
					p.await("the end of nearly all of 500 as they should", func(s flare.Stats) bool { return test.ended(s) >= 450 })
					p.await("the end of all others", func(s flare.Stats) bool { return s.Connections.Open <= 2 })
					if slowest > patience/6 {
						t.Errorf("a request beside it took %v", slowest)
					}
					t.Logf("%d requests beside it, the slowest %v; %+v", asked, slowest, p.stats().Timeouts)
					return
				default:
				}
				began := time.Now()
				p.ask("GET", "/plaintext", nil)
				slowest = max(slowest, time.Since(began))
				time.Sleep(10 * time.Millisecond) // what it is: a client that is no load
			}
		})
	}
}
