package flare

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func cookieFixture(t *testing.T, name string, v any) {
	t.Helper()
	folder := os.Getenv("FLARE_FIXTURES")
	if folder == "" {
		t.Skip("FLARE_FIXTURES does not name the folder with the fixtures of other projects")
	}
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "//") { // a licence above the JSON
			kept = append(kept, line)
		}
	}
	if err := json.Unmarshal([]byte(strings.Join(kept, "")), v); err != nil {
		t.Fatal(err)
	}
}

func TestCookieDateFixtures(t *testing.T) {
	for _, file := range []string{"http-state-dates-examples.json", "http-state-dates-bsd-examples.json"} {
		var cases []struct {
			Test     string
			Expected *string
		}
		cookieFixture(t, file, &cases)
		if len(cases) == 0 {
			t.Errorf("%s: no cases", file)
		}
		for _, c := range cases {
			got, ok := parseCookieDate(c.Test)
			switch {
			case c.Expected == nil && ok:
				t.Errorf("%s: %q: got %v, want no date", file, c.Test, got)
			case c.Expected != nil && (!ok || got.Format(http.TimeFormat) != *c.Expected):
				t.Errorf("%s: %q: got %v %v, want %s", file, c.Test, got, ok, *c.Expected)
			}
		}
	}
}

