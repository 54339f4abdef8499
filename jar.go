package flare

import (
	"errors"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// This file is layer 4 (roles): the cookies that a client keeps: which ones it
// takes (RFC 6265bis §5.7) and sends (§5.8). The text of cookies is
// cookie.go's; hosts, paths and what connects them to a cookie are in
// jar_match.go, JSON in jar_json.go, net/http's interface in jar_http.go. The
// client calls SetFromHeader with each answer and CookieHeader before each
// request.

const (
	// At least 50 for a domain and 3000 in all (RFC 6265bis §6.1). A server can
	// fill its own domains, and push out nothing but its own and the oldest.
	jarDomainCookiesMax = 50
	jarCookiesMax       = 3000
)

// Reasons for which a jar does not take a cookie.
var (
	errJarURL           = errors.New("flare: cookies are for http, https, ws and wss URLs with an ASCII host")
	errJarDomain        = errors.New("flare: cookie for a domain that its host is not of")
	errJarPublicSuffix  = errors.New("flare: cookie for a public suffix")
	errJarSecure        = errors.New("flare: Secure cookie over an insecure connection")
	errJarSecureStays   = errors.New("flare: cookie over an insecure connection beside a Secure one of its name")
	errJarSameSite      = errors.New("flare: SameSite=None cookie that is not Secure")
	errJarFormControl   = errors.New("flare: control character or semicolon in a cookie")
	errJarFormEmpty     = errors.New("flare: cookie with neither name nor value")
	errJarFormTooLarge  = errors.New("flare: cookie too long")
	errJarDomainNoASCII = errors.New("flare: cookie domain that is not ASCII")
)

// A Jar keeps the cookies of a client, by RFC 6265bis. The zero value is
// empty and ready; all methods may be called from any goroutine. It is a
// json.Marshaler and json.Unmarshaler, session cookies included, and an
// http.CookieJar.
//
// Beyond the RFC, a Jar without a PublicSuffixList takes no cookie for a
// domain of one label ("com"), unless that is the host itself. Requests of a
// client count as same-site: there is no page that they could come from. Hosts
// have to be ASCII (A-labels). Secure cookies also go to localhost and
// loopback addresses over http.
type Jar struct {
	// PublicSuffixList tells the domains below which anyone can register, for
	// which no cookie is taken. Set it, and Now, before the first use.
	PublicSuffixList cookiejar.PublicSuffixList
	// Now is the clock; nil: time.Now.
	Now func() time.Time

	mu      sync.Mutex // guards what follows
	domains map[string][]*storedCookie
	count   int
	order   uint64 // of the cookie made last
}

// A storedCookie is a cookie in a jar.
type storedCookie struct {
	name, value string
	domain      string // that the cookie is for; without a leading dot
	path        string
	hostOnly    bool // for that host alone, none below it
	secure      bool
	httpOnly    bool
	sameSite    http.SameSite
	created     time.Time
	accessed    time.Time // last sent, or set
	expires     time.Time // zero: with the session
	order       uint64    // of making, for those created at one time
}

func (s *storedCookie) expired(now time.Time) bool {
	return !s.expires.IsZero() && !s.expires.After(now)
}

func (j *Jar) now() time.Time {
	if j.Now != nil {
		return j.Now()
	}
	return time.Now()
}

// Set keeps c as if the answer to a request for u had it. One that has expired
// deletes what it would replace. The error says why c was not taken.
func (j *Jar) Set(u *url.URL, c *Cookie) error {
	o, err := jarOriginOf(u)
	if err != nil {
		return err
	}
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.take(o, c, now)
}

// SetFromHeader keeps the cookies of all Set-Cookie fields of an answer to a
// request for u. Those that are malformed or not allowed are passed over.
func (j *Jar) SetFromHeader(u *url.URL, h *Header) {
	f := h.snapshot()
	if !f.has("Set-Cookie") {
		return
	}
	o, err := jarOriginOf(u)
	if err != nil {
		return
	}
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range f.list {
		if !equalFoldASCII(f.list[i].name, "Set-Cookie") {
			continue
		}
		var c Cookie
		if c.parse(f.list[i].value) == nil {
			_ = j.take(o, &c, now) // RFC 6265bis §5.3: ignored, the answer is fine
		}
	}
}

// CookieHeader returns the value of the Cookie field of a request for u, ""
// for none: the longest path first, then the oldest cookie.
func (j *Jar) CookieHeader(u *url.URL) string {
	o, err := jarOriginOf(u)
	if err != nil {
		return ""
	}
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	var (
		room [16]*storedCookie
		text [512]byte
	)
	b := text[:0]
	for _, s := range j.matching(room[:0], o, now) {
		if len(b) > 0 {
			b = append(b, "; "...)
		}
		if s.name != "" { // RFC 6265bis §5.8.3
			b = append(append(b, s.name...), '=')
		}
		b = append(b, s.value...)
	}
	return string(b)
}

// Clear forgets all cookies.
func (j *Jar) Clear() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.domains, j.count = nil, 0
}

