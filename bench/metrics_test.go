package main

import (
	"io"
	"net/http"
	"testing"

	"flare"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// What MetricsHandler answers is read by Prometheus's own parser, with the types and
// values that it means.
func TestMetricsAreParsed(t *testing.T) {
	mux := flare.NewMux()
	s := &flare.Server{Handler: mux}
	mux.Handle("GET /metrics", flare.MetricsHandler(s))
	mux.Get("/hello/{name}", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, "hello") })
	client := flare.TestClient(t, s)
	for _, path := range []string{"/hello/a", "/hello/b", "/nowhere"} {
		resp, err := client.Get("http://h" + path)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	resp, err := client.Get("http://h/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if format := expfmt.ResponseFormat(http.Header(resp.Header)); format.FormatType() != expfmt.TypeTextPlain {
		t.Errorf("the format is %q", format)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]dto.MetricType{
		"http_requests_total":           dto.MetricType_COUNTER,
		"http_request_duration_seconds": dto.MetricType_HISTOGRAM,
		"flare_connections":             dto.MetricType_GAUGE,
		"flare_loop_lag_max_seconds":    dto.MetricType_GAUGE,
		"go_goroutines":                 dto.MetricType_GAUGE,
		"go_sched_latencies_seconds":    dto.MetricType_HISTOGRAM,
	} {
		if f := families[name]; f == nil || f.GetType() != kind || f.GetHelp() == "" || len(f.Metric) == 0 {
			t.Errorf("%s is %v", name, f)
		}
	}
	for _, m := range families["http_requests_total"].Metric {
		labels := map[string]string{}
		for _, l := range m.Label {
			labels[l.GetName()] = l.GetValue()
		}
		want := map[string]float64{"GET /hello/{name}": 2, "": 1}[labels["route"]]
		if m.Counter.GetValue() != want {
			t.Errorf("%v is %v, want %v", labels, m.Counter.GetValue(), want)
		}
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if h := m.Histogram; h != nil {
				last := uint64(0)
				for _, b := range h.Bucket {
					if b.GetCumulativeCount() < last {
						t.Errorf("%s: the buckets fall", f.GetName())
					}
					last = b.GetCumulativeCount()
				}
				if last != h.GetSampleCount() {
					t.Errorf("%s: %d in the last bucket, %d in all", f.GetName(), last, h.GetSampleCount())
				}
			}
		}
	}
}
