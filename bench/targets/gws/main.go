// Command gws serves the benchmark's WebSockets with lxzan/gws as its documentation would: its event
// handler for messages, its Broadcaster for a broadcast.
package main

import (
	"net/http"

	"github.com/lxzan/gws"

	"flare/bench/wspeer"
)

type echo struct{ gws.BuiltinEventHandler }

func (echo) OnMessage(conn *gws.Conn, m *gws.Message) {
	defer m.Close()
	conn.WriteMessage(m.Opcode, m.Bytes())
}

type all struct {
	gws.BuiltinEventHandler
	members *wspeer.Set[*gws.Conn]
}

func (h *all) OnOpen(conn *gws.Conn)           { h.members.Add(conn) }
func (h *all) OnClose(conn *gws.Conn, _ error) { h.members.Remove(conn) }

func (h *all) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	b := gws.NewBroadcaster(m.Opcode, m.Bytes())
	defer b.Close()
	h.members.Each(func(c *gws.Conn) { b.Broadcast(c) })
}

func serve(h gws.Event) http.HandlerFunc {
	upgrader := gws.NewUpgrader(h, nil)
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		go conn.ReadLoop() // the request's memory can go then
	}
}

func main() {
	wspeer.Serve("gws", serve(echo{}), serve(&all{members: new(wspeer.Set[*gws.Conn])}))
}
