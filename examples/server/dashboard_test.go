package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"flare"
)

// A bucket begins where the one before it ends, and is an eighth wide at most.
func TestHistogramBuckets(t *testing.T) {
	for i := range 400 {
		first := bucketEnd(i)
		if bucketOf(first-1) != i || bucketOf(first) != i+1 {
			t.Fatalf("bucket %d ends at %d, which is in %d, and the one before in %d", i, first, bucketOf(first), bucketOf(first-1))
		}
		if i >= 8 && float64(bucketEnd(i+1)-first) > float64(first)/8 {
			t.Fatalf("bucket %d has %d to %d", i+1, first, bucketEnd(i+1))
		}
	}
	if bucketOf(-1) != 0 || bucketOf(1<<63-1) >= len(histogram{}) {
		t.Error("a duration without a bucket")
	}
	var h histogram
	if n, p50, p99 := h.take(); n != 0 || p50 != 0 || p99 != 0 {
		t.Errorf("of nothing: %d, %v, %v", n, p50, p99)
	}
	for range 98 {
		h.add(time.Millisecond)
	}
	h.add(time.Second)
	h.add(time.Second)
	n, p50, p99 := h.take()
	if n != 100 || p50 < time.Millisecond || p50 > 1125*time.Microsecond || p99 < time.Second || p99 > 1125*time.Millisecond {
		t.Errorf("%d, %v, %v", n, p50, p99)
	}
	if n, _, _ := h.take(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// The socket has figures at once and then twice a second, and sends back what it is
// sent meanwhile; the page says by which version it came.
func TestDashboardSocket(t *testing.T) {
	t.Parallel()
	p := start(t)
	_, page := p.ask("GET", "/", nil)
	for _, want := range []string{"<strong>HTTP/1.1</strong>", `href="/static/page.css"`, `src="/static/page.js"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	resp, _ := p.ask("GET", "/", nil)
	if policy := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") {
		t.Errorf("policy %q", policy)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, _, err := flare.DialWebSocket(ctx, "ws://"+p.addr+"/ws/stats", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close(flare.CloseNormal, "")
	if err := ws.WriteText(ctx, "12.5"); err != nil {
		t.Fatal(err)
	}
	p.ask("GET", "/slow?ms=20", nil)
	last, answered := -1.0, false
	for slow := false; !slow || !answered; {
		_, text, err := ws.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if string(text) == "12.5" {
			answered = true
			continue
		}
		var s snapshot
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		if s.UptimeMs <= last || s.Goroutines == 0 || s.MemBytes < s.HeapBytes || s.HeapBytes == 0 || s.Stats.Connections.Switched > 1 {
			t.Errorf("figures %s after %v ms", text, last)
		}
		last, slow = s.UptimeMs, slow || s.Ended > 0 && s.P99Ms >= 20 && s.P99Ms < 20_000
	}
	if err := ws.WriteText(ctx, strings.Repeat("x", pingBytesMax+1)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, _, err = ws.Read(ctx)
	}
	if !strings.Contains(err.Error(), "1009") {
		t.Errorf("after a message that is too long: %v", err)
	}
}
