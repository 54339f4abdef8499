// Command conformance runs the test suites of others against flare, and prints a table of what they
// say. Nothing of theirs is in this repository: what is on the module proxy is fetched from there,
// what Debian and npm have is used if it is installed, and for what can be had in no such way there
// is -folder. CONTRIBUTING.md has the table of a run.
//
//	go run .                                  # all but those that need a folder
//	go run . -suite h2spec,go-httpbin
//	go run . -suite Autobahn -folder ~/venv   # where bin/wstest is
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// A suite is one collection of tests.
type suite struct {
	name, from string
	folder     string // what -folder has to hold, "": it needs none
	run        func(r *runner) ([]row, error)
}

var suites = []suite{
	{"h2spec", "module proxy", "", (*runner).h2spec},
	{"go-httpbin", "module proxy", "", (*runner).httpbin},
	{"connect", "module proxy", "", (*runner).connect},
	{"connect-go, grpc-go", "module proxy", "", goTests("bench/bridge", "^Test(Connect|GRPC)")},
	{"curl, nghttp, h2load", "Debian", "", goTests(".", "^Test(HTTP2Clients|(Compress|Digest)WithCurl)$")},
	{"python3-h2", "Debian", "", goTests(".", "^TestHTTP2PythonPeer$")},
	{"python3-websockets", "Debian", "", goTests(".", "^TestPythonPeer$")},
	{"ws", "npm", "", goTests(".", "^TestNodePeer$")},
	{"Autobahn", "-folder", "bin/wstest", (*runner).autobahn},
	{"h1spec", "-folder", "http_test.ts", (*runner).h1spec},
	{"Http11Probe", "-folder", "src/Http11Probe.Cli", (*runner).probe},
}

// A row is what a suite says of one way to serve.
type row struct {
	name                    string
	passed, failed, skipped int
	why                     []string // of what failed, or was skipped
}

// A runner has what the suites need.
type runner struct {
	ctx    context.Context
	root   string // flare's root directory
	dir    string // for what is built
	folder string
	log    io.Writer
}

const runMax = 30 * time.Minute

func main() {
	names := flag.String("suite", "", "suites, separated by commas")
	folder := flag.String("folder", "", "where the suite lies, for one that cannot be fetched")
	root := flag.String("root", "..", "flare's root directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, runMax)
	defer cancel()
	failed, err := run(ctx, *names, *folder, *root, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(2)
	}
	if failed {
		os.Exit(1)
	}
}

// choose returns the suites of those names, without any all that need no folder.
func choose(names string) ([]suite, error) {
	if names == "" {
		return slices.DeleteFunc(slices.Clone(suites), func(s suite) bool { return s.folder != "" }), nil
	}
	var list []suite
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(suites, func(s suite) bool {
			return strings.EqualFold(s.name, name) || slices.Contains(strings.Split(s.name, ", "), name)
		})
		if i < 0 {
			var all []string
			for _, s := range suites {
				all = append(all, s.name)
			}
			return nil, fmt.Errorf("no suite %q; there are %s", name, strings.Join(all, "; "))
		}
		list = append(list, suites[i])
	}
	return list, nil
}

// run runs suites and prints the table. failed says whether any case was.
func run(ctx context.Context, names, folder, root string, out, log io.Writer) (failed bool, err error) {
	list, err := choose(names)
	if err != nil {
		return false, err
	}
	r := &runner{ctx: ctx, folder: folder, log: log}
	if r.root, err = filepath.Abs(root); err != nil {
		return false, err
	}
	if r.dir, err = os.MkdirTemp("", "conformance"); err != nil {
		return false, err
	}
	defer removeAll(r.dir)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "suite\tfrom\tcases\tpassed\tfailed\tskipped\t")
	var why []string
	for _, s := range list {
		fmt.Fprintln(log, s.name)
		rows, err := s.rows(r)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if err != nil {
			rows = []row{{failed: 1, why: []string{err.Error()}}}
		}
		for _, w := range rows {
			name := strings.TrimSuffix(s.name+": "+w.name, ": ")
			fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t\n", name, s.from, w.passed+w.failed+w.skipped, w.passed, w.failed, w.skipped)
			for _, text := range w.why {
				why = append(why, name+": "+text)
			}
			failed = failed || w.failed > 0
		}
	}
	table.Flush()
	for _, text := range why {
		fmt.Fprintln(out, text)
	}
	return failed, nil
}

// rows runs a suite, or says why it cannot be run here.
func (s *suite) rows(r *runner) ([]row, error) {
	if s.folder != "" {
		if _, err := os.Stat(filepath.Join(r.folder, s.folder)); r.folder == "" || err != nil {
			return skip("-folder has to name the folder with %s", s.folder), nil
		}
	}
	return s.run(r)
}

func skip(format string, args ...any) []row {
	return []row{{skipped: 1, why: []string{"skipped: " + fmt.Sprintf(format, args...)}}}
}

// removeAll removes folders that may not be written to, too: copies of the module cache.
func removeAll(dir string) {
	filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(name, 0o755)
		}
		return nil
	})
	os.RemoveAll(dir)
}