// Len returns the number of cookies that have not expired.
func (j *Jar) Len() int {
	now := j.now()
	j.mu.Lock()
	defer j.mu.Unlock()
	for domain := range j.domains {
		j.dropExpired(domain, now)
	}
	return j.count
}

// take is RFC 6265bis §5.7; the numbers are its steps.
func (j *Jar) take(o jarOrigin, c *Cookie, now time.Time) error {
	if err := checkJarForm(c); err != nil { // 2 to 4
		return err
	}
	s := &storedCookie{
		name: c.Name, value: c.Value, path: c.Path,
		secure: c.Secure, httpOnly: c.HttpOnly, sameSite: c.SameSite,
		created: now, accessed: now, expires: expiryOf(c, now), // 5, 6
	}
	domain, hostOnly, err := j.domainOf(o, c.Domain) // 7 to 10
	if err != nil {
		return err
	}
	s.domain, s.hostOnly = domain, hostOnly
	if s.path == "" || s.path[0] != '/' { // 11
		s.path = defaultCookiePath(o.path)
	}
	switch {
	case s.secure && !o.secure: // 13
		return errJarSecure
	case !s.secure && !o.secure && j.shadowsSecure(s, now): // 16
		return errJarSecureStays
	case s.sameSite == http.SameSiteNoneMode && !s.secure: // 19
		return errJarSameSite
	}
	if err := checkCookiePrefix(c, hostOnly); err != nil { // 20 to 22
		return err
	}
	s.detach()
	j.insert(s, now)
	return nil
}

// detach gives s a text of its own: a jar must not keep whole heads alive.
func (s *storedCookie) detach() {
	text := s.name + s.value + s.domain + s.path
	cut := func(n int) (part string) {
		part, text = text[:n], text[n:]
		return part
	}
	s.name, s.value, s.domain, s.path = cut(len(s.name)), cut(len(s.value)), cut(len(s.domain)), cut(len(s.path))
}

// checkJarForm holds a cookie that may be the program's own to what parsing
// would have.
func checkJarForm(c *Cookie) error {
	switch {
	case c.Name == "" && c.Value == "":
		return errJarFormEmpty
	case len(c.Name)+len(c.Value) > cookieBytesMax, len(c.Path) > cookieAttributeBytesMax, len(c.Domain) > cookieAttributeBytesMax:
		return errJarFormTooLarge
	case !isJarText(c.Name) || !isJarText(c.Value) || !isJarText(c.Path),
		strings.IndexByte(c.Name, '=') >= 0:
		return errJarFormControl
	}
	return nil
}

// isJarText says whether s can be part of a Cookie field.
func isJarText(s string) bool {
	return isFieldValue(s) && strings.IndexByte(s, ';') < 0
}

// expiryOf returns when c ends (RFC 6265bis §5.5, §5.7 step 6), zero for never.
func expiryOf(c *Cookie, now time.Time) time.Time {
	limit := now.Add(cookieAgeMax)
	switch {
	case c.MaxAge < 0:
		return now
	case c.MaxAge > 0:
		if c.MaxAge > int(cookieAgeMax/time.Second) {
			return limit
		}
		return now.Add(time.Duration(c.MaxAge) * time.Second)
	case c.Expires.After(limit):
		return limit
	}
	return c.Expires
}

// domainOf returns the domain that a cookie is for (RFC 6265bis §5.7, steps 7
// to 10).
func (j *Jar) domainOf(o jarOrigin, attribute string) (domain string, hostOnly bool, err error) {
	domain = lowerName(attribute)
	switch {
	case domain == "":
		return o.host, true, nil
	case !isASCII(domain):
		return "", false, errJarDomainNoASCII
	case domain == o.host && (o.address || j.publicSuffix(domain)):
		return o.host, true, nil
	case !o.within(domain):
		return "", false, errJarDomain
	case j.publicSuffix(domain):
		return "", false, errJarPublicSuffix
	}
	return domain, false, nil
}

// publicSuffix says whether anyone can register below domain.
func (j *Jar) publicSuffix(domain string) bool {
	if j.PublicSuffixList == nil {
		return strings.IndexByte(domain, '.') < 0 // the list's rule for what it does not have: *
	}
	return j.PublicSuffixList.PublicSuffix(domain) == domain
}

