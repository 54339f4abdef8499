//go:build !purego

package flare

func maskAssembly() []maskWay {
	return []maskWay{{"NEON", 64, func(p []byte, key uint32) { maskNEON(&p[0], len(p), key) }}}
}
