//go:build linux || darwin

package flare

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A socket that nobody listens to is replaced, and nothing else is.
func TestListenUnixStale(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	config := &ListenConfig{Mode: 0o600}
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Skip("cannot listen: ", err)
	}
	if ln, err := config.Listen(t.Context(), "unix:"+path); !errors.Is(err, syscall.EADDRINUSE) {
		if err == nil {
			ln.Close()
		}
		t.Errorf("beside a listener: %v", err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	ln, err := config.Listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal("in place of one that is gone: ", err)
	}
	ln.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("behind its end the socket is there: %v", err)
	}

	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "l")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		if ln, err := config.Listen(t.Context(), "unix:"+path); err == nil {
			ln.Close()
			t.Errorf("%s was replaced", path)
		}
	}
	if text, err := os.ReadFile(link); err != nil || string(text) != "precious" {
		t.Errorf("the file has %q, %v", text, err)
	}
}

// Of many that find a stale socket at once one replaces it.
func TestListenUnixRace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	for range 20 {
		old, err := net.Listen("unix", path)
		if err != nil {
			t.Skip("cannot listen: ", err)
		}
		old.(*net.UnixListener).SetUnlinkOnClose(false)
		old.Close()
		eventually(t, "the end of the old listener, which a child of another test may have for a moment", func() bool {
			conn, err := net.Dial("unix", path)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
		var all sync.WaitGroup
		won := make(chan net.Listener, 8)
		for range cap(won) {
			all.Go(func() {
				if ln, err := new(ListenConfig).Listen(t.Context(), "unix:"+path); err == nil {
					won <- ln
				}
			})
		}
		all.Wait()
		close(won)
		if len(won) != 1 {
			t.Errorf("%d listen", len(won))
		}
		if conn, err := net.Dial("unix", path); err != nil {
			t.Error(err)
		} else {
			conn.Close()
		}
		for ln := range won {
			ln.Close()
		}
	}
}

// The file has the mode and the owner that are asked for, whatever the umask.
func TestListenUnixMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	owner := fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	for _, config := range []*ListenConfig{{Mode: 0o600, Owner: owner}, {Mode: 0o666}, {Mode: 0o660, Owner: fmt.Sprintf(":%d", os.Getgid())}} {
		ln, err := config.Listen(t.Context(), "unix:"+path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm() != config.Mode {
			t.Errorf("the mode is %v, not %v (%v)", info.Mode(), config.Mode, err)
		}
		ln.Close()
	}
	if os.Getuid() == 0 {
		ln, err := (&ListenConfig{Owner: "12345:root"}).Listen(t.Context(), "unix:"+path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && (st.Uid != 12345 || st.Gid != 0) {
			t.Errorf("the owner is %d:%d", st.Uid, st.Gid)
		}
		ln.Close()
	}
	for _, owner := range []string{"no-such-user-at-all", ":no-such-group-at-all"} {
		if ln, err := (&ListenConfig{Owner: owner}).Listen(t.Context(), "unix:"+path); err == nil {
			ln.Close()
			t.Errorf("%s: no error", owner)
		}
	}
}

// A name without a file is listened to on Linux.
func TestListenUnixAbstract(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("@flare-test-%d", os.Getpid())
	ln, err := new(ListenConfig).Listen(t.Context(), "unix:"+name)
	if err != nil {
		t.Skip("no abstract names: ", err)
	}
	startPlainOn(t, &Server{Loops: 1, Handler: textHandler("fine")}, ln)
	if got := getFrom(t, ln.Addr()); got != "fine" || !strings.HasPrefix(ln.Addr().String(), "@") {
		t.Errorf("%v: %q", ln.Addr(), got)
	}
}
