//go:build linux

package main

// This file is the client's half of a WebSocket as the workloads need it: a handshake with a fixed
// key, masked text messages, and what a server echoes. Its sockets are no net.Conns: a poller that
// waits for them would have each delivery wake it, at the server's expense.

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"
)

const (
	wsMessageBytes = 128
	wsPatience     = 30 * time.Second // for one read
)

// wsAccept is the answer to the key of RFC 6455 §1.3, which all connections have.
const (
	wsKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	wsAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// wsMessage is the text message of all workloads, as the client sends it and as it comes back. It is
// the one that load.c sends.
func wsMessage() (masked, echo []byte) {
	key := []byte{0x37, 0xfa, 0x21, 0x3d}
	echo = []byte{0x81, 126, wsMessageBytes >> 8, wsMessageBytes}
	masked = append([]byte{0x81, 0x80 | 126, wsMessageBytes >> 8, wsMessageBytes}, key...)
	for i := range wsMessageBytes {
		c := byte('a' + i%26)
		echo = append(echo, c)
		masked = append(masked, c^key[i%4])
	}
	return masked, echo
}

// A wsClient is the descriptor of an open WebSocket.
type wsClient int

func (c wsClient) close() { syscall.Close(int(c)) }

func (c wsClient) write(p []byte) error {
	n, err := syscall.Write(int(c), p)
	if err == nil && n != len(p) {
		err = errors.New("a short write")
	}
	return err
}

// readFull fills p.
func (c wsClient) readFull(p []byte) error {
	for have := 0; have < len(p); {
		n, err := syscall.Read(int(c), p[have:])
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return errors.New("the server has closed")
		}
		have += n
	}
	return nil
}

// expect reads what has to be n times want.
func (c wsClient) expect(want []byte, n int) error {
	got := make([]byte, n*len(want))
	if err := c.readFull(got); err != nil {
		return err
	}
	if !bytes.Equal(got, bytes.Repeat(want, n)) {
		return errors.New("something else than the message came")
	}
	return nil
}

// dialWS opens a WebSocket.
func dialWS(addr, path string) (c wsClient, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	to := &syscall.SockaddrInet4{Addr: [4]byte(net.ParseIP(host).To4())}
	if to.Port, err = strconv.Atoi(port); err != nil {
		return 0, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	c = wsClient(fd)
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	timeout := syscall.NsecToTimeval(int64(wsPatience))
	if err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &timeout); err != nil {
		return 0, err
	}
	if err = syscall.Connect(fd, to); err != nil {
		return 0, err
	}
	if err = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1); err != nil {
		return 0, err
	}
	return c, c.shakeHands(addr, path)
}

func (c wsClient) shakeHands(addr, path string) error {
	request := "GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + wsKey + "\r\n\r\n"
	if err := c.write([]byte(request)); err != nil {
		return err
	}
	head := make([]byte, 0, 1024)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		if len(head) == cap(head) {
			return errors.New("an endless answer to the handshake")
		}
		head = head[:len(head)+1] // a byte at a time, since what follows is frames
		if err := c.readFull(head[len(head)-1:]); err != nil {
			return err
		}
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte(wsAccept)) {
		return fmt.Errorf("%s is no WebSocket: %.40q", path, head)
	}
	return nil
}

// echoes sends the message and reads it back.
func (c wsClient) echoes() error {
	masked, echo := wsMessage()
	if err := c.write(masked); err != nil {
		return err
	}
	return c.expect(echo, 1)
}

// checkEcho holds the target at addr to its echo.
func checkEcho(addr string) error {
	c, err := dialWS(addr, "/ws")
	if err != nil {
		return err
	}
	defer c.close()
	return c.echoes()
}

// openWS opens n WebSockets.
func openWS(addr, path string, n int) (list []wsClient, err error) {
	for range n {
		c, err := dialWS(addr, path)
		if err != nil {
			closeWS(list)
			return nil, fmt.Errorf("connection %d: %w", len(list)+1, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func closeWS(list []wsClient) {
	for _, c := range list {
		c.close()
	}
}
