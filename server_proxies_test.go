package flare

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// whoIs answers with who the client is.
func whoIs(w *ResponseWriter, r *Request) error {
	return w.Text(200, fmt.Sprintf("%s %s %s", r.ClientAddr(), r.Scheme(), r.ClientHost()))
}

// What is believed of what proxies say: the peer of each row is 127.0.0.1.
func TestForwardedSpoofing(t *testing.T) {
	t.Parallel()
	const (
		none    = "invalid AddrPort http h"
		peer    = "127.0.0.1:PORT http h" // the peer itself
		private = "loopback,10.0.0.0/8,fd00::/8"
	)
	hops := func(n int) string { return strings.Repeat("10.0.0.1, ", n) }
	for _, row := range []struct{ name, trusted, fields, want string }{
		{"nothing", private, "", peer},
		{"nobody is trusted", "", "X-Forwarded-For: 192.0.2.1\nForwarded: for=192.0.2.1;proto=https;host=x\nX-Forwarded-Proto: https\nX-Forwarded-Host: x", peer},
		{"not this peer", "10.0.0.0/8,private,unix", "X-Forwarded-For: 192.0.2.1\nForwarded: for=192.0.2.1;proto=https;host=x", peer},

		{"one proxy", private, "X-Forwarded-For: 192.0.2.1", "192.0.2.1:0 http h"},
		{"one address is trusted", "127.0.0.1", "X-Forwarded-For: 192.0.2.1", "192.0.2.1:0 http h"},
		{"one mapped address is", "::ffff:127.0.0.1", "X-Forwarded-For: 192.0.2.1", "192.0.2.1:0 http h"},
		{"a mapped prefix is", "::ffff:127.0.0.0/104", "X-Forwarded-For: 192.0.2.1", "192.0.2.1:0 http h"},
		{"the client invents one", private, "X-Forwarded-For: 198.51.100.9, 192.0.2.1", "192.0.2.1:0 http h"},
		{"the client invents a proxy of ours", private, "X-Forwarded-For: 198.51.100.9, 10.0.0.9, 192.0.2.1", "192.0.2.1:0 http h"},
		{"two proxies", private, "X-Forwarded-For: 192.0.2.1, 10.0.0.2", "192.0.2.1:0 http h"},
		{"two proxies, and an invention", private, "X-Forwarded-For: 198.51.100.9, 192.0.2.1, 10.0.0.2", "192.0.2.1:0 http h"},
		{"the invention last but one", private, "X-Forwarded-For: 10.0.0.2, 198.51.100.9, 10.0.0.3", "198.51.100.9:0 http h"},
		{"all are ours", private, "X-Forwarded-For: 10.0.0.3, 10.0.0.2", "10.0.0.3:0 http h"},
		{"lines are a list", private, "X-Forwarded-For: 198.51.100.9\nX-Forwarded-For: 192.0.2.1\nX-Forwarded-For: 10.0.0.2", "192.0.2.1:0 http h"},
		{"empty members", private, "X-Forwarded-For: , 192.0.2.1 ,, 10.0.0.2,\nX-Forwarded-For:", "192.0.2.1:0 http h"},
		{"name in any case", private, "x-forwarded-FOR: 192.0.2.1", "192.0.2.1:0 http h"},

		{"port", private, "X-Forwarded-For: 192.0.2.1:8080", "192.0.2.1:8080 http h"},
		{"IPv6", private, "X-Forwarded-For: 2001:db8::1", "[2001:db8::1]:0 http h"},
		{"IPv6 in brackets", private, "X-Forwarded-For: [2001:db8::1]", "[2001:db8::1]:0 http h"},
		{"IPv6 with a port", private, "X-Forwarded-For: [2001:db8::1]:443", "[2001:db8::1]:443 http h"},
		{"IPv6 behind a proxy of ours", private, "X-Forwarded-For: 2001:db8::1, fd00::2", "[2001:db8::1]:0 http h"},
		{"mapped", private, "X-Forwarded-For: 192.0.2.1, ::ffff:10.0.0.2", "192.0.2.1:0 http h"},
		{"unknown", private, "X-Forwarded-For: 192.0.2.1, unknown", none},
		{"octal", private, "X-Forwarded-For: 192.0.2.01", none},
		{"a number", private, "X-Forwarded-For: 3221225985", none},
		{"port too high", private, "X-Forwarded-For: 192.0.2.1:65536", none},
		{"port empty", private, "X-Forwarded-For: 192.0.2.1:", none},
		{"bracket open", private, "X-Forwarded-For: [2001:db8::1", none},
		{"IPv4 in brackets", private, "X-Forwarded-For: [192.0.2.1]", none},
		{"a name", private, "X-Forwarded-For: localhost", none},
		{"garbage before", private, "X-Forwarded-For: ???, 192.0.2.1", "192.0.2.1:0 http h"},
		{"as many as may be", private, "X-Forwarded-For: 192.0.2.1, " + hops(62) + "10.0.0.1", "192.0.2.1:0 http h"},
		{"too many", private, "X-Forwarded-For: 192.0.2.1, " + hops(63) + "10.0.0.1", none},

		{"Forwarded", private, "Forwarded: for=192.0.2.1;proto=https;host=example.com;by=10.0.0.1", "192.0.2.1:0 https example.com"},
		{"in another order", private, "Forwarded: host=example.com;by=_x;PROTO=HTTPS;For=192.0.2.1", "192.0.2.1:0 https example.com"},
		{"quoted", private, `Forwarded: for="192.0.2.1:80";proto="https";host="example.com:8443"`, "192.0.2.1:80 https example.com:8443"},
		{"escaped", private, `Forwarded: for="19\2.0.2.1"`, "192.0.2.1:0 http h"},
		{"IPv6", private, `Forwarded: for="[2001:db8::1]:443"`, "[2001:db8::1]:443 http h"},
		{"without quotation marks", private, `Forwarded: for=[2001:db8::1]:443`, "[2001:db8::1]:443 http h"},
		{"white space", private, "Forwarded:  for=192.0.2.1 ; proto=https ,  for=10.0.0.2\t", "192.0.2.1:0 https h"},
		{"lines", private, "Forwarded: for=192.0.2.1;proto=https\nForwarded: for=10.0.0.2;proto=http", "192.0.2.1:0 https h"},
		{"the proxy of ours says http", private, "Forwarded: for=198.51.100.9;proto=https, for=192.0.2.1;proto=http", "192.0.2.1:0 http h"},
		{"a hidden client", private, "Forwarded: for=198.51.100.9, for=_hidden", none},
		{"unknown", private, "Forwarded: for=unknown;proto=https", "invalid AddrPort https h"},
		{"a hidden port", private, `Forwarded: for="192.0.2.1:_gate"`, "192.0.2.1:0 http h"},
		{"a hidden proxy before", private, "Forwarded: for=_x, for=192.0.2.1, for=10.0.0.2", "192.0.2.1:0 http h"},
		{"no client", private, "Forwarded: proto=https", "invalid AddrPort https h"},
		{"twice", private, "Forwarded: for=198.51.100.9;for=192.0.2.1", none},
		{"a quotation mark in front", private, `Forwarded: for=198.51.100.9;x=", for=192.0.2.1`, none},
		{"one in front of quotation marks", private, `Forwarded: for=198.51.100.9;x=", for="192.0.2.1"`, none},
		{"one in front of a line", private, "Forwarded: for=198.51.100.9;x=\"\nForwarded: for=192.0.2.1", "192.0.2.1:0 http h"},
		{"a backslash in front", private, `Forwarded: for=198.51.100.9;x="\, for="192.0.2.1"`, none},
		{"garbage before", private, "Forwarded: =, ;;, for, for=192.0.2.1", "192.0.2.1:0 http h"},
		{"unknown parameters", private, `Forwarded: for=192.0.2.1;secret="a,b;c=\"d"`, "192.0.2.1:0 http h"},

		{"both agree", private, "Forwarded: for=192.0.2.1\nX-Forwarded-For: 192.0.2.1:99", "192.0.2.1:99 http h"},
		{"the client adds the other", private, "Forwarded: for=10.0.0.5\nX-Forwarded-For: 192.0.2.1", none},
		{"and the other way round", private, "X-Forwarded-For: 10.0.0.5\nForwarded: for=192.0.2.1", none},
		{"they differ on the scheme", private, "Forwarded: for=192.0.2.1;proto=https\nX-Forwarded-Proto: http", "192.0.2.1:0 http h"},
		{"they differ on the host", private, "Forwarded: for=192.0.2.1;host=a\nX-Forwarded-Host: b", "192.0.2.1:0 http h"},

		{"scheme and host", private, "X-Forwarded-For: 192.0.2.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: example.com", "192.0.2.1:0 https example.com"},
		{"without a client", private, "X-Forwarded-Proto: HTTPS\nX-Forwarded-Host: [2001:db8::1]:80", "127.0.0.1:PORT https [2001:db8::1]:80"},
		{"a WebSocket's", private, "X-Forwarded-Proto: wss", "127.0.0.1:PORT https h"},
		{"another scheme", private, "X-Forwarded-Proto: gopher", peer},
		{"no host", private, "X-Forwarded-Host: a b", peer},
		{"host with a path", private, "X-Forwarded-Host: example.com/x", peer},
		{"the client invents a scheme", private, "X-Forwarded-For: 198.51.100.9, 192.0.2.1\nX-Forwarded-Proto: https, http", "192.0.2.1:0 http h"},
		{"each proxy adds one", private, "X-Forwarded-For: 192.0.2.1, 10.0.0.2\nX-Forwarded-Proto: https, http", "192.0.2.1:0 https h"},
		{"each adds one, in lines", private, "X-Forwarded-For: 192.0.2.1, 10.0.0.2\nX-Forwarded-Proto: gopher\nX-Forwarded-Proto: https\nX-Forwarded-Proto: http", "192.0.2.1:0 https h"},
		{"the inner one keeps it", private, "X-Forwarded-For: 192.0.2.1, 10.0.0.2\nX-Forwarded-Proto: https", "192.0.2.1:0 https h"},
	} {
		var trusted []string
		if row.trusted != "" {
			trusted = strings.Split(row.trusted, ",")
		}
		c := dialRaw(t, startServer(t, &Server{Handler: HandlerFunc(whoIs), TrustedProxies: trusted}))
		fields := ""
		for line := range strings.SplitSeq(row.fields, "\n") {
			if line != "" {
				fields += line + "\r\n"
			}
		}
		c.send("GET / HTTP/1.1\r\nHost: h\r\n", fields, "\r\n")
		_, port, _ := strings.Cut(c.LocalAddr().String(), ":")
		want := strings.Replace(row.want, "PORT", port, 1)
		if got := c.answer("GET").body; got != want {
			t.Errorf("%s: got %s, want %s; trusted %v, fields %q", row.name, got, want, trusted, row.fields)
		}
		c.Close()
	}
}

