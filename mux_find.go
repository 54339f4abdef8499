package flare

import (
	"slices"
	"strings"
)

// This file is layer 5 (surface): finding the pattern for a method, a host and
// a path. It knows the tree of mux_tree.go and offsets into the path; it does
// not know requests, handlers or locks. mux.go calls find and allow. Finding
// takes no memory.
//
// Patterns that match the same request are always ordered, else registration
// had refused them, and the most specific one has both the most specific path
// and the most specific method. So the first place found wins, trying at each
// segment the literal, then {name}, then the rest of the path:
//
//	/a/b/z    tried first for /a/b/c, and fails at z
//	/a/{x}/c  tried next

// routeSearch is one walk down a tree.
type routeSearch struct {
	path    string
	method  string
	id      methodID
	escaped bool // there is an escape in path
	slashed bool // search for path with one more slash behind it; values stay as they are
	exact   bool // result: no rest matched more than the last slash
	match   *routeMatch
}

// find routes a request and fills m. path is the whole path, of which m.base
// bytes belong to the mounts that led here.
func (t *routeTable) find(m *routeMatch, method, host, path string) {
	id := methodIDOf(method)
	m.entry, m.kind, m.depth, m.count = nil, matchFound, m.level, m.held
	if id == methodConnect {
		t.findConnect(m, method, host, path)
		return
	}
	var first, second *hostTree = &t.any, nil
	if t.hosts != nil {
		if h := t.hostTree(hostWithoutPort(host)); h != nil {
			first, second = h, first
		}
	}
	// The first look. Patterns are clean, so a path found here is.
	if table := first.literal(path[m.base:]); table != nil {
		if m.entry = table.pick(id, method); m.entry != nil {
			m.rest = len(path)
			return
		}
	}
	if path == "*" {
		m.kind = matchServer
		return
	}
	s := routeSearch{path: path, method: method, id: id, match: m}
	var clean bool
	if s.escaped, clean = scanRoutePath(path, m.base); clean {
		s.search(first, second, true)
		return
	}
	s.path = path[:m.base] + cleanRoutePath(path[m.base:])
	s.search(first, second, true)
	if m.kind != matchSlash && (m.entry != nil || !explicitOnly(method)) {
		m.kind, m.count = matchClean, m.held
	}
}

// findConnect routes a CONNECT: host and path are taken as sent, and the
// redirect to a subtree is for patterns without a host, as in net/http.
func (t *routeTable) findConnect(m *routeMatch, method, host, path string) {
	s := routeSearch{path: path, method: method, id: methodConnect, match: m}
	s.escaped, _ = scanRoutePath(path, m.base)
	if s.search(&t.any, nil, true); m.kind == matchSlash {
		return
	}
	var first, second *hostTree = &t.any, nil
	if h := t.hostTree(host); h != nil {
		first, second = h, first
	}
	s.search(first, second, false)
}

// search walks the tree of the host, then the one of all hosts. With redirect
// it also looks whether the path is a subtree that lacks its slash.
func (s *routeSearch) search(first, second *hostTree, redirect bool) {
	m := s.match
	m.kind, m.entry = matchFound, s.either(first, second)
	if m.entry != nil && s.exact {
		return
	}
	if redirect && len(s.path) > m.base && s.path[len(s.path)-1] != '/' {
		s.slashed = true
		e := s.either(first, second)
		s.slashed = false
		if e != nil && s.exact {
			m.kind, m.entry, m.count = matchSlash, e, m.held
			return
		}
	}
	if m.entry == nil {
		m.kind = matchRefused
	}
}

func (s *routeSearch) either(first, second *hostTree) *routeEntry {
	e := s.in(first)
	if e == nil && second != nil {
		e = s.in(second)
	}
	return e
}

// in searches one tree. An empty path is "/" (RFC 9110 §4.2.3).
func (s *routeSearch) in(t *hostTree) *routeEntry {
	if !s.slashed {
		s.match.count = s.match.held
	}
	if at := s.match.base; at < len(s.path) {
		return s.walk(&t.root, at)
	}
	return s.walkSlash(&t.root, len(s.path))
}

// walk matches s.path[at:], which starts with a slash or is empty, below n.
func (s *routeSearch) walk(n *routeNode, at int) *routeEntry {
	for {
		if at == len(s.path) && !s.slashed {
			return s.take(n.leaf, at)
		}
		if at >= len(s.path)-1 && (at == len(s.path)) == s.slashed {
			return s.walkSlash(n, at)
		}
		end := at + 1
		for end < len(s.path) && s.path[end] != '/' {
			end++
		}
		seg := s.path[at+1 : end]
		var c *routeNode
		if s.escaped && strings.IndexByte(seg, '%') >= 0 {
			c = n.literalEscaped(seg)
		} else {
			c = n.literal(seg)
		}
		if n.wild == nil && n.rest == nil { // nothing to come back for
			if c == nil {
				return nil
			}
			n, at = c, end
			continue
		}
		return s.walkBranches(n, c, at, end)
	}
}

