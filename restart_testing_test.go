//go:build linux || darwin

package flare

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This file has the program that tests restart, which is the binary of the tests
// itself, and what follows its generations.

// restartVariable has the program's configuration.
const restartVariable = "FLARE_TEST_RESTART"

type restartConfig struct {
	Addrs []string
	HTTP2 bool
	Proxy bool // a PROXY header is in front of each connection
	Fail  string

	DrainDelay time.Duration
}

func init() { testPrograms["restart"] = restartProgram }

// restartProgram serves until it is replaced or told to end, and says what becomes of
// it, a line each.
func restartProgram() int {
	go func() { // the test has ended
		io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	var config restartConfig
	if err := json.Unmarshal([]byte(os.Getenv(restartVariable)), &config); err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	up, first := new(Upgrader), os.Getenv(upgradeVariable) == ""
	ln, err := (&ListenConfig{Upgrader: up}).Listen(ctx, config.Addrs...)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	switch config.Fail {
	case "exit":
		return 7
	case "close":
		ln.Close()
		return 7
	case "panic":
		panic("the new program fails")
	case "hang":
		<-ctx.Done()
		return 8
	case "early":
		if first {
			syscall.Kill(os.Getpid(), syscall.SIGHUP)
		}
	}
	s := &Server{Loops: 2, Handler: HandlerFunc(restartHandler), Protocols: new(http.Protocols), TrustedProxies: []string{"127.0.0.1", "unix"}, ProxyProtocol: config.Proxy, DrainDelay: config.DrainDelay}
	s.Protocols.SetHTTP1(!config.HTTP2)
	s.Protocols.SetUnencryptedHTTP2(config.HTTP2)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	fmt.Println("serving", os.Getpid())
	up.Wait(ctx)
	if ctx.Err() == nil {
		fmt.Println("replaced", os.Getpid())
	}
	drain, done := context.WithTimeout(context.Background(), patience)
	defer done()
	err = s.Shutdown(drain)
	<-served
	fmt.Println("ended", os.Getpid(), err)
	return 0
}

// restartHandler answers with the client's address, the process and how long the
// request's body was.
func restartHandler(w *ResponseWriter, r *Request) error {
	n, err := io.Copy(io.Discard, r.Body())
	if err != nil {
		return err
	}
	return w.Text(200, fmt.Sprint(r.ClientAddr().Addr(), os.Getpid(), n))
}

// restartCommand is the command that makes the tests' binary the program. Its output
// goes to out, and it ends with the test.
func restartCommand(t testing.TB, config *restartConfig, out *os.File) func() *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	return func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), testProgram+"=restart", restartVariable+"="+string(text))
		cmd.Stdin, cmd.Stdout, cmd.Stderr = r, out, out
		return cmd
	}
}

// generations are programs that replace each other.
type generations struct {
	t     *testing.T
	lines chan string // what they say; closed when all of them have ended
	pids  []int       // all that served, the last being the current one
	ended int         // in order
	out   *os.File
}

func newGenerations(t *testing.T) *generations {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g := &generations{t: t, lines: make(chan string, 100), out: w}
	t.Cleanup(func() { w.Close() })
	go func() {
		defer close(g.lines)
		defer r.Close()
		for in := bufio.NewScanner(r); in.Scan(); {
			g.lines <- in.Text()
		}
	}()
	return g
}

// hear takes the next line.
func (g *generations) hear() (line string, ok bool) {
	g.t.Helper()
	select {
	case line, ok = <-g.lines:
	case <-time.After(patience):
		g.t.Fatal("the programs say nothing")
	}
	var pid int
	switch {
	case strings.HasPrefix(line, "serving "):
		fmt.Sscanf(line, "serving %d", &pid)
		g.pids = append(g.pids, pid)
	case strings.HasPrefix(line, "ended "):
		g.ended++
		if !strings.HasSuffix(line, " <nil>") {
			g.t.Error(line)
		}
	case !strings.HasPrefix(line, "replaced ") && ok:
		g.t.Error(line)
	}
	return line, ok
}

// await takes lines until there is one that begins so.
func (g *generations) await(begin string) {
	g.t.Helper()
	for {
		line, ok := g.hear()
		if !ok {
			g.t.Fatalf("all programs have ended; none said %q", begin)
		}
		if strings.HasPrefix(line, begin) {
			return
		}
	}
}

// signal sends one to the current program.
func (g *generations) signal(sig syscall.Signal) {
	g.t.Helper()
	if err := syscall.Kill(g.pids[len(g.pids)-1], sig); err != nil {
		g.t.Fatal(err)
	}
}

// upgrade has the current program replaced.
func (g *generations) upgrade() {
	g.t.Helper()
	old := fmt.Sprintf("replaced %d", g.pids[len(g.pids)-1])
	g.signal(syscall.SIGHUP)
	g.await(old)
}

// end ends the current program, and waits for the end of all.
func (g *generations) end() {
	g.t.Helper()
	g.signal(syscall.SIGTERM)
	g.out.Close()
	for {
		if _, ok := g.hear(); !ok {
			break
		}
	}
	if slices.Sort(g.pids); len(slices.Compact(slices.Clone(g.pids))) != len(g.pids) || g.ended != len(g.pids) {
		g.t.Errorf("%d programs served and %d have ended in order: %v", len(g.pids), g.ended, g.pids)
	}
}
