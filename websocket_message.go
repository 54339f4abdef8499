package flare

import "encoding/binary"

// This file is layer 1 (wire): frames become messages (RFC 6455 §5.4 to §5.6,
// §8.1). Bytes in, events out: it knows limits, fragments, masks and UTF-8,
// and no socket, clock or goroutine. websocket_deflate.go inflates for it; both
// kinds of WebSocket, on a loop and blocking, read with it.

const (
	ruleMessageMax     = "message over the limit (RFC 6455 §10.4)"
	ruleMessageUTF8    = "text that is not UTF-8 (RFC 6455 §8.1)"
	ruleCloseShort     = "close frame with a body of one byte (RFC 6455 §5.5.1)"
	ruleCloseCode      = "close code that must not be sent (RFC 6455 §7.4)"
	ruleCloseUTF8      = "close reason that is not UTF-8 (RFC 6455 §5.5.1)"
	ruleAfterClose     = "frame after the close frame (RFC 6455 §5.5.1)"
	ruleMessageFlate   = "compressed message that is not DEFLATE (RFC 7692 §7.2.2)"
	ruleMessageStreams = "compressed message of too many DEFLATE streams"
)

// A messageEvent is what a piece of input amounted to.
type messageEvent uint8

const (
	eventNone    messageEvent = iota // more has to come
	eventMessage                     // data has a message of kind
	eventPiece                       // data has a piece of a message of kind; last says whether it ends it
	eventPing                        // data has its payload
	eventPong
	eventClose // code and data, the reason
)

// A messageReader turns the bytes of one direction into events.
type messageReader struct {
	// Fixed, save pieces.
	rules    frameRules
	bytesMax int64     // of a message; negative: no limit
	inflater *inflater // nil: permessage-deflate was not agreed on
	pieces   bool      // messages that begin are handed out in pieces, as they arrive
	inflated int       // bytes that came out of compressed messages; whoever reads may set it back

	// The event that next has returned. data is valid until the next call, and
	// may be part of the input.
	data []byte
	kind MessageKind
	code CloseCode
	last bool

	// The frame that is being read.
	head   frameHead
	inside bool   // its payload is next
	left   uint64 // bytes of payload to come
	key    uint32 // rotated to the next of them

	// The message.
	offset     int64 // bytes of input used
	sum        int64 // payload bytes of the message so far
	msg        *buffer
	ctl        *buffer // payload of a control frame that came in parts
	text       utf8Check
	open       bool // a message has begun
	compressed bool
	piecewise  bool // pieces, as it was when the message began
	handed     bool // data is msg's: reuse it at the next call
	closed     bool // the close frame has come
}

// next takes bytes from the front of in, which it may change, and reports how
// many. The event is eventNone when more input has to come; the bytes that were
// not used are then wanted again, followed by others. An error is final, and
// always a *webSocketError.
func (r *messageReader) next(in []byte) (n int, ev messageEvent, err error) {
	r.recycle()
	for {
		if !r.inside {
			used, err := r.begin(in[n:])
			n += used
			if err != nil || used == 0 {
				return n, eventNone, err
			}
		}
		used, ev, err := r.payload(in[n:])
		n += used
		r.offset += int64(used)
		if err != nil || ev != eventNone {
			return n, ev, err
		}
		if r.inside {
			return n, eventNone, nil
		}
	}
}

// begun reports whether a message or a control frame has begun and not ended.
func (r *messageReader) begun() bool { return r.inside || r.open }

// recycle gives back what the last event needed.
func (r *messageReader) recycle() {
	r.data = nil
	if r.handed {
		r.handed = false
		r.msg.release()
		r.msg = nil
	}
	if r.ctl != nil && !r.inside {
		r.ctl.release()
		r.ctl = nil
	}
}

// release gives back everything; r is not used any more.
func (r *messageReader) release() {
	r.handed = false
	for _, b := range []**buffer{&r.msg, &r.ctl} {
		if *b != nil {
			(*b).release()
			*b = nil
		}
	}
}

// size is how many bytes of memory the part of a message that has come takes up.
func (r *messageReader) size() (n int) {
	if r.msg != nil {
		n = cap(r.msg.b)
	}
	if r.ctl != nil {
		n += cap(r.ctl.b)
	}
	return n
}

func (r *messageReader) fail(code CloseCode, at int, rule string) error {
	return &webSocketError{code: code, offset: r.offset + int64(at), rule: rule}
}

// begin reads the head of a frame and holds it to what came before.
func (r *messageReader) begin(in []byte) (int, error) {
	if r.closed && len(in) > 0 {
		return 0, r.fail(CloseProtocolError, 0, ruleAfterClose)
	}
	h := &r.head
	n, rule, at := h.parse(in, r.rules)
	if at > 0 || rule == "" && len(in) > 0 {
		// Known from the first octet, and so refused at it.
		if h.op == opContinuation && !r.open {
			rule, at = ruleFrameContinues, 0
		} else if !h.op.control() && h.op != opContinuation && r.open {
			rule, at = ruleFrameInterrupts, 0
		}
	}
	if rule != "" {
		return 0, r.fail(CloseProtocolError, at, rule)
	}
	if n == 0 {
		return 0, nil
	}
	if !h.op.control() {
		if h.op != opContinuation {
			r.open, r.sum, r.text = true, 0, utf8Check{}
			r.kind = MessageKind(h.op)
			r.compressed = h.rsv&frameRSV1 != 0
			r.piecewise = r.pieces
		}
		// Refused on what was declared, before a byte of it is kept.
		if max := r.wireBytesMax(); max >= 0 && (h.length > uint64(max) || r.sum+int64(h.length) > max) {
			return 0, r.fail(CloseMessageTooBig, n, ruleMessageMax)
		}
	}
	r.offset += int64(n)
	r.inside, r.left, r.key = true, h.length, h.key
	return n, nil
}

