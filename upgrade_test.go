//go:build linux || darwin

package flare

import (
	"io"
	"strconv"
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
