package flare

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file runs the exact cases of the Autobahn test suite, from outside of
// the repository: against the server, in both of its styles, and mirrored
// against the client.

// An autobahnHex is a payload: hex, or a fill of some length.
type autobahnHex []byte

func (h *autobahnHex) UnmarshalJSON(in []byte) error {
	var fill struct {
		Fill string
		Len  int
	}
	if in[0] == '{' {
		if err := json.Unmarshal(in, &fill); err != nil {
			return err
		}
		p, err := hex.DecodeString(fill.Fill)
		*h = bytes.Repeat(p, fill.Len/max(len(p), 1))
		return err
	}
	var text string
	if err := json.Unmarshal(in, &text); err != nil {
		return err
	}
	p, err := hex.DecodeString(text)
	*h = p
	return err
}

type autobahnFrame struct {
	Fin         bool
	RSV         byte
	Op          byte
	Hex         autobahnHex
	RepeatToLen int `json:"repeat_to_len"`
}

type autobahnEvent struct {
	Ev     string
	Binary bool
	Hex    autobahnHex
}

type autobahnCase struct {
	ID          string
	Description string
	Steps       []struct {
		Frame *autobahnFrame
		Then  float64 `json:"then_after_s"`
	}
	Accept map[string][]autobahnEvent
	Close  struct {
		CloseCode []CloseCode
	}
}

func autobahnCases(t *testing.T) []autobahnCase {
	t.Helper()
	dir := os.Getenv("FLARE_FIXTURES")
	if dir == "" {
		t.Skip("FLARE_FIXTURES does not name the folder with autobahn-cases.json")
	}
	data, err := os.ReadFile(filepath.Join(dir, "autobahn-cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []autobahnCase }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Cases) != 247 {
		t.Fatalf("%d cases, want 247", len(file.Cases))
	}
	return file.Cases
}

// parts returns what the tester sends, cut where it waits in between.
func (c *autobahnCase) parts(t *testing.T, masked bool) [][]byte {
	if c.ID == "6.4.3" || c.ID == "6.4.4" { // parts of one frame; only the description has them
		var payload [][]byte
		for i := 1; i <= 3; i++ {
			_, rest, _ := strings.Cut(c.Description, fmt.Sprintf("PART%d =", i))
			word, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
			if strings.HasPrefix(word, "PART") {
				word = ""
			}
			p, err := hex.DecodeString(strings.TrimSpace(word))
			if err != nil {
				t.Fatal(err)
			}
			payload = append(payload, p)
		}
		whole := wsFrame(0x81, string(bytes.Join(payload, nil)), masked)
		head := len(whole) - len(bytes.Join(payload, nil))
		one, two := head+len(payload[0]), head+len(payload[0])+len(payload[1])
		return [][]byte{whole[:one], whole[one:two], whole[two:]}
	}
	parts := [][]byte{nil}
	for _, s := range c.Steps {
		if s.Then > 0 {
			parts = append(parts, nil)
		}
		if s.Frame == nil {
			continue
		}
		first := s.Frame.RSV<<4 | s.Frame.Op
		if s.Frame.Fin {
			first |= frameFin
		}
		payload := string(s.Frame.Hex)
		if n := s.Frame.RepeatToLen; n > 0 {
			payload = strings.Repeat(payload, n/len(payload)+1)[:n]
		}
		last := len(parts) - 1
		parts[last] = append(parts[last], wsFrame(first, payload, masked)...)
	}
	return parts
}

// want returns the events that are OK, rendered as wsEvents does.
func (c *autobahnCase) want() string {
	var b strings.Builder
	if c.ID == "7.1.6" { // the long message too: it was answered before the close frame was seen
		long := strings.Repeat(string(c.Steps[0].Frame.Hex), 262144/10+1)[:262144]
		fmt.Fprintf(&b, "text %q\n", long)
	}
	for _, e := range c.Accept["OK"] {
		switch e.Ev {
		case "message":
			kind := TextMessage
			if e.Binary {
				kind = BinaryMessage
			}
			fmt.Fprintf(&b, "%v %q\n", kind, []byte(e.Hex))
		case "pong":
			fmt.Fprintf(&b, "pong %q\n", []byte(e.Hex))
		}
	}
	return b.String()
}

// run plays the case on conn and compares what comes back. step is how much is
// written at once, 0: all.
func (c *autobahnCase) run(t *testing.T, conn net.Conn, read func() ([]byte, error), masked bool, step int) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	failFast := slices.ContainsFunc(c.Accept["OK"], func(e autobahnEvent) bool { return e.Ev == "timeout" })
	parts := c.parts(t, masked)
	if failFast {
		parts = parts[:2] // it has to be refused before the third comes
	}
	go func() {
		for _, part := range parts {
			size := step
			if size == 0 || len(part) > 70_000 {
				size = max(len(part), 1)
			}
			for ; len(part) > 0; part = part[min(size, len(part)):] {
				if _, err := conn.Write(part[:min(size, len(part))]); err != nil {
					return // refused already
				}
			}
		}
	}()
	received, err := read()
	if err != nil && len(received) == 0 {
		t.Fatalf("%s (%s): %v", c.ID, c.Description, err)
	}
	r := &messageReader{rules: frameRules{masked: !masked}, bytesMax: -1}
	got := wsEvents(r, received)
	events, ending, _ := strings.Cut(got, "close ")
	if events != c.want() {
		t.Fatalf("%s (%s), in steps of %d: %.300s; want %.300s", c.ID, c.Description, step, got, c.want())
	}
	var code CloseCode
	fmt.Sscanf(ending, "%d", &code)
	if code != CloseNoStatus && !slices.Contains(c.Close.CloseCode, code) {
		t.Fatalf("%s (%s), in steps of %d: closed with %q; want one of %d", c.ID, c.Description, step, ending, c.Close.CloseCode)
	}
	if strings.Count(ending, "\n") != 1 {
		t.Fatalf("%s: after the close frame: %q", c.ID, ending)
	}
}