// shadowsSecure says whether s, which did not come over a secure connection,
// would be sent beside or in place of a Secure cookie of its name (RFC 6265bis
// §5.7, step 16).
func (j *Jar) shadowsSecure(s *storedCookie, now time.Time) bool {
	hides := func(list []*storedCookie) bool {
		for _, old := range list {
			if old.secure && old.name == s.name && !old.expired(now) && pathMatch(s.path, old.path) {
				return true
			}
		}
		return false
	}
	for domain := s.domain; domain != ""; domain = parentDomain(domain) {
		if hides(j.domains[domain]) {
			return true
		}
	}
	if s.hostOnly && strings.IndexByte(s.domain, '.') < 0 {
		return false // nothing is below it
	}
	for domain, list := range j.domains {
		if isSubdomain(domain, s.domain) && hides(list) {
			return true
		}
	}
	return false
}

// insert puts s in the place of what has its key, and makes room.
func (j *Jar) insert(s *storedCookie, now time.Time) {
	list := j.domains[s.domain]
	at := slices.IndexFunc(list, func(old *storedCookie) bool {
		return old.name == s.name && old.path == s.path && old.hostOnly == s.hostOnly
	})
	if at >= 0 {
		s.created, s.order = list[at].created, list[at].order // RFC 6265bis §5.7, step 23
		if list[at].expired(now) {
			s.created, s.order = now, j.nextOrder()
		}
	} else {
		s.order = j.nextOrder()
	}
	switch {
	case s.expired(now):
		if at >= 0 {
			j.remove(s.domain, at)
		}
		return
	case at >= 0:
		list[at] = s
		return
	}
	if j.domains == nil {
		j.domains = make(map[string][]*storedCookie)
	}
	j.domains[s.domain] = append(list, s)
	j.count++
	j.evict(s.domain, now)
}

func (j *Jar) nextOrder() uint64 {
	j.order++
	return j.order
}

func (j *Jar) remove(domain string, at int) {
	j.count--
	if list := slices.Delete(j.domains[domain], at, at+1); len(list) > 0 {
		j.domains[domain] = list
		return
	}
	delete(j.domains, domain)
}

// evict holds the jar to its bounds after domain has got one more. What has
// expired goes first; of a domain with too many, then what is not Secure (RFC
// 6265bis §5.7); then what was not sent for the longest time.
func (j *Jar) evict(domain string, now time.Time) {
	if len(j.domains[domain]) > jarDomainCookiesMax {
		j.dropExpired(domain, now)
	}
	if list := j.domains[domain]; len(list) > jarDomainCookiesMax {
		j.remove(domain, oldestCookie(list, true))
	}
	if j.count <= jarCookiesMax {
		return
	}
	for domain := range j.domains {
		j.dropExpired(domain, now)
	}
	if j.count <= jarCookiesMax {
		return
	}
	oldest, at := "", -1
	for domain, list := range j.domains {
		i := oldestCookie(list, false)
		if at < 0 || goesBefore(list[i], j.domains[oldest][at]) {
			oldest, at = domain, i
		}
	}
	j.remove(oldest, at)
}

func (j *Jar) dropExpired(domain string, now time.Time) {
	for i := len(j.domains[domain]) - 1; i >= 0; i-- {
		if j.domains[domain][i].expired(now) {
			j.remove(domain, i)
		}
	}
}

// oldestCookie returns the index of the cookie that has to go first.
func oldestCookie(list []*storedCookie, secureLast bool) int {
	at := 0
	for i, s := range list {
		if secureLast && s.secure != list[at].secure {
			if !s.secure {
				at = i
			}
			continue
		}
		if goesBefore(s, list[at]) {
			at = i
		}
	}
	return at
}

func goesBefore(a, b *storedCookie) bool {
	if !a.accessed.Equal(b.accessed) {
		return a.accessed.Before(b.accessed)
	}
	return a.order < b.order
}

// matching appends the cookies for a request (RFC 6265bis §5.8.3), in the
// order in which they are sent, and forgets those that have expired.
func (j *Jar) matching(list []*storedCookie, o jarOrigin, now time.Time) []*storedCookie {
	for domain := o.host; domain != ""; domain = parentDomain(domain) {
		j.dropExpired(domain, now)
		for _, s := range j.domains[domain] {
			if s.hostOnly && domain != o.host || s.secure && !o.secure || !pathMatch(o.path, s.path) {
				continue
			}
			s.accessed = now
			list = append(list, s)
		}
		if o.address {
			break
		}
	}
	slices.SortFunc(list, func(a, b *storedCookie) int {
		switch {
		case len(a.path) != len(b.path):
			return len(b.path) - len(a.path)
		case !a.created.Equal(b.created):
			return a.created.Compare(b.created)
		case a.order < b.order:
			return -1
		}
		return 1
	})
	return list
}
