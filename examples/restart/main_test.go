//go:build linux || darwin

package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
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
