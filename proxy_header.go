package flare

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
)

// This file is layer 1 (wire): the header of the PROXY protocol, by which a proxy says
// in front of a connection's own octets for whom it has made it: version 1, a line,
// and version 2, which is binary (haproxy.org, proxy-protocol.txt). It reads and
// writes one; who is believed is for Server.TrustedProxies to say.

// A ProxyHeader is a header of the PROXY protocol: what a proxy says of the
// connection that it passes on.
type ProxyHeader struct {
	// Version is 1 or 2. When a header is sent 0 is 2.
	Version int

	// Local means that the proxy speaks for itself, as to see whether the server is
	// there. There are no addresses then. Version 1 cannot say so.
	Local bool

	// Source is the client's address and Destination the one that it has connected
	// to. Both are the zero value if the proxy does not tell, or the client came by
	// something else than IP.
	Source, Destination netip.AddrPort

	// TLVs are what version 2 adds, in the order in which it came.
	TLVs []ProxyTLV
}

// A ProxyTLV is a further field of a ProxyHeader of version 2. Some types are: 1 ALPN, 2 the host
// that the client has named, 3 a checksum, 4 padding, 5 an id of the connection, 0x20
// TLS.
type ProxyTLV struct {
	Type  byte
	Value []byte // of the checksum, nothing: it is computed when a header is sent
}

const (
	proxyV1Max = 107     // octets of a header of version 1, CRLF included (§2.1)
	proxyV2Max = 4 << 10 // of version 2; the protocol would have 64 KiB of fields
	proxyV1Min = len("PROXY UNKNOWN\r\n")

	proxyV1Begin     = "PROXY "
	proxyV2Begin     = "\r\n\r\n\x00\r\nQUIT\n"
	proxyV2HeadBytes = len(proxyV2Begin) + 4

	proxyTLVChecksum = 0x03
	proxyTLVNoOp     = 0x04
	proxyTLVTLS      = 0x20
)

var (
	errProxyBegin    = errors.New("flare: no PROXY header")
	errProxyVersion  = errors.New("flare: version of the PROXY header is unknown")
	errProxyCommand  = errors.New("flare: command of the PROXY header is unknown")
	errProxyFamily   = errors.New("flare: address family of the PROXY header is unknown")
	errProxyAddrs    = errors.New("flare: addresses of the PROXY header are malformed")
	errProxyTLV      = errors.New("flare: fields of the PROXY header do not fit its length")
	errProxyChecksum = errors.New("flare: checksum of the PROXY header is wrong")
	errProxyTooLarge = fmt.Errorf("flare: PROXY header: %w", ErrTooLarge)
)

// parseProxyHeader reads the header at the front of b, which is n octets long. As long
// as more octets are needed h is nil, without an error, and n is how many there are
// at least: that many can be waited for. What cannot become a header is an error, of
// version 2 at its first wrong octet.
func parseProxyHeader(b []byte) (h *ProxyHeader, n int, err error) {
	switch {
	case len(b) > 0 && b[0] == proxyV2Begin[0]:
		return parseProxyV2(b)
	case string(b[:min(len(b), len(proxyV1Begin))]) == proxyV1Begin[:min(len(b), len(proxyV1Begin))]:
		return parseProxyV1(b)
	}
	return nil, 0, errProxyBegin
}

