package flare

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// jarEpoch is the present of the tests' jars.
var jarEpoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A jarTest is a jar with a clock that the test sets.
type jarTest struct {
	*Jar
	t   testing.TB
	now time.Time
}

func newJarTest(t testing.TB) *jarTest {
	j := &jarTest{Jar: &Jar{PublicSuffixList: jarSuffixes{}}, t: t, now: jarEpoch}
	j.Now = func() time.Time { return j.now }
	return j
}

func (j *jarTest) url(s string) *url.URL {
	j.t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		j.t.Fatal(err)
	}
	return u
}

// set gives the jar a Set-Cookie line and wants that error.
func (j *jarTest) set(from, line string, want error) {
	j.t.Helper()
	c, err := ParseSetCookie(line)
	if err == nil {
		err = j.Set(j.url(from), c)
	}
	if !errors.Is(err, want) {
		j.t.Errorf("%s sets %.60q: %v, want %v", from, line, err, want)
	}
}

func (j *jarTest) want(to, want string) {
	j.t.Helper()
	if got := j.CookieHeader(j.url(to)); got != want {
		j.t.Errorf("to %s: %.200q, want %.200q", to, got, want)
	}
}

// jarSuffixes is a public suffix list of a few names.
type jarSuffixes struct{}

func (jarSuffixes) String() string { return "test" }

func (jarSuffixes) PublicSuffix(domain string) string {
	for _, suffix := range []string{"co.uk", "github.io"} {
		if domain == suffix || isSubdomain(domain, suffix) {
			return suffix
		}
	}
	return domain[strings.LastIndexByte(domain, '.')+1:]
}

// jarFixtureExceptions are the cases that RFC 6265bis decides otherwise than
// RFC 6265, for which they were made.
var jarFixtureExceptions = map[string]struct{ want, reason string }{
	"name0017": {"a=bar", "§5.6: a cookie may have no name; it is sent as its value"},
	"name0023": {"foo", "§5.6: without = all is the value of a cookie without a name"},
	"name0025": {"==a=bar", "§5.6: a cookie may have no name"},
	"name0028": {"a", "§5.6: a cookie may have no name"},
	"name0031": {`"foo`, "§5.6: without = all is the value, quotes included"},
	"name0032": {`"foo\"bar`, "§5.6: without = all is the value, quotes included"},
	"name0033": {"aaa", "§5.7: two cookies without a name are one"},
}

func TestJarFixtures(t *testing.T) {
	var file struct {
		Cases []struct {
			Test      string
			SetBy     string   `json:"set_by"`
			SetCookie []string `json:"set_cookie"`
			ThenGet   string   `json:"then_get"`
			Cookie    *string
		}
	}
	cookieFixture(t, "http-state-cookies.json", &file)
	if len(file.Cases) == 0 {
		t.Fatal("no cases")
	}
	used := 0
	for _, c := range file.Cases {
		t.Run(c.Test, func(t *testing.T) {
			j := newJarTest(t)
			var h Header
			for _, line := range c.SetCookie {
				octets, ok := textOctets(line)
				if !ok {
					t.Fatalf("%q has a character above U+00FF", line)
				}
				h.Add("set-cookie", octets)
			}
			from := j.url(c.SetBy)
			j.SetFromHeader(from, &h)
			want := ""
			if c.Cookie != nil {
				want = *c.Cookie
			}
			if e, ok := jarFixtureExceptions[c.Test]; ok {
				if used++; e.want == want {
					t.Error("is no exception")
				}
				want = e.want
			}
			j.want("http://"+from.Host+c.ThenGet, want)
		})
	}
	if used != len(jarFixtureExceptions) {
		t.Errorf("%d of %d exceptions met", used, len(jarFixtureExceptions))
	}
}

