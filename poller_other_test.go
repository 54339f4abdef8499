//go:build !linux

package flare

// pollBellTest: there is no poller on poll(2).
func pollBellTest(Poller) *pollerBell { return nil }