// parseProxyV1 reads a line (§2.1).
func parseProxyV1(b []byte) (h *ProxyHeader, n int, err error) {
	end := bytes.IndexAny(b[:min(len(b), proxyV1Max)], "\r\n")
	switch {
	case end < 0 && len(b) >= proxyV1Max, end == proxyV1Max-1:
		return nil, 0, errProxyTooLarge
	case end < 0:
		return nil, max(len(b)+len("\r\n"), proxyV1Min), nil
	case b[end] == '\n':
		return nil, 0, errProxyAddrs
	case len(b) == end+1:
		return nil, end + len("\r\n"), nil
	case b[end+1] != '\n':
		return nil, 0, errProxyAddrs
	}
	h = &ProxyHeader{Version: 1}
	line := string(b[len(proxyV1Begin):end])
	if line == "UNKNOWN" || strings.HasPrefix(line, "UNKNOWN ") {
		return h, end + 2, nil // what follows is to be ignored
	}
	words := strings.Split(line, " ")
	if len(words) != 5 || words[0] != "TCP4" && words[0] != "TCP6" {
		return nil, 0, errProxyAddrs
	}
	var ok1, ok2 bool
	h.Source, ok1 = parseProxyAddr(words[1], words[3], words[0] == "TCP4")
	h.Destination, ok2 = parseProxyAddr(words[2], words[4], words[0] == "TCP4")
	if !ok1 || !ok2 {
		return nil, 0, errProxyAddrs
	}
	return h, end + 2, nil
}

// parseProxyAddr reads an address of version 1: no zone, and no leading zeros in
// numbers.
func parseProxyAddr(addr, port string, is4 bool) (at netip.AddrPort, ok bool) {
	a, err := netip.ParseAddr(addr)
	p, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || a.Is4() != is4 || a.Zone() != "" || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), true
}

// parseProxyV2 reads the binary form (§2.2).
func parseProxyV2(b []byte) (h *ProxyHeader, n int, err error) {
	if n := min(len(b), len(proxyV2Begin)); string(b[:n]) != proxyV2Begin[:n] {
		return nil, 0, errProxyBegin
	}
	rest := b[min(len(b), len(proxyV2Begin)):]
	if len(rest) > 0 && rest[0]>>4 != 2 {
		return nil, 0, errProxyVersion
	}
	if len(rest) > 0 && rest[0]&15 > 1 {
		return nil, 0, errProxyCommand
	}
	if len(rest) > 1 && (rest[1]>>4 > 3 || rest[1]&15 > 2) {
		return nil, 0, errProxyFamily
	}
	if len(rest) < 4 {
		return nil, proxyV2HeadBytes, nil
	}
	n = proxyV2HeadBytes + int(binary.BigEndian.Uint16(rest[2:]))
	switch {
	case n > proxyV2Max:
		return nil, 0, errProxyTooLarge
	case len(b) < n:
		return nil, n, nil
	}
	h = &ProxyHeader{Version: 2, Local: rest[0]&15 == 0}
	if h.Local {
		return h, n, nil // the rest is to be discarded
	}
	if err := h.readV2(b[:n], rest[1]>>4); err != nil {
		return nil, 0, err
	}
	return h, n, nil
}

