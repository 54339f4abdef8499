package flare

import (
	"bytes"
	"net/http"
)

// This file is layer 1 (wire): the four forms of a request target (RFC 9112
// §3.2) and the authority, which is also the value of Host. It knows the
// grammar; it neither decodes nor routes. parser.go and parser_framing.go call
// it.

// targetForm is the form of a request target.
type targetForm uint8

const (
	originForm    targetForm = iota // /path?query
	absoluteForm                    // http://authority/path?query
	authorityForm                   // host:port, with CONNECT alone
	asteriskForm                    // *, with OPTIONS alone
)

const (
	ruleTargetOctet     = "octet that has no place in a request target (RFC 9112 §3.2)"
	ruleTargetEscape    = "bad %-escape in the request target (RFC 3986 §2.1)"
	ruleTargetEmpty     = "empty request target (RFC 9112 §3)"
	ruleTargetForm      = "request target in none of the four forms (RFC 9112 §3.2)"
	ruleTargetAsterisk  = "target * without OPTIONS (RFC 9112 §3.2.4)"
	ruleTargetAuthority = "CONNECT with another target than host:port (RFC 9112 §3.2.3)"
	ruleTargetMax       = "request target too long (RFC 9110 §15.5.15)"
)

// scanTarget looks at the octets of the target from offset t on. It returns
// the offset of the space behind it, 0 to ask for more octets, or the fault.
//
// It takes what RFC 3986 leaves out and clients send: octets from 0x80 on, and
// in a query "\" and "%" without two digits behind it, which the WHATWG URL
// standard's rules leave as they are typed. In a path those two stay faults: a
// "\" is a separator to some, and a path has to decode in one way only.
func (h *requestHead) scanTarget(b []byte, t int, lim *headLimits) (int, error) {
	// One octet over the limit may be there: the space.
	end := min(t+effectiveLimit(lim.uriBytes)+1, len(b))
	cut := end < len(b)
	b = b[:end:end]
	i := t
	query, escaped := 0, false // offset behind the first "?"; an escape before it
	for {
		if i = skipClass(b, i, classTarget); i >= len(b) {
			break
		}
		c := b[i]
		if c == ' ' {
			h.target = span{uint32(t), uint32(i)}
			h.pathEscaped = escaped
			h.path = h.target
			if query != 0 {
				h.hasQuery = true
				h.query = span{uint32(query), uint32(i)}
				h.path.end = uint32(query) - 1
			}
			if b[t] == '/' && h.method.len() != len(http.MethodConnect) {
				return i, nil // the zero form is originForm
			}
			return i, h.classifyTarget(b)
		}
		if c == '?' && query == 0 {
			i++
			query = i
			continue
		}
		if query != 0 && (c == '?' || c == '%' || c == '\\') {
			i++
			continue
		}
		if c != '%' {
			return 0, targetFault(c, i)
		}
		for _, c := range b[i+1 : min(i+3, len(b))] {
			if charClass[c]&classHex == 0 {
				return 0, fault(http.StatusBadRequest, i, ruleTargetEscape)
			}
		}
		if i += 3; i > len(b) {
			break
		}
		escaped = true
	}
	if cut {
		return 0, fault(http.StatusRequestURITooLong, end-1, ruleTargetMax)
	}
	return 0, nil
}

func targetFault(c byte, offset int) error {
	if c == '\r' || c == '\n' {
		return fault(http.StatusBadRequest, offset, ruleRequestLine)
	}
	return fault(http.StatusBadRequest, offset, ruleTargetOctet)
}

// classifyTarget settles the form of a target all of whose octets are fit for
// one. h.path has what is before the query. It is for the forms other than the
// origin form, and for methods as long as CONNECT.
func (h *requestHead) classifyTarget(b []byte) error {
	method, target := string(h.method.of(b)), h.target.of(b)
	at := int(h.target.start)
	switch {
	case len(target) == 0:
		return fault(http.StatusBadRequest, at, ruleTargetEmpty)
	case method == http.MethodConnect:
		if _, port, ok := splitAuthority(target); !ok || port < 0 { // RFC 9112 §3.2.3
			return fault(http.StatusBadRequest, at, ruleTargetAuthority)
		}
		h.form = authorityForm
		h.authority = h.target
		h.path = span{}
	case target[0] == '/':
		h.form = originForm
	case len(target) == 1 && target[0] == '*':
		if method != http.MethodOptions { // RFC 9112 §3.2.4
			return fault(http.StatusBadRequest, at, ruleTargetAsterisk)
		}
		h.form = asteriskForm
	default:
		return h.classifyAbsolute(b)
	}
	return nil
}

