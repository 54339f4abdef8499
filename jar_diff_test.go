package flare

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file compares the jar and the parser below it with net/http's. Both get
// the same Set-Cookie fields from the same URLs and must send the same Cookie
// fields. net/http keeps to RFC 6265 of 2011 and to what its authors found
// sensible; where flare differs, by RFC 6265bis or HTTP's own rules, a named
// exception below leaves the field out, for both.

// jarDiffURLs are those that cookies come from and go to.
var jarDiffURLs = func() (urls []*url.URL) {
	for _, s := range []string{
		"http://www.example.com/", "https://www.example.com/", "https://example.com/a", "http://example.com/a/b",
		"https://x.www.example.com/a/", "https://shop.co.uk/a/b/c", "https://co.uk/", "http://other.test/ab",
		"https://127.0.0.1/", "https://[2001:db8::1]/a/", "https://www.example.com/a/b/c?q=/d", "https://WWW.EXAMPLE.COM./a",
	} {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		urls = append(urls, u)
	}
	return urls
}()

// jarDiffException says why flare and net/http differ on a field, "" if they
// do not. None of it asks flare's jar.
func jarDiffException(u *url.URL, line string) string {
	pair, attributes, _ := strings.Cut(line, ";")
	name, value, found := strings.Cut(pair, "=")
	name = trimBlank(name)
	inner := strings.TrimRight(value, " \t")
	if len(inner) >= 2 && inner[0] == '"' && inner[len(inner)-1] == '"' {
		inner = inner[1 : len(inner)-1]
	}
	switch {
	case !isFieldValue(line):
		return "control characters: §5.6 drops the cookie, net/http the part or nothing"
	case !found || name == "":
		return "no name: §5.6 takes the cookie, net/http drops it"
	case !isToken(name):
		return "name not a token: §5.6 takes it, net/http drops it"
	case value != strings.TrimLeft(value, " \t"):
		return "white space before the value: §5.6 trims it, net/http keeps it"
	case strings.ContainsAny(inner, "\"\\\t") || !isASCII(inner):
		return "octets of the value: §5.6 takes them, net/http drops the cookie"
	case len(name)+len(inner) > cookieBytesMax-2:
		return "size: §5.6 has a bound, net/http has none"
	case hasPrefixFold(name, "__Host-") || hasPrefixFold(name, "__Secure-"):
		return "prefixes: §5.7 enforces them, net/http does not know them"
	}
	seen := map[string]bool{}
	secure, none := false, false
	for attribute := range strings.SplitSeq(attributes, ";") {
		name, value, _ := strings.Cut(attribute, "=")
		kind := lowerName(trimBlank(name))
		switch kind {
		case "secure":
			secure = true
		case "samesite", "path", "domain", "max-age", "expires":
		default:
			continue
		}
		if strings.TrimRight(name, " \t") != name || strings.TrimLeft(value, " \t") != value {
			return "white space around =: §5.6 trims it, net/http does not"
		}
		value = strings.TrimRight(value, " \t")
		if strings.ContainsAny(value, "\"\\\t") || !isASCII(value) {
			return "octets of an attribute: §5.6 takes them, net/http drops the attribute"
		}
		if len(value) > cookieAttributeBytesMax {
			return "size of an attribute: §5.6 has a bound, net/http has none"
		}
		if reason := jarDiffAttribute(u, kind, value); reason != "" {
			return reason
		}
		if seen[kind] && (kind == "expires" || kind == "max-age" || kind == "samesite") {
			return "repeated attribute: §5.7 takes the last valid one, net/http may forget it at an invalid one"
		}
		seen[kind] = true
		if kind == "samesite" {
			none = equalFoldASCII(value, "None")
		}
	}
	switch {
	case secure && u.Scheme != "https":
		return "Secure over http: §5.7 drops it, net/http keeps it"
	case none && !secure:
		return "SameSite=None without Secure: §5.7 drops it, net/http keeps it"
	}
	return ""
}

