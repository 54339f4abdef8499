// Resp compares examples/resp with redis-server: the CPU time that each takes
// for a command of redis-benchmark, pipelined 16 deep on 64 connections.
//
//	cd bench && go run ./resp
//
// The server has processor 0, redis-benchmark processor 1. Rounds of the two
// alternate, and the median is told. It needs Linux, two processors that nobody
// else uses, and the packages redis-server and redis-tools.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "resp:", err)
		os.Exit(1)
	}
}

// targetMost is how much CPU examples/resp may take for each unit of
// redis-server's.
const targetMost = 1.2

func run() error {
	requests := flag.Int("n", 1_000_000, "commands of a round")
	rounds := flag.Int("rounds", 3, "rounds of each server and command")
	tests := flag.String("t", "ping_mbulk,set,get,incr", "commands, as redis-benchmark has them")
	flag.Parse()
	for _, program := range []string{"redis-server", "redis-benchmark", "taskset"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "resp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "resp")
	if out, err := exec.Command("go", "build", "-C", "..", "-o", binary, "./examples/resp").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	redis, err := start(dir, "redis-server", "--port", "PORT", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1")
	if err != nil {
		return err
	}
	defer redis.stop()
	resp, err := start(dir, binary, "-addr", "127.0.0.1:PORT")
	if err != nil {
		return err
	}
	defer resp.stop()

	fmt.Printf("%-12s %14s %14s %8s\n", "command", "redis-server", "examples/resp", "ratio")
	missed := false
	for test := range strings.SplitSeq(*tests, ",") {
		var costs [2][]float64
		for range *rounds {
			for i, s := range []*server{redis, resp} {
				cost, err := s.measure(test, *requests)
				if err != nil {
					return err
				}
				costs[i] = append(costs[i], cost)
			}
		}
		a, b := median(costs[0]), median(costs[1])
		fmt.Printf("%-12s %11.3f µs %11.3f µs %8.2f\n", test, a, b, b/a)
		missed = missed || b > targetMost*a
	}
	if missed {
		return fmt.Errorf("a command takes more than %.1f of redis-server's CPU time", targetMost)
	}
	return nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// A server is one of the two, running.
type server struct {
	cmd  *exec.Cmd
	port string
}

// start runs a server on processor 0, with a free port in place of PORT, and
// waits until it answers.
func start(dir, program string, args ...string) (*server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ln.Close()
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "PORT", port)
	}
	s := &server{exec.Command("taskset", append([]string{"-c", "0", program}, args...)...), port}
	s.cmd.Dir, s.cmd.Stderr = dir, os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if s.answers() {
			return s, nil
		}
	}
	s.stop()
	return nil, fmt.Errorf("%s does not answer", filepath.Base(program))
}

func (s *server) answers() bool {
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(conn, "PING\r\n")
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && line == "+PONG\r\n"
}

func (s *server) stop() {
	s.cmd.Process.Signal(os.Interrupt)
	s.cmd.Wait()
}

// measure returns the CPU time of a command in microseconds.
func (s *server) measure(test string, requests int) (float64, error) {
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	load := exec.Command("taskset", "-c", "1", "redis-benchmark", "-p", s.port, "-P", "16", "-c", "64",
		"-n", strconv.Itoa(requests), "-t", test, "-q")
	if out, err := load.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out)
	}
	after, err := s.cpu()
	return float64(after-before) / float64(time.Microsecond) / float64(requests), err
}

// cpu returns the CPU time of the server so far; in steps of 10 ms, of which a
// round has some hundred.
func (s *server) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(text), ") ") // behind the name
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, errors.New("/proc/PID/stat has another form")
	}
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
