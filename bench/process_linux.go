package main

// This file starts, pins and ends processes. Everything the harness starts is started here, so
// that everything is ended here. It knows nothing of HTTP or of what the processes do.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	readyTimeout = 5 * time.Second // from start to the first accepted connection
	stopTimeout  = 2 * time.Second // from SIGTERM to SIGKILL
)

// A process is a running child in a process group of its own.
type process struct {
	cmd    *exec.Cmd
	name   string
	stdout bytes.Buffer // whole only after done
	stderr bytes.Buffer
	done   chan struct{} // closed when the process has been waited for
}

// A fleet is the set of processes that are running. The zero value is empty.
type fleet struct {
	mu      sync.Mutex
	running map[*process]bool
}

// start runs argv on the given cores. The child dies with the harness, however that ends.
func (f *fleet) start(name string, argv, env []string, cores []int) (*process, error) {
	p := &process{name: name, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	// A group of its own: Ctrl-C at a terminal reaches only the harness, which then ends its
	// children in order, and their children too.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = stopTimeout
	if err := startOn(p.cmd, cores); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	f.mu.Lock()
	if f.running == nil {
		f.running = make(map[*process]bool)
	}
	f.running[p] = true
	f.mu.Unlock()
	go func() {
		p.cmd.Wait()
		f.mu.Lock()
		delete(f.running, p)
		f.mu.Unlock()
		close(p.done)
	}()
	return p, nil
}

// stop ends the process and its group and waits until the process is gone.
func (p *process) stop() {
	select {
	case <-p.done: // its number may be another process's by now
		return
	default:
	}
	group := -p.cmd.Process.Pid
	syscall.Kill(group, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
	}
	// The process itself if it would not go, or what it started and left behind. A group's number
	// is not given out again while it has members, and without any there is nobody to hit: numbers
	// come round only after thousands of other processes.
	syscall.Kill(group, syscall.SIGKILL)
	<-p.done
}

func (f *fleet) stopAll() {
	f.mu.Lock()
	var all []*process
	for p := range f.running {
		all = append(all, p)
	}
	f.mu.Unlock()
	for _, p := range all {
		p.stop()
	}
}

// wait returns when the process has ended of itself, or ends it when ctx does.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		p.stop()
		return ctx.Err()
	}
	if !p.cmd.ProcessState.Success() {
		return fmt.Errorf("%s: %s: %s", p.name, p.cmd.ProcessState, lastLines(p.stderr.String(), 3))
	}
	return nil
}

// waitReady returns once the process accepts connections on addr.
func (p *process) waitReady(ctx context.Context, addr string) error {
	deadline := time.Now().Add(readyTimeout)
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not serving on %s after %s: %s", p.name, addr, readyTimeout, lastLines(p.stderr.String(), 3))
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s: ended before it served: %s", p.name, lastLines(p.stderr.String(), 3))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " / ")
}

// freeAddr finds a loopback port nobody listens on just now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// ---- affinity ----

// cpuSet is the kernel's cpu_set_t, 1024 cores.
type cpuSet [16]uint64

func setAffinity(tid int, cores []int) error {
	var set cpuSet
	for _, c := range cores {
		if c < 0 || c >= len(set)*64 {
			return fmt.Errorf("no core %d", c)
		}
		set[c/64] |= 1 << (c % 64)
	}
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(tid), unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	if errno != 0 {
		return fmt.Errorf("pinning to cores %v: %w", cores, errno)
	}
	return nil
}

func affinity(tid int) (set cpuSet, err error) {
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, uintptr(tid), unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	if errno != 0 {
		return set, errno
	}
	return set, nil
}

// startOn starts cmd pinned: a child inherits the affinity of the thread that forks it, so there
// is no moment at which it runs elsewhere, and no wrapper whose pid is not the server's.
func startOn(cmd *exec.Cmd, cores []int) error {
	if cores == nil {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := affinity(0)
	if err != nil {
		return err
	}
	if err := setAffinity(0, cores); err != nil {
		return err
	}
	startErr := cmd.Start()
	_, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(own), uintptr(unsafe.Pointer(&own)))
	if errno != 0 {
		return errors.Join(startErr, errno)
	}
	return startErr
}

// pinSelf keeps every thread of the harness off the server's core.
func pinSelf(cores []int) error {
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(filepath.Base(t))
		if err != nil {
			return err
		}
		if err := setAffinity(tid, cores); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// processCPU is the CPU time of all threads of pid, living and dead, exact to the nanosecond:
// CPUCLOCK_SCHED of that process (include/linux/posix-timers.h).
func processCPU(pid int) time.Duration {
	var t syscall.Timespec
	clock := int32(^uint32(pid)<<3 | 2)
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		return 0
	}
	return time.Duration(t.Nano())
}
