//go:build linux

package flare

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// This file has a server in a process with little memory, and clients that would have
// it take much.

// memoryGroup is the variable with the control group that the program goes into.
const memoryGroup = "FLARE_TEST_MEMORY_GROUP"

func init() { testPrograms["memory"] = memoryProgram }

const (
	memoryClients    = 1000 // of either kind
	memoryUploaded   = 256 << 10
	memoryDownloaded = 4 << 20
	memoryConns      = 400
	memoryHeld       = 16        // bodies that handlers hold at once
	memoryPeak       = 112 << 20 // of which the program itself, which is all tests, is a fifth
)

// memoryProgram serves until its standard input ends.
func memoryProgram() int {
	if group := os.Getenv(memoryGroup); group != "" {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	piece := make([]byte, 64<<10)
	mux := NewMux()
	mux.Post("/stream", func(w *ResponseWriter, r *Request) error {
		n, err := io.Copy(io.Discard, r.Body())
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprint(n))
	})
	mux.Post("/hold", func(w *ResponseWriter, r *Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprint(len(p)))
	}, (&Limiter{Max: memoryHeld}).Wrap, MaxBody(memoryUploaded))
	mux.Get("/large", func(w *ResponseWriter, r *Request) error {
		for n := 0; n < memoryDownloaded; n += len(piece) {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	})
	// Those who do not read are cut before the uploads behind them give up.
	s := &Server{Handler: mux, MaxConns: memoryConns, WriteTimeout: time.Second, Logger: quietLogger()}
	mux.Get("/peak", func(w *ResponseWriter, r *Request) error {
		return w.JSON(200, memoryLook{peakRSS(), s.lim.buffered, s.Stats().Responses.Class5xx})
	})
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	fmt.Println(ln.Addr())
	io.Copy(io.Discard, os.Stdin)
	s.Close()
	<-served
	return 0
}

// A memoryLook is what the program says of itself.
type memoryLook struct {
	Peak, Bound int64
	Refused     uint64
}

var peakPattern = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakRSS is the most memory that the process has had.
func peakRSS() int64 {
	text, _ := os.ReadFile("/proc/self/status")
	m := peakPattern.FindSubmatch(text)
	if m == nil {
		return -1
	}
	kib, _ := strconv.ParseInt(string(m[1]), 10, 64)
	return kib << 10
}

// startMemory starts the program, with more in its environment.
func startMemory(t *testing.T, env ...string) (addr string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), testProgram+"=memory"), env...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server has ended: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if addr = strings.TrimSpace(line); err != nil || net.ParseIP(strings.Split(addr, ":")[0]) == nil {
		t.Fatalf("the program says %q, %v", line, err)
	}
	return addr
}

// memoryLooks asks the program.
func memoryLooks(t *testing.T, addr string) (look memoryLook) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get("http://" + addr + "/peak")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&look); err != nil {
		t.Fatal(err)
	}
	return look
}

// memoryUpload makes one upload, and returns what became of it: a status, or "cut".
func memoryUpload(addr string, i int) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	path, n := []string{"/stream", "/hold"}[i%2], memoryUploaded
	if i%10 == 1 {
		n++ // too large
	}
	body := make([]byte, n)
	sent := make(chan struct{})
	go func() { // a refusal comes while it is being sent
		defer close(sent)
		if i%3 == 0 {
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", path, n, body)
		} else {
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", path, n, body)
		}
	}()
	a, err := readAnswer(bufio.NewReader(conn), "POST")
	conn.Close()
	<-sent
	switch {
	case err == nil && a.StatusCode == 200 && a.body != fmt.Sprint(n):
		return "", fmt.Errorf("%s of %d octets are answered with %q", path, n, a.body)
	case err == nil && a.StatusCode == 503 && a.Header.Get("Retry-After") == "":
		return "", errors.New("a 503 without Retry-After")
	case err == nil:
		return a.Status, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", err
	}
	return "cut", nil
}

// memoryLoad has the program with little memory meet both kinds of clients.
func memoryLoad(t *testing.T, addr string) memoryLook {
	t.Helper()
	for range memoryClients {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		io.WriteString(conn, request("/large")) // and reads nothing of it
	}
	var mu sync.Mutex
	outcomes := make(map[string]int)
	var all sync.WaitGroup
	for i := range memoryClients {
		all.Go(func() {
			outcome, err := memoryUpload(addr, i)
			mu.Lock()
			defer mu.Unlock()
			if outcomes[outcome]++; err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	look := memoryLooks(t, addr)
	t.Logf("%v; %+v", outcomes, look)
	for outcome := range outcomes {
		switch outcome {
		case "200 OK", "413 Request Entity Too Large", "503 Service Unavailable", "cut":
		default:
			t.Errorf("an upload ended with %q", outcome)
		}
	}
	if outcomes["200 OK"] == 0 || outcomes["413 Request Entity Too Large"]+outcomes["503 Service Unavailable"] == 0 {
		t.Error("nobody was served, or nobody refused")
	}
	return look
}

// memoryTested skips where the program cannot be held to what it takes.
func memoryTested(t *testing.T) {
	t.Helper()
	var limit syscall.Rlimit
	switch err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); {
	case raceEnabled:
		t.Skip("the race detector takes a multiple of all memory")
	case err != nil || limit.Cur < 5*memoryClients:
		t.Skipf("%d descriptors are too few", limit.Cur)
	}
	text, _ := os.ReadFile("/proc/sys/net/core/somaxconn")
	if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || n < 2*memoryClients {
		t.Skipf("%d connections that wait to be accepted are too few", n)
	}
}

// memoryHolds has the program meet both kinds of clients, and holds it to what it may
// take.
func memoryHolds(t *testing.T, env ...string) {
	t.Helper()
	look := memoryLoad(t, startMemory(t, append(env, "GOMEMLIMIT=64MiB")...))
	if look.Bound != 16<<20 {
		t.Errorf("MaxBufferedBytes is %d", look.Bound)
	}
	if look.Peak > memoryPeak || look.Peak <= 0 {
		t.Errorf("%d MiB of memory", look.Peak>>20)
	}
}

// With GOMEMLIMIT=64MiB neither a thousand uploads nor a thousand clients that do not
// read what they asked for end the server, nor have it take much more than that.
func TestMemoryLimitHolds(t *testing.T) {
	t.Parallel()
	memoryTested(t)
	memoryHolds(t)
}

// The same where the kernel would end it beyond 96 MiB.
func TestMemoryGroupHolds(t *testing.T) {
	t.Parallel()
	memoryTested(t)
	memoryHolds(t, memoryGroup+"="+newMemoryGroup(t, 96<<20))
}

// newMemoryGroup makes a control group with so much memory, of either version of them.
func newMemoryGroup(t *testing.T, limit int) string {
	t.Helper()
	root, file := groupsRoot, "memory.max"
	if enabled, err := os.ReadFile(root + "/cgroup.subtree_control"); err != nil || !strings.Contains(string(enabled), "memory") {
		root, file = root+"/memory", "memory.limit_in_bytes"
	}
	group := filepath.Join(root, fmt.Sprint("flare-test-", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skipf("no control group can be made: %v", err)
	}
	t.Cleanup(func() { // once the kernel has seen the last process of it go
		eventually(t, "the end of the control group", func() bool { return os.Remove(group) == nil })
	})
	if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(limit)), 0); err != nil {
		t.Skipf("it cannot be given a bound: %v", err)
	}
	return group
}
