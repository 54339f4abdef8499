// Command gobwas serves the benchmark's WebSockets with gobwas/ws at its best: frames by hand over a
// buffered reader, one write for an echo, a frame that is made once for a broadcast.
package main

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"

	"github.com/gobwas/ws"

	"flare/bench/wspeer"
)

const payloadMax = 64 << 10

// serve answers the handshake and then calls on for each data message, which may be changed.
func serve(conn net.Conn, members *wspeer.Set[net.Conn]) error {
	defer conn.Close()
	toAll := false
	upgrader := ws.Upgrader{OnRequest: func(uri []byte) error {
		toAll = bytes.Equal(uri, []byte("/all"))
		return nil
	}}
	if _, err := upgrader.Upgrade(conn); err != nil {
		return err
	}
	if toAll {
		members.Add(conn)
		defer members.Remove(conn)
	}
	in, payload, out := bufio.NewReader(conn), make([]byte, payloadMax), new(bytes.Buffer)
	for {
		h, err := ws.ReadHeader(in)
		if err != nil {
			return err
		}
		if err := ws.CheckHeader(h, ws.StateServerSide); err != nil {
			return err
		}
		if h.OpCode == ws.OpClose || h.Length > payloadMax || !h.Fin {
			return nil
		}
		p := payload[:h.Length]
		if _, err := io.ReadFull(in, p); err != nil {
			return err
		}
		ws.Cipher(p, h.Mask, 0)
		if h.OpCode == ws.OpPing || h.OpCode == ws.OpPong {
			continue
		}
		out.Reset()
		ws.WriteHeader(out, ws.Header{Fin: true, OpCode: h.OpCode, Length: h.Length}) // a buffer takes everything
		out.Write(p)
		if toAll {
			members.Each(func(c net.Conn) { c.Write(out.Bytes()) })
		} else if _, err := conn.Write(out.Bytes()); err != nil {
			return err
		}
	}
}

func main() {
	var members wspeer.Set[net.Conn]
	l := wspeer.Listen("gobwas")
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(conn, &members)
	}
}
