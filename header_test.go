package flare

import (
	"slices"
	"strings"
	"testing"
)

func headerText(h *Header) string { return string(h.snapshot().appendTo(nil)) }

func TestHeader(t *testing.T) {
	var h Header
	if h.Len() != 0 || h.Get("A") != "" || h.Values("A") != nil || headerText(&h) != "" {
		t.Errorf("zero Header is not empty: %q", headerText(&h))
	}
	h.Add("Accept", "a")
	h.Add("X-One", "1")
	h.Add("ACCEPT", "b")
	h.Add("accept", "")
	if got, want := headerText(&h), "Accept: a\r\nX-One: 1\r\nACCEPT: b\r\naccept: \r\n"; got != want {
		t.Errorf("added: %q, want %q", got, want)
	}
	if got := h.Get("aCCEPT"); got != "a" {
		t.Errorf("Get: %q, want the first", got)
	}
	if got := h.Values("accepT"); !slices.Equal(got, []string{"a", "b", ""}) {
		t.Errorf("Values: %q", got)
	}
	h.Set("accept", " \tc \t")
	if got, want := headerText(&h), "accept: c\r\nX-One: 1\r\n"; got != want {
		t.Errorf("set: %q, want %q", got, want)
	}
	h.Set("New", "2")
	h.Del("x-oNE")
	h.Del("absent")
	if got, want := headerText(&h), "accept: c\r\nNew: 2\r\n"; got != want || h.Len() != 2 {
		t.Errorf("deleted: %q, want %q", got, want)
	}
	var all []string
	for name, value := range h.All() {
		all = append(all, name, value)
	}
	for range h.All() {
		break
	}
	if !slices.Equal(all, []string{"accept", "c", "New", "2"}) {
		t.Errorf("All: %q", all)
	}
	if err := h.fault(); err != nil {
		t.Errorf("fault: %v", err)
	}
}

// TestHeaderCopy holds that a copy leads to the same fields, so that no two write
// over each other's.
func TestHeaderCopy(t *testing.T) {
	var none Header
	none.Del("A")
	none.Clone()
	other := none
	other.Set("A", "1")
	if none.Len() != 0 || none.has("A") {
		t.Errorf("a copy of an empty header has filled it: %q", headerText(&none))
	}
	copied := other
	copied.Add("B", "2")
	other.Add("C", "3")
	if headerText(&copied) != "A: 1\r\nB: 2\r\nC: 3\r\n" || headerText(&other) != headerText(&copied) {
		t.Errorf("%q and its copy %q", headerText(&other), headerText(&copied))
	}
}

func TestHeaderClone(t *testing.T) {
	var h Header
	h.Add("A", "1")
	h.Add("B\n", "")
	c := h.Clone()
	c.Set("A", "2")
	c.Add("C", "3")
	if headerText(&h) != "A: 1\r\n" || headerText(c) != "A: 2\r\nC: 3\r\n" || c.fault() == nil {
		t.Errorf("original %q, clone %q, %v", headerText(&h), headerText(c), c.fault())
	}
}

// TestHeaderRefuses holds that nothing a setter takes can end a line.
func TestHeaderRefuses(t *testing.T) {
	for _, test := range []struct {
		name, value string
		valid       bool
	}{
		{"A", "b", true},
		{"!#$%&'*+-.^_`|~09az", "\tvalue \xc3\xa9\xff\t", true},
		{"A", "", true},
		{"", "b", false},
		{"A:", "b", false},
		{"A ", "b", false},
		{" A", "b", false},
		{"A\r\nB", "b", false},
		{"A\n", "b", false},
		{"A\x00", "b", false},
		{"\xc3\xa9", "b", false},
		{"A", "b\rc", false},
		{"A", "b\nc", false},
		{"A", "b\r\nC: d", false},
		{"A", "b\n", false},
		{"A", "b\x00", false},
		{"A", "b\x0b", false},
		{"A", "b\x7f", false},
	} {
		for _, set := range []struct {
			name string
			call func(*Header, string, string)
		}{{"Set", (*Header).Set}, {"Add", (*Header).Add}} {
			var h Header
			h.Add("A", "old")
			set.call(&h, test.name, test.value)
			stored := headerText(&h) != "A: old\r\n"
			if stored != test.valid || (h.fault() == nil) != test.valid {
				t.Errorf("%s(%q, %q): header %q, fault %v", set.name, test.name, test.value, headerText(&h), h.fault())
			}
			if err := h.fault(); err != nil && strings.ContainsAny(err.Error(), "\r\n\x00\x0b\x7f") {
				t.Errorf("error %q repeats a control character", err)
			}
		}
	}
}

func TestHeaderFaultIsTheFirst(t *testing.T) {
	var h headerFields
	h.Set("first\n", "")
	h.Set("second\n", "")
	if err := h.fault(); err == nil || !strings.Contains(err.Error(), "first") {
		t.Errorf("fault %v, want the first", err)
	}
	h.reset()
	if h.fault() != nil {
		t.Errorf("fault %v after reset", h.fault())
	}
}

func TestHeaderFill(t *testing.T) {
	const text = "GET / HTTP/1.1\r\nA: 1\r\nBc:  2 \r\n"
	var h headerFields
	h.Add("Old", "gone")
	h.fill(text, []field{{16, 17, 19, 20}, {22, 24, 27, 28}})
	if got := string(h.appendTo(nil)); got != "A: 1\r\nBc: 2\r\n" {
		t.Errorf("filled %q", got)
	}
	h.reset()
	if h.Len() != 0 || h.Get("A") != "" {
		t.Errorf("%d fields after reset", h.Len())
	}
	for range fieldsKept + 1 {
		h.Add("Many", "value")
	}
	h.reset()
	if h.list[:1][0] != (headerField{}) {
		t.Errorf("reset of many fields keeps their memory: %q", h.list[:1])
	}
}

func TestHeaderAllocations(t *testing.T) {
	const text = "A: 1\r\nB: 2\r\n"
	fields := []field{{0, 1, 3, 4}, {6, 7, 9, 10}}
	var h headerFields
	out := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		h.fill(text, fields)
		h.Set("A", "3")
		h.Del("B")
		out = h.appendTo(out[:0])
		h.reset()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
