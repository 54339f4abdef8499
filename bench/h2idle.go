//go:build linux

package main

// This file is the workload idle-h2: what a connection of HTTP/2 costs that waits, after a request
// with few fields, and after some of a browser's, which fill the table that fields are remembered
// in; and what a stream costs that waits for its body.

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	http2IdleMax        = 1536 // bytes of RSS for a connection, after h2load's head
	http2IdleBrowserMax = 6144 // after a browser's
	http2IdleStreamMax  = 1024 // for a stream that waits

	http2IdleStreams  = 100 // on each of so many connections
	http2BrowserAsks  = 6
	http2BrowserBytes = 700 // of what each of a browser's heads has new
)

// A http2Idle is a kind of idleness: what was asked on a connection, and how many streams stay open.
type http2Idle struct {
	kind    string
	most    float64
	asks    int
	fields  func(i int) [][2]string
	waiting int // streams that stay open on each connection, 0: none, and connections count
}

func h2loadHead(int) [][2]string {
	return [][2]string{{":path", "/plaintext"}, {":scheme", "http"}, {":authority", "127.0.0.1:8080"}, {":method", "GET"},
		{"user-agent", "h2load nghttp2/1.52.0"}}
}

// browserHead is one of Chromium's, with a cookie and a referer that change.
func browserHead(i int) [][2]string {
	return [][2]string{{":method", "GET"}, {":authority", "127.0.0.1:8080"}, {":scheme", "http"}, {":path", "/plaintext"},
		{"sec-ch-ua", `"Chromium";v="142", "Not_A Brand";v="99"`}, {"sec-ch-ua-mobile", "?0"}, {"sec-ch-ua-platform", `"Linux"`},
		{"upgrade-insecure-requests", "1"},
		{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"},
		{"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"},
		{"sec-fetch-site", "none"}, {"sec-fetch-mode", "navigate"}, {"sec-fetch-user", "?1"}, {"sec-fetch-dest", "document"},
		{"referer", fmt.Sprintf("http://127.0.0.1:8080/pages/%d", i)},
		{"accept-encoding", "gzip, deflate, br, zstd"}, {"accept-language", "en-US,en;q=0.9"},
		{"cookie", fmt.Sprintf("session=%d%s", i, strings.Repeat("x", http2BrowserBytes))}, {"priority", "u=0, i"},
	}
}

func uploadHead(int) [][2]string {
	return [][2]string{{":path", "/upload"}, {":scheme", "http"}, {":authority", "127.0.0.1:8080"}, {":method", "POST"},
		{"user-agent", "h2load nghttp2/1.52.0"}, {"content-length", "10"}}
}

var http2Idles = []http2Idle{
	{"h2load's head", http2IdleMax, 1, h2loadHead, 0},
	{"a browser's heads", http2IdleBrowserMax, http2BrowserAsks, browserHead, 0},
	{"open streams", http2IdleStreamMax, 1, h2loadHead, http2IdleStreams},
}

// open makes one connection idle in that way.
func (k *http2Idle) open(addr string, deadline time.Time) (*h2conn, error) {
	c, err := dialHTTP2(addr, deadline, 65535)
	if err != nil {
		return nil, err
	}
	for i := range k.asks {
		id, err := c.ask(true, k.fields(i)...)
		if err == nil {
			err = c.answer(id)
		}
		if err != nil {
			c.Close()
			return nil, err
		}
	}
	for range k.waiting {
		if _, err := c.ask(false, uploadHead(0)...); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// measureHTTP2Idle is one round of one target. Every connection is asked once more in the end.
func (b *bencher) measureHTTP2Idle(ctx context.Context, t *target, k *http2Idle) (bytesEach float64, err error) {
	p, addr, err := b.serveHTTP2(ctx, t, nil)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	empty, err := settledBytes(ctx, p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	n, conns := b.options.idleConns, b.options.idleConns
	if k.waiting > 0 {
		conns = max(n/k.waiting, 1)
		n = conns * k.waiting
	}
	list := make([]*h2conn, conns)
	defer func() {
		for _, c := range list {
			if c != nil {
				c.Close()
			}
		}
	}()
	deadline := time.Now().Add(4 * idlePatience)
	if err = each(conns, func(i int) (err error) { list[i], err = k.open(addr, deadline); return err }); err != nil {
		return 0, err
	}
	full, err := settledBytes(ctx, p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	err = each(conns, func(i int) error {
		id, err := list[i].ask(true, k.fields(k.asks)...)
		if err == nil {
			err = list[i].answer(id)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("an idle connection was lost: %w", err)
	}
	return float64(full-empty) / float64(n), nil
}

func (b *bencher) runHTTP2Idle(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	fmt.Fprintf(out, "\nidle-h2: %d connections without TLS, or streams of %d connections\n", b.options.idleConns, max(b.options.idleConns/http2IdleStreams, 1))
	table := [][]string{{"", "after", "bytes each", ""}}
	var all []*boundRow
	for i := range http2Idles {
		k := &http2Idles[i]
		names := []string{nameFlare, nameNetHTTP}
		if k.waiting > 0 { // the other has no route for it
			names = names[:1]
		}
		rows, err := b.wsRounds("idle-h2", http2Targets(targets, names...), log, func(t *target) (map[string]float64, error) {
			each, err := b.measureHTTP2Idle(ctx, t, k)
			return map[string]float64{"rss_bytes_each": each}, err
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.kind, err)
		}
		for _, r := range rows {
			r.Kind = k.kind
			verdict := ""
			if r.Target == nameFlare {
				if each := r.Figures["rss_bytes_each"]; each > k.most {
					r.miss("%.0f bytes each, at most %.0f", each, k.most)
				}
				verdict = r.verdict()
			}
			table = append(table, []string{r.Target, k.kind, count(r.Figures["rss_bytes_each"]), verdict})
		}
		all = append(all, rows...)
	}
	writeAligned(out, table)
	return all, nil
}
