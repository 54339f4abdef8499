package flare

import (
	"net/http"
	"strconv"
)

// This file is layer 1 (wire): field sections as they are sent (RFC 9113 §8.2,
// §8.3): which pseudo-fields a message begins with, and which fields have no
// place in HTTP/2. hpack_encode.go encodes them; the connection puts frames
// around with beginHeaders and endHeaders.

// appendResponse appends the field block of a response, interim or final.
// length is a Content-Length that h does not have, negative for none.
func (e *hpackEncoder) appendResponse(b []byte, status int, h *headerFields, length int64) []byte {
	b = e.begin(b)
	if status == http.StatusOK {
		b = append(b, 0x80|statusOKIndex)
	} else {
		digits := [...]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}
		b = e.appendField(b, ":status", string(digits[:]))
	}
	b = e.appendFields(b, h)
	if length >= 0 {
		b = appendHPACKLength(b, length)
	}
	return b
}

// appendHPACKLength appends Content-Length as a literal that is not indexed. Its
// digits are few, and Huffman's code would take an octet off them at most.
func appendHPACKLength(b []byte, length int64) []byte {
	b = append(b, 0x0f, contentLengthIndex-0x0f, 0)
	at := len(b)
	b = strconv.AppendInt(b, length, 10)
	b[at-1] = byte(len(b) - at)
	return b
}

// Where the static table has ":status: 200" and content-length.
const (
	statusOKIndex      = 8
	contentLengthIndex = 28
)

// A requestLine is what stands in the request line of HTTP/1.1 and in Host.
// protocol is that of an extended CONNECT, or empty; scheme and path are empty
// for a plain CONNECT (RFC 9113 §8.5).
type requestLine struct{ method, scheme, authority, path, protocol string }

// appendRequest appends the field block of a request. A Host in h is left out:
// it is line.authority.
func (e *hpackEncoder) appendRequest(b []byte, line requestLine, h *headerFields) []byte {
	b = e.begin(b)
	b = e.appendField(b, ":method", line.method)
	for _, f := range [...]headerField{
		{":scheme", line.scheme}, {":authority", line.authority}, {":path", line.path}, {":protocol", line.protocol},
	} {
		if f.value != "" {
			b = e.appendField(b, f.name, f.value)
		}
	}
	for i := range h.list {
		f := &h.list[i]
		if !equalFoldASCII(f.name, "host") && (!equalFoldASCII(f.name, "te") || equalFoldASCII(f.value, "trailers")) {
			b = e.appendMessageField(b, f)
		}
	}
	return b
}

// appendTrailer appends the field block of a trailer section.
func (e *hpackEncoder) appendTrailer(b []byte, h *headerFields) []byte {
	return e.appendFields(e.begin(b), h)
}

func (e *hpackEncoder) appendFields(b []byte, h *headerFields) []byte {
	for i := range h.list {
		b = e.appendMessageField(b, &h.list[i])
	}
	return b
}

// appendMessageField appends a field unless it speaks of the connection.
func (e *hpackEncoder) appendMessageField(b []byte, f *headerField) []byte {
	switch len(f.name) {
	case len("upgrade"), len("connection"), len("proxy-connection"), len("transfer-encoding"):
		for _, name := range connectionFields {
			if equalFoldASCII(f.name, name) {
				return b
			}
		}
	}
	return e.appendField(b, f.name, f.value)
}

// connectionFields have no place in HTTP/2 (RFC 9113 §8.2.2). Two of them are
// of the same length.
var connectionFields = [...]string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