func TestCookieDate(t *testing.T) {
	const sunday = "1994-11-06 08:49:37"
	for _, c := range []struct{ in, want string }{
		{"Sun, 06 Nov 1994 08:49:37 GMT", sunday},
		{"Sunday, 06-Nov-94 08:49:37 GMT", sunday},
		{"Sun Nov  6 08:49:37 1994", sunday},
		{"08:49:37 6 November 1994", sunday},
		{"1994 08:49:37 06 nOvX", sunday}, // 1994 is no day
		{"6 Nov 1994 8:49:37", sunday},
		{"6th Nov 1994 8:49:37pm", sunday},
		{"6 Nov 69 08:49:37", "2069-11-06 08:49:37"},
		{"6 Nov 70 08:49:37", "1970-11-06 08:49:37"},
		{"29 Feb 2024 00:00:00", "2024-02-29 00:00:00"},
		{"29 Feb 2023 00:00:00", ""},
		{"31 Apr 2024 00:00:00", ""},
		{"0 Apr 2024 00:00:00", ""},
		{"32 Apr 2024 00:00:00", ""},
		{"1 Jan 1600 00:00:00", ""},
		{"1 Jan 1601 00:00:00", "1601-01-01 00:00:00"},
		{"1 Jan 160 00:00:00", ""},
		{"1 Jan 16010 00:00:00", ""},
		{"1 Jan 2024 24:00:00", ""},
		{"1 Jan 2024 00:60:00", ""},
		{"1 Jan 2024 00:00:60", ""},
		{"1 Jan 2024 00:00", ""},
		{"1 Jan 2024 0:0:0:0", "2024-01-01 00:00:00"},
		{"1 Jan 2024 000:00:00", ""},
		{"1 Ja 2024 00:00:00", ""},
		{"1 anf 2024 00:00:00", ""},
		{"Jan 2024 00:00:00", ""},
		{"1 2024 00:00:00", ""},
		{"1 Jan 00:00:00", ""},
		{"", ""},
	} {
		got := ""
		if d, ok := parseCookieDate(c.in); ok {
			got = d.Format("2006-01-02 15:04:05")
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

func TestParseSetCookie(t *testing.T) {
	expires := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		in   string
		want Cookie
	}{
		{"a=b", Cookie{Name: "a", Value: "b"}},
		{" \ta \t= \tb c\t ", Cookie{Name: "a", Value: "b c"}},
		{"a=", Cookie{Name: "a"}},
		{"=b", Cookie{Value: "b"}},
		{"b", Cookie{Value: "b"}},
		{"=a=b", Cookie{Value: "a=b"}},
		{"a=b=c", Cookie{Name: "a", Value: "b=c"}},
		{`a="b"`, Cookie{Name: "a", Value: `"b"`}},
		{`a="b;c"`, Cookie{Name: "a", Value: `"b`}},
		{"a%3db=%3bc; Path=/%2f; Domain=%61.example", Cookie{Name: "a%3db", Value: "%3bc", Path: "/%2f", Domain: "%61.example"}}, // nothing is decoded
		{"a=\xff\xc3", Cookie{Name: "a", Value: "\xff\xc3"}},
		{"a=b;", Cookie{Name: "a", Value: "b"}},
		{"a=b;;;", Cookie{Name: "a", Value: "b"}},
		{"a=b; secure; HTTPONLY; pArtitioned=x", Cookie{Name: "a", Value: "b", Secure: true, HttpOnly: true, Partitioned: true}},
		{"a=b; Secures; xHttpOnly; \"Secure\"", Cookie{Name: "a", Value: "b"}},
		{"a=b; Path=/x y", Cookie{Name: "a", Value: "b", Path: "/x y"}},
		{"a=b; Path=/x; Path=y", Cookie{Name: "a", Value: "b"}},
		{"a=b; Domain=.EXAMPLE.com", Cookie{Name: "a", Value: "b", Domain: "example.com"}},
		{"a=b; Domain=..example.com", Cookie{Name: "a", Value: "b", Domain: ".example.com"}},
		{"a=b; Domain=x; Domain=", Cookie{Name: "a", Value: "b"}},
		{"a=b; Domain=\u212a.example", Cookie{Name: "a", Value: "b", Domain: "\u212a.example"}}, // Kelvin is no K
		{"a=b; SameSite=lax", Cookie{Name: "a", Value: "b", SameSite: http.SameSiteLaxMode}},
		{"a=b; SameSite=Strict; SameSite=what", Cookie{Name: "a", Value: "b"}},
		{"a=b; SameSite=NONE", Cookie{Name: "a", Value: "b", SameSite: http.SameSiteNoneMode}},
		{"a=b; Max-Age=60", Cookie{Name: "a", Value: "b", MaxAge: 60}},
		{"a=b; Max-Age=0", Cookie{Name: "a", Value: "b", MaxAge: -1}},
		{"a=b; Max-Age=-0", Cookie{Name: "a", Value: "b", MaxAge: -1}},
		{"a=b; Max-Age=-60", Cookie{Name: "a", Value: "b", MaxAge: -1}},
		{"a=b; Max-Age=99999999999999999999999", Cookie{Name: "a", Value: "b", MaxAge: 400 * 86400}},
		{"a=b; Max-Age=", Cookie{Name: "a", Value: "b"}},
		{"a=b; Max-Age=-", Cookie{Name: "a", Value: "b"}},
		{"a=b; Max-Age=+1", Cookie{Name: "a", Value: "b"}},
		{"a=b; Max-Age=1.5", Cookie{Name: "a", Value: "b"}},
		{"a=b; Max-Age=7; Max-Age=x", Cookie{Name: "a", Value: "b", MaxAge: 7}},
		{"a=b; Expires=Wed, 02 Jan 2030 03:04:05 GMT", Cookie{Name: "a", Value: "b", Expires: expires}},
		{"a=b; Expires=Wed, 02 Jan 2030 03:04:05 GMT; Expires=never", Cookie{Name: "a", Value: "b", Expires: expires}},
		{"a=b; Path=/" + strings.Repeat("x", 1023), Cookie{Name: "a", Value: "b", Path: "/" + strings.Repeat("x", 1023)}},
		{"a=b; Path=/x; Path=/" + strings.Repeat("x", 1024), Cookie{Name: "a", Value: "b", Path: "/x"}},
		{"a=" + strings.Repeat("x", 4095), Cookie{Name: "a", Value: strings.Repeat("x", 4095)}},
	} {
		got, err := ParseSetCookie(c.in)
		if err != nil {
			t.Errorf("%.60q: %v", c.in, err)
		} else if *got != c.want {
			t.Errorf("%.60q: got %+v, want %+v", c.in, *got, c.want)
		}
	}
}

func TestParseSetCookieRefused(t *testing.T) {
	for in, want := range map[string]error{
		"":                                 ErrMalformed,
		"=":                                ErrMalformed,
		" \t= ;Secure":                     ErrMalformed,
		"a=b\x00":                          ErrMalformed,
		"a=b\r\nX: y":                      ErrMalformed,
		"a=b\n":                            ErrMalformed,
		"a\x1f=b":                          ErrMalformed,
		"a=b; Path=/\x7f":                  ErrMalformed,
		"a=" + strings.Repeat("x", 4096):   ErrTooLarge,
		strings.Repeat("x", 4097):          ErrTooLarge,
		strings.Repeat("x", 4096) + "=yz;": ErrTooLarge,
	} {
		var parse *ParseError
		if c, err := ParseSetCookie(in); !errors.Is(err, want) || !errors.As(err, &parse) || c != nil {
			t.Errorf("%.40q: got %+v, %v, want %v", in, c, err, want)
		}
	}
}

func TestCookieString(t *testing.T) {
	for _, c := range []struct {
		cookie Cookie
		want   string // "": refused
	}{
		{Cookie{Name: "a", Value: "b"}, "a=b"},
		{Cookie{Name: "a"}, "a="},
		{Cookie{Name: "a", Value: `"b"`}, `a="b"`},
		{Cookie{Name: "a", Value: "b", Path: "/", Domain: "Example.com", Expires: time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)),
			MaxAge: 60, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, Partitioned: true},
			"a=b; Path=/; Domain=Example.com; Expires=Wed, 02 Jan 2030 02:04:05 GMT; Max-Age=60; Secure; HttpOnly; SameSite=Strict; Partitioned"},
		{Cookie{Name: "a", MaxAge: -5}, "a=; Max-Age=0"},
		{Cookie{Name: "a", SameSite: http.SameSiteNoneMode, Secure: true}, "a=; Secure; SameSite=None"},
		{Cookie{Name: "a", SameSite: http.SameSiteDefaultMode}, "a="},
		{Cookie{Name: "__Host-a", Secure: true, Path: "/"}, "__Host-a=; Path=/; Secure"},
		{Cookie{Name: "a", Domain: "127.0.0.1"}, "a=; Domain=127.0.0.1"},

		{Cookie{}, ""},
		{Cookie{Name: "a b"}, ""},
		{Cookie{Name: "a\r\nX: y"}, ""},
		{Cookie{Name: "a\x00"}, ""},
		{Cookie{Name: "a;b"}, ""},
		{Cookie{Name: "a=b"}, ""},
		{Cookie{Name: "\u00e4"}, ""},
		{Cookie{Name: "a", Value: "b\r\nX: y"}, ""},
		{Cookie{Name: "a", Value: "b\x00"}, ""},
		{Cookie{Name: "a", Value: "b;c"}, ""},
		{Cookie{Name: "a", Value: "b c"}, ""},
		{Cookie{Name: "a", Value: "b,c"}, ""},
		{Cookie{Name: "a", Value: `b"c`}, ""},
		{Cookie{Name: "a", Value: `"`}, ""},
		{Cookie{Name: "a", Value: `b\c`}, ""},
		{Cookie{Name: "a", Value: "\u00e4"}, ""},
		{Cookie{Name: "a", Value: strings.Repeat("x", 4096)}, ""},
		{Cookie{Name: "a", Path: "x"}, ""},
		{Cookie{Name: "a", Path: "/\r\nX: y"}, ""},
		{Cookie{Name: "a", Path: "/; Secure"}, ""},
		{Cookie{Name: "a", Path: "/x "}, ""},
		{Cookie{Name: "a", Path: "/" + strings.Repeat("x", 1024)}, ""},
		{Cookie{Name: "a", Domain: "x\r\ny"}, ""},
		{Cookie{Name: "a", Domain: "x; Secure"}, ""},
		{Cookie{Name: "a", Domain: "a..b"}, ""},
		{Cookie{Name: "a", Domain: "."}, ""},
		{Cookie{Name: "a", Domain: ".example.com"}, ""},
		{Cookie{Name: "a", Domain: "a."}, ""},
		{Cookie{Name: "a", Expires: time.Date(1600, 1, 1, 0, 0, 0, 0, time.UTC)}, ""},
		{Cookie{Name: "a", Expires: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, ""},
		{Cookie{Name: "a", SameSite: http.SameSiteNoneMode}, ""},
		{Cookie{Name: "a", SameSite: 9}, ""},
		{Cookie{Name: "a", SameSite: -1}, ""},
		{Cookie{Name: "a", Partitioned: true}, ""},
		{Cookie{Name: "__secure-a"}, ""},
		{Cookie{Name: "__HOST-a", Secure: true}, ""},
		{Cookie{Name: "__Host-a", Secure: true, Path: "/", Domain: "x"}, ""},
		{Cookie{Name: "__Host-a", Path: "/"}, ""},
	} {
		got := c.cookie.String()
		if got != c.want || (got == "") != (c.cookie.Valid() != nil) {
			t.Errorf("%+v: got %q, %v, want %q", c.cookie, got, c.cookie.Valid(), c.want)
		}
		if err := c.cookie.Valid(); err != nil && strings.ContainsAny(err.Error(), "\r\n\x00") {
			t.Errorf("%+v: control character in the error %q", c.cookie, err)
		}
	}
}

func TestParseCookies(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"a=b", "a|b "},
		{"a=b; c=d", "a|b c|d "},
		{"a=b;c=d;", "a|b c|d "},
		{" a = b ;\tc=\t", "a|b c| "},
		{"a=1; a=2", "a|1 a|2 "},
		{";; a", "|a "},
		{"=a=b; =", "|a=b "},
		{`a="b"; c=d=e`, `a|"b" c|d=e `},
	} {
		got := ""
		for name, value := range ParseCookies(c.in) {
			got += name + "|" + value + " "
		}
		if got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

// TestFindCookie holds the quick look-up to the iterator.
func TestFindCookie(t *testing.T) {
	for _, line := range cookieLines {
		checkFindCookie(t, line)
	}
}

var cookieLines = []string{
	"", ";", "a", "a=b", " a = b c ;ab=d;  a=e", "ab=1; a=2", "a =1;b", "=x; y", "A=1; a=2", "a=; b= ;c", "aa", "a;=;a=", "x=a=b; a=c",
}

func checkFindCookie(t *testing.T, line string) {
	names := []string{"", "a", "b", "missing"}
	for name := range ParseCookies(line) {
		names = append(names, name)
	}
	for _, name := range names {
		want, wantOK := "", false
		for n, v := range ParseCookies(line) {
			if n == name {
				want, wantOK = v, true
				break
			}
		}
		start, end, ok := findCookie(line, name)
		if ok != wantOK || line[start:end] != want {
			t.Errorf("%q in %q: got %q %v, want %q %v", name, line, line[start:end], ok, want, wantOK)
		}
	}
}

func FuzzCookies(f *testing.F) {
	for _, line := range cookieLines {
		f.Add(line)
	}
	f.Add("a=b; Path=/; Domain=.x; Max-Age=1; Expires=Sun, 06 Nov 1994 08:49:37 GMT; Secure; SameSite=None")
	f.Fuzz(func(t *testing.T, line string) {
		checkFindCookie(t, line)
		c, err := ParseSetCookie(line)
		if err != nil {
			return
		}
		if !isFieldValue(c.Name+c.Value+c.Path+c.Domain) || strings.ContainsAny(c.Name+c.Value+c.Path, ";") {
			t.Fatalf("%q: %+v", line, c)
		}
		text := c.String()
		if text == "" {
			return
		}
		again, err := ParseSetCookie(text)
		if err != nil || *again != *c {
			t.Fatalf("%q: %+v, written and read again %+v, %v", line, c, again, err)
		}
	})
}

func TestParseCookiesAllocations(t *testing.T) {
	line := "theme=dark; session=0123456789abcdef0123456789abcdef; lang=en"
	n := 0
	if got := testing.AllocsPerRun(100, func() {
		for name, value := range ParseCookies(line) {
			n += len(name) + len(value)
		}
		if _, _, ok := findCookie(line, "session"); !ok {
			t.Error("session not found")
		}
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// The grammar of RFC 6265bis §5.1.1, as expressions.
var (
	cookieDateDelimiters = regexp.MustCompile(`[\t\x20-\x2f\x3b-\x40\x5b-\x60\x7b-\x7e]+`)
	cookieDateTime       = regexp.MustCompile(`(?s)^(\d{1,2}):(\d{1,2}):(\d{1,2})(?:\D.*)?$`)
	cookieDateDay        = regexp.MustCompile(`(?s)^(\d{1,2})(?:\D.*)?$`)
	cookieDateMonth      = regexp.MustCompile(`(?s)^(?i:(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)).*$`)
	cookieDateYear       = regexp.MustCompile(`(?s)^(\d{2,4})(?:\D.*)?$`)
)

// cookieDateByGrammar reads a date by those expressions, step by step as the section
// has it.
func cookieDateByGrammar(s string) (time.Time, bool) {
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	var clock, day, month, year []string
	for _, token := range cookieDateDelimiters.Split(s, -1) {
		for _, part := range []struct {
			found   *[]string
			grammar *regexp.Regexp
		}{{&clock, cookieDateTime}, {&day, cookieDateDay}, {&month, cookieDateMonth}, {&year, cookieDateYear}} {
			if *part.found == nil {
				if *part.found = part.grammar.FindStringSubmatch(token); *part.found != nil {
					break
				}
			}
		}
	}
	if clock == nil || day == nil || month == nil || year == nil {
		return time.Time{}, false
	}
	y := number(year[1])
	if y >= 70 && y <= 99 {
		y += 1900
	} else if y <= 69 {
		y += 2000
	}
	m := 1 + strings.Index(cookieMonths, strings.ToLower(month[1]))/3
	text := fmt.Sprintf("%04d-%02d-%02d %02d:%02d:%02d", y, m, number(day[1]), number(clock[1]), number(clock[2]), number(clock[3]))
	at, err := time.Parse(time.DateTime, text)
	return at, err == nil && y >= 1601
}

// FuzzCookieDate holds dates to the section's own grammar.
func FuzzCookieDate(f *testing.F) {
	for _, seed := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "6th nOvX 69 8:49:37pm",
		"29 Feb 2023 00:00:00", "1 Jan 1600 24:00:60", "1 Jan 2024 0:0:0:0", "12345 1 Jan 0099 01:02:003", "1\xffJan\x7f2024",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseCookieDate(s)
		want, wantOK := cookieDateByGrammar(s)
		if ok != wantOK || ok && !got.Equal(want) {
			t.Errorf("%q: %v %v, by the grammar %v %v", s, got, ok, want, wantOK)
		}
	})
}
