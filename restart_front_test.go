//go:build linux || darwin

package flare

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file has programs behind proxies that are restarted under load.

var (
	restartTimes = flag.Int("restart.times", 0, "how often each program behind a proxy is restarted; 0: ten times behind the first proxy, twice behind the others")
	restartRate  = flag.Int("restart.rate", 300, "requests a second to each")
)

// restartsOf is how often the program behind a proxy is restarted.
func restartsOf(proxy int) int {
	switch {
	case *restartTimes > 0:
		return *restartTimes
	case proxy == 0:
		return 10
	}
	return 2
}

// restartDrain is how long connections at rest may still be used, which is longer than
// the proxies keep them.
const restartDrain = 1500 * time.Millisecond

// restartFronts are the proxies, and how they tell for whom a request is.
var restartFronts = []struct {
	name         string // of the program, and what it speaks
	http2, proxy bool
	conf         func(dir, addr, network, upstream string) string
	args         func(dir, conf string) []string
	again        bool // see frontProxies
}{
	{
		name: "nginx",
		conf: frontNginx(`proxy_pass http://flare; proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_set_header X-Forwarded-For $remote_addr; proxy_request_buffering off; proxy_next_upstream off;`),
		args: func(dir, conf string) []string { return []string{"-p", dir, "-c", conf} },
	},
	{
		name:  "nginx HTTP/2",
		http2: true,
		conf:  frontNginx(`grpc_pass grpc://flare; grpc_set_header X-Forwarded-For $remote_addr; grpc_next_upstream off;`),
		args:  func(dir, conf string) []string { return []string{"-p", dir, "-c", conf} },
	},
	{
		name: "haproxy",
		conf: restartHaproxy(""),
		args: func(dir, conf string) []string { return []string{"-db", "-f", conf} },
	},
	{
		name:  "haproxy HTTP/2",
		http2: true,
		conf:  restartHaproxy(" proto h2"),
		args:  func(dir, conf string) []string { return []string{"-db", "-f", conf} },
		again: true,
	},
	{
		name:  "haproxy PROXY v1",
		proxy: true,
		conf:  restartHaproxy(" send-proxy"),
		args:  func(dir, conf string) []string { return []string{"-db", "-f", conf} },
	},
	{
		name:  "haproxy PROXY v2 HTTP/2",
		proxy: true,
		http2: true,
		conf:  restartHaproxy(" send-proxy-v2 proto h2"),
		args:  func(dir, conf string) []string { return []string{"-db", "-f", conf} },
		again: true,
	},
}

// restartHaproxy configures haproxy to keep connections at rest for less than
// restartDrain, and to say who the client is, by PROXY if that is in server.
func restartHaproxy(server string) func(dir, addr, network, upstream string) string {
	return func(dir, addr, network, upstream string) string {
		text := frontHaproxy(server+" pool-purge-delay 300ms")(dir, addr, network, upstream)
		if !strings.Contains(server, "send-proxy") {
			text = strings.Replace(text, "defaults\n", "defaults\n\toption forwardfor\n", 1)
		}
		return text
	}
}

// A front is a proxy under load.
type front struct {
	url     string
	stop    chan struct{}
	clients sync.WaitGroup
	asked   atomic.Int64
	pids    sync.Map // of the programs that answered

	// What was answered while serveSome waited, and how long that took.
	served int64
	during time.Duration
}

// startFront starts the proxy, and clients that ask until end is called.
func startFront(t *testing.T, i int, upstream string) *front {
	proxy := &restartFronts[i]
	program, _, _ := strings.Cut(proxy.name, " ")
	path, addr, _ := clientProgram(t, program)
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	text := proxy.conf(dir, addr, "tcp", upstream)
	text = strings.Replace(text, "keepalive 16;", "keepalive 16; keepalive_timeout 500ms;", 1)
	conf := filepath.Join(dir, "proxy.conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	clientStart(t, addr, path, proxy.args(dir, conf)...)
	f := &front{url: "http://" + addr, stop: make(chan struct{})}
	const clients = 8
	for n := range clients {
		f.clients.Go(func() { f.client(t, netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + n)}), clients, proxy.again) })
	}
	return f
}

// client asks at its pace, and checks each answer.
func (f *front) client(t *testing.T, from netip.Addr, clients int, again bool) {
	transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}).DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	body := strings.Repeat("x", 30_000)
	pace := time.NewTicker(time.Second * time.Duration(clients) / time.Duration(*restartRate))
	defer pace.Stop()
	for i := 0; ; i++ {
		method, length := "GET", 0
		var in io.Reader
		if i%3 == 1 {
			method, in, length = "POST", strings.NewReader(body), len(body)
		}
		req, err := http.NewRequest(method, f.url, in)
		if err != nil {
			t.Error(err)
			return
		}
		if again {
			req.Header["Idempotency-Key"] = nil // not sent, but net/http tries again
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("request %d of %v: %v", i, from, err)
			return
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var client string
		var pid, n int
		if fmt.Sscan(string(text), &client, &pid, &n); err != nil || resp.StatusCode != 200 || client != from.String() || n != length {
			t.Errorf("request %d of %v: %d %.200q %v", i, from, resp.StatusCode, text, err)
			return
		}
		f.pids.Store(pid, true)
		f.asked.Add(1)
		select {
		case <-pace.C:
		case <-f.stop:
			return
		}
	}
}

