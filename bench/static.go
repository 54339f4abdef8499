//go:build linux

package main

// This file is the workload static: files of 3 to 300 KB with compressed siblings, asked for by
// clients that accept gzip, over connections that stay. It has servers of its own, which are looked
// at in turn; what they cost is user and system time of their process for a request.

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	staticFiles       = 20
	staticBytesMin    = 3_000
	staticBytesMax    = 300_000
	staticConnections = 64
	staticPatience    = 30 * time.Second
)

// staticNginx has it serve the .gz files beside those that are asked for.
const staticNginx = `sendfile on;
	tcp_nopush on;
	open_file_cache max=1000;
	gzip_static on;
	types { text/javascript js; }`

// A staticFile is a file that is asked for.
type staticFile struct {
	request []byte
	content []byte
}

// makeStaticFiles writes the files: text that compresses about as scripts do, in sizes that grow by
// the same factor, and a sibling of each.
func makeStaticFiles(dir string) ([]staticFile, error) {
	random := rand.New(rand.NewPCG(1, 2))
	factor := math.Pow(float64(staticBytesMax)/staticBytesMin, 1.0/(staticFiles-1))
	size := float64(staticBytesMin)
	var all []staticFile
	for i := range staticFiles {
		var content bytes.Buffer
		for content.Len() < int(size) {
			fmt.Fprintf(&content, "const name%x = call(%d); ", random.Uint32(), random.IntN(100))
		}
		content.Truncate(int(size))
		size *= factor
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return nil, err
		}
		z.Write(content.Bytes())
		z.Close()
		name := fmt.Sprintf("file%d.js", i)
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, content.Bytes(), 0o644), os.WriteFile(file+".gz", packed.Bytes(), 0o644)); err != nil {
			return nil, err
		}
		request := fmt.Appendf(nil, "GET /%s HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: gzip\r\n\r\n", name)
		all = append(all, staticFile{request, content.Bytes()})
	}
	return all, nil
}

// check asks for every file and compares what comes.
func checkStatic(addr string, files []staticFile) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(staticPatience))
	br := bufio.NewReader(c)
	for i, f := range files {
		if _, err := c.Write(f.request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			return err
		}
		body := io.Reader(resp.Body)
		if resp.Header.Get("Content-Encoding") == "gzip" {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				return err
			}
		}
		got, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 200 || resp.ContentLength < 0 || !bytes.Equal(got, f.content) {
			return fmt.Errorf("file %d: status %d, Content-Length %d, %d bytes that are not the file's", i, resp.StatusCode, resp.ContentLength, len(got))
		}
	}
	return nil
}

// loadStatic asks for one file after the other on each connection until the context ends, and
// returns how many answers there were since counting was set.
func loadStatic(ctx context.Context, addr string, files []staticFile, counting *atomic.Bool) (int64, error) {
	var answers atomic.Int64
	var all sync.WaitGroup
	failed := make(chan error, staticConnections)
	for k := range staticConnections {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return 0, err
		}
		stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })
		all.Go(func() {
			defer c.Close()
			defer stop()
			br := bufio.NewReaderSize(c, 64<<10)
			for i := k; ; i++ {
				err := askStatic(c, br, files[i%len(files)].request)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					failed <- err
					return
				}
				if counting.Load() {
					answers.Add(1)
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return 0, err
	default:
		return answers.Load(), nil
	}
}

var contentLength = []byte("content-length:")

// askStatic makes one request and reads over the answer, of which checkStatic has seen all.
func askStatic(c net.Conn, br *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	for length, first := -1, true; ; first = false {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")):
			return fmt.Errorf("answered %q", line)
		case len(bytes.TrimSpace(line)) == 0:
			if length < 0 {
				return errors.New("an answer without Content-Length")
			}
			_, err := br.Discard(length)
			return err
		case len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return err
			}
		}
	}
}

