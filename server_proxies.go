package flare

import (
	"net/netip"
	"strings"
)

// This file is layer 4 (roles): who the client of a request is when proxies have
// passed it on. forwarded_trust.go has whose word counts.

// forwarded returns what trusted proxies say of r; ok is false when there is
// nobody to be believed. The strings are valid as those of view.
func (r *serverRequest) forwarded() (hop forwardedHop, ok bool) {
	t := r.trust()
	if t == nil || !t.trusts(r.RemoteAddr().Addr()) {
		return hop, false
	}
	if h := r.session().proxyHeader(); h != nil && !h.Source.IsValid() && !h.Local {
		return hop, false // the proxy does not say who sends the fields
	}
	var room [4]string
	var standard, custom forwardedWalk
	for _, list := range r.fieldViews("Forwarded", room[:0]) {
		for more := true; more; {
			var next forwardedHop
			empty := trimBlank(list) == "" || trimBlank(list)[0] == ','
			if next, list, more = nextForwarded(list); !empty {
				standard.add(t, next)
			}
		}
	}
	for _, list := range r.fieldViews("X-Forwarded-For", room[:0]) {
		for more := true; more; {
			var member string
			if member, list, more = nextListMember(list); member != "" {
				custom.add(t, forwardedHop{client: forwardedNode(member)})
			}
		}
	}
	standard.settle()
	custom.settle()
	custom.hop.proto = r.forwardedMember("X-Forwarded-Proto", custom.trusted)
	custom.hop.host = r.forwardedMember("X-Forwarded-Host", custom.trusted)
	return agreed(&standard, &custom, r.RemoteAddr()), true
}

// forwardedMember returns what the outermost trusted proxy has put into a list of
// which each proxy may add a member, or keep the one that is there: there may be
// fewer of them than proxies. behind is the number of proxies behind that one.
func (r *serverRequest) forwardedMember(name string, behind int) string {
	var room [4]string
	lists := r.fieldViews(name, room[:0])
	for i := len(lists) - 1; i >= 0; i-- {
		for list := lists[i]; ; behind-- {
			comma := strings.LastIndexByte(list, ',')
			member := trimBlank(list[comma+1:])
			if behind == 0 || comma < 0 && i == 0 {
				return member
			}
			if comma < 0 {
				behind--
				break
			}
			list = list[:comma]
		}
	}
	return ""
}

func (r *serverRequest) ClientAddr() netip.AddrPort {
	if hop, ok := r.forwarded(); ok {
		return hop.client
	}
	return r.RemoteAddr()
}

func (r *serverRequest) Scheme() string {
	if hop, ok := r.forwarded(); ok && hop.proto != "" {
		return hop.proto
	}
	if h := r.session().proxyHeader(); r.TLS() != nil || h != nil && h.clientTLS() {
		return "https"
	}
	return "http"
}

func (r *serverRequest) ClientHost() string {
	if hop, ok := r.forwarded(); ok && hop.host != "" {
		return strings.Clone(hop.host)
	}
	return r.Host()
}

// clientHostView is ClientHost as view has it.
func (r *serverRequest) clientHostView() string {
	if hop, ok := r.forwarded(); ok && hop.host != "" {
		return hop.host
	}
	return r.hostView()
}
