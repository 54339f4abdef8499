package flare

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file has what Autobahn's descriptions of large messages (9), fragment
// sizes (10) and compression (12, 13) ask for, played by a tester of our own.

// fragmented returns a message in frames of size bytes of payload at most, 0
// for one frame.
func fragmented(kind MessageKind, rsv byte, payload []byte, size int) (wire []byte) {
	first := byte(kind) | rsv
	for size > 0 && len(payload) > size {
		wire = append(wire, wsFrame(first, string(payload[:size]), true)...)
		payload, first = payload[size:], byte(opContinuation)
	}
	return append(wire, wsFrame(frameFin|first, string(payload), true)...)
}

// nextMessage reads a message of a server.
func nextMessage(t *testing.T, r *messageReader, from io.Reader, in *[]byte, buf []byte) []byte {
	t.Helper()
	for {
		n, ev, err := r.next(*in)
		*in = (*in)[n:]
		if err != nil {
			t.Fatal(err)
		}
		if ev == eventMessage {
			return r.data
		}
		if ev != eventNone {
			t.Fatalf("event %d", ev)
		}
		kept := copy(buf, *in)
		m, err := from.Read(buf[kept:])
		if err != nil {
			t.Fatal(err)
		}
		*in = buf[:kept+m]
	}
}

func TestLargeMessages(t *testing.T) {
	if testing.Short() {
		t.Skip("megabytes through a socket")
	}
	for style, h := range wsStyles(WebSocketOptions{MaxMessageBytes: 16 << 20}) {
		t.Run(style, func(t *testing.T) {
			url := TestServer(t, &Server{Handler: h})
			for _, c := range []struct {
				name           string
				kind           MessageKind
				size, fragment int
				chop           int // written at once
			}{
				{"9.1.6", TextMessage, 16 << 20, 0, 0},
				{"9.2.6", BinaryMessage, 16 << 20, 0, 0},
				{"9.3.1", TextMessage, 4 << 20, 64, 0},
				{"9.4.5", BinaryMessage, 4 << 20, 16 << 10, 0},
				{"9.5.1", TextMessage, 1 << 20, 0, 64},
				{"9.6.6", BinaryMessage, 1 << 20, 0, 2048},
				{"10.1.1", TextMessage, 65536, 1300, 0},
			} {
				conn := wsRaw(t, url, "")
				want := bytes.Repeat([]byte("BAsd7&jh23"), c.size/10+1)[:c.size]
				go func() {
					wire := fragmented(c.kind, 0, want, c.fragment)
					chop := c.chop
					if chop == 0 {
						chop = len(wire)
					}
					for piece := range slices.Chunk(wire, chop) {
						if _, err := conn.Write(piece); err != nil {
							t.Errorf("%s: %v", c.name, err)
							return
						}
					}
				}()
				r := &messageReader{bytesMax: -1}
				var in []byte
				if got := nextMessage(t, r, conn.br, &in, make([]byte, 64<<10)); !bytes.Equal(got, want) || r.kind != c.kind {
					t.Errorf("%s: %v of %d bytes, want %v of %d", c.name, r.kind, len(got), c.kind, len(want))
				}
				r.release()
				conn.Close()
			}
		})
	}
}

func TestCompressedMessages(t *testing.T) {
	offers := []string{ // of 13.1 to 13.7
		"permessage-deflate; client_max_window_bits",
		"permessage-deflate; client_no_context_takeover; client_max_window_bits; server_no_context_takeover",
		"permessage-deflate; client_max_window_bits; server_max_window_bits=9",
		"permessage-deflate; client_max_window_bits; server_max_window_bits=15",
		"permessage-deflate; client_max_window_bits; server_no_context_takeover; server_max_window_bits=9",
		"permessage-deflate; client_max_window_bits; server_no_context_takeover; server_max_window_bits=15",
		"permessage-deflate; server_no_context_takeover; server_max_window_bits=9, permessage-deflate; server_no_context_takeover, permessage-deflate",
	}
	record := "{\"id\":\"%d\",\"type\":\"message\",\"text\":\"κόσμε and so on\",\"n\":%d},"
	for _, mode := range []Compression{CompressionOn, CompressionTakeover} {
		for style, h := range wsStyles(WebSocketOptions{Compression: mode}) {
			url := TestServer(t, &Server{Handler: h})
			for i, offer := range offers {
				t.Run(fmt.Sprintf("13.%d/%s/%d", i+1, style, mode), func(t *testing.T) {
					conn := dialRaw(t, strings.TrimPrefix(url, "http://"))
					conn.send(wsTestHandshake, "Sec-WebSocket-Extensions: ", offer, "\r\n\r\n")
					answer, err := parseExtensions(conn.answer("GET").Header.Get("Sec-WebSocket-Extensions"), nil)
					if err != nil || len(answer) != 1 {
						t.Fatalf("%v, %v", answer, err)
					}
					agreed, ok := deflateOf(answer[0])
					if !ok {
						t.Fatalf("%v", answer)
					}
					z, inflate := agreed.codecs(true)
					r := &messageReader{rules: frameRules{rsv: frameRSV1}, bytesMax: -1, inflater: inflate}
					var in []byte
					buf := make([]byte, 64<<10)
					for round, size := range []int{16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072, 16, 1024, 65536} {
						for _, fragment := range []int{0, 256, 4096, 32768} {
							var text strings.Builder
							for text.Len() < size {
								fmt.Fprintf(&text, record, round, text.Len()*7919)
							}
							want := strings.ToValidUTF8(text.String()[:size], "")
							out, _ := z.deflate(getBuffer(0), []byte(want))
							conn.send(string(fragmented(TextMessage, frameRSV1, out.b, fragment)))
							out.release()
							if got := nextMessage(t, r, conn.br, &in, buf); string(got) != want {
								t.Fatalf("%d bytes in fragments of %d: %d came back", size, fragment, len(got))
							}
						}
					}
				})
			}
		}
	}
}

// wss, with a certificate that is checked.
func TestDialTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		hs := handshake{key: r.Header.Get(fieldWSKey)}
		conn.Write(append(hs.appendAnswer(nil, new(headerFields)), wsFrame(0x81, "over TLS to "+r.Header.Get("X-Name"), false)...))
		io.Copy(io.Discard, rw)
	}))
	defer srv.Close()
	url := "wss" + strings.TrimPrefix(srv.URL, "https")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	srv.Config.ErrorLog = nil
	if _, _, err := DialWebSocket(ctx, url, nil); err == nil {
		t.Fatal("a certificate of nobody was accepted")
	}
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	opts := &WebSocketDialOptions{TLSConfig: &tls.Config{RootCAs: pool}}
	opts.Header.Set("X-Name", "ann")
	ws, resp, err := DialWebSocket(ctx, url, opts)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	if _, p, err := ws.Read(ctx); err != nil || string(p) != "over TLS to ann" {
		t.Errorf("%q, %v", p, err)
	}
	ws.lim.close = 20 * time.Millisecond // this server never answers
	if err := ws.Close(CloseNormal, ""); err != ErrTimeout {
		t.Errorf("%v", err)
	}
}
