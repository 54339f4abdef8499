//go:build !race

package flare

const raceEnabled = false
