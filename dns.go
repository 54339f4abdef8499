package flare

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
)

// This file is layer 4 (roles): the addresses of host names. It checks a name
// before it asks for it, and asks for both families at the same time. The
// dialler (dial_race.go) calls it, and users who want addresses alone.

// A HostResolver looks addresses up. *net.Resolver is one, and so is *Resolver.
// The network is "ip4" or "ip6"; both are asked at the same time, from two
// goroutines.
type HostResolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// An AddrOrder says which addresses of a host come first, or at all.
type AddrOrder uint8

const (
	IPv6First AddrOrder = iota // RFC 8305 §4
	IPv4First
	IPv6Only
	IPv4Only
)

// The families, as indices.
const (
	familyIPv6 = iota
	familyIPv4
)

var familyNetworks = [...]string{"ip6", "ip4"}

// first is the family that is preferred.
func (o AddrOrder) first() int {
	if o == IPv4First || o == IPv4Only {
		return familyIPv4
	}
	return familyIPv6
}

// families are those that are asked for, in order.
func (o AddrOrder) families() []int {
	if first := o.first(); o == IPv6First || o == IPv4First {
		return []int{first, 1 - first}
	}
	return []int{o.first()}
}

// A Resolver looks the addresses of host names up. The zero value is ready; any
// number of goroutines may use it. Its errors are *ClientError: of an invalid
// name with ErrInvalidAddr, without a question to anybody; ErrNoSuchHost;
// ErrTimeout.
type Resolver struct {
	// Source is asked for what is not a literal. nil is net.DefaultResolver,
	// and "localhost" with the names below it is the machine itself then, which
	// nobody is asked for (RFC 6761 §6.3).
	Source HostResolver

	// Order of the addresses.
	Order AddrOrder
}

// LookupAddrs returns the addresses of a host in the resolver's order: of each
// family as the source has them, or the one that a literal is. A host with
// addresses of one family only has those.
func (r *Resolver) LookupAddrs(ctx context.Context, host string) ([]netip.Addr, error) {
	var found [len(familyNetworks)][]netip.Addr
	var fault error
	answers := r.look(ctx, host)
	for range r.Order.families() {
		select {
		case a := <-answers:
			found[a.family] = a.addrs
			if fault == nil || isNotFound(fault) { // a failure to ask says more than an empty answer
				fault = a.err
			}
		case <-ctx.Done():
			return nil, clientError(PhaseResolve, nameOf(host), ctx.Err())
		}
	}
	var addrs []netip.Addr
	for _, family := range r.Order.families() {
		addrs = append(addrs, found[family]...)
	}
	if len(addrs) > 0 {
		return addrs, nil
	}
	return nil, clientError(PhaseResolve, nameOf(host), fault)
}

// LookupNetIP is LookupAddrs for one family, "ip4" or "ip6", or for "ip", both.
func (r *Resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	one := Resolver{Source: r.Source, Order: r.Order}
	switch network {
	case "ip4":
		one.Order = IPv4Only
	case "ip6":
		one.Order = IPv6Only
	}
	return one.LookupAddrs(ctx, host)
}

// A lookupResult has addresses or an error.
type lookupResult struct {
	family int
	addrs  []netip.Addr
	err    error
}

// look asks for all families of the order at once. Each answer comes when it is
// there, in any order; nobody has to wait for them.
func (r *Resolver) look(ctx context.Context, host string) <-chan lookupResult {
	families := r.Order.families()
	answers := make(chan lookupResult, len(families))
	if fault := hostFault(host); fault != nil {
		for _, family := range families {
			answers <- lookupResult{family, nil, fault}
		}
		return answers
	}
	ask := r.Source
	if literal, ok := literalAddr(host); ok {
		ask = knownAddrs{literal}
	} else if ask == nil && isLocalhost(host) {
		ask = knownAddrs{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	} else if ask == nil {
		ask = net.DefaultResolver
	}
	for _, family := range families {
		go func() {
			addrs, err := ask.LookupNetIP(ctx, familyNetworks[family], host)
			addrs = ofFamily(addrs, family)
			if err == nil && len(addrs) == 0 {
				err = errNoAddr
			}
			answers <- lookupResult{family, addrs, err}
		}()
	}
	return answers
}

// errNoAddr is what a source says that has no address of a family.
var errNoAddr = &net.DNSError{Err: "no address", IsNotFound: true}

func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

func familyOf(addr netip.Addr) int {
	if addr.Unmap().Is4() {
		return familyIPv4
	}
	return familyIPv6
}

// ofFamily returns those of addrs that are of a family, unmapped.
func ofFamily(addrs []netip.Addr, family int) []netip.Addr {
	var of []netip.Addr
	for _, addr := range addrs {
		if addr.IsValid() && familyOf(addr) == family {
			of = append(of, addr.Unmap())
		}
	}
	return of
}

// knownAddrs is a HostResolver that asks nobody.
type knownAddrs []netip.Addr

func (k knownAddrs) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return k, nil
}

func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// hostFault is the rule that a host breaks, as an error.
func hostFault(host string) error {
	if rule := checkHost(host); rule != "" {
		return &ClientError{Phase: PhaseResolve, Kind: ErrInvalidAddr, Err: errors.New(rule)}
	}
	return nil
}

// nameOf is a host as errors name it: not at all if it is invalid.
func nameOf(host string) string {
	if checkHost(host) != "" {
		return ""
	}
	return host
}
