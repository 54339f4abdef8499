package flare

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// This file is layer 4 (roles): where a request goes: a URL taken apart, its
// host checked. It knows strings; it does not resolve or connect. client.go and
// client_redirect.go call it.

const (
	hostNameBytesMax = 253 // RFC 1035 §2.3.4, as text without the last dot
	labelBytesMax    = 63  // RFC 1035 §2.3.4
	urlBytesMax      = 64 << 10
)

const (
	ruleURLForm      = "not an absolute http or https URL"
	ruleURLMax       = "URL longer than 64 KiB"
	ruleURLScheme    = "scheme is neither http nor https"
	ruleURLUserinfo  = "userinfo in a redirect target"
	ruleHostEmpty    = "empty host"
	ruleHostNameMax  = "host name longer than 253 octets"
	ruleLabelMax     = "label of a host name longer than 63 octets"
	ruleLabelEmpty   = "empty label in a host name"
	ruleHostOctet    = "octet that is not of a host name"
	ruleHostASCII    = "host name is not ASCII: give it in its ASCII form, with xn-- (RFC 5890 §2.3.2.1)"
	ruleHostLiteral  = "host is not an IP literal, and ends like one"
	rulePort         = "port is not 1 to 65535"
	ruleURLNoBaseURL = "relative URL without a BaseURL"
)

// A clientTarget is a URL taken apart.
type clientTarget struct {
	text      string // the URL, without userinfo and fragment
	host      string // lower-case, without brackets or port; a zone stays
	authority string // the Host field
	path      string // origin form: path and query; "*"; or what absolute says
	fragment  string // escaped; "" for none. It is not sent
	user      *url.Userinfo
	parsed    *url.URL // nil until asked for
	port      uint16
	https     bool
	absolute  bool // path is in absolute form already
}

// origin identifies who gets to see credentials (RFC 6454 §4).
type clientOrigin struct {
	host  string
	port  uint16
	https bool
}

func (t *clientTarget) origin() clientOrigin { return clientOrigin{t.host, t.port, t.https} }

// hostPort returns "host:port", with brackets where they belong.
func (t *clientTarget) hostPort() string { return joinHostPort(t.host, t.port) }

func (o clientOrigin) hostPort() string { return joinHostPort(o.host, o.port) }

