//go:build !linux

package flare

import "errors"

// This file is layer 2 (system): systems where poll(2) is not to be had from
// package syscall, or does not tell that a peer sends no more.

// newPollPoller is NewPollPoller where there is none.
func newPollPoller() (Poller, error) {
	return nil, &pollerError{"new", -1, errors.ErrUnsupported}
}
