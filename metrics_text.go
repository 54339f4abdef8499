package flare

import (
	"cmp"
	"maps"
	"math"
	"runtime/metrics"
	"slices"
	"strconv"
	"time"
)

// This file is layer 5 (surface): the metrics of a server as text.

// appendText appends all metrics of s.
func (m *serverMetrics) appendText(b []byte, s *Server) []byte {
	t := &metricsText{b}
	m.appendRoutes(t)
	t.appendStats(s.Stats())
	t.appendRuntime()
	return t.b
}

// appendRoutes appends what is known of requests by route, in order.
func (m *serverMetrics) appendRoutes(t *metricsText) {
	routes := *m.routes.Load()
	patterns := slices.Sorted(maps.Keys(routes))
	const requests, duration = "http_requests_total", "http_request_duration_seconds"
	t.family(requests, "counter", "Requests whose response has ended, by route, method and status; code 0 was not answered.")
	for _, pattern := range patterns {
		counts := routes[pattern].counts.Load()
		if counts == nil {
			continue
		}
		keys := slices.SortedFunc(maps.Keys(*counts), func(a, b outcomeKey) int {
			return cmp.Or(cmp.Compare(a.method, b.method), cmp.Compare(a.status, b.status))
		})
		for _, k := range keys {
			t.sample(requests, float64((*counts)[k].Load()), "route", pattern, "method", metricsMethods[k.method], "code", strconv.Itoa(int(k.status)))
		}
	}
	t.family(duration, "histogram", "From the first byte of a request to the end of its response, by route.")
	for _, pattern := range patterns {
		rm := routes[pattern]
		sum := uint64(0)
		for i := range rm.buckets {
			le := "+Inf"
			if i < len(durationBuckets) {
				le = strconv.FormatFloat(durationBuckets[i].Seconds(), 'g', -1, 64)
			}
			sum += rm.buckets[i].Load()
			t.sample(duration+"_bucket", float64(sum), "route", pattern, "le", le)
		}
		t.sample(duration+"_sum", time.Duration(rm.nanos.Load()).Seconds(), "route", pattern)
		t.sample(duration+"_count", float64(sum), "route", pattern)
	}
}

// A labelled is a value under one label.
type labelled struct {
	label string
	value uint64
}

// counters appends a counter by one label; without a label it is a single one.
func (t *metricsText) counters(name, help, label string, values ...labelled) {
	t.family(name, "counter", help)
	for _, v := range values {
		if label == "" {
			t.sample(name, float64(v.value))
		} else {
			t.sample(name, float64(v.value), label, v.label)
		}
	}
}

// appendStats appends what Stats has.
func (t *metricsText) appendStats(st Stats) {
	one := func(name, help string, n uint64) { t.counters(name, help, "", labelled{"", n}) }
	one("flare_connections_accepted_total", "Connections accepted.", st.Accepted)
	one("flare_accept_short_total", "Times that accepting paused for want of descriptors or memory.", st.AcceptShort)
	one("flare_requests_total", "Heads of requests read, refused ones included.", st.Requests)
	one("flare_received_bytes_total", "Bytes received from sockets.", st.BytesIn)
	one("flare_sent_bytes_total", "Bytes accepted by sockets.", st.BytesOut)
	t.counters("flare_responses_total", "Final responses by class.", "class",
		labelled{"2xx", st.Responses.Class2xx}, labelled{"3xx", st.Responses.Class3xx}, labelled{"4xx", st.Responses.Class4xx}, labelled{"5xx", st.Responses.Class5xx})
	t.counters("flare_timeouts_total", "Connections that ran into a limit of time.", "limit",
		labelled{"handshake", st.Timeouts.Handshake}, labelled{"idle", st.Timeouts.Idle}, labelled{"head", st.Timeouts.Head}, labelled{"body", st.Timeouts.Body}, labelled{"write", st.Timeouts.Write}, labelled{"linger", st.Timeouts.Linger})
	t.counters("flare_tls_handshakes_total", "Handshakes of TLS; those that resumed a session are done, too.", "outcome",
		labelled{"done", st.Handshakes.Done}, labelled{"resumed", st.Handshakes.Resumed}, labelled{"failed", st.Handshakes.Failed})
	c := st.Handlers
	t.counters("flare_handler_calls_total", "Calls of handlers by where they ran.", "place", labelled{"loop", c.Inline}, labelled{"worker", c.Worker})
	t.counters("flare_handler_events_total", "What else became of handlers.", "event", labelled{"pass", c.Passes}, labelled{"steal", c.Steals},
		labelled{"promotion", c.Promotions}, labelled{"demotion", c.Demotions}, labelled{"panic", c.Panics})
	t.family("flare_connections", "gauge", "Open connections by what they wait for.")
	for _, v := range []struct {
		label string
		value int64
	}{{"handshake", st.Connections.Handshake}, {"idle", st.Connections.Idle}, {"head", st.Connections.Head}, {"body", st.Connections.Body}, {"handler", st.Connections.Handler}, {"flush", st.Connections.Flush}, {"drain", st.Connections.Drain}, {"switched", st.Connections.Switched}, {"streams", st.Connections.Streams}} {
		t.sample("flare_connections", float64(v.value), "state", v.label)
	}
	t.family("flare_connections_open", "gauge", "Open connections.")
	t.sample("flare_connections_open", float64(st.Connections.Open))
	t.family("flare_connections_http2", "gauge", "Open connections that speak HTTP/2.")
	t.sample("flare_connections_http2", float64(st.Connections.HTTP2))
	t.family("flare_loop_lag_max_seconds", "gauge", "Longest batch of an event loop since the start, if over 1 ms.")
	t.sample("flare_loop_lag_max_seconds", st.LoopLagMax.Seconds())
}

