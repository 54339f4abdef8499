package flare

import (
	"encoding/binary"
	"net/http"
)

// This file is layer 1 (wire): the head of an HTTP/1.1 request. It knows
// octets and limits; it does not know connections, bodies or routes, and keeps
// no octet: results are offsets into the head. The server's connection calls
// it with what has arrived.
//
// A head is refused at its first fault in wire order. Octets that break the
// grammar are faults where they stand; a line that is well-formed and wrong (a
// version, a Content-Length) is one at its end; what the head lacks is one at
// the end of the head. So the outcome is the same whole, octet by octet and
// cut anywhere.

const (
	// methodBytesMax is beyond any registered method (the longest has 17
	// octets, RFC 9110 §16.1).
	methodBytesMax = 32

	// emptyLinesMax is how many CRLFs before a request line are forgiven: some
	// clients send one behind a body (RFC 9112 §2.2).
	emptyLinesMax = 2
)

const (
	ruleRequestLine  = "request line is not method SP target SP version (RFC 9112 §3)"
	ruleMethod       = "method is not a token (RFC 9110 §9.1)"
	ruleMethodMax    = "method too long (RFC 9110 §9.1)"
	ruleEmptyLines   = "too many empty lines before the request line (RFC 9112 §2.2)"
	ruleVersion      = "version is not HTTP/d.d (RFC 9112 §2.3)"
	ruleVersionMajor = "major version other than 1 (RFC 9110 §15.6.6)"
	ruleHostMissing  = "HTTP/1.1 request without Host (RFC 9112 §3.2)"
	ruleExpect       = "unknown expectation (RFC 9110 §10.1.1)"
)

// A requestHead is the parser of one request head and its result. It is reused:
// reset readies it for the next head and keeps its memory. The offsets count
// from the first octet given to parse, empty lines before the head included.
type requestHead struct {
	messageHead // fields, framing, connection options

	method    span
	target    span // all of it
	path      span // not decoded; empty only in absolute and authority form
	query     span // not decoded, without the "?"
	authority span // of absolute and authority form
	form      targetForm

	hasQuery    bool // there was a "?", if only with nothing behind it
	pathEscaped bool // the path has a "%"
}

// reset readies h for the next head.
func (h *requestHead) reset() {
	fields, host := h.fields[:0], h.knownHost
	if host == nil {
		host = new(knownHost)
	}
	*h = requestHead{}
	h.fields, h.knownHost = fields, host
	h.contentLength = -1
	h.watched = &watchedInRequest
}

// hasBody says whether a body follows, of whatever length.
func (h *requestHead) hasBody() bool { return h.contentLength > 0 || h.chunked }

// parse looks at b, which begins with the first octet of a head. It returns
// the length of the head once it is complete. It returns 0 to ask for more:
// the next call must give the same octets again, in the same or another place,
// followed by new ones, and goes on at the last line that was not complete.
// The error is a *ParseError with the status to refuse with; nothing is
// allocated without one. After an error h is good for reset alone.
func (h *requestHead) parse(b []byte, lim *headLimits) (int, error) {
	if h.section == 0 {
		if n, err := h.parseRequestLine(b, lim); n == 0 {
			return 0, err
		}
	}
	n, err := h.parseFields(b, lim)
	if n == 0 {
		return 0, err
	}
	switch {
	case !h.hostSeen && h.minor > 0:
		return 0, fault(http.StatusBadRequest, n, ruleHostMissing)
	case h.expectOther:
		return 0, fault(http.StatusExpectationFailed, n, ruleExpect)
	}
	if h.authority.end > 0 { // RFC 9112 §3.2.2: Host is ignored, and §3.3
		h.host = h.authority
	}
	return n, nil
}

// upgradeWebSocket says whether the request asks for a WebSocket (RFC 9110
// §7.8): an Upgrade without the Connection option was meant for someone else.
func (h *requestHead) upgradeWebSocket() bool { return h.websocket && h.connUpgrade }

