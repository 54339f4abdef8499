package flare

import (
	"math"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

func TestDateLineKnownInstants(t *testing.T) {
	var d dateCache
	for _, tt := range []struct {
		unixSecond int64
		want       string
	}{
		{784111777, "Sun, 06 Nov 1994 08:49:37 GMT"}, // RFC 9110 §5.6.7's own
		{0, "Thu, 01 Jan 1970 00:00:00 GMT"},
		{59, "Thu, 01 Jan 1970 00:00:59 GMT"},
		{60, "Thu, 01 Jan 1970 00:01:00 GMT"},
		{86399, "Thu, 01 Jan 1970 23:59:59 GMT"},
		{86400, "Fri, 02 Jan 1970 00:00:00 GMT"},
		{951782399, "Mon, 28 Feb 2000 23:59:59 GMT"}, // 2000: a leap year of the century
		{951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
		{951868800, "Wed, 01 Mar 2000 00:00:00 GMT"},
		{1709164800, "Thu, 29 Feb 2024 00:00:00 GMT"},
		{2147483648, "Tue, 19 Jan 2038 03:14:08 GMT"},
		{4107542399, "Sun, 28 Feb 2100 23:59:59 GMT"}, // 2100: none
		{4107542400, "Mon, 01 Mar 2100 00:00:00 GMT"},
		{dateUnixMax, "Fri, 31 Dec 9999 23:59:59 GMT"},
		{dateUnixMax + 1, "Fri, 31 Dec 9999 23:59:59 GMT"},
		{math.MaxInt64, "Fri, 31 Dec 9999 23:59:59 GMT"},
		{-1, "Wed, 31 Dec 1969 23:59:59 GMT"},
		{dateUnixMin, "Sat, 01 Jan 0000 00:00:00 GMT"},
		{math.MinInt64, "Sat, 01 Jan 0000 00:00:00 GMT"},
	} {
		var fresh dateCache
		if got := string(fresh.line(tt.unixSecond)); got != "Date: "+tt.want+"\r\n" {
			t.Errorf("%d, fresh: %q, want %q", tt.unixSecond, got, tt.want)
		}
		for range 2 { // made, then kept
			if got := string(d.line(tt.unixSecond)); got != "Date: "+tt.want+"\r\n" {
				t.Errorf("%d: %q, want %q", tt.unixSecond, got, tt.want)
			}
		}
	}
}

func TestDateLineIsReadBackByNetHTTP(t *testing.T) {
	var d dateCache
	check := func(unixSecond int64) {
		line := string(d.line(unixSecond))
		got, err := http.ParseTime(line[len("Date: ") : len(line)-2])
		if err != nil || got.Unix() != unixSecond {
			t.Fatalf("%d: %q is read as %v, %v", unixSecond, line, got.Unix(), err)
		}
		if weekday := got.Weekday().String()[:3]; line[6:9] != weekday { // which Parse ignores
			t.Fatalf("%q: want %s", line, weekday)
		}
	}
	for day := time.Unix(0, 0).UTC(); day.Year() < 2110; day = day.AddDate(0, 0, 1) {
		check(day.Unix() - 1)
		check(day.Unix())
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		check(rng.Int64N(dateUnixMax))
	}
}

func TestDateLineAllocatesNothing(t *testing.T) {
	var d dateCache
	second := int64(1_700_000_000)
	if n := testing.AllocsPerRun(100, func() {
		second++
		d.line(second)
		d.line(second)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDateLine(b *testing.B) {
	var d dateCache
	b.Run("kept", func(b *testing.B) {
		for b.Loop() {
			d.line(784111777)
		}
	})
	b.Run("made", func(b *testing.B) {
		second := int64(0)
		for b.Loop() {
			second++
			d.line(second)
		}
	})
}
