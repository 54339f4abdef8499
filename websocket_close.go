package flare

import (
	"encoding/binary"
	"errors"
	"strconv"
	"unicode/utf8"
)

// This file is layer 4 (roles): how a WebSocket is closed (RFC 6455 §7): the
// close frame, sent once, and the time that the peer has to answer it. What its
// own close frame and its faults lead to is in websocket_core.go.

// A CloseError is the end of a WebSocket by a close frame of the peer. As the
// result of OnMessage or OnOpen it says how to close.
type CloseError struct {
	Code   CloseCode
	Reason string // at most 123 bytes of UTF-8
}

func (e *CloseError) Error() string {
	s := "flare: WebSocket closed with " + strconv.Itoa(int(e.Code))
	if e.Reason != "" {
		s += ": " + strconv.Quote(e.Reason)
	}
	return s
}

// Is makes errors.Is(err, ErrClosed) answer.
func (e *CloseError) Is(target error) bool { return target == ErrClosed }

var (
	errCloseCode   = errors.New("flare: a close code that must not be sent")
	errCloseReason = errors.New("flare: a close reason is at most 123 bytes of UTF-8")
)

// closeFrameBody returns the body of a close frame; CloseNoStatus has none.
func closeFrameBody(code CloseCode, reason string) []byte {
	if code == CloseNoStatus {
		return nil
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

// sendClose sends the close frame, once; nothing is sent behind it.
func (ws *WebSocket) sendClose(code CloseCode, reason string) error {
	return ws.putFrame(frameFin|byte(opClose), closeFrameBody(code, reason), putLast)
}

// Close starts the closing handshake: what was written before is still sent,
// what is written after fails. It is called from any goroutine, any number of
// times; the first call decides. A WebSocket of a WebSocketHandler returns at
// once, and OnClose follows; one that is read with Read waits for the peer's
// answer, for CloseTimeout at most.
func (ws *WebSocket) Close(code CloseCode, reason string) error {
	switch {
	case code != CloseNoStatus && !code.sendable():
		return errCloseCode
	case len(reason) > closeReasonMax || !utf8.ValidString(reason) || code == CloseNoStatus && reason != "":
		return errCloseReason
	}
	if err := ws.sendClose(code, reason); err != nil {
		return err
	}
	return ws.run.awaitClose(ws.handler == nil)
}

// closeSoon is Close that does not wait.
func (ws *WebSocket) closeSoon(code CloseCode) {
	if ws.sendClose(code, "") == nil {
		ws.run.awaitClose(false)
	}
}

// goingAway closes because the server does.
func (ws *WebSocket) goingAway() { ws.closeSoon(CloseGoingAway) }

// closeOf is how a WebSocket is closed after an error of the user's code or of
// the peer.
func closeOf(err error) (CloseCode, string) {
	var broken *webSocketError
	var closed *CloseError
	switch {
	case errors.As(err, &broken):
		return broken.code, ""
	case errors.As(err, &closed) && closed.Code.sendable() && len(closed.Reason) <= closeReasonMax && utf8.ValidString(closed.Reason):
		return closed.Code, closed.Reason
	}
	return CloseInternalError, ""
}
