package flare

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
)

// This file is layer 5 (surface): what a route pattern says, and which of two
// patterns is the more specific. It knows the syntax of net/http.ServeMux
// patterns; it knows nothing of requests, trees and handlers. mux.go calls
// parsePattern and conflictWith when a route is registered, mux_tree.go reads
// the segments.
//
// A pattern is "[METHOD ][HOST]/[PATH]". The path is held as segments:
//
//	"/"              rest
//	"/a/b"           literal a, literal b
//	"/a/{id}/"       literal a, wild id, rest
//	"/a/{path...}"   literal a, rest path
//	"/a/{$}"         literal a, end

// segmentKind says what a segment of a pattern matches.
type segmentKind uint8

const (
	segmentLiteral segmentKind = iota // one segment, equal to text once unescaped
	segmentWild                       // one segment, whatever it is: "{name}"
	segmentRest                       // a slash and all behind it: "{name...}" or a trailing slash
	segmentEnd                        // a slash at the end of the path: "{$}"
)

type patternSegment struct {
	kind segmentKind
	text string // unescaped literal, or name of the wildcard ("": a trailing slash)
}

// routePattern is a parsed pattern; immutable.
type routePattern struct {
	text     string // as registered, prefix of its group included
	method   string // "": every method but CONNECT and TRACE
	host     string // lower case, no brackets; "": every host
	segments []patternSegment
	names    []string // of the wildcards, in the order of the path
}

func (p *routePattern) last() patternSegment { return p.segments[len(p.segments)-1] }

// namesRest reports whether the pattern ends in "{name...}".
func (p *routePattern) namesRest() bool {
	last := p.last()
	return last.kind == segmentRest && last.text != ""
}

// parsePattern parses "[METHOD ][HOST]/[PATH]". The error names the rule that
// text breaks.
func parsePattern(text string) (*routePattern, error) {
	method, host, rest, err := splitPattern(text)
	if err != nil {
		return nil, err
	}
	if method != "CONNECT" && rest != cleanRoutePath(rest) {
		return nil, errors.New("path is not clean: such requests are redirected, so it can never match")
	}
	p := &routePattern{text: text, method: method, host: foldHost(host)}
	for rest != "" { // rest[0] is '/'
		var seg string
		seg, rest = cutSegment(rest)
		if seg == "" && rest == "" {
			p.segments = append(p.segments, patternSegment{kind: segmentRest})
			break
		}
		s, err := parseSegment(seg, rest == "")
		if err != nil {
			return nil, err
		}
		if s.kind != segmentLiteral && s.kind != segmentEnd {
			for _, name := range p.names {
				if name == s.text {
					return nil, fmt.Errorf("wildcard name %q appears twice", name)
				}
			}
			p.names = append(p.names, s.text)
		}
		p.segments = append(p.segments, s)
	}
	return p, nil
}

// splitPattern takes a pattern apart. The path is not looked into; it starts
// with a slash.
func splitPattern(text string) (method, host, rest string, err error) {
	rest = text
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		method, rest = text[:i], strings.TrimLeft(text[i:], " \t")
		if method != "" && !isRouteMethod(method) {
			return "", "", "", fmt.Errorf("method %q is not a token", method)
		}
	}
	i := strings.IndexByte(rest, '/')
	if i < 0 {
		return "", "", "", errors.New("no slash, so no path")
	}
	host, rest = rest[:i], rest[i:]
	if i := strings.IndexAny(host, "{ \t"); i >= 0 {
		return "", "", "", fmt.Errorf("%q in the host (does the path lack its first slash?)", host[i])
	}
	return method, host, rest, nil
}

// cutSegment splits "/a/b" into "a" and "/b".
func cutSegment(rest string) (seg, after string) {
	rest = rest[1:]
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[:i], rest[i:]
	}
	return rest, ""
}

// parseSegment parses one segment; final says that nothing follows it.
func parseSegment(seg string, final bool) (patternSegment, error) {
	open := strings.IndexByte(seg, '{')
	if open < 0 {
		return patternSegment{kind: segmentLiteral, text: unescapeSegment(seg)}, nil
	}
	if open > 0 || seg[len(seg)-1] != '}' {
		return patternSegment{}, fmt.Errorf("wildcard must be a whole segment: %q", seg)
	}
	name := seg[1 : len(seg)-1]
	if name == "$" {
		if !final {
			return patternSegment{}, errors.New("{$} is not at the end")
		}
		return patternSegment{kind: segmentEnd}, nil
	}
	kind := segmentWild
	if cut, ok := strings.CutSuffix(name, "..."); ok {
		if !final {
			return patternSegment{}, fmt.Errorf("%q is not at the end", seg)
		}
		name, kind = cut, segmentRest
	}
	if !isWildcardName(name) {
		return patternSegment{}, fmt.Errorf("wildcard name %q is not a Go identifier", name)
	}
	return patternSegment{kind: kind, text: name}, nil
}

