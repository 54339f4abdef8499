package flare

import "encoding/binary"

// This file is layer 1 (wire): the frames of HTTP/2 (RFC 9113 §4, §6; RFC 9218
// §7.1): what a head may say, and what each payload holds. It knows octets; it
// knows neither streams nor windows, so what a frame may do in the state of its
// stream is not judged here. A connection reads a head with parseHTTP2Head,
// checks it before the payload has arrived, and hands the whole payload to the
// function of its type. http2_settings.go has SETTINGS, http2_append.go the way
// back.

// An http2FrameType is the type of a frame. Others than these are ignored
// (RFC 9113 §5.5).
type http2FrameType uint8

const (
	frameData           http2FrameType = 0x0
	frameHeaders        http2FrameType = 0x1
	framePriority       http2FrameType = 0x2
	frameRSTStream      http2FrameType = 0x3
	frameSettings       http2FrameType = 0x4
	framePushPromise    http2FrameType = 0x5
	framePing           http2FrameType = 0x6
	frameGoAway         http2FrameType = 0x7
	frameWindowUpdate   http2FrameType = 0x8
	frameContinuation   http2FrameType = 0x9
	framePriorityUpdate http2FrameType = 0x10
)

// Flags. A flag that a type does not define is ignored (RFC 9113 §4.1).
const (
	flagEndStream  uint8 = 0x01 // DATA, HEADERS
	flagAck        uint8 = 0x01 // SETTINGS, PING
	flagEndHeaders uint8 = 0x04 // HEADERS, CONTINUATION
	flagPadded     uint8 = 0x08 // DATA, HEADERS
	flagPriority   uint8 = 0x20 // HEADERS
)

// What TLS agrees on (RFC 9113 §3.2, RFC 7301 §6).
const (
	protoHTTP1 = "http/1.1"
	protoHTTP2 = "h2"
)

const (
	http2HeadBytes = 9 // RFC 9113 §4.1

	// http2Preface is what a client sends first (RFC 9113 §3.4).
	http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	streamMax = 1<<31 - 1 // stream numbers and windows have 31 bits

	priorityBytes     = 5
	rstStreamBytes    = 4
	pingBytes         = 8
	goAwayBytesMin    = 8
	windowUpdateBytes = 4
	priorityUpdateMin = 4
)

const (
	ruleFrameSizeMax      = "frame larger than SETTINGS_MAX_FRAME_SIZE (RFC 9113 §4.2)"
	ruleFrameInBlock      = "frame inside of a field block (RFC 9113 §4.3)"
	ruleFrameNoBlock      = "CONTINUATION of no field block (RFC 9113 §6.10)"
	ruleFrameStreamZero   = "frame that needs a stream on the connection (RFC 9113 §6)"
	ruleFrameStreamOther  = "frame of the connection on a stream (RFC 9113 §6)"
	ruleFramePush         = "PUSH_PROMISE although push is off (RFC 9113 §8.4)"
	ruleFrameSizeFixed    = "length that is not the one of its type (RFC 9113 §6)"
	ruleFrameSettingsAck  = "acknowledgement of SETTINGS with a payload (RFC 9113 §6.5)"
	ruleFrameSettingsSize = "SETTINGS of a length that is no multiple of 6 (RFC 9113 §6.5)"
	ruleFramePadding      = "padding as long as the payload, or longer (RFC 9113 §6.1)"
	ruleFrameShort        = "payload too short for what the flags announce (RFC 9113 §4.2)"
	ruleFrameDependsSelf  = "stream that depends on itself (RFC 7540 §5.3.1)"
	ruleFrameIncrement    = "window increment of 0 (RFC 9113 §6.9)"
	ruleFramePrioritizes  = "PRIORITY_UPDATE of stream 0 (RFC 9218 §7.1)"
)

// An http2Head is the head of a frame.
type http2Head struct {
	length uint32 // of the payload, 24 bits
	stream uint32 // 31 bits; 0 is the connection
	kind   http2FrameType
	flags  uint8
}

func (h *http2Head) endStream() bool  { return h.flags&flagEndStream != 0 }
func (h *http2Head) endHeaders() bool { return h.flags&flagEndHeaders != 0 }
func (h *http2Head) ack() bool        { return h.flags&flagAck != 0 }

// parseHTTP2Head reads the head that b begins with. The reserved bit is ignored
// (RFC 9113 §4.1).
func parseHTTP2Head(b *[http2HeadBytes]byte) http2Head {
	return http2Head{
		length: uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
		kind:   http2FrameType(b[3]),
		flags:  b[4],
		stream: binary.BigEndian.Uint32(b[5:]) & streamMax,
	}
}

// resetsNothing reports whether it is the RST_STREAM of a stream that never got a
// number, which haproxy sends (to 2.6 at least) once it has been told GOAWAY. To
// end the connection for it, as RFC 9113 §6.4 has it, would cut the answers that
// GOAWAY has promised.
func (h *http2Head) resetsNothing() bool {
	return h.kind == frameRSTStream && h.stream == 0 && h.length == rstStreamBytes
}

