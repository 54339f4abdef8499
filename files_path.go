package flare

import (
	"strings"
	"unicode/utf8"
)

// This file is layer 5 (surface): names of files in the paths of requests. It
// knows routing, to see which part of a path is left, and no files.

// fileNameBytesMax is the longest name of a file that common systems have.
const fileNameBytesMax = 255

// fileName makes the name of a file, as io/fs has them, from a path that is
// escaped. isFolder: the path ends with a slash. Paths that cannot name a file, or
// might name one elsewhere, are not ok; nor are names that begin with a dot, unless
// dotFiles.
func fileName(raw string, dotFiles bool) (name string, isFolder, ok bool) {
	raw = strings.TrimPrefix(raw, "/")
	if raw == "" {
		return ".", true, true
	}
	raw, isFolder = strings.CutSuffix(raw, "/")
	var b strings.Builder
	escaped := strings.IndexByte(raw, '%') >= 0
	first := true
	for segment := range strings.SplitSeq(raw, "/") {
		text := segment
		if escaped {
			text = unescapeSegment(segment)
			if !first {
				b.WriteByte('/')
			}
			b.WriteString(text)
		}
		if !isFileName(text) || text[0] == '.' && !dotFiles && !(first && text == ".well-known") { // RFC 8615
			return "", false, false
		}
		first = false
	}
	if escaped {
		return b.String(), isFolder, true
	}
	return raw, isFolder, true
}

// isFileName reports whether s names something in a folder, on any system.
func isFileName(s string) bool {
	if s == "" || s == "." || s == ".." || len(s) > fileNameBytesMax || !utf8.ValidString(s) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f || c == '/' || c == '\\' {
			return false
		}
	}
	return true
}

// rest returns what of the request's path, escaped, is left to its handler: what
// the wildcard at the end of the pattern has matched, or is behind the prefix of a
// mount.
func (r *Request) rest() (string, error) {
	x := r.lease.enter()
	if x == nil {
		return "", errRequestDone
	}
	defer r.lease.exit()
	path := x.r.string(x.r.head.path)
	match, ok := x.r.match.(*routeMatch)
	if !ok {
		return path, nil
	}
	path = path[match.base:]
	if e := match.entry; match.kind == matchFound && !e.mounted {
		if last := len(e.pattern.segments) - 1; last >= 0 && e.pattern.segments[last].kind == segmentRest {
			for range last + 1 {
				_, path, _ = strings.Cut(path, "/")
			}
		}
	}
	return path, nil
}

// withSlash is where a folder is that was asked for without its slash.
func (r *Request) withSlash() string {
	x := r.lease.enter()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	to := escapeForLocation(x.r.string(x.r.head.path)) + "/"
	if query, _ := x.r.queryView(); query != "" {
		to += "?" + query
	}
	return to
}
