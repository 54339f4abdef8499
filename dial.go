package flare

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// This file is layer 4 (roles): a blocking connection to an address: names
// looked up, addresses raced, errors told apart. It knows nothing of what is
// sent then; dial_tls.go encrypts, and the client dials with it.

const defaultDialTimeout = 10 * time.Second

// A Dialer connects. The zero value is ready; any number of goroutines may use
// it. Its errors are *ClientError: ErrInvalidAddr before anything is done,
// ErrNoSuchHost, ErrRefused, ErrTimeout and, from DialTLS, ErrCertificateExpired,
// ErrCertificateHost and ErrCertificateUntrusted.
type Dialer struct {
	Resolver HostResolver  // looks names up; nil is a Resolver
	Socket   SocketOptions // asked of each socket before it connects
	Timeout  time.Duration // name and connection; 0 is 10 s, negative none

	HandshakeTimeout time.Duration // of DialTLS; 0 is 10 s, negative none

	// ProxyHeader is sent in front of all else, also of TLS, when it is set: it tells a
	// server behind a proxy for whom the connection is. A TLV of type 3 becomes the
	// checksum of the header. One that cannot be sent is an error of Dial, before
	// anything is done.
	ProxyHeader *ProxyHeader
}

// Dial connects with a Dialer's defaults; see Dialer.Dial.
func Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(Dialer).Dial(ctx, network, addr)
}

// Dial connects to an address, for blocking use. The network is "tcp", with
// "host:port" as the address, "tcp4" or "tcp6" for one family alone, or "unix"
// with a path; on Linux one that begins with "@" is abstract. A host is a name,
// an IPv4 literal or an IPv6 literal in brackets, the port a number. Of a host
// with several addresses the first that answers is connected (RFC 8305). ctx
// bounds the dial and not what follows.
func (d *Dialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.ProxyHeader != nil {
		return d.dialProxied(ctx, network, addr)
	}
	ctx, cancel := withLimit(ctx, time.Time{}, limitOr(d.Timeout, defaultDialTimeout))
	defer cancel()
	resolver := *resolverOf(d.Resolver)
	switch network {
	case "tcp":
	case "tcp4":
		resolver.Order = IPv4Only
	case "tcp6":
		resolver.Order = IPv6Only
	case "unix":
		return d.dialUnix(ctx, addr)
	default:
		return nil, &ClientError{Phase: PhaseDial, Err: errDialNetwork}
	}
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, &ClientError{Phase: PhaseDial, Kind: ErrInvalidAddr, Err: err}
	}
	conn, err := dialHost(ctx, d.net(), &resolver, host, port)
	if err != nil {
		return nil, err
	}
	if c, ok := conn.(*net.TCPConn); ok && d.Socket.Delay {
		c.SetNoDelay(false)
	}
	return conn, nil
}

// dialProxied is Dial with a header of the PROXY protocol. A new socket has room for
// it.
func (d *Dialer) dialProxied(ctx context.Context, network, addr string) (net.Conn, error) {
	header, err := d.ProxyHeader.append(nil)
	if err != nil {
		return nil, &ClientError{Phase: PhaseDial, Err: err}
	}
	plain := *d
	plain.ProxyHeader = nil
	conn, err := plain.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(header); err != nil {
		conn.Close()
		return nil, clientError(PhaseDial, addr, err)
	}
	return conn, nil
}

var (
	errDialNetwork = errors.New("network is none of tcp, tcp4, tcp6 and unix")
	errUnixPath    = errors.New("path is empty or has a NUL")
)

func (d *Dialer) dialUnix(ctx context.Context, path string) (net.Conn, error) {
	if path == "" || strings.IndexByte(path, 0) >= 0 {
		return nil, &ClientError{Phase: PhaseDial, Kind: ErrInvalidAddr, Err: errUnixPath}
	}
	conn, err := d.net().DialContext(ctx, "unix", path)
	return conn, dialError("", err)
}

// net returns the dialler of package net that asks for the same options.
func (d *Dialer) net() *net.Dialer {
	return &net.Dialer{
		Control:   d.Socket.control,
		KeepAlive: d.Socket.KeepAlive, // 0 and negative mean the same there
	}
}

// dialHost connects to one of a host's addresses.
func dialHost(ctx context.Context, dialer *net.Dialer, resolver *Resolver, host string, port uint16) (net.Conn, error) {
	race := dialRace{dial: dialer.DialContext, port: port}
	conn, err := race.run(ctx, resolver, host)
	if err != nil && !race.dialled() {
		return nil, clientError(PhaseResolve, joinHostPort(host, port), err)
	}
	return conn, dialError(joinHostPort(host, port), err)
}

// dialError says in which phase of a dial err happened.
func dialError(host string, err error) error {
	phase := PhaseDial
	var dns *net.DNSError
	if errors.As(err, &dns) {
		phase = PhaseResolve
	}
	return clientError(phase, host, err)
}

// resolverOf makes a Resolver of what looks names up, nil for the default.
func resolverOf(source HostResolver) *Resolver {
	if r, ok := source.(*Resolver); ok && r != nil {
		return r
	}
	return &Resolver{Source: source}
}

// splitHostPort takes "host:port" apart and checks both; an IPv6 literal is in
// brackets. Its errors are *addrError.
func splitHostPort(addr string) (host string, port uint16, err error) {
	if strings.HasPrefix(addr, "[") {
		a, err := ParseAddrPort(addr)
		return a.Addr().String(), a.Port(), err
	}
	colon := strings.IndexByte(addr, ':')
	if colon < 0 {
		colon = len(addr)
	}
	if again := strings.IndexByte(addr[min(colon+1, len(addr)):], ':'); again >= 0 {
		return "", 0, &addrError{colon + 1 + again, ruleSecondColon}
	}
	if rule := checkHost(addr[:colon]); rule != "" {
		return "", 0, &addrError{0, rule}
	}
	a, err := parseColonPort(netip.Addr{}, addr, colon)
	return addr[:colon], a.Port(), err
}

// withLimit bounds ctx by a point in time and a length of time, whichever ends
// first. Zero, or not above it: no such bound.
func withLimit(ctx context.Context, by time.Time, limit time.Duration) (context.Context, context.CancelFunc) {
	if by = earlier(by, limit); by.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, by)
}

// earlier returns by or the end of limit from now, whichever comes first; zero
// for neither.
func earlier(by time.Time, limit time.Duration) time.Time {
	if limit <= 0 {
		return by
	}
	return limitFrom(time.Now(), limit, by)
}

// limitFrom is earlier for a limit that begins at begun.
func limitFrom(begun time.Time, limit time.Duration, by time.Time) time.Time {
	if limit <= 0 {
		return by
	}
	if t := begun.Add(limit); by.IsZero() || t.Before(by) {
		return t
	}
	return by
}
