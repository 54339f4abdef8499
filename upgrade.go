package flare

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// This file is layer 4 (roles): how a program makes way for the next one, which
// inherits its listening sockets. It knows processes and listeners, and nothing of
// connections: those are the server's to drain. upgrade_inherit.go has the other side.

const (
	defaultReadyTimeout = time.Minute

	// upgradeKill is how long a program that has not become ready may take to end.
	upgradeKill = 5 * time.Second

	firstExtraFile = 3 // behind standard input, output and error
)

var (
	errUpgrading = errors.New("flare: an upgrade is under way")
	errReplaced  = errors.New("flare: the program has been replaced")
)

// An Upgrader replaces the program by a new one without a moment in which nobody
// listens: the new one inherits the listeners that were made with it
// (ListenConfig.Upgrader), and once it says that it is ready, Wait returns in the old
// one, which drains. A new program that fails changes nothing. There is one Upgrader
// to a program; it is for Linux and macOS, and elsewhere listeners are made as ever.
//
//	var up flare.Upgrader
//	ln, err := (&flare.ListenConfig{Upgrader: &up}).Listen(ctx, ":8080")
//	go s.Serve(ln)
//	up.Wait(ctx) // until replaced, or ctx ends
//	s.Shutdown(drain)
//
// With Server.DrainDelay above the time for which clients keep connections that rest,
// such as proxies, no request meets a connection that is being closed.
type Upgrader struct {
	// Command makes the command of the new program. nil is that of this one: its
	// name, as it was called, arguments, environment and output.
	Command func() *exec.Cmd

	// ReadyTimeout is how long the new program may take until its Wait is called;
	// default 1 min, negative no limit. Then it is ended, and the old one goes on.
	ReadyTimeout time.Duration

	// Logger is told of upgrades that fail. nil is slog.Default().
	Logger *slog.Logger

	inherit   inheritance
	upgrading sync.Mutex // held by Upgrade
	once      sync.Once
	replaced  chan struct{}
	hear      sync.Once
	hup       chan os.Signal

	mu   sync.Mutex
	kept []keptListener // guarded by mu
}

// keep has the next program given listeners of an address.
func (u *Upgrader) keep(key string, all []net.Listener) {
	u.signals()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, ln := range all {
		u.kept = append(u.kept, keptListener{key, ln})
	}
}

func (u *Upgrader) done() chan struct{} {
	u.once.Do(func() { u.replaced = make(chan struct{}) })
	return u.replaced
}

// Wait says that the program is ready, to the one from which it takes over, or to
// systemd (Type=notify), which hears of upgrades and of the end too; listeners
// of that one which were not asked for are closed. Then it upgrades at each
// SIGHUP, and returns when the program has been replaced or ctx ends, which ends an
// upgrade under way too. The signal is the Upgrader's from its first listener on: one
// that comes before Wait is heard by it.
func (u *Upgrader) Wait(ctx context.Context) {
	hup := u.signals()
	if !u.inherit.ready() {
		u.notify("READY=1")
	}
	u.ownPaths()
	var upgrades sync.WaitGroup
	defer upgrades.Wait()
	for {
		select {
		case <-u.done():
			return
		case <-ctx.Done():
			u.notify("STOPPING=1")
			return
		case <-hup:
			upgrades.Go(func() {
				if err := u.Upgrade(ctx); err != nil {
					u.logger().Error("flare: the program was not replaced", slog.Any("error", err))
				}
			})
		}
	}
}

// signals has each SIGHUP from its first call on. For good: before the program is ready
// and while it drains, too, the signal would end it.
func (u *Upgrader) signals() chan os.Signal {
	u.hear.Do(func() {
		u.hup = make(chan os.Signal, 1)
		signal.Notify(u.hup, syscall.SIGHUP)
	})
	return u.hup
}

func (u *Upgrader) logger() *slog.Logger {
	if u.Logger != nil {
		return u.Logger
	}
	return slog.Default()
}

