package flare

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
)

// This file is layer 4 (roles): the opening handshake (RFC 6455 §4), what the
// server holds a request to and what the client holds the answer to. It knows
// requests and header fields, and no connection. websocket_handler.go,
// websocket_accept.go and websocket_client.go call it.

const (
	websocketVersion = "13"
	websocketGUID    = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 §1.3
	websocketKeyLen  = 24                                     // 16 octets in base64

	fieldWSKey        = "Sec-WebSocket-Key"
	fieldWSAccept     = "Sec-WebSocket-Accept"
	fieldWSVersion    = "Sec-WebSocket-Version"
	fieldWSProtocol   = "Sec-WebSocket-Protocol"
	fieldWSExtensions = "Sec-WebSocket-Extensions"
)

// A handshake is what the two sides agreed on.
type handshake struct {
	key         string // value of Sec-WebSocket-Key, valid until the request's handler returns
	subprotocol string // "": none
	deflate     deflateParams
	compressed  bool // deflate was agreed on
	expected    bool // 100 (Continue) was asked for

	extensions string // as another server has agreed on them, in place of deflate
}

// errWebSocketVersion refuses a handshake over HTTP/2, whose form of it (RFC
// 8441) neither flare nor net/http speaks.
func errWebSocketVersion() error {
	return &StatusError{Code: http.StatusNotImplemented, Message: "WebSockets are spoken over HTTP/1.1 here", Err: errors.ErrUnsupported}
}

// appendAccept appends the answer to a key (RFC 6455 §4.2.2).
func appendAccept(b []byte, key string) []byte {
	var text [websocketKeyLen + len(websocketGUID)]byte
	sum := sha1.Sum(append(append(text[:0], key...), websocketGUID...))
	return base64.StdEncoding.AppendEncode(b, sum[:])
}

// newWebSocketKey returns a client's nonce (RFC 6455 §4.1).
func newWebSocketKey() string {
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails
	return base64.StdEncoding.EncodeToString(nonce[:])
}

var strictBase64 = base64.StdEncoding.Strict()

// isWebSocketKey reports whether key is 16 octets in base64.
func isWebSocketKey(key string) bool {
	if len(key) != websocketKeyLen {
		return false
	}
	var text [websocketKeyLen]byte
	var nonce [18]byte // what so much text may decode to
	copy(text[:], key)
	n, err := strictBase64.Decode(nonce[:], text[:])
	return err == nil && n == 16
}

// badHandshake is the answer to a request that breaks the handshake's rules.
func badHandshake(rule string) error {
	return &StatusError{Code: http.StatusBadRequest, Message: rule, Err: ErrMalformed}
}

var errHandshakeLate = errors.New("flare: WebSocket handshake after the response was committed")

// checkHandshake holds r to RFC 6455 §4.2.1 and chooses what to agree on. It
// sets the fields of w that a refusal needs. Its errors are *StatusErrors, but
// for those of the handler's own making.
func checkHandshake(w *serverResponse, r *serverRequest, o *WebSocketOptions) (hs handshake, err error) {
	if err := checkUpgrade(w, r); err != nil {
		return hs, err
	}
	var room [4]string
	if _, major, _ := r.version(); major == 1 { // RFC 8441 §5: the others have no keys
		keys := r.fieldViews(fieldWSKey, room[:0])
		if len(keys) != 1 || !isWebSocketKey(keys[0]) {
			return hs, badHandshake("Sec-WebSocket-Key is not 16 octets in base64")
		}
		hs.key, hs.expected = keys[0], r.head.expectContinue
	}
	if !originAllowed(r, o.OriginPatterns) {
		return hs, &StatusError{Code: http.StatusForbidden, Message: "origin not allowed"}
	}
	if hs.subprotocol, err = chooseSubprotocol(r.fieldViews(fieldWSProtocol, room[:0]), o.Subprotocols); err != nil {
		return hs, err
	}
	var offers []extension
	for _, value := range r.fieldViews(fieldWSExtensions, room[:0]) {
		if offers, err = parseExtensions(value, offers); err != nil {
			return hs, badHandshake("malformed Sec-WebSocket-Extensions")
		}
	}
	hs.deflate, hs.compressed = acceptDeflate(offers, o.Compression, o.mayTakeOver())
	return hs, w.header.fault()
}

