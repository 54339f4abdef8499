package main

import (
	"context"
	"crypto/tls"
	"embed"
	"encoding/json"
	"html/template"
	"io/fs"
	"maps"
	"math/bits"
	"net/http"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"flare"
)

// The page at / shows how the server is while it serves: it has the figures over a
// WebSocket, twice a second, and measures on the same socket how soon it is answered.

//go:embed index.html
var pageText string

//go:embed static
var static embed.FS

// snapshotEvery is the pace of the figures.
const snapshotEvery = 500 * time.Millisecond

// pingBytesMax bounds what the page may have sent back.
const pingBytesMax = 64

// A dashboard tells all who look at the page how a server is. There is one goroutine
// while anybody looks, whatever their number.
type dashboard struct {
	server  *flare.Server
	began   time.Time
	latency histogram // of requests since the last snapshot

	mu       sync.Mutex
	viewers  map[*flare.WebSocket]bool // guarded by mu
	ticking  bool                      // guarded by mu
	snapshot []byte                    // guarded by mu; the last one
}

// A snapshot is what the page gets.
type snapshot struct {
	UptimeMs   float64     `json:"uptimeMs"`
	Stats      flare.Stats `json:"stats"`
	Ended      uint64      `json:"ended"` // requests since the last snapshot; the latencies are theirs
	P50Ms      float64     `json:"p50Ms"`
	P99Ms      float64     `json:"p99Ms"`
	MemBytes   uint64      `json:"memBytes"`  // that the process has from the system
	HeapBytes  uint64      `json:"heapBytes"` // of objects
	Goroutines uint64      `json:"goroutines"`
}

func newDashboard(s *flare.Server) *dashboard {
	d := &dashboard{server: s, began: time.Now(), viewers: make(map[*flare.WebSocket]bool)}
	s.AccessHook = d.ended
	return d
}

func (d *dashboard) routes(mux *flare.Mux) {
	page := template.Must(template.New("index.html").Parse(pageText))
	own := &flare.SecurityFields{ContentSecurityPolicy: "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'"}
	mux.Get("/{$}", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Render(http.StatusOK, page, "index.html", how(r))
	}, own.Wrap)
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // it is in the program
	}
	mux.Mount("/static", &flare.Files{FS: files})
	mux.Handle("/ws/stats", &flare.WebSocketHandler{
		// Who does not keep up misses old figures, not new ones.
		WebSocketOptions: flare.WebSocketOptions{QueuePolicy: flare.QueueDropOldest, MaxQueueBytes: 16 << 10, MaxMessageBytes: pingBytesMax},
		OnOpen:           d.enter,
		OnMessage: func(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
			return ws.Write(context.Background(), kind, p)
		},
		OnClose: func(ws *flare.WebSocket, code flare.CloseCode, reason string) {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.viewers, ws)
		},
	})
}

// how says by which version of HTTP, and of TLS, a page comes.
func how(r *flare.Request) (page struct{ HTTP, TLS string }) {
	if page.HTTP = r.Proto(); page.HTTP == "HTTP/2.0" {
		page.HTTP = "HTTP/2"
	}
	if state := r.TLS(); state != nil {
		page.TLS = tls.VersionName(state.Version)
	}
	return page
}

// ended is told of each request.
func (d *dashboard) ended(e flare.AccessEntry) {
	if e.Status != http.StatusSwitchingProtocols && !e.Refused {
		d.latency.add(e.Duration)
	}
}

func (d *dashboard) enter(ws *flare.WebSocket, r *flare.Request) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.viewers[ws] = true
	if !d.ticking {
		d.ticking = true
		d.take() // requests while nobody looked
		go d.tick()
	}
	return ws.Write(context.Background(), flare.TextMessage, d.snapshot)
}

// tick runs until nobody looks.
func (d *dashboard) tick() {
	for range time.Tick(snapshotEvery) {
		if !d.tell() {
			return
		}
	}
}

// tell sends the figures, and reports whether anybody was there.
func (d *dashboard) tell() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.take()
	m, _ := flare.NewPreparedMessage(flare.TextMessage, d.snapshot) // it is UTF-8
	flare.Broadcast(maps.Keys(d.viewers), m)                        // never waits
	d.ticking = len(d.viewers) > 0
	return d.ticking
}

// take makes a snapshot. d.mu is held.
func (d *dashboard) take() {
	s := snapshot{UptimeMs: ms(time.Since(d.began)), Stats: d.server.Stats()}
	var p50, p99 time.Duration
	s.Ended, p50, p99 = d.latency.take()
	s.P50Ms, s.P99Ms = ms(p50), ms(p99)
	of := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(of)
	s.MemBytes = of[0].Value.Uint64() - of[1].Value.Uint64()
	s.HeapBytes, s.Goroutines = of[2].Value.Uint64(), of[3].Value.Uint64()
	d.snapshot, _ = json.Marshal(s) // there is nothing in it that JSON has not
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// A histogram counts durations in buckets, eight to a power of two: what it tells is
// too long by an eighth at most. Any goroutine may use it.
type histogram [64 * 8]atomic.Uint64

func (h *histogram) add(d time.Duration) { h[bucketOf(d)].Add(1) }

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 8))
	shift := bits.Len64(n) - 4 // which leaves 8 to 15
	return shift*8 + int(n>>shift) - 8
}

// bucketEnd is the first duration that is too long for a bucket.
func bucketEnd(i int) time.Duration { return time.Duration(uint64(i%8+9) << (i / 8)) }

// take returns how many durations were added since it was called last, and how long
// half of them and 99 % of them were at most.
func (h *histogram) take() (n uint64, p50, p99 time.Duration) {
	var counts [len(h)]uint64
	for i := range h {
		counts[i] = h[i].Swap(0)
		n += counts[i]
	}
	below := uint64(0)
	for i, count := range counts {
		if below += count; count == 0 {
			continue
		}
		if p50 == 0 && below*2 >= n {
			p50 = bucketEnd(i)
		}
		if below*100 >= n*99 {
			return n, p50, bucketEnd(i)
		}
	}
	return n, p50, p99
}
