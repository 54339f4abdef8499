package flare

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// proxyV2Test is a header of version 2 with those octets behind its length.
func proxyV2Test(command, family byte, rest string) string {
	return proxyV2Begin + string([]byte{command, family, byte(len(rest) >> 8), byte(len(rest))}) + rest
}

const (
	proxyAddrs4Test = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x1f\x90\x01\xbb" // 192.0.2.1:8080 to 198.51.100.2:443
	proxyAddrs6Test = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x1f\x90\x01\xbb"
)

// proxySumTest is a whole header with a checksum between two other fields.
func proxySumTest() string {
	b := []byte(proxyV2Test(0x21, 0x11, proxyAddrs4Test+"\x02\x00\x01h"+"\x03\x00\x04\x00\x00\x00\x00"+"\x04\x00\x02zz"))
	at := len(b) - 5 - 4
	binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return string(b)
}

func TestProxyHeaderParse(t *testing.T) {
	t.Parallel()
	const both4, both6 = "192.0.2.1:8080 198.51.100.2:443", "[2001:db8::1]:8080 [2001:db8::2]:443"
	for _, row := range []struct {
		name, in string
		want     string // version, local, addresses and fields
		err      error
	}{
		{"v1 IPv4", "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n", "1 false " + both4 + " []", nil},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:DB8:0::2 8080 443\r\n", "1 false " + both6 + " []", nil},
		{"v1 mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 8080 443\r\n", "1 false " + both4 + " []", nil},
		{"v1 unknown", "PROXY UNKNOWN\r\n", "1 false invalid AddrPort invalid AddrPort []", nil},
		{"v1 unknown with more", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", "1 false invalid AddrPort invalid AddrPort []", nil},
		{"v1 port 0", "PROXY TCP4 192.0.2.1 198.51.100.2 0 65535\r\n", "1 false 192.0.2.1:0 198.51.100.2:65535 []", nil},
		{"v1 too long", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", "", ErrTooLarge},
		{"v1 without an end", "PROXY TCP4 " + strings.Repeat("1", 200), "", ErrTooLarge},
		{"v1 LF alone", "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\n", "", errProxyAddrs},
		{"v1 CR alone", "PROXY UNKNOWN\rx\r\n", "", errProxyAddrs},
		{"v1 UDP", "PROXY UDP4 192.0.2.1 198.51.100.2 8080 443\r\n", "", errProxyAddrs},
		{"v1 lower case", "proxy TCP4 192.0.2.1 198.51.100.2 8080 443\r\n", "", errProxyBegin},
		{"v1 two spaces", "PROXY TCP4  192.0.2.1 198.51.100.2 8080 443\r\n", "", errProxyAddrs},
		{"v1 space at the end", "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443 \r\n", "", errProxyAddrs},
		{"v1 unknown and letters", "PROXY UNKNOWNS\r\n", "", errProxyAddrs},
		{"v1 port missing", "PROXY TCP4 192.0.2.1 198.51.100.2 8080\r\n", "", errProxyAddrs},
		{"v1 port too high", "PROXY TCP4 192.0.2.1 198.51.100.2 8080 65536\r\n", "", errProxyAddrs},
		{"v1 port with zeros", "PROXY TCP4 192.0.2.1 198.51.100.2 8080 0443\r\n", "", errProxyAddrs},
		{"v1 port with a sign", "PROXY TCP4 192.0.2.1 198.51.100.2 8080 +443\r\n", "", errProxyAddrs},
		{"v1 octal", "PROXY TCP4 192.0.02.1 198.51.100.2 8080 443\r\n", "", errProxyAddrs},
		{"v1 IPv6 as IPv4", "PROXY TCP4 2001:db8::1 2001:db8::2 8080 443\r\n", "", errProxyAddrs},
		{"v1 IPv4 as IPv6", "PROXY TCP6 192.0.2.1 198.51.100.2 8080 443\r\n", "", errProxyAddrs},
		{"v1 zone", "PROXY TCP6 fe80::1%eth0 2001:db8::2 8080 443\r\n", "", errProxyAddrs},
		{"v1 a name", "PROXY TCP4 localhost 198.51.100.2 8080 443\r\n", "", errProxyAddrs},

		{"v2 IPv4", proxyV2Test(0x21, 0x11, proxyAddrs4Test), "2 false " + both4 + " []", nil},
		{"v2 IPv4 datagrams", proxyV2Test(0x21, 0x12, proxyAddrs4Test), "2 false " + both4 + " []", nil},
		{"v2 IPv6", proxyV2Test(0x21, 0x21, proxyAddrs6Test), "2 false " + both6 + " []", nil},
		{"v2 Unix", proxyV2Test(0x21, 0x31, strings.Repeat("\x00", 216)+"\x05\x00\x01i"), "2 false invalid AddrPort invalid AddrPort [{5 [105]}]", nil},
		{"v2 unspecified", proxyV2Test(0x21, 0x00, "anything"), "2 false invalid AddrPort invalid AddrPort []", nil},
		{"v2 local", proxyV2Test(0x20, 0x00, ""), "2 true invalid AddrPort invalid AddrPort []", nil},
		{"v2 local, with what is to be ignored", proxyV2Test(0x20, 0x11, "short"), "2 true invalid AddrPort invalid AddrPort []", nil},
		{"v2 fields", proxyV2Test(0x21, 0x11, proxyAddrs4Test+"\x01\x00\x02h2\x04\x00\x03xyz\xea\x00\x00"), "2 false " + both4 + " [{1 [104 50]} {234 []}]", nil},
		{"v2 checksum", proxySumTest(), "2 false " + both4 + " [{2 [104]}]", nil},
		{"v2 as long as may be", proxyV2Test(0x21, 0x00, strings.Repeat("x", 4080)), "2 false invalid AddrPort invalid AddrPort []", nil},
		{"v2 longer", proxyV2Test(0x21, 0x00, strings.Repeat("x", 4081)), "", ErrTooLarge},
		{"v2 wrong checksum", strings.Replace(proxySumTest(), "h", "i", 1), "", errProxyChecksum},
		{"v2 short checksum", proxyV2Test(0x21, 0x11, proxyAddrs4Test+"\x03\x00\x02xx"), "", errProxyChecksum},
		{"v2 field too long", proxyV2Test(0x21, 0x11, proxyAddrs4Test+"\x01\x00\x03h2"), "", errProxyTLV},
		{"v2 half a field", proxyV2Test(0x21, 0x11, proxyAddrs4Test+"\x01\x00"), "", errProxyTLV},
		{"v2 addresses too short", proxyV2Test(0x21, 0x11, proxyAddrs4Test[1:]), "", errProxyAddrs},
		{"v2 IPv6 too short", proxyV2Test(0x21, 0x21, proxyAddrs4Test), "", errProxyAddrs},
		{"v2 Unix too short", proxyV2Test(0x21, 0x31, strings.Repeat("x", 215)), "", errProxyAddrs},
		{"v2 version 1", proxyV2Test(0x11, 0x11, proxyAddrs4Test), "", errProxyVersion},
		{"v2 version 3", proxyV2Test(0x31, 0x11, proxyAddrs4Test), "", errProxyVersion},
		{"v2 command", proxyV2Test(0x22, 0x11, proxyAddrs4Test), "", errProxyCommand},
		{"v2 family", proxyV2Test(0x21, 0x41, proxyAddrs4Test), "", errProxyFamily},
		{"v2 transport", proxyV2Test(0x21, 0x13, proxyAddrs4Test), "", errProxyFamily},
		{"v2 broken signature", "\r\n\r\n\x00\r\nQUIX\n!\x11\x00\x00", "", errProxyBegin},

		{"a request", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "", errProxyBegin},
		{"a handshake of TLS", "\x16\x03\x01\x02\x00\x01", "", errProxyBegin},
	} {
		for _, behind := range []string{"", "GET / HTTP/1.1\r\n"} {
			h, n, err := parseProxyHeader([]byte(row.in + behind))
			if !errors.Is(err, row.err) || (err == nil) != (row.err == nil) {
				t.Errorf("%s: %v, want %v", row.name, err, row.err)
				continue
			}
			if err != nil {
				continue
			}
			if got := proxyTextTest(h); got != row.want || n != len(row.in) {
				t.Errorf("%s: %s of %d octets, want %s of %d", row.name, got, n, row.want, len(row.in))
			}
		}
		if row.err != nil {
			continue
		}
		for cut := range len(row.in) { // more is asked for, and never more than there is
			if h, n, err := parseProxyHeader([]byte(row.in[:cut])); h != nil || err != nil || n <= cut || n > len(row.in) {
				t.Errorf("%s, cut at %d: %v, %d of %d, %v", row.name, cut, h, n, len(row.in), err)
			}
		}
	}
}

func proxyTextTest(h *ProxyHeader) string {
	return fmt.Sprint(h.Version, " ", h.Local, " ", h.Source, " ", h.Destination, " ", h.TLVs)
}

// What is sent is what the specification has, and what is received again.
func TestProxyHeaderAppend(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	from4, to4, from6, to6 := at("192.0.2.1:8080"), at("198.51.100.2:443"), at("[2001:db8::1]:8080"), at("[2001:db8::2]:443")
	for _, row := range []struct {
		name string
		h    ProxyHeader
		want string
		err  error
	}{
		{"v1 IPv4", ProxyHeader{Version: 1, Source: from4, Destination: to4}, "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n", nil},
		{"v1 IPv6", ProxyHeader{Version: 1, Source: from6, Destination: to6}, "PROXY TCP6 2001:db8::1 2001:db8::2 8080 443\r\n", nil},
		{"v1 of both", ProxyHeader{Version: 1, Source: from4, Destination: to6}, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 8080 443\r\n", nil},
		{"v1 unknown", ProxyHeader{Version: 1}, "PROXY UNKNOWN\r\n", nil},
		{"v1 local", ProxyHeader{Version: 1, Local: true}, "PROXY UNKNOWN\r\n", nil},
		{"v2 IPv4", ProxyHeader{Source: from4, Destination: to4}, proxyV2Test(0x21, 0x11, proxyAddrs4Test), nil},
		{"v2 IPv6", ProxyHeader{Version: 2, Source: from6, Destination: to6}, proxyV2Test(0x21, 0x21, proxyAddrs6Test), nil},
		{"v2 local", ProxyHeader{Local: true}, proxyV2Test(0x20, 0, ""), nil},
		{"v2 unknown", ProxyHeader{}, proxyV2Test(0x21, 0, ""), nil},
		{"v2 fields", ProxyHeader{Source: from4, Destination: to4, TLVs: []ProxyTLV{{2, []byte("h")}, {3, nil}, {4, []byte("zz")}}}, proxySumTest(), nil},
		{"one address", ProxyHeader{Source: from4}, "", errProxyAddrs},
		{"local with addresses", ProxyHeader{Local: true, Source: from4, Destination: to4}, "", errProxyAddrs},
		{"zone", ProxyHeader{Source: at("[fe80::1%eth0]:1"), Destination: to6}, "", errProxyAddrs},
		{"version 3", ProxyHeader{Version: 3}, "", errProxyVersion},
		{"v1 with fields", ProxyHeader{Version: 1, TLVs: []ProxyTLV{{1, nil}}}, "", errProxyTLV},
		{"fields of nobody", ProxyHeader{TLVs: []ProxyTLV{{1, nil}}}, "", errProxyTLV},
		{"two checksums", ProxyHeader{Source: from4, Destination: to4, TLVs: []ProxyTLV{{3, nil}, {3, nil}}}, "", errProxyTLV},
		{"too large", ProxyHeader{Source: from4, Destination: to4, TLVs: []ProxyTLV{{1, make([]byte, 4096)}}}, "", ErrTooLarge},
	} {
		b, err := row.h.append([]byte("before"))
		if !errors.Is(err, row.err) || (err == nil) != (row.err == nil) {
			t.Errorf("%s: %v, want %v", row.name, err, row.err)
		} else if err == nil && string(b) != "before"+row.want {
			t.Errorf("%s:\n%s\nwant\n%s", row.name, hex.Dump(b[6:]), hex.Dump([]byte(row.want)))
		}
	}
}

// FuzzProxyHeader holds that a header is the same however it comes, that what is
// asked for is never more than it has, and that it can be sent on as it was read.
func FuzzProxyHeader(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\nGET", "PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 0 65535\r\n", "PROXY UNKNOWN x\r\n",
		proxyV2Test(0x21, 0x11, proxyAddrs4Test), proxyV2Test(0x21, 0x21, proxyAddrs6Test), proxyV2Test(0x20, 0, "x"), proxySumTest(),
		proxyV2Test(0x21, 0x31, strings.Repeat("/", 216)), "GET / HTTP/1.1\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, size, err := parseProxyHeader(in)
		if err == nil && whole == nil && size <= len(in) {
			t.Fatalf("%d octets are asked for, of %d", size, len(in))
		}
		for cut := range in {
			h, n, err := parseProxyHeader(in[:cut])
			switch {
			case err == nil && h == nil && n <= cut,
				whole != nil && cut < size && (h != nil || err != nil || n > size),
				whole != nil && cut >= size && (n != size || !reflect.DeepEqual(h, whole)):
				t.Fatalf("cut at %d: %+v, %d, %v; whole: %+v, %d", cut, h, n, err, whole, size)
			}
		}
		if whole == nil || err != nil {
			return
		}
		if size > proxyV2Max {
			t.Fatalf("a header of %d octets", size)
		}
		b, err := whole.append(nil)
		if err != nil {
			if errors.Is(err, errProxyTLV) && !whole.Source.IsValid() { // of a Unix socket
				return
			}
			t.Fatalf("%+v: %v", whole, err)
		}
		again, n, err := parseProxyHeader(b)
		if err != nil || n != len(b) || again.Source != whole.Source || again.Destination != whole.Destination || !reflect.DeepEqual(again.TLVs, whole.TLVs) {
			t.Fatalf("%+v became %+v, %v", whole, again, err)
		}
	})
}