// checkUpgrade holds r to what a request has to be that asks for a WebSocket of
// this version, before its own fields are looked at. It sets the fields of w
// that a refusal needs.
func checkUpgrade(w *serverResponse, r *serverRequest) error {
	if w.begun {
		return errHandshakeLate
	}
	_, major, minor := r.version()
	if major > 1 && !r.head.upgradeWebSocket() { // an extended CONNECT is one (RFC 8441 §5)
		return errWebSocketVersion()
	}
	if r.ContentLength() != 0 {
		w.close = true // what follows was meant as frames, or as a body: nobody can tell
		return badHandshake("a WebSocket handshake has no body")
	}
	if r.Method() != http.MethodGet || major == 1 && minor == 0 {
		return badHandshake("a WebSocket handshake is a GET of HTTP/1.1")
	}
	if !r.head.upgradeWebSocket() {
		w.Header().Set("Upgrade", "websocket") // RFC 9110 §15.5.22
		w.Header().Set("Connection", "Upgrade")
		return &StatusError{Code: http.StatusUpgradeRequired, Message: "this resource is a WebSocket"}
	}
	var room [1]string
	if versions := r.fieldViews(fieldWSVersion, room[:0]); len(versions) != 1 || versions[0] != websocketVersion {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set(fieldWSVersion, websocketVersion) // RFC 6455 §4.4
		return &StatusError{Code: http.StatusUpgradeRequired, Message: "WebSocket version 13 is spoken here"}
	}
	return nil
}

// mayTakeOver reports whether messages that are sent may refer to earlier ones:
// not where those may have been dropped.
func (o *WebSocketOptions) mayTakeOver() bool { return o.QueuePolicy != QueueDropOldest }

// chooseSubprotocol returns the first of supported that was offered.
func chooseSubprotocol(fields, supported []string) (string, error) {
	offered := strings.Join(fields, ",")
	if offered == "" {
		return "", nil
	}
	var all []string
	for more, rest := true, offered; more; {
		var member string
		if member, rest, more = nextListMember(rest); !isToken(member) { // RFC 6455 §4.1
			return "", badHandshake("malformed Sec-WebSocket-Protocol")
		}
		all = append(all, member)
	}
	for _, s := range supported {
		for _, member := range all {
			if member == s { // names are compared as they are (RFC 6455 §4.2.2)
				return s, nil
			}
		}
	}
	return "", nil
}

// originAllowed reports whether the page that opens the WebSocket may (RFC 6455
// §10.2). Browsers always send Origin; a client that sends none is no browser,
// and could claim any.
func originAllowed(r *serverRequest, patterns []string) bool {
	var room [1]string
	origins := r.fieldViews("Origin", room[:0])
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	u, err := url.Parse(strings.ToLower(origins[0]))
	if err != nil || u.User != nil {
		return false
	}
	port := defaultPort(u.Scheme)
	if u.Host != "" && withoutPort(u.Host, port) == withoutPort(strings.ToLower(r.clientHostView()), port) {
		return true
	}
	for _, pattern := range patterns {
		if originMatches(u, port, strings.ToLower(pattern)) {
			return true
		}
	}
	return false
}

// originMatches reports whether an origin fits a pattern. A default port may
// stand in either of them, or in none.
func originMatches(u *url.URL, port, pattern string) bool {
	whole := strings.Contains(pattern, "://") || pattern == "null"
	if u.Host == "" { // "null" and the like
		ok, _ := path.Match(pattern, u.String())
		return pattern == "*" || whole && ok
	}
	host := withoutPort(u.Host, port)
	for _, name := range []string{host, host + port} {
		if whole {
			name = u.Scheme + "://" + name
		}
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// defaultPort returns ":port" of a scheme that has a default one (RFC 6454 §4).
func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return ":80"
	case "https", "wss":
		return ":443"
	}
	return ""
}

// withoutPort cuts the default port off a host, or an empty one (RFC 3986
// §3.2.3).
func withoutPort(host, port string) string {
	if name, ok := strings.CutSuffix(host, port); ok && port != "" {
		return name
	}
	return strings.TrimSuffix(host, ":")
}

