package flare

import (
	"encoding/binary"
	"net/http"
)

// This file is layer 1 (wire): the head of an HTTP/1.1 response, and where its
// body ends. It knows octets and limits, and is told the method of the request;
// it does not know connections. The client calls it with what has arrived, and
// refuses what it refuses: the status of its errors only tells limits (431)
// from malformed heads (400).

const (
	ruleStatusCode    = "status code is not three digits from 100 on (RFC 9112 §4)"
	ruleStatusLine    = "status line is not version SP status-code SP reason (RFC 9112 §4)"
	ruleReason        = "control character in a reason phrase (RFC 9112 §4)"
	ruleReasonMax     = "status line too long"
	ruleStatusVersion = "major version other than 1 in a response (RFC 9112 §2.3)"
)

// statusLineBytesMax bounds what comes before the fields. Reason phrases mean
// nothing to a client (RFC 9112 §4), and the longest registered one is 31
// octets.
const statusLineBytesMax = 1 << 10

// A responseHead is the parser of one response head and its result. It is
// reused: reset readies it for the next head and keeps its memory.
type responseHead struct {
	messageHead // fields, framing, connection options

	reason span // may be empty
	status int  // 100 to 999
}

// bodyKind says how the end of a body is found (RFC 9112 §6.3).
type bodyKind uint8

const (
	bodyNone       bodyKind = iota // no body at all
	bodyLength                     // so many octets
	bodyChunked                    // until the last chunk and its trailer section
	bodyUntilClose                 // until the peer closes
	bodyFramed                     // until the stream of HTTP/2 ends
)

// reset readies h for the next head.
func (h *responseHead) reset() {
	fields := h.fields[:0]
	*h = responseHead{}
	h.fields = fields
	h.contentLength = -1
	h.response = true
	h.watched = &watchedInResponse
}

// parse has the contract of requestHead.parse, but that it writes spaces over
// the line ends of folded values in b: the octets it is given again are those.
func (h *responseHead) parse(b []byte, lim *headLimits) (int, error) {
	if h.section == 0 {
		if n, err := h.parseStatusLine(b); n == 0 {
			return 0, err
		}
	}
	return h.parseFields(b, lim)
}

// parseStatusLine returns the offset of the first field line, or 0.
func (h *responseHead) parseStatusLine(b []byte) (int, error) {
	const statusAt, reasonAt = len("HTTP/1.1 "), len("HTTP/1.1 200")
	n, minor, err := parseVersion(b, 0)
	if n == 0 {
		return 0, err
	}
	if binary.LittleEndian.Uint64(b)&^(0xff<<56) != version11&^(0xff<<56) {
		return 0, fault(http.StatusBadRequest, 0, ruleStatusVersion)
	}
	for i := n; i < min(reasonAt, len(b)); i++ {
		switch {
		case i < statusAt && b[i] != ' ':
			return 0, fault(http.StatusBadRequest, i, ruleStatusLine)
		case i >= statusAt && (!isDigit(b[i]) || i == statusAt && b[i] == '0'):
			return 0, fault(http.StatusBadRequest, i, ruleStatusCode)
		}
	}
	if len(b) <= reasonAt {
		return 0, nil
	}
	// Many servers leave the space out that a reason phrase, present or not,
	// begins with.
	i := reasonAt
	if b[i] == ' ' {
		i++
	} else if b[i] != '\r' {
		return 0, fault(http.StatusBadRequest, i, ruleStatusLine)
	}
	reason := i
	for i < len(b) && charClass[b[i]]&classValue != 0 {
		if i++; i > statusLineBytesMax {
			return 0, fault(http.StatusRequestHeaderFieldsTooLarge, i-1, ruleReasonMax)
		}
	}
	if i >= len(b)-1 || b[i] != '\r' || b[i+1] != '\n' {
		if err := valueFault(b, i); err != nil {
			err.(*ParseError).Rule = ruleReason
			return 0, err
		}
		return 0, nil
	}
	h.minor = minor
	h.status = int(b[statusAt]-'0')*100 + int(b[statusAt+1]-'0')*10 + int(b[statusAt+2]-'0')
	h.reason = span{uint32(reason), uint32(i)}
	i += len("\r\n")
	h.section, h.next = uint32(i), uint32(i)
	return i, nil
}

// framing says where the body of the response to a request with that method
// ends. length is meaningful for bodyLength, and -1 otherwise.
func (h *responseHead) framing(method string) (kind bodyKind, length int64) {
	switch {
	case method == http.MethodHead,
		h.status < 200, // 101 too: what follows is the new protocol's
		h.status == http.StatusNoContent,
		h.status == http.StatusNotModified,
		method == http.MethodConnect && h.status < 300: // a tunnel follows
		return bodyNone, -1
	case h.chunked:
		return bodyChunked, -1
	case h.contentLength >= 0:
		return bodyLength, h.contentLength
	}
	return bodyUntilClose, -1
}

// persists says whether the connection may carry another request once the body
// of this response has been read to its end (RFC 9112 §9.3).
func (h *responseHead) persists(method string) bool {
	kind, _ := h.framing(method)
	tunnel := h.status == http.StatusSwitchingProtocols ||
		method == http.MethodConnect && h.status >= 200 && h.status < 300
	return h.keepAlive() && kind != bodyUntilClose && !tunnel
}
