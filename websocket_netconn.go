package flare

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): a WebSocket as a net.Conn, for protocols that
// want a stream of bytes. What they mean is their business: the borders of
// messages do not show.

// NetConn returns a view of ws in which each Write is a message of that kind,
// and Read gives the bytes of all messages in a row, whatever their kind. A
// close frame with CloseNormal or CloseGoingAway is io.EOF. Closing it closes
// ws. It is for WebSockets of AcceptWebSocket and DialWebSocket; nil for others.
func (ws *WebSocket) NetConn(kind MessageKind) net.Conn {
	if ws.blocking() == nil {
		return nil
	}
	return &websocketConn{ws: ws, kind: kind}
}

type websocketConn struct {
	ws   *WebSocket
	kind MessageKind

	readMu sync.Mutex
	stream *messageStream // guarded by readMu

	reads, writes movingDeadline
	closed        atomic.Bool
}

// Read reads from the current message, and goes on to the next one.
func (c *websocketConn) Read(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(p) == 0 && !c.closed.Load() {
		return 0, nil
	}
	ctx := c.reads.context()
	for {
		if c.closed.Load() {
			return 0, net.ErrClosed
		}
		if c.stream == nil {
			_, r, err := c.ws.Reader(ctx)
			if err != nil {
				return 0, connError(err)
			}
			c.stream = r.(*messageStream)
		}
		c.stream.ctx = ctx
		n, err := c.stream.Read(p)
		if err == io.EOF {
			c.stream = nil
			continue
		}
		return n, connError(err)
	}
}

// Write sends p as one message.
func (c *websocketConn) Write(p []byte) (int, error) {
	if err := c.ws.Write(c.writes.context(), c.kind, p); err != nil {
		return 0, connError(err)
	}
	return len(p), nil
}

// connError returns the error of a net.Conn for one of a WebSocket.
func connError(err error) error {
	var closed *CloseError
	switch {
	case errors.Is(err, context.Canceled):
		return os.ErrDeadlineExceeded
	case errors.As(err, &closed) && (closed.Code == CloseNormal || closed.Code == CloseGoingAway):
		return io.EOF
	case err == ErrClosed:
		return net.ErrClosed
	}
	return err
}

func (c *websocketConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	if err := c.ws.Close(CloseNormal, ""); err != nil && !errors.Is(err, ErrClosed) {
		return err
	}
	return nil
}

func (c *websocketConn) LocalAddr() net.Addr  { return c.ws.blocking().nc.LocalAddr() }
func (c *websocketConn) RemoteAddr() net.Addr { return c.ws.blocking().nc.RemoteAddr() }

func (c *websocketConn) SetDeadline(t time.Time) error {
	c.reads.set(t)
	c.writes.set(t)
	return nil
}

func (c *websocketConn) SetReadDeadline(t time.Time) error {
	c.reads.set(t)
	return nil
}

// SetWriteDeadline bounds writes. One that is cut off in the middle of a frame
// ends the connection.
func (c *websocketConn) SetWriteDeadline(t time.Time) error {
	c.writes.set(t)
	return nil
}

// A movingDeadline is a deadline that also holds for calls that wait already.
type movingDeadline struct {
	mu     sync.Mutex
	ctx    context.Context // nil: there was never a deadline
	cancel context.CancelFunc
	timer  *time.Timer
}

// context returns what ends at the deadline.
func (d *movingDeadline) context() context.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.renew()
	return d.ctx
}

// renew makes sure that there is a context to be ended. d.mu is held.
func (d *movingDeadline) renew() {
	if d.ctx == nil {
		d.ctx, d.cancel = context.WithCancel(context.Background())
	}
}

// set moves the deadline; the zero time is none.
func (d *movingDeadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		d.ctx = nil // it ends, if not just yet
	}
	d.timer = nil
	wait := time.Until(t)
	if d.ctx != nil && d.ctx.Err() != nil && (t.IsZero() || wait > 0) {
		d.ctx = nil
	}
	d.renew()
	switch {
	case t.IsZero():
	case wait <= 0:
		d.cancel()
	default:
		d.timer = time.AfterFunc(wait, d.cancel)
	}
}
