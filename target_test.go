package flare

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
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

// TestTargetsThatClientsSend has targets that browsers, curl and Go's client
// send and RFC 3986 has no place for: each reaches its handler as it was sent,
// and a handler of net/http's sees what net/http's own server would show it.
func TestTargetsThatClientsSend(t *testing.T) {
	type seen struct{ target, path, pathValue, rawQuery, q, url string }
	mux := NewMux()
	mux.Get("/name/{name}", func(w *ResponseWriter, r *Request) error {
		return w.JSON(200, []string{r.Target(), r.Path(), r.PathValue("name"), r.URL().RawQuery, r.Query().Get("q"), r.URL().String()})
	})
	mux.Get("/é/", func(w *ResponseWriter, r *Request) error { return w.Text(200, r.Pattern()) })
	mux.Handle("/http/", FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.RequestURI+" "+r.URL.Path+" "+r.URL.RawQuery)
	})))
	addr := startServer(t, &Server{Handler: mux})
	c := dialRaw(t, addr)
	ask := func(target string) answer {
		t.Helper()
		c.send("GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n")
		return c.answer("GET")
	}
	for _, want := range []seen{
		{"/name/a?q=100%", "/name/a", "a", "q=100%", "", "/name/a?q=100%"},
		{"/name/a?q=%u00e9", "/name/a", "a", "q=%u00e9", "", "/name/a?q=%u00e9"},
		{`/name/a?q=C:\Users`, "/name/a", "a", `q=C:\Users`, `C:\Users`, `/name/a?q=C:\Users`},
		{"/name/a?q=é", "/name/a", "a", "q=é", "é", "/name/a?q=é"},
		{"/name/é", "/name/é", "é", "", "", "/name/%C3%A9"},
		{"/name/%C3%A9", "/name/é", "é", "", "", "/name/%C3%A9"},
		{"/name/é%2Fé", "/name/é/é", "é/é", "", "", "/name/%C3%A9%2F%C3%A9"},
	} {
		a := ask(want.target)
		var got []string
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || len(got) != 6 {
			t.Errorf("%q: %d %q", want.target, a.StatusCode, a.body)
			continue
		}
		if got := (seen{got[0], got[1], got[2], got[3], got[4], got[5]}); got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	ask("/é/x").want(t, 200, "GET /é/")
	ask("/%C3%A9/x").want(t, 200, "GET /é/")
	ask(`/http/é?100%\`).want(t, 200, `/http/é?100%\ /http/é 100%\`)

	// Where they go back to the client, they are a URI.
	for target, want := range map[string]string{
		"/é?ü=100%":      "/%C3%A9/?%C3%BC=100%",
		"/x/..//é/b\xff": "/%C3%A9/b%FF",
	} {
		if a := ask(target); a.StatusCode != 307 || a.Header.Get("Location") != want {
			t.Errorf("%q: %d to %q, want %q", target, a.StatusCode, a.Header.Get("Location"), want)
		}
	}
}

// TestRedirectEscapesNonASCII compares Redirect with http.Redirect.
func TestRedirectEscapesNonASCII(t *testing.T) {
	for _, location := range []string{"/é", "/a%20b?q=ü#\xff", "https://h/日本?a|b", "/plain?a=b"} {
		theirs := httptest.NewRecorder()
		http.Redirect(theirs, httptest.NewRequest("GET", "/", nil), location, http.StatusFound)
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		client.Transport = TestClient(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			return w.Redirect(http.StatusFound, location)
		})}).Transport
		resp, err := client.Get("http://h/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got, want := resp.Header.Get("Location"), theirs.Header().Get("Location"); !strings.EqualFold(got, want) || !isASCII(got) {
			t.Errorf("%q: Location %q, http.Redirect's is %q", location, got, want)
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
