// Command coder serves the benchmark's WebSockets with coder/websocket as its documentation would.
package main

import (
	"net/http"

	"github.com/coder/websocket"

	"flare/bench/wspeer"
)

func main() {
	var members wspeer.Set[*websocket.Conn]
	wspeer.Serve("coder", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // it has answered
		}
		defer conn.CloseNow()
		for {
			kind, p, err := conn.Read(r.Context())
			if err != nil || conn.Write(r.Context(), kind, p) != nil {
				return
			}
		}
	}, func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		members.Add(conn)
		defer members.Remove(conn)
		for {
			kind, p, err := conn.Read(r.Context())
			if err != nil {
				return
			}
			members.Each(func(c *websocket.Conn) { c.Write(r.Context(), kind, p) })
		}
	})
}
