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
	"strconv"
	"strings"
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
	switch name := os.Getenv("FLARE_TEST_POLLER"); name {
	case "", "system":
	case "poll":
		defaultPoller = NewPollPoller
	default:
		fmt.Printf("FLARE_TEST_POLLER: there is no poller %q\n", name)
		os.Exit(2)
	}
	if onPlain() { // as on a system without a poller
		loopPoller = func() (Poller, error) { return newWakePoller(), nil }
	}
	if program := testPrograms[os.Getenv(testProgram)]; program != nil {
		os.Exit(program())
	}
	runMoreBeside()
	settleDescriptors()
	before := openDescriptors()
	code := m.Run()
	if code == 0 {
		code = reportLeaks(before)
	}
	os.Exit(code)
}

// testProgram is the variable that makes the binary of the tests one of the programs
// that tests start.
const testProgram = "FLARE_TEST_PROGRAM"

// testPrograms are those programs, by name.
var testPrograms = make(map[string]func() int)

// besideMax is how many of the tests that call Parallel run at the same time.
// They wait far more than they compute, so it is not a matter of processors.
const besideMax = 32

// runMoreBeside sets besideMax unless -parallel was given.
func runMoreBeside() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", strconv.Itoa(besideMax))
	}
}

// reportLeaks returns the exit code for what is left after the tests.
func reportLeaks(before map[string]int) int {
	http.DefaultClient.CloseIdleConnections()
	var stacks []string
	var lost []string
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for start := time.Now(); time.Since(start) < patience; <-look.C {
		stacks = packageGoroutines()
		settleDescriptors()
		lost = lostDescriptors(before, openDescriptors())
		if len(stacks) == 0 && len(lost) == 0 {
			return 0
		}
	}
	for _, stack := range stacks {
		fmt.Printf("goroutine left after the tests:\n%s\n\n", stack)
	}
	for _, what := range lost {
		fmt.Printf("descriptor left after the tests: %s\n", what)
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

// settleDescriptors makes what closes late or opens once do so before a count:
// the runtime opens its own netpoller on first use and keeps it, and the model
// of kqueue gives a closed queue's descriptors back when another is opened.
func settleDescriptors() {
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	if p, err := NewPoller(); err == nil {
		p.Close()
	}
}

// openDescriptors returns how many descriptors are open of each kind; sockets
// and pipes are a kind each. It is empty where the system has no /proc.
func openDescriptors() map[string]int {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	open := make(map[string]int)
	for _, e := range entries {
		// The descriptor of the listing itself is closed by now.
		if what, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open[what]++
		}
	}
	return open
}

// lostDescriptors returns what there is more of in after than in before.
func lostDescriptors(before, after map[string]int) []string {
	var lost []string
	for what, n := range after {
		if n > before[what] {
			lost = append(lost, fmt.Sprintf("%s (%d more)", what, n-before[what]))
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
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	pipe, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", r.Fd()))
	if err != nil {
		t.Error(err)
	}
	found := func() bool {
		return strings.Contains(strings.Join(lostDescriptors(before, openDescriptors()), "\n"), pipe+" (1 more)")
	}
	if !found() {
		t.Errorf("%s, which this test opened, is not found", pipe)
	}
	r.Close()
	if found() {
		t.Errorf("%s is found after its close", pipe)
	}
}
