package flare

import (
	"slices"
	"strings"
)

// This file is layer 5 (surface): the tree that patterns are kept in. It knows
// patterns and entries; it does not know requests or locks, and never looks
// into a handler. mux.go builds a routeTable and mux_find.go searches it; a
// table never changes once it is built, so searching takes no lock.
//
// The tree branches on path segments, and each place where patterns end has a
// small table of methods, so that one walk serves all of them.

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
	literals [64][]literalPath // by length modulo 64
}

// literalPath is a pattern's whole path.
type literalPath struct {
	path  string
	table *methodTable
}

// literal returns the table of a path that is a pattern by itself, or nil.
func (t *hostTree) literal(path string) *methodTable {
	for i, same := 0, t.literals[len(path)&63]; i < min(len(same), literalsScanned); i++ {
		if same[i].path == path {
			return same[i].table
		}
	}
	return nil
}

// literalsScanned is how many paths of one length the first look compares; the
// others are found by the walk.
const literalsScanned = 8

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
		same := &t.literals[len(key)&63]
		if !slices.ContainsFunc(*same, func(l literalPath) bool { return l.path == key }) {
			*same = append(*same, literalPath{key, *slot})
		}
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

// child returns the node behind a literal and makes it when needed.
func (n *routeNode) child(text string) *routeNode {
	if c := n.literal(text); c != nil {
		return c
	}
	c := &routeNode{}
	if n.index != nil {
		n.kids = append(n.kids, literalNode{text, c})
		n.index[text] = c
		return c
	}
	at := slices.IndexFunc(n.kids, func(k literalNode) bool { return len(k.text) > len(text) })
	if at < 0 {
		at = len(n.kids)
	}
	n.kids = slices.Insert(n.kids, at, literalNode{text, c})
	if len(n.kids) <= kidsScanned {
		for i := min(len(text), kidLengths-1) + 1; i < len(n.starts); i++ {
			n.starts[i]++
		}
		return c
	}
	n.index = make(map[string]*routeNode, len(n.kids))
	for _, k := range n.kids {
		n.index[k.text] = k.node
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

// meet calls visit for the tables of all patterns below n that may match what
// segs match; some of them do not.
func (n *routeNode) meet(segs []patternSegment, visit func(*methodTable)) {
	if n == nil {
		return
	}
	visit(n.rest)
	if len(segs) == 0 {
		visit(n.leaf)
		return
	}
	kind := segs[0].kind
	if kind == segmentEnd || kind == segmentRest {
		visit(n.end)
	}
	switch kind {
	case segmentLiteral:
		n.literal(segs[0].text).meet(segs[1:], visit)
		n.wild.meet(segs[1:], visit)
	case segmentWild, segmentRest:
		next := segs // a rest goes on below
		if kind == segmentWild {
			next = segs[1:]
		} else {
			visit(n.leaf)
		}
		for _, k := range n.kids {
			k.node.meet(next, visit)
		}
		n.wild.meet(next, visit)
	}
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
