//go:build linux || darwin

package flare

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A clientHosts is a HostResolver with one host, by family.
type clientHosts struct {
	ip6, ip4 []netip.Addr
	ip6Err   error
	ip4Err   error
	ip6After chan struct{} // nil: at once
}

func (h clientHosts) LookupNetIP(ctx context.Context, network, _ string) ([]netip.Addr, error) {
	if network == "ip4" {
		return h.ip4, h.ip4Err
	}
	if h.ip6After != nil {
		select {
		case <-h.ip6After:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return h.ip6, h.ip6Err
}

var clientNotFound = &net.DNSError{Err: "no such host", Name: "a.test", IsNotFound: true}

// clientBlackHole listens at addr and accepts nothing: its backlog is full, so
// that a connection is neither made nor refused.
func clientBlackHole(t *testing.T, addr netip.AddrPort) netip.AddrPort {
	family, sa := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()})
	if addr.Addr().Is4() {
		family, sa = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Skip("no socket of that family here: ", err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, sa); err != nil {
		t.Skip("no address of that family here: ", err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := localAddrPort(fd)
	if err != nil {
		t.Fatal(err)
	}
	for range 16 {
		c, err := net.DialTimeout("tcp", bound.String(), 100*time.Millisecond)
		if err != nil {
			return bound
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("this system accepts more than 16 connections for a backlog of 0")
	return bound
}

func TestClientDialRace(t *testing.T) {
	t.Parallel()
	six, four := netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")
	hole := clientBlackHole(t, netip.AddrPortFrom(six, 0))
	ln, err := net.Listen("tcp", netip.AddrPortFrom(four, hole.Port()).String())
	if err != nil {
		t.Skip("the port is taken on IPv4: ", err)
	}
	defer ln.Close()
	var dialer net.Dialer
	late := make(chan struct{})
	defer close(late)
	// So many that all the waits for them would be too long.
	refused := slices.Repeat([]netip.Addr{netip.MustParseAddr("127.0.0.2")}, int(patience/dialStagger))
	tests := []struct {
		name  string
		hosts clientHosts
		want  error
	}{
		{"IPv6 is a black hole", clientHosts{ip6: []netip.Addr{six}, ip4: []netip.Addr{four}}, nil},
		{"IPv4 alone", clientHosts{ip6Err: clientNotFound, ip4: []netip.Addr{four}}, nil},
		{"no answer about IPv6", clientHosts{ip6After: late, ip4: []netip.Addr{four}}, nil},
		{"refused, then connected", clientHosts{ip4: append(refused, four)}, nil},
		{"nobody", clientHosts{ip6Err: clientNotFound, ip4Err: clientNotFound}, ErrNoSuchHost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := dialRace{dial: dialer.DialContext, port: hole.Port()}
			start := time.Now()
			conn, err := d.run(clientContext(t), &Resolver{Source: tt.hosts}, "a.test")
			if took := time.Since(start); took > patience/4 {
				t.Errorf("took %v", took)
			}
			if err = clientError(PhaseDial, "a.test:80", err); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if conn != nil {
				conn.Close()
			}
		})
	}
}

// Addresses of the other family wait for those of the preferred one as long as
// these may still come.
func TestClientDialRaceHolds(t *testing.T) {
	four := lookupResult{family: familyIPv4, addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
	none := lookupResult{family: familyIPv6, err: clientNotFound}
	d := dialRace{looking: 2, first: familyIPv6}
	if !d.looked(four) || d.ready() {
		t.Error("IPv4 does not wait for the answer about IPv6")
	}
	if d.looked(none) || !d.ready() {
		t.Error("IPv4 waits though there is no IPv6")
	}
	d = dialRace{looking: 2, first: familyIPv6}
	if d.looked(none) || d.looked(four) || !d.ready() {
		t.Error("IPv4 waits for what has been answered")
	}
}

func TestClientDialErrors(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := ln.Addr().String()
	ln.Close()
	hole := clientBlackHole(t, netip.MustParseAddrPort("127.0.0.1:0"))
	for _, tt := range []struct {
		name, url string
		client    *Client
		want      error
		phase     ClientPhase
	}{
		{"refused", "http://" + refused, &Client{}, ErrRefused, PhaseDial},
		{"no such host", "http://a.test", &Client{Resolver: clientHosts{ip6Err: clientNotFound, ip4Err: clientNotFound}}, ErrNoSuchHost, PhaseResolve},
		{"dial", "http://" + hole.String(), &Client{DialTimeout: 50 * time.Millisecond}, ErrTimeout, PhaseDial},
		{"total", "http://" + hole.String(), &Client{Timeout: 50 * time.Millisecond}, ErrTimeout, PhaseDial},
	} {
		_, err := clientOf(t, tt.client).Get(clientContext(t), tt.url)
		var e *ClientError
		if !errors.Is(err, tt.want) || !errors.As(err, &e) || e.Phase != tt.phase {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	t.Run("handshake", func(t *testing.T) {
		ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		_, err = clientOf(t, &Client{HandshakeTimeout: 200 * time.Millisecond}).Get(clientContext(t), "https://"+ln.Addr().String())
		var e *ClientError
		if !errors.Is(err, ErrTimeout) || !errors.As(err, &e) || e.Phase != PhaseTLS {
			t.Errorf("%v", err)
		}
	})
}

// A Dial that returns nothing at all is told so.
func TestClientDialsNothing(t *testing.T) {
	c := clientOf(t, &Client{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, nil }})
	var e *ClientError
	if _, err := c.Get(clientContext(t), "http://a.test"); !errors.As(err, &e) || e.Phase != PhaseDial {
		t.Error(err)
	}
}

// A file that is saved is nobody's whom the umask shuts out, and its name may be
// as long as a name can be.
func TestClientSaveFileMode(t *testing.T) {
	url := clientBenchServer(t)
	name := filepath.Join(t.TempDir(), strings.Repeat("n", 255))
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	resp, err := clientOf(t, &Client{}).Get(clientContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resp.SaveFile(name); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
