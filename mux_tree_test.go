package flare

import (
	"strings"
	"testing"
)

// testTable builds a table that is asked without a mux.
func testTable(t testing.TB, patterns ...string) *routeTable {
	t.Helper()
	var entries []*routeEntry
	for _, text := range patterns {
		p, err := parsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if why := p.conflictWith(e.pattern); why != "" {
				t.Fatal(why)
			}
		}
		entries = append(entries, &routeEntry{pattern: p})
	}
	return buildTable(entries)
}

// A node finds its literals however many there are.
func TestLiteralsOfANode(t *testing.T) {
	var n routeNode
	nodes := make(map[string]*routeNode)
	for i := range 3 * kidsScanned {
		text := strings.Repeat("x", i%(kidLengths+2)) + string(rune('a'+i%26)) + string(rune('a'+i/26))
		nodes[text] = n.child(text)
		if (n.index != nil) != (i >= kidsScanned) {
			t.Errorf("%d literals: map %v", i+1, n.index != nil)
		}
		for text, want := range nodes {
			escaped := "%" + string("0123456789abcdef"[text[0]>>4]) + string("0123456789abcdef"[text[0]&15]) + text[1:]
			if n.literal(text) != want || n.child(text) != want || n.literalEscaped(escaped) != want {
				t.Fatalf("%d literals: %q lost", i+1, text)
			}
		}
		for _, text := range []string{"", "x", "zzz", strings.Repeat("x", kidLengths-1), strings.Repeat("x", 40)} {
			if n.literal(text) != nil || n.literalEscaped(text) != nil {
				t.Fatalf("%d literals: %q found", i+1, text)
			}
		}
	}
}

// The first look finds patterns without a wildcard, and only them.
func TestLiteralPaths(t *testing.T) {
	long := "/" + strings.Repeat("x", 200)
	table := testTable(t, "/a", "GET /a/b", "/a/{$}", "/{$}", long, "GET /c/", "POST /{x}/y", "/e%41", "/e%2Ff", "/e%25")
	for path, want := range map[string]bool{
		"/a": true, "/a/b": true, "/a/": true, "/": true, long: true, "/eA": true,
		"/c/": false, "/q/y": false, "/e/f": false, "/e%2Ff": false, "/e%": false, "/e%25": false, "": false, "/b": false,
	} {
		if got := table.any.literal(path) != nil; got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
}