func TestJarScope(t *testing.T) {
	const home = "https://www.example.com/dir/page"
	for _, c := range []struct {
		from, line string
		err        error
		sent, kept []string // URLs that get it and that do not
	}{
		{from: home, line: "a=1",
			sent: []string{"https://www.example.com/dir", "https://WWW.example.com./dir/x?q", "https://www.example.com:8443/dir/", "http://www.example.com/dir", "wss://www.example.com/dir"},
			kept: []string{"https://www.example.com/", "https://www.example.com/dirx", "https://www.example.com/DIR", "https://example.com/dir", "https://x.www.example.com/dir", "ftp://www.example.com/dir"}},
		{from: home, line: "a=1; Domain=example.com; Path=/",
			sent: []string{"https://example.com", "https://www.example.com/", "https://a.b.example.com/x"},
			kept: []string{"https://notexample.com/", "https://com/", "https://example.com.evil.test/"}},
		{from: home, line: "a=1; Domain=.WWW.Example.COM; Path=/", sent: []string{"https://www.example.com/", "https://x.www.example.com/"}, kept: []string{"https://example.com/"}},
		{from: home, line: "a=1; Path=/%64ir", kept: []string{home, "https://www.example.com/dir"}, sent: []string{"https://www.example.com/%64ir"}},
		{from: home, line: "a=1; Domain=other.com", err: errJarDomain},
		{from: home, line: "a=1; Domain=x.www.example.com", err: errJarDomain},
		{from: home, line: "a=1; Domain=ample.com", err: errJarDomain},
		{from: home, line: "a=1; Domain=..example.com", err: errJarDomain},
		{from: home, line: "a=1; Domain=example.com.", err: errJarDomain},
		{from: home, line: "a=1; Domain=com", err: errJarPublicSuffix},
		{from: home, line: "a=1; Domain=ex\u00e4mple.com", err: errJarDomainNoASCII},
		{from: "https://x.co.uk/", line: "a=1; Domain=co.uk", err: errJarPublicSuffix},
		{from: "https://co.uk/", line: "a=1; Domain=co.uk", sent: []string{"https://co.uk/"}, kept: []string{"https://x.co.uk/"}},
		{from: "https://me.github.io/", line: "a=1; Domain=me.github.io", sent: []string{"https://x.me.github.io/"}, kept: []string{"https://you.github.io/"}},
		{from: "https://127.0.0.1/", line: "a=1; Domain=127.0.0.1", sent: []string{"https://127.0.0.1:99/"}, kept: []string{"https://0.0.1/", "https://x.127.0.0.1/"}},
		{from: "https://127.0.0.1/", line: "a=1; Domain=0.0.1", err: errJarDomain},
		{from: "https://[2001:db8::1]/", line: "a=1", sent: []string{"https://[2001:DB8::1]:7/"}, kept: []string{"https://[2001:db8::2]/"}},
		{from: "https://\u00e4.example/", line: "a=1", err: errJarURL},
		{from: "ftp://www.example.com/", line: "a=1", err: errJarURL},
		{from: "https:///", line: "a=1", err: errJarURL},

		// Secure: §5.7 step 13, §5.8.3.
		{from: home, line: "a=1; Path=/; Secure", sent: []string{"https://www.example.com/", "wss://www.example.com/"}, kept: []string{"http://www.example.com/", "ws://www.example.com/"}},
		{from: "http://www.example.com/", line: "a=1; Secure", err: errJarSecure},
		{from: "http://localhost/", line: "a=1; Secure", sent: []string{"http://localhost:8080/", "https://localhost/"}},
		{from: "http://app.localhost/", line: "a=1; Secure", sent: []string{"http://app.localhost/"}},
		{from: "http://127.8.9.1/", line: "a=1; Secure", sent: []string{"http://127.8.9.1/"}},
		{from: "http://[::1]/", line: "a=1; Secure", sent: []string{"http://[::1]/"}},
		{from: "http://notlocalhost/", line: "a=1; Secure", err: errJarSecure},
		{from: "http://127.0.0.1.example.com/", line: "a=1; Secure", err: errJarSecure},

		// SameSite and prefixes: §5.7 steps 19 to 22.
		{from: home, line: "a=1; SameSite=None", err: errJarSameSite},
		{from: home, line: "a=1; SameSite=None; Secure; Path=/", sent: []string{home}},
		{from: home, line: "a=1; SameSite=Strict; Path=/", sent: []string{home}},
		{from: home, line: "__Secure-a=1", err: errCookieSecurePrefix},
		{from: home, line: "__sEcUrE-a=1", err: errCookieSecurePrefix},
		{from: home, line: "__Secure-a=1; Secure; Path=/", sent: []string{home}, kept: []string{"http://www.example.com/"}},
		{from: home, line: "__Host-a=1; Secure", err: errCookieHostPrefix},
		{from: home, line: "__Host-a=1; Secure; Path=/dir", err: errCookieHostPrefix},
		{from: "https://www.example.com/", line: "__Host-a=1; Secure", err: errCookieHostPrefix}, // the path has to be said
		{from: home, line: "__host-a=1; Secure; Path=/; Domain=www.example.com", err: errCookieHostPrefix},
		{from: home, line: "__HOST-a=1; Path=/", err: errCookieHostPrefix},
		{from: home, line: "__Host-a=1; Secure; Path=/", sent: []string{home}},
		{from: home, line: "=__Host-a=1; Secure; Path=/", err: errCookieFalsePrefix},
		{from: home, line: "__SECURE-a; Path=/", err: errCookieFalsePrefix},
		{from: home, line: "=a=1; Path=/", sent: []string{home}},
	} {
		j := newJarTest(t)
		j.set(c.from, c.line, c.err)
		if c.err != nil && j.Len() != 0 {
			t.Errorf("%s sets %q: kept", c.from, c.line)
		}
		for _, u := range c.sent {
			if j.CookieHeader(j.url(u)) == "" {
				t.Errorf("%s sets %q: not sent to %s", c.from, c.line, u)
			}
		}
		for _, u := range c.kept {
			if got := j.CookieHeader(j.url(u)); got != "" {
				t.Errorf("%s sets %q: %q sent to %s", c.from, c.line, got, u)
			}
		}
	}
}

