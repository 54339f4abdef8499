package flare

import (
	"net/url"
	"strings"
	"testing"
)

func TestUnescapeSegment(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""}, {"a", "a"}, {"%61", "a"}, {"a%2fb", "a/b"}, {"a%2Fb%25", "a/b%"}, {"%c3%A9", "é"},
		{"a+b", "a+b"}, {"%00", "\x00"},
		{"%", "%"}, {"%6", "%6"}, {"%6g", "%6g"}, {"%61%", "%61%"}, {"%61%g1", "%61%g1"}, {"%%61", "%%61"},
	}
	for _, tt := range tests {
		if got := unescapeSegment(tt.in); got != tt.want {
			t.Errorf("unescapeSegment(%q) = %q, want %q", tt.in, got, tt.want)
		}
		for _, other := range tests {
			if got := equalUnescaped(tt.in, other.want); got != (tt.want == other.want) {
				t.Errorf("equalUnescaped(%q, %q) = %v", tt.in, other.want, got)
			}
		}
	}
}

func FuzzUnescapeSegment(f *testing.F) {
	for _, s := range []string{"a%2fb", "%", "%zz", "%61%", "a+b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := url.PathUnescape(s)
		if err != nil {
			want = s
		}
		if got := unescapeSegment(s); got != want {
			t.Errorf("got %q, net/url %q", got, want)
		}
		if !equalUnescaped(s, want) {
			t.Errorf("equalUnescaped(%q, %q) = false", s, want)
		}
		if equalUnescaped(s, want+"x") || want != "" && equalUnescaped(s, want[1:]) {
			t.Errorf("equalUnescaped(%q) takes another text", s)
		}
	})
}

// routeAlone routes in a table of patterns and returns path and match.
func routeAlone(t testing.TB, path string, patterns ...string) *routeMatch {
	t.Helper()
	m := &routeMatch{}
	testTable(t, patterns...).find(m, "GET", "", path)
	return m
}

func TestManyValues(t *testing.T) {
	// Around the number that is held without an allocation.
	for n := 1; n <= 2*fewValues+1; n++ {
		var pattern, path strings.Builder
		name := func(i int) string { return "n" + strings.Repeat("i", i) }
		for i := range n {
			pattern.WriteString("/{" + name(i) + "}")
			path.WriteString("/v" + strings.Repeat("x", i))
		}
		m := routeAlone(t, path.String(), pattern.String(), "/")
		m.mounts = append(m.mounts, m.entry)
		c := m.clone().(*routeMatch)
		m.reset() // what comes next must not reach the clone
		for range n {
			m.add(0, 0)
		}
		m.mounts[0] = nil
		if c.mounts[0] != c.entry {
			t.Errorf("%d wildcards: the clone shares its mounts", n)
		}
		for i := range n {
			want := "v" + strings.Repeat("x", i)
			if got, ok := c.value(path.String(), name(i)); got != want || !ok {
				t.Errorf("%d wildcards: value %d = %q, %v, want %q", n, i, got, ok, want)
			}
		}
		if _, ok := c.value(path.String(), "other"); ok {
			t.Errorf("%d wildcards: a value without a name", n)
		}
	}
}

func TestResetMatch(t *testing.T) {
	m := routeAlone(t, "/v", "/{x}")
	m.reset()
	if _, ok := m.value("/v", "x"); ok || m.pattern() != "" || m.kind != matchNone {
		t.Errorf("after reset: %+v", m)
	}
}

func TestValueAllocations(t *testing.T) {
	path := "/users/gopher/files/a/b"
	m := routeAlone(t, path, "/users/{id}/files/{rest...}")
	if n := testing.AllocsPerRun(100, func() {
		if v, _ := m.value(path, "rest"); v != "a/b" {
			t.Fatal(v)
		}
		if v, _ := m.value(path, "id"); v != "gopher" {
			t.Fatal(v)
		}
		if m.pattern() == "" {
			t.Fatal("no pattern")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