// runtimeMetrics are those of the Go runtime that are shown, by the names that
// Prometheus's own client has for the same.
var runtimeMetrics = []struct{ name, kind, help, from string }{
	{"go_goroutines", "gauge", "Goroutines that exist.", "/sched/goroutines:goroutines"},
	{"go_sched_gomaxprocs_threads", "gauge", "GOMAXPROCS.", "/sched/gomaxprocs:threads"},
	{"go_gc_cycles_total_gc_cycles_total", "counter", "Completed cycles of garbage collection.", "/gc/cycles/total:gc-cycles"},
	{"go_gc_heap_allocs_bytes_total", "counter", "Bytes allocated on the heap.", "/gc/heap/allocs:bytes"},
	{"go_gc_heap_allocs_objects_total", "counter", "Objects allocated on the heap.", "/gc/heap/allocs:objects"},
	{"go_gc_heap_live_bytes", "gauge", "Bytes of the heap that the last collection has left.", "/gc/heap/live:bytes"},
	{"go_gc_heap_goal_bytes", "gauge", "Size of the heap at the end of the next collection.", "/gc/heap/goal:bytes"},
	{"go_gc_gomemlimit_bytes", "gauge", "GOMEMLIMIT.", "/gc/gomemlimit:bytes"},
	{"go_memory_classes_total_bytes", "gauge", "Memory mapped by the Go runtime.", "/memory/classes/total:bytes"},
	{"go_memory_classes_heap_objects_bytes", "gauge", "Memory of objects, live or not swept yet.", "/memory/classes/heap/objects:bytes"},
	{"go_cpu_classes_gc_total_cpu_seconds_total", "counter", "CPU time of garbage collection, estimated.", "/cpu/classes/gc/total:cpu-seconds"},
	{"go_sched_latencies_seconds", "histogram", "Time that goroutines were ready before they ran.", "/sched/latencies:seconds"},
	{"go_sched_pauses_total_gc_seconds", "histogram", "Pauses for garbage collection.", "/sched/pauses/total/gc:seconds"},
}

// appendRuntime appends what the Go runtime says.
func (t *metricsText) appendRuntime() {
	samples := make([]metrics.Sample, len(runtimeMetrics))
	for i := range samples {
		samples[i].Name = runtimeMetrics[i].from
	}
	metrics.Read(samples)
	for i, m := range runtimeMetrics {
		switch v := samples[i].Value; v.Kind() {
		case metrics.KindUint64:
			t.family(m.name, m.kind, m.help)
			t.sample(m.name, float64(v.Uint64()))
		case metrics.KindFloat64:
			t.family(m.name, m.kind, m.help)
			t.sample(m.name, v.Float64())
		case metrics.KindFloat64Histogram:
			t.family(m.name, m.kind, m.help)
			t.appendHistogram(m.name, v.Float64Histogram())
		}
	}
}

// runtimeBuckets are the upper bounds, in seconds, that histograms of the runtime are
// shown with: they have hundreds.
var runtimeBuckets = [...]float64{1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1}

// appendHistogram appends a histogram of the runtime. Of a bucket of it that reaches
// across a bound, all counts as being beyond.
func (t *metricsText) appendHistogram(name string, h *metrics.Float64Histogram) {
	total, i := uint64(0), 0
	for _, bound := range runtimeBuckets {
		for i < len(h.Counts) && h.Buckets[i+1] <= bound {
			total += h.Counts[i]
			i++
		}
		t.sample(name+"_bucket", float64(total), "le", strconv.FormatFloat(bound, 'g', -1, 64))
	}
	for ; i < len(h.Counts); i++ {
		total += h.Counts[i]
	}
	t.sample(name+"_bucket", float64(total), "le", "+Inf")
	t.sample(name+"_sum", histogramSum(h))
	t.sample(name+"_count", float64(total))
}

// histogramSum is about the sum of what was counted: the runtime does not keep it.
func histogramSum(h *metrics.Float64Histogram) (sum float64) {
	for i, n := range h.Counts {
		low, high := h.Buckets[i], h.Buckets[i+1]
		switch {
		case n == 0:
		case math.IsInf(low, -1):
			sum += high * float64(n)
		case math.IsInf(high, 1):
			sum += low * float64(n)
		default:
			sum += (low + high) / 2 * float64(n)
		}
	}
	return sum
}