// TestJarWithoutList: no list is no licence for whole top-level domains.
func TestJarWithoutList(t *testing.T) {
	j := newJarTest(t)
	j.PublicSuffixList = nil
	j.set("http://example.com/", "a=1; Domain=com", errJarPublicSuffix)
	j.set("http://localhost/", "a=1; Domain=localhost", nil)
	j.set("http://www.example.com/", "b=1; Domain=example.com", nil)
	j.want("http://localhost/", "a=1")
	j.want("http://x.localhost/", "")
	j.want("http://example.com/", "b=1")
}

func TestJarLifetime(t *testing.T) {
	const u = "http://h/"
	expires := func(after time.Duration) string {
		return "; Expires=" + jarEpoch.Add(after).Format(http.TimeFormat)
	}
	for _, c := range []struct {
		attributes string
		life       time.Duration // 0: not kept, -1: for ever
	}{
		{"", -1},
		{"; Max-Age=10", 10 * time.Second},
		{"; Max-Age=0", 0},
		{"; Max-Age=-1", 0},
		{"; Max-Age=x", -1},
		{expires(time.Minute), time.Minute},
		{expires(0), 0},
		{expires(-time.Second), 0},
		{"; Expires=never", -1},
		{"; Max-Age=10" + expires(time.Minute), 10 * time.Second},
		{expires(-time.Minute) + "; Max-Age=10", 10 * time.Second},
		{expires(time.Minute) + "; Max-Age=0", 0},
		{"; Max-Age=34559999", cookieAgeMax - time.Second},
		{"; Max-Age=34560001", cookieAgeMax},
		{"; Max-Age=99999999999999999999", cookieAgeMax},
		{expires(cookieAgeMax + time.Hour), cookieAgeMax},
		{"; Expires=Fri, 31 Dec 9999 23:59:59 GMT", cookieAgeMax},
	} {
		j := newJarTest(t)
		j.set(u, "a=old", nil)
		j.set(u, "a=1"+c.attributes, nil)
		switch c.life {
		case 0:
			if j.Len() != 0 {
				t.Errorf("%q: kept", c.attributes)
			}
			continue
		case -1:
			j.now = jarEpoch.AddDate(100, 0, 0)
			j.want(u, "a=1")
			continue
		}
		j.now = jarEpoch.Add(c.life - 1)
		j.want(u, "a=1")
		j.now = jarEpoch.Add(c.life)
		if j.Len() != 0 {
			t.Errorf("%q: expired and kept", c.attributes)
		}
		j.want(u, "")
	}
	j := newJarTest(t) // a program's own cookie has no parser before it
	if err := j.Set(j.url(u), &Cookie{Name: "a", Value: "1", MaxAge: math.MaxInt}); err != nil {
		t.Error(err)
	}
	j.now = jarEpoch.Add(cookieAgeMax)
	j.want(u, "")
}