// classifyAbsolute takes the absolute form with the two schemes that this
// server can be the origin of. Anything else is a request to a proxy.
func (h *requestHead) classifyAbsolute(b []byte) error {
	target := h.path.of(b)
	scheme := len("http://")
	if len(target) < scheme || !equalFoldASCII(target[:scheme], "http://") {
		scheme = len("https://")
		if len(target) < scheme || !equalFoldASCII(target[:scheme], "https://") {
			return fault(http.StatusBadRequest, int(h.target.start), ruleTargetForm)
		}
	}
	authority := target[scheme:]
	path := h.path.end // empty path: "/", or "*" with OPTIONS (RFC 9112 §3.2.4)
	if slash := bytes.IndexByte(authority, '/'); slash >= 0 {
		authority = authority[:slash]
		path = h.target.start + uint32(scheme+slash)
	}
	// No userinfo (RFC 9110 §4.2.4), no empty host (RFC 9110 §4.2.1).
	if !isAuthority(authority) {
		return fault(http.StatusBadRequest, int(h.target.start)+scheme, ruleTargetForm)
	}
	start := h.target.start + uint32(scheme)
	h.form = absoluteForm
	h.authority = span{start, start + uint32(len(authority))}
	h.path.start = path
	h.pathEscaped = bytes.IndexByte(h.path.of(b), '%') >= 0
	return nil
}

// isAuthority says whether s is uri-host [":" port] with a host that is not
// empty (RFC 9110 §4.2.1), as Host and the absolute form want it.
func isAuthority(s []byte) bool {
	_, _, ok := splitAuthority(s)
	return ok
}

// splitAuthority checks uri-host [":" port] (RFC 3986 §3.2.2, §3.2.3). port is
// -1 where it is absent or empty. A registered name is not resolved here: any
// that fits the grammar passes.
func splitAuthority(s []byte) (host []byte, port int, ok bool) {
	i := 0
	if len(s) > 0 && s[0] == '[' {
		end := bytes.IndexByte(s, ']')
		// IPvFuture is refused: no version of it exists (RFC 3986 §3.2.2). So is
		// a zone, which means nothing to another host (RFC 9844 §6).
		if end < 0 || !isIPv6(s[1:end]) {
			return nil, -1, false
		}
		i = end + 1
	} else {
		i = registeredNameLength(s)
	}
	host = s[:i]
	switch {
	case i == 0:
		return nil, -1, false
	case i == len(s):
		return host, -1, true
	case s[i] != ':':
		return nil, -1, false
	}
	port, ok = parsePort(s[i+1:])
	return host, port, ok
}

// registeredNameLength returns how many octets at the front of s make up a
// reg-name, an IPv4address among them.
func registeredNameLength(s []byte) int {
	i := 0
	for i < len(s) {
		switch {
		case charClass[s[i]]&classHost != 0:
			i++
		case s[i] == '%' && i+2 < len(s) && charClass[s[i+1]]&charClass[s[i+2]]&classHex != 0:
			i += 3
		default:
			return i
		}
	}
	return i
}

// parsePort takes up to five digits, at most 65535; -1 for none.
func parsePort(s []byte) (port int, ok bool) {
	if len(s) == 0 {
		return -1, true
	}
	if len(s) > 5 {
		return -1, false
	}
	for _, c := range s {
		if !isDigit(c) {
			return -1, false
		}
		port = port*10 + int(c-'0')
	}
	return port, port <= 65535
}

// isIPv6 says whether s is an IPv6address (RFC 3986 §3.2.2, which is RFC 4291
// §2.2): eight groups, one "::" for the missing ones, the last two perhaps as
// an IPv4 address.
func isIPv6(s []byte) bool {
	groups, elided := 0, false
	if len(s) >= 2 && s[0] == ':' && s[1] == ':' {
		elided = true
		if s = s[2:]; len(s) == 0 {
			return true
		}
	}
	for {
		digits := 0
		for digits < len(s) && charClass[s[digits]]&classHex != 0 {
			digits++
		}
		if digits < len(s) && s[digits] == '.' {
			groups += 2
			return groups <= 8 && elided == (groups < 8) && isIPv4(s)
		}
		groups++
		if digits == 0 || digits > 4 || groups > 8 {
			return false
		}
		if s = s[digits:]; len(s) == 0 {
			return elided == (groups < 8)
		}
		if s[0] != ':' {
			return false
		}
		if s = s[1:]; len(s) > 0 && s[0] == ':' {
			if elided {
				return false
			}
			elided = true
			if s = s[1:]; len(s) == 0 {
				return groups < 8
			}
		}
	}
}

// isIPv4 says whether s is four decimal octets without leading zeros (RFC 3986
// §3.2.2, IPv4address).
func isIPv4(s []byte) bool {
	for part := 0; ; part++ {
		n, digits := 0, 0
		for digits < len(s) && digits < 4 && isDigit(s[digits]) {
			n = n*10 + int(s[digits]-'0')
			digits++
		}
		if digits == 0 || n > 255 || digits > 1 && s[0] == '0' {
			return false
		}
		if s = s[digits:]; part == 3 || len(s) == 0 {
			return part == 3 && len(s) == 0
		}
		if s[0] != '.' {
			return false
		}
		s = s[1:]
	}
}
