//go:build linux || darwin

package flare

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A program may take longer to become ready than the one before to send the listeners.
func TestUpgradeReadyLate(t *testing.T) {
	t.Parallel()
	mine, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	defer theirs.Close()
	if err := sendDescriptors(mine, []byte("[]\n"), nil); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Dup(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	in := inheritance{asked: true}
	const limit = 500 * time.Millisecond
	if err := in.receiveFrom(strconv.Itoa(fd), limit); err != nil {
		t.Fatal(err)
	}
	<-time.After(limit)
	if !in.ready() {
		t.Error("the program before was not told")
	}
	theirs.Close()
	mine.SetReadDeadline(time.Now().Add(patience))
	if said, err := io.ReadAll(mine); err != nil || string(said) != upgradeReady {
		t.Errorf("it heard %q, %v", said, err)
	}
}

// The path of a Unix socket goes with the last of the programs that have it, and with
// none before.
func TestUpgradeUnix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	g := newGenerations(t)
	config := &restartConfig{Addrs: []string{"unix:" + path}}
	up := &Upgrader{Command: restartCommand(t, config, g.out), Logger: quietLogger()}
	ln, err := (&ListenConfig{Upgrader: up}).Listen(t.Context(), config.Addrs...)
	if err != nil {
		t.Skip("cannot listen: ", err)
	}
	defer ln.Close()
	if err := up.Upgrade(t.Context()); err != nil { // from this process, which serves nothing
		t.Fatal(err)
	}
	g.await("serving ")
	ln.Close()
	for i := range 2 {
		if got, want := getFrom(t, ln.Addr()), fmt.Sprint(" ", g.pids[i], " 0"); !strings.HasSuffix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if i == 0 {
			g.upgrade()
			g.await("ended ")
		}
	}
	g.end()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("behind the end of all the path is there: %v", err)
	}
}
