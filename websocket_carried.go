package flare

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// This file is layer 4 (roles): a WebSocketHandler on another server's
// connection. There is no loop for it to live on, so the goroutine that the
// other server gave the request reads it.

// errWebSocketVersion refuses a handshake over HTTP/2, whose form of it (RFC
// 8441) neither flare nor net/http speaks.
func errWebSocketVersion() error {
	return &StatusError{Code: http.StatusNotImplemented, Message: "WebSockets are spoken over HTTP/1.1 here", Err: errors.ErrUnsupported}
}

// serveCarried is Serve where the request came by another server. It returns
// when the WebSocket has ended.
func (h *WebSocketHandler) serveCarried(w *ResponseWriter, r *Request, srv *Server) error {
	ws, err := AcceptWebSocket(w, r, &h.WebSocketOptions)
	if err != nil {
		return err
	}
	defer ws.Close(CloseNormal, "")
	logger := srv.logger()
	var ended error
	over := func() {
		if h.OnClose != nil {
			code, reason := endOf(ended)
			logWebSocketError(logger, callWebSocket(func() error {
				h.OnClose(ws, code, reason)
				return nil
			}))
		}
	}
	panicked := guard(func() { ended = h.converse(ws, r, logger) }, func() {
		ended = &CloseError{Code: CloseInternalError}
		ws.Close(CloseInternalError, "")
		over()
	})
	if panicked != nil {
		logWebSocketError(logger, panicked)
	}
	over()
	return nil
}

// converse calls OnOpen and OnMessage until the WebSocket ends, and returns how.
func (h *WebSocketHandler) converse(ws *WebSocket, r *Request, logger *slog.Logger) (ended error) {
	var err error
	if h.OnOpen != nil {
		err = h.openCarried(ws, r)
	}
	for err == nil {
		var kind MessageKind
		var p []byte
		if kind, p, ended = ws.Read(context.Background()); ended != nil {
			return ended
		}
		if h.OnMessage != nil {
			err = callWebSocket(func() error { return h.OnMessage(ws, kind, p) })
		}
	}
	logWebSocketError(logger, err)
	ws.Close(closeOf(err))
	_, _, ended = ws.Read(context.Background())
	return ended
}

// openCarried calls OnOpen with a request that ends with it, as on a loop; those
// around who wait for Serve have r.
func (h *WebSocketHandler) openCarried(ws *WebSocket, r *Request) error {
	x := r.lease.enter()
	if x == nil {
		return errRequestDone
	}
	defer r.lease.exit()
	one := newLeases(1)
	l := one.next(x, x.r.h.srv)
	defer x.end(l)
	return callWebSocket(func() error { return h.OnOpen(ws, &l.r) })
}

// endOf is how a WebSocket ended whose Read failed with err.
func endOf(err error) (CloseCode, string) {
	var closed *CloseError
	var broken *webSocketError
	switch {
	case errors.As(err, &closed):
		return closed.Code, closed.Reason
	case errors.As(err, &broken):
		return broken.code, ""
	}
	return CloseAbnormal, ""
}

// callWebSocket makes an error of a panic of fn.
func callWebSocket(fn func() error) (err error) {
	if p := guard(func() { err = fn() }, nil); p != nil {
		return p
	}
	return err
}
