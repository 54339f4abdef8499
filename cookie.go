package flare

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// This file is layer 1 (wire): cookies as text, by RFC 6265bis
// (draft-ietf-httpbis-rfc6265bis-20). It knows what a Set-Cookie and a Cookie
// field say; which cookies a client keeps and sends is jar.go's to decide, and
// dates are in cookie_date.go. handler_cookie.go and jar.go call it.

const (
	// cookieBytesMax bounds name and value together (RFC 6265bis §5.6).
	cookieBytesMax = 4096

	// cookieAttributeBytesMax bounds an attribute's value; a longer attribute
	// is ignored (RFC 6265bis §5.6).
	cookieAttributeBytesMax = 1024

	// cookieAgeMax is how long a cookie lives at most (RFC 6265bis §5.5).
	cookieAgeMax = 400 * 24 * time.Hour
)

const (
	ruleCookieControl = "control character in a Set-Cookie field (RFC 6265bis §5.6)"
	ruleCookieEmpty   = "cookie with neither name nor value (RFC 6265bis §5.7)"
	ruleCookieMax     = "name and value of a cookie too long (RFC 6265bis §5.6)"
)

// sameSiteNames are the values of SameSite (RFC 6265bis §5.6.7), "" where it is
// not said.
var sameSiteNames = [...]string{
	http.SameSiteLaxMode:    "Lax",
	http.SameSiteStrictMode: "Strict",
	http.SameSiteNoneMode:   "None",
}

// A Cookie is what a Set-Cookie field says. Name and value are octets as they
// are on the wire: quotes belong to the value, nothing is decoded.
type Cookie struct {
	Name  string
	Value string

	Domain      string        // it and all below it, no dot before it; "": only the host that sets it
	Path        string        // "": the directory of the request's path
	Expires     time.Time     // zero: at the end of the client's session
	MaxAge      int           // seconds, wins over Expires; 0: not said; negative: delete now
	Secure      bool          // only over https
	HttpOnly    bool          // not for scripts
	SameSite    http.SameSite // from which other sites; 0: not said, browsers take it for nearly Lax
	Partitioned bool          // one for each top-level site; such a cookie has to be Secure
}

// ParseSetCookie reads the value of a Set-Cookie field as clients do: nearly
// everything means something, attributes that do not are ignored. A Domain
// loses its leading dot and is in lower case; a Path that does not begin with
// a slash is "". The error is a *ParseError: for a control character (but
// tab), no name and no value, or more than 4096 bytes of both.
func ParseSetCookie(line string) (*Cookie, error) {
	c := new(Cookie)
	if err := c.parse(line); err != nil {
		return nil, err
	}
	return c, nil
}

// parse is RFC 6265bis §5.6.
func (c *Cookie) parse(line string) error {
	for i := range len(line) {
		if charClass[line[i]]&classValue == 0 {
			return fault(http.StatusBadRequest, i, ruleCookieControl)
		}
	}
	pair, attributes, _ := strings.Cut(line, ";")
	c.Name, c.Value = splitCookiePair(pair)
	if c.Name == "" && c.Value == "" {
		return fault(http.StatusBadRequest, 0, ruleCookieEmpty)
	}
	if len(c.Name)+len(c.Value) > cookieBytesMax {
		return fault(http.StatusRequestHeaderFieldsTooLarge, cookieBytesMax, ruleCookieMax)
	}
	for attributes != "" {
		var attribute string
		attribute, attributes, _ = strings.Cut(attributes, ";")
		name, value, _ := strings.Cut(attribute, "=")
		if value = trimBlank(value); len(value) <= cookieAttributeBytesMax {
			c.parseAttribute(trimBlank(name), value)
		}
	}
	return nil
}

// splitCookiePair splits at the first "="; without one all is value (RFC
// 6265bis §5.6).
func splitCookiePair(pair string) (name, value string) {
	name, value, found := strings.Cut(pair, "=")
	if !found {
		return "", trimBlank(pair)
	}
	return trimBlank(name), trimBlank(value)
}

