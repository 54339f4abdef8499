package flare

import (
	"slices"
	"strings"
)

// This file is layer 5 (surface): the result of routing one request, which
// lives inside the Request, and the values that its wildcards matched. It
// knows offsets into the request's path; it does not know how they were found
// (mux_find.go) nor who asks (mux.go, and Request.PathValue and Pattern).

// matchKind says what routing came to.
type matchKind uint8

const (
	matchNone    matchKind = iota // not routed yet
	matchFound                    // entry takes the request
	matchClean                    // redirect to the path without "//", "." and ".."
	matchSlash                    // redirect to the clean path with a slash behind it
	matchServer                   // "OPTIONS *": the server, not a resource
	matchRefused                  // no pattern takes it: 404 or 405
)

// fewValues wildcards are held without an allocation; patterns with more are
// rare enough to pay one.
const fewValues = 8

// pathSpan is a part of the path, in bytes from its start.
type pathSpan struct{ start, end uint32 }

// routeMatch is what routing found for one request. Its zero value is "not
// routed"; it belongs to whoever the Request belongs to. Muxes may be mounted
// in one another: the values of the outer ones come first.
type routeMatch struct {
	routeFound
	ahead routeFound // what a mux found that is mounted at entry, until it is called; by nil: nothing
	few   [fewValues]pathSpan
	more  []pathSpan // those after the first fewValues

	// Where the next mux asked starts; set by enter and leave.
	mounts []*routeEntry
	level  int // mounts[:level] lead there
	base   int // bytes of the path that belong to them
	held   int // values that belong to them
}

// routeFound is set by the mux asked last.
type routeFound struct {
	by    *Mux
	entry *routeEntry // for the redirects: what will match then, or nil
	kind  matchKind
	depth int // mounts[:depth] lead to by
	rest  int // where in the path a mux mounted at entry starts
	count int // values held, those of the mounts included
}

// routeMatch returns where a Mux keeps what it finds for r.
func (r *serverRequest) routeMatch() *routeMatch {
	m, ok := r.match.(*routeMatch)
	if !ok {
		m = new(routeMatch)
		r.match = m
	}
	return m
}

// matched reports whether a pattern takes the request.
func (m *routeMatch) matched() bool { return m.kind == matchFound }

// reset makes m "not routed" for the next request and keeps its memory.
func (m *routeMatch) reset() {
	m.routeFound, m.ahead = routeFound{}, routeFound{}
	m.level, m.base, m.held = 0, 0, 0
}

// clone returns a copy that shares nothing with m.
func (m *routeMatch) clone() routing {
	c := new(routeMatch)
	*c = *m
	c.more = slices.Clone(m.more)
	c.mounts = slices.Clone(m.mounts)
	return c
}

// add appends a value.
func (m *routeMatch) add(start, end int) {
	v := pathSpan{uint32(start), uint32(end)}
	if m.count < fewValues {
		m.few[m.count] = v
	} else {
		m.more = append(m.more[:m.count-fewValues], v)
	}
	m.count++
}

func (m *routeMatch) span(i int) pathSpan {
	if i < fewValues {
		return m.few[i]
	}
	return m.more[i-fewValues]
}

// value returns what the wildcard called name matched in path, the path that
// was routed, and whether there is such a wildcard. It is a substring of path
// unless it holds an escape. The innermost mux wins over those it is mounted
// in.
func (m *routeMatch) value(path, name string) (v string, ok bool) {
	i, depth := m.count, m.depth
	if m.kind == matchFound {
		names := m.entry.pattern.names
		i -= len(names)
		if v, ok = m.valueOf(path, names, i, name); ok {
			return v, true
		}
	}
	for ; depth > 0; depth-- {
		names := m.mounts[depth-1].pattern.names
		i -= len(names)
		if v, ok = m.valueOf(path, names, i, name); ok {
			return v, true
		}
	}
	return "", false
}

func (m *routeMatch) valueOf(path string, names []string, first int, name string) (string, bool) {
	j := slices.Index(names, name)
	if j < 0 {
		return "", false
	}
	s := m.span(first + j)
	return unescapeSegment(path[s.start:s.end]), true
}

// pattern returns the pattern that matched, behind the prefixes of the mounts
// that led to it: "GET /api/users/{id}". It allocates only for a mounted mux.
func (m *routeMatch) pattern() string {
	if m.entry == nil {
		return ""
	}
	if m.depth == 0 {
		return m.entry.pattern.text
	}
	return string(m.appendPattern(nil))
}

// appendPattern appends it, without an allocation of its own.
func (m *routeMatch) appendPattern(b []byte) []byte {
	if m.entry == nil {
		return b
	}
	own := m.entry.pattern
	if m.depth == 0 {
		return append(b, own.text...)
	}
	host := own.host
	for _, e := range m.mounts[:m.depth] {
		if e.pattern.host != "" {
			host = e.pattern.host
		}
	}
	if own.method != "" {
		b = append(append(b, own.method...), ' ')
	}
	b = append(b, host...)
	for _, e := range m.mounts[:m.depth] {
		b = append(b, strings.TrimSuffix(patternPath(e.pattern.text), "/")...)
	}
	return append(b, patternPath(own.text)...)
}

func patternPath(text string) string { return text[strings.IndexByte(text, '/'):] }

// matchFrame is what enter keeps for leave.
type matchFrame struct{ level, base, held int }

// enter makes the next mux asked start behind the mount that was just matched.
func (m *routeMatch) enter() matchFrame {
	f := matchFrame{m.level, m.base, m.held}
	m.mounts = append(m.mounts[:m.level], m.entry)
	m.level, m.base, m.held = m.level+1, m.rest, m.count
	return f
}

// leave goes back to where the mount was. What matched inside stays to be
// read: a log line written after the handler names the inner pattern.
func (m *routeMatch) leave(f matchFrame) { m.level, m.base, m.held = f.level, f.base, f.held }

// unescapeSegment decodes the %-escapes of s, and only them. It returns s
// itself when there are none, or when one is malformed.
func unescapeSegment(s string) string {
	if strings.IndexByte(s, '%') < 0 || !escapesAreValid(s) {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			c = pathHexDigit(s[i+1])<<4 | pathHexDigit(s[i+2])
			i += 2
		}
		b = append(b, c)
	}
	return string(b)
}

// equalUnescaped reports whether unescapeSegment(seg) == text.
func equalUnescaped(seg, text string) bool {
	if len(seg) < len(text) {
		return false
	}
	if !escapesAreValid(seg) {
		return seg == text
	}
	j := 0
	for i := 0; i < len(seg); i++ {
		c := seg[i]
		if c == '%' {
			c = pathHexDigit(seg[i+1])<<4 | pathHexDigit(seg[i+2])
			i += 2
		}
		if j == len(text) || text[j] != c {
			return false
		}
		j++
	}
	return j == len(text)
}

func escapesAreValid(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		if i+2 >= len(s) || pathHexDigit(s[i+1]) > 15 || pathHexDigit(s[i+2]) > 15 {
			return false
		}
		i += 2
	}
	return true
}

// pathHexDigit returns the value of a hex digit, 255 for any other byte.
func pathHexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}
