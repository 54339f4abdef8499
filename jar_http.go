package flare

import (
	"net/http"
	"net/url"
	"strings"
)

// This file is layer 4 (roles): a Jar as the http.CookieJar of an http.Client.

// SetCookies is Set for net/http's cookies, as http.CookieJar asks.
func (j *Jar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		_ = j.Set(u, cookieFromHTTP(c)) // RFC 6265bis §5.3: ignored, the answer is fine
	}
}

// Cookies returns what CookieHeader says, as http.CookieJar asks: names and
// values alone. Cookies without a name are left out, since net/http cannot send
// them.
func (j *Jar) Cookies(u *url.URL) []*http.Cookie {
	o, err := jarOriginOf(u)
	if err != nil {
		return nil
	}
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	var room [16]*storedCookie
	var cookies []*http.Cookie
	for _, s := range j.matching(room[:0], o, now) {
		if s.name == "" {
			continue
		}
		c := &http.Cookie{Name: s.name, Value: s.value}
		if n := len(s.value); n >= 2 && s.value[0] == '"' && s.value[n-1] == '"' {
			c.Value, c.Quoted = s.value[1:n-1], true
		}
		cookies = append(cookies, c)
	}
	return cookies
}

// cookieFromHTTP converts a cookie that net/http has read.
func cookieFromHTTP(c *http.Cookie) *Cookie {
	k := &Cookie{
		Name: c.Name, Value: c.Value, Domain: strings.TrimPrefix(c.Domain, "."), Path: c.Path,
		Expires: c.Expires, MaxAge: c.MaxAge,
		Secure: c.Secure, HttpOnly: c.HttpOnly, SameSite: c.SameSite, Partitioned: c.Partitioned,
	}
	if c.Quoted {
		k.Value = `"` + c.Value + `"`
	}
	return k
}
