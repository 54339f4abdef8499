package flare

import (
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 5 (surface): what a server has counted, and how long its routes
// take, for Prometheus. It knows counting; metrics_text.go has the text format, and
// what the Go runtime says.

// metricsRoutesMax bounds the routes that are counted apart.
const metricsRoutesMax = 1000

// MetricsHandler returns a handler that answers with metrics in Prometheus's text
// format: those of Stats, requests by route, method and status, their durations by
// route as histograms, and some of the Go runtime. It is to be called before s
// serves, and sees requests of s from then on; each costs three additions. Routes are
// patterns of a Mux: requests without one are counted together, and so are those of
// more than 1,000 patterns.
func MetricsHandler(s *Server) Handler {
	m := new(serverMetrics)
	m.routes.Store(new(map[string]*routeMetrics))
	s.mu.Lock()
	if kept, ok := s.observer.(*serverMetrics); ok {
		m = kept
	} else if !s.prepared {
		s.observer = m
	}
	s.mu.Unlock()
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.Blob(http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", m.appendText(nil, s))
	})
}

// serverMetrics are the requests of a server.
type serverMetrics struct {
	routes atomic.Pointer[map[string]*routeMetrics] // by pattern; a map never changes
	mu     sync.Mutex                               // held to replace it
}

// durationBuckets are the upper bounds of the histograms.
var durationBuckets = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// routeMetrics are the requests of a route.
type routeMetrics struct {
	buckets [len(durationBuckets) + 1]atomic.Uint64 // requests, by duration
	nanos   atomic.Uint64                           // their sum
	counts  atomic.Pointer[map[outcomeKey]*atomic.Uint64]
	mu      sync.Mutex // held to replace counts
}

// An outcomeKey is a method and what became of requests by it.
type outcomeKey struct {
	method uint8 // of metricsMethods
	status uint16
}

// metricsMethods are counted apart; whatever else clients invent is "other".
var metricsMethods = [...]string{"other", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}

func methodIndex(method string) uint8 {
	for i, m := range metricsMethods {
		if i > 0 && m == method {
			return uint8(i)
		}
	}
	return 0
}

// observe counts a request.
func (m *serverMetrics) observe(x *exchange, e AccessEntry) {
	var pattern []byte
	if x.r.match != nil {
		g := x.workset().exchanges()
		g.pattern = x.r.match.appendPattern(g.pattern[:0])
		pattern = g.pattern
	}
	rm := (*m.routes.Load())[string(pattern)]
	if rm == nil {
		rm = m.add(string(pattern))
	}
	i := 0
	for i < len(durationBuckets) && e.Duration > durationBuckets[i] {
		i++
	}
	rm.buckets[i].Add(1)
	rm.nanos.Add(uint64(e.Duration))
	key := outcomeKey{methodIndex(x.r.methodView()), uint16(e.Status)}
	n := rm.countOf(key)
	if n == nil {
		n = rm.add(key)
	}
	n.Add(1)
}

// add returns the metrics of a route that is new.
func (m *serverMetrics) add(pattern string) *routeMetrics {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.routes.Load()
	if len(old) >= metricsRoutesMax {
		pattern = "other"
	}
	if rm := old[pattern]; rm != nil {
		return rm
	}
	routes := make(map[string]*routeMetrics, len(old)+1)
	for p, rm := range old {
		routes[p] = rm
	}
	rm := new(routeMetrics)
	routes[pattern] = rm
	m.routes.Store(&routes)
	return rm
}

func (rm *routeMetrics) countOf(key outcomeKey) *atomic.Uint64 {
	if counts := rm.counts.Load(); counts != nil {
		return (*counts)[key]
	}
	return nil
}

// add returns the count of an outcome that is new.
func (rm *routeMetrics) add(key outcomeKey) *atomic.Uint64 {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	if n := rm.countOf(key); n != nil {
		return n
	}
	counts := make(map[outcomeKey]*atomic.Uint64)
	if old := rm.counts.Load(); old != nil {
		for k, n := range *old {
			counts[k] = n
		}
	}
	n := new(atomic.Uint64)
	counts[key] = n
	rm.counts.Store(&counts)
	return n
}

// A metricsText is text in Prometheus's format (exposition format 0.0.4).
type metricsText struct{ b []byte }

// family begins a metric.
func (t *metricsText) family(name, kind, help string) {
	t.b = append(t.b, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
}

// sample adds a value; labels are pairs of name and value.
func (t *metricsText) sample(name string, value float64, labels ...string) {
	t.b = append(t.b, name...)
	for i := 0; i+1 < len(labels); i += 2 {
		if i == 0 {
			t.b = append(t.b, '{')
		} else {
			t.b = append(t.b, ',')
		}
		t.b = append(append(t.b, labels[i]...), `="`...)
		for j := range len(labels[i+1]) {
			switch c := labels[i+1][j]; c {
			case '\\', '"':
				t.b = append(t.b, '\\', c)
			case '\n':
				t.b = append(t.b, `\n`...)
			default:
				t.b = append(t.b, c)
			}
		}
		t.b = append(t.b, '"')
	}
	if len(labels) > 1 {
		t.b = append(t.b, '}')
	}
	t.b = append(t.b, ' ')
	switch {
	case math.IsInf(value, 1):
		t.b = append(t.b, "+Inf"...)
	case value == math.Trunc(value) && math.Abs(value) < 1<<53:
		t.b = strconv.AppendInt(t.b, int64(value), 10)
	default:
		t.b = strconv.AppendFloat(t.b, value, 'g', -1, 64)
	}
	t.b = append(t.b, '\n')
}