// parseRequestLine returns the offset of the first field line, or 0.
func (h *requestHead) parseRequestLine(b []byte, lim *headLimits) (int, error) {
	start := 0
	if len(b) == 0 || charClass[b[0]]&classToken == 0 {
		n, err := skipEmptyLines(b)
		if err != nil || n == len(b) || b[n] == '\r' {
			return 0, err
		}
		start = n
	}
	i := start
	if i <= len(b)-4 && binary.LittleEndian.Uint32(b[i:]) == wordGET {
		i += len("GET")
	}
	for i < len(b) && charClass[b[i]]&classToken != 0 {
		i++
	}
	if i >= len(b) || b[i] != ' ' || i == start || i-start > methodBytesMax {
		return 0, methodFault(b, start, i)
	}
	h.method = span{uint32(start), uint32(i)}
	i++ // the space
	target := i
	i = skipClass(b, i, classTarget)
	if i < len(b) && b[i] == ' ' && b[target] == '/' && i-target <= effectiveLimit(lim.uriBytes) &&
		target-start != len("CONNECT ") {
		h.target = span{uint32(target), uint32(i)} // in origin form, without query and escapes
		h.path = h.target
	} else {
		var err error
		if i, err = h.scanTarget(b, target, lim); i == 0 || err != nil {
			return 0, err
		}
	}
	i++ // the space
	const size = len("HTTP/1.1\r\n")
	if i <= len(b)-size && b[i+8] == '\r' && b[i+9] == '\n' &&
		binary.LittleEndian.Uint64(b[i:])|('0'^'1')<<56 == version11 {
		h.minor = b[i+7] - '0'
		i += size
		h.section, h.next = uint32(i), uint32(i)
		return i, nil
	}
	return h.parseUnusualVersion(b[i:min(i+size, len(b))], i)
}

// skipEmptyLines returns the offset of the first octet that is not part of an
// empty line; a CR there is the last octet yet.
func skipEmptyLines(b []byte) (int, error) {
	i := 0
	for i < len(b) {
		switch {
		case b[i] == '\n':
			return 0, fault(http.StatusBadRequest, i, ruleBareLF)
		case b[i] != '\r':
			return i, nil
		case i == emptyLinesMax*len("\r\n"):
			return 0, fault(http.StatusBadRequest, i, ruleEmptyLines)
		case i+1 == len(b):
			return i, nil
		case b[i+1] != '\n':
			return 0, fault(http.StatusBadRequest, i, ruleBareCR)
		}
		i += len("\r\n")
	}
	return i, nil
}

// methodFault says what is wrong with a method whose tchars end at i, without
// a space; nothing if only octets are missing.
func methodFault(b []byte, start, i int) error {
	switch {
	case i-start > methodBytesMax:
		return fault(http.StatusNotImplemented, start+methodBytesMax, ruleMethodMax)
	case i == len(b):
		return nil
	case b[i] == '\r' || b[i] == '\n':
		return fault(http.StatusBadRequest, i, ruleRequestLine)
	}
	return fault(http.StatusBadRequest, i, ruleMethod)
}

// wordGET is "GET " as a word. Nearly every method is that one.
const wordGET = 'G' | 'E'<<8 | 'T'<<16 | ' '<<24

// version11 is "HTTP/1.1" as a word. HTTP/1.0 differs in the lowest bit of the
// last octet.
const version11 = 'H' | 'T'<<8 | 'T'<<16 | 'P'<<24 | '/'<<32 | '1'<<40 | '.'<<48 | '1'<<56

// parseUnusualVersion is for the versions 1.2 to 1.9, for a version and line
// end of which octets are missing, and for faults. b begins with the version.
func (h *requestHead) parseUnusualVersion(b []byte, offset int) (int, error) {
	n, minor, err := parseVersion(b, offset)
	if n == 0 {
		return 0, err
	}
	const end = "\r\n"
	for i, c := range b[n:] {
		if c != end[i] {
			return 0, fault(http.StatusBadRequest, offset+n+i, ruleRequestLine)
		}
	}
	if len(b) < n+len(end) {
		return 0, nil
	}
	if b[5] != '1' {
		return 0, fault(http.StatusHTTPVersionNotSupported, offset, ruleVersionMajor)
	}
	h.minor = minor
	n += offset + len(end)
	h.section, h.next = uint32(n), uint32(n)
	return n, nil
}

// parseVersion looks at the octets of a version (RFC 9112 §2.3) that are there
// and returns its length once all are. The major version is not judged.
func parseVersion(b []byte, offset int) (n int, minor uint8, err error) {
	const pattern = "HTTP/d.d"
	for i, c := range b[:min(len(pattern), len(b))] {
		want := pattern[i]
		if want != 'd' && c != want || want == 'd' && !isDigit(c) {
			return 0, 0, fault(http.StatusBadRequest, offset+i, ruleVersion)
		}
	}
	if len(b) < len(pattern) {
		return 0, 0, nil
	}
	// A higher minor version is spoken to as 1.1 (RFC 9110 §2.5).
	return len(pattern), min(b[7]-'0', 1), nil
}
