package flare

import (
	"path"
	"strings"
)

// This file is layer 5 (surface): what Files says of caching: which names have a
// hash of the content in them.

// cacheControl is Files.CacheControl's default.
func cacheControl(name string) string {
	if hasContentHash(name) {
		return "public, max-age=31536000, immutable"
	}
	return "no-cache"
}

// hasContentHash reports whether the name of a part of a page has a hash of its
// content in it: behind a "-" or "." and before the extension, hexadecimal digits
// (webpack), or 8 of base32 (esbuild) or base64url (Vite). Taking a hash for a name
// costs a request, taking a name for a hash a year of an old file. So what might be
// words and a number is none.
func hasContentHash(name string) bool {
	stem := strings.TrimSuffix(path.Base(name), ".map")
	extension := path.Ext(stem)
	if !hashedExtensions[extension] {
		return false
	}
	stem = strings.TrimSuffix(stem, extension)
	for {
		at := strings.IndexAny(stem, "-.")
		if at < 0 {
			return false
		}
		stem = stem[at+1:]
		if part, _, _ := strings.Cut(stem, "."); isContentHash(part) {
			return true
		}
	}
}

var hashedExtensions = map[string]bool{
	".js": true, ".mjs": true, ".css": true, ".wasm": true,
	".woff": true, ".woff2": true, ".ttf": true, ".otf": true,
	".svg": true, ".png": true, ".jpg": true, ".jpeg": true, ".gif": true, ".webp": true, ".avif": true, ".ico": true,
	".mp4": true, ".webm": true, ".mp3": true, ".ogg": true,
}

// isContentHash reports whether s is a hash: its digits and letters change more
// often than those of words and numbers do.
func isContentHash(s string) bool {
	const digit, lower, upper = 1, 2, 3
	changes, last, seen, isHex := 0, 0, 0, true
	for i := range len(s) {
		class, c := 0, s[i]
		switch {
		case isDigit(c):
			class = digit
		case 'a' <= c && c <= 'z':
			class = lower
		case 'A' <= c && c <= 'Z':
			class = upper
		default:
			return false
		}
		isHex = isHex && c <= 'f' && class != upper
		if class != last && last != 0 {
			changes++
		}
		last, seen = class, seen|1<<class
	}
	switch {
	case len(s) < 8 || seen&(1<<digit) == 0:
		return false
	case isHex, len(s) == 8 && seen&(1<<lower) == 0:
		return changes >= 2
	}
	return len(s) == 8 && changes >= 4
}
