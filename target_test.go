package flare

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSplitAuthority(t *testing.T) {
	for _, test := range []struct {
		in, host string
		port     int
		ok       bool
	}{
		{"a", "a", -1, true},
		{"a.b-c_d~e", "a.b-c_d~e", -1, true},
		{"EXAMPLE.test:8080", "EXAMPLE.test", 8080, true},
		{"a:", "a", -1, true}, // RFC 3986 §3.2.3: the port may be empty
		{"a:0", "a", 0, true},
		{"a:65535", "a", 65535, true},
		{"a:00080", "a", 80, true},
		{"127.0.0.1:1", "127.0.0.1", 1, true},
		{"1.2.3", "1.2.3", -1, true}, // a registered name by the grammar
		{"a%41%7a.test:1", "a%41%7a.test", 1, true},
		{"%41", "%41", -1, true},
		{"[::1]", "[::1]", -1, true},
		{"[::1]:443", "[::1]", 443, true},
		{"[2001:DB8::10.0.0.1]", "[2001:DB8::10.0.0.1]", -1, true},

		{"", "", -1, false},
		{":80", "", -1, false},
		{"a:65536", "", -1, false},
		{"a:000080", "", -1, false},
		{"a:-1", "", -1, false},
		{"a:+1", "", -1, false},
		{"a:http", "", -1, false},
		{"a:80:80", "", -1, false},
		{"a:8 0", "", -1, false},
		{"a b", "", -1, false},
		{"a/b", "", -1, false},
		{"a?b", "", -1, false},
		{"a#b", "", -1, false},
		{"a\\b", "", -1, false},
		{"u@a", "", -1, false},
		{"u:p@a", "", -1, false},
		{"a\x00", "", -1, false},
		{"\xc3\xa9", "", -1, false},
		{"a%", "", -1, false},
		{"a%4", "", -1, false},
		{"a%zz", "", -1, false},
		{"a[", "", -1, false},
		{"::1", "", -1, false},
		{"[", "", -1, false},
		{"[]", "", -1, false},
		{"[::1", "", -1, false},
		{"[::1]a", "", -1, false},
		{"[::1]:x", "", -1, false},
		{"[127.0.0.1]", "", -1, false},
		{"[v1.a]", "", -1, false},
		{"[fe80::1%25eth0]", "", -1, false},
		{"[fe80::1%eth0]", "", -1, false},
	} {
		host, port, ok := splitAuthority([]byte(test.in))
		if ok != test.ok || ok && (string(host) != test.host || port != test.port) {
			t.Errorf("%q: %q %d %t, want %q %d %t", test.in, host, port, ok, test.host, test.port, test.ok)
		}
		// The same as a Host, an absolute form, and a target of CONNECT.
		for _, in := range []string{
			"GET / HTTP/1.1\r\nHost: " + test.in + "\r\n\r\n",
			"GET http://" + test.in + "/ HTTP/1.1\r\nHost: a\r\n\r\n",
			"CONNECT " + test.in + " HTTP/1.1\r\nHost: a\r\n\r\n",
		} {
			want := test.ok
			switch {
			case strings.HasPrefix(in, "CONNECT"):
				want = want && port >= 0
			case strings.HasPrefix(in, "GET /"):
				want = want || test.in == "" // an empty Host is valid
			case test.in == "a/b" || test.in == "a?b":
				want = true // host a
			}
			var h requestHead
			h.reset()
			n, err := h.parse([]byte(in), &benchLimits)
			if (err == nil) != want {
				t.Errorf("%q: %v, want accepted %t", in, err, want)
			}
			if err == nil && test.ok && string(h.host.of([]byte(in[:n]))) != test.in {
				t.Errorf("%q: host %q", in, h.host.of([]byte(in[:n])))
			}
		}
	}
}

// ipv6Seeds are literals with a trap each, valid and not.
var ipv6Seeds = []string{
	"::", "::1", "1::", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1::3:4:5:6:7:8",
	"1:2:3:4:5:6:1.2.3.4", "::1.2.3.4", "::ffff:255.255.255.255", "1:2:3:4:5::1.2.3.4",
	"FFFF:abcd::0", "0000::", "",
	":", ":::", "1:", ":1", "1:2", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "::1::", "1::2::3", "12345::",
	"1:2:3:4:5:6:7:1.2.3.4", "1.2.3.4", "::1.2.3", "::1.2.3.4.5", "::1.2.3.256", "::01.2.3.4", "::1.2.3.4:5",
	"::1.2.3.", "::1.2.3a4", "::1.2", "::1..2.3", "::1.2.3.0256", "g::", "::%1", "1:2:3:4:5:6:7:8:", "::1:2:3:4:5:6:7:8", "1:2:3:4:5:6::1.2.3.4",
}

// checkIPv6 compares with net/netip. It takes a zone, which a URI has none of,
// and "::" in place of one group, as RFC 4291 does and isIPv6 does.
func checkIPv6(t *testing.T, s string) {
	addr, err := netip.ParseAddr(s)
	want := err == nil && addr.Is6() && addr.Zone() == "" && !strings.Contains(s, "%")
	if got := isIPv6([]byte(s)); got != want {
		t.Errorf("isIPv6(%q) = %t, netip says %t (%v)", s, got, want, err)
	}
}

func TestIsIPv6(t *testing.T) {
	for _, s := range ipv6Seeds {
		checkIPv6(t, s)
	}
}

func FuzzIPv6(f *testing.F) {
	for _, s := range ipv6Seeds {
		f.Add(s)
	}
	f.Fuzz(checkIPv6)
}
