package flare

import (
	"syscall"
	"time"
)

// This file is layer 2 (system): what a caller may ask of a socket. It knows
// the options' meaning; socket_control.go sets those that have to be set before
// a socket is connected or bound. dial.go and udp.go call it.

// SocketOptions are asked of a socket when it is made. The zero value is the
// system's defaults, with small segments sent at once and keep-alive probes
// after 15 s.
type SocketOptions struct {
	Delay       bool          // gather small segments (Nagle, RFC 9293 §3.7.4); TCP
	KeepAlive   time.Duration // silence before the first probe (RFC 9293 §3.8.4), 0 is 15 s, negative no probes; TCP
	ReadBuffer  int           // bytes that the kernel keeps for the reader; 0 is the system's choice
	WriteBuffer int           // bytes that the kernel keeps for the peer; 0 is the system's choice
	ReuseAddr   bool          // bind also where old connections linger in TIME-WAIT (SO_REUSEADDR)
	ReusePort   bool          // share the address with other sockets (SO_REUSEPORT)
}

// values are those that sockets of all kinds have.
func (o *SocketOptions) values() []optionValue {
	return []optionValue{
		{optionReadBuffer, o.ReadBuffer},
		{optionWriteBuffer, o.WriteBuffer},
		{optionReuseAddr, bit(o.ReuseAddr)},
		{optionReusePort, bit(o.ReusePort)},
	}
}

// control sets what comes before connect and bind, as net.Dialer wants it.
func (o *SocketOptions) control(_, _ string, c syscall.RawConn) error {
	return controlOptions(c, o.values())
}

// controlOptions sets those options that have a value.
func controlOptions(c syscall.RawConn, options []optionValue) error {
	for _, o := range options {
		if o.value == 0 {
			continue
		}
		if err := controlSocket(c, o.option, o.value); err != nil {
			return err
		}
	}
	return nil
}

type optionValue struct {
	option socketOption
	value  int
}

// A socketOption is one of SOL_SOCKET; its number is the system's.
type socketOption uint8

const (
	optionReadBuffer socketOption = iota
	optionWriteBuffer
	optionReuseAddr
	optionReusePort
	optionBroadcast
	socketOptions
)

func bit(on bool) int {
	if on {
		return 1
	}
	return 0
}

// An acceptOutcome is what an accept that failed means for the next one.
type acceptOutcome uint8

const (
	acceptNext  acceptOutcome = iota // it was about that connection, or an interruption: the next may succeed
	acceptLater                      // no connection waits
	acceptPause                      // trying again at once would spin: the process is short of something
	acceptNever                      // it fails for good
)