// serveSome waits for the answers of a sixth of a second more, and more of a program
// that has not answered yet.
func (f *front) serveSome(t *testing.T, pid int) {
	t.Helper()
	from, began := f.asked.Load(), time.Now()
	eventually(t, "answers, some of the new program's", func() bool {
		_, heard := f.pids.Load(pid)
		return heard && f.asked.Load() >= from+int64(*restartRate)/6 || t.Failed()
	})
	f.served += f.asked.Load() - from
	f.during += time.Since(began)
}

// end ends the load, and says how many were answered.
func (f *front) end() string {
	close(f.stop)
	f.clients.Wait()
	return fmt.Sprintf("%d requests, %.0f a second between restarts", f.asked.Load(), float64(f.served)/f.during.Seconds())
}

// TestUpgradeBehindProxies replaces the program behind each proxy again and again
// while it is asked: no request fails, and each is answered for the client that sent
// it.
func TestUpgradeBehindProxies(t *testing.T) {
	t.Parallel()
	for i, proxy := range restartFronts {
		t.Run(proxy.name, func(t *testing.T) {
			t.Parallel()
			g := newGenerations(t)
			config := &restartConfig{HTTP2: proxy.http2, Proxy: proxy.proxy, Addrs: []string{"127.0.0.1:0"}, DrainDelay: restartDrain}
			up := &Upgrader{Command: restartCommand(t, config, g.out), Logger: quietLogger()}
			ln, err := (&ListenConfig{Upgrader: up}).Listen(t.Context(), config.Addrs...)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			if err := up.Upgrade(t.Context()); err != nil { // from this process, which serves nothing
				t.Fatal(err)
			}
			g.await("serving ")
			ln.Close()
			f := startFront(t, i, ln.Addr().String())
			f.serveSome(t, g.pids[0])
			for range restartsOf(i) {
				g.upgrade()
				f.serveSome(t, g.pids[len(g.pids)-1])
			}
			for g.ended < len(g.pids)-1 && !t.Failed() { // under load, too
				g.hear()
			}
			t.Logf("%s, %d programs", f.end(), len(g.pids))
			g.end()
		})
	}
}

// A signal that comes before Wait does not end the program: Wait hears of it.
func TestUpgradeEarlySignal(t *testing.T) {
	t.Parallel()
	g := newGenerations(t)
	cmd := restartCommand(t, &restartConfig{Addrs: []string{"127.0.0.1:0"}, Fail: "early"}, g.out)()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go cmd.Wait()
	g.await("serving ")
	g.await(fmt.Sprintf("replaced %d", cmd.Process.Pid))
	g.await(fmt.Sprintf("ended %d", cmd.Process.Pid))
	g.end()
}

// TestUpgradeFails: a new program that does not become ready changes nothing.
func TestUpgradeFails(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"exit", "close", "panic", "hang", "deaf", "missing", "cancelled"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			path := filepath.Join(t.TempDir(), "s")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			config := &restartConfig{Addrs: []string{"127.0.0.1:0", "unix:" + path}, Fail: how}
			up := &Upgrader{Command: restartCommand(t, config, out)}
			switch how {
			case "hang":
				up.ReadyTimeout = 500 * time.Millisecond
			case "deaf":
				up.ReadyTimeout = 500 * time.Millisecond
				program, _, _ := clientProgram(t, "sleep")
				command := up.Command
				up.Command = func() *exec.Cmd { return replaceCommand(command(), program, "60") }
			case "missing":
				command := up.Command
				up.Command = func() *exec.Cmd { return replaceCommand(command(), filepath.Join(path, "missing")) }
			case "cancelled":
				config.Fail = "hang"
				up.Command = restartCommand(t, config, out)
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			ln, err := (&ListenConfig{Upgrader: up}).Listen(t.Context(), config.Addrs...)
			if err != nil {
				t.Fatal(err)
			}
			s := &Server{Loops: 1, Handler: HandlerFunc(restartHandler)}
			startPlainOn(t, s, ln)
			eventually(t, "both listeners", func() bool { return len(s.Addrs()) == 2 })
			if err := up.Upgrade(ctx); err == nil {
				t.Fatal("the upgrade succeeded")
			} else {
				t.Log(err)
			}
			for _, addr := range s.Addrs() {
				conn, err := net.Dial(addr.Network(), addr.String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				conn.SetDeadline(time.Now().Add(patience))
				if answer, _ := io.ReadAll(conn); !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
					t.Errorf("%v: %.100q", addr, answer)
				}
			}
			s.Shutdown(t.Context())
			if _, err := os.Lstat(path); err == nil {
				t.Error("the path of the Unix socket is there when its listener has closed")
			}
		})
	}
}

// replaceCommand is cmd with another program.
func replaceCommand(cmd *exec.Cmd, name string, args ...string) *exec.Cmd {
	other := exec.Command(name, args...)
	other.Env, other.Stdin, other.Stdout, other.Stderr = cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr
	return other
}
