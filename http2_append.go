package flare

import "encoding/binary"

// This file is layer 1 (wire): frames of HTTP/2 as they are sent (RFC 9113 §6),
// appended to an output whole. http2_frame.go reads them, http2_settings.go has
// SETTINGS, hpack_encode.go what stands in a field block.

// appendHTTP2Head appends the head of a frame.
func appendHTTP2Head(b []byte, h http2Head) []byte {
	b = append(b, byte(h.length>>16), byte(h.length>>8), byte(h.length), byte(h.kind), h.flags)
	return binary.BigEndian.AppendUint32(b, h.stream)
}

// appendData appends a DATA frame (RFC 9113 §6.1), which has to be within the
// peer's frameSizeMax. It is never padded.
func appendData(b []byte, stream uint32, p []byte, endStream bool) []byte {
	h := http2Head{length: uint32(len(p)), kind: frameData, stream: stream}
	if endStream {
		h.flags = flagEndStream
	}
	return append(appendHTTP2Head(b, h), p...)
}

// noHTTP2Head is room for a head.
const noHTTP2Head = "\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// beginHeaders makes room for the head of a HEADERS frame. The field block is
// appended behind it, and closed with endHeaders.
func beginHeaders(b []byte) (with []byte, at int) {
	return append(b, noHTTP2Head...), len(b)
}

// endHeaders makes what was appended since beginHeaders returned at a HEADERS
// frame and, where it is larger than the peer's frameSizeMax, CONTINUATION
// frames behind it (RFC 9113 §6.2, §6.10).
func endHeaders(b []byte, at int, stream uint32, endStream bool, frameSizeMax uint32) []byte {
	block := at + http2HeadBytes
	size := len(b) - block
	sizeMax := int(frameSizeMax)
	h := http2Head{length: uint32(min(size, sizeMax)), kind: frameHeaders, stream: stream}
	if endStream {
		h.flags = flagEndStream
	}
	if size <= sizeMax {
		h.flags |= flagEndHeaders
	}
	appendHTTP2Head(b[:at], h)
	// From the last fragment to the first: each makes room for the heads before.
	for more := (size - 1) / sizeMax; size > sizeMax; more-- {
		if grow := block + size + more*http2HeadBytes - len(b); grow > 0 {
			b = append(b, make([]byte, grow)...)
		}
		from := block + more*sizeMax
		to := from + more*http2HeadBytes
		copy(b[to:], b[from:block+size])
		h := http2Head{length: uint32(block + size - from), kind: frameContinuation, stream: stream}
		if to+int(h.length) == len(b) {
			h.flags = flagEndHeaders
		}
		appendHTTP2Head(b[:to-http2HeadBytes], h)
		size = more * sizeMax
	}
	return b
}

// appendRSTStream appends a RST_STREAM frame (RFC 9113 §6.4).
func appendRSTStream(b []byte, stream uint32, code http2Code) []byte {
	b = appendHTTP2Head(b, http2Head{length: rstStreamBytes, kind: frameRSTStream, stream: stream})
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// appendHTTP2Ping appends a PING frame, or the answer to one (RFC 9113 §6.7).
func appendHTTP2Ping(b []byte, payload [pingBytes]byte, ack bool) []byte {
	h := http2Head{length: pingBytes, kind: framePing}
	if ack {
		h.flags = flagAck
	}
	return append(appendHTTP2Head(b, h), payload[:]...)
}

// appendGoAway appends a GOAWAY frame (RFC 9113 §6.8).
func appendGoAway(b []byte, last uint32, code http2Code) []byte {
	b = appendHTTP2Head(b, http2Head{length: goAwayBytesMin, kind: frameGoAway})
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// appendWindowUpdate appends a WINDOW_UPDATE frame (RFC 9113 §6.9).
func appendWindowUpdate(b []byte, stream, increment uint32) []byte {
	b = appendHTTP2Head(b, http2Head{length: windowUpdateBytes, kind: frameWindowUpdate, stream: stream})
	return binary.BigEndian.AppendUint32(b, increment)
}