func TestJarOrder(t *testing.T) {
	j := newJarTest(t)
	for i, line := range []string{"a=1; Path=/", "b=2; Path=/x/y", "c=3; Path=/x", "d=4; Path=/x/y; Domain=example.com", "e=5; Path=/"} {
		j.now = jarEpoch.Add(time.Duration(i/2) * time.Second) // pairs of one time
		j.set("http://www.example.com/", line, nil)
	}
	j.want("http://www.example.com/x/y/z", "b=2; d=4; c=3; a=1; e=5")
	j.set("http://www.example.com/", "a=6; Path=/", nil) // keeps the time of its making
	j.want("http://www.example.com/x/y/z", "b=2; d=4; c=3; a=6; e=5")
	j.set("http://www.example.com/", "a=; Path=/; Max-Age=0", nil)
	j.set("http://www.example.com/", "a=7; Path=/", nil)
	j.want("http://www.example.com/", "e=5; a=7")
}

// TestJarKey: name, domain, path and host-only together are a cookie (§5.7,
// step 23).
func TestJarKey(t *testing.T) {
	j := newJarTest(t)
	for _, line := range []string{"a=1", "a=2; Domain=example.com", "a=3; Path=/x", "A=4", "=5", "a=6; HttpOnly"} {
		j.set("https://example.com/", line, nil)
	}
	j.want("https://example.com/x", "a=3; a=6; a=2; A=4; 5")
	if j.Len() != 5 {
		t.Errorf("%d cookies", j.Len())
	}
	j.Clear()
	j.want("https://example.com/x", "")
}

// TestJarSecureStays: whoever is on the way of an insecure connection cannot
// replace or shadow a Secure cookie (§5.7, step 16).
func TestJarSecureStays(t *testing.T) {
	for _, c := range []struct {
		secure, insecureFrom, line string
		err                        error
	}{
		{"a=1; Secure; Path=/", "http://www.example.com/", "a=2; Path=/", errJarSecureStays},
		{"a=1; Secure; Path=/", "http://www.example.com/", "a=2; Path=/x", errJarSecureStays},
		{"a=1; Secure; Path=/x", "http://www.example.com/", "a=2; Path=/", nil},
		{"a=1; Secure; Path=/", "http://www.example.com/", "b=2; Path=/", nil},
		{"a=1; Path=/", "http://www.example.com/", "a=2; Path=/", nil},
		{"a=1; Secure; Path=/", "http://example.com/", "a=2; Path=/; Domain=example.com", errJarSecureStays},
		{"a=1; Secure; Path=/; Domain=example.com", "http://x.example.com/", "a=2; Path=/", errJarSecureStays},
		{"a=1; Secure; Path=/", "http://example.org/", "a=2; Path=/", nil},
		{"a=1; Secure; Path=/", "https://www.example.com/", "a=2; Path=/", nil},
		{"a=1; Secure; Path=/", "http://www.example.com/", "a=; Path=/; Max-Age=0", errJarSecureStays},
	} {
		j := newJarTest(t)
		j.set("https://www.example.com/", c.secure, nil)
		j.set(c.insecureFrom, c.line, c.err)
	}
	j := newJarTest(t)
	j.set("https://h/", "a=1; Secure; Max-Age=5", nil)
	j.now = j.now.Add(5 * time.Second)
	j.set("http://h/", "a=2", nil) // what has expired protects nothing
}

