//go:build purego || !(amd64 || arm64)

package flare

func maskAssembly() []maskWay { return nil }
