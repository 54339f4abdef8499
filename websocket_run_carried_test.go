package flare

import (
	"io"
	"log"
	"net"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// A panickyListener's connections panic in Read, once that is armed.
type panickyListener struct {
	net.Listener
	armed atomic.Bool
}

type panickyConn struct {
	net.Conn
	armed *atomic.Bool
}

func (l *panickyListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return panickyConn{nc, &l.armed}, nil
}

func (c panickyConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.armed.Load() {
		panic("on purpose")
	}
	return n, err
}

// A panic of the other server's net.Conn ends the WebSocket: OnClose is called, and
// the connection is closed.
func TestCarriedWebSocketConnPanics(t *testing.T) {
	ends := make(chan CloseCode, 1)
	s := &Server{Logger: quietLogger(), Handler: &WebSocketHandler{OnClose: func(_ *WebSocket, code CloseCode, _ string) { ends <- code }}}
	other := httptest.NewUnstartedServer(s)
	other.Config.ErrorLog = log.New(io.Discard, "", 0)
	l := &panickyListener{Listener: other.Listener}
	other.Listener = l
	other.Start()
	defer other.Close()
	c := wsRaw(t, other.URL, "")
	l.armed.Store(true)
	c.send(string(wsFrame(0x81, "x", true)))
	if rest := c.toEnd(); len(rest) > 0 {
		t.Errorf("%q", rest)
	}
	if code := <-ends; code != CloseAbnormal {
		t.Errorf("OnClose %d", code)
	}
}
