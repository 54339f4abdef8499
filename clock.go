package flare

import "time"

// This file is layer 3 (engine): the time as one workset sees it, read once a
// batch and not once a request.

// origin is what every time.Duration that means a moment counts from. It lies
// before 2000, which is when time begins in a bubble of testing/synctest, and
// after 1885, since which package time keeps the monotonic clock with a time.
var origin = time.Now().Add(-80 * 365 * 24 * time.Hour)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// A clock belongs to one workset.
type clock struct {
	now      time.Duration // since origin, monotonic
	unix     int64         // wall clock, seconds
	nextUnix time.Duration // when unix is due
	date     dateCache
}

// read takes the time. The wall clock is asked only when its second is over.
func (c *clock) read() {
	before := c.now
	c.now = time.Since(origin)
	// Time goes back where a workset comes into a bubble of testing/synctest.
	if c.now >= c.nextUnix || c.now < before {
		wall := time.Now()
		c.unix = wall.Unix()
		c.nextUnix = c.now + time.Second - time.Duration(wall.Nanosecond())
	}
}

// sinceOrigin returns t on flare's clock, where 0 is no moment.
func sinceOrigin(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(t.Sub(origin), 1)
}
