package flare

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

var addrsAccepted = []struct{ in, want string }{
	{"0.0.0.0", "0.0.0.0"},
	{"127.0.0.1", "127.0.0.1"},
	{"255.255.255.255", "255.255.255.255"},
	{"10.20.30.40", "10.20.30.40"},
	{"::", "::"},
	{"::1", "::1"},
	{"1::", "1::"},
	{"2001:db8::1", "2001:db8::1"},
	{"2001:DB8::AbCd", "2001:db8::abcd"},
	{"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"},
	{"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"},
	{"1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"},
	{"::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"},
	{"1:2:3::5:6:7:8", "1:2:3:0:5:6:7:8"},
	{"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
	{"::192.0.2.1", "::c000:201"},
	{"64:ff9b::192.0.2.33", "64:ff9b::c000:221"},
	{"1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"},
	{"fe80::1%eth0", "fe80::1%eth0"},
	{"fe80::1%1", "fe80::1%1"},
	{"febf::1%en0.100_a-~", "febf::1%en0.100_a-~"},
	{"ff02::1%abcdefghijklmno", "ff02::1%abcdefghijklmno"},
}

func TestParseAddrAccepts(t *testing.T) {
	for _, tt := range addrsAccepted {
		got, err := ParseAddr(tt.in)
		if err != nil || got.String() != tt.want || got != netip.MustParseAddr(tt.in) {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
}

var addrsRefused = []struct {
	in     string
	offset int
	rule   string
}{
	{"", 0, "empty address"},
	{" 1.2.3.4", 0, "not of an IPv4"},
	{"1.2.3.4 ", 7, "not of an IPv4"},
	{"1.2.3.4\x00", 7, "not of an IPv4"},
	{"1.2.3.4\r\nX: y", 7, "not of an IPv4"},
	{"1.2.3.4\n", 7, "not of an IPv4"},
	{"a@1.2.3.4", 0, "not of an IPv4"},
	{"1.2.3.4@a", 7, "not of an IPv4"},
	{"1.2.3.4/24", 7, "not of an IPv4"},
	{"1.2.3.4%eth0", 7, "not of an IPv4"},
	{"localhost", 0, "not of an IPv4"},
	{"+1.2.3.4", 0, "not of an IPv4"},
	{"1.-2.3.4", 2, "not of an IPv4"},
	{"0x7f.0.0.1", 1, "not of an IPv4"},
	{"0x7f000001", 1, "not of an IPv4"},
	{"１.2.3.4", 0, "not of an IPv4"}, // a full-width digit
	{"010.0.0.1", 0, "leading zero"},
	{"1.00.0.1", 2, "leading zero"},
	{"1.2.3.04", 6, "leading zero"},
	{"256.0.0.1", 2, "above 255"},
	{"1.2.3.4444", 8, "above 255"},
	{"99999999999999999999.0.0.1", 2, "above 255"},
	{"2130706433", 3, "above 255"},
	{"127.1", 5, "fewer than four"},
	{"127", 3, "fewer than four"},
	{"1.2.3", 5, "fewer than four"},
	{"1.2.3.", 6, "empty IPv4 field"},
	{".1.2.3", 0, "empty IPv4 field"},
	{"1..2.3", 2, "empty IPv4 field"},
	{".", 0, "empty IPv4 field"},
	{"1.2.3.4.", 7, "more than four"},
	{"1.2.3.4.5", 7, "more than four"},
	{":", 0, "group expected"},
	{":1", 0, "group expected"},
	{"1:", 1, "single colon at the end"},
	{":1:2:3:4:5:6:7:8", 0, "group expected"},
	{"1:2:3:4:5:6:7:8:", 15, "single colon at the end"},
	{":::", 2, "group expected"},
	{"1:::2", 3, "group expected"},
	{"1::2::3", 5, "second ::"},
	{"::1::", 4, "second ::"},
	{"1:2:3:4:5:6:7", 13, "fewer than eight"},
	{"1:2:3:4:5:6:7:8:9", 16, "more than eight"},
	{"::1:2:3:4:5:6:7:8", 17, "no group"},
	{"1:2:3:4:5:6:7:8::", 17, "no group"},
	{"12345::", 4, "not followed by a colon"},
	{"g::1", 0, "group expected"},
	{"::g", 2, "group expected"},
	{"::-1", 2, "group expected"},
	{"::0x1", 3, "not followed by a colon"},
	{"::1 ", 3, "not followed by a colon"},
	{"::1\x00", 3, "not followed by a colon"},
	{"::1\r\n", 3, "not followed by a colon"},
	{"::1/64", 3, "not followed by a colon"},
	{"[::1]", 0, "group expected"},
	{"::ffff:1.2.3", 12, "fewer than four"},
	{"::ffff:1.2.3.04", 13, "leading zero"},
	{"::ffff:a.2.3.4", 7, "not of an IPv4"},
	{"::1.2.3.4:5", 9, "not of an IPv4"},
	{"1:2:3:4:5:6:7:1.2.3.4", 14, "more than eight"},
	{"1:2:3:4:5:1.2.3.4", 17, "fewer than eight"},
	{"::1%eth0", 3, "not link-local"},
	{"2001:db8::1%eth0", 11, "not link-local"},
	{"::ffff:169.254.0.1%eth0", 18, "not link-local"},
	{"fe80::1%", 8, "empty zone"},
	{"fe80::1%a b", 9, "not of a zone"},
	{"fe80::1%a\r\nX: y", 9, "not of a zone"},
	{"fe80::1%a\x00", 9, "not of a zone"},
	{"fe80::1%a@b", 9, "not of a zone"},
	{"fe80::1%a%b", 9, "not of a zone"},
	{"fe80::1%a]:80", 9, "not of a zone"},
	{"fe80::1%\u00e9", 8, "not of a zone"},
	{"fe80::1%abcdefghijklmnop", 23, "longer than an interface name"},
	{"%:", 0, "empty address"},
}

// checkRefused checks that an error is the typed one, says where and why, and
// repeats nothing of the input.
func checkRefused(t *testing.T, in string, err error, offset int, rule string) {
	t.Helper()
	var typed *addrError
	if !errors.As(err, &typed) || !errors.Is(err, ErrInvalidAddr) {
		t.Errorf("%q: error %v", in, err)
		return
	}
	if typed.offset != offset || !strings.Contains(typed.rule, rule) || !strings.HasSuffix(err.Error(), typed.rule) {
		t.Errorf("%q: %v, want byte %d: %s", in, err, offset, rule)
	}
}

func TestParseAddrRefuses(t *testing.T) {
	for _, tt := range addrsRefused {
		got, err := ParseAddr(tt.in)
		checkRefused(t, tt.in, err, tt.offset, tt.rule)
		if got.IsValid() {
			t.Errorf("%q: an address beside the error: %v", tt.in, got)
		}
	}
}

func TestParseAddrPort(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"1.2.3.4:0", "1.2.3.4:0"},
		{"1.2.3.4:80", "1.2.3.4:80"},
		{"1.2.3.4:65535", "1.2.3.4:65535"},
		{"[::1]:443", "[::1]:443"},
		{"[2001:DB8::1]:8080", "[2001:db8::1]:8080"},
		{"[::ffff:1.2.3.4]:1", "[::ffff:1.2.3.4]:1"},
		{"[fe80::1%eth0]:1", "[fe80::1%eth0]:1"},
	} {
		got, err := ParseAddrPort(tt.in)
		if err != nil || got.String() != tt.want || got != netip.MustParseAddrPort(tt.in) {
			t.Errorf("%q: %v, %v", tt.in, got, err)
		}
	}
	for _, tt := range []struct {
		in     string
		offset int
		rule   string
	}{
		{"", 0, "empty address"},
		{":80", 0, "empty address"},
		{"1.2.3.4", 7, "missing port"},
		{"1.2.3.4:", 8, "empty port"},
		{"1.2.3.4:-1", 8, "port not decimal"},
		{"1.2.3.4:+1", 8, "port not decimal"},
		{"1.2.3.4: 1", 8, "port not decimal"},
		{"1.2.3.4:1 ", 9, "port not decimal"},
		{"1.2.3.4:80\r\n", 10, "port not decimal"},
		{"1.2.3.4:80\x00", 10, "port not decimal"},
		{"1.2.3.4:80/", 10, "port not decimal"},
		{"1.2.3.4:http", 8, "port not decimal"},
		{"1.2.3.4:0x50", 9, "port not decimal"},
		{"1.2.3.4:080", 8, "leading zero in port"},
		{"1.2.3.4:00", 8, "leading zero in port"},
		{"1.2.3.4:65536", 12, "above 65535"},
		{"1.2.3.4:99999999999999999999999", 12, "above 65535"},
		{"1.2.3.4:80:90", 10, "second colon"},
		{"::1:80", 1, "second colon"},
		{"2001:db8::1:80", 8, "second colon"},
		{"127.1:80", 5, "fewer than four"},
		{"localhost:80", 0, "not of an IPv4"},
		{"a@1.2.3.4:80", 0, "not of an IPv4"},
		{"[1.2.3.4]:80", 8, "fewer than eight"},
		{"[]:80", 1, "empty address"},
		{"[::1", 4, "missing ]"},
		{"[::1:80", 7, "missing ]"},
		{"[::1]", 5, "missing port"},
		{"[::1]80", 5, "not followed by a colon and a port"},
		{"[::1]]:80", 5, "not followed by a colon and a port"},
		{"[[::1]]:80", 1, "group expected"},
		{"[::1]:", 6, "empty port"},
		{"[::1]:065", 6, "leading zero in port"},
		{"::1]:80", 1, "second colon"},
		{" [::1]:80", 3, "second colon"},
		{"[::1%eth0]:80", 4, "not link-local"},
		{"[fe80::1%]:80", 9, "empty zone"},
		{"[fe80::1%a\r\nb]:80", 10, "not of a zone"},
	} {
		got, err := ParseAddrPort(tt.in)
		checkRefused(t, tt.in, err, tt.offset, tt.rule)
		if got.IsValid() {
			t.Errorf("%q: an address beside the error: %v", tt.in, got)
		}
	}
}

// agreesWithNetip reports what ParseAddr must say of a string that netip reads
// as want: the same, except for zones.
func agreesWithNetip(want netip.Addr) bool {
	zone := want.Zone()
	return zone == "" || len(zone) <= zoneBytesMax && !want.Is4In6() &&
		(want.IsLinkLocalUnicast() || want.IsLinkLocalMulticast()) &&
		strings.Trim(zone, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") == ""
}

func FuzzParseAddr(f *testing.F) {
	for _, tt := range addrsAccepted {
		f.Add(tt.in)
	}
	for _, tt := range addrsRefused {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseAddr(s)
		want, netipErr := netip.ParseAddr(s)
		if (err == nil) != (netipErr == nil && agreesWithNetip(want)) {
			t.Fatalf("%q: %v, %v; netip: %v, %v", s, got, err, want, netipErr)
		}
		if err != nil {
			checkAddrError(t, s, err)
			return
		}
		if again, err := ParseAddr(got.String()); got != want || err != nil || again != got {
			t.Fatalf("%q: %v, netip %v, again %v %v", s, got, want, again, err)
		}
	})
}

func FuzzParseAddrPort(f *testing.F) {
	for _, s := range []string{"1.2.3.4:80", "[::1]:65535", "[fe80::1%eth0]:0", "1.2.3.4:080", "[1.2.3.4]:1", "[::1]", "::1:80", "1.2.3.4:+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseAddrPort(s)
		if err != nil {
			checkAddrError(t, s, err)
			// What netip accepts is refused for its zone or its port's form.
			if want, netipErr := netip.ParseAddrPort(s); netipErr == nil && agreesWithNetip(want.Addr()) &&
				strings.HasSuffix(s, want.String()[strings.LastIndexByte(want.String(), ':'):]) {
				t.Fatalf("%q: %v; netip: %v", s, err, want)
			}
			return
		}
		want, netipErr := netip.ParseAddrPort(s)
		if netipErr != nil || got != want {
			t.Fatalf("%q: %v; netip: %v, %v", s, got, want, netipErr)
		}
		if again, err := ParseAddrPort(got.String()); err != nil || again != got {
			t.Fatalf("%q: again %v %v", s, again, err)
		}
	})
}

func checkAddrError(t *testing.T, s string, err error) {
	t.Helper()
	var typed *addrError
	if !errors.As(err, &typed) || typed.offset < 0 || typed.offset > len(s) || typed.rule == "" {
		t.Fatalf("%q: error %#v", s, err)
	}
}

func BenchmarkParseAddrPort(b *testing.B) {
	for _, s := range []string{"192.0.2.17:8080", "[2001:db8:85a3::8a2e:370:7334]:8080"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseAddrPort(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