// wireBytesMax is the bound on the payload of a message as it is sent. What
// does not compress grows a little when a peer compresses it all the same.
func (r *messageReader) wireBytesMax() int64 {
	if r.bytesMax >= 0 && r.compressed {
		return r.bytesMax + r.bytesMax>>8 + 64
	}
	return r.bytesMax
}

// payload takes what there is of the frame's payload.
func (r *messageReader) payload(in []byte) (int, messageEvent, error) {
	n := len(in)
	if uint64(n) > r.left {
		n = int(r.left)
	}
	part := in[:n]
	if r.rules.masked {
		maskWord(part, r.key)
		r.key = rotateMask(r.key, n)
	}
	r.left -= uint64(n)
	whole := uint64(n) == r.head.length
	if r.left == 0 {
		r.inside = false
	}
	if r.head.op.control() {
		ev, err := r.control(part, whole)
		return n, ev, err
	}
	r.sum += int64(n)
	ev, err := r.dataPart(part, whole)
	return n, ev, err
}

// dataPart takes a part of a data frame's payload. whole: it is all of it.
func (r *messageReader) dataPart(part []byte, whole bool) (messageEvent, error) {
	end := !r.inside && r.head.fin
	if r.kind == TextMessage && !r.compressed {
		if err := r.checkText(part, end); err != nil {
			return eventNone, err
		}
	}
	if r.piecewise && !r.compressed {
		if len(part) == 0 && !end {
			return eventNone, nil
		}
		r.open = !end
		r.data, r.last = part, end
		return eventPiece, nil
	}
	if end && whole && r.msg == nil { // nothing came before: no copy
		r.data = part
	} else {
		r.keep(part)
		if !end {
			return eventNone, nil
		}
		r.data, r.handed = r.msg.b, true
	}
	r.open = false
	if r.compressed {
		if err := r.inflate(); err != nil {
			return eventNone, err
		}
	}
	r.last = true
	if r.piecewise {
		return eventPiece, nil
	}
	return eventMessage, nil
}

// checkText validates the next part of a text message.
func (r *messageReader) checkText(part []byte, end bool) error {
	if at := r.text.next(part); at >= 0 {
		return r.fail(CloseInvalidPayload, at, ruleMessageUTF8)
	}
	if end && !r.text.complete() {
		return r.fail(CloseInvalidPayload, len(part), ruleMessageUTF8)
	}
	return nil
}

// keep adds a part to the message. The buffer grows with what has arrived and
// not with what was declared: a peer has to send what it wants held.
func (r *messageReader) keep(part []byte) {
	if r.msg == nil {
		r.msg = getBuffer(len(part))
	} else {
		r.msg = r.msg.grown(len(part))
	}
	r.msg.b = append(r.msg.b, part...)
}

// inflate replaces the message in data with what it decompresses to.
func (r *messageReader) inflate() error {
	out, rule := r.inflater.inflate(r.data, r.bytesMax)
	r.inflated += len(out.b)
	if r.handed {
		r.msg.release()
	}
	r.msg, r.handed = out, true
	switch rule {
	case "":
	case ruleMessageFlate:
		return r.fail(CloseInvalidPayload, 0, rule)
	default:
		return r.fail(CloseMessageTooBig, 0, rule)
	}
	r.data = out.b
	if r.kind == TextMessage {
		return r.checkText(r.data, true)
	}
	return nil
}

// control takes a part of a control frame's payload.
func (r *messageReader) control(part []byte, whole bool) (messageEvent, error) {
	if !whole {
		if r.ctl == nil {
			r.ctl = getBuffer(controlPayloadMax)
		}
		r.ctl.b = append(r.ctl.b, part...)
		part = r.ctl.b
	}
	if r.head.op == opClose {
		return r.closePart(part)
	}
	if r.inside {
		return eventNone, nil
	}
	r.data = part
	if r.head.op == opPing {
		return eventPing, nil
	}
	return eventPong, nil
}

// closePart judges what has come of a close frame's body (RFC 6455 §5.5.1).
func (r *messageReader) closePart(body []byte) (messageEvent, error) {
	if r.head.length == 1 {
		return eventNone, r.fail(CloseProtocolError, 0, ruleCloseShort)
	}
	var reason []byte
	r.code = CloseNoStatus // RFC 6455 §7.1.5: there was none
	if len(body) >= 2 {
		r.code, reason = CloseCode(binary.BigEndian.Uint16(body)), body[2:]
		if !r.code.sendable() {
			return eventNone, r.fail(CloseProtocolError, 0, ruleCloseCode)
		}
		var text utf8Check
		if at := text.next(reason); at >= 0 || !r.inside && !text.complete() {
			return eventNone, r.fail(CloseInvalidPayload, 0, ruleCloseUTF8)
		}
	}
	if r.inside {
		return eventNone, nil
	}
	r.closed = true
	r.data = reason
	return eventClose, nil
}
