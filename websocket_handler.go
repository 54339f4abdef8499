package flare

import (
	"errors"
	"log/slog"
	"sync"
)

// This file is layer 4 (roles): WebSocketHandler, which answers the handshake
// and calls the user's functions. Where they are called, on a loop or on a
// goroutine that another server has given the request, is the matter of
// websocket_run_loop.go and websocket_run_carried.go; what may become of the
// calls (an error, a panic, the end of the goroutine) is the same and stands here.

// A WebSocketHandler is a Handler that makes WebSockets of its requests. Its
// functions are called for one connection by one goroutine at a time, which may
// block; OnMessage is called in the order in which messages arrive. Where it
// runs is learned from how long it takes, for all connections of the handler;
// Inline and Offload around the handler fix that too. It must not be changed
// once it serves.
type WebSocketHandler struct {
	WebSocketOptions

	// OnOpen is called once the handshake is done, before any message. r is
	// valid until it returns, ws for ever. An error closes the connection, with
	// the code of a *CloseError and with 1011 otherwise.
	OnOpen func(ws *WebSocket, r *Request) error

	// OnMessage is called with each message; p is valid until it returns, and
	// may be changed. An error closes the connection as with OnOpen.
	OnMessage func(ws *WebSocket, kind MessageKind, p []byte) error

	// OnClose is called once, last, for each connection that was opened: with
	// what the peer's close frame said, with the code that the connection was
	// failed with, or with CloseAbnormal when it just ended.
	OnClose func(ws *WebSocket, code CloseCode, reason string)

	once     sync.Once
	route    *route // of OnMessage, on a loop
	profiles websocketProfiles
}

// Serve answers the handshake.
func (h *WebSocketHandler) Serve(w *ResponseWriter, r *Request) error {
	var p *loopSocket
	var carried *websocketTakeover
	err := admitWebSocket(w, r, &h.WebSocketOptions, func(w *serverResponse, hs *handshake) (err error) {
		profile := h.profiles.find(h, w.x.srv, hs)
		if w.x.stream.ownConn() == nil {
			carried, err = w.takeOverForWebSocket(hs, profile)
			return err
		}
		p = profile.runOnLoop(w, hs)
		return nil
	})
	switch {
	case err != nil:
		return err
	case carried != nil:
		return carried.runCarried(r)
	}
	return p.onOpen(r)
}

// onOpen calls OnOpen. Its error is the caller's to deal with.
func (k *websocketCore) onOpen(r *Request) error {
	if open := k.ws.handler.OnOpen; open != nil {
		return open(&k.ws, r)
	}
	return nil
}

// onMessage calls OnMessage with the message that next has returned.
func (k *websocketCore) onMessage() {
	message := k.ws.handler.OnMessage
	if message == nil || k.ws.run.closing() {
		return // RFC 6455 §5.5.1: after a close frame of our own nobody waits for it
	}
	err := k.call(func() error { return message(&k.ws, k.reader.kind, k.reader.data) })
	if err != nil {
		k.closeFor(err)
	}
}

// closeFor starts the closing handshake after an error of the user's code.
func (k *websocketCore) closeFor(err error) {
	k.log(err)
	k.ws.Close(closeOf(err))
}

// goexit ends the connection of an OnOpen or OnMessage that called
// runtime.Goexit.
func (k *websocketCore) goexit() {
	k.endWith(&CloseError{Code: CloseInternalError}, CloseInternalError)
}

// onClose calls OnClose, after everything else.
func (k *websocketCore) onClose() {
	if k.ended == nil {
		k.ended = &CloseError{Code: CloseAbnormal}
	}
	if closed := k.ws.handler.OnClose; closed != nil {
		k.log(k.call(func() error {
			closed(&k.ws, k.ended.Code, k.ended.Reason)
			return nil
		}))
	}
}

// log logs what a function of the handler returned or panicked with, unless it
// only says how to close.
func (k *websocketCore) log(err error) {
	var asked *CloseError
	if err == nil || errors.As(err, &asked) || isGone(err) {
		return
	}
	attrs := []slog.Attr{slog.Any("error", err)}
	var panicked *panicError
	if errors.As(err, &panicked) {
		attrs = append(attrs, slog.String("stack", string(panicked.stack)))
	}
	logTo(k.ws.srv.logger(), slog.LevelError, "flare: WebSocket handler failed", attrs...)
}

// call makes an error of a panic of fn.
func (k *websocketCore) call(fn func() error) (err error) {
	if p := guard(func() { err = fn() }, nil); p != nil {
		k.ws.run.counts().sums[countPanics].Add(1)
		return p
	}
	return err
}
