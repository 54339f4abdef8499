//go:build !purego

package flare

func maskWays() []maskWay {
	return []maskWay{{"word", 0, maskWord}, {"generic", 33, maskBlocks}, {"NEON", 64, func(p []byte, key uint32) { maskNEON(&p[0], len(p), key) }}}
}