// parseAttribute takes one attribute. The last of each kind that means
// something wins.
func (c *Cookie) parseAttribute(name, value string) {
	switch {
	case equalFoldASCII(name, "Expires"):
		if t, ok := parseCookieDate(value); ok {
			c.Expires = t
		}
	case equalFoldASCII(name, "Max-Age"):
		if age, ok := parseMaxAge(value); ok {
			c.MaxAge = age
		}
	case equalFoldASCII(name, "Domain"):
		c.Domain = lowerName(strings.TrimPrefix(value, "."))
	case equalFoldASCII(name, "Path"):
		if c.Path = ""; strings.HasPrefix(value, "/") {
			c.Path = value
		}
	case equalFoldASCII(name, "Secure"):
		c.Secure = true
	case equalFoldASCII(name, "HttpOnly"):
		c.HttpOnly = true
	case equalFoldASCII(name, "Partitioned"):
		c.Partitioned = true
	case equalFoldASCII(name, "SameSite"):
		c.SameSite = sameSiteOf(value)
	}
}

// sameSiteName is the value of SameSite, "" for none and for a number that means
// nothing.
func sameSiteName(s http.SameSite) string {
	if s < 0 || int(s) >= len(sameSiteNames) {
		return ""
	}
	return sameSiteNames[s]
}

// sameSiteOf reads a value of SameSite: an unknown one says nothing.
func sameSiteOf(value string) http.SameSite {
	for s, name := range sameSiteNames {
		if name != "" && equalFoldASCII(value, name) {
			return http.SameSite(s)
		}
	}
	return 0
}

// parseMaxAge reads a Max-Age (RFC 6265bis §5.6.2): seconds up to
// cookieAgeMax, -1 for zero and less.
func parseMaxAge(s string) (age int, ok bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" {
		return 0, false
	}
	for i := range len(digits) {
		if !isDigit(digits[i]) {
			return 0, false
		}
		age = min(age*10+int(digits[i]-'0'), int(cookieAgeMax/time.Second))
	}
	if age == 0 || len(digits) < len(s) {
		age = -1
	}
	return age, true
}

// lowerName returns s in lower case; octets above ASCII stay as they are.
func lowerName(s string) string {
	for i := range len(s) {
		if s[i] != lowerASCII(s[i]) {
			b := []byte(s)
			for ; i < len(b); i++ {
				b[i] = lowerASCII(b[i])
			}
			return string(b)
		}
	}
	return s
}

// ParseCookies yields name and value of each cookie in the value of a Cookie
// field, in order, without an allocation. A part without "=" is a value
// without a name, as clients send it (RFC 6265bis §5.8.3).
func ParseCookies(line string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for more := true; more; {
			var pair string
			pair, line, more = strings.Cut(line, ";")
			name, value := splitCookiePair(pair)
			if name == "" && value == "" {
				continue
			}
			if !yield(name, value) {
				return
			}
		}
	}
}

// findCookie looks for a name in the value of a Cookie field. It returns where
// its value starts and ends in line.
func findCookie(line, name string) (start, end int, ok bool) {
	for at := 0; at < len(line); at = end + 1 {
		if end = strings.IndexByte(line[at:], ';'); end < 0 {
			end = len(line) - at
		}
		end += at
		for at < end && isBlank(line[at]) {
			at++
		}
		pair := line[at:end]
		if len(pair) < len(name) || pair[:len(name)] != name {
			continue
		}
		n, value := splitCookiePair(pair)
		if n != name || n == "" && value == "" {
			continue
		}
		// value is part of pair: where it lies follows from what lies behind it.
		stop := end
		for stop > at && isBlank(line[stop-1]) {
			stop--
		}
		return stop - len(value), stop, true
	}
	return 0, 0, false
}

// String returns the cookie as the value of a Set-Cookie field, "" where Valid
// has an objection.
func (c *Cookie) String() string {
	if c.Valid() != nil {
		return ""
	}
	var room [256]byte
	return string(c.appendTo(room[:0]))
}

// appendTo appends a valid cookie.
func (c *Cookie) appendTo(b []byte) []byte {
	b = append(b, c.Name...)
	b = append(b, '=')
	b = append(b, c.Value...)
	if c.Path != "" {
		b = append(append(b, "; Path="...), c.Path...)
	}
	if c.Domain != "" {
		b = append(append(b, "; Domain="...), c.Domain...)
	}
	if !c.Expires.IsZero() {
		b = c.Expires.UTC().AppendFormat(append(b, "; Expires="...), http.TimeFormat)
	}
	if c.MaxAge != 0 {
		b = strconv.AppendInt(append(b, "; Max-Age="...), int64(max(c.MaxAge, 0)), 10)
	}
	if c.Secure {
		b = append(b, "; Secure"...)
	}
	if c.HttpOnly {
		b = append(b, "; HttpOnly"...)
	}
	if name := sameSiteName(c.SameSite); name != "" {
		b = append(append(b, "; SameSite="...), name...)
	}
	if c.Partitioned {
		b = append(b, "; Partitioned"...)
	}
	return b
}

