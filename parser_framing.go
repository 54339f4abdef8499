package flare

import (
	"encoding/binary"
	"net/http"
)

// This file is layer 1 (wire): the fields that say where a message ends and
// what becomes of its connection: Content-Length, Transfer-Encoding,
// Connection, Upgrade, Expect, Host. It knows their values; it does not know
// how they were found. parser_fields.go calls interpretHost and interpret for each
// such line as soon as the line is complete.

const (
	ruleLengthValue   = "Content-Length is not a plain decimal number (RFC 9110 §8.6)"
	ruleLengthTwice   = "more than one Content-Length (RFC 9112 §6.3)"
	ruleLengthCoding  = "Content-Length beside Transfer-Encoding (RFC 9112 §6.1)"
	ruleCodingOld     = "Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1)"
	ruleCodingTwice   = "more than one Transfer-Encoding line (RFC 9112 §6.1)"
	ruleCodingValue   = "Transfer-Encoding is not chunked, once and last (RFC 9112 §6.1, §6.3)"
	ruleCodingUnknown = "transfer coding besides chunked (RFC 9112 §6.1)"
	ruleHostTwice     = "more than one Host (RFC 9112 §3.2)"
	ruleHostValue     = "Host is not a host and an optional port (RFC 9112 §3.2)"
)

// contentLengthDigitsMax fit an int64 whatever they are.
const contentLengthDigitsMax = 18

// interpret looks at a complete field line whose name has the length and the
// first four letters of one that matters, Host aside. Names are tokens here, so or-ing
// 0x20 into an octet folds letters and changes nothing else that could match.
func (h *messageHead) interpret(b []byte, f field) error {
	name, value := b[f.name:f.nameEnd], b[f.value:f.valueEnd]
	switch len(name) {
	case len("expect"):
		if binary.LittleEndian.Uint16(name[4:])|0x2020 == 'c'|'t'<<8 {
			h.interpretExpect(value)
		}
	case len("upgrade"):
		if binary.LittleEndian.Uint32(name[3:])|lowerWord == 'r'|'a'<<8|'d'<<16|'e'<<24 {
			h.websocket = h.websocket || listContains(value, "websocket")
		}
	case len("connection"):
		if equalFoldASCII(name, "connection") {
			h.interpretConnection(value)
		}
	case len("content-length"):
		if equalFoldASCII(name, "content-length") {
			return h.interpretContentLength(f, value)
		}
	case len("transfer-encoding"):
		if equalFoldASCII(name, "transfer-encoding") {
			return h.interpretTransferEncoding(f, value)
		}
	}
	return nil
}

// interpretHost checks the one field that every request has.
func (h *messageHead) interpretHost(value []byte, f field) error {
	if h.hostSeen {
		return fault(http.StatusBadRequest, int(f.name), ruleHostTwice)
	}
	h.hostSeen = true
	h.host = span{f.value, f.valueEnd}
	k := h.knownHost
	if string(value) == string(k.text[:k.n]) {
		return nil
	}
	// The usual value is a name or an IPv4 address, and perhaps a short port.
	i := skipClass(value, 0, classHost)
	if i > 0 && i < len(value) && value[i] == ':' && len(value)-i <= len(":9999") {
		i++
		for i < len(value) && isDigit(value[i]) {
			i++
		}
	}
	// Empty is valid: a target without an authority has this Host (RFC 9112 §3.2).
	if i < len(value) && !isAuthority(value) {
		return fault(http.StatusBadRequest, int(f.value), ruleHostValue)
	}
	if len(value) <= len(k.text) {
		k.n = uint8(copy(k.text[:], value))
	}
	return nil
}

// A knownHost is the last Host that was found valid: most requests of a server
// have the same, and comparing is quicker than checking.
type knownHost struct {
	n    uint8
	text [47]byte
}

// interpretConnection collects the options flare knows. Any list does, even an
// ill-formed one: an option that is not understood is one that is ignored.
func (h *messageHead) interpretConnection(value []byte) {
	for more := true; more; {
		var option []byte
		option, value, more = nextListMember(value)
		switch {
		case equalFoldASCII(option, "close"):
			h.connClose = true
		case equalFoldASCII(option, "keep-alive"):
			h.connKeepAlive = true
		case equalFoldASCII(option, "upgrade"):
			h.connUpgrade = true
		}
	}
}

func (h *messageHead) interpretExpect(value []byte) {
	if h.minor == 0 {
		return // RFC 9110 §10.1.1: ignored in HTTP/1.0
	}
	for more := true; more; {
		var expectation []byte
		expectation, value, more = nextListMember(value)
		switch {
		case equalFoldASCII(expectation, "100-continue"):
			h.expectContinue = true
		case len(expectation) > 0:
			h.expectOther = true
		}
	}
}

// interpretContentLength takes one plain number. RFC 9110 §8.6 would let a
// recipient merge equal ones and accept leading zeros: whoever sits before or
// behind this parser may do otherwise, and that is how requests are smuggled.
func (h *messageHead) interpretContentLength(f field, value []byte) error {
	switch {
	case h.contentLength >= 0:
		return fault(http.StatusBadRequest, int(f.name), ruleLengthTwice)
	case h.chunked:
		return fault(http.StatusBadRequest, int(f.name), ruleLengthCoding)
	case len(value) == 0 || len(value) > contentLengthDigitsMax || value[0] == '0' && len(value) > 1:
		return fault(http.StatusBadRequest, int(f.value), ruleLengthValue)
	}
	var n int64
	for _, c := range value {
		if !isDigit(c) {
			return fault(http.StatusBadRequest, int(f.value), ruleLengthValue)
		}
		n = n*10 + int64(c-'0')
	}
	h.contentLength = n
	return nil
}

// interpretTransferEncoding accepts exactly one coding, chunked. A well-formed
// list of others before a last chunked is something flare could have
// implemented, 501 (RFC 9112 §6.1); everything else leaves the length of the
// message in doubt.
func (h *messageHead) interpretTransferEncoding(f field, value []byte) error {
	switch {
	case h.minor == 0:
		return fault(http.StatusBadRequest, int(f.name), ruleCodingOld)
	case h.contentLength >= 0:
		return fault(http.StatusBadRequest, int(f.name), ruleLengthCoding)
	case h.chunked:
		return fault(http.StatusBadRequest, int(f.name), ruleCodingTwice)
	case equalFoldASCII(value, "chunked"):
		h.chunked = true
		return nil
	case isCodingsThenChunked(value) && !h.response:
		return fault(http.StatusNotImplemented, int(f.value), ruleCodingUnknown)
	}
	return fault(http.StatusBadRequest, int(f.value), ruleCodingValue)
}

// isCodingsThenChunked says whether value lists codings, none of them chunked,
// and then chunked. Parameters may be anything: such a value is refused in any
// case.
func isCodingsThenChunked(value []byte) bool {
	for {
		member, rest, more := nextListMember(value)
		if !more {
			return equalFoldASCII(member, "chunked")
		}
		coding := member
		for i, c := range member {
			if c == ';' {
				coding = trimBlank(member[:i])
				break
			}
		}
		if !isToken(coding) || equalFoldASCII(coding, "chunked") {
			return false
		}
		value = rest
	}
}

// keepAlive says whether the connection outlives this message, as far as the
// peer is concerned (RFC 9112 §9.3).
func (h *messageHead) keepAlive() bool {
	return !h.connClose && (h.minor > 0 || h.connKeepAlive)
}
