package flare

import (
	"encoding/binary"
	"unicode/utf8"
)

// This file is layer 1 (wire): validation of UTF-8 (RFC 3629 §4) that arrives
// in pieces. It fails at the first octet that no valid text can have there, so
// that a text message is refused before the rest of it has come. The message
// reader calls it.

// A utf8Check is where a text stands between two pieces. The zero value is the
// beginning of a text.
type utf8Check struct {
	missing uint8 // octets that the character begun still needs
	lo, hi  uint8 // what the next of them may be
}

// A utf8Lead is what the first octet of a character asks for.
type utf8Lead struct{ missing, lo, hi uint8 }

// utf8Leads has missing 0 for octets that begin no character of several octets:
// continuations, C0 and C1 (overlong), and F5 to FF (beyond U+10FFFF).
var utf8Leads = func() (leads [256]utf8Lead) {
	for c := 0xc2; c <= 0xf4; c++ {
		l := utf8Lead{1, 0x80, 0xbf}
		switch {
		case c >= 0xf0:
			l.missing = 3
		case c >= 0xe0:
			l.missing = 2
		}
		switch c { // RFC 3629 §4: UTF8-3 and UTF8-4
		case 0xe0:
			l.lo = 0xa0 // overlong below
		case 0xed:
			l.hi = 0x9f // surrogates above
		case 0xf0:
			l.lo = 0x90 // overlong below
		case 0xf4:
			l.hi = 0x8f // beyond U+10FFFF above
		}
		leads[c] = l
	}
	return leads
}()

// next takes the next piece of the text and returns the offset of the first
// wrong octet, -1 if there is none.
func (u *utf8Check) next(p []byte) int {
	i := 0
	for ; i < len(p) && u.missing != 0; i++ { // a character that began in an earlier piece
		if !u.continues(p[i]) {
			return i
		}
	}
	for i < len(p) {
		for i+8 <= len(p) && binary.LittleEndian.Uint64(p[i:])&highBits == 0 {
			i += 8
		}
		for i < len(p) && p[i] < utf8.RuneSelf {
			i++
		}
		for i < len(p) && p[i] >= utf8.RuneSelf {
			l := utf8Leads[p[i]]
			n := int(l.missing)
			if n == 0 {
				return i
			}
			i++
			if len(p)-i < n {
				return u.cut(p, i, l)
			}
			if p[i] < l.lo || p[i] > l.hi {
				return i
			}
			for n--; n > 0; n-- {
				if i++; p[i]&0xc0 != 0x80 {
					return i
				}
			}
			i++
		}
	}
	return -1
}

// cut checks the beginning of a character, from behind its first octet on,
// whose end is in the next piece.
func (u *utf8Check) cut(p []byte, i int, l utf8Lead) int {
	u.missing, u.lo, u.hi = l.missing, l.lo, l.hi
	for ; i < len(p); i++ {
		if !u.continues(p[i]) {
			return i
		}
	}
	return -1
}

// continues takes one more octet of the character begun.
func (u *utf8Check) continues(c byte) bool {
	if c < u.lo || c > u.hi {
		return false
	}
	u.missing--
	u.lo, u.hi = 0x80, 0xbf
	return true
}

// complete reports whether the text may end here.
func (u *utf8Check) complete() bool { return u.missing == 0 }