func jarDiffAttribute(u *url.URL, kind, value string) string {
	switch kind {
	case "expires":
		ours, ok := parseCookieDate(value)
		theirs, err := time.Parse(time.RFC1123, value)
		if err != nil {
			theirs, err = time.Parse("Mon, 02-Jan-2006 15:04:05 MST", value)
		}
		if ok != (err == nil) || ok && !ours.Equal(theirs.UTC()) {
			return "form of a date: §5.1.1 takes nearly any and knows no zones, net/http two"
		}
	case "max-age":
		ours, ok := parseMaxAge(value)
		theirs, err := strconv.Atoi(value)
		if ok != (err == nil && (theirs == 0 || value[0] != '0')) || ok && ours > 0 && theirs != ours {
			return "form of Max-Age: §5.6.2 takes leading zeros and any length and no plus sign"
		}
		if ours > 0 && ours < 60 {
			return "a cookie that might expire while the two are compared"
		}
	case "domain":
		host := lowerName(strings.TrimSuffix(u.Hostname(), "."))
		switch {
		case value == ".":
			return "Domain of a dot: §5.6.3 makes it empty, net/http drops the cookie"
		case strings.Contains(host, ":") && value != "":
			return "IPv6 address as Domain: net/http compares it with the brackets on"
		case strings.HasPrefix(value, ".") && endsInNumber(host):
			return "address behind a dot: §5.6.3 strips the dot, net/http drops the cookie"
		}
	}
	return ""
}

// jarDiffState finds the exceptions that depend on what the jar has.
func jarDiffState(j *Jar, u *url.URL, c *Cookie) string {
	o, _ := jarOriginOf(u)
	domain, hostOnly, err := j.domainOf(o, c.Domain)
	if err != nil {
		return ""
	}
	path := c.Path
	if path == "" {
		path = defaultCookiePath(o.path)
	}
	if len(j.domains[domain]) >= jarDomainCookiesMax {
		return "bound: 50 cookies for a domain"
	}
	for _, s := range j.domains[domain] {
		if s.name == c.Name && s.path == path && s.hostOnly != hostOnly {
			return "key: §5.7 has the host-only flag in it, net/http does not"
		}
	}
	for d, list := range j.domains {
		for _, s := range list {
			if !o.secure && !c.Secure && s.secure && s.name == c.Name && pathMatch(path, s.path) &&
				(d == domain || isSubdomain(d, domain) || isSubdomain(domain, d)) {
				return "§5.7 leaves Secure cookies alone, net/http does not"
			}
		}
	}
	return ""
}

func FuzzJarAgainstNetHTTP(f *testing.F) {
	for _, script := range []string{
		"0a=1\n1b=2; Path=/a\n2c=3; Domain=example.com; Path=/a/b\n:",
		"1a=1; Secure\n1a=2\n1a=\"3\"; Path=/\n",
		"5a=1; Domain=co.uk\n6a=1; Domain=co.uk\n5a=2; Domain=.shop.co.uk\n",
		"8a=1; Domain=127.0.0.1\n9b=1; domain=2001:db8::1; pAth=/a\n",
		"1a=1; Max-Age=100\n1a=; Max-Age=0\n1b=1; Expires=Fri, 01 Jan 2100 00:00:00 GMT\n1b=1; Expires=Fri, 01-Jan-2010 00:00:00 GMT\n",
		"3a=1\n3a=2; Path=/\n3a=3; Path=/a/b/\n3a=4; HttpOnly; SameSite=Lax\n",
		";a=1; Path=/a; Secure\n;a=x y, z; Domain=EXAMPLE.com\n4b=1;;;\n",
		"1a=1; Domain=com\n1a=1; Domain=www.example.com.\n1a=1; Domain=x.www.example.com\n1a=1; Domain=\n",
	} {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script string) {
		if strings.Count(script, "\n") > 100 {
			return
		}
		ours := &Jar{PublicSuffixList: jarSuffixes{}}
		theirs, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: jarSuffixes{}})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(script, "\n") {
			if line == "" {
				continue
			}
			u := jarDiffURLs[int(line[0])%len(jarDiffURLs)]
			if line = line[1:]; jarDiffException(u, line) == "" {
				jarDiffSet(t, ours, theirs, u, line)
			}
			jarDiffCompare(t, ours, theirs, u, script)
		}
		for _, u := range jarDiffURLs {
			jarDiffCompare(t, ours, theirs, u, script)
		}
	})
}

