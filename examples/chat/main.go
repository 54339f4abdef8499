// Chat is a chat with rooms: one page, one WebSocket a visitor, one Broadcast a
// message.
//
//	go run ./examples/chat
//	open http://127.0.0.1:8080/
package main

import (
	"cmp"
	"embed"
	"encoding/json"
	"flag"
	"io/fs"
	"log"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"flare"
)

//go:embed page
var page embed.FS

const (
	nameBytesMax    = 32
	roomBytesMax    = 64
	messageBytesMax = 4 << 10
	visitorsMax     = 100      // in a room: all of them are told who is there
	historyBytesMax = 64 << 10 // of what was said in a room, for those who come later
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on, host:port")
	flag.Parse()
	log.Printf("chat: http://%s/", *addr)
	log.Fatal(flare.ListenAndServe(*addr, newChat().routes()))
}

// A chat is a set of rooms.
type chat struct {
	mu    sync.Mutex
	rooms map[string]*room // guarded by mu
}

// A room exists while somebody is in it. What is in it is guarded by the chat's mu.
type room struct {
	members map[*flare.WebSocket]*visitor
	history []line // what was said, oldest first
	bytes   int    // of history
	at      int64  // of the last line
}

// A visitor is what the chat knows of a connection.
type visitor struct{ name, key, room string }

// A line is what everybody in a room gets.
type line struct {
	At   int64    `json:"at"`             // milliseconds since 1970; no two lines of a room have the same
	Name string   `json:"name,omitempty"` // empty: the chat itself
	Text string   `json:"text,omitempty"`
	Who  []string `json:"who,omitempty"` // when that has changed: who is there
}

func newChat() *chat { return &chat{rooms: make(map[string]*room)} }

func (c *chat) routes() flare.Handler {
	mux := flare.NewMux()
	files, err := fs.Sub(page, "page")
	if err != nil {
		panic(err) // it is in the program
	}
	own := &flare.SecurityFields{ContentSecurityPolicy: "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'"}
	mux.Mount("/", &flare.Files{FS: files}, own.Wrap)
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

func refuse(reason string) error {
	return &flare.CloseError{Code: flare.ClosePolicyViolation, Reason: reason}
}

// enter lets a visitor in: by a name that nobody else there has, unless it is the same
// visitor who comes back, by the key that only it knows. It gets what was said after
// the last line that it has.
func (c *chat) enter(ws *flare.WebSocket, r *flare.Request) error {
	q := r.Query()
	v := &visitor{name: strings.TrimSpace(strings.ToValidUTF8(q.Get("name"), "?")), key: q.Get("key"), room: r.PathValue("room")}
	if v.name == "" || len(v.name) > nameBytesMax {
		return refuse("A name of up to 32 bytes is needed.")
	}
	if len(v.room) > roomBytesMax {
		return refuse("A room's name has up to 64 bytes.")
	}
	after, _ := strconv.ParseInt(q.Get("after"), 10, 64) // 0: it has nothing yet

	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.rooms[v.room]
	if in == nil {
		in = &room{members: make(map[*flare.WebSocket]*visitor)}
	}
	back := false
	for old, other := range in.members {
		if other.name != v.name {
			continue
		}
		if v.key == "" || other.key != v.key {
			return refuse("Somebody there has that name.")
		}
		back = true
		delete(in.members, old) // its connection is broken, which the server has not seen yet
		go old.Close(flare.CloseGoingAway, "")
	}
	if len(in.members) >= visitorsMax {
		return refuse("The room is full.")
	}
	c.rooms[v.room], in.members[ws], ws.Data = in, v, v
	missed := in.history[in.next(after):]
	if back {
		return send(slices.Values([]*flare.WebSocket{ws}), append(slices.Clip(missed), line{At: in.now(), Who: in.who()}))
	}
	if err := send(slices.Values([]*flare.WebSocket{ws}), missed); err != nil {
		return err
	}
	return in.tell(line{Text: v.name + " has come in", Who: in.who()})
}

func (c *chat) say(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
	v, ok := ws.Data.(*visitor)
	if !ok || kind != flare.TextMessage {
		return &flare.CloseError{Code: flare.CloseUnsupportedData, Reason: "Text, please."}
	}
	text := strings.TrimSpace(string(p))
	if text == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.rooms[v.room]
	if in == nil || in.members[ws] == nil {
		return nil // it has come in again since
	}
	l := line{At: in.now(), Name: v.name, Text: text}
	in.history, in.bytes = append(in.history, l), in.bytes+len(l.Name)+len(l.Text)
	for in.bytes > historyBytesMax {
		in.bytes -= len(in.history[0].Name) + len(in.history[0].Text)
		in.history = in.history[1:]
	}
	return in.tell(l)
}

func (c *chat) leave(ws *flare.WebSocket) {
	v, ok := ws.Data.(*visitor)
	if !ok {
		return // never came in
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in := c.rooms[v.room]
	if in == nil || in.members[ws] == nil {
		return // it has come in again since
	}
	if delete(in.members, ws); len(in.members) == 0 {
		delete(c.rooms, v.room)
		return
	}
	in.tell(line{Text: v.name + " has left", Who: in.who()})
}

// next is where the history goes on after a line.
func (in *room) next(after int64) int {
	i, found := slices.BinarySearchFunc(in.history, after, func(l line, at int64) int { return cmp.Compare(l.At, at) })
	if found {
		i++
	}
	return i
}

// now is the time, and later than the last line's.
func (in *room) now() int64 {
	in.at = max(in.at+1, time.Now().UnixMilli())
	return in.at
}

// who is there, in order.
func (in *room) who() []string {
	var names []string
	for _, v := range in.members {
		names = append(names, v.name)
	}
	slices.Sort(names)
	return names
}

// tell sends a line to everybody in the room.
func (in *room) tell(l line) error {
	if l.At == 0 {
		l.At = in.now()
	}
	return send(maps.Keys(in.members), []line{l})
}

// send sends lines: encoded, framed and compressed once. It waits for nobody.
func send(to func(func(*flare.WebSocket) bool), lines []line) error {
	if len(lines) == 0 {
		return nil
	}
	p, err := json.Marshal(lines)
	if err != nil {
		return err
	}
	m, err := flare.NewPreparedMessage(flare.TextMessage, p)
	if err != nil {
		return err
	}
	flare.Broadcast(to, m)
	return nil
}
