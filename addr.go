package flare

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// This file is layer 0 (base): IP address literals, read strictly into
// net/netip's types. It resolves no names. Host parsing, the forwarding
// headers, the client and the resolver call it, and users who have a literal
// from outside.
//
// Strict means that a literal has one reading: what other readers take for
// octal (010.0.0.1), hexadecimal (0x7f.0.0.1) or a shortened address (127.1)
// is refused, and so is every byte that is not of the literal, so that an
// accepted string can be put into a header or a log line as it is.

// ErrInvalidAddr means that an address literal is not one. The text of
// an error that wraps it names the rule and the byte.
var ErrInvalidAddr = errors.New("flare: invalid address")

// An addrError says which rule an address literal broke and at which byte. It
// does not repeat the literal.
type addrError struct {
	offset int    // bytes from the start of the string given
	rule   string // the rule, such as "port above 65535"
}

func (e *addrError) Error() string {
	return "flare: address byte " + strconv.Itoa(e.offset) + ": " + e.rule
}

// Unwrap makes errors.Is(err, ErrInvalidAddr) answer.
func (e *addrError) Unwrap() error { return ErrInvalidAddr }

const ruleSecondColon = "second colon: IPv6 with a port needs brackets"

// zoneBytesMax bounds a zone: the longest interface name of Linux and the BSDs
// (IFNAMSIZ less its NUL).
const zoneBytesMax = 15

// ParseAddr reads an IPv4 literal (192.0.2.1) or an IPv6 literal without
// brackets (2001:db8::1, ::ffff:192.0.2.1).
//
// A zone (fe80::1%eth0) is accepted on link-local IPv6 addresses only, where
// it means something (RFC 4007 §11), and only of the bytes A-Z a-z 0-9 - . _ ~
// (RFC 6874 §2), at most 15 of them. Every error is
// an ErrInvalidAddr.
func ParseAddr(s string) (netip.Addr, error) { return parseAddr(s, 0) }

// ParseAddrPort reads an IPv4 literal and a port (192.0.2.1:80) or an IPv6
// literal in brackets and a port ([2001:db8::1]:80). The literal is what
// ParseAddr accepts; the port is 0 to 65535 in decimal without sign or leading
// zeros and is not optional. Every error is
// an ErrInvalidAddr.
func ParseAddrPort(s string) (netip.AddrPort, error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return netip.AddrPort{}, &addrError{len(s), "missing ]"}
		}
		addr, err := parseAddr6(s[1:end], 1)
		if err != nil {
			return netip.AddrPort{}, err
		}
		return parseColonPort(addr, s, end+1)
	}
	colon := strings.IndexByte(s, ':')
	if colon < 0 {
		colon = len(s)
	} else if again := strings.IndexByte(s[colon+1:], ':'); again >= 0 {
		return netip.AddrPort{}, &addrError{colon + 1 + again, ruleSecondColon}
	}
	addr, err := parseAddr4(s[:colon], 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return parseColonPort(addr, s, colon)
}