func isWildcardName(name string) bool {
	for i, c := range name {
		if c != '_' && !unicode.IsLetter(c) && (i == 0 || !unicode.IsDigit(c)) {
			return false
		}
	}
	return name != ""
}

// isRouteMethod reports whether s is a token (RFC 9110 §9.1, §5.6.2).
func isRouteMethod(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// cleanRoutePath resolves empty, "." and ".." segments and keeps a trailing
// slash. Escapes are left alone: "%2e" is no dot here.
func cleanRoutePath(p string) string {
	if p == "" {
		return "/" // RFC 9110 §4.2.3
	}
	clean := path.Clean(p)
	if p[len(p)-1] == '/' && clean != "/" {
		clean += "/"
	}
	return clean
}

// foldHost makes hosts comparable: they are case-insensitive (RFC 9110
// §4.2.3), and an IPv6 literal is the same with and without its brackets.
func foldHost(host string) string {
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	return strings.ToLower(host)
}

// specificity compares two patterns a and b: which has requests that the
// other has not. Over several parts of a pattern the bits add up, so that
// "a has more here" and "b has more there" becomes overlapping.
type specificity uint8

const (
	sameRequests specificity = 0
	moreInA      specificity = 1 // a matches something that b does not
	moreInB      specificity = 2
	overlapping  specificity = moreInA | moreInB
	disjoint     specificity = 4 // no request matches both, whatever the other bits say
)

// conflictWith explains why p and q cannot both be registered, or returns "".
// Two patterns conflict when there are requests that both match and neither
// is more specific; a host makes a pattern win over one without.
func (p *routePattern) conflictWith(q *routePattern) string {
	if p.host != q.host {
		return ""
	}
	methods := compareMethods(p.method, q.method)
	if methods&disjoint != 0 {
		return ""
	}
	paths := comparePaths(p.segments, q.segments)
	switch both := methods | paths; {
	case both&disjoint != 0:
		return ""
	case both == sameRequests:
		return fmt.Sprintf("%q matches the same requests as %q", p.text, q.text)
	case both != overlapping:
		return ""
	case paths == overlapping:
		return fmt.Sprintf("both match paths like %q, and neither %q nor %q is more specific",
			commonPath(p.segments, q.segments), p.text, q.text)
	case methods == moreInA:
		return fmt.Sprintf("%q matches more methods than %q, but has the more specific path", p.text, q.text)
	default:
		return fmt.Sprintf("%q matches fewer methods than %q, but has the more general path", p.text, q.text)
	}
}

// compareMethods: no method is all of them save CONNECT and TRACE, GET is GET
// and HEAD, anything else is itself.
func compareMethods(a, b string) specificity {
	switch {
	case a == b:
		return sameRequests
	case explicitOnly(a) || explicitOnly(b):
		return disjoint
	case a == "" || a == "GET" && b == "HEAD":
		return moreInA
	case b == "" || b == "GET" && a == "HEAD":
		return moreInB
	}
	return disjoint
}

// explicitOnly reports whether only a pattern that names the method takes it:
// CONNECT opens a tunnel (RFC 9110 §9.3.6) and TRACE sends the request's
// fields back (§9.3.8), neither of which a handler expects unasked.
func explicitOnly(method string) bool { return method == "CONNECT" || method == "TRACE" }

func comparePaths(a, b []patternSegment) specificity {
	rel := sameRequests
	for i := range min(len(a), len(b)) {
		if rel |= compareSegments(a[i], b[i]); rel&disjoint != 0 {
			return disjoint
		}
	}
	// The longer one goes on where the shorter ended: only a rest takes that.
	switch {
	case len(a) < len(b) && a[len(a)-1].kind == segmentRest:
		return rel | moreInA
	case len(b) < len(a) && b[len(b)-1].kind == segmentRest:
		return rel | moreInB
	case len(a) != len(b):
		return disjoint
	}
	return rel
}

func compareSegments(a, b patternSegment) specificity {
	switch {
	case a.kind == b.kind:
		if a.kind == segmentLiteral && a.text != b.text {
			return disjoint
		}
		return sameRequests
	case a.kind == segmentRest:
		return moreInA
	case b.kind == segmentRest:
		return moreInB
	case a.kind == segmentWild && b.kind == segmentLiteral:
		return moreInA
	case a.kind == segmentLiteral && b.kind == segmentWild:
		return moreInB
	}
	return disjoint // {$} beside a literal or a {name}
}

// commonPath returns an example of a path that both match. There has to be
// one.
func commonPath(a, b []patternSegment) string {
	if len(a) < len(b) {
		a, b = b, a
	}
	var out strings.Builder
	for i, s := range a {
		if i < len(b) && s.kind != segmentLiteral && (b[i].kind == segmentLiteral || b[i].kind == segmentEnd) {
			s = b[i]
		}
		if i < len(b) && s.kind == segmentRest {
			s = b[i]
		}
		out.WriteByte('/')
		if s.kind == segmentLiteral || s.kind == segmentWild {
			out.WriteString(s.text)
		}
	}
	return out.String()
}
