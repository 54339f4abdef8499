package flare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// This file is layer 4 (roles): what a program and systemd say to each other: sockets
// that it was given (sd_listen_fds(3)), and how it is (sd_notify(3)).

// SystemdNotify tells systemd of the program's state, as in "READY=1", "STOPPING=1" or
// "STATUS=text"; sd_notify(3) lists them. To "RELOADING=1" it adds MONOTONIC_USEC.
// Without NOTIFY_SOCKET, where nobody wants to know, it does nothing.
func SystemdNotify(states ...string) error {
	addr := os.Getenv("NOTIFY_SOCKET")
	if addr == "" {
		return nil
	}
	var text strings.Builder
	for _, state := range states {
		text.WriteString(state + "\n")
		if state == "RELOADING=1" {
			fmt.Fprintf(&text, "MONOTONIC_USEC=%d\n", monotonic().Microseconds())
		}
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(text.String()))
	return err
}

// SystemdWatchdog tells systemd that the program lives, twice in WatchdogSec, until ctx
// ends, but not while alive, which may be nil, returns an error: systemd then restarts
// the program. It returns at once where there is no watchdog.
func SystemdWatchdog(ctx context.Context, alive func() error) error {
	text := os.Getenv("WATCHDOG_USEC")
	pid := os.Getenv("WATCHDOG_PID")
	if text == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	limit, err := strconv.ParseInt(text, 10, 64)
	if err != nil || limit <= 0 {
		return fmt.Errorf("flare: WATCHDOG_USEC is %q", text)
	}
	due := time.NewTicker(max(time.Duration(limit)*time.Microsecond/2, 1))
	defer due.Stop()
	for {
		if alive == nil || alive() == nil {
			if err := SystemdNotify("WATCHDOG=1"); err != nil {
				return err
			}
		}
		select {
		case <-due.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// firstSystemdFD is the first descriptor of those that systemd gives.
const firstSystemdFD = 3

var errNoSystemdSocket = errors.New("flare: systemd has given no socket of that name")

// systemdSockets are the listeners that the process was given. Whoever asks for one
// has it.
var systemdSockets struct {
	mu     sync.Mutex
	asked  bool
	names  []string       // guarded by mu, as what follows
	opened []net.Listener // nil: of a socket that was taken
	err    error
}

// takeSystemd returns the listeners with a name, FileDescriptorName of a socket unit;
// "" are all that are left.
func takeSystemd(name string) (all []net.Listener, err error) {
	given := &systemdSockets
	given.mu.Lock()
	defer given.mu.Unlock()
	if !given.asked {
		given.asked = true
		given.names, given.opened, given.err = openSystemd()
	}
	if given.err != nil {
		return nil, given.err
	}
	for i, ln := range given.opened {
		if ln != nil && (name == "" || given.names[i] == name) {
			all = append(all, ln)
			given.opened[i] = nil
		}
	}
	if all == nil {
		return nil, fmt.Errorf("%w: %q", errNoSystemdSocket, name)
	}
	return all, nil
}

// openSystemd makes listeners of the descriptors, which programs that are started later
// do not inherit.
func openSystemd() (names []string, opened []net.Listener, err error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names = strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil // they were for somebody else
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, nil, fmt.Errorf("flare: LISTEN_FDS is %q", count)
	}
	for len(names) < n {
		names = append(names, "unknown")
	}
	for i := range n {
		ln, err := descriptorListener(firstSystemdFD + i)
		if err != nil {
			return nil, nil, fmt.Errorf("flare: descriptor %d of systemd's: %w", firstSystemdFD+i, err)
		}
		if ln, ok := ln.(*net.UnixListener); ok {
			ln.SetUnlinkOnClose(false) // the path is systemd's
		}
		opened = append(opened, ln)
	}
	return names, opened, nil
}
