// Chat is a chat with rooms: one page, one WebSocket a visitor, one Broadcast a
// message.
//
//	go run ./examples/chat
//	open http://127.0.0.1:8080/
package main

import (
	_ "embed"
	"encoding/json"
	"flag"
	"log"
	"maps"
	"net/http"
	"strings"
	"sync"

	"flare"
)

//go:embed index.html
var page string

const (
	nameBytesMax    = 32
	messageBytesMax = 4 << 10
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on, host:port")
	flag.Parse()
	log.Printf("chat: http://%s/", *addr)
	log.Fatal(flare.ListenAndServe(*addr, newChat().routes()))
}

// A chat is a set of rooms. A room exists while somebody is in it.
type chat struct {
	mu    sync.Mutex
	rooms map[string]map[*flare.WebSocket]bool
}

// A visitor is what the chat knows of a connection.
type visitor struct{ name, room string }

// A line is what everybody in a room gets.
type line struct {
	Name string `json:"name,omitempty"` // empty: the chat itself
	Text string `json:"text"`
}

func newChat() *chat { return &chat{rooms: make(map[string]map[*flare.WebSocket]bool)} }

func (c *chat) routes() flare.Handler {
	mux := flare.NewMux()
	mux.Get("/{$}", func(w *flare.ResponseWriter, r *flare.Request) error { return w.HTML(http.StatusOK, page) })
	mux.Handle("/rooms/{room}", &flare.WebSocketHandler{
		WebSocketOptions: flare.WebSocketOptions{
			MaxMessageBytes: messageBytesMax,
			Compression:     flare.CompressionOn,
			QueuePolicy:     flare.QueueDropConnection, // who does not keep up comes back
		},
		OnOpen:    c.enter,
		OnMessage: c.say,
		OnClose:   func(ws *flare.WebSocket, _ flare.CloseCode, _ string) { c.leave(ws) },
	})
	return mux
}

func (c *chat) enter(ws *flare.WebSocket, r *flare.Request) error {
	name := strings.TrimSpace(r.Query().Get("name"))
	if name == "" || len(name) > nameBytesMax {
		return &flare.CloseError{Code: flare.ClosePolicyViolation, Reason: "a name of up to 32 bytes is needed"}
	}
	v := &visitor{name: strings.ToValidUTF8(name, "?"), room: r.PathValue("room")}
	ws.Data = v
	c.mu.Lock()
	if c.rooms[v.room] == nil {
		c.rooms[v.room] = make(map[*flare.WebSocket]bool)
	}
	c.rooms[v.room][ws] = true
	c.mu.Unlock()
	return c.tell(v.room, line{Text: v.name + " has come in"})
}

func (c *chat) say(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
	v, ok := ws.Data.(*visitor)
	if !ok || kind != flare.TextMessage {
		return &flare.CloseError{Code: flare.CloseUnsupportedData, Reason: "text, please"}
	}
	return c.tell(v.room, line{Name: v.name, Text: string(p)})
}

func (c *chat) leave(ws *flare.WebSocket) {
	v, ok := ws.Data.(*visitor)
	if !ok {
		return // never came in
	}
	c.mu.Lock()
	delete(c.rooms[v.room], ws)
	if len(c.rooms[v.room]) == 0 {
		delete(c.rooms, v.room)
	}
	c.mu.Unlock()
	c.tell(v.room, line{Text: v.name + " has left"})
}

// tell sends a line to everybody in a room: encoded, framed and compressed
// once. It waits for nobody.
func (c *chat) tell(room string, l line) error {
	p, err := json.Marshal(l)
	if err != nil {
		return err
	}
	m, err := flare.NewPreparedMessage(flare.TextMessage, p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	flare.Broadcast(maps.Keys(c.rooms[room]), m)
	return nil
}
