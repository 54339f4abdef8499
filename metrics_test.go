package flare

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// metricsOf returns the samples of a text, by name and labels.
func metricsOf(t *testing.T, text string) map[string]string {
	t.Helper()
	samples := make(map[string]string)
	typed := make(map[string]string)
	line := regexp.MustCompile(`^([a-z0-9_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)+\})? ([-+0-9.eIinf]+)$`)
	for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if name, ok := strings.CutPrefix(l, "# TYPE "); ok {
			name, kind, _ := strings.Cut(name, " ")
			if typed[name] != "" {
				t.Errorf("%s has two types", name)
			}
			typed[name] = kind
			continue
		}
		if strings.HasPrefix(l, "# HELP ") {
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			t.Fatalf("no sample: %q", l)
		}
		family := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(m[1], suffix); ok && typed[base] == "histogram" {
				family = base
			}
		}
		if typed[family] == "" {
			t.Errorf("%s has no type", m[1])
		}
		if _, twice := samples[m[1]+m[2]]; twice {
			t.Errorf("%s%s is there twice", m[1], m[2])
		}
		samples[m[1]+m[2]] = m[3]
	}
	return samples
}

// Requests are counted by route, method and status, whatever clients send, and shown
// with the counts of Stats and of the runtime.
func TestMetrics(t *testing.T) {
	t.Parallel()
	mux := endings()
	s := &Server{Handler: mux, Logger: quietLogger()}
	handler := MetricsHandler(s)
	mux.Handle("GET /metrics", handler)
	mux.Mount("/sub", endings())
	mux.Get(`/odd/"`, func(w *ResponseWriter, r *Request) error { return nil })
	c := dialRaw(t, startServer(t, s))
	for range 3 {
		c.get("/text/you")
	}
	c.get("/status")
	c.get("/panic")
	c.get("/nowhere")
	c.get("/sub/text/x")
	c.get(`/odd/"`)
	c.send("POST /text/you HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
	c.answer("POST")
	c.send("BREW /nowhere HTTP/1.1\r\nHost: h\r\n\r\n")
	c.answer("BREW")
	if MetricsHandler(s) == nil { // a second one shows the same
		t.Fatal("no handler")
	}
	a := c.get("/metrics")
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	got := metricsOf(t, a.body)
	for sample, want := range map[string]string{
		`http_requests_total{route="GET /text/{name}",method="GET",code="200"}`:     "3",
		`http_requests_total{route="GET /status",method="GET",code="418"}`:          "1",
		`http_requests_total{route="GET /panic",method="GET",code="500"}`:           "1",
		`http_requests_total{route="GET /sub/text/{name}",method="GET",code="200"}`: "1",
		`http_requests_total{route="",method="GET",code="404"}`:                     "1",
		`http_requests_total{route="",method="POST",code="405"}`:                    "1",
		`http_requests_total{route="",method="other",code="404"}`:                   "1",
		`http_request_duration_seconds_count{route="GET /text/{name}"}`:             "3",
		`http_request_duration_seconds_bucket{route="GET /status",le="+Inf"}`:       "1",
		`flare_connections_open`:           "1",
		`flare_connections_http2`:          "0",
		`flare_connections_accepted_total`: "1",
	} {
		if got[sample] != want {
			t.Errorf("%s is %q, want %s", sample, got[sample], want)
		}
	}
	for _, name := range []string{"go_goroutines", "go_gc_heap_live_bytes", "go_sched_latencies_seconds_count", "go_memory_classes_total_bytes", "flare_loop_lag_max_seconds", "flare_sent_bytes_total"} {
		if got[name] == "" {
			t.Errorf("no %s", name)
		}
	}
	again := metricsOf(t, c.get("/metrics").body)
	if n := again[`http_requests_total{route="GET /metrics",method="GET",code="200"}`]; n != "1" {
		t.Errorf("the request for metrics is counted %s times", n)
	}
}

// The buckets are as they say.
func TestMetricsHistogram(t *testing.T) {
	m := new(serverMetrics)
	m.routes.Store(new(map[string]*routeMetrics))
	l := newUserExchange()
	x := l.x
	x.strand = &strand{workset: new(workset)}
	for _, d := range []time.Duration{0, 100 * time.Microsecond, 101 * time.Microsecond, time.Second, 10 * time.Second, time.Hour} {
		m.observe(x, AccessEntry{Status: 200, Duration: d})
	}
	text := &metricsText{}
	m.appendRoutes(text)
	got := metricsOf(t, string(text.b))
	for le, want := range map[string]string{"0.0001": "2", "0.00025": "3", "0.5": "3", "1": "4", "5": "4", "10": "5", "+Inf": "6"} {
		if n := got[fmt.Sprintf(`http_request_duration_seconds_bucket{route="",le="%s"}`, le)]; n != want {
			t.Errorf("up to %s: %s, want %s", le, n, want)
		}
	}
	if sum := got[`http_request_duration_seconds_sum{route=""}`]; sum != "3611.000201" {
		t.Errorf("the sum is %s", sum)
	}
}

// Routes that somebody makes without end are bounded, and counting from many
// goroutines loses nothing.
func TestMetricsRoutes(t *testing.T) {
	m := new(serverMetrics)
	m.routes.Store(new(map[string]*routeMetrics))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 2000 {
				rm := m.add(fmt.Sprint(i))
				rm.add(outcomeKey{1, uint16(i % 5)}).Add(1)
			}
		})
	}
	wg.Wait()
	routes := *m.routes.Load()
	if len(routes) > metricsRoutesMax+1 {
		t.Errorf("%d routes", len(routes))
	}
	total := uint64(0)
	for _, rm := range routes {
		for _, n := range *rm.counts.Load() {
			total += n.Load()
		}
	}
	if total != 8000 {
		t.Errorf("%d requests are counted", total)
	}
	text := &metricsText{}
	text.sample("x", 1, "route", "a\"b\\c\nd")
	if string(text.b) != `x{route="a\"b\\c\nd"} 1`+"\n" {
		t.Errorf("%s", text.b)
	}
}
