// Package waits has the ways in which a benchmark's handlers take their time.
package waits

import (
	"syscall"
	"time"
)

var never chan bool

// For takes d: asleep ("" or "sleep"), waiting on a channel ("chan"), in a system call that
// blocks the thread ("block") or keeping a processor busy ("spin").
func For(how string, d time.Duration) {
	switch how {
	case "chan":
		select {
		case <-never:
		case <-time.After(d):
		}
	case "block":
		ts := syscall.NsecToTimespec(int64(d))
		syscall.Nanosleep(&ts, nil)
	case "spin":
		for end := time.Now().Add(d); time.Now().Before(end); {
		}
	default:
		time.Sleep(d)
	}
}
