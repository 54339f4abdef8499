// Command gorilla serves the benchmark's WebSockets with gorilla/websocket as its documentation
// would: a goroutine for each connection, a prepared message for a broadcast.
package main

import (
	"log"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"

	"flare/bench/wspeer"
)

// A member is a connection of /all: one goroutine may write at a time.
type member struct {
	mu   sync.Mutex
	conn *websocket.Conn
}

func main() {
	var upgrader websocket.Upgrader
	var members wspeer.Set[*member]
	wspeer.Serve("gorilla", func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return // it has answered
		}
		defer conn.Close()
		for {
			kind, p, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, p) != nil {
				return
			}
		}
	}, func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		m := &member{conn: conn}
		members.Add(m)
		defer members.Remove(m)
		for {
			kind, p, err := conn.ReadMessage()
			if err != nil {
				return
			}
			prepared, err := websocket.NewPreparedMessage(kind, p)
			if err != nil {
				log.Print(err)
				return
			}
			members.Each(func(m *member) {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.conn.WritePreparedMessage(prepared)
			})
		}
	})
}
