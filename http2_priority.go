package flare

import "encoding/base64"

// This file is layer 1 (wire): the priority of a stream as the Priority field
// and PRIORITY_UPDATE give it (RFC 9218 §4), a dictionary of structured fields
// (RFC 9651 §4.2.2). It knows the value alone; scheduling is the connection's.

// A streamPriority is how soon a response is wanted, and whether parts of it
// are of use.
type streamPriority struct {
	urgency     uint8 // 0 is the most urgent, 7 the least
	incremental bool
}

const urgencyMax = 7

// defaultPriority is that of a stream that says nothing (RFC 9218 §4.1, §4.2).
var defaultPriority = streamPriority{urgency: 3}

// parseStreamPriority reads a Priority value. One that is no dictionary says
// nothing, as does a member of another type or range (RFC 9218 §4).
func parseStreamPriority(value []byte) streamPriority {
	p := defaultPriority
	s := structured{rest: value}
	for s.skip(" "); len(s.rest) > 0; {
		key := s.key()
		item := structuredItem{kind: itemBoolean, n: 1}
		if s.take('=') {
			item = s.itemOrList()
		}
		s.parameters()
		switch string(key) {
		case "u":
			p.urgency = defaultPriority.urgency
			if item.kind == itemInteger && item.n >= 0 && item.n <= urgencyMax {
				p.urgency = uint8(item.n)
			}
		case "i":
			p.incremental = item.kind == itemBoolean && item.n == 1
		}
		s.skip(" \t")
		if len(s.rest) == 0 {
			break
		}
		if !s.take(',') {
			return defaultPriority
		}
		s.skip(" \t")
		s.failed = s.failed || len(s.rest) == 0 // a comma at the end
	}
	if s.failed {
		return defaultPriority
	}
	return p
}

type itemKind uint8

const (
	itemOther itemKind = iota
	itemInteger
	itemBoolean
)

// A structuredItem is a bare item, with its value if it is of interest.
type structuredItem struct {
	kind itemKind
	n    int64
}

// structured reads structured fields. Once failed it has nothing left.
type structured struct {
	rest   []byte
	failed bool
}

func (s *structured) fail() { s.rest, s.failed = nil, true }

// take drops c from the front if it is there.
func (s *structured) take(c byte) bool {
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// skip drops octets that are in set.
func (s *structured) skip(set string) {
	s.span(func(c byte) bool { return c == set[0] || c == set[len(set)-1] })
}

// span cuts off the octets at the front that fit.
func (s *structured) span(fits func(c byte) bool) []byte {
	n := 0
	for n < len(s.rest) && fits(s.rest[n]) {
		n++
	}
	cut := s.rest[:n]
	s.rest = s.rest[n:]
	return cut
}

// key reads a key (RFC 9651 §4.2.3.3).
func (s *structured) key() []byte {
	key := s.span(func(c byte) bool {
		return c-'a' < 26 || isDigit(c) || c == '_' || c == '-' || c == '.' || c == '*'
	})
	if len(key) == 0 || key[0]-'a' >= 26 && key[0] != '*' {
		s.fail()
	}
	return key
}

// parameters skips the parameters of an item (RFC 9651 §4.2.3.2).
func (s *structured) parameters() {
	for s.take(';') {
		s.skip(" ")
		s.key()
		if s.take('=') {
			s.item()
		}
	}
}

// itemOrList reads an item or skips an inner list (RFC 9651 §4.2.1.2).
func (s *structured) itemOrList() structuredItem {
	if !s.take('(') {
		return s.item()
	}
	for {
		s.skip(" ")
		if s.take(')') {
			return structuredItem{}
		}
		s.item()
		s.parameters()
		if len(s.rest) == 0 || s.rest[0] != ' ' && s.rest[0] != ')' {
			s.fail()
			return structuredItem{}
		}
	}
}

// item reads a bare item (RFC 9651 §4.2.3.1).
func (s *structured) item() structuredItem {
	if len(s.rest) == 0 {
		s.fail()
		return structuredItem{}
	}
	switch c := s.rest[0]; {
	case isDigit(c) || c == '-':
		return s.number()
	case s.take('?'):
		if len(s.rest) == 0 || s.rest[0] != '0' && s.rest[0] != '1' {
			s.fail()
			return structuredItem{}
		}
		n := int64(s.rest[0] - '0')
		s.rest = s.rest[1:]
		return structuredItem{itemBoolean, n}
	case c == '*' || lowerASCII(c)-'a' < 26: // a token
		s.span(func(c byte) bool { return charClass[c]&classToken != 0 || c == ':' || c == '/' })
	case s.take('"'):
		s.quoted()
	case s.take('@'): // a date
		if s.number().kind != itemInteger {
			s.fail()
		}
	case s.take('%'): // a display string
		s.displayed()
	case s.take(':'): // octets
		octets := s.span(func(c byte) bool { return c != ':' })
		if _, err := base64.StdEncoding.AppendDecode(nil, octets); err != nil || !s.take(':') {
			s.fail()
		}
	default:
		s.fail()
	}
	return structuredItem{}
}

// number reads an integer or skips a decimal (RFC 9651 §4.2.4).
func (s *structured) number() structuredItem {
	const integerDigitsMax, decimalDigitsMax, fractionDigitsMax = 15, 12, 3
	negative := s.take('-')
	digits := s.span(isDigit)
	item := structuredItem{kind: itemInteger}
	if s.take('.') {
		fraction := s.span(isDigit)
		if len(digits) > decimalDigitsMax || len(fraction) == 0 || len(fraction) > fractionDigitsMax {
			s.fail()
		}
		item.kind = itemOther
	}
	if len(digits) == 0 || len(digits) > integerDigitsMax {
		s.fail()
		return structuredItem{}
	}
	for _, c := range digits {
		item.n = item.n*10 + int64(c-'0')
	}
	if negative {
		item.n = -item.n
	}
	return item
}

// quoted skips a string, whose opening quote is taken (RFC 9651 §4.2.5).
func (s *structured) quoted() {
	for {
		s.span(func(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' })
		if s.take('"') {
			return
		}
		if !s.take('\\') || !s.take('"') && !s.take('\\') {
			s.fail()
			return
		}
	}
}

// displayed skips a display string behind its "%" (RFC 9651 §4.2.10).
func (s *structured) displayed() {
	if !s.take('"') {
		s.fail()
		return
	}
	for {
		s.span(func(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '%' })
		if s.take('"') {
			return
		}
		lowerHex := func(c byte) bool { return isDigit(c) || c-'a' < 6 }
		if !s.take('%') || len(s.rest) < 2 || !lowerHex(s.rest[0]) || !lowerHex(s.rest[1]) {
			s.fail()
			return
		}
		s.rest = s.rest[2:]
	}
}
