//go:build purego || !(amd64 || arm64)

package flare

func maskWays() []maskWay { return []maskWay{{"word", 0, maskWord}, {"generic", 33, maskBlocks}} }
