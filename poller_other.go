//go:build !linux && !darwin

package flare

import "errors"

// This file is layer 2 (system): systems without a poller of their own here.

// NewPoller returns the poller of this system: epoll on Linux, kqueue on
// Darwin. The caller owns it and closes it. This system has none: the error is
// errors.ErrUnsupported.
func NewPoller() (Poller, error) {
	return nil, &PollerError{"new", -1, errors.ErrUnsupported}
}
