package flare

// This file is layer 0 (base): which octets the grammars of RFC 9110 and 9112
// allow where, and comparison without regard to ASCII case. It knows octets;
// it does not know messages. The wire layer and everything above it use it.

// The classes of an octet, as bits of charClass.
const (
	classToken  = 1 << iota // tchar (RFC 9110 §5.6.2)
	classTarget             // passes through a request target unexamined
	classValue              // field-vchar, SP, HTAB, obs-text (RFC 9110 §5.5)
	classHost               // unreserved, sub-delims (RFC 3986 §3.2.2)
	classHex                // HEXDIG, either case
	classQuoted             // qdtext (RFC 9110 §5.6.4)
)

// charClass gives the classes of each octet.
var charClass = func() (table [256]uint8) {
	const (
		alphanumeric = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
		symbols      = "!#$%&'*+-.^_`|~" // tchar but for the above
		unreserved   = "-._~"            // RFC 3986 §2.3 but for the above
		subDelims    = "!$&'()*+,;="     // RFC 3986 §2.2
	)
	add := func(class uint8, octets string) {
		for i := range len(octets) {
			table[octets[i]] |= class
		}
	}
	add(classToken, alphanumeric+symbols)
	add(classHost, alphanumeric+unreserved+subDelims)
	add(classHex, "0123456789ABCDEFabcdef")
	for c := range 256 {
		switch {
		case c >= 0x80: // obs-text; raw octets that browsers and curl put into targets
			table[c] |= classValue | classQuoted | classTarget
		case c == '\t' || c == ' ':
			table[c] |= classValue | classQuoted
		case c > ' ' && c < 0x7f:
			table[c] |= classValue
			if c != '"' && c != '\\' {
				table[c] |= classQuoted
			}
			// '#' has no place in a target. '?' has, and '%' and '\' in some
			// parts of one: they have to be looked at.
			if c != '#' && c != '\\' && c != '?' && c != '%' {
				table[c] |= classTarget
			}
		}
	}
	return table
}()

// skipClass returns the offset of the first octet at or after i that is not of
// the class, or len(b).
func skipClass(b []byte, i int, class uint8) int {
	for i <= len(b)-4 &&
		charClass[b[i]]&charClass[b[i+1]]&charClass[b[i+2]]&charClass[b[i+3]]&class != 0 {
		i += 4
	}
	for i < len(b) && charClass[b[i]]&class != 0 {
		i++
	}
	return i
}

func isDigit(c byte) bool { return c-'0' < 10 }

// isBlank says whether c is white space inside a line: OWS, RWS, BWS of RFC
// 9110 §5.6.3.
func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// hexDigit returns the value of a HEXDIG.
func hexDigit(c byte) byte { return c&0xf + 9*(c>>6) }

// lowerASCII folds the case of one octet.
func lowerASCII(c byte) byte {
	if c-'A' < 26 {
		c |= 0x20
	}
	return c
}

// equalFoldASCII says whether a and b differ at most in the case of ASCII
// letters. strings.EqualFold folds K with the Kelvin sign, which would make
// two names one that are not.
func equalFoldASCII[A, B ~string | ~[]byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if x, y := a[i], b[i]; x != y && lowerASCII(x) != lowerASCII(y) {
			return false
		}
	}
	return true
}

// isASCII says whether s has no octet above 0x7f.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// escapeNonASCII returns s with each octet above 0x7f as a %-escape.
func escapeNonASCII(s string) string {
	return escapeOctets(s, func(c byte) bool { return c >= 0x80 })
}

// escapeOctets returns s with the octets that escaped picks as %-escapes (RFC
// 3986 §2.1); s itself if there are none.
func escapeOctets(s string, escaped func(c byte) bool) string {
	const hex = "0123456789ABCDEF"
	var b []byte
	for i := range len(s) {
		switch c := s[i]; {
		case escaped(c):
			if b == nil {
				b = append(make([]byte, 0, len(s)+16), s[:i]...)
			}
			b = append(b, '%', hex[c>>4], hex[c&15])
		case b != nil:
			b = append(b, c)
		}
	}
	if b == nil {
		return s
	}
	return string(b)
}

// isToken says whether s is a token: not empty, and tchars alone.
func isToken[S ~string | ~[]byte](s S) bool {
	for i := range len(s) {
		if charClass[s[i]]&classToken == 0 {
			return false
		}
	}
	return len(s) > 0
}

// isFieldValue says whether s may be sent as a field value: no control octet
// but HTAB, so no way to end the line (RFC 9110 §5.5).
func isFieldValue[S ~string | ~[]byte](s S) bool {
	for i := range len(s) {
		if charClass[s[i]]&classValue == 0 {
			return false
		}
	}
	return true
}

// trimBlank drops white space from both ends.
func trimBlank[S ~string | ~[]byte](s S) S {
	for len(s) > 0 && isBlank(s[0]) {
		s = s[1:]
	}
	for len(s) > 0 && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// nextListMember cuts the first member off a comma-separated list (RFC 9110
// §5.6.1) that has no quoted strings. Members may be empty; more says whether
// rest holds another one.
func nextListMember[S ~string | ~[]byte](list S) (member, rest S, more bool) {
	for i := range len(list) {
		if list[i] == ',' {
			return trimBlank(list[:i]), list[i+1:], true
		}
	}
	return trimBlank(list), list[len(list):], false
}

// listContains says whether one member of a comma-separated list is the token.
func listContains[S ~string | ~[]byte](list S, token string) bool {
	for more := true; more; {
		var member S
		if member, list, more = nextListMember(list); equalFoldASCII(member, token) {
			return true
		}
	}
	return false
}
