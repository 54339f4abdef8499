package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"flare"
)

// The tests of this folder are about the program as it is built and started:
// this file starts and ends it, routes_test.go asks for each route,
// clients_test.go lets other programs ask.

// serverPath is the program, built once by TestMain.
var serverPath string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "flare-server")
	if err != nil {
		panic(err)
	}
	serverPath = filepath.Join(dir, "server")
	build := []string{"build", "-o", serverPath}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "-race" && setting.Value == "true" {
				build = append(build, "-race") // the program under test, not only the test
			}
		}
	}
	code := 1
	if out, err := exec.Command("go", append(build, ".")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// patience bounds every wait for a program. None takes near as long.
const patience = time.Minute

// A program is a running server.
type program struct {
	*testing.T
	cmd    *exec.Cmd
	url    string // http://127.0.0.1:port
	addr   string
	log    output
	client http.Client
	ended  chan struct{} // closed when it has ended
	err    error         // how, once it has ended
}

// output gathers what a program writes. Any goroutine may use it.
type output struct {
	mu sync.Mutex
	b  strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts the server on a free port. When the test ends it has to end in
// order, within its time and without a trace of a crash or a data race.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := launch(t, args...)
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		p.signal(syscall.SIGTERM)
		p.end()
	})
	return p
}

// launch starts the server; the test ends it.
func launch(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	p := &program{T: t, ended: make(chan struct{}), client: http.Client{Transport: &http.Transport{}, Timeout: patience}}
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	p.cmd = exec.CommandContext(ctx, serverPath, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	where, ok := strings.CutPrefix(strings.TrimSpace(line), "flare: serving on ")
	_, addr, scheme := strings.Cut(where, "://")
	ok = ok && scheme
	if err != nil || !ok {
		cancel()
		<-p.ended
		t.Fatalf("the server said %q: %v\n%s", line, err, p.log.String())
	}
	p.addr, p.url = addr, where
	return p
}

func (p *program) signal(sig os.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil && err != os.ErrProcessDone {
		p.Error(err)
	}
}

// end waits until the server has ended, which has to be in order.
func (p *program) end() {
	p.Helper()
	<-p.ended
	if p.err != nil {
		p.Errorf("the server ended with %v\n%s", p.err, p.log.String())
	}
	for _, trace := range []string{"DATA RACE", "fatal error:", "\ngoroutine "} {
		if strings.Contains(p.log.String(), trace) {
			p.Errorf("the server's log has %q\n%s", trace, p.log.String())
		}
	}
}

// ask returns a request's answer and its whole body.
func (p *program) ask(method, target string, body io.Reader) (*http.Response, string) {
	p.Helper()
	req, err := http.NewRequest(method, p.url+target, body)
	if err != nil {
		p.Fatal(err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		p.Fatalf("%s %s: %v\n%s", method, target, err, p.log.String())
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatalf("%s %s: %v after %d bytes", method, target, err, len(text))
	}
	return resp, string(text)
}

// A signal ends the server in order: what is being answered is answered, what
// is idle is closed, nothing new is taken.
func TestSignalDrains(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			p := launch(t)
			if _, text := p.ask("GET", "/plaintext", nil); text != "Hello, World!" {
				t.Fatalf("answer %q", text)
			} // and its connection stays, idle

			// A request is being answered as soon as the head of its answer is
			// there; the rest takes its time.
			resp, err := p.client.Get(p.url + "/stream?n=2&ms=3000&size=8")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			slow := make(chan string, 1)
			go func() {
				resp, err := p.client.Get(p.url + "/slow?ms=3500")
				if err != nil {
					slow <- err.Error()
					return
				}
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				slow <- fmt.Sprintf("%d %v %s", resp.StatusCode, resp.Close, text)
			}()
			p.await("two handlers beside the one that tells", func(s flare.Stats) bool {
				return s.Connections.Open >= 3 && s.Handlers.Inline+s.Handlers.Worker >= 2 && s.Connections.Handler >= 2
			})

			p.signal(sig)
			if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "0123456701234567" {
				t.Errorf("the answer in progress became %q, %v", text, err)
			}
			if got := <-slow; got != "200 true slept 3500 ms\n" {
				t.Errorf("the request in progress was answered %q; want 200 with Connection: close", got)
			}
			p.end()
			fresh := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
			if resp, err := fresh.Get(p.url + "/plaintext"); err == nil {
				resp.Body.Close()
				t.Error("a server that has ended answers")
			}
		})
	}
}

// await waits until what the server has counted is as it should be, which its
// loops tell after the answers.
func (p *program) await(what string, cond func(flare.Stats) bool) {
	p.Helper()
	var s flare.Stats
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(time.Millisecond) {
		if s = p.stats(); cond(s) {
			return
		}
	}
	p.Fatalf("%s: not in %v: %+v", what, patience, s)
}

// A second signal does not wait.
func TestSecondSignalKills(t *testing.T) {
	p := launch(t)
	resp, err := p.client.Get(p.url + "/stream?n=2&ms=60000")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for p.signal(syscall.SIGTERM); ; p.signal(syscall.SIGTERM) {
		select {
		case <-p.ended:
			status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
			if !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
				t.Errorf("the server ended with %v", p.err)
			}
			return
		case <-time.After(10 * time.Millisecond): // signals that come together count as one
		}
	}
}

func TestBadArguments(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-addr", "127.0.0.1:99999"}, "invalid port"},
		{[]string{"-addr", "nonsense"}, "missing port"},
		{[]string{"-poller", "nonsense"}, "unknown -poller"},
		{[]string{"-loops", "nonsense"}, "invalid value"},
		{[]string{"nonsense"}, "unexpected argument"},
	} {
		out, err := exec.Command(serverPath, test.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), test.want) {
			t.Errorf("%q: %v, %q; want a failure that says %q", test.args, err, out, test.want)
		}
	}
}
