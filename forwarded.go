package flare

import (
	"net/netip"
	"strings"
)

// This file is layer 1 (wire): what proxies say of a request that they pass on:
// Forwarded (RFC 7239) and the fields whose names begin with X-Forwarded-, which
// have no standard. It knows the grammar; whose word counts is forwarded_trust.go's.

// A forwardedHop is what one proxy says of whom it has the request from. The
// strings are parts of the field, or copies of them.
type forwardedHop struct {
	client netip.AddrPort // invalid: not told, hidden, or malformed; the port is 0 if it is not told
	proto  string         // as it was sent; "": not told
	host   string         // likewise
}

// nextForwarded cuts the first element off the value of a Forwarded field (RFC 7239
// §4). What is malformed is a hop that tells nothing, as far as the next comma; but
// where quotation marks do not add up, nobody can say what is inside of them, and
// that hop is the last.
func nextForwarded(list string) (hop forwardedHop, rest string, more bool) {
	ok := true
	for s := list; ; {
		var name, value string
		var end byte
		name, value, s, end = nextForwardedPair(s)
		switch {
		case end == forwardedBroken:
			return forwardedHop{}, "", false
		case name == "" && value == "": // ";" alone, or an empty element
		case !isToken(name) || !hop.set(name, value):
			ok = false
		}
		if end == ';' {
			continue
		}
		if !ok {
			hop = forwardedHop{}
		}
		return hop, s, end == ','
	}
}

// forwardedBroken stands for the octet behind a pair that does not end.
const forwardedBroken = 1

// nextForwardedPair cuts name=value off the front of s. end is the octet behind it:
// ';', ',', 0 at the end of s, or forwardedBroken. What is no pair is a name alone.
func nextForwardedPair(s string) (name, value, rest string, end byte) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ';', ',':
			return trimBlank(s[:i]), "", s[i+1:], s[i]
		case '"':
			return "", "", "", forwardedBroken
		case '=':
			name = trimBlank(s[:i])
			value, rest, end = forwardedValue(s[i+1:])
			return name, value, rest, end
		}
	}
	return trimBlank(s), "", "", 0
}

// forwardedValue cuts a value off the front of s. One without quotation marks may
// have colons and brackets, since there are proxies that send them so.
func forwardedValue(s string) (value, rest string, end byte) {
	i, escaped := 0, false
	if strings.HasPrefix(s, `"`) {
		for i = 1; i < len(s) && s[i] != '"'; i++ {
			if s[i] == '\\' {
				escaped = true
				i++
			}
		}
		if i >= len(s) {
			return "", "", forwardedBroken
		}
		if value = s[1:i]; escaped {
			value = unescapeQuoted(value)
		}
		i++
	} else {
		for i < len(s) && s[i] != ';' && s[i] != ',' {
			if s[i] == '"' {
				return "", "", forwardedBroken
			}
			i++
		}
		value = trimBlank(s[:i])
	}
	for i < len(s) && isBlank(s[i]) {
		i++
	}
	switch {
	case i == len(s):
		return value, "", 0
	case s[i] == ';' || s[i] == ',':
		return value, s[i+1:], s[i]
	}
	return "", "", forwardedBroken
}

// unescapeQuoted takes the backslashes out of what is inside a quoted-string (RFC
// 9110 §5.6.4), each of which has an octet behind it.
func unescapeQuoted(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		}
		b = append(b, s[i])
	}
	return string(b)
}

// set keeps a parameter. It reports whether the hop may have it: each may be there
// once (RFC 7239 §4).
func (h *forwardedHop) set(name, value string) bool {
	if value == "" {
		return false
	}
	switch {
	case equalFoldASCII(name, "for"):
		if h.client.IsValid() {
			return false
		}
		h.client = forwardedNode(value)
	case equalFoldASCII(name, "proto"):
		if h.proto != "" {
			return false
		}
		h.proto = value
	case equalFoldASCII(name, "host"):
		if h.host != "" {
			return false
		}
		h.host = value
	}
	return true
}

// forwardedNode reads a node (RFC 7239 §6), and what X-Forwarded-For has instead:
// there an IPv6 address may be without brackets. "unknown" and names that begin with
// an underscore are no address, and neither is what is malformed. A port that is
// hidden so is 0.
func forwardedNode(s string) netip.AddrPort {
	name, port, ok := splitNode(s)
	if !ok {
		return netip.AddrPort{}
	}
	addr, err := ParseAddr(name)
	if err != nil {
		return netip.AddrPort{}
	}
	number := 0
	if strings.HasPrefix(port, "_") {
		ok = isToken(port)
	} else {
		number, ok = parsePort([]byte(port))
	}
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(max(number, 0)))
}

// splitNode parts a node into address and port; "" is no port.
func splitNode(s string) (name, port string, ok bool) {
	colon := strings.IndexByte(s, ':')
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || strings.IndexByte(s[:end], ':') < 0 { // brackets are for IPv6 (RFC 3986 §3.2.2)
			return "", "", false
		}
		if end == len(s)-1 {
			return s[1:end], "", true
		}
		name, colon = s[1:end], end+1
		if s[colon] != ':' {
			return "", "", false
		}
	} else if colon < 0 || strings.IndexByte(s[colon+1:], ':') >= 0 {
		return s, "", true
	} else {
		name = s[:colon]
	}
	port = s[colon+1:]
	return name, port, port != ""
}

// forwardedScheme returns the scheme that a proxy names, "" for another than these.
// There are proxies that say so of a WebSocket.
func forwardedScheme(s string) string {
	switch {
	case equalFoldASCII(s, "https"), equalFoldASCII(s, "wss"):
		return "https"
	case equalFoldASCII(s, "http"), equalFoldASCII(s, "ws"):
		return "http"
	}
	return ""
}