func TestJarDomainBound(t *testing.T) {
	j := newJarTest(t)
	tick := func() { j.now = j.now.Add(time.Second) }
	for i := range jarDomainCookiesMax {
		j.set("https://h/", fmt.Sprintf("c%02d=; Path=/p%02d; Secure", i, i), nil)
		tick()
	}
	j.want("https://h/p00", "c00=") // sent now, so the oldest is another
	tick()
	j.set("https://h/", "last=; Path=/; Secure", nil)
	j.want("https://h/p00", "c00=; last=")
	j.want("https://h/p01", "last=")
	j.want("https://h/p02", "c02=; last=")
	tick()
	j.set("http://h/", "insecure=; Path=/", nil) // goes before what is Secure
	j.want("http://h/", "")
	j.set("https://h/", "c03=; Path=/p03; Max-Age=1; Secure", nil)
	tick()
	j.set("https://h/", "more=; Path=/; Secure", nil) // the expired one makes room
	if j.Len() != jarDomainCookiesMax {
		t.Errorf("%d cookies", j.Len())
	}
	j.want("https://h/p02", "c02=; last=; more=")
}

func TestJarTotalBound(t *testing.T) {
	j := newJarTest(t)
	n := 0
	for host := 0; n < jarCookiesMax; host++ {
		for range jarDomainCookiesMax {
			j.set(fmt.Sprintf("http://h%d/", host), fmt.Sprintf("c%d=", n), nil)
			n++
			j.now = j.now.Add(time.Second)
		}
	}
	j.set("http://h0/", "c1=; Max-Age=60", nil)
	j.set("http://other/", "a=1", nil)
	if j.Len() != jarCookiesMax {
		t.Errorf("%d cookies", j.Len())
	}
	if got := j.CookieHeader(j.url("http://h0/")); !strings.HasPrefix(got, "c1=; c2=;") {
		t.Errorf("the oldest is still there, or more than it is gone: %.40q", got)
	}
	j.now = j.now.Add(time.Minute) // c1 has expired, in a domain that nobody asks for
	j.set("http://other/", "b=1", nil)
	j.set("http://other/", "c=1", nil)
	if got := j.CookieHeader(j.url("http://h1/")); strings.Count(got, ";") != jarDomainCookiesMax-2 {
		t.Errorf("%d of h1's cookies", strings.Count(got, ";")+1)
	}
}

func TestJarForm(t *testing.T) {
	j := newJarTest(t)
	u := j.url("http://h/")
	for _, c := range []*Cookie{
		{}, {Name: "a", Value: "b;c"}, {Name: "a;b"}, {Name: "a=b"}, {Name: "a", Value: "\r\nX: y"}, {Name: "a\x00"},
		{Name: "a", Path: "/\n"}, {Name: "a", Path: "/;"}, {Name: "a", Value: strings.Repeat("x", 4096)},
		{Name: "a", Path: "/" + strings.Repeat("x", 1024)}, {Name: "a", Domain: strings.Repeat("x", 1025)},
	} {
		if err := j.Set(u, c); err == nil {
			t.Errorf("%.60v: kept", c)
		}
	}
	if got := j.CookieHeader(u); got != "" || j.Len() != 0 {
		t.Errorf("%q", got)
	}
}

