package flare

// This file is layer 4 (roles): frames as a server's connection takes them: what
// is awaited whole and what in pieces, which frame the state of its stream allows
// (RFC 9113 §5.1), and what a fault ends.

// http2WorkMax is how much a connection does before others have their turn: octets
// of field blocks as they are decoded, and what else takes time, in like measure.
const http2WorkMax = 256 << 10

// http2FaultWork is what an error of a stream counts for.
const http2FaultWork = 4 << 10

const (
	rulePreface       = "no connection preface (RFC 9113 §3.4)"
	ruleSettingsFirst = "first frame is not SETTINGS (RFC 9113 §3.4)"
	ruleStreamIdle    = "frame on a stream that was not begun (RFC 9113 §5.1)"
	ruleStreamNumber  = "stream of an even number, or of a lower one than before (RFC 9113 §5.1.1)"
	ruleStreamClosed  = "frame on a stream that has ended (RFC 9113 §5.1)"
	ruleWindowMax     = "window beyond 2^31-1 (RFC 9113 §6.9.1)"
	ruleWindowOver    = "DATA beyond the window (RFC 9113 §6.9)"
)

// Data takes frames.
func (h *http2Conn) Data(c *Conn, in []byte, eof bool) (used int, err error) {
	g := c.workset
	work := 0
	for h.failure == nil {
		n, cost, err := h.next(in[used:], g)
		used += n
		if err != nil {
			h.fault(err)
			cost += http2FaultWork
		}
		if n == 0 && err == nil {
			break
		}
		h.heard, h.pinged = g.clock.now, 0
		if work += cost; work > http2WorkMax {
			c.want = wantTurn
			break
		}
	}
	switch {
	case h.failure != nil:
		used = len(in)
		h.dropFailed()
	case used < len(in) && c.want == wantNothing || h.frame.goes() && h.frame.s == nil || h.block.id != 0:
		if h.partial == 0 {
			h.partial = g.clock.now
		}
	default:
		h.partial = 0
	}
	if eof && c.want == wantNothing {
		h.peerEnded()
	}
	if h.control.len() > 0 || h.failure != nil {
		c.flushLater()
	}
	return used, nil
}

// next takes what in begins with. It returns how much that was, 0 to ask for more,
// and what it has cost.
func (h *http2Conn) next(in []byte, g *workset) (n, cost int, err error) {
	switch {
	case !h.prefaced:
		return h.takePreface(in)
	case h.frame.goes():
		n, err = h.takePayload(in)
		return n, 0, err
	case len(in) < http2HeadBytes:
		return 0, 0, nil
	}
	head := parseHTTP2Head((*[http2HeadBytes]byte)(in))
	fault := head.check(frameSizeDefault, h.block.id)
	switch {
	case !h.greeted && (head.kind != frameSettings || head.ack()):
		return 0, 0, connFault(codeProtocol, ruleSettingsFirst)
	case h.leaving != http2Stays && h.block.id == 0 && head.resetsNothing():
		return h.ignore(&head)
	case fault != nil && !fault.(*http2Error).stream:
		return 0, 0, fault
	}
	payload := in[http2HeadBytes:]
	switch head.kind {
	case frameData:
		return h.beginData(head, payload)
	case frameHeaders, frameContinuation, framePriority, frameRSTStream, frameSettings, framePing, frameGoAway,
		frameWindowUpdate, framePriorityUpdate:
		if len(payload) < int(head.length) {
			return 0, 0, nil
		}
		n = http2HeadBytes + int(head.length)
		if fault == nil {
			cost, fault = h.take(&head, payload[:head.length], g)
		} else {
			fault = h.streamFault(&head, fault)
		}
		return n, cost + http2HeadBytes, fault
	}
	return h.ignore(&head) // RFC 9113 §5.5
}

// ignore skips a frame.
func (h *http2Conn) ignore(head *http2Head) (n, cost int, err error) {
	h.frame = http2Incoming{left: head.length}
	return http2HeadBytes, http2HeadBytes, h.charge()
}

// takePreface looks for the preface.
func (h *http2Conn) takePreface(in []byte) (n, cost int, err error) {
	n = min(len(in), len(http2Preface))
	if string(in[:n]) != http2Preface[:n] {
		return 0, 0, connFault(codeProtocol, rulePreface)
	}
	if n < len(http2Preface) {
		return 0, 0, nil
	}
	h.prefaced = true
	return n, 0, nil
}

