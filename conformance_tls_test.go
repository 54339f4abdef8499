package flare

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file has what a client has to do over TLS where no other test shows it.

// mustTLSAccept has a server that calls serve with each connection. It speaks protocol, and
// nothing else.
func mustTLSAccept(t *testing.T, protocol string, serve func(c *tls.Conn)) (addr string, trusting *tls.Config) {
	t.Helper()
	ours := newTLSAuthority(t, "ours")
	config := &tls.Config{
		Certificates: []tls.Certificate{ours.leaf("127.0.0.1", time.Now().Add(-time.Minute))}, NextProtos: []string{protocol},
	}
	url := clientAccept(t, func(raw net.Conn) {
		raw.SetDeadline(time.Now().Add(patience))
		serve(tls.Server(raw, config))
	})
	return strings.TrimPrefix(url, "http://"), tlsTrusting(ours.cert)
}

func TestClientTLSMusts(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string]string{ // RFC 9112 §9.8
		"close_notify of what rests": "Content-Length: 2\r\n",
		"close_notify behind close":  "Content-Length: 2\r\nConnection: close\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			addr, trusting := mustTLSAccept(t, "http/1.1", func(c *tls.Conn) {
				if clientReadHead(c) {
					io.WriteString(c, "HTTP/1.1 200 OK\r\n"+fields+"\r\nok")
				}
				_, err := io.ReadAll(c) // without close_notify it is io.ErrUnexpectedEOF
				ended <- err
			})
			c := clientOf(t, &Client{TLSConfig: trusting})
			resp, err := c.Get(soon(t), "https://"+addr)
			clientWantText(t, resp, err, 200, "ok")
			c.CloseIdleConnections()
			if err := <-ended; err != nil {
				t.Errorf("the connection ends with %v", err)
			}
		})
	}
	t.Run("the scheme of wss is https", func(t *testing.T) { // RFC 8441 §5
		t.Parallel()
		addr, trusting := mustTLSAccept(t, "h2", func(c *tls.Conn) {
			p := newHTTP2Answerer(t, c)
			if _, err := io.ReadFull(p.br, make([]byte, len(http2Preface))); err != nil {
				return
			}
			p.settings(http2Setting{settingConnect, 1})
			first, _ := p.request()
			p.answer(first, "x")
			stream, ok := p.request()
			for _, want := range []string{":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: " + c.LocalAddr().String()} {
				if lines := p.sect.lines(); ok && !slices.Contains(lines, want) {
					t.Errorf("no %q in %q", want, lines)
				}
			}
			p.send(p.headers(nil, stream, true, [2]string{":status", "403"}))
			p.drain()
		})
		c := clientOf(t, &Client{TLSConfig: trusting})
		resp, err := c.Get(soon(t), "https://"+addr)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		_, resp, err = DialWebSocket(soon(t), "wss://"+addr, &WebSocketDialOptions{Client: c})
		if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden || resp.Proto() != "HTTP/2.0" {
			t.Errorf("%v, %v", resp, err)
		}
	})
}