func TestJarJSON(t *testing.T) {
	j := newJarTest(t)
	j.set("https://www.example.com/x/", "a=1", nil)
	j.set("https://www.example.com/x/", "b=\xff\"\u00e4 2; Domain=example.com; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=60", nil)
	j.set("https://www.example.com/x/", "=nameless; Max-Age=99999999", nil)
	j.set("https://www.example.com/x/", "short=1; Max-Age=1", nil)
	j.set("https://127.0.0.1/", "ip=1", nil)
	j.set("https://co.uk/", "suffix=1", nil)
	j.now = j.now.Add(2 * time.Second)
	text, err := json.Marshal(j.Jar)
	if err != nil {
		t.Fatal(err)
	}
	k := newJarTest(t)
	k.now = j.now
	k.set("http://old/", "gone=1", nil)
	if err := json.Unmarshal(text, k.Jar); err != nil {
		t.Fatal(err)
	}
	if k.Len() != 5 {
		t.Errorf("%d cookies from %s", k.Len(), text)
	}
	for _, u := range []string{"https://www.example.com/x/", "https://example.com/", "http://example.com/", "https://127.0.0.1/", "https://co.uk/", "http://old/"} {
		k.want(u, j.CookieHeader(j.url(u)))
	}
	k.want("http://old/", "")
	again, err := json.Marshal(k.Jar)
	j.want("https://x/", "") // the reads above have made both jars' times equal
	if first, _ := json.Marshal(j.Jar); err != nil || string(again) != string(first) {
		t.Errorf("%v\n%s\n%s", err, first, again)
	}
	k.now = k.now.Add(time.Minute)
	k.want("https://example.com/", "")
}

// TestJarJSONRefused: a file is held to the rules of the wire.
func TestJarJSONRefused(t *testing.T) {
	const good = `{"name":"a","value":"1","domain":"h","hostOnly":true,"path":"/","created":"2026-01-01T00:00:00Z","accessed":"2030-01-01T00:00:00Z"`
	for in, want := range map[string]int{ // cookies; -1: an error
		`{"version":1,"cookies":[` + good + `}]}`: 1,
		`{"version":1,"cookies":[]}`:              0,
		`{"version":2,"cookies":[]}`:              -1,
		`[]`:                                      -1,
		`{"version":1,"cookies":[` + good + `,"name":"\u20ac"}]}`:                       -1,
		`{"version":1,"cookies":[` + good + `,"name":"a;b"}]}`:                          0,
		`{"version":1,"cookies":[` + good + `,"value":"a\r\nX: y"}]}`:                   0,
		`{"version":1,"cookies":[` + good + `,"path":""}]}`:                             0,
		`{"version":1,"cookies":[` + good + `,"path":"x"}]}`:                            0,
		`{"version":1,"cookies":[` + good + `,"domain":""}]}`:                           0,
		`{"version":1,"cookies":[` + good + `,"domain":".h"}]}`:                         0,
		`{"version":1,"cookies":[` + good + `,"domain":"H"}]}`:                          0,
		`{"version":1,"cookies":[` + good + `,"hostOnly":false}]}`:                      0, // a top-level domain
		`{"version":1,"cookies":[` + good + `,"hostOnly":false,"domain":"127.0.0.1"}]}`: 0,
		`{"version":1,"cookies":[` + good + `,"hostOnly":false,"domain":"a.h"}]}`:       1,
		`{"version":1,"cookies":[` + good + `,"sameSite":"None"}]}`:                     0,
		`{"version":1,"cookies":[` + good + `,"name":"__Host-a"}]}`:                     0,
		`{"version":1,"cookies":[` + good + `,"name":"__Host-a","secure":true}]}`:       1,
		`{"version":1,"cookies":[` + good + `,"expires":"2026-01-01T00:00:00Z"}]}`:      0,
		`{"version":1,"cookies":[` + good + `,"expires":"0001-01-01T00:00:00Z"}]}`:      0,
		`{"version":1,"cookies":[` + good + `,"expires":"9999-01-01T00:00:00Z"}]}`:      1,
	} {
		j := newJarTest(t)
		j.set("http://kept/", "a=1", nil)
		err := json.Unmarshal([]byte(in), j.Jar)
		if want < 0 {
			if err == nil {
				t.Errorf("%s: no error", in)
			}
			j.want("http://kept/", "a=1")
			continue
		}
		if err != nil || j.Len() != want {
			t.Errorf("%s: %d cookies, %v, want %d", in, j.Len(), err, want)
		}
		j.now = jarEpoch.Add(cookieAgeMax)
		if strings.Contains(in, "9999") {
			j.want("http://h/", "")
		}
	}
}

