//go:build !linux && !darwin

package flare

import "errors"

// This file is layer 2 (system): systems without a poller of their own here.

// newSystemPoller is NewPoller of these systems, which have none.
func newSystemPoller() (Poller, error) {
	return nil, &pollerError{"new", -1, errors.ErrUnsupported}
}
