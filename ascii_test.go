package flare

import (
	"slices"
	"strings"
	"testing"
)

// TestCharClass checks every octet of every class against the grammar, spelled
// out once more.
func TestCharClass(t *testing.T) {
	letterOrDigit := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	}
	for i := range 256 {
		c := byte(i)
		in := func(set string) bool { return strings.IndexByte(set, c) >= 0 }
		for _, class := range []struct {
			name string
			bit  uint8
			want bool
		}{
			{"token", classToken, letterOrDigit(c) || in("!#$%&'*+-.^_`|~")},
			{"target", classTarget, c > ' ' && c != 0x7f && !in(`#\?%`)},
			{"value", classValue, c == '\t' || c >= ' ' && c != 0x7f},
			{"host", classHost, letterOrDigit(c) || in("-._~!$&'()*+,;=")},
			{"hex", classHex, in("0123456789abcdefABCDEF")},
			{"quoted", classQuoted, c == '\t' || c >= ' ' && c != 0x7f && !in(`"\`)},
		} {
			if got := charClass[c]&class.bit != 0; got != class.want {
				t.Errorf("%q is of class %s: %t, want %t", c, class.name, got, class.want)
			}
		}
		if isDigit(c) != in("0123456789") {
			t.Errorf("isDigit(%q) = %t", c, isDigit(c))
		}
		if at := strings.IndexByte("0123456789abcdef", lowerASCII(c)); at >= 0 && hexDigit(c) != byte(at) {
			t.Errorf("hexDigit(%q) = %d, want %d", c, hexDigit(c), at)
		}
		if upper := c >= 'A' && c <= 'Z'; lowerASCII(c) != c && !upper || upper && lowerASCII(c) != c+0x20 {
			t.Errorf("lowerASCII(%q) = %q", c, lowerASCII(c))
		}
	}
}

func TestEqualFoldASCII(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"Keep-Alive", "kEEP-aLIVE", true},
		{"a", "b", false},
		{"a", "aa", false},
		{"@", "`", false},
		{"[", "{", false},
		{"-", "\r", false},
		{"k", "\u212a", false}, // the Kelvin sign
		{"\xe9", "\xc9", false},
	} {
		if equalFoldASCII(test.a, test.b) != test.want || equalFoldASCII([]byte(test.b), test.a) != test.want {
			t.Errorf("equalFoldASCII(%q, %q), want %t", test.a, test.b, test.want)
		}
	}
}

func TestNextListMember(t *testing.T) {
	for list, want := range map[string][]string{
		"":               {""},
		"a":              {"a"},
		" a\t,b , c":     {"a", "b", "c"},
		",a,,":           {"", "a", "", ""},
		"close;x,clos":   {"close;x", "clos"},
		"a b,\t \t,c\td": {"a b", "", "c\td"},
	} {
		var got []string
		rest, more := list, true
		for more {
			var member string
			member, rest, more = nextListMember(rest)
			got = append(got, member)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: members %q, want %q", list, got, want)
		}
		for _, member := range want {
			if !listContains([]byte(list), strings.ToUpper(member)) {
				t.Errorf("%q does not contain %q", list, member)
			}
		}
		if listContains(list, "absent") {
			t.Errorf("%q contains what it does not", list)
		}
	}
}

func TestIsToken(t *testing.T) {
	for s, want := range map[string]bool{"": false, "GET": true, "a b": false, "a:": false, "~": true, "é": false} {
		if isToken(s) != want || isToken([]byte(s)) != want {
			t.Errorf("isToken(%q), want %t", s, want)
		}
	}
}

func TestIsASCII(t *testing.T) {
	for c := range 256 {
		for _, s := range []string{string([]byte{byte(c)}), "a" + string([]byte{byte(c)}), string([]byte{byte(c)}) + "a"} {
			if isASCII(s) != (c < 0x80) {
				t.Errorf("isASCII(%q), want %t", s, c < 0x80)
			}
		}
	}
	if !isASCII("") {
		t.Error("nothing is not ASCII")
	}
}
