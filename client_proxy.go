package flare

import (
	"encoding/base64"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
)

// This file is layer 4 (roles): which proxy a request goes through. It knows
// the environment's variables and URLs. client_roundtrip.go calls it.

// A clientProxy is a proxy taken apart, made once for each URL, so that its
// pointer identifies it.
type clientProxy struct {
	target        clientTarget
	authorization string // the Proxy-Authorization line, or ""
}

// A proxyEnvironment is what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say.
type proxyEnvironment struct {
	http, https string
	never       []string // members of NO_PROXY
}

// readProxyEnvironment reads the variables, lower-case ones too, which win. A
// CGI program's HTTP_PROXY is a header of its client, and not believed.
func readProxyEnvironment() proxyEnvironment {
	first := func(names ...string) string {
		for _, name := range names {
			if v := os.Getenv(name); v != "" {
				return v
			}
		}
		return ""
	}
	env := proxyEnvironment{https: first("https_proxy", "HTTPS_PROXY"), http: first("http_proxy")}
	if env.http == "" && os.Getenv("REQUEST_METHOD") == "" {
		env.http = os.Getenv("HTTP_PROXY")
	}
	for member := range strings.SplitSeq(first("no_proxy", "NO_PROXY"), ",") {
		if member = strings.ToLower(strings.TrimSpace(member)); member != "" {
			env.never = append(env.never, member)
		}
	}
	return env
}

// proxyURL returns the proxy for a target, "" for none. Loopback hosts are
// never asked of a proxy: to it they would be others.
func (env *proxyEnvironment) proxyURL(t *clientTarget) string {
	proxy := env.http
	if t.https {
		proxy = env.https
	}
	if proxy == "" || env.bypasses(t) {
		return ""
	}
	if !strings.Contains(proxy, "://") {
		proxy = "http://" + proxy
	}
	return proxy
}

func (env *proxyEnvironment) bypasses(t *clientTarget) bool {
	host := strings.TrimSuffix(t.host, ".")
	addr, literal := literalAddr(t.host)
	addr = addr.Unmap()
	if isLocalhost(host) || literal && addr.WithZone("").IsLoopback() {
		return true
	}
	if literal {
		host = "" // no name matches an address, nor the zone that is in one
	}
	for _, member := range env.never {
		if bypassMember(member, host, t.port, addr) {
			return true
		}
	}
	return false
}

// bypassMember says whether one member of NO_PROXY means the host, "" where it
// is an address: "*", an
// address, a network, a name with all below it, or with a leading dot only
// those below; a port narrows it.
func bypassMember(member, host string, port uint16, addr netip.Addr) bool {
	if member == "*" {
		return true
	}
	if prefix, err := netip.ParsePrefix(member); err == nil {
		return addr.IsValid() && prefix.Contains(addr.WithZone(""))
	}
	name := strings.Trim(member, "[]")
	if at, err := ParseAddr(name); err == nil {
		return sameAddr(at, addr)
	}
	if colon := strings.LastIndexByte(member, ':'); colon >= 0 {
		p, ok := parsePort([]byte(member[colon+1:]))
		if !ok || p != int(port) {
			return false
		}
		name = strings.Trim(member[:colon], "[]")
		if at, err := ParseAddr(name); err == nil {
			return sameAddr(at, addr)
		}
	}
	if host == "" {
		return false
	}
	name = strings.TrimPrefix(name, "*")
	if below, only := strings.CutPrefix(name, "."); only {
		return strings.HasSuffix(host, "."+below)
	}
	return host == name || strings.HasSuffix(host, "."+name)
}

// sameAddr says whether a member means an address; one without a zone means it
// in all zones.
func sameAddr(member, addr netip.Addr) bool {
	if member.Zone() == "" {
		addr = addr.WithZone("")
	}
	return member.Unmap() == addr
}

// proxyFor returns the proxy that a request goes through, nil for none.
func (c *Client) proxyFor(t *clientTarget) (*clientProxy, error) {
	if c.Proxy == nil && c.cfg.env.http == "" && c.cfg.env.https == "" {
		return nil, nil
	}
	var text string
	if c.Proxy != nil {
		u, err := c.Proxy(t.url())
		if err != nil {
			return nil, &ClientError{Phase: PhaseProxy, Host: t.hostPort(), Err: err}
		}
		if u == nil {
			return nil, nil
		}
		text = u.String()
	} else if text = c.cfg.env.proxyURL(t); text == "" {
		return nil, nil
	}
	return c.cfg.proxies.find(text)
}

// clientProxies keeps each proxy once.
type clientProxies struct {
	mu    sync.Mutex
	byURL map[string]*clientProxy // guarded by mu
}

// proxiesMax bounds what a Proxy function that makes URLs up can leave behind.
const proxiesMax = 1024

// find returns the proxy of that URL.
func (p *clientProxies) find(text string) (*clientProxy, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proxy := p.byURL[text]; proxy != nil {
		return proxy, nil
	}
	t, err := parseTarget(text, PhaseProxy)
	if err != nil {
		return nil, err
	}
	proxy := &clientProxy{target: t}
	if t.user != nil {
		proxy.authorization = "Proxy-Authorization: " + basicCredentials(t.user) + "\r\n"
	}
	if p.byURL == nil || len(p.byURL) >= proxiesMax {
		p.byURL = make(map[string]*clientProxy)
	}
	p.byURL[text] = proxy
	return proxy, nil
}

// basicCredentials returns the value of an Authorization for a URL's userinfo
// (RFC 7617 §2).
func basicCredentials(u *url.Userinfo) string {
	password, _ := u.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password))
}