// Valid says why the cookie cannot be sent in a Set-Cookie field: it does not
// fit the grammar for servers (RFC 6265bis §4.1.1), or every client would drop
// it. Values outside of the grammar, with white space, quotes inside, commas,
// semicolons, backslashes or non-ASCII octets, have to be encoded first, for
// example by url.QueryEscape. The error quotes the name, never the value.
func (c *Cookie) Valid() error {
	rule := ""
	switch {
	case !isToken(c.Name):
		rule = "its name is not a token"
	case !isCookieValue(c.Value):
		rule = "its value has an octet that is no cookie-octet"
	case len(c.Name)+len(c.Value) > cookieBytesMax:
		rule = "name and value are longer than 4096 bytes"
	case c.Path != "" && !isCookiePath(c.Path):
		rule = "its path does not begin with a slash, or has a semicolon or a control character, or is too long"
	case c.Domain != "" && !isCookieDomain(c.Domain):
		rule = "its domain is not a host name, without a dot before it"
	case !c.Expires.IsZero() && (c.Expires.UTC().Year() < cookieYearMin || c.Expires.UTC().Year() > 9999):
		rule = "it expires in a year before 1601 or after 9999"
	case c.SameSite < 0 || int(c.SameSite) >= len(sameSiteNames):
		rule = "its SameSite has no name"
	case c.SameSite == http.SameSiteNoneMode && !c.Secure:
		rule = "SameSite=None without Secure"
	case c.Partitioned && !c.Secure:
		rule = "Partitioned without Secure"
	default:
		return checkCookiePrefix(c, c.Domain == "")
	}
	return fmt.Errorf("flare: cookie %q: %s", c.Name, rule)
}

var (
	errCookieSecurePrefix = errors.New("flare: cookie named __Secure- without Secure")
	errCookieHostPrefix   = errors.New("flare: cookie named __Host- without Secure or Path=/, or with a Domain")
	errCookieFalsePrefix  = errors.New("flare: cookie without a name whose value begins like a prefixed name")
)

// checkCookiePrefix holds a cookie to what its name promises (RFC 6265bis
// §5.4, §5.7). Case does not matter, since servers that compare names without
// it exist. A cookie without a name is sent as its value alone, and must not
// look like a prefixed one.
func checkCookiePrefix(c *Cookie, hostOnly bool) error {
	switch {
	case c.Name == "":
		if hasPrefixFold(c.Value, "__Secure-") || hasPrefixFold(c.Value, "__Host-") {
			return errCookieFalsePrefix
		}
	case hasPrefixFold(c.Name, "__Secure-"):
		if !c.Secure {
			return errCookieSecurePrefix
		}
	case hasPrefixFold(c.Name, "__Host-"):
		if !c.Secure || !hostOnly || c.Path != "/" {
			return errCookieHostPrefix
		}
	}
	return nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFoldASCII(s[:len(prefix)], prefix)
}

// isCookieValue says whether s is a cookie-value (RFC 6265bis §4.1.1):
// cookie-octets, perhaps in quotes.
func isCookieValue(s string) bool {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f, c == '"', c == ',', c == ';', c == '\\':
			return false
		}
	}
	return true
}

// isCookiePath says whether s is a path that a client takes as it is (RFC
// 6265bis §4.1.1, path-value; §5.6.4).
func isCookiePath(s string) bool {
	if len(s) > cookieAttributeBytesMax || s[0] != '/' || isBlank(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f || s[i] == ';' {
			return false
		}
	}
	return true
}

// isCookieDomain says whether s can be a host name: letters, digits, "-", "_"
// in labels that are not empty (RFC 6265bis §4.1.1, subdomain).
func isCookieDomain(s string) bool {
	label := 0
	for i := range len(s) {
		switch c := lowerASCII(s[i]); {
		case isDigit(c), 'a' <= c && c <= 'z', c == '-', c == '_':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return false
		}
	}
	return label > 0 && len(s) <= domainBytesMax
}

// domainBytesMax is the longest host name that DNS can ask for (RFC 1035
// §2.3.4).
const domainBytesMax = 253