// readV2 reads what follows the fixed part of b, a whole header.
func (h *ProxyHeader) readV2(b []byte, family byte) error {
	sizes := [...]int{0, 4, 16, 108} // of an address: none, IPv4, IPv6, a path
	rest, size := b[proxyV2HeadBytes:], sizes[family]
	ports := 4
	if family == 0 || family == 3 {
		ports = 0
	}
	switch {
	case family == 0:
		return nil // nobody says what the octets are
	case len(rest) < 2*size+ports:
		return errProxyAddrs
	case ports > 0:
		source, _ := netip.AddrFromSlice(rest[:size])
		destination, _ := netip.AddrFromSlice(rest[size : 2*size])
		h.Source = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(rest[2*size:]))
		h.Destination = netip.AddrPortFrom(destination.Unmap(), binary.BigEndian.Uint16(rest[2*size+2:]))
	}
	for rest = rest[2*size+ports:]; len(rest) > 0; {
		if len(rest) < 3 || len(rest)-3 < int(binary.BigEndian.Uint16(rest[1:])) {
			return errProxyTLV
		}
		end := 3 + int(binary.BigEndian.Uint16(rest[1:]))
		kind, value := rest[0], rest[3:end]
		if kind == proxyTLVChecksum && !proxyChecksumHolds(b, value, len(b)-len(rest)+3) {
			return errProxyChecksum
		}
		if kind != proxyTLVChecksum && kind != proxyTLVNoOp {
			h.TLVs = append(h.TLVs, ProxyTLV{kind, bytes.Clone(value)})
		}
		rest = rest[end:]
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// proxyChecksumHolds reports whether value, which is at that place of b, is the
// checksum of b with zeros there (§2.2.3).
func proxyChecksumHolds(b, value []byte, at int) bool {
	if len(value) != 4 {
		return false
	}
	sum := crc32.Update(crc32.Checksum(b[:at], castagnoli), castagnoli, make([]byte, 4))
	return binary.BigEndian.Uint32(value) == crc32.Update(sum, castagnoli, b[at+4:])
}

// clientTLS reports whether the client has connected to the proxy by TLS (§2.2.5).
func (h *ProxyHeader) clientTLS() bool {
	for i := range h.TLVs {
		if t := &h.TLVs[i]; t.Type == proxyTLVTLS {
			return len(t.Value) >= 5 && t.Value[0]&1 != 0
		}
	}
	return false
}

// append appends the header to b.
func (h *ProxyHeader) append(b []byte) ([]byte, error) {
	from, to := h.Source, h.Destination
	switch {
	case h.Version < 0 || h.Version > 2:
		return nil, errProxyVersion
	case from.IsValid() != to.IsValid() || h.Local && from.IsValid() || from.Addr().Zone() != "" || to.Addr().Zone() != "":
		return nil, errProxyAddrs
	case h.Version == 1 && len(h.TLVs) > 0:
		return nil, errProxyTLV
	case h.Version == 1:
		return appendProxyV1(b, from, to), nil
	}
	begin := len(b)
	b = append(append(b, proxyV2Begin...), 2<<4|1, 0, 0, 0)
	head := b[begin+len(proxyV2Begin):]
	if h.Local {
		head[0] = 2 << 4
	}
	if from.IsValid() {
		source, destination := from.Addr().Unmap(), to.Addr().Unmap()
		if source.Is4() && destination.Is4() {
			head[1] = 0x11
			b = append(append(b, source.AsSlice()...), destination.AsSlice()...)
		} else {
			head[1] = 0x21
			a16, b16 := source.As16(), destination.As16()
			b = append(append(b, a16[:]...), b16[:]...)
		}
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, from.Port()), to.Port())
	}
	return h.appendTLVs(b, begin)
}

// appendProxyV1 writes a line. Addresses of two families are told as IPv6.
func appendProxyV1(b []byte, from, to netip.AddrPort) []byte {
	if !from.IsValid() {
		return append(b, "PROXY UNKNOWN\r\n"...)
	}
	family, source, destination := "TCP4", from.Addr().Unmap(), to.Addr().Unmap()
	if !source.Is4() || !destination.Is4() {
		family, source, destination = "TCP6", netip.AddrFrom16(source.As16()), netip.AddrFrom16(destination.As16())
	}
	return fmt.Appendf(b, "PROXY %s %s %s %d %d\r\n", family, source, destination, from.Port(), to.Port())
}

// appendTLVs completes a header of version 2 that begins at that place of b.
func (h *ProxyHeader) appendTLVs(b []byte, begin int) ([]byte, error) {
	sum := 0 // where the checksum is
	for _, t := range h.TLVs {
		if t.Type == proxyTLVChecksum {
			if sum != 0 {
				return nil, errProxyTLV
			}
			t.Value = make([]byte, 4)
			sum = len(b) + 3
		}
		if len(b)-begin+3+len(t.Value) > proxyV2Max {
			return nil, errProxyTooLarge
		}
		b = binary.BigEndian.AppendUint16(append(b, t.Type), uint16(len(t.Value)))
		b = append(b, t.Value...)
	}
	if len(h.TLVs) > 0 && (h.Local || !h.Source.IsValid()) {
		return nil, errProxyTLV // nobody could tell where they begin
	}
	binary.BigEndian.PutUint16(b[begin+proxyV2HeadBytes-2:], uint16(len(b)-begin-proxyV2HeadBytes))
	if sum != 0 {
		binary.BigEndian.PutUint32(b[sum:], crc32.Checksum(b[begin:], castagnoli))
	}
	return b, nil
}
