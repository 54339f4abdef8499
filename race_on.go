//go:build race

package flare

// raceEnabled is layer 0 (base): under the race detector nothing is reused, so
// that a use after a handler's return is found every time.
const raceEnabled = true
