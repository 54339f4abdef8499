//go:build !linux

package flare

import "errors"

// This file is layer 2 (system): systems where poll(2) is not to be had from
// package syscall, or does not tell that a peer sends no more.

// NewPollPoller returns a poller on poll(2), which is level triggered. It is for
// Linux; elsewhere the error is errors.ErrUnsupported. The caller owns it and
// closes it.
func NewPollPoller() (Poller, error) {
	return nil, &PollerError{"new", -1, errors.ErrUnsupported}
}
