package flare

import (
	"net/url"
	"strings"
)

// This file is layer 4 (roles): hosts, paths and security as cookies see them
// (RFC 6265bis §5.1). jar.go calls it.

// A jarOrigin is what a jar has to know of a request.
type jarOrigin struct {
	host    string // lower case, no brackets, no dot at the end
	path    string // as on the wire, not decoded
	address bool   // host is an IP address: it has no domains above it
	secure  bool   // nobody on the way can read or change the connection
}

// jarOriginOf looks at the URL of a request.
func jarOriginOf(u *url.URL) (o jarOrigin, err error) {
	o.host = lowerName(strings.TrimSuffix(u.Hostname(), "."))
	o.path = u.EscapedPath()
	if o.host == "" || !isASCII(o.host) {
		return o, errJarURL
	}
	o.address = endsInNumber(o.host) || strings.IndexByte(o.host, ':') >= 0
	switch u.Scheme {
	case "https", "wss":
		o.secure = true
	case "http", "ws":
		o.secure = isLoopbackName(o.host)
	default:
		return o, errJarURL
	}
	return o, nil
}

// isLoopbackName says whether host leads nowhere but to this machine: localhost
// and below (RFC 6761 §6.3), 127.0.0.0/8, ::1.
func isLoopbackName(host string) bool {
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// endsInNumber says whether the last label is a number. Such a host is an IPv4
// address or nothing; no domain is above it.
func endsInNumber(host string) bool {
	label := host[strings.LastIndexByte(host, '.')+1:]
	for i := range len(label) {
		if !isDigit(label[i]) {
			return false
		}
	}
	return label != ""
}

// within says whether the host domain-matches domain (RFC 6265bis §5.1.3).
func (o *jarOrigin) within(domain string) bool {
	return o.host == domain || !o.address && isSubdomain(o.host, domain)
}

// isSubdomain says whether host is below domain.
func isSubdomain(host, domain string) bool {
	n := len(host) - len(domain)
	return n > 0 && host[n-1] == '.' && host[n:] == domain
}

// parentDomain returns domain without its first label, "" for the last.
func parentDomain(domain string) string {
	_, parent, _ := strings.Cut(domain, ".")
	return parent
}

// defaultCookiePath is the directory of a request's path (RFC 6265bis §5.1.4).
func defaultCookiePath(path string) string {
	if path == "" || path[0] != '/' {
		return "/"
	}
	if last := strings.LastIndexByte(path, '/'); last > 0 {
		return path[:last]
	}
	return "/"
}

// pathMatch says whether a request's path is at or below that of a cookie (RFC
// 6265bis §5.1.4).
func pathMatch(request, cookie string) bool {
	if request == "" {
		request = "/"
	}
	return strings.HasPrefix(request, cookie) &&
		(len(request) == len(cookie) || cookie[len(cookie)-1] == '/' || request[len(cookie)] == '/')
}