// A field that is folded is no way to be believed: such a request is refused.
func TestForwardedFolded(t *testing.T) {
	c := dialRaw(t, startServer(t, &Server{Handler: HandlerFunc(whoIs), TrustedProxies: []string{"loopback"}, Logger: quietLogger()}))
	c.send("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1,\r\n 10.0.0.1\r\n\r\n")
	if got := c.answer("GET").StatusCode; got != 400 {
		t.Errorf("status %d", got)
	}
}

// Peers without an address are believed only where "unix" is said, and the peer of
// a request that net/http's server has received is what that server says.
func TestTrustedPeers(t *testing.T) {
	ask := func(client *http.Client, url string) string {
		t.Helper()
		req, _ := http.NewRequest("GET", url, nil)
		req.Header.Set("X-Forwarded-For", "192.0.2.1")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		a, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(a))[0]
	}
	for trusted, want := range map[string]string{"unix": "192.0.2.1:0", "private": "invalid"} {
		s := &Server{Handler: HandlerFunc(whoIs), TrustedProxies: []string{trusted}}
		if got := ask(TestClient(t, s), "http://h/"); got != want {
			t.Errorf("in memory, %s is trusted: %s, want %s", trusted, got, want)
		}
	}
	for trusted, believed := range map[string]bool{"loopback": true, "private": false, "nonsense": false} {
		var log logBook
		carried := httptest.NewServer(&Server{Handler: HandlerFunc(whoIs), TrustedProxies: []string{trusted}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if got := ask(carried.Client(), carried.URL); (got == "192.0.2.1:0") != believed {
			t.Errorf("below net/http, %s is trusted: %s", trusted, got)
		}
		carried.Close()
		if bad := strings.Contains(log.String(), "no proxy is trusted"); bad != (trusted == "nonsense") {
			t.Errorf("%s: log %q", trusted, log.String())
		}
	}
	for _, entry := range []string{"", "Loopback", "10.0.0.0/33", "10.0.0", "fe80::1%eth0", "example.com"} {
		if err := (&Server{Addr: "127.0.0.1:0", TrustedProxies: []string{"private", entry}}).ListenAndServe(); err == nil || !strings.Contains(err.Error(), "entry 1 ") {
			t.Errorf("with %q in TrustedProxies Serve returns %v", entry, err)
		}
	}
}

// The client of a clone is that of the request, also when the server is gone.
func TestForwardedClone(t *testing.T) {
	kept := make(chan *Request, 1)
	s := &Server{TrustedProxies: []string{"unix"}, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		kept <- r.Clone()
		return nil
	})}
	req, _ := http.NewRequest("GET", "http://h/", nil)
	req.Header.Set("Forwarded", "for=192.0.2.1;proto=https;host=example.com")
	resp, err := TestClient(t, s).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	r := <-kept
	if r.ClientAddr() != netip.MustParseAddrPort("192.0.2.1:0") || r.Scheme() != "https" || r.ClientHost() != "example.com" {
		t.Errorf("%v %s %s", r.ClientAddr(), r.Scheme(), r.ClientHost())
	}
}

