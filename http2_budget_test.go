package flare

import (
	"testing"
	"time"
)

// TestHTTP2Budget spends as fast as it can, for a minute behind a pause: what
// may come is what there is at once, and the rate.
func TestHTTP2Budget(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Second, 5 * time.Second, time.Minute} {
		b := http2Budget{left: http2BudgetMax}
		begin := time.Hour
		if !b.spend(begin) {
			t.Fatal("nothing may come")
		}
		spent := 1
		const lasts = time.Minute
		for now := begin + pause; now < begin+pause+lasts; now += time.Millisecond {
			for b.spend(now) {
				spent++
			}
		}
		most := 2*http2BudgetMax + int(lasts/time.Second)*http2BudgetRate
		least := http2BudgetMax + int(lasts/time.Second-1)*http2BudgetRate
		if spent < least || spent > most {
			t.Errorf("after %v: %d in %v; want %d to %d", pause, spent, lasts, least, most)
		}
	}
}

// TestHTTP2BudgetEarned refills it by answers, up to its bound.
func TestHTTP2BudgetEarned(t *testing.T) {
	b := http2Budget{left: http2BudgetMax}
	for range 10 * http2BudgetMax {
		b.earn(1)
	}
	n := 0
	for b.spend(time.Hour) {
		n++
	}
	if n != http2BudgetMax {
		t.Errorf("%d at once", n)
	}
}