// take is what becomes of a whole frame.
func (h *http2Conn) take(head *http2Head, p []byte, g *workset) (cost int, err error) {
	switch head.kind {
	case frameHeaders:
		return h.takeHeaders(head, p, g)
	case frameContinuation:
		return h.takeContinuation(head, p, g)
	case frameRSTStream:
		return 0, h.takeReset(head)
	case frameSettings:
		return 0, h.takeSettings(head, p)
	case framePing:
		return 0, h.takePing(head, p)
	case frameWindowUpdate:
		return 0, h.takeWindowUpdate(head, p)
	case framePriority:
		if err := head.parsePriority(p); err != nil {
			return 0, h.streamFault(head, err)
		}
		return 0, h.charge()
	case framePriorityUpdate:
		return 0, h.takePriorityUpdate(p)
	}
	return 0, h.charge() // GOAWAY: the peer opens no more streams, or does
}

// streamFault is a fault of the stream that a frame is on, if that is there.
func (h *http2Conn) streamFault(head *http2Head, err error) error {
	if head.stream > h.last { // PRIORITY may come before its stream, which cannot be reset then
		return connFault(err.(*http2Error).code, err.(*http2Error).rule)
	}
	if s := h.table.find(head.stream); s != nil {
		return h.reset(s, err.(*http2Error).code)
	}
	if h.closedHow(head.stream) == http2ClosedByUs {
		return h.charge()
	}
	h.sayReset(head.stream, err.(*http2Error).code)
	return h.charge()
}

// takeReset is a RST_STREAM of the peer.
func (h *http2Conn) takeReset(head *http2Head) error {
	if head.stream > h.last || head.stream%2 == 0 {
		return connFault(codeProtocol, ruleStreamIdle)
	}
	if s := h.table.find(head.stream); s != nil {
		h.srv.http2Counts.resetByPeer.Add(1)
		h.abort(s, http2ClosedByPeer, ownHup, errPeerLeft)
	} else {
		h.resetAgain(head.stream)
	}
	return h.charge()
}

// takeSettings takes the peer's settings, or that it has taken ours.
func (h *http2Conn) takeSettings(head *http2Head, p []byte) error {
	h.greeted = true
	if head.ack() {
		if !h.acked {
			for s := range h.table.all() {
				s.recvWindow -= h.unheard()
			}
			h.acked = true
			h.dec.setLimit(h.srv.http2.tableSize)
		}
		return h.charge()
	}
	before := int64(h.peer.window)
	if err := h.peer.apply(p, false); err != nil {
		return err
	}
	h.enc.resize(h.peer.tableSizeLeast, h.peer.tableSize)
	if more := int64(h.peer.window) - before; more != 0 {
		for s := range h.table.all() {
			if err := h.openWindow(s, more); err != nil {
				return connFault(codeFlowControl, ruleWindowMax)
			}
		}
	}
	var room [http2HeadBytes]byte
	h.say(appendSettingsAck(room[:0]))
	return h.charge()
}

// takePing answers a PING.
func (h *http2Conn) takePing(head *http2Head, p []byte) error {
	payload := [pingBytes]byte(p)
	if head.ack() {
		if h.leaving == http2Announced && payload == http2PingLeaving {
			h.sayLast()
		}
		return nil
	}
	var room [http2HeadBytes + pingBytes]byte
	h.say(appendHTTP2Ping(room[:0], payload, true))
	return h.chargeSmall()
}

// takeWindowUpdate opens a window of what we send.
func (h *http2Conn) takeWindowUpdate(head *http2Head, p []byte) error {
	n, err := head.parseWindowUpdate(p)
	switch {
	case head.stream > h.last || head.stream != 0 && head.stream%2 == 0:
		return connFault(codeProtocol, ruleStreamIdle)
	case err != nil && head.stream != 0:
		return h.streamFault(head, err)
	case err != nil:
		return err
	}
	if head.stream == 0 {
		if h.sendWindow += int64(n); h.sendWindow > streamMax {
			return connFault(codeFlowControl, ruleWindowMax)
		}
		if h.ready.first != nil {
			h.c.flushLater()
		}
		return h.chargeSmall()
	}
	if s := h.table.find(head.stream); s != nil {
		if h.openWindow(s, int64(n)) != nil {
			return h.reset(s, codeFlowControl)
		}
	}
	return h.chargeSmall()
}

// openWindow changes what may be sent on s, by less than nothing too (RFC 9113
// §6.9.2).
func (h *http2Conn) openWindow(s *http2Stream, n int64) error {
	before := s.sendWindow
	if s.sendWindow += n; s.sendWindow > streamMax {
		return streamFault(codeFlowControl, ruleWindowMax)
	}
	if before <= 0 && s.sendWindow > 0 {
		h.enqueue(s)
	}
	return nil
}

// takePriorityUpdate changes the priority of a stream (RFC 9218 §7.1).
func (h *http2Conn) takePriorityUpdate(p []byte) error {
	id, priority, err := parsePriorityUpdate(p)
	if err != nil {
		return err
	}
	if id%2 == 0 {
		return connFault(codeProtocol, ruleStreamNumber)
	}
	if s := h.table.find(id); s != nil {
		s.urged = true
		h.prioritize(s, priority)
	}
	return h.chargeSmall()
}
