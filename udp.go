package flare

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// This file is layer 3 (engine): UDP for blocking use. It knows datagrams and
// their addresses; package net waits for them. udp_loop.go has UDP on a loop,
// with the same options.

// DatagramBytesMax is the longest datagram: what IPv4 has room for behind its
// header and UDP's (RFC 768, RFC 791 §3.1).
const DatagramBytesMax = 65535 - 20 - 8

// UDPOptions are options of a UDP socket. The zero value, and nil, is the
// default of each.
type UDPOptions struct {
	// Broadcast allows datagrams to broadcast addresses; they are EACCES
	// otherwise, on Linux and macOS.
	Broadcast bool

	// ReadBuffer and WriteBuffer are bytes that the kernel keeps in either
	// direction, its own needs included; 0 is the system's choice. What arrives
	// while the read buffer is full is lost.
	ReadBuffer, WriteBuffer int

	// ReusePort lets several sockets have one address, one for each loop or
	// process (SO_REUSEPORT): on Linux the kernel spreads peers over them.
	ReusePort bool

	// MaxDatagramBytes is what of a datagram a loop hands over; default all of
	// it. A small value saves memory: a loop keeps room for 32 datagrams.
	MaxDatagramBytes int
}

// control sets the options before the socket is bound.
func (o *UDPOptions) control(_, _ string, c syscall.RawConn) error {
	// Package net allows broadcasts to everybody.
	if err := controlSocket(c, optionBroadcast, bit(o.Broadcast)); err != nil {
		return err
	}
	return controlOptions(c, []optionValue{
		{optionReadBuffer, o.ReadBuffer},
		{optionWriteBuffer, o.WriteBuffer},
		{optionReusePort, bit(o.ReusePort)},
	})
}

// A UDPConn sends and receives datagrams, and blocks; a LoopUDPConn is on a loop. Any number of goroutines may use
// it; Close ends their calls with ErrClosed, a deadline with ErrTimeout. That a
// peer has nobody at its port is ErrRefused, which only sockets of DialUDP are
// told, with a call after the one that has sent. Other errors wrap the system's.
type UDPConn struct {
	conn *net.UDPConn
	peer netip.AddrPort
}

// ListenUDP returns a socket that receives what is sent to addr, port 0 being
// one that the system chooses. An unspecified IPv6 address, and the zero Addr,
// take IPv4 datagrams too. opts may be nil.
func ListenUDP(addr netip.AddrPort, opts *UDPOptions) (*UDPConn, error) {
	conn, err := listenUDP(addr, opts)
	if err != nil {
		return nil, err
	}
	return &UDPConn{conn: conn}, nil
}

func listenUDP(addr netip.AddrPort, opts *UDPOptions) (*net.UDPConn, error) {
	if opts == nil {
		opts = new(UDPOptions)
	}
	ip := addr.Addr().Unmap()
	network, at := "udp", ":"+strconv.Itoa(int(addr.Port()))
	if ip.Is4() || ip.IsValid() && !ip.IsUnspecified() {
		network, at = udpNetwork(ip), netip.AddrPortFrom(ip, addr.Port()).String()
	}
	config := net.ListenConfig{Control: opts.control}
	conn, err := config.ListenPacket(context.Background(), network, at)
	if err != nil {
		return nil, socketFailure("listen", err)
	}
	return conn.(*net.UDPConn), nil
}

func udpNetwork(ip netip.Addr) string {
	if ip.Is4() {
		return "udp4"
	}
	return "udp6"
}

// DialUDP returns a socket that exchanges datagrams with addr alone, for Read
// and Write. Nothing is sent yet. opts may be nil.
func DialUDP(addr netip.AddrPort, opts *UDPOptions) (*UDPConn, error) {
	if opts == nil {
		opts = new(UDPOptions)
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	if !addr.IsValid() {
		return nil, ErrInvalidAddr
	}
	dialer := net.Dialer{Control: opts.control}
	conn, err := dialer.Dial(udpNetwork(addr.Addr()), addr.String()) // a literal: nothing to wait for
	if err != nil {
		return nil, socketFailure("dial", err)
	}
	return &UDPConn{conn.(*net.UDPConn), addr}, nil
}

// ReadFrom waits for a datagram, copies it to p and says who has sent it. With
// ErrTruncated p is full and the rest of the datagram lost.
func (s *UDPConn) ReadFrom(p []byte) (n int, from netip.AddrPort, err error) {
	n, _, flags, from, err := s.conn.ReadMsgUDPAddrPort(p, nil)
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	switch {
	case err != nil:
		return 0, from, socketFailure("receive", err)
	case flags&msgTruncated != 0:
		return n, from, ErrTruncated
	}
	return n, from, nil
}

// WriteTo sends p, which may be empty, as one datagram. Above DatagramBytesMax
// it is ErrDatagramTooLarge, and nothing is sent. Only for sockets of ListenUDP.
func (s *UDPConn) WriteTo(p []byte, to netip.AddrPort) error {
	if len(p) > DatagramBytesMax {
		return ErrDatagramTooLarge
	}
	_, err := s.conn.WriteToUDPAddrPort(p, to)
	return socketFailure("send", err)
}

// Read is ReadFrom for sockets of DialUDP.
func (s *UDPConn) Read(p []byte) (int, error) {
	n, _, err := s.ReadFrom(p)
	return n, err
}

// Write is WriteTo for sockets of DialUDP.
func (s *UDPConn) Write(p []byte) (int, error) {
	if len(p) > DatagramBytesMax {
		return 0, ErrDatagramTooLarge
	}
	n, err := s.conn.Write(p)
	return n, socketFailure("send", err)
}

// LocalAddr returns the socket's own address.
func (s *UDPConn) LocalAddr() netip.AddrPort { return localUDPAddr(s.conn) }

func localUDPAddr(conn *net.UDPConn) netip.AddrPort {
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
}

// RemoteAddr returns the peer of DialUDP, the zero value for other sockets.
func (s *UDPConn) RemoteAddr() netip.AddrPort { return s.peer }

// SetDeadline ends calls that wait beyond t with ErrTimeout, those that wait
// already too; the zero Time takes that back.
func (s *UDPConn) SetDeadline(t time.Time) error {
	return socketFailure("deadline", s.conn.SetDeadline(t))
}

// SetReadDeadline is SetDeadline for ReadFrom and Read.
func (s *UDPConn) SetReadDeadline(t time.Time) error {
	return socketFailure("deadline", s.conn.SetReadDeadline(t))
}

// SetWriteDeadline is SetDeadline for WriteTo and Write.
func (s *UDPConn) SetWriteDeadline(t time.Time) error {
	return socketFailure("deadline", s.conn.SetWriteDeadline(t))
}

// SyscallConn is for options that flare does not have, such as multicast.
func (s *UDPConn) SyscallConn() (syscall.RawConn, error) { return s.conn.SyscallConn() }

// Close closes the socket. A second Close is ErrClosed.
func (s *UDPConn) Close() error { return socketFailure("close", s.conn.Close()) }