// A page that a proxy serves under its own name may open a WebSocket, whatever name
// the proxy knows the server by.
func TestForwardedOrigin(t *testing.T) {
	for trusted, want := range map[string]int{"loopback": 101, "private": 403} {
		s := &Server{TrustedProxies: []string{trusted}, Logger: quietLogger(), Handler: &WebSocketHandler{}}
		c := dialRaw(t, startServer(t, s))
		c.send("GET / HTTP/1.1\r\nHost: inside\r\nOrigin: https://example.com\r\nX-Forwarded-Host: example.com\r\n" +
			"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		if got := c.answer("GET").StatusCode; got != want {
			t.Errorf("%s is trusted: status %d, want %d", trusted, got, want)
		}
	}
}

// Lists in every order of what can be in them, in any number of lines, are walked as
// one would by hand: from the right, over all that are trusted.
func TestForwardedOrders(t *testing.T) {
	type hop struct {
		text, quoted string
		addr         string // "": none
		trusted      bool
	}
	kinds := []hop{
		{"10.0.0.1", "10.0.0.1", "10.0.0.1", true},
		{"fd00::1", `"[fd00::1]"`, "fd00::1", true},
		{"192.0.2.1", `"192.0.2.1"`, "192.0.2.1", false},
		{"[2001:db8::1]:4711", `"[2001:db8::1]:4711"`, "2001:db8::1", false},
		{"unknown", "unknown", "", false},
		{"_hidden", "_hidden", "", false},
		{"1.2.3", `"1.2.3"`, "", false},
	}
	trust, err := parseTrust([]string{"10.0.0.0/8", "fd00::/8"})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		var hops []hop
		for range 1 + random.IntN(6) {
			hops = append(hops, kinds[random.IntN(len(kinds))])
		}
		at := len(hops) - 1
		for at > 0 && hops[at].trusted {
			at--
		}
		want := hops[at].addr
		for _, name := range []string{"Forwarded", "X-Forwarded-For"} {
			r := &newUserRequest().lease.x.r
			r.origin = &requestOrigin{peer: netip.MustParseAddrPort("10.9.9.9:1"), proxies: trust}
			line := ""
			for i, h := range hops {
				if name == "Forwarded" {
					line += []string{"for=", "host=x;For=", "proto=http;for="}[random.IntN(3)] + h.quoted
				} else {
					line += h.text
				}
				if i == len(hops)-1 || random.IntN(3) == 0 {
					r.header.Add(name, line)
					line = ""
				} else {
					line += []string{",", ", ", " , ,"}[random.IntN(3)]
				}
			}
			r.filled = true
			got := ""
			if a := r.ClientAddr(); a.IsValid() {
				got = a.Addr().String()
			}
			if got != want {
				t.Fatalf("%v: got %q, want %q", r.header.list, got, want)
			}
		}
	}
}