func jarDiffSet(t *testing.T, ours *Jar, theirs *cookiejar.Jar, u *url.URL, line string) {
	c, err := ParseSetCookie(line)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if jarDiffState(ours, u, c) != "" {
		return
	}
	_ = ours.Set(u, c) // whether it was taken shows in the comparison
	resp := http.Response{Header: http.Header{"Set-Cookie": {line}}}
	theirs.SetCookies(u, resp.Cookies())
}

func jarDiffCompare(t *testing.T, ours *Jar, theirs *cookiejar.Jar, u *url.URL, script string) {
	t.Helper()
	var want []string
	for _, c := range theirs.Cookies(u) {
		if c.Quoted {
			c.Value = `"` + c.Value + `"`
		}
		want = append(want, c.Name+"="+c.Value)
	}
	if got := ours.CookieHeader(u); got != strings.Join(want, "; ") {
		t.Fatalf("to %s: %q, net/http %q, after\n%q", u, got, want, script)
	}
}

// TestJarDiffExceptions keeps the exceptions honest: each is met, and without
// it the two do differ.
func TestJarDiffExceptions(t *testing.T) {
	const https, insecure = 1, 0
	met := map[string]bool{}
	for _, c := range []struct {
		from  int
		lines string // the last one is the exception
	}{
		{https, "a=b; x=\x01"}, {https, "a"}, {https, "a b=c"}, {https, "a= b"}, {https, "a=b\\c"},
		{https, "a=" + strings.Repeat("x", 4096)}, {https, "__Host-a=b"},
		{https, "a=b; Path =/q"}, {https, "a=b; Path=/q\""}, {https, "a=b; Path=/" + strings.Repeat("x", 1024)},
		{https, "a=b; Expires=Fri, 01 Jan 2010 00:00:00"}, {https, "a=b; Max-Age=-99999999999999999999"},
		{https, "a=b; Expires=Fri, 01 Jan 2010 00:00:00 GMT; Expires=never"},
		{https, "a=b; Domain=."}, {8, "a=b; Domain=.127.0.0.1"}, {9, "a=b; Domain=2001:db8::1"},
		{insecure, "a=b; Secure"}, {https, "a=b; SameSite=None"},
		{https, "a=b\na=c; Domain=www.example.com"},
		{https, "a=b; Secure\n\x00a=c"},
	} {
		ours := &Jar{PublicSuffixList: jarSuffixes{}}
		theirs, _ := cookiejar.New(&cookiejar.Options{PublicSuffixList: jarSuffixes{}})
		reason := ""
		for line := range strings.SplitSeq(c.lines, "\n") {
			u := jarDiffURLs[c.from]
			if line[0] == 0 {
				u, line = jarDiffURLs[insecure], line[1:]
			}
			if reason = jarDiffException(u, line); reason == "" {
				if k, err := ParseSetCookie(line); err == nil {
					reason = jarDiffState(ours, u, k)
				}
			}
			if k, err := ParseSetCookie(line); err == nil {
				_ = ours.Set(u, k)
			}
			theirs.SetCookies(u, (&http.Response{Header: http.Header{"Set-Cookie": {line}}}).Cookies())
		}
		if reason == "" {
			t.Errorf("%.60q is no exception", c.lines)
		}
		met[reason] = true
		differ := false
		for _, u := range jarDiffURLs {
			var want []string
			for _, k := range theirs.Cookies(u) {
				want = append(want, k.Name+"="+k.Value)
			}
			differ = differ || ours.CookieHeader(u) != strings.Join(want, "; ")
		}
		if !differ {
			t.Errorf("%.60q: both send the same, so %q excuses too much", c.lines, reason)
		}
	}
	if len(met) != 20 {
		t.Errorf("%d exceptions met: %v", len(met), met)
	}
}
