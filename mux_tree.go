package flare

import (
	"slices"
	"strings"
)

// This file is layer 5 (surface): finding the pattern for a method, a host and
// a path. It knows patterns and offsets; it does not know requests, handlers
// or locks. mux.go builds a routeTable and asks it; a table never changes once
// it is built, so asking takes no lock, and no memory either.
//
// The tree branches on path segments, and each place where patterns end has a
// small table of methods. Patterns that match the same request are always
// ordered, else registration had refused them, and the most specific one has
// both the most specific path and the most specific method. So the first
// place found wins, trying at each segment the literal, then {name}, then the
// rest of the path:
//
//	/a/b/z    tried first for /a/b/c, and fails at z
//	/a/{x}/c  tried next

// methodID numbers the methods that have a fixed place in a methodTable.
type methodID uint8

const (
	methodGet methodID = iota
	methodHead
	methodPost
	methodPut
	methodPatch
	methodDelete
	methodOptions
	methodConnect
	methodTrace
	methodOther
)

func methodIDOf(method string) methodID {
	switch method {
	case "GET":
		return methodGet
	case "HEAD":
		return methodHead
	case "POST":
		return methodPost
	case "PUT":
		return methodPut
	case "PATCH":
		return methodPatch
	case "DELETE":
		return methodDelete
	case "OPTIONS":
		return methodOptions
	case "CONNECT":
		return methodConnect
	case "TRACE":
		return methodTrace
	}
	return methodOther
}

// routeEntry is a registered pattern with what belongs to it; immutable once
// it is in a table.
type routeEntry struct {
	pattern *routePattern
	where   string  // file:line of the registration, for messages
	handler Handler // behind the middleware of its group and its own
	route   *route  // the predictor's record
	inner   *Mux    // when the handler registered is a mux: asked for the route
	mounted bool    // a mux in handler starts behind the prefix
	bare    bool    // no middleware before inner
	pin     pin     // of the handler or the outermost middleware that has one
}

// methodTable is what patterns with one path have for each method.
type methodTable struct {
	known [methodOther]*routeEntry // HEAD through GET and any already filled in
	other []*routeEntry            // by pattern.method
	any   *routeEntry              // no method in the pattern
	all   []*routeEntry            // as registered, for Allow
}

// routeNode is a place in the tree: some segments of a path are matched.
type routeNode struct {
	leaf *methodTable // patterns whose path ends here
	end  *methodTable // "{$}" here
	rest *methodTable // "{name...}" or a trailing slash here
	wild *routeNode   // "{name}" here

	// Literals here. While they are few they are sorted by length, and those
	// of length n start at kids[starts[n]], the long ones sharing a place.
	kids   []literalNode
	starts [kidLengths + 1]uint8
	index  map[string]*routeNode // the same, when they are many
}

type literalNode struct {
	text string
	node *routeNode
}

const (
	// kidsScanned is up to how many literals looking through those of one
	// length is faster than a map.
	kidsScanned = 24
	kidLengths  = 16
)

// hostTree holds the patterns of one host.
type hostTree struct {
	root routeNode
	// A first look that needs no walk: paths of patterns without a wildcard,
	// to the same tables that the tree has. Nothing is more specific.
	literals map[string]*methodTable
	lengths  uint64 // bit n: there is a literal of length n modulo 64
}

// literal returns the table of a path that is a pattern by itself, or nil.
func (t *hostTree) literal(path string) *methodTable {
	if t.lengths>>(len(path)&63)&1 == 0 {
		return nil
	}
	return t.literals[path]
}

// routeTable is all patterns of a mux.
type routeTable struct {
	any   hostTree             // patterns without a host
	hosts map[string]*hostTree // nil when no pattern has a host

	chain  Handler // the mux behind its middleware
	plain  bool    // it has none
	missed *route  // the predictor's record of redirects and refusals
}

// buildTable makes the table of entries that do not conflict.
func buildTable(entries []*routeEntry) *routeTable {
	t := &routeTable{}
	for _, e := range entries {
		host := &t.any
		if name := e.pattern.host; name != "" {
			if host = t.hosts[name]; host == nil {
				if t.hosts == nil {
					t.hosts = make(map[string]*hostTree)
				}
				host = &hostTree{}
				t.hosts[name] = host
			}
		}
		host.insert(e)
	}
	return t
}

