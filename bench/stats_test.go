//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestBucketsAreContiguousAndInverse(t *testing.T) {
	next := uint64(0)
	for index := range 36 << histogramSubBits {
		low, high := bucketBounds(index)
		if low != next || high <= low {
			t.Fatalf("bucket %d is [%d, %d), the one before ended at %d", index, low, high, next)
		}
		if bucketIndex(low) != index || bucketIndex(high-1) != index {
			t.Fatalf("bucket %d: its bounds are put in %d and %d", index, bucketIndex(low), bucketIndex(high-1))
		}
		if low >= 64 && float64(high-low)/float64(low) > 1.0/64 {
			t.Fatalf("bucket %d is wider than 1/64 of its value", index)
		}
		next = high
	}
}

// histogramOf encodes values as load.c would.
func histogramOf(t *testing.T, values ...uint64) *histogram {
	t.Helper()
	counts, top := map[int]int{}, uint64(0)
	for _, v := range values {
		counts[bucketIndex(v)]++
		top = max(top, v)
	}
	text, comma := fmt.Sprintf(`{"count":%d,"max_ns":%d,"buckets":[`, len(values), top), ""
	for i := range 64 << histogramSubBits {
		if counts[i] > 0 {
			text += fmt.Sprintf("%s[%d,%d]", comma, i, counts[i])
			comma = ","
		}
	}
	h := new(histogram)
	if err := json.Unmarshal([]byte(text+"]}"), h); err != nil {
		t.Fatal(err)
	}
	return h
}

func TestQuantile(t *testing.T) {
	var values []uint64
	for i := range uint64(10000) {
		values = append(values, (i+1)*1000)
	}
	h := histogramOf(t, values...)
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		got, want := h.quantile(q), q*10000*1000
		if math.Abs(got-want)/want > 1.0/64 {
			t.Errorf("quantile %v is %v, want %v within a bucket", q, got, want)
		}
	}
	if one := histogramOf(t, 1_000_003); one.quantile(0.5) > 1_000_003 {
		t.Error("a quantile over the maximum")
	}
	if !math.IsNaN(histogramOf(t).quantile(0.5)) {
		t.Error("an empty histogram has a quantile")
	}
}

func TestHistogramRefusesNonsense(t *testing.T) {
	for _, text := range []string{
		`{"count":2,"max_ns":5,"buckets":[[5,1]]}`,
		`{"count":2,"max_ns":5,"buckets":[[5,1],[5,1]]}`,
		`{"count":2,"max_ns":5,"buckets":[[6,1],[5,1]]}`,
		`{"count":1,"max_ns":5,"buckets":[[99999,1]]}`,
		`{"count":1,"max_ns":5,"buckets":[[-1,1]]}`,
		`[]`,
	} {
		if err := json.Unmarshal([]byte(text), new(histogram)); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		in := append([]float64(nil), c.in...)
		if got := median(in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.in, got, c.want)
		}
		for i := range in {
			if in[i] != c.in[i] {
				t.Errorf("median(%v) sorted its argument", c.in)
			}
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

// The interval has to cover the true ratio about 95 times in a hundred, also with the skewed noise
// that a disturbed machine makes.
func TestPairedRatioCoversTheTruth(t *testing.T) {
	const truth, experiments, pairs = 1.05, 200, 20
	rng := rand.New(rand.NewPCG(7, 7))
	covered := 0
	for range experiments {
		var a, b []float64
		for range pairs {
			drift := 5 * math.Exp(0.3*rng.NormFloat64()) // shared by both halves of the pair
			a = append(a, drift*truth*math.Exp(0.03*rng.NormFloat64()))
			b = append(b, drift*math.Exp(0.03*rng.NormFloat64()))
		}
		r := pairedRatio(a, b)
		if r.Low <= truth && truth <= r.High {
			covered++
		}
		if r.Low > r.Estimate || r.Estimate > r.High {
			t.Fatalf("the estimate is outside its interval: %+v", r)
		}
		if r.High-r.Low > 0.1 {
			t.Fatalf("the drift shared by the pairs has widened the interval: %+v", r)
		}
	}
	if share := float64(covered) / experiments; share < 0.88 || share > 0.995 {
		t.Errorf("the 95 %% interval covers the truth in %.1f %% of experiments", share*100)
	}
}

func TestMedianIntervalOfEqualValues(t *testing.T) {
	if got := medianInterval([]float64{2, 2, 2, 2}); got != (interval{2, 2, 2}) {
		t.Errorf("got %+v", got)
	}
}
