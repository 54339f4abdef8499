package flare

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// This file is layer 5 (surface): the fields of what a ReverseProxy passes on: which are
// for one connection alone, and what it says itself of who has asked.

// isHopField reports whether a field is for one connection alone (RFC 9110 §7.6.1),
// named by Connection or not.
func isHopField(name string) bool {
	for _, hop := range [...]string{
		"Connection", "Keep-Alive", "Proxy-Connection", "TE", "Transfer-Encoding", "Upgrade", "HTTP2-Settings",
		"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Authentication-Info",
	} {
		if equalFoldASCII(name, hop) {
			return true
		}
	}
	return false
}

// isHopOf reports whether a field is for the connection alone that a message came by;
// named is what its Connection has.
func isHopOf(named []string, name string) bool {
	if isHopField(name) {
		return true
	}
	for _, list := range named {
		if listContains(list, name) {
			return true
		}
	}
	return false
}

// endToEnd returns the fields that may be passed on, without those of dropped.
func endToEnd(from *headerFields, dropped func(name string) bool) *headerFields {
	named := from.Values("Connection")
	h := &headerFields{list: make([]headerField, 0, len(from.list)+6)}
	for _, f := range from.list {
		if !isHopOf(named, f.name) && (dropped == nil || !dropped(f.name)) {
			h.list = append(h.list, f)
		}
	}
	return h
}

func isLengthField(name string) bool { return equalFoldASCII(name, "Content-Length") }

func setContentLength(h *headerFields, n int64) {
	h.Set("Content-Length", strconv.FormatInt(n, 10))
}

// saysWhoAsks reports whether a field tells who has asked, in the eyes of some program:
// many take "_" for "-".
func saysWhoAsks(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = strings.ReplaceAll(name, "_", "-")
	}
	return equalFoldASCII(name, "Forwarded") || hasPrefixFold(name, "X-Forwarded-") || equalFoldASCII(name, "X-Real-IP")
}

// isOwnField reports whether a field of a request is written anew.
func isOwnField(name string) bool {
	for _, own := range [...]string{"Host", "Content-Length", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if equalFoldASCII(name, own) {
			return true
		}
	}
	return false
}

// addAnswerFields gives the answer the fields of the server's. What middleware has said stays,
// where there cannot be both.
func addAnswerFields(h, from *headerFields) {
	own := len(h.list)
	for _, f := range endToEnd(from, isLengthField).list {
		if i := h.index(f.name); i < 0 || i >= own || isAdded(f.name) {
			h.Add(f.name, f.value)
		}
	}
}

// isAdded reports whether there may be a field of several that speak of different things.
func isAdded(name string) bool {
	for _, list := range [...]string{"Set-Cookie", "Vary", "Link", "Server-Timing", "Via", "WWW-Authenticate"} {
		if equalFoldASCII(name, list) {
			return true
		}
	}
	return false
}

// passVia adds this server to those that the request has come by (RFC 9110 §7.6.3).
// One that has come by here already goes in a circle.
func passVia(name string, r *serverRequest, h *headerFields) error {
	for _, list := range h.Values("Via") {
		if strings.Contains(list, name) {
			return &StatusError{Code: http.StatusLoopDetected}
		}
	}
	_, major, minor := r.version()
	h.Add("Via", fmt.Sprintf("%d.%d %s", major, minor, name))
	return nil
}

// isOfServer reports whether a request is about this server, and no resource of it (RFC
// 9110 §9.3.7, RFC 9112 §3.2.4).
func isOfServer(r *serverRequest) bool {
	if r.head.form != absoluteForm || r.methodView() != http.MethodOptions {
		return r.head.form == asteriskForm
	}
	_, target, _ := strings.Cut(r.Target(), "://")
	return !strings.ContainsAny(target, "/?")
}

// isForHere reports whether a request goes no further, and whether it cannot be answered
// then.
func isForHere(r *serverRequest) (bool, error) {
	if isOfServer(r) {
		return true, nil
	}
	left, err := forwardsLeft(r)
	if left == 0 && r.methodView() == http.MethodTrace {
		err = &StatusError{Code: http.StatusNotImplemented}
	}
	return left == 0, err
}

// forwardsLeft returns how many servers a request may be passed on to, and -1 where it
// does not say so: of OPTIONS and TRACE alone that counts (RFC 9110 §7.6.2).
func forwardsLeft(r *serverRequest) (int, error) {
	if method := r.methodView(); method != http.MethodOptions && method != http.MethodTrace {
		return -1, nil
	}
	values := r.Header().Values("Max-Forwards")
	if len(values) == 0 {
		return -1, nil
	}
	n, err := strconv.ParseUint(values[0], 10, 31) // the largest for what is larger
	if len(values) > 1 || err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, &StatusError{Code: http.StatusBadRequest, Message: "Max-Forwards is no number"}
	}
	return int(n), nil
}

// setForwarded says who has asked: what a trusted proxy has said, and that proxy. Where
// it has said so in one kind of field the other is made to say the same.
func setForwarded(r *serverRequest, in, h *headerFields, trusted bool) {
	peer, proto, host := "unknown", r.Scheme(), r.ClientHost() // RFC 7239 §6.2
	if addr := r.RemoteAddr().Addr(); addr.IsValid() {
		peer = addr.Unmap().WithZone("").String()
	}
	var custom, standard []string
	if trusted {
		custom, standard = in.Values("X-Forwarded-For"), in.Values("Forwarded")
		if len(custom)+len(standard) > 0 {
			client := "unknown"
			if addr := r.ClientAddr().Addr(); addr.IsValid() {
				client = addr.String()
			}
			if len(custom) == 0 {
				custom = append(custom, client)
			}
			if len(standard) == 0 {
				standard = append(standard, forwardedElement(client, proto, host))
			}
		}
	}
	h.Set("X-Forwarded-For", strings.Join(append(custom, peer), ", "))
	h.Set("X-Forwarded-Proto", proto)
	if host != "" {
		h.Set("X-Forwarded-Host", host)
	}
	h.Set("Forwarded", strings.Join(append(standard, forwardedElement(peer, proto, host)), ", "))
}

// forwardedElement is an element of Forwarded (RFC 7239 §4). A host has no quotation
// marks and backslashes.
func forwardedElement(node, proto, host string) string {
	if strings.IndexByte(node, ':') >= 0 {
		node = `"[` + node + `]"`
	}
	if host == "" {
		return "for=" + node + ";proto=" + proto
	}
	return "for=" + node + `;host="` + host + `";proto=` + proto
}
