package flare

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 5 (surface): what becomes of a connection that a ReverseProxy lets
// leave HTTP: octets both ways, until both sides have ended or nothing comes any more.

// A proxyUpgrade is what a request says of another protocol.
type proxyUpgrade struct {
	protocol string // as Upgrade has it; "": none
	stream   bool   // it is an extended CONNECT (RFC 8441), and a WebSocket
	key      string // of the WebSocket, if it is made here

	release func() bool // of the handler's context, which ends when the connection is taken
	cancel  context.CancelFunc
}

// ask has the server asked for the protocol that the client asks for, by HTTP/1.1.
func (u *proxyUpgrade) ask(x *exchange, in, h *headerFields) {
	r := &x.r
	switch _, major, minor := r.version(); {
	case major > 1 && r.head.upgradeWebSocket():
		u.protocol, u.stream, u.key = "websocket", true, newWebSocketKey()
		h.Set(fieldWSKey, u.key)
	case major > 1 || minor == 0 || !r.head.connUpgrade || r.ContentLength() != 0 || !x.stream.takeable():
		return // what asks for more may be answered as if it did not (RFC 9110 §7.8)
	default:
		u.protocol = passableProtocols(in.Values("Upgrade"))
	}
	if u.protocol != "" {
		h.Set("Connection", "Upgrade")
		h.Set("Upgrade", u.protocol)
	}
}

// passableProtocols are those of Upgrade that are a tunnel's. Requests in HTTP/2 are not
// to get by here unseen.
func passableProtocols(lists []string) string {
	var kept []string
	for _, list := range lists {
		for more := true; more; {
			var member string
			if member, list, more = nextListMember(list); member != "" && !hasPrefixFold(member, "h2c") && !hasPrefixFold(member, "HTTP/") {
				kept = append(kept, member)
			}
		}
	}
	return strings.Join(kept, ", ")
}

// context returns what ends with the handler's context, until that is released.
func (u *proxyUpgrade) context(of context.Context) context.Context {
	ctx, cancel := context.WithCancel(context.WithoutCancel(of))
	u.cancel, u.release = cancel, context.AfterFunc(of, cancel)
	return ctx
}

func (u *proxyUpgrade) end() {
	if u.cancel != nil {
		u.release()
		u.cancel()
	}
}

var errProxyUpgrade = errors.New("flare: the server changes to a protocol that it was not asked for")

// verify holds the server's answer to what it was asked.
func (u *proxyUpgrade) verify(resp *ClientResponse) error {
	protocol := resp.Header.Get("Upgrade")
	if resp.StatusCode != http.StatusSwitchingProtocols || protocol == "" || !listContains(u.protocol, protocol) {
		return errProxyUpgrade
	}
	if u.stream && resp.Header.Get(fieldWSAccept) != string(appendAccept(nil, u.key)) {
		return errProxyUpgrade
	}
	return nil
}

// switchProtocols answers with what the server has agreed to, and passes octets on.
func (u *proxyUpgrade) switchProtocols(x *exchange, resp *ClientResponse, quiet time.Duration) error {
	server, ok := resp.Body.(tunnelBody)
	err := u.verify(resp)
	if err != nil || !ok {
		return &StatusError{Code: http.StatusBadGateway, Err: err}
	}
	if !u.release() {
		return context.Canceled // the client has left
	}
	end := x.srv.onEnd.context()
	client, err := u.takeOver(x, resp)
	if err != nil {
		return err
	}
	defer client.ended()
	t := &proxyTunnel{client: client.nc, server: server}
	stop := context.AfterFunc(end, t.close)
	defer stop()
	t.run(quiet, client.in)
	return nil
}

