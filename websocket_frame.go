package flare

import (
	"encoding/binary"
	"math"
	"strconv"
)

// This file is layer 1 (wire): the heads of WebSocket frames (RFC 6455 §5.2),
// the close codes, and the error of a peer that breaks a rule. It knows octets
// and which side sent them; it knows neither messages nor connections.
// websocket_message.go reads heads with it, the writers of websocket.go append
// them.

// A MessageKind says what a WebSocket message holds.
type MessageKind uint8

const (
	TextMessage   MessageKind = 1 // UTF-8 text
	BinaryMessage MessageKind = 2
)

func (k MessageKind) String() string {
	switch k {
	case TextMessage:
		return "text"
	case BinaryMessage:
		return "binary"
	}
	return "MessageKind(" + strconv.Itoa(int(k)) + ")"
}

// An opcode is the low half of a frame's first octet (RFC 6455 §5.2).
type opcode uint8

const (
	opContinuation opcode = 0x0
	opText         opcode = 0x1
	opBinary       opcode = 0x2
	opClose        opcode = 0x8
	opPing         opcode = 0x9
	opPong         opcode = 0xA

	opControlBit opcode = 0x8
)

func (o opcode) control() bool { return o&opControlBit != 0 }

// A CloseCode is the status code of a close frame (RFC 6455 §7.4).
type CloseCode uint16

const (
	CloseNormal             CloseCode = 1000
	CloseGoingAway          CloseCode = 1001
	CloseProtocolError      CloseCode = 1002
	CloseUnsupportedData    CloseCode = 1003
	CloseNoStatus           CloseCode = 1005 // never sent: the close frame had no code
	CloseAbnormal           CloseCode = 1006 // never sent: there was no close frame
	CloseInvalidPayload     CloseCode = 1007
	ClosePolicyViolation    CloseCode = 1008
	CloseMessageTooBig      CloseCode = 1009
	CloseMandatoryExtension CloseCode = 1010
	CloseInternalError      CloseCode = 1011
	CloseServiceRestart     CloseCode = 1012
	CloseTryAgainLater      CloseCode = 1013
	CloseBadGateway         CloseCode = 1014
)

// sendable reports whether the code may stand in a close frame: the registered
// ones, and those for libraries and applications (RFC 6455 §7.4.2).
func (c CloseCode) sendable() bool {
	switch {
	case c >= 3000 && c <= 4999:
		return true
	case c >= CloseInvalidPayload && c <= CloseBadGateway:
		return true
	}
	return c >= CloseNormal && c <= CloseUnsupportedData
}

// A webSocketError says which rule of the protocol a WebSocket's peer broke,
// and with which code the connection was failed. It unwraps to ErrTooLarge for
// CloseMessageTooBig and to ErrMalformed otherwise.
type webSocketError struct {
	code   CloseCode
	offset int64  // bytes from the first byte behind the handshake
	rule   string // the rule, with its source
}

func (e *webSocketError) Error() string {
	return "flare: WebSocket byte " + strconv.FormatInt(e.offset, 10) + ": " + e.rule
}

// Unwrap makes errors.Is(err, ErrMalformed) and errors.Is(err, ErrTooLarge)
// answer.
func (e *webSocketError) Unwrap() error {
	if e.code == CloseMessageTooBig {
		return ErrTooLarge
	}
	return ErrMalformed
}

const (
	ruleFrameRSV         = "reserved bit set that no extension has a meaning for (RFC 6455 §5.2)"
	ruleFrameOpcode      = "unknown opcode (RFC 6455 §5.2)"
	ruleFrameMaskMissing = "frame of a client is not masked (RFC 6455 §5.1)"
	ruleFrameMasked      = "frame of a server is masked (RFC 6455 §5.1)"
	ruleFrameControlFin  = "fragmented control frame (RFC 6455 §5.5)"
	ruleFrameControlLen  = "control frame of more than 125 bytes (RFC 6455 §5.5)"
	ruleFrameLenMinimal  = "length not in its shortest form (RFC 6455 §5.2)"
	ruleFrameLenTop      = "length with its top bit set (RFC 6455 §5.2)"
	ruleFrameContinues   = "continuation of no message (RFC 6455 §5.4)"
	ruleFrameInterrupts  = "message begins inside of another (RFC 6455 §5.4)"
)

