//go:build !race

package flare

// This file is layer 0 (base): the other half of race_on.go.

const raceEnabled = false
