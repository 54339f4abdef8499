package flare

import (
	"syscall"
	"time"
)

// This file is layer 2 (system): what a caller may ask of a socket. It knows
// what the options mean; socket_control.go sets those that have to be set before
// a socket is connected or bound. dial.go calls it.

// SocketOptions are options of a stream socket. The zero value is what flare
// does by itself.
type SocketOptions struct {
	// Delay lets the kernel gather small writes (Nagle's algorithm). A Conn
	// gathers its own, so they are sent at once otherwise. TCP only.
	Delay bool

	// KeepAlive is after how much silence the kernel probes the peer, in whole
	// seconds, rounded up; 0 and less: never. TCP only.
	KeepAlive time.Duration

	// ReceiveBuffer and SendBuffer are bytes that the kernel keeps for the
	// connection in either direction; 0: what the system thinks right.
	ReceiveBuffer, SendBuffer int

	// ReusePort lets several listeners have one address, one for each loop or
	// process: on Linux the kernel spreads connections over them. Listeners
	// only; that an address can be used again at once is always set.
	ReusePort bool
}

// A socketOption is one of SOL_SOCKET; its number is the system's.
type socketOption uint8

const (
	optionReceiveBuffer socketOption = iota
	optionSendBuffer
	optionReusePort
	optionBroadcast
	socketOptions
)

// controlSizes sets the sizes of buffers, where the caller has any to ask for.
func controlSizes(c syscall.RawConn, receive, send int) error {
	if receive > 0 {
		if err := controlSocket(c, optionReceiveBuffer, receive); err != nil {
			return err
		}
	}
	if send > 0 {
		return controlSocket(c, optionSendBuffer, send)
	}
	return nil
}
