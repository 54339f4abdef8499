package flare

import "time"

// This file is layer 3 (engine): the time as one workset sees it, read once a
// batch and not once a request.

// origin is what every time.Duration that means a moment counts from.
var origin = time.Now()

// A clock belongs to one workset.
type clock struct {
	now      time.Duration // since origin, monotonic
	unix     int64         // wall clock, seconds
	nextUnix time.Duration // when unix is due
	date     dateCache
}

// read takes the time. The wall clock is asked only when its second is over.
func (c *clock) read() {
	c.now = time.Since(origin)
	if c.now >= c.nextUnix {
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