// wsEcho is a server that sends every message back.
func wsEcho(o WebSocketOptions) *WebSocketHandler {
	return &WebSocketHandler{
		WebSocketOptions: o,
		OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
			return ws.Write(context.Background(), kind, p)
		},
	}
}

// wsEchoBlocking is the same in the blocking style.
func wsEchoBlocking(o WebSocketOptions) Handler {
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		ws, err := AcceptWebSocket(w, r, &o)
		if err != nil {
			return err
		}
		wsEchoLoop(ws)
		return nil
	})
}

// wsEchoLoop answers until the end, and returns what Read ended with.
func wsEchoLoop(ws *WebSocket) error {
	for {
		kind, p, err := ws.Read(context.Background())
		if err != nil {
			return err
		}
		if err := ws.Write(context.Background(), kind, p); err != nil {
			return err
		}
	}
}

const wsTestHandshake = "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

// wsRaw opens a WebSocket with a raw client; fields end with CRLF each.
func wsRaw(t testing.TB, url, fields string) *rawClient {
	t.Helper()
	c := dialRaw(t, strings.TrimPrefix(url, "http://"))
	c.send(wsTestHandshake, fields, "\r\n")
	if a := c.answer("GET"); a.StatusCode != 101 || a.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("handshake: %d %q %q", a.StatusCode, a.Header, a.body)
	}
	return c
}

func TestAutobahnServer(t *testing.T) {
	t.Parallel()
	cases := autobahnCases(t)
	for name, h := range map[string]Handler{"loop": wsEcho(WebSocketOptions{}), "blocking": wsEchoBlocking(WebSocketOptions{})} {
		for _, step := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s/%d", name, step), func(t *testing.T) {
				s := &Server{Handler: h, Loops: 2, Logger: quietLogger()}
				url := TestServer(t, s)
				for i := range cases {
					c := wsRaw(t, url, "")
					cases[i].run(t, c, func() ([]byte, error) { return io.ReadAll(c.br) }, true, step)
					c.Close()
				}
				gone(t, s)
			})
		}
	}
}

func TestAutobahnClient(t *testing.T) {
	t.Parallel()
	cases := autobahnCases(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, step := range []int{0, 1} {
		for i := range cases {
			ended := make(chan error, 1)
			go func() {
				ws, _, err := DialWebSocket(context.Background(), "ws://"+ln.Addr().String()+"/", nil)
				if err == nil {
					err = wsEchoLoop(ws)
				}
				ended <- err
			}()
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			br := bufio.NewReader(conn)
			wsAnswer(t, conn, br)
			// The server closes first (RFC 6455 §7.1.1), which is when its
			// tester has seen the close frame.
			cases[i].run(t, conn, func() ([]byte, error) { return wsUntilClose(br) }, false, step)
			conn.Close()
			if err := <-ended; err == nil {
				t.Fatalf("%s: the client saw no end", cases[i].ID)
			}
		}
	}
}

// wsAnswer accepts a client's handshake by hand.
func wsAnswer(t *testing.T, conn net.Conn, br *bufio.Reader) {
	t.Helper()
	var key string
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if name, value, _ := strings.Cut(strings.TrimSpace(line), ": "); name == fieldWSKey {
			key = value
		}
		if line == "\r\n" {
			break
		}
	}
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", string(appendAccept(nil, key)))
}

// wsUntilClose reads a client's frames up to the close frame.
func wsUntilClose(br *bufio.Reader) ([]byte, error) {
	var all bytes.Buffer
	for n := 2; ; {
		head, err := br.Peek(n)
		if err != nil {
			return nil, err
		}
		var h frameHead
		used, rule, _ := h.parse(head, frameRules{masked: true})
		switch {
		case rule != "":
			return nil, fmt.Errorf("%s", rule)
		case used == 0:
			n++
			continue
		}
		if _, err := io.CopyN(&all, br, int64(used)+int64(h.length)); err != nil {
			return nil, err
		}
		if h.op == opClose {
			return all.Bytes(), nil
		}
		n = 2
	}
}
