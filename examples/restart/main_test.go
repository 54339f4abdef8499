//go:build linux || darwin

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// programVariable makes the binary of the tests the program.
	programVariable = "RESTART_TEST_PROGRAM"

	// patience bounds every wait of a test.
	patience = 30 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		go func() { // the test has ended
			io.Copy(io.Discard, os.Stdin)
			os.Exit(3)
		}()
		main()
		return
	}
	os.Exit(m.Run())
}

// The program is replaced on SIGHUP, and the next one serves on the same socket.
func TestRestart(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), programVariable+"=1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w // a file, which the next program inherits
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the end of all programs
	cmd.Stdin = in
	if err := cmd.Start(); err != nil {
		t.Skip("cannot start: ", err)
	}
	w.Close()
	in.Close()
	lines := bufio.NewReader(r)
	r.SetReadDeadline(time.Now().Add(patience))
	line, err := lines.ReadString('\n')
	first, addr, ok := strings.Cut(strings.TrimSpace(line), " serves on ")
	if err != nil || !ok {
		t.Fatalf("%q %v", line, err)
	}
	if got := ask(t, addr); got != first {
		t.Errorf("%q has answered, not %q", got, first)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	line, err = lines.ReadString('\n')
	second, again, _ := strings.Cut(strings.TrimSpace(line), " serves on ")
	if err != nil || again != addr || second == first {
		t.Fatalf("%q %v behind %q", line, err, first)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the first program: %v", err)
	}
	if got := ask(t, addr); got != second {
		t.Errorf("%q has answered, not %q", got, second)
	}
}

// The units of examples/systemd fit the program: it takes the socket by the name and
// the arguments that they have.
func TestUnits(t *testing.T) {
	t.Parallel()
	start := unitSetting(t, "flare-app.service", "ExecStart")
	name := unitSetting(t, "flare-app.socket", "FileDescriptorName")
	args := strings.Fields(start)[1:]
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // the file is the same socket
	// The shell becomes the program, under the number that it has put there.
	cmd := exec.Command("sh", append([]string{"-c", `export LISTEN_PID=$$; exec "$0" "$@"`, os.Args[0]}, args...)...)
	cmd.Env = append(os.Environ(), programVariable+"=1", "LISTEN_FDS=1", "LISTEN_FDNAMES="+name)
	cmd.ExtraFiles = []*os.File{socket}
	out, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the end of the program
	if err := cmd.Start(); err != nil {
		t.Skip("cannot start: ", err)
	}
	socket.Close()
	if want, got := fmt.Sprint("process ", cmd.Process.Pid), ask(t, ln.Addr().String()); got != want {
		t.Errorf("%q has answered, not %q", got, want)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// unitSetting is a setting of a unit of examples/systemd.
func unitSetting(t *testing.T, unit, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "systemd", unit))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("%s has no %s", unit, name)
	return ""
}

// ask returns which process answers.
func ask(t *testing.T, addr string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
