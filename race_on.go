//go:build race

package flare

// This file is layer 0 (base): what is different under the race detector.

// raceEnabled: nothing is reused, so that a use after a handler's return is
// found every time.
const raceEnabled = true
