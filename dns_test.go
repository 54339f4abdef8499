package flare

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// dnsHosts is a HostResolver with one host. A family without an entry has no
// address.
type dnsHosts map[string]dnsAnswer

type dnsAnswer struct {
	addrs []netip.Addr
	err   error
	wait  bool // until the context ends
}

func (h dnsHosts) LookupNetIP(ctx context.Context, network, _ string) ([]netip.Addr, error) {
	a := h[network]
	if a.wait {
		<-ctx.Done()
		return nil, &net.DNSError{Err: "timeout", IsTimeout: true}
	}
	return a.addrs, a.err
}

func dnsAddrs(literals ...string) (addrs []netip.Addr) {
	for _, s := range literals {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	return addrs
}

func TestResolver(t *testing.T) {
	notFound := dnsAnswer{err: &net.DNSError{Err: "no such host", IsNotFound: true}}
	failed := dnsAnswer{err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}
	both := dnsHosts{
		"ip6": {addrs: dnsAddrs("2001:db8::2", "2001:db8::1", "::ffff:192.0.2.9")},
		"ip4": {addrs: dnsAddrs("::ffff:192.0.2.1", "192.0.2.2")},
	}
	for _, tt := range []struct {
		name string
		r    Resolver
		host string
		want []netip.Addr
		err  error
	}{
		{"both", Resolver{Source: both}, "a.test", dnsAddrs("2001:db8::2", "2001:db8::1", "192.0.2.1", "192.0.2.2"), nil},
		{"IPv4 first", Resolver{Source: both, Order: IPv4First}, "a.test", dnsAddrs("192.0.2.1", "192.0.2.2", "2001:db8::2", "2001:db8::1"), nil},
		{"IPv4 only", Resolver{Source: both, Order: IPv4Only}, "a.test", dnsAddrs("192.0.2.1", "192.0.2.2"), nil},
		{"IPv6 only", Resolver{Source: both, Order: IPv6Only}, "a.test", dnsAddrs("2001:db8::2", "2001:db8::1"), nil},
		{"one family fails", Resolver{Source: dnsHosts{"ip6": failed, "ip4": both["ip4"]}}, "a.test", dnsAddrs("192.0.2.1", "192.0.2.2"), nil},
		{"no such host", Resolver{Source: dnsHosts{"ip6": notFound, "ip4": notFound}}, "a.test", nil, ErrNoSuchHost},
		{"empty answers", Resolver{Source: dnsHosts{}}, "a.test", nil, ErrNoSuchHost},
		{"a family that the host has not", Resolver{Source: both, Order: IPv6Only}, "192.0.2.1", nil, ErrNoSuchHost},
		{"a literal", Resolver{Source: dnsHosts{}}, "192.0.2.1", dnsAddrs("192.0.2.1"), nil},
		{"a literal with a zone", Resolver{Source: dnsHosts{}}, "fe80::1%eth0", dnsAddrs("fe80::1%eth0"), nil},
		{"localhost", Resolver{}, "localhost", dnsAddrs("::1", "127.0.0.1"), nil},
		{"below localhost", Resolver{Order: IPv4First}, "A.LocalHost.", dnsAddrs("127.0.0.1", "::1"), nil},
		{"localhost by another source", Resolver{Source: both, Order: IPv4Only}, "localhost", dnsAddrs("192.0.2.1", "192.0.2.2"), nil},
	} {
		got, err := tt.r.LookupAddrs(clientContext(t), tt.host)
		if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
	// That nobody knows whether there is such a host is not said to be no host.
	for _, hosts := range []dnsHosts{{"ip6": failed, "ip4": notFound}, {"ip6": notFound, "ip4": failed}} {
		_, err := (&Resolver{Source: hosts}).LookupAddrs(clientContext(t), "a.test")
		var e *ClientError
		if !errors.As(err, &e) || e.Phase != PhaseResolve || e.Host != "a.test" || errors.Is(err, ErrNoSuchHost) {
			t.Errorf("a failure: %v", err)
		}
	}
}

// What is no host name is asked of nobody, and not repeated in the error.
func TestResolverInvalid(t *testing.T) {
	asked := dnsHosts{"ip4": {addrs: dnsAddrs("192.0.2.1")}, "ip6": {addrs: dnsAddrs("2001:db8::1")}}
	for _, host := range []string{"", ".", "a..test", "a b.test", "a.test\x00", "a.test\r\n", "x@a.test", "127.1", "0x7f.1", "010.0.0.1", "1.2.3.4.5", "[::1]", "::g", "ä.test", strings.Repeat("a.", 127) + "test", strings.Repeat("a", 64)} {
		got, err := (&Resolver{Source: asked}).LookupAddrs(clientContext(t), host)
		if got != nil || !errors.Is(err, ErrInvalidAddr) {
			t.Errorf("%q: %v, %v", host, got, err)
		} else if len(host) > 1 && strings.Contains(err.Error(), host) {
			t.Errorf("%q is repeated: %v", host, err)
		}
	}
}

func TestResolverEnds(t *testing.T) {
	silent := &Resolver{Source: dnsHosts{"ip4": {wait: true}, "ip6": {wait: true}}}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := silent.LookupAddrs(ctx, "a.test")
	if !errors.Is(err, context.Canceled) && !errors.Is(err, ErrTimeout) { // the source's word may come first
		t.Errorf("cancelled: %v", err)
	}
	late, cancel := context.WithTimeout(context.Background(), 1)
	defer cancel()
	var timeout net.Error
	if _, err := silent.LookupAddrs(late, "a.test"); !errors.Is(err, ErrTimeout) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("late: %v", err)
	}
}

// A Resolver can stand where a *net.Resolver can.
func TestResolverAsSource(t *testing.T) {
	r := &Resolver{Order: IPv4First}
	for network, want := range map[string][]netip.Addr{
		"ip4": dnsAddrs("127.0.0.1"), "ip6": dnsAddrs("::1"), "ip": dnsAddrs("127.0.0.1", "::1"),
	} {
		if got, err := r.LookupNetIP(clientContext(t), network, "localhost"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", network, got, err)
		}
	}
	if got := resolverOf(r); got != r {
		t.Error("a Resolver is wrapped in another one")
	}
}
