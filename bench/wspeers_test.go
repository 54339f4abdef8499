//go:build linux

package main

// This file has other projects' WebSocket clients talk to flare's server, and flare's client to
// their servers: gorilla, coder, gws and gobwas, with compression where they have it.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	gorilla "github.com/gorilla/websocket"
	"github.com/lxzan/gws"

	"flare"
)

// A peerMessage is one to be echoed.
type peerMessage struct {
	text bool
	p    []byte
}

// peerMessages are around the lengths where heads change, such that compress well, and such that do
// not at all.
func peerMessages() (list []peerMessage) {
	random := rand.NewChaCha8([32]byte{1})
	for _, n := range []int{0, 1, 7, 125, 126, 127, 1000, 65535, 65536, 300_000} {
		noise := make([]byte, n)
		random.Read(noise)
		list = append(list, peerMessage{true, bytes.Repeat([]byte("a"), n)}, peerMessage{true, []byte(strings.Repeat("é", n/2))}, peerMessage{false, noise})
	}
	return list
}

func (m peerMessage) check(t *testing.T, text bool, p []byte, err error) {
	t.Helper()
	if err != nil || text != m.text || !bytes.Equal(p, m.p) {
		t.Fatalf("text %v of %d bytes came back as text %v of %d: %v", m.text, len(m.p), text, len(p), err)
	}
}

func flareEcho(mode flare.Compression) flare.Handler {
	return &flare.WebSocketHandler{
		WebSocketOptions: flare.WebSocketOptions{Compression: mode},
		OnMessage: func(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
			return ws.Write(context.Background(), kind, p)
		},
	}
}

var peerModes = map[string]flare.Compression{"plain": flare.CompressionOff, "deflate": flare.CompressionOn, "takeover": flare.CompressionTakeover}

func peerContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// gwsClient collects what comes.
type gwsClient struct {
	gws.BuiltinEventHandler
	got    chan peerMessage
	closed chan error
}

func (c *gwsClient) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	c.got <- peerMessage{m.Opcode == gws.OpcodeText, bytes.Clone(m.Bytes())}
}

func (c *gwsClient) OnClose(_ *gws.Conn, err error) { c.closed <- err }

func TestPeerClients(t *testing.T) {
	clients := map[string]func(t *testing.T, ctx context.Context, url string, mode flare.Compression){
		"gorilla": func(t *testing.T, ctx context.Context, url string, mode flare.Compression) {
			dialer := gorilla.Dialer{EnableCompression: mode != flare.CompressionOff}
			c, _, err := dialer.DialContext(ctx, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, m := range peerMessages() {
				kind := gorilla.BinaryMessage
				if m.text {
					kind = gorilla.TextMessage
				}
				if err := c.WriteMessage(kind, m.p); err != nil {
					t.Fatal(err)
				}
				got, p, err := c.ReadMessage()
				m.check(t, got == gorilla.TextMessage, p, err)
			}
			c.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(4000, "bye"), time.Now().Add(time.Second))
			if _, _, err := c.ReadMessage(); !gorilla.IsCloseError(err, 4000) {
				t.Errorf("%v", err)
			}
		},
		"coder": func(t *testing.T, ctx context.Context, url string, mode flare.Compression) {
			compression := map[flare.Compression]websocket.CompressionMode{flare.CompressionOff: websocket.CompressionDisabled,
				flare.CompressionOn: websocket.CompressionNoContextTakeover, flare.CompressionTakeover: websocket.CompressionContextTakeover}[mode]
			c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{CompressionMode: compression})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow()
			c.SetReadLimit(1 << 20)
			for _, m := range peerMessages() {
				kind := websocket.MessageBinary
				if m.text {
					kind = websocket.MessageText
				}
				if err := c.Write(ctx, kind, m.p); err != nil {
					t.Fatal(err)
				}
				got, p, err := c.Read(ctx)
				m.check(t, got == websocket.MessageText, p, err)
			}
			if err := c.Close(4000, "bye"); err != nil {
				t.Error(err)
			}
		},
		"gws": func(t *testing.T, ctx context.Context, url string, mode flare.Compression) {
			h := &gwsClient{got: make(chan peerMessage, 1), closed: make(chan error, 1)}
			takeover := mode == flare.CompressionTakeover
			c, _, err := gws.NewClient(h, &gws.ClientOption{Addr: url, PermessageDeflate: gws.PermessageDeflate{
				Enabled: mode != flare.CompressionOff, ServerContextTakeover: takeover, ClientContextTakeover: takeover}})
			if err != nil {
				t.Fatal(err)
			}
			go c.ReadLoop()
			for _, m := range peerMessages() {
				kind := gws.OpcodeBinary
				if m.text {
					kind = gws.OpcodeText
				}
				if err := c.WriteMessage(kind, m.p); err != nil {
					t.Fatal(err)
				}
				select {
				case got := <-h.got:
					m.check(t, got.text, got.p, nil)
				case err := <-h.closed:
					t.Fatal(err)
				case <-ctx.Done():
					t.Fatal(ctx.Err())
				}
			}
			c.WriteClose(4000, []byte("bye"))
			<-h.closed
		},
		"gobwas": func(t *testing.T, ctx context.Context, url string, mode flare.Compression) {
			c, _, _, err := ws.Dial(ctx, url) // without compression
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, m := range peerMessages() {
				kind := ws.OpBinary
				if m.text {
					kind = ws.OpText
				}
				if err := wsutil.WriteClientMessage(c, kind, m.p); err != nil {
					t.Fatal(err)
				}
				p, got, err := wsutil.ReadServerData(c)
				m.check(t, got == ws.OpText, p, err)
			}
		},
	}
	for mode, compression := range peerModes {
		url := "ws" + strings.TrimPrefix(flare.TestServer(t, &flare.Server{Handler: flareEcho(compression)}), "http")
		for name, play := range clients {
			t.Run(name+"/"+mode, func(t *testing.T) { play(t, peerContext(t), url, compression) })
		}
	}
}

