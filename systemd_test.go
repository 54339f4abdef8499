//go:build linux

package flare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A systemd stands in for the real one: it has sockets and starts programs with them,
// and hears what they say.
type systemd struct {
	t      *testing.T
	names  []string
	files  []*os.File
	notify *net.UnixConn
}

// newSystemd returns one with listeners by these names.
func newSystemd(t *testing.T, names ...string) (sd *systemd, addrs []string) {
	t.Helper()
	clientProgram(t, "sh")
	dir, err := os.MkdirTemp("", "flare") // t.TempDir's may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sd = &systemd{t: t, names: names}
	sd.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Skip("no datagrams of Unix: ", err)
	}
	t.Cleanup(func() { sd.notify.Close() })
	for range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, ln.Addr().String())
		ln.Close() // the file is the same socket
		t.Cleanup(func() { f.Close() })
		sd.files = append(sd.files, f)
	}
	return sd, addrs
}

// start starts the program, and waits until it says that it is ready.
func (sd *systemd) start(g *generations, config *restartConfig) {
	sd.t.Helper()
	// The shell becomes the program, under the number that it has put there.
	cmd := restartCommand(sd.t, config, g.out)()
	shell := exec.Command("sh", "-c", `export LISTEN_PID=$$; exec "$0"`, cmd.Path)
	shell.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(sd.files)), "LISTEN_FDNAMES="+strings.Join(sd.names, ":"), "NOTIFY_SOCKET="+sd.notify.LocalAddr().String())
	shell.Stdin, shell.Stdout, shell.Stderr, shell.ExtraFiles = cmd.Stdin, cmd.Stdout, cmd.Stderr, sd.files
	if err := shell.Start(); err != nil {
		sd.t.Fatal(err)
	}
	go shell.Wait()
	g.await("serving ")
	sd.hears("READY=1\n")
}

// hears fails unless the next message begins so, and returns the rest.
func (sd *systemd) hears(begin string) string {
	sd.t.Helper()
	sd.notify.SetReadDeadline(time.Now().Add(patience))
	text := make([]byte, 4<<10)
	n, err := sd.notify.Read(text)
	rest, ok := strings.CutPrefix(string(text[:n]), begin)
	if err != nil || !ok {
		sd.t.Fatalf("%q, %v; want %q", text[:n], err, begin)
	}
	return rest
}

// TestSystemdBehindProxies restarts the program behind each proxy as systemd does: the
// next one starts when the one before has ended, and the sockets are there throughout.
func TestSystemdBehindProxies(t *testing.T) {
	t.Parallel()
	for i, proxy := range restartFronts {
		t.Run(proxy.name, func(t *testing.T) {
			t.Parallel()
			program, _, _ := strings.Cut(proxy.name, " ")
			clientProgram(t, program)
			sd, addrs := newSystemd(t, "web")
			g := newGenerations(t)
			config := &restartConfig{HTTP2: proxy.http2, Proxy: proxy.proxy, Addrs: []string{"systemd:web"}, DrainDelay: restartDrain}
			sd.start(g, config)
			f := startFront(t, i, addrs[0])
			f.serveSome(t, g.pids[0])
			for range restartsOf(i) {
				g.signal(syscall.SIGTERM)
				sd.hears("STOPPING=1\n")
				g.await("ended ")
				sd.start(g, config)
				f.serveSome(t, g.pids[len(g.pids)-1])
			}
			t.Logf("%s, %d programs", f.end(), len(g.pids))
			g.end()
		})
	}
}

// A program takes its sockets by name, gives them to the one that replaces it, and
// tells systemd what happens.
func TestSystemdUpgrade(t *testing.T) {
	t.Parallel()
	sd, addrs := newSystemd(t, "web", "admin", "web")
	g := newGenerations(t)
	sd.start(g, &restartConfig{Addrs: []string{"systemd:web", "systemd:"}})
	for range 2 {
		for _, addr := range addrs {
			want := fmt.Sprintf("127.0.0.1 %d 0", g.pids[len(g.pids)-1])
			if got := getFrom(t, addrOf(addr)); got != want {
				t.Errorf("%s: %q, not %q", addr, got, want)
			}
		}
		g.upgrade()
		if rest := sd.hears("RELOADING=1\nMONOTONIC_USEC="); len(rest) < 2 {
			t.Errorf("the time is %q", rest)
		}
		sd.hears(fmt.Sprintf("MAINPID=%d\nREADY=1\n", g.pids[len(g.pids)-1]))
		g.await("ended ")
	}
	g.end()
	sd.hears("STOPPING=1\n")
}

type addrOf string

func (addrOf) Network() string  { return "tcp" }
func (a addrOf) String() string { return string(a) }

// Sockets that are not there, or are for another process, are an error.
func TestSystemdMissing(t *testing.T) {
	t.Parallel()
	if ln, err := new(ListenConfig).Listen(t.Context(), "systemd:web"); !errors.Is(err, errNoSystemdSocket) {
		if err == nil {
			ln.Close()
		}
		t.Errorf("%v", err)
	}
}

func TestSystemdNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := SystemdNotify("READY=1"); err != nil {
		t.Errorf("without a socket: %v", err)
	}
	t.Setenv("WATCHDOG_USEC", "")
	if err := SystemdWatchdog(t.Context(), nil); err != nil {
		t.Errorf("without a watchdog: %v", err)
	}
	sd, _ := newSystemd(t)
	t.Setenv("NOTIFY_SOCKET", sd.notify.LocalAddr().String())
	if err := SystemdNotify("READY=1", "STATUS=it is well"); err != nil {
		t.Error(err)
	}
	if rest := sd.hears("READY=1\nSTATUS=it is well\n"); rest != "" {
		t.Errorf("and %q", rest)
	}
	before := monotonic()
	if err := SystemdNotify("RELOADING=1"); err != nil {
		t.Error(err)
	}
	var usec int64
	fmt.Sscan(sd.hears("RELOADING=1\nMONOTONIC_USEC="), &usec)
	if at := time.Duration(usec) * time.Microsecond; at < before-time.Microsecond || at > monotonic() {
		t.Errorf("the time is %v, and was %v before", at, before)
	}

	// The watchdog is told while all is well.
	t.Setenv("WATCHDOG_USEC", "2000")
	ctx, cancel := context.WithCancel(t.Context())
	well, asked := true, 0
	ended := make(chan error, 1)
	go func() {
		ended <- SystemdWatchdog(ctx, func() error {
			if asked++; asked > 3 {
				well = false
			}
			if asked == 6 {
				cancel()
			}
			if !well {
				return errors.New("not well")
			}
			return nil
		})
	}()
	for range 3 {
		sd.hears("WATCHDOG=1\n")
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the watchdog ended with %v", err)
	}
	sd.notify.SetReadDeadline(time.Unix(1, 0))
	if n, err := sd.notify.Read(make([]byte, 100)); err == nil {
		t.Errorf("%d octets while it was not well", n)
	}
	t.Setenv("WATCHDOG_PID", "1")
	if err := SystemdWatchdog(t.Context(), nil); err != nil {
		t.Errorf("a watchdog of another process: %v", err)
	}
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "soon")
	if err := SystemdWatchdog(t.Context(), nil); err == nil {
		t.Error("a watchdog without a time")
	}
}
