//go:build linux

package main

// This file is the workload transfer: long bodies in both directions, as fast as they go and at a
// fixed rate. What arrives has to be what was sent, and the most that the process ever had in
// memory may not grow by more than buffers: nothing is kept of a body.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	transferGrowthMax = 4 << 20 // bytes of VmHWM
	transferFast      = 1 << 30
	transferThrottled = 64 << 20
	transferRate      = 8_000_000 // bytes a second
	transferPiece     = 64 << 10
	transferPatience  = 2 * time.Minute
)

// A transfer is one body in one direction.
type transfer struct {
	kind    string
	upload  bool
	chunked bool
	size    int64
	rate    int64 // bytes a second, 0: as fast as it goes
}

var transfers = []transfer{
	{kind: "upload", upload: true, size: transferFast},
	{kind: "upload, chunked", upload: true, chunked: true, size: transferFast},
	{kind: "download", size: transferFast},
	{kind: "upload, 8 MB/s", upload: true, size: transferThrottled, rate: transferRate},
	{kind: "download, 8 MB/s", size: transferThrottled, rate: transferRate},
}

// transferPattern is what /bytes sends, over and over.
var transferPattern = bytes.Repeat([]byte("0123456789abcdef"), transferPiece/16)

// A pacer spreads n bytes over the time they have to take.
type pacer struct {
	rate  int64
	began time.Time
	moved int64
}

func (p *pacer) wait(n int) {
	if p.rate == 0 {
		return
	}
	p.moved += int64(n)
	time.Sleep(time.Until(p.began.Add(time.Duration(float64(p.moved) / float64(p.rate) * 1e9))))
}

// pacedBody is a body of size bytes, of which sum sees all.
type pacedBody struct {
	pacer
	left int64
	sum  hash.Hash
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), b.left)], transferPattern)
	b.left -= int64(n)
	b.sum.Write(p[:n])
	b.wait(n)
	return n, nil
}

// run makes the transfer on a connection of its own and checks the sum.
func (t *transfer) run(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(transferPatience))
	sum := sha256.New()
	pace := pacer{rate: t.rate, began: time.Now()}
	if !t.upload {
		return t.download(c, pace, sum)
	}
	body := &pacedBody{pacer: pace, left: t.size, sum: sum}
	w := bufio.NewWriterSize(c, transferPiece)
	req, err := http.NewRequest("POST", "http://"+addr+"/upload", io.MultiReader(body)) // of no known type
	if err != nil {
		return err
	}
	if req.ContentLength = t.size; t.chunked {
		req.ContentLength = -1
	}
	if err := req.Write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		return err
	}
	var got struct {
		Bytes  int64
		SHA256 string
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		return fmt.Errorf("status %d: %w", resp.StatusCode, err)
	}
	if want := hex.EncodeToString(sum.Sum(nil)); got.Bytes != t.size || got.SHA256 != want {
		return fmt.Errorf("%d bytes with sum %s arrived of %d with %s", got.Bytes, got.SHA256, t.size, want)
	}
	return nil
}

func (t *transfer) download(c net.Conn, pace pacer, sum hash.Hash) error {
	if _, err := fmt.Fprintf(c, "GET /bytes?n=%d HTTP/1.1\r\nHost: %s\r\n\r\n", t.size, c.RemoteAddr()); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, transferPiece), nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != 200 || resp.ContentLength != t.size {
		return fmt.Errorf("status %d, Content-Length %d", resp.StatusCode, resp.ContentLength)
	}
	piece := make([]byte, transferPiece)
	for {
		n, err := resp.Body.Read(piece)
		sum.Write(piece[:n])
		pace.wait(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	want := sha256.New()
	for left := t.size; left > 0; left -= transferPiece {
		want.Write(transferPattern[:min(left, transferPiece)])
	}
	if !bytes.Equal(sum.Sum(nil), want.Sum(nil)) {
		return errors.New("what arrived is not what was asked for")
	}
	return nil
}

// measureTransfer runs one transfer against a fresh process.
func (b *bencher) measureTransfer(ctx context.Context, t *target, kind *transfer) (*boundRow, error) {
	p, addr, err := b.serve(ctx, t, "-max-body", "-1")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if _, err := ask(addr, "/plaintext", 1); err != nil {
		return nil, err
	}
	r := &boundRow{Workload: "transfer", Target: t.name, Kind: kind.kind}
	return r, r.measureGrowth(p.cmd.Process.Pid, kind.size, transferGrowthMax, func() error { return kind.run(addr) })
}

// measureGrowth has run move so many bytes through a process, and judges by how much the most that it
// ever had in memory has grown.
func (r *boundRow) measureGrowth(pid int, bytes, most int64, run func() error) error {
	before, err := statusBytes(pid, "VmHWM")
	if err != nil {
		return err
	}
	began, cpu := time.Now(), processCPU(pid)
	if err := run(); err != nil {
		r.miss("%v", err)
	}
	took := time.Since(began)
	cpu = processCPU(pid) - cpu
	after, err := statusBytes(pid, "VmHWM")
	if err != nil {
		return err
	}
	r.Figures = map[string]float64{
		"bytes": float64(bytes), "seconds": took.Seconds(), "cpu_seconds": cpu.Seconds(),
		"peak_bytes_before": float64(before), "peak_bytes_growth": float64(after - before),
	}
	if after-before >= most {
		r.miss("the peak of memory grew by %d KiB, by less than %d it has to", (after-before)>>10, most>>10)
	}
	return nil
}

func (b *bencher) runTransfer(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	return transferRows(ctx, "transfer", transferGrowthMax, flareOnly(targets), transfers, b.measureTransfer, out, log)
}

// transferRows measures each kind, and prints the table.
func transferRows[K any](ctx context.Context, workload string, most int64, targets []*target, kinds []K,
	measure func(context.Context, *target, *K) (*boundRow, error), out, log io.Writer) ([]*boundRow, error) {
	var rows []*boundRow
	for _, t := range targets {
		for i := range kinds {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			r, err := measure(ctx, t, &kinds[i])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", workload, err)
			}
			rows = append(rows, r)
			fmt.Fprintf(log, "%s: %s\n", workload, r.Kind)
		}
	}
	fmt.Fprintf(out, "\n%s: flare, a fresh process each; the growth of the peak of resident memory is to stay under %d KiB\n", workload, most>>10)
	writeAligned(out, transferTable(rows))
	return rows, nil
}

func transferTable(rows []*boundRow) [][]string {
	table := [][]string{{"", "MiB", "seconds", "MB/s", "cpu s", "peak KiB before", "growth", ""}}
	for _, r := range rows {
		f := r.Figures
		table = append(table, []string{r.Kind, count(f["bytes"] / (1 << 20)), fmt.Sprintf("%.2f", f["seconds"]), count(f["bytes"] / f["seconds"] / 1e6),
			fmt.Sprintf("%.2f", f["cpu_seconds"]), kib(f["peak_bytes_before"]), kib(f["peak_bytes_growth"]), r.verdict()})
	}
	return table
}