// gwsEcho is gws's server.
type gwsEcho struct{ gws.BuiltinEventHandler }

func (gwsEcho) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	c.WriteMessage(m.Opcode, m.Bytes())
}

// peerServers are the echo servers of others.
func peerServers(t *testing.T) map[string]http.Handler {
	gwsUpgrader := gws.NewUpgrader(gwsEcho{}, &gws.ServerOption{PermessageDeflate: gws.PermessageDeflate{
		Enabled: true, ServerContextTakeover: true, ClientContextTakeover: true}})
	gorillaUpgrader := gorilla.Upgrader{EnableCompression: true}
	return map[string]http.Handler{
		"gorilla": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := gorillaUpgrader.Upgrade(w, r, nil)
			if err != nil {
				return
			}
			defer c.Close()
			for {
				kind, p, err := c.ReadMessage()
				if err != nil || c.WriteMessage(kind, p) != nil {
					return
				}
			}
		}),
		"coder": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
			if err != nil {
				return
			}
			defer c.CloseNow()
			c.SetReadLimit(1 << 20)
			for {
				kind, p, err := c.Read(r.Context())
				if err != nil || c.Write(r.Context(), kind, p) != nil {
					return
				}
			}
		}),
		"gws": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, err := gwsUpgrader.Upgrade(w, r); err == nil {
				c.ReadLoop()
			}
		}),
		"gobwas": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, _, _, err := ws.UpgradeHTTP(r, w)
			if err != nil {
				return
			}
			defer c.Close()
			for {
				p, kind, err := wsutil.ReadClientData(c)
				if err == nil {
					err = wsutil.WriteServerMessage(c, kind, p)
				}
				if err != nil {
					if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.As(err, new(wsutil.ClosedError)) {
						t.Error(err)
					}
					return
				}
			}
		}),
	}
}

func TestPeerServers(t *testing.T) {
	for name, h := range peerServers(t) {
		srv := httptest.NewServer(h)
		defer srv.Close()
		url := "ws" + strings.TrimPrefix(srv.URL, "http")
		for mode, compression := range peerModes {
			t.Run(fmt.Sprintf("%s/%s", name, mode), func(t *testing.T) {
				ctx := peerContext(t)
				c, _, err := flare.DialWebSocket(ctx, url, &flare.WebSocketDialOptions{WebSocketOptions: flare.WebSocketOptions{Compression: compression}})
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range peerMessages() {
					kind := flare.BinaryMessage
					if m.text {
						kind = flare.TextMessage
					}
					if err := c.Write(ctx, kind, m.p); err != nil {
						t.Fatal(err)
					}
					got, p, err := c.Read(ctx)
					m.check(t, got == flare.TextMessage, p, err)
				}
				if err := c.Close(flare.CloseNormal, "bye"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// What the workloads rely on: the generator's messages are echoed by flare, and a server that echoes
// anything else makes its run void.
func TestGeneratorEchoes(t *testing.T) {
	args := []string{"--connections", "8", "--websocket", "128", "--path", "/ws"}
	good := strings.TrimPrefix(flare.TestServer(t, &flare.Server{Handler: flareEcho(flare.CompressionOff)}), "http://")
	demandClean(t, runLoad(t, good, 0.3, args...))
	if err := checkEcho(good); err != nil {
		t.Error(err)
	}
	bad := strings.TrimPrefix(flare.TestServer(t, &flare.Server{Handler: &flare.WebSocketHandler{
		OnMessage: func(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
			p[len(p)-1]++
			return ws.Write(context.Background(), kind, p)
		},
	}}), "http://")
	if r := runLoad(t, bad, 0.3, args...); r.Errors["framing"] != 8 || r.Answered != 0 {
		t.Errorf("answered %d, errors %v", r.Answered, r.Errors)
	}
	if err := checkEcho(bad); err == nil {
		t.Error("another message was taken for the echo")
	}
	plain := strings.TrimPrefix(flare.TestServer(t, &flare.Server{}), "http://")
	if r := runLoad(t, plain, 0.3, args...); r.Errors["status"] != 8 {
		t.Errorf("errors %v of a server without WebSockets", r.Errors)
	}
}