// Upgrade starts the new program and waits until it is ready; then Wait returns. With
// an error there is no new program, and this one serves on. There is one upgrade at a
// time. Any goroutine may call it.
func (u *Upgrader) Upgrade(ctx context.Context) error {
	if !u.upgrading.TryLock() {
		return errUpgrading
	}
	defer u.upgrading.Unlock()
	select {
	case <-u.done():
		return errReplaced
	default:
	}
	u.unlinkOnClose(false) // the paths are the new program's, if there will be one
	u.notify("RELOADING=1")
	pid, err := u.start(ctx)
	if err != nil {
		u.unlinkOnClose(true)
		u.notify("READY=1")
		return fmt.Errorf("flare: upgrade: %w", err)
	}
	// Said by the old one, which is the one that systemd believes (NotifyAccess=main).
	u.notify(fmt.Sprintf("MAINPID=%d", pid), "READY=1")
	close(u.done())
	return nil
}

// notify is SystemdNotify.
func (u *Upgrader) notify(states ...string) {
	if err := SystemdNotify(states...); err != nil {
		u.logger().Error("flare: systemd was not told", slog.Any("states", states), slog.Any("error", err))
	}
}

// ownPaths has the paths of Unix sockets from the program before go with this one.
func (u *Upgrader) ownPaths() {
	if !u.upgrading.TryLock() {
		return // the upgrade under way knows whose they will be
	}
	defer u.upgrading.Unlock()
	select {
	case <-u.done():
	default:
		u.unlinkOnClose(true)
	}
}

// unlinkOnClose says whether paths of Unix sockets go with their listeners.
func (u *Upgrader) unlinkOnClose(unlink bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, k := range u.kept {
		k.unlinkOnClose(unlink)
	}
}

// start starts the new program, and returns its number when it is ready.
func (u *Upgrader) start(ctx context.Context) (pid int, err error) {
	mine, theirs, err := socketPair()
	if err != nil {
		return 0, err
	}
	defer mine.Close()
	cmd := u.command()
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	cmd.Env = upgradeEnv(cmd.Environ(), firstExtraFile+len(cmd.ExtraFiles)-1)
	err = cmd.Start()
	theirs.Close() // the new program's end closes with it
	if err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // or the program would stay a zombie when it ends before this one
	if err = u.handOver(ctx, mine); err == nil {
		return cmd.Process.Pid, nil
	}
	return 0, errors.Join(err, endProcess(cmd.Process, ended))
}

// endProcess ends a program that was not ready, and returns how it ended.
func endProcess(p *os.Process, ended chan error) error {
	p.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-time.After(upgradeKill):
		p.Kill()
		return <-ended
	}
}

// handOver gives the new program the listeners, and waits until it is ready.
func (u *Upgrader) handOver(ctx context.Context, to *net.UnixConn) error {
	if limit := cmp.Or(u.ReadyTimeout, defaultReadyTimeout); limit > 0 {
		to.SetDeadline(time.Now().Add(limit))
	}
	stop := context.AfterFunc(ctx, func() { to.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	keys, fds, err := u.descriptors()
	if err == nil {
		text, _ := json.Marshal(keys)
		err = sendDescriptors(to, append(text, '\n'), fds)
	}
	for _, fd := range fds {
		closeFD(fd)
	}
	if err != nil {
		return err
	}
	said := make([]byte, len(upgradeReady))
	switch n, err := to.Read(said); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the new program did not become ready: %w", ErrTimeout)
	case err != nil || !bytes.Equal(said[:n], []byte(upgradeReady)):
		return errors.New("the new program ended before it was ready")
	}
	return nil
}

// descriptors returns duplicates of those of the listeners, but for those that were
// closed meanwhile.
func (u *Upgrader) descriptors() (keys []string, fds []int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, k := range u.kept {
		of, ok := k.Listener.(syscall.Conn)
		if !ok {
			continue
		}
		fd, err := dupSocket(of)
		switch {
		case errors.Is(err, net.ErrClosed):
		case err != nil:
			return keys, fds, err
		default:
			keys, fds = append(keys, k.key), append(fds, fd)
		}
	}
	if len(fds) > passedMax {
		err = fmt.Errorf("%d listeners, at most %d can be handed on", len(fds), passedMax)
	}
	return keys, fds, err
}

// command is that of the new program.
func (u *Upgrader) command() *exec.Cmd {
	if u.Command != nil {
		return u.Command()
	}
	// Not os.Executable, which looks through a link that was turned to a new version.
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

// upgradeEnv returns env with the descriptor in it, and without what is said to this
// process alone.
func upgradeEnv(env []string, fd int) []string {
	own := []string{upgradeVariable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"}
	env = slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(own, name)
	})
	return append(env, upgradeVariable+"="+strconv.Itoa(fd))
}
