package flare

import (
	"fmt"
	"net/netip"
)

// This file is layer 1 (wire): whose word counts among the proxies that have passed
// a request on, and what follows from what they say. forwarded.go has the grammar;
// server_proxies.go asks for a request.

// trustedHopsMax bounds the proxies between a client and the server: one that
// names more of them is not believed.
const trustedHopsMax = 64

// A proxyTrust is what Server.TrustedProxies says. It does not change.
type proxyTrust struct {
	prefixes                []netip.Prefix
	loopback, private, unix bool
}

// parseTrust reads Server.TrustedProxies; nil for an empty list.
func parseTrust(list []string) (*proxyTrust, error) {
	if len(list) == 0 {
		return nil, nil
	}
	t := new(proxyTrust)
	for i, entry := range list {
		switch entry {
		case "loopback":
			t.loopback = true
			continue
		case "private":
			t.private = true
			continue
		case "unix":
			t.unix = true
			continue
		}
		prefix, err := netip.ParsePrefix(entry)
		if err != nil {
			addr, err := ParseAddr(entry)
			if err != nil || addr.Zone() != "" {
				return nil, fmt.Errorf("flare: entry %d of Server.TrustedProxies is no address, prefix, \"loopback\", \"private\" or \"unix\"", i)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
		}
		t.prefixes = append(t.prefixes, prefix)
	}
	return t, nil
}

// trusts reports whether what addr says of a request counts. The zero value has no
// address: it is a peer on a Unix socket.
func (t *proxyTrust) trusts(addr netip.Addr) bool {
	if t == nil {
		return false
	}
	if !addr.IsValid() {
		return t.unix
	}
	addr = addr.Unmap().WithZone("")
	if t.loopback && addr.IsLoopback() || t.private && addr.IsPrivate() {
		return true
	}
	for _, p := range t.prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// trustsHop is trusts for an address that a proxy names: who it names none for is
// not a proxy of ours.
func (t *proxyTrust) trustsHop(addr netip.Addr) bool { return addr.IsValid() && t.trusts(addr) }

// A forwardedWalk goes through what proxies have said, from the oldest to the
// newest, and ends with what the outermost of the trusted ones has.
type forwardedWalk struct {
	hop     forwardedHop // of the outermost trusted proxy
	seen    bool         // there was a hop
	trusted int          // how many came behind that one, all of trusted proxies
}

func (w *forwardedWalk) add(t *proxyTrust, hop forwardedHop) {
	if !w.seen || !t.trustsHop(hop.client.Addr()) {
		w.hop, w.trusted, w.seen = hop, 0, true
		return
	}
	w.trusted++
}

// settle is for after the last hop: of too many nobody says anything.
func (w *forwardedWalk) settle() {
	if w.trusted >= trustedHopsMax {
		w.hop, w.trusted = forwardedHop{}, 0
	}
}

// agreed is what the two kinds of fields say together. A proxy writes one kind, and
// passes on what the client has sent of the other: where they differ one of the two
// is the client's own, and neither is believed.
func agreed(standard, custom *forwardedWalk, peer netip.AddrPort) forwardedHop {
	a, b := &standard.hop, &custom.hop
	both := forwardedHop{
		client: a.client,
		proto:  agreedText(forwardedScheme(a.proto), forwardedScheme(b.proto)),
		host:   agreedText(a.host, b.host),
	}
	switch {
	case !standard.seen && !custom.seen:
		both.client = peer // the proxy asks for itself
	case !standard.seen:
		both.client = b.client
	case custom.seen && a.client.Addr() != b.client.Addr():
		both.client = netip.AddrPort{}
	case custom.seen && a.client.Port() == 0:
		both.client = b.client
	}
	if !isAuthority([]byte(both.host)) {
		both.host = ""
	}
	return both
}

// agreedText is what two say of the same thing, of whom either may be silent.
func agreedText(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "" || equalFoldASCII(a, b):
		return a
	}
	return ""
}