// check judges what a head alone tells. sizeMax is the SETTINGS_MAX_FRAME_SIZE
// in force; block is the stream whose field block is not complete, 0 for none.
func (h *http2Head) check(sizeMax, block uint32) error {
	switch {
	case block != 0 && (h.kind != frameContinuation || h.stream != block): // RFC 9113 §4.3
		return connFault(codeProtocol, ruleFrameInBlock)
	case h.length > sizeMax:
		// A stream error would do for some types (RFC 9113 §4.2), but nobody
		// should read 16 MiB to go on with a peer that ignores the settings.
		return connFault(codeFrameSize, ruleFrameSizeMax)
	}
	switch h.kind {
	case frameData, frameHeaders, framePriority, frameRSTStream, frameContinuation:
		if h.stream == 0 {
			return connFault(codeProtocol, ruleFrameStreamZero)
		}
	case frameSettings, framePing, frameGoAway, framePriorityUpdate:
		if h.stream != 0 {
			return connFault(codeProtocol, ruleFrameStreamOther)
		}
	case framePushPromise: // flare always says SETTINGS_ENABLE_PUSH 0, and clients never push
		return connFault(codeProtocol, ruleFramePush)
	}
	return h.checkLength(block)
}

func (h *http2Head) checkLength(block uint32) error {
	fixed := h.length
	switch h.kind {
	case frameContinuation:
		if block == 0 {
			return connFault(codeProtocol, ruleFrameNoBlock)
		}
	case framePriority:
		if h.length != priorityBytes { // of the stream alone: RFC 9113 §6.3
			return streamFault(codeFrameSize, ruleFrameSizeFixed)
		}
	case frameSettings:
		switch {
		case h.ack() && h.length != 0:
			return connFault(codeFrameSize, ruleFrameSettingsAck)
		case h.length%settingBytes != 0:
			return connFault(codeFrameSize, ruleFrameSettingsSize)
		}
	case frameRSTStream:
		fixed = rstStreamBytes
	case framePing:
		fixed = pingBytes
	case frameWindowUpdate:
		fixed = windowUpdateBytes
	case frameGoAway:
		fixed = max(fixed, goAwayBytesMin)
	case framePriorityUpdate:
		fixed = max(fixed, priorityUpdateMin)
	}
	if h.length != fixed {
		return connFault(codeFrameSize, ruleFrameSizeFixed)
	}
	return nil
}

// padding returns how many octets stand before and behind what a payload is
// about: the length of the padding, and the padding (RFC 9113 §6.1). first is
// the payload's first octet, any value if there is none. All of it counts for
// flow control, which is h.length.
func (h *http2Head) padding(first byte) (before, behind uint32, err error) {
	switch {
	case h.flags&flagPadded == 0:
		return 0, 0, nil
	case h.length == 0:
		return 0, 0, connFault(codeFrameSize, ruleFrameShort)
	case uint32(first) >= h.length:
		return 0, 0, connFault(codeProtocol, ruleFramePadding)
	}
	return 1, uint32(first), nil
}

// parseData returns the data of a DATA frame (RFC 9113 §6.1).
func (h *http2Head) parseData(p []byte) ([]byte, error) {
	var first byte
	if len(p) > 0 {
		first = p[0]
	}
	before, behind, err := h.padding(first)
	if err != nil {
		return nil, err
	}
	return p[before : uint32(len(p))-behind], nil
}

// parseHeaders returns the field block fragment of a HEADERS frame (RFC 9113
// §6.2). Its priority fields are deprecated and mean nothing (§5.3.2). With an
// error of the stream the block is there all the same: it has to be decoded,
// for the table's sake.
func (h *http2Head) parseHeaders(p []byte) ([]byte, error) {
	block, err := h.parseData(p) // the padding is the same
	if err != nil || h.flags&flagPriority == 0 {
		return block, err
	}
	if len(block) < priorityBytes {
		if h.flags&flagPadded != 0 {
			return nil, connFault(codeProtocol, ruleFramePadding) // RFC 9113 §6.2
		}
		return nil, connFault(codeFrameSize, ruleFrameShort)
	}
	return block[priorityBytes:], h.parsePriority(block)
}

// parsePriority checks a PRIORITY payload (RFC 9113 §6.3, RFC 7540 §6.3). What
// it says is ignored.
func (h *http2Head) parsePriority(p []byte) error {
	if binary.BigEndian.Uint32(p)&streamMax == h.stream {
		return streamFault(codeProtocol, ruleFrameDependsSelf)
	}
	return nil
}

// parseRSTStream returns the code of a RST_STREAM frame (RFC 9113 §6.4).
func parseRSTStream(p []byte) http2Code { return http2Code(binary.BigEndian.Uint32(p)) }

// parseGoAway returns the last stream that the peer has looked at, the code,
// and data for debugging, a part of p (RFC 9113 §6.8).
func parseGoAway(p []byte) (last uint32, code http2Code, debug []byte) {
	return binary.BigEndian.Uint32(p) & streamMax, http2Code(binary.BigEndian.Uint32(p[4:])), p[goAwayBytesMin:]
}

// parseWindowUpdate returns the increment of a WINDOW_UPDATE frame (RFC 9113
// §6.9), from 1 to streamMax.
func (h *http2Head) parseWindowUpdate(p []byte) (uint32, error) {
	n := binary.BigEndian.Uint32(p) & streamMax
	switch {
	case n > 0:
		return n, nil
	case h.stream == 0:
		return 0, connFault(codeProtocol, ruleFrameIncrement)
	}
	return 0, streamFault(codeProtocol, ruleFrameIncrement)
}

// parsePriorityUpdate returns the stream that a PRIORITY_UPDATE frame is about
// and its priority (RFC 9218 §7.1). Only clients may send one.
func parsePriorityUpdate(p []byte) (stream uint32, priority streamPriority, err error) {
	stream = binary.BigEndian.Uint32(p) & streamMax
	if stream == 0 {
		return 0, defaultPriority, connFault(codeProtocol, ruleFramePrioritizes)
	}
	return stream, parseStreamPriority(p[priorityUpdateMin:]), nil
}

const settingBytes = 6
