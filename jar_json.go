package flare

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"
)

// This file is layer 4 (roles): a Jar as JSON, for programs that keep cookies
// from one run to the next. What is read is held to the same rules as what a
// server sends: the file may have been changed by hand.

// jarVersion is that of the format below.
const jarVersion = 1

var (
	errJarVersion = errors.New("flare: cookie file of another version")
	errJarText    = errors.New("flare: cookie file with a character above U+00FF")
)

type jarFile struct {
	Version int             `json:"version"`
	Cookies []jarFileCookie `json:"cookies"` // in the order of their making
}

// A jarFileCookie has octets as the characters of the same number, since JSON
// has no others: what is ASCII looks as it is.
type jarFileCookie struct {
	Name     string     `json:"name"`
	Value    string     `json:"value"`
	Domain   string     `json:"domain"`
	HostOnly bool       `json:"hostOnly,omitempty"`
	Path     string     `json:"path"`
	Secure   bool       `json:"secure,omitempty"`
	HttpOnly bool       `json:"httpOnly,omitempty"`
	SameSite string     `json:"sameSite,omitempty"`
	Created  time.Time  `json:"created"`
	Accessed time.Time  `json:"accessed"`
	Expires  *time.Time `json:"expires,omitempty"` // absent: with the session
}

// MarshalJSON returns the cookies that have not expired, session cookies among
// them. The secrets in it are as good as passwords.
func (j *Jar) MarshalJSON() ([]byte, error) {
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []*storedCookie
	for _, list := range j.domains {
		for _, s := range list {
			if !s.expired(now) {
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b *storedCookie) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	file := jarFile{Version: jarVersion, Cookies: make([]jarFileCookie, 0, len(all))}
	for _, s := range all {
		c := jarFileCookie{
			Name: octetText(s.name), Value: octetText(s.value), Domain: s.domain, HostOnly: s.hostOnly,
			Path: octetText(s.path), Secure: s.secure, HttpOnly: s.httpOnly, SameSite: sameSiteName(s.sameSite),
			Created: s.created.UTC(), Accessed: s.accessed.UTC(),
		}
		if !s.expires.IsZero() {
			expires := s.expires.UTC()
			c.Expires = &expires
		}
		file.Cookies = append(file.Cookies, c)
	}
	return json.Marshal(file)
}

// UnmarshalJSON replaces the cookies by those that MarshalJSON has written.
// Cookies that have expired or that no server could have set are left out;
// an error leaves the jar as it was.
func (j *Jar) UnmarshalJSON(text []byte) error {
	var file jarFile
	if err := json.Unmarshal(text, &file); err != nil {
		return err
	}
	if file.Version != jarVersion {
		return errJarVersion
	}
	now := j.now()
	loaded := Jar{PublicSuffixList: j.PublicSuffixList}
	for i := range file.Cookies {
		s, err := file.Cookies[i].stored(now)
		if err != nil {
			return err
		}
		if loaded.couldHold(s) {
			loaded.insert(s, now)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.domains, j.count, j.order = loaded.domains, loaded.count, loaded.order
	return nil
}

// stored converts a cookie that was read.
func (c *jarFileCookie) stored(now time.Time) (*storedCookie, error) {
	name, ok1 := textOctets(c.Name)
	value, ok2 := textOctets(c.Value)
	path, ok3 := textOctets(c.Path)
	if !ok1 || !ok2 || !ok3 {
		return nil, errJarText
	}
	s := &storedCookie{
		name: name, value: value, path: path, domain: c.Domain, hostOnly: c.HostOnly,
		secure: c.Secure, httpOnly: c.HttpOnly,
		created: c.Created, accessed: c.Accessed,
	}
	if s.created.After(now) {
		s.created = now
	}
	if s.accessed.After(now) {
		s.accessed = now
	}
	s.sameSite = sameSiteOf(c.SameSite)
	if c.Expires != nil {
		s.expires = *c.Expires
		if limit := now.Add(cookieAgeMax); s.expires.After(limit) { // RFC 6265bis §5.5
			s.expires = limit
		}
		if s.expires.IsZero() {
			s.expires = now // zero would mean: never
		}
	}
	return s, nil
}

// couldHold says whether s is a cookie that take lets pass.
func (j *Jar) couldHold(s *storedCookie) bool {
	c := &Cookie{Name: s.name, Value: s.value, Path: s.path, Domain: s.domain, Secure: s.secure}
	o := jarOrigin{host: s.domain, address: s.hostOnly}
	domain, _, err := j.domainOf(o, s.domain)
	return s.domain != "" && s.domain[0] != '.' && s.path != "" && s.path[0] == '/' &&
		err == nil && domain == s.domain && (s.hostOnly || !endsInNumber(domain) && !j.publicSuffix(domain)) &&
		checkJarForm(c) == nil && checkCookiePrefix(c, s.hostOnly) == nil &&
		(s.secure || s.sameSite != http.SameSiteNoneMode)
}

// octetText writes each octet as the character of its number.
func octetText(s string) string {
	if isASCII(s) {
		return s
	}
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// textOctets is the way back; false for characters that are no octet.
func textOctets(s string) (string, bool) {
	if isASCII(s) {
		return s, true
	}
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return "", false
		}
		b = append(b, byte(r))
	}
	return string(b), true
}