func (t *hostTree) insert(e *routeEntry) {
	n, slot, key := &t.root, (**methodTable)(nil), ""
	for _, s := range e.pattern.segments {
		switch s.kind {
		case segmentLiteral:
			n = n.child(s.text)
			key += "/" + s.text
		case segmentWild:
			if n.wild == nil {
				n.wild = &routeNode{}
			}
			n = n.wild
		case segmentEnd:
			slot = &n.end
			key += "/"
		case segmentRest:
			slot = &n.rest
		}
	}
	if slot == nil {
		slot = &n.leaf
	}
	if *slot == nil {
		*slot = &methodTable{}
	}
	(*slot).insert(e)
	if e.pattern.isLiteral() {
		if t.literals == nil {
			t.literals = make(map[string]*methodTable)
		}
		t.literals[key] = *slot
		t.lengths |= 1 << (len(key) & 63)
	}
}

// isLiteral reports whether the pattern matches one path, and that path's
// bytes are its unescaped segments.
func (p *routePattern) isLiteral() bool {
	for _, s := range p.segments {
		if s.kind == segmentWild || s.kind == segmentRest || strings.ContainsAny(s.text, "/%") {
			return false
		}
	}
	return true
}

func (t *methodTable) insert(e *routeEntry) {
	t.all = append(t.all, e)
	method := e.pattern.method
	id := methodIDOf(method)
	switch {
	case method == "":
		t.any = e
	case id == methodOther:
		t.other = append(t.other, e)
	default:
		t.known[id] = e
	}
	// Fill in what is not registered for itself.
	for id := range methodConnect {
		own := t.known[id]
		if own != nil && (own.pattern.method != "" && methodIDOf(own.pattern.method) == id) {
			continue
		}
		t.known[id] = t.any
		if get := t.known[methodGet]; id == methodHead && get != nil {
			t.known[id] = get
		}
	}
}

// pick returns the entry for a method, or nil.
func (t *methodTable) pick(id methodID, method string) *routeEntry {
	if t == nil {
		return nil
	}
	if id != methodOther {
		return t.known[id]
	}
	for _, e := range t.other {
		if e.pattern.method == method {
			return e
		}
	}
	return t.any
}

// child returns the node behind a literal and makes it when needed.
func (n *routeNode) child(text string) *routeNode {
	if c := n.literal(text); c != nil {
		return c
	}
	c := &routeNode{}
	at := slices.IndexFunc(n.kids, func(k literalNode) bool { return len(k.text) > len(text) })
	if at < 0 {
		at = len(n.kids)
	}
	n.kids = slices.Insert(n.kids, at, literalNode{text, c})
	switch {
	case n.index != nil:
		n.index[text] = c
	case len(n.kids) > kidsScanned:
		n.index = make(map[string]*routeNode, len(n.kids))
		for _, k := range n.kids {
			n.index[k.text] = k.node
		}
	default:
		for i := min(len(text), kidLengths-1) + 1; i < len(n.starts); i++ {
			n.starts[i]++
		}
	}
	return c
}

func (n *routeNode) literal(text string) *routeNode {
	if n.index != nil {
		return n.index[text]
	}
	length := min(len(text), kidLengths-1)
	for _, k := range n.kids[n.starts[length]:n.starts[length+1]] {
		if k.text == text {
			return k.node
		}
	}
	return nil
}

// literalEscaped is literal for a segment that has escapes.
func (n *routeNode) literalEscaped(seg string) *routeNode {
	for i := range n.kids {
		if equalUnescaped(seg, n.kids[i].text) {
			return n.kids[i].node
		}
	}
	return nil
}

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

// methods appends the methods of the table. Which ones a pattern without a
// method takes is up to its handler; those that are common are named.
func (t *methodTable) methods(to []string) []string {
	if t == nil {
		return to
	}
	for _, e := range t.all {
		switch method := e.pattern.method; method {
		case "":
			to = append(to, "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
		case "GET":
			to = append(to, "GET", "HEAD")
		default:
			to = append(to, method)
		}
	}
	return to
}