const (
	frameHeadBytesMax      = 14  // two octets, eight of length, four of key
	controlPayloadMax      = 125 // RFC 6455 §5.5
	closeReasonMax         = controlPayloadMax - 2
	frameFin          byte = 0x80
	frameRSV          byte = 0x70
	frameRSV1         byte = 0x40 // compressed, with permessage-deflate (RFC 7692 §6)
	frameMasked       byte = 0x80
	frameLen16        byte = 126
	frameLen64        byte = 127
)

// A frameHead is the head of one frame.
type frameHead struct {
	length uint64 // payload bytes, below 1<<63
	key    uint32 // masking key as maskWord wants it
	op     opcode
	rsv    byte // bits of frameRSV
	fin    bool
	masked bool
}

// frameRules is what the heads of one direction are held to.
type frameRules struct {
	masked bool // frames come from a client
	rsv    byte // bits that may be set on the first frame of a message
}

// parse reads a head from the front of b and returns its length. 0 asks for
// more: it then wants the same octets again, followed by others. A fault is
// found at the first octet that shows it; at is that octet's offset, and rule
// is "" without one.
func (h *frameHead) parse(b []byte, rules frameRules) (n int, rule string, at int) {
	if len(b) == 0 {
		return 0, "", 0
	}
	h.fin = b[0]&frameFin != 0
	h.rsv = b[0] & frameRSV
	h.op = opcode(b[0] & 0xf)
	switch {
	case h.op > opBinary && h.op < opClose || h.op > opPong:
		return 0, ruleFrameOpcode, 0
	case h.rsv&^rules.rsv != 0, h.rsv != 0 && h.op != opText && h.op != opBinary: // RFC 7692 §6.1
		return 0, ruleFrameRSV, 0
	case h.op.control() && !h.fin:
		return 0, ruleFrameControlFin, 0
	}
	if len(b) == 1 {
		return 0, "", 0
	}
	h.masked = b[1]&frameMasked != 0
	switch {
	case h.masked && !rules.masked:
		return 0, ruleFrameMasked, 1
	case !h.masked && rules.masked:
		return 0, ruleFrameMaskMissing, 1
	case h.op.control() && b[1]&^frameMasked > controlPayloadMax:
		return 0, ruleFrameControlLen, 1
	}
	n, rule, at = h.parseLength(b)
	if n == 0 || !h.masked {
		return n, rule, at
	}
	if len(b) < n+4 {
		return 0, "", 0
	}
	h.key = binary.LittleEndian.Uint32(b[n:])
	return n + 4, "", 0
}

// parseLength reads the payload's length, in the shortest of its three forms
// (RFC 6455 §5.2).
func (h *frameHead) parseLength(b []byte) (n int, rule string, at int) {
	switch short := b[1] &^ frameMasked; short {
	case frameLen16:
		if len(b) < 4 {
			return 0, "", 0
		}
		h.length = uint64(binary.BigEndian.Uint16(b[2:]))
		if h.length < uint64(frameLen16) {
			return 0, ruleFrameLenMinimal, 3
		}
		return 4, "", 0
	case frameLen64:
		if len(b) > 2 && b[2]&0x80 != 0 {
			return 0, ruleFrameLenTop, 2
		}
		if len(b) < 10 {
			return 0, "", 0
		}
		h.length = binary.BigEndian.Uint64(b[2:])
		if h.length <= math.MaxUint16 {
			return 0, ruleFrameLenMinimal, 9
		}
		return 10, "", 0
	default:
		h.length = uint64(short)
		return 2, "", 0
	}
}

// frameHeadBytes are a frame's head as it is sent, by value: none of it is on the
// heap. The zero value is none.
type frameHeadBytes struct {
	b [frameHeadBytesMax]byte
	n uint8
}

func newFrameHead(first byte, length int, masked bool, key uint32) (h frameHeadBytes) {
	h.n = uint8(len(appendFrameHead(h.b[:0], first, length, masked, key)))
	return h
}

func (h *frameHeadBytes) bytes() []byte { return h.b[:h.n] }

// appendFrameHead appends the head of a frame with n bytes of payload. first
// has the opcode with its bits; key is used if masked.
func appendFrameHead(b []byte, first byte, n int, masked bool, key uint32) []byte {
	var mask byte
	if masked {
		mask = frameMasked
	}
	switch {
	case n < int(frameLen16):
		b = append(b, first, mask|byte(n))
	case n <= math.MaxUint16:
		b = append(b, first, mask|frameLen16, byte(n>>8), byte(n))
	default:
		b = append(b, first, mask|frameLen64)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if masked {
		b = binary.LittleEndian.AppendUint32(b, key)
	}
	return b
}