// takeOver answers, and takes the client's connection, or its stream.
func (u *proxyUpgrade) takeOver(x *exchange, resp *ClientResponse) (*websocketTakeover, error) {
	w := &x.w
	addAnswerFields(&w.header, resp.Header.snapshot())
	if err := w.header.fault(); err != nil {
		return nil, err
	}
	a := &websocketTakeover{srv: x.srv, peer: x.stream.session().peerAddr(), home: x.strand.loop()}
	var err error
	if u.stream {
		hs := handshake{subprotocol: resp.Header.Get(fieldWSProtocol), extensions: resp.Header.Get(fieldWSExtensions)}
		a.nc, err = x.stream.tunnel(&hs, &w.header)
		w.status, a.tunnel = http.StatusOK, true
		return a, err
	}
	answer := appendStatusLine(nil, http.StatusSwitchingProtocols)
	answer = w.header.appendTo(append(answer, "Connection: Upgrade\r\n"...))
	answer = append(append(append(answer, "Upgrade: "...), resp.Header.Get("Upgrade")...), "\r\n\r\n"...)
	if a.nc, a.in, err = w.takeOver(); err != nil {
		return nil, err
	}
	a.known, w.status = w.known(a.nc), http.StatusSwitchingProtocols
	if _, err := a.nc.Write(answer); err != nil {
		a.nc.Close()
		a.ended()
		return nil, err
	}
	return a, nil
}

// proxyHalfTimeout ends a tunnel of which one side has ended, and through which nothing
// has come for so long.
const proxyHalfTimeout = time.Minute

// A proxyTunnel passes octets on, both ways.
type proxyTunnel struct {
	client net.Conn
	server tunnelBody

	quiet atomic.Int64 // nanoseconds without an octet that end it
	heard atomic.Int64 // when one has come, since origin
	timer *time.Timer
	once  sync.Once
}

// run returns when both ways have ended. in is what the client has sent already.
func (t *proxyTunnel) run(quiet time.Duration, in []byte) {
	if quiet < 0 {
		quiet = math.MaxInt64
	}
	t.timer = time.AfterFunc(math.MaxInt64, t.look)
	defer t.timer.Stop()
	t.hear()
	t.bound(quiet)
	var there sync.WaitGroup
	there.Go(func() { t.pass(t.server, t.client, in, t.endServer) })
	t.pass(t.client, t.server, nil, func() error { return closeWrite(t.client) })
	there.Wait()
	t.close()
}

func (t *proxyTunnel) hear() { t.heard.Store(int64(time.Since(origin))) }

// bound sets how long nothing may come.
func (t *proxyTunnel) bound(quiet time.Duration) {
	if was := t.quiet.Load(); was == 0 || int64(quiet) < was {
		t.quiet.Store(int64(quiet))
	}
	t.timer.Reset(quiet)
}

// look ends a tunnel through which nothing comes.
func (t *proxyTunnel) look() {
	quiet, limit := int64(time.Since(origin))-t.heard.Load(), t.quiet.Load()
	if quiet >= limit {
		t.close()
		return
	}
	t.timer.Reset(time.Duration(limit - quiet))
}

// close ends both sides at once. Any goroutine may call it.
func (t *proxyTunnel) close() {
	t.once.Do(func() {
		t.client.Close()
		t.server.Close()
	})
}

// pass passes on what comes, until its end, which end tells.
func (t *proxyTunnel) pass(to io.Writer, from io.Reader, first []byte, end func() error) {
	b := getBuffer(streamBytes)
	defer b.release()
	p, n, err := b.b[:cap(b.b)], 0, error(nil)
	for err == nil {
		if len(first) > 0 {
			if _, err = to.Write(first); err != nil {
				break
			}
		}
		n, err = from.Read(p)
		first = p[:n]
		t.hear()
	}
	if err == io.EOF && len(first) > 0 {
		if _, failed := to.Write(first); failed != nil {
			err = failed
		}
	}
	if err != io.EOF || end() != nil {
		t.close()
		return
	}
	t.bound(proxyHalfTimeout)
}

// endServer tells the server that the client has ended its side.
func (t *proxyTunnel) endServer() error {
	link := t.server.conn.lead()
	if link.tls != nil {
		return link.tls.CloseWrite()
	}
	return closeWrite(link.raw)
}

// closeWrite ends one side of a connection, if that can be.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