// parseColonPort reads ":port" from s[colon:] to the end.
func parseColonPort(addr netip.Addr, s string, colon int) (netip.AddrPort, error) {
	bad := func(offset int, rule string) (netip.AddrPort, error) {
		return netip.AddrPort{}, &addrError{offset, rule}
	}
	if colon == len(s) {
		return bad(colon, "missing port")
	}
	if s[colon] != ':' {
		return bad(colon, "address not followed by a colon and a port")
	}
	digits := colon + 1
	if digits == len(s) {
		return bad(digits, "empty port")
	}
	port := 0
	for i := digits; i < len(s); i++ {
		if !isDecimal(s[i]) {
			return bad(i, "port not decimal")
		}
		if i > digits && port == 0 {
			return bad(digits, "leading zero in port")
		}
		if port = port*10 + int(s[i]-'0'); port > 65535 {
			return bad(i, "port above 65535")
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// parseAddr reads a literal of either family. base is the literal's offset in
// what the user gave, for errors.
func parseAddr(s string, base int) (netip.Addr, error) {
	if strings.IndexByte(s, ':') >= 0 {
		return parseAddr6(s, base)
	}
	return parseAddr4(s, base)
}

func parseAddr4(s string, base int) (netip.Addr, error) {
	b, err := parseDotted(s, base)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.AddrFrom4(b), nil
}

// parseDotted reads exactly four decimal fields of 0 to 255 without leading
// zeros, with dots between them (RFC 3986 §3.2.2, IPv4address).
func parseDotted(s string, base int) (b [4]byte, _ error) {
	if s == "" {
		return b, &addrError{base, "empty address"}
	}
	field, value, start := 0, 0, 0 // start: where the field's digits begin
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case isDecimal(c):
			if i > start && value == 0 {
				return b, &addrError{base + start, "leading zero in IPv4 field"}
			}
			if value = value*10 + int(c-'0'); value > 255 {
				return b, &addrError{base + i, "IPv4 field above 255"}
			}
		case c != '.':
			return b, &addrError{base + i, "byte that is not of an IPv4 address"}
		case i == start:
			return b, &addrError{base + i, "empty IPv4 field"}
		case field == 3:
			return b, &addrError{base + i, "more than four IPv4 fields"}
		default:
			b[field] = byte(value)
			field, value, start = field+1, 0, i+1
		}
	}
	if start == len(s) {
		return b, &addrError{base + start, "empty IPv4 field"}
	}
	if field != 3 {
		return b, &addrError{base + len(s), "fewer than four IPv4 fields"}
	}
	b[3] = byte(value)
	return b, nil
}

func parseAddr6(s string, base int) (netip.Addr, error) {
	literal, zone, zoned := strings.Cut(s, "%")
	b, err := parseGroups(literal, base)
	if err != nil {
		return netip.Addr{}, err
	}
	addr := netip.AddrFrom16(b)
	if !zoned {
		return addr, nil
	}
	if err := checkZone(addr, zone, base+len(literal)); err != nil {
		return netip.Addr{}, err
	}
	return addr.WithZone(zone), nil
}

// checkZone checks the zone of an address; percent is the offset of its sign.
func checkZone(addr netip.Addr, zone string, percent int) error {
	if addr.Is4In6() || !addr.IsLinkLocalUnicast() && !addr.IsLinkLocalMulticast() {
		return &addrError{percent, "zone on an address that is not link-local"}
	}
	if zone == "" {
		return &addrError{percent + 1, "empty zone"}
	}
	if len(zone) > zoneBytesMax {
		return &addrError{percent + 1 + zoneBytesMax, "zone longer than an interface name"}
	}
	for i := 0; i < len(zone); i++ {
		if c := zone[i]; !isDecimal(c) && !('a' <= c|0x20 && c|0x20 <= 'z') && strings.IndexByte("-._~", c) < 0 {
			return &addrError{percent + 1 + i, "byte that is not of a zone"}
		}
	}
	return nil
}

// parseGroups reads the eight groups of an IPv6 address, of which :: stands
// for one or more that are zero and the last two may be an IPv4 address (RFC
// 4291 §2.2).
func parseGroups(s string, base int) (b [16]byte, _ error) {
	if s == "" {
		return b, &addrError{base, "empty address"}
	}
	n, gap := 0, -1 // bytes read; where :: stands among them
	i := 0
	if strings.HasPrefix(s, "::") {
		gap, i = 0, 2
	}
	for i < len(s) {
		value, end, err := readGroup(s, i, n, base)
		if err != nil {
			return b, err
		}
		if end < len(s) && s[end] == '.' {
			dotted, err := readLastGroups(s, i, n, base)
			if err != nil {
				return b, err
			}
			n += copy(b[n:], dotted[:])
			break
		}
		b[n], b[n+1] = byte(value>>8), byte(value)
		n += 2
		if end == len(s) {
			break
		}
		if i, err = skipColon(s, end, base); err != nil {
			return b, err
		}
		if s[i] == ':' {
			if gap >= 0 {
				return b, &addrError{base + i, "second :: in an IPv6 address"}
			}
			gap = n
			i++
		}
	}
	return spreadGap(b, n, gap, base+len(s))
}

// readGroup reads the group at offset i, before which there are n bytes of the
// address. end is where its digits end.
func readGroup(s string, i, n, base int) (value, end int, _ error) {
	if n == 16 {
		return 0, 0, &addrError{base + i, "more than eight IPv6 groups"}
	}
	value, digits := hexGroup(s[i:])
	if digits == 0 {
		return 0, 0, &addrError{base + i, "IPv6 group expected"}
	}
	return value, i + digits, nil
}

// skipColon skips the colon at offset i, which something has to follow.
func skipColon(s string, i, base int) (int, error) {
	if s[i] != ':' {
		return 0, &addrError{base + i, "IPv6 group not followed by a colon"}
	}
	if i+1 == len(s) {
		return 0, &addrError{base + i, "single colon at the end"}
	}
	return i + 1, nil
}

// readLastGroups reads the IPv4 address at offset i, which ends the literal.
func readLastGroups(s string, i, n, base int) ([4]byte, error) {
	dotted, err := parseDotted(s[i:], base+i)
	if err == nil && n > 12 {
		err = &addrError{base + i, "more than eight IPv6 groups"}
	}
	return dotted, err
}

// spreadGap moves the bytes after the :: to the address's end. end is the
// literal's, for errors.
func spreadGap(b [16]byte, n, gap, end int) ([16]byte, error) {
	if gap < 0 {
		if n < 16 {
			return b, &addrError{end, "fewer than eight IPv6 groups"}
		}
		return b, nil
	}
	if n == 16 {
		return b, &addrError{end, ":: stands for no group"}
	}
	tail := n - gap
	copy(b[16-tail:], b[gap:n])
	clear(b[gap : 16-tail])
	return b, nil
}

// hexGroup reads up to four hexadecimal digits at the start of s.
func hexGroup(s string) (value, digits int) {
	for digits < min(4, len(s)) {
		switch c := s[digits]; {
		case isDecimal(c):
			value = value<<4 | int(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			value = value<<4 | int(c|0x20-'a'+10)
		default:
			return value, digits
		}
		digits++
	}
	return value, digits
}

func isDecimal(c byte) bool { return '0' <= c && c <= '9' }