func joinHostPort(host string, port uint16) string {
	if strings.IndexByte(host, ':') >= 0 {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}

// isServer reports whether the URL has neither path nor query: OPTIONS of it is for the
// server as a whole (RFC 9110 §9.3.7, RFC 9113 §8.3.1).
func (t *clientTarget) isServer() bool {
	_, rest, _ := strings.Cut(t.text, "://")
	return !strings.ContainsAny(rest, "/?")
}

// textWithFragment is the URL as its user would write it, without userinfo.
func (t *clientTarget) textWithFragment() string {
	if t.fragment == "" {
		return t.text
	}
	return t.text + "#" + t.fragment
}

func (t *clientTarget) scheme() string {
	if t.https {
		return "https"
	}
	return "http"
}

// url returns the URL parsed. The value is shared: callers do not change it.
func (t *clientTarget) url() *url.URL {
	if t.parsed == nil {
		t.parsed, _ = url.Parse(t.text) // parseTarget has seen it to be one
	}
	return t.parsed
}

// parseTarget takes an absolute URL apart. Errors are *ClientError with
// ErrInvalidURL.
func parseTarget(s string, phase ClientPhase) (clientTarget, error) {
	if len(s) > urlBytesMax {
		return clientTarget{}, invalidURL(phase, ruleURLMax)
	}
	if t, ok := parsePlainTarget(s); ok {
		return t, nil
	}
	u, err := url.Parse(s) // refuses control characters and spaces in the host
	if err != nil {
		return clientTarget{}, invalidURL(phase, ruleURLForm) // err repeats the URL
	}
	return targetOf(u, phase)
}

// parsePlainTarget takes the usual URL apart, without an allocation: a name in
// lower case or an IPv4 address, a port perhaps, a path of octets that mean
// themselves. It says no to all others, valid or not, and agrees with targetOf
// on what it takes; a fuzz target holds it to that.
func parsePlainTarget(s string) (t clientTarget, ok bool) {
	rest, https := strings.CutPrefix(s, "https://")
	if !https {
		if rest, ok = strings.CutPrefix(s, "http://"); !ok {
			return t, false
		}
	}
	slash, ok := plainAuthorityEnd(rest)
	if !ok {
		return t, false
	}
	t = clientTarget{text: s, https: https, authority: rest[:slash], path: rest[slash:], port: 80}
	if https {
		t.port = 443
	}
	if t.path == "" {
		t.path = "/"
	}
	t.host = t.authority
	if colon := strings.IndexByte(t.host, ':'); colon >= 0 {
		port, ok := parsePort([]byte(t.host[colon+1:]))
		if !ok || port < 1 {
			return t, false
		}
		t.host, t.port = t.host[:colon], uint16(port)
	}
	return t, isPlainHost(t.host)
}

// plainAuthorityEnd says where the authority ends that s begins with, and whether
// all of s is of octets that mean themselves.
func plainAuthorityEnd(s string) (slash int, ok bool) {
	end := len(s)
	slash = end
	for i := range len(s) {
		c := s[i]
		if c == '/' && slash == end {
			slash = i
		}
		if c == '?' && slash < end {
			return slash, isPlainQuery(s[i+1:])
		}
		if c != '/' && c != ':' && c != '@' && charClass[c]&classHost == 0 || c == '@' && slash == end {
			return slash, false
		}
	}
	return slash, true
}

func isPlainQuery(s string) bool {
	for i := range len(s) {
		if !isQueryOctet(s[i]) {
			return false
		}
	}
	return true
}

// isQueryOctet says whether a client sends c in a query as it is. It escapes
// what is not ASCII, which servers need not take.
func isQueryOctet(c byte) bool {
	return charClass[c]&classTarget != 0 && c < 0x80 || c == '?' || c == '%'
}

// isPlainHost answers for names in lower case that are no IP literals, and for
// valid IPv4 literals.
func isPlainHost(s string) bool {
	for i := range len(s) {
		if c := s[i]; c-'a' >= 26 && !isDigit(c) && c != '-' && c != '.' {
			return false
		}
	}
	return checkHost(s) == ""
}

// targetOf checks a parsed URL.
func targetOf(u *url.URL, phase ClientPhase) (clientTarget, error) {
	t := clientTarget{user: u.User}
	switch {
	case u.Scheme == "https":
		t.https, t.port = true, 443
	case u.Scheme == "http":
		t.port = 80
	case u.Scheme == "" || u.Opaque != "":
		return t, invalidURL(phase, ruleURLForm)
	default:
		return t, invalidURL(phase, ruleURLScheme)
	}
	if u.Opaque != "" {
		return t, invalidURL(phase, ruleURLForm)
	}
	if rule := t.setAuthority(u); rule != "" {
		return t, invalidURL(phase, rule)
	}
	t.path = u.EscapedPath()
	if t.path == "" {
		t.path = "/"
	} else if t.path[0] != '/' {
		return t, invalidURL(phase, ruleURLForm)
	}
	t.path = escapeTarget(t.path)
	if u.RawQuery != "" || u.ForceQuery {
		t.path += "?" + escapeTarget(u.RawQuery)
	}
	t.fragment = u.EscapedFragment()
	clean := *u
	clean.User, clean.Fragment, clean.RawFragment = nil, "", ""
	t.parsed, t.text = &clean, clean.String()
	return t, nil
}

// setAuthority takes host and port from u, and returns the rule that they break,
// "" for none.
func (t *clientTarget) setAuthority(u *url.URL) string {
	t.host = strings.ToLower(u.Hostname())
	if rule := checkHost(t.host); rule != "" {
		return rule
	}
	host := t.host
	if zone := strings.IndexByte(host, '%'); zone >= 0 {
		host = host[:zone] // RFC 6874 §4: a zone means nothing to the peer
	}
	t.authority = host
	if strings.IndexByte(host, ':') >= 0 {
		t.authority = "[" + host + "]"
	}
	if digits := u.Port(); digits != "" {
		port, ok := parsePort([]byte(digits))
		if !ok || port < 1 {
			return rulePort
		}
		t.port = uint16(port)
		t.authority += ":" + digits
	}
	return ""
}

// escapeTarget escapes what may not stand in a request target: url.Parse leaves
// a query as it is, spaces and all.
func escapeTarget(s string) string {
	return escapeOctets(s, func(c byte) bool { return !isQueryOctet(c) })
}

// checkHost returns the rule that a host breaks, "" for none. Whatever ends in
// a number is meant as an IP literal, and has to be one that all readers read
// alike: no octal, no hexadecimal, no short forms.
func checkHost(s string) string {
	switch {
	case s == "":
		return ruleHostEmpty
	case strings.IndexByte(s, ':') >= 0:
		if _, err := ParseAddr(s); err != nil {
			return ruleHostLiteral
		}
		return ""
	}
	name := strings.TrimSuffix(s, ".") // the root, written out
	if len(name) > hostNameBytesMax {
		return ruleHostNameMax
	}
	last := 0
	for i := 0; i <= len(name); i++ {
		switch {
		case i == len(name) || name[i] == '.':
			if i == last {
				return ruleLabelEmpty
			}
			if i-last > labelBytesMax {
				return ruleLabelMax
			}
			if i < len(name) {
				last = i + 1
			}
		case name[i] >= 0x80:
			return ruleHostASCII
		case !isHostNameOctet(name[i]):
			return ruleHostOctet
		}
	}
	if isNumericLabel(name[last:]) {
		if _, err := ParseAddr(s); err != nil {
			return ruleHostLiteral
		}
	}
	return ""
}

// isHostNameOctet: letters, digits and hyphens (RFC 1123 §2.1), and the
// underscore that many names in use have.
func isHostNameOctet(c byte) bool {
	return lowerASCII(c)-'a' < 26 || isDigit(c) || c == '-' || c == '_'
}

// isNumericLabel says whether inet_aton would read the label as a number.
func isNumericLabel(s string) bool {
	if len(s) >= 2 && s[0] == '0' && lowerASCII(s[1]) == 'x' {
		for i := 2; i < len(s); i++ {
			if charClass[s[i]]&classHex == 0 {
				return false
			}
		}
		return true
	}
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// literalAddr returns the host's address if it is a literal.
func literalAddr(host string) (netip.Addr, bool) {
	if c := host[len(host)-1]; !isDigit(c) && strings.IndexByte(host, ':') < 0 {
		return netip.Addr{}, false
	}
	addr, err := ParseAddr(host)
	return addr, err == nil
}

// joinURL puts a relative reference behind a base: the base's path stays, what
// the reference has is appended to it. An absolute URL is returned as it is.
func joinURL(base, ref string) (string, error) {
	switch {
	case hasScheme(ref):
		return ref, nil
	case base == "":
		return "", invalidURL(PhaseRequest, ruleURLNoBaseURL)
	case strings.HasPrefix(ref, "//"):
		return "", invalidURL(PhaseRequest, ruleURLForm) // would name another host
	case ref == "" || ref[0] == '?':
		return base + ref, nil
	}
	return strings.TrimSuffix(base, "/") + "/" + strings.TrimPrefix(ref, "/"), nil
}

// hasScheme says whether s begins with a scheme (RFC 3986 §3.1) and "://".
func hasScheme(s string) bool {
	i := strings.Index(s, "://")
	if i <= 0 {
		return false
	}
	for j := range i {
		c := s[j]
		if lowerASCII(c)-'a' >= 26 && (j == 0 || !isDigit(c) && strings.IndexByte("+-.", c) < 0) {
			return false
		}
	}
	return true
}