func TestJarConcurrent(t *testing.T) {
	j := newJarTest(t)
	u := j.url("http://h/")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var h Header
			h.Add("Set-Cookie", fmt.Sprintf("c%d=%d", g, g))
			for range 200 {
				j.SetFromHeader(u, &h)
				if !strings.Contains(j.CookieHeader(u), h.Get("Set-Cookie")) {
					t.Error("own cookie is missing")
				}
				if _, err := j.MarshalJSON(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if j.Len() != 4 {
		t.Errorf("%d cookies", j.Len())
	}
}

// TestJarOfHTTPClient: a Jar is an http.CookieJar.
func TestJarOfHTTPClient(t *testing.T) {
	client := TestClient(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		for name, value := range r.Cookies() {
			w.WriteString(name + "=" + value + ";")
		}
		w.SetCookie(&Cookie{Name: "quoted", Value: `"1"`})
		w.SetCookie(&Cookie{Name: "dotted", Domain: "example.com", MaxAge: 60})
		w.Header().Add("Set-Cookie", "strict=1; Domain=.example.com; SameSite=Strict")
		return nil
	})})
	var jar http.CookieJar = newJarTest(t).Jar
	client.Jar = jar
	for i, want := range []string{"", `quoted="1";dotted=;strict=1;`} {
		resp, err := client.Get("http://www.example.com/")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != want {
			t.Errorf("%d: %q %v, want %q", i, body, err, want)
		}
	}
}

func BenchmarkJar(b *testing.B) {
	ours := newJarTest(b)
	ours.Now = nil
	theirs, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: jarSuffixes{}})
	if err != nil {
		b.Fatal(err)
	}
	u := ours.url("https://www.example.com/x")
	var h Header
	for i := range 8 {
		h.Add("Set-Cookie", fmt.Sprintf("c%d=0123456789abcdef; Path=/; Max-Age=60", i))
	}
	set := func() {
		theirs.SetCookies(u, (&http.Response{Header: http.Header{"Set-Cookie": h.Values("Set-Cookie")}}).Cookies())
	}
	ours.SetFromHeader(u, &h)
	set()
	b.Run("set8/flare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ours.SetFromHeader(u, &h)
		}
	})
	b.Run("set8/nethttp", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			set()
		}
	})
	b.Run("get8/flare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if ours.CookieHeader(u) == "" {
				b.Fatal("no cookies")
			}
		}
	})
	b.Run("get8/nethttp", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r := http.Request{Header: http.Header{}}
			for _, c := range theirs.Cookies(u) {
				r.AddCookie(c)
			}
		}
	})
}

// A SameSite that means nothing, of the program's own cookie or of net/http's,
// is none.
func TestJarSameSiteOfProgram(t *testing.T) {
	u := &url.URL{Scheme: "https", Host: "example.com"}
	var j Jar
	for i, site := range []http.SameSite{-1, 0, http.SameSiteDefaultMode, 9, 1 << 30} {
		if err := j.Set(u, &Cookie{Name: fmt.Sprintf("own%d", i), SameSite: site}); err != nil {
			t.Errorf("%d: %v", site, err)
		}
		j.SetCookies(u, []*http.Cookie{{Name: fmt.Sprintf("http%d", i), SameSite: site}})
	}
	text, err := j.MarshalJSON()
	if err != nil || j.Len() != 10 || strings.Contains(string(text), "sameSite") {
		t.Errorf("%d cookies, %v: %s", j.Len(), err, text)
	}
}
