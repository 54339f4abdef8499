//go:build linux

package main

// This file has the WebSockets and the event streams of -soak.

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	gorilla "github.com/gorilla/websocket"

	"flare"
	"flare/bench/content"
)

var soakModes = []string{"plain", "deflate", "takeover"}

// socketPath is a route of one of the two kinds, and whether it compresses.
func (a *soakActor) socketPath() (path, mode string) {
	mode = soakModes[a.rand.IntN(len(soakModes))]
	return []string{"/ws/", "/ws-read/"}[a.rand.IntN(2)] + mode, mode
}

// message makes one to be echoed.
func (a *soakActor) message() []byte {
	a.requests++
	p := make([]byte, someBytes(a.rand)/4)
	content.Fill(p, a.rand.Uint64(), 0)
	return p
}

func echoed(sent, got []byte, kindKept bool) error {
	if !bytes.Equal(sent, got) || !kindKept {
		return wrongf("%d bytes came back for %d, or other ones, or of another kind", len(got), len(sent))
	}
	return nil
}

// webSockets has messages echoed, some of them several at once, and ends the connection in peace or
// not.
func (a *soakActor) webSockets(ctx context.Context) error {
	path, mode := a.socketPath()
	opts := &flare.WebSocketDialOptions{TLSConfig: a.tls.Clone(), NetDial: soakDialer(a.from).DialContext}
	opts.Compression = map[string]flare.Compression{"plain": flare.CompressionOff, "deflate": flare.CompressionOn, "takeover": flare.CompressionTakeover}[mode]
	scheme := []string{"ws", "ws", "wss"}[a.rand.IntN(3)]
	if a.rand.IntN(4) == 0 { // on a connection that HTTP/2 has, if there is one
		opts.Client, opts.NetDial, scheme = a.client2, nil, "wss"
	}
	ws, resp, err := flare.DialWebSocket(ctx, a.base(scheme).String()+path, opts)
	if err != nil {
		if resp != nil {
			return wrongf("%s: status %d: %v", path, resp.StatusCode, err)
		}
		return err
	}
	defer ws.Close(flare.CloseNormal, "")
	for range 1 + a.rand.IntN(8) {
		var sent [][]byte
		kind := []flare.MessageKind{flare.BinaryMessage, flare.TextMessage}[a.rand.IntN(2)]
		for range 1 + a.rand.IntN(4) {
			p := a.message()
			if len(p) > 16<<10 {
				p = p[:16<<10] // so that all of them fit into the buffers between
			}
			sent = append(sent, p)
			if err := ws.Write(ctx, kind, p); err != nil {
				return err
			}
		}
		for _, p := range sent {
			got, back, err := ws.Read(ctx)
			if err == nil {
				err = echoed(p, back, got == kind)
			}
			if err != nil {
				return err
			}
		}
	}
	if a.rand.IntN(3) == 0 { // leave without reading the echo
		return ws.Write(ctx, flare.BinaryMessage, a.message())
	}
	return nil
}

// gorillaSockets is the same with a client that is not flare's.
func (a *soakActor) gorillaSockets(ctx context.Context) error {
	path, mode := a.socketPath()
	scheme := []string{"ws", "wss"}[a.rand.IntN(2)]
	dialer := gorilla.Dialer{EnableCompression: mode != "plain", NetDialContext: soakDialer(a.from).DialContext, TLSClientConfig: a.tls.Clone()}
	c, resp, err := dialer.DialContext(ctx, a.base(scheme).String()+path, nil)
	if err != nil {
		if resp != nil {
			return wrongf("%s: status %d: %v", path, resp.StatusCode, err)
		}
		return err
	}
	defer c.Close()
	until, _ := ctx.Deadline()
	c.SetReadDeadline(until)
	for range 1 + a.rand.IntN(8) {
		p, kind := a.message(), []int{gorilla.BinaryMessage, gorilla.TextMessage}[a.rand.IntN(2)]
		if err := c.WriteMessage(kind, p); err != nil {
			return err
		}
		got, back, err := c.ReadMessage()
		if err == nil {
			err = echoed(p, back, got == kind)
		}
		if err != nil {
			return err
		}
	}
	if a.rand.IntN(3) == 0 {
		return nil // the connection just ends
	}
	text := gorilla.FormatCloseMessage(4000, "bye")
	if err := c.WriteControl(gorilla.CloseMessage, text, time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, _, err = c.ReadMessage(); gorilla.IsCloseError(err, 4000, int(flare.CloseGoingAway)) {
		return nil
	}
	return fmt.Errorf("behind a close frame: %w", err)
}

// events reads a stream of events to its end, or leaves one that has none.
func (a *soakActor) events(ctx context.Context) error {
	n, path := a.rand.IntN(200), "/events"
	endless := a.rand.IntN(2) == 0
	if !endless {
		path += fmt.Sprint("?n=", n)
	}
	ask := &soakAsk{method: "GET", path: path, want: 200, check: func(resp *http.Response) error {
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
			return wrongf("events of type %q", got)
		}
		r := bufio.NewReader(resp.Body)
		for i := range n {
			want := fmt.Sprintf("id: %d\ndata: event %d\n\n", i, i)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(r, got); err != nil {
				return err
			}
			if string(got) != want {
				return wrongf("event %q, %q is due", got, want)
			}
		}
		if endless {
			return resp.Body.Close()
		}
		if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
			return fmt.Errorf("behind the last event: %.80q, %w", rest, err)
		}
		return nil
	}}
	all := []http.RoundTripper{a.std, a.client.Transport(), a.h2c, a.clientH2C.Transport()}
	t := all[a.rand.IntN(len(all))]
	a.requests++
	req, err := ask.request(ctx, a.base("http"))
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return wrongf("%s: status %d", path, resp.StatusCode)
	}
	return ask.check(resp)
}
