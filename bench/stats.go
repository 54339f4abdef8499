//go:build linux

package main

// This file knows numbers only: medians, quantiles of the generator's histograms and the
// confidence interval of a paired comparison. It does not know where they come from.

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// histogramSubBits is SUB_BITS in load.c: 64 buckets an octave, so 1.6 % wide at most.
const histogramSubBits = 6

// A histogram is what load.c recorded: values in nanoseconds, in buckets whose width grows with
// the value. The maximum is exact.
type histogram struct {
	Count   uint64
	MaxNS   uint64
	Buckets []bucket // ascending
}

type bucket struct {
	index int
	count uint64
}

func (h *histogram) UnmarshalJSON(data []byte) error {
	var raw struct {
		Count   uint64      `json:"count"`
		MaxNS   uint64      `json:"max_ns"`
		Buckets [][2]uint64 `json:"buckets"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*h = histogram{Count: raw.Count, MaxNS: raw.MaxNS}
	var total uint64
	for i, b := range raw.Buckets {
		if b[0] > 64<<histogramSubBits || i > 0 && b[0] <= raw.Buckets[i-1][0] {
			return fmt.Errorf("histogram: bucket %d is out of order or out of range", b[0])
		}
		h.Buckets = append(h.Buckets, bucket{int(b[0]), b[1]})
		total += b[1]
	}
	if total != raw.Count {
		return fmt.Errorf("histogram: the buckets hold %d values, the count says %d", total, raw.Count)
	}
	return nil
}

// bucketBounds gives the values [low, high) that share a bucket; the inverse of record in load.c.
func bucketBounds(index int) (low, high uint64) {
	shift := max(0, index>>histogramSubBits-1)
	low = uint64(index-shift<<histogramSubBits) << shift
	return low, low + 1<<shift
}

// bucketIndex is record of load.c, for tests and for merging.
func bucketIndex(ns uint64) int {
	shift := max(0, bits.Len64(ns)-1-histogramSubBits)
	return shift<<histogramSubBits + int(ns>>shift)
}

// quantile returns the middle of the bucket that holds the q-th value, in ns, at most the maximum.
func (h *histogram) quantile(q float64) float64 {
	if h.Count == 0 {
		return math.NaN()
	}
	rank := uint64(math.Ceil(q * float64(h.Count)))
	var seen uint64
	for _, b := range h.Buckets {
		if seen += b.count; seen >= max(rank, 1) {
			low, high := bucketBounds(b.index)
			return min(float64(low+high-1)/2, float64(h.MaxNS))
		}
	}
	return float64(h.MaxNS)
}

// median of a copy; NaN for none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// An interval is an estimate with the bounds of its 95 % confidence interval.
type interval struct {
	Estimate float64 `json:"estimate"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
}

// bootstrapRounds resamples give the 2.5 % and 97.5 % points to about a tenth of the interval.
const bootstrapRounds = 4000

// medianInterval estimates the median of values by the percentile bootstrap. A median, because one
// disturbed window among many must not decide; a bootstrap, because what disturbs windows is not
// normally distributed. With fewer than six values the interval is too narrow to be believed.
func medianInterval(values []float64) interval {
	rng := rand.New(rand.NewPCG(1, 2)) // the same data give the same interval
	medians := make([]float64, bootstrapRounds)
	sample := make([]float64, len(values))
	for i := range medians {
		for j := range sample {
			sample[j] = values[rng.IntN(len(values))]
		}
		medians[i] = median(sample)
	}
	slices.Sort(medians)
	return interval{
		Estimate: median(values),
		Low:      medians[int(0.025*bootstrapRounds)],
		High:     medians[int(0.975*bootstrapRounds)],
	}
}

// pairedRatio compares a to b window by window: a slow minute of the machine is in both halves of
// a pair and leaves their ratio alone.
func pairedRatio(a, b []float64) interval {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i] / b[i]
	}
	return medianInterval(ratios)
}
