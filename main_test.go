package flare

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain runs the tests and then looks at what they left behind: a goroutine
// of the package that goes on, or a file descriptor that nobody closed, fails
// the run even if every test passed.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // fuzzing has processes and shared memory of its own
	}
	useNetpoller()
	before := openDescriptors()
	code := m.Run()
	if code == 0 {
		code = reportLeaks(before)
	}
	os.Exit(code)
}

// leakPatience is how long goroutines have to end after the last test. Ends
// take a few ticks of the monitor; the bound is for a loaded machine.
const leakPatience = 10 * time.Second

// reportLeaks returns the exit code for what is left after the tests.
func reportLeaks(before map[string]string) int {
	http.DefaultClient.CloseIdleConnections()
	var stacks []string
	var lost map[string]string
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for start := time.Now(); time.Since(start) < leakPatience; <-look.C {
		stacks = packageGoroutines()
		lost = lostDescriptors(before, openDescriptors())
		if len(stacks) == 0 && len(lost) == 0 {
			return 0
		}
	}
	for _, stack := range stacks {
		fmt.Printf("goroutine left after the tests:\n%s\n\n", stack)
	}
	for fd, what := range lost {
		fmt.Printf("descriptor left after the tests: %s is %s\n", fd, what)
	}
	return 1
}

// packagePrefix is how the names of the package's functions begin in a stack.
var packagePrefix = reflect.TypeFor[Server]().PkgPath() + "."

// packageGoroutines returns the stacks of the goroutines that run, or were
// started by, this package, save the caller's.
func packageGoroutines() []string {
	buf := make([]byte, 1<<20)
	for n := runtime.Stack(buf, true); ; n = runtime.Stack(buf, true) {
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var found []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i == 0 {
			continue // this goroutine comes first
		}
		for line := range strings.Lines(stack) {
			if strings.HasPrefix(strings.TrimPrefix(line, "created by "), packagePrefix) {
				found = append(found, stack)
				break
			}
		}
	}
	return found
}

// useNetpoller makes the runtime open the descriptors of its own netpoller,
// which it keeps, so that they are there before the first count.
func useNetpoller() {
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
}

// openDescriptors returns the open descriptors and what each is. It is empty
// where the system has no /proc.
func openDescriptors() map[string]string {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	open := make(map[string]string)
	for _, e := range entries {
		// The descriptor of the listing itself is closed by now.
		if what, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open[e.Name()] = what
		}
	}
	return open
}

// lostDescriptors returns what is in after and was not in before. A number may
// have changed hands meanwhile; what it stands for tells.
func lostDescriptors(before, after map[string]string) map[string]string {
	lost := make(map[string]string)
	for fd, what := range after {
		if before[fd] != what {
			lost[fd] = what
		}
	}
	return lost
}

// The checks of TestMain find what they are there to find.
func TestLeaksAreFound(t *testing.T) {
	before, quit, ended := openDescriptors(), make(chan struct{}), make(chan struct{})
	if len(before) == 0 {
		t.Skip("no /proc/self/fd on this system")
	}
	go func() {
		defer close(ended)
		<-quit
	}()
	if found := strings.Join(packageGoroutines(), "\n"); !strings.Contains(found, "created by "+packagePrefix+"TestLeaksAreFound") {
		t.Errorf("a goroutine that this test started is not among those found:\n%s", found)
	}
	close(quit)
	<-ended
	fd, err := openSocket(syscall.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	if lost := lostDescriptors(before, openDescriptors()); !strings.HasPrefix(lost[fmt.Sprint(fd)], "socket:") {
		t.Errorf("socket %d is not among the descriptors found: %v", fd, lost)
	}
	closeFD(fd)
	if lost := lostDescriptors(before, openDescriptors()); lost[fmt.Sprint(fd)] != "" {
		t.Errorf("socket %d is found after its close", fd)
	}
}