// Whatever a client puts into Forwarded, behind what a proxy adds to it there is the
// address that the proxy has added, or none. And an element tells the same if it is
// written out again.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		"", ",", "for=1.2.3.4", `for="[::1]:80";proto=https;host="a\"b"`, `x="`, `x="\`, `for=_a, for=unknown`, "=", ";;", `a"b`, `for="1.2.3.4" x`,
	} {
		f.Add(s)
	}
	hops := func(list string) (all []forwardedHop) {
		for more := true; more; {
			before := len(list)
			var hop forwardedHop
			hop, list, more = nextForwarded(list)
			if all = append(all, hop); more && len(list) >= before {
				panic("no progress")
			}
		}
		return all
	}
	f.Fuzz(func(t *testing.T, list string) {
		ours := netip.MustParseAddrPort("192.0.2.1:0")
		for _, added := range []string{"for=192.0.2.1", `for="192.0.2.1"`, `proto=https;for="192.0.2.1";host=h`} {
			all := hops(list + ", " + added)
			if last := all[len(all)-1]; last.client != ours && (last != forwardedHop{}) {
				t.Errorf("%q and %q: the last hop is %+v", list, added, last)
			}
		}
		for _, hop := range hops(list) {
			if !hop.client.IsValid() {
				continue
			}
			text := fmt.Sprintf(`for="%s"`, hop.client)
			if again := hops(text); len(again) != 1 || again[0].client != hop.client {
				t.Errorf("%q: %v becomes %v", list, hop, again)
			}
		}
	})
}