// walkBranches tries the literal child c, then {name}, then the rest.
func (s *routeSearch) walkBranches(n, c *routeNode, at, end int) *routeEntry {
	count := s.match.count
	if c != nil {
		if e := s.walk(c, end); e != nil {
			return e
		}
		s.match.count = count
	}
	if n.wild != nil {
		if !s.slashed {
			s.match.add(at+1, end)
		}
		if e := s.walk(n.wild, end); e != nil {
			return e
		}
		s.match.count = count
	}
	e := s.takeRest(n.rest, at)
	if e != nil {
		s.exact = false
	}
	return e
}

// walkSlash matches the slash at the end of the path.
func (s *routeSearch) walkSlash(n *routeNode, at int) *routeEntry {
	if e := s.take(n.end, at); e != nil {
		return e
	}
	return s.takeRest(n.rest, at)
}

// take ends the walk with a table's entry for the method. A mux mounted there
// gets nothing of the path.
func (s *routeSearch) take(t *methodTable, at int) *routeEntry {
	e := t.pick(s.id, s.method)
	if e != nil {
		s.exact = true
		if !s.slashed {
			s.match.rest = at
		}
	}
	return e
}

// takeRest is take for a rest; at is its slash.
func (s *routeSearch) takeRest(t *methodTable, at int) *routeEntry {
	e := s.take(t, at)
	if e != nil && !s.slashed && e.pattern.namesRest() {
		s.match.add(min(at+1, len(s.path)), len(s.path))
	}
	return e
}

// hostTree returns the tree of a host, without one for all hosts. Hosts are
// case-insensitive (RFC 9110 §4.2.3); nearly all arrive in lower case.
func (t *routeTable) hostTree(host string) *hostTree {
	if h := t.hosts[host]; h != nil || len(t.hosts) == 0 {
		return h
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	var lower [hostBytesMax]byte
	if len(host) > len(lower) {
		return nil
	}
	for i := range len(host) {
		c := host[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	return t.hosts[string(lower[:len(host)])]
}

// hostBytesMax is above the 253 octets of a host name with its port.
const hostBytesMax = 260

// hostWithoutPort cuts the port off a Host field; of an IPv6 literal only the
// address is left.
func hostWithoutPort(host string) string {
	colon := strings.LastIndexByte(host, ':')
	if colon < 0 {
		return host
	}
	if host[0] == '[' {
		if end := strings.IndexByte(host, ']'); end > 0 {
			return host[1:end]
		}
		return host
	}
	if strings.IndexByte(host, ':') != colon {
		return host // an address without brackets: no telling which is the port
	}
	return host[:colon]
}

// scanRoutePath reports whether path[from:] has escapes, and whether it is
// free of empty, "." and ".." segments. A slash at its end is fine.
func scanRoutePath(path string, from int) (escaped, clean bool) {
	clean = true
	for i := from; i < len(path); i++ {
		c := path[i]
		if c > '/' {
			continue
		}
		if c == '%' {
			escaped = true
		} else if c == '/' && i+1 < len(path) && path[i+1] <= '/' && isUncleanSegment(path[i+1:]) {
			clean = false
		}
	}
	return escaped, clean
}

// isUncleanSegment reports whether s starts with a segment that cleaning
// resolves.
func isUncleanSegment(s string) bool {
	n := 0
	for n < len(s) && n < 2 && s[n] == '.' {
		n++
	}
	return n == len(s) || s[n] == '/'
}

// allow returns the methods that would be routed for a request that was
// refused, sorted. Like net/http it counts what a redirect to the path with a
// slash would lead to.
func (t *routeTable) allow(m *routeMatch, method, host, path string) []string {
	if method != "CONNECT" {
		host = hostWithoutPort(host)
		path = path[:m.base] + cleanRoutePath(path[m.base:])
	} else if path == "" {
		return nil // a tunnel's target is no resource
	}
	s := routeSearch{path: path, match: m}
	slash := strings.HasSuffix(path[m.base:], "/")
	var methods []string
	for _, tree := range []*hostTree{&t.any, t.hostTree(host)} {
		if tree == nil {
			continue
		}
		s.slashed = false
		methods = s.collect(&tree.root, m.base, methods)
		if s.slashed = !slash; s.slashed {
			methods = s.collect(&tree.root, m.base, methods)
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

// collect is walk that takes every way.
func (s *routeSearch) collect(n *routeNode, at int, methods []string) []string {
	switch {
	case n == nil:
		return methods
	case at == len(s.path) && !s.slashed:
		return n.leaf.methods(methods)
	case at >= len(s.path)-1 && (at == len(s.path)) == s.slashed:
		return n.rest.methods(n.end.methods(methods))
	}
	end := at + 1
	for end < len(s.path) && s.path[end] != '/' {
		end++
	}
	methods = s.collect(n.literalEscaped(s.path[at+1:end]), end, methods)
	methods = s.collect(n.wild, end, methods)
	return n.rest.methods(methods)
}