// appendAnswer appends the 101 (Switching Protocols) for hs, with those of the
// fields of h that are not flare's to set.
func (hs *handshake) appendAnswer(b []byte, h *headerFields) []byte {
	for _, name := range ownHandshakeFields {
		h.Del(name)
	}
	if hs.expected { // RFC 9110 §7.8
		b = append(appendStatusLine(b, http.StatusContinue), "\r\n"...)
	}
	b = appendStatusLine(b, http.StatusSwitchingProtocols)
	b = append(b, "Upgrade: websocket\r\nConnection: Upgrade\r\n"+fieldWSAccept+": "...)
	b = appendAccept(b, hs.key)
	b = append(b, '\r', '\n')
	if hs.subprotocol != "" {
		b = append(b, fieldWSProtocol+": "...)
		b = append(b, hs.subprotocol...)
		b = append(b, '\r', '\n')
	}
	if hs.compressed {
		b = append(b, fieldWSExtensions+": "...)
		b = hs.deflate.append(b)
		b = append(b, '\r', '\n')
	}
	b = h.appendTo(b)
	return append(b, '\r', '\n')
}

// answerFields are the fields of the answer to an extended CONNECT (RFC 8441 §5),
// with those of h that are not flare's to set.
func (hs *handshake) answerFields(h *headerFields) *headerFields {
	for _, name := range ownHandshakeFields {
		h.Del(name)
	}
	h = h.clone()
	if hs.subprotocol != "" {
		h.Add(fieldWSProtocol, hs.subprotocol)
	}
	if hs.compressed {
		h.Add(fieldWSExtensions, string(hs.deflate.append(nil)))
	}
	if hs.extensions != "" {
		h.Add(fieldWSExtensions, hs.extensions)
	}
	return h
}

// ownHandshakeFields are flare's to set in a 101.
var ownHandshakeFields = []string{
	"Upgrade", "Connection", "Content-Length", "Transfer-Encoding", fieldWSAccept, fieldWSProtocol, fieldWSExtensions, fieldWSVersion,
}

// A handshakeError says why a server's answer to a WebSocket handshake was not
// accepted. It unwraps to ErrMalformed.
type handshakeError struct {
	status int    // of the answer
	rule   string // the rule that it breaks, with its source
}

func (e *handshakeError) Error() string {
	return fmt.Sprintf("flare: WebSocket handshake answered with status %d: %s", e.status, e.rule)
}

// Unwrap makes errors.Is(err, ErrMalformed) answer.
func (e *handshakeError) Unwrap() error { return ErrMalformed }

// verifyHandshake holds a server's answer to RFC 6455 §4.1. upgraded says
// whether Upgrade and Connection have the members that they must.
func verifyHandshake(status int, upgraded bool, h *headerFields, key string, o *WebSocketDialOptions) (hs handshake, err error) {
	fail := func(rule string) (handshake, error) {
		return handshake{}, &handshakeError{status, rule}
	}
	if status != http.StatusSwitchingProtocols {
		return fail("not 101 (RFC 6455 §4.1)")
	}
	if !upgraded {
		return fail("Upgrade and Connection do not say websocket (RFC 6455 §4.1)")
	}
	if got := h.Values(fieldWSAccept); len(got) != 1 || got[0] != string(appendAccept(nil, key)) {
		return fail("Sec-WebSocket-Accept is not the key's (RFC 6455 §4.1)")
	}
	return verifyTerms(status, h, o)
}

// verifyTerms takes what the server has chosen of what was offered.
func verifyTerms(status int, h *headerFields, o *WebSocketDialOptions) (hs handshake, err error) {
	fail := func(rule string) (handshake, error) {
		return handshake{}, &handshakeError{status, rule}
	}
	switch got := h.Values(fieldWSProtocol); {
	case len(got) > 1:
		return fail("more than one subprotocol (RFC 6455 §4.2.2)")
	case len(got) == 1:
		for _, s := range o.Subprotocols {
			if s == got[0] {
				hs.subprotocol = s
			}
		}
		if hs.subprotocol == "" {
			return fail("a subprotocol that was not offered (RFC 6455 §4.1)")
		}
	}
	var answer []extension
	for _, value := range h.Values(fieldWSExtensions) {
		if answer, err = parseExtensions(value, answer); err != nil {
			break
		}
	}
	if err == nil {
		hs.deflate, hs.compressed, err = verifyDeflate(answer, o.Compression, o.mayTakeOver())
	}
	if errors.Is(err, errExtension) {
		return fail("an extension that was not offered so (RFC 6455 §4.1)")
	}
	return hs, nil
}