// staticTargets are the servers, by a name and a command line.
func (b *bencher) staticTargets(dir string) ([]*target, error) {
	build := &builder{root: "..", dir: b.dir}
	program, _, err := build.buildGo(".", "./targets/static", "static")
	if err != nil {
		return nil, err
	}
	var list []*target
	for _, name := range []string{"flare", "fasthttp", "nethttp"} {
		list = append(list, &target{name: name, command: func(s start) ([]string, error) {
			return []string{program, "-addr", s.addr, "-dir", dir, "-server", name, "-loops", fmt.Sprint(s.procs)}, nil
		}})
	}
	nginx, _, err := build.findNginx()
	if err == nil {
		list = append(list, &target{name: nameNginx, command: func(s start) ([]string, error) {
			s.program = nginx
			return s.nginx(staticNginx, "", "root "+dir+";")
		}})
	}
	return list, nil
}

// measureStatic runs one window against a fresh process.
func (b *bencher) measureStatic(ctx context.Context, t *target, files []staticFile) (cpu time.Duration, answers int64, err error) {
	p, addr, err := b.serve(ctx, t)
	if err != nil {
		return 0, 0, err
	}
	defer p.stop()
	if err := checkStatic(addr, files); err != nil {
		return 0, 0, err
	}
	pid := p.cmd.Process.Pid
	window, end := context.WithCancel(ctx)
	defer end()
	var counting atomic.Bool
	var before, after time.Duration
	warm := time.AfterFunc(seconds(b.options.warmup), func() {
		before = processCPU(pid)
		counting.Store(true)
	})
	defer warm.Stop()
	over := time.AfterFunc(seconds(b.options.warmup+b.options.seconds), func() {
		after = processCPU(pid)
		counting.Store(false)
		end()
	})
	defer over.Stop()
	answers, err = loadStatic(window, addr, files, &counting)
	if err == nil && answers == 0 {
		err = errors.New("no answers")
	}
	return after - before, answers, err
}

func (b *bencher) runStatic(ctx context.Context, _ []*target, out, log io.Writer) ([]*boundRow, error) {
	dir := filepath.Join(b.dir, "static-files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	files, err := makeStaticFiles(dir)
	if err != nil {
		return nil, err
	}
	targets, err := b.staticTargets(dir)
	if err != nil {
		return nil, err
	}
	costs, rates := make(map[string][]float64), make(map[string][]float64)
	for round := range b.options.rounds {
		for _, t := range targets {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			cpu, answers, err := b.measureStatic(ctx, t, files)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			costs[t.name] = append(costs[t.name], float64(cpu.Nanoseconds())/float64(answers))
			rates[t.name] = append(rates[t.name], float64(answers)/b.options.seconds)
		}
		fmt.Fprintf(log, "static: round %d of %d\n", round+1, b.options.rounds)
	}
	fmt.Fprintf(out, "\nstatic: %d files of %d to %d bytes with .gz siblings, %d connections, Accept-Encoding: gzip; a fresh process each\n",
		staticFiles, staticBytesMin, staticBytesMax, staticConnections)
	return staticRows(targets, costs, rates, out), nil
}

// staticRows prints the least cost of each server, and holds flare to nginx's.
func staticRows(targets []*target, costs, rates map[string][]float64, out io.Writer) (rows []*boundRow) {
	table := [][]string{{"", "CPU us a request", "median", "requests/s", ""}}
	for _, t := range targets {
		sorted := slices.Sorted(slices.Values(costs[t.name]))
		least, median := sorted[0], sorted[len(sorted)/2]
		r := &boundRow{Workload: "static", Target: t.name, Figures: map[string]float64{
			"cpu_ns_least": least, "cpu_ns_median": median, "requests_per_second": slices.Max(rates[t.name])}}
		if nginx := costs[nameNginx]; t.name == nameFlare && len(nginx) > 0 && least > slices.Min(nginx) {
			r.miss("%.1f us of CPU for a request, and nginx has %.1f", least/1e3, slices.Min(nginx)/1e3)
		}
		table = append(table, []string{t.name, fmt.Sprintf("%.1f", least/1e3), fmt.Sprintf("%.1f", median/1e3), count(slices.Max(rates[t.name])), r.verdict()})
		rows = append(rows, r)
	}
	writeAligned(out, table)
	return rows
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
