package flare

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
)

// This file is layer 1 (wire): authentication as text (RFC 9110 §11):
// challenges, parameters, and the credentials Basic (RFC 7617) and Bearer (RFC
// 6750) of a client. Digest is in auth_digest.go, the server's side in
// auth_server.go. The client calls it with what a 401 or 407 had; it knows no
// connections.

var (
	errAuthUser   = errors.New("flare: user name with a colon or a control character (RFC 7617 §2)")
	errAuthSecret = errors.New("flare: password with a control character (RFC 7617 §2)")
	errAuthToken  = errors.New("flare: bearer token that is no token68 (RFC 6750 §2.1)")
)

const (
	ruleAuthScheme    = "authentication scheme expected (RFC 9110 §11.3)"
	ruleAuthParam     = "authentication parameter without a scheme (RFC 9110 §11.3)"
	ruleAuthValue     = "authentication parameter without a value (RFC 9110 §11.2)"
	ruleAuthSeparator = "authentication parameter not followed by a comma (RFC 9110 §11.2)"
	ruleAuthTwice     = "authentication parameter twice (RFC 9110 §11.2)"
)

// A Credentials answers the challenges of one protection space, for a client.
// BasicAuth, BearerAuth and DigestAuth return some. The methods may be called
// from any goroutine, and may take time: ctx is the context of the request.
type Credentials interface {
	// Authorization returns the value of Authorization (or
	// Proxy-Authorization) for a request, "" while there is no challenge to
	// answer.
	Authorization(ctx context.Context, r *AuthRequest) (string, error)
	// Challenged learns from a 401 (or 407) to a request that had sent, which
	// may be "", as its Authorization. challenges are the values of the
	// WWW-Authenticate (or Proxy-Authenticate) fields, each a list (RFC 9110
	// §11.6.1). It reports whether to send the request again.
	Challenged(ctx context.Context, challenges []string, sent string) (again bool)
	// Answered learns from the Authentication-Info of any other answer. An
	// error means that the server has shown not to know the secret.
	Answered(ctx context.Context, info, sent string) error
}

// An AuthRequest is what credentials may cover of a request.
type AuthRequest struct {
	Method string
	Target string                    // as in the request line
	Body   func() (io.Reader, error) // the body from its start; nil: none
}

// A challenge is one of those in a WWW-Authenticate field, or the credentials
// of an Authorization field, which have the same form.
type challenge struct {
	scheme string // as sent; compare without case
	token  string // token68, in place of parameters
	params []authParam
}

// An authParam is a parameter, its value without quotes and escapes.
type authParam struct{ name, value string }

// param returns the value of a parameter, "" for none. Names are compared
// without case.
func (c *challenge) param(name string) string {
	for i := range c.params {
		if equalFoldASCII(c.params[i].name, name) {
			return c.params[i].value
		}
	}
	return ""
}

// has says whether a parameter is there, be it empty.
func (c *challenge) has(name string) bool {
	return slices.ContainsFunc(c.params, func(p authParam) bool { return equalFoldASCII(p.name, name) })
}

// parseChallenges reads the value of a WWW-Authenticate, Proxy-Authenticate,
// Authorization or Proxy-Authorization field (RFC 9110 §11.3, §11.4). The
// error is a *ParseError.
func parseChallenges(field string) ([]challenge, error) {
	p := authParser{s: field}
	return p.challenges()
}

// readChallenges reads what a server has sent to a client, which takes what it
// can use: a value without quotes is all up to the next comma, behind one with
// quotes the comma may be missing, and a parameter that is none, or is there
// already, is left out.
func readChallenges(field string) []challenge {
	p := authParser{s: field, lenient: true}
	all, _ := p.challenges() // those before what cannot be read
	return all
}

// challenges reads them all, and what was read until an error.
func (p *authParser) challenges() (all []challenge, err error) {
	for {
		before := p.i
		p.skip(true)
		if p.i == len(p.s) {
			return all, nil
		}
		comma := len(all) == 0 || strings.IndexByte(p.s[before:p.i], ',') >= 0
		start := p.i
		name := p.token()
		if name != "" && p.equals() {
			err = p.param(all, name, start)
		} else if err = p.scheme(name, start, comma); err == nil {
			all = append(all, challenge{scheme: name})
			p.skip(false)
			all[len(all)-1].token = p.token68()
		}
		if err != nil && !p.lenient {
			return nil, err
		}
		if err != nil {
			p.skipMember(start)
		}
	}
}

// param reads the value of a parameter of the last challenge.
func (p *authParser) param(all []challenge, name string, start int) error {
	if len(all) == 0 || all[len(all)-1].token != "" {
		return fault(http.StatusBadRequest, start, ruleAuthParam)
	}
	value, err := p.value()
	if err != nil {
		return err
	}
	c := &all[len(all)-1]
	if c.has(name) {
		return fault(http.StatusBadRequest, start, ruleAuthTwice)
	}
	c.params = append(c.params, authParam{name, value})
	return nil
}

// scheme says why a name that begins at start is no scheme.
func (p *authParser) scheme(name string, start int, comma bool) error {
	switch {
	case name == "":
		return fault(http.StatusBadRequest, p.i, ruleAuthScheme)
	case !comma:
		return fault(http.StatusBadRequest, start, ruleAuthSeparator)
	case p.i < len(p.s) && p.s[p.i] != ',' && !isBlank(p.s[p.i]):
		return fault(http.StatusBadRequest, p.i, ruleAuthScheme)
	}
	return nil
}

// skipMember goes to the comma behind the member that begins at start, past
// those in a quoted string.
func (p *authParser) skipMember(start int) {
	quoted := false
	for p.i = start; p.i < len(p.s) && (quoted || p.s[p.i] != ','); p.i++ {
		switch {
		case p.s[p.i] == '"':
			quoted = !quoted
		case p.s[p.i] == '\\' && quoted && p.i+1 < len(p.s):
			p.i++
		}
	}
}

// readAuthParams reads a list of parameters without a scheme, as in
// Authentication-Info (RFC 7615 §3), as readChallenges does.
func readAuthParams(field string) challenge {
	if all := readChallenges("info " + field); len(all) > 0 {
		return all[0]
	}
	return challenge{}
}

// An authParser reads a field from the left.
type authParser struct {
	s       string
	i       int
	lenient bool // what is wrong is left out
}

func (p *authParser) skip(commas bool) {
	for p.i < len(p.s) && (isBlank(p.s[p.i]) || commas && p.s[p.i] == ',') {
		p.i++
	}
}

func (p *authParser) token() string {
	start := p.i
	for p.i < len(p.s) && charClass[p.s[p.i]]&classToken != 0 {
		p.i++
	}
	return p.s[start:p.i]
}

// equals steps over "=" and white space around it (BWS), if it is there.
func (p *authParser) equals() bool {
	i := p.i
	for i < len(p.s) && isBlank(p.s[i]) {
		i++
	}
	if i == len(p.s) || p.s[i] != '=' {
		return false
	}
	p.i = i + 1
	p.skip(false)
	return true
}

// token68 reads one if it is all up to the next comma (RFC 9110 §11.2).
func (p *authParser) token68() string {
	i := p.i
	for i < len(p.s) && isToken68(p.s[i]) {
		i++
	}
	octets := i
	for i < len(p.s) && p.s[i] == '=' {
		i++
	}
	end := i
	for i < len(p.s) && isBlank(p.s[i]) {
		i++
	}
	if octets == p.i || i < len(p.s) && p.s[i] != ',' {
		return ""
	}
	token := p.s[p.i:end]
	p.i = i
	return token
}

func isToken68(c byte) bool {
	return isDigit(c) || 'a' <= lowerASCII(c) && lowerASCII(c) <= 'z' || strings.IndexByte("-._~+/", c) >= 0
}

// value reads a token or quoted-string and wants a comma or the end behind it.
func (p *authParser) value() (string, error) {
	var value string
	if p.i < len(p.s) && p.s[p.i] == '"' {
		var ok bool
		if value, ok = p.quoted(); !ok {
			return "", fault(http.StatusBadRequest, p.i, ruleAuthValue)
		}
	} else if value = p.bareValue(); value == "" {
		return "", fault(http.StatusBadRequest, p.i, ruleAuthValue)
	}
	p.skip(false)
	if p.i < len(p.s) && p.s[p.i] != ',' && !p.lenient {
		return "", fault(http.StatusBadRequest, p.i, ruleAuthSeparator)
	}
	return value, nil
}

// bareValue reads a value without quotes: a token, leniently all up to the next
// comma.
func (p *authParser) bareValue() string {
	if !p.lenient {
		return p.token()
	}
	start := p.i
	for p.i < len(p.s) && p.s[p.i] != ',' {
		p.i++
	}
	return trimBlank(p.s[start:p.i])
}

// quoted reads a quoted-string (RFC 9110 §5.6.4).
func (p *authParser) quoted() (string, bool) {
	var b []byte
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return string(b), true
		case c == '\\':
			if p.i++; p.i == len(p.s) || charClass[p.s[p.i]]&classValue == 0 {
				return "", false
			}
			b = append(b, p.s[p.i])
		case charClass[c]&classQuoted == 0:
			return "", false
		default:
			b = append(b, c)
		}
	}
	return "", false
}

// appendQuoted appends s as a quoted-string. What cannot be in one, a control
// character, is left for the field's setter to refuse.
func appendQuoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// BasicAuth returns credentials that send user and password in the clear (RFC
// 7617), in UTF-8, without waiting for a challenge. Use them over TLS only. A
// user with a colon, and control characters, fail when a request is sent.
func BasicAuth(user, password string) Credentials { return basicAuth{user, password} }

type basicAuth struct{ user, password string }

func (a basicAuth) Authorization(context.Context, *AuthRequest) (string, error) {
	switch {
	case hasControl(a.user) || strings.IndexByte(a.user, ':') >= 0:
		return "", errAuthUser
	case hasControl(a.password):
		return "", errAuthSecret
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.user+":"+a.password)), nil
}

// Challenged reports false: what was sent was wrong.
func (a basicAuth) Challenged(_ context.Context, _ []string, sent string) bool { return sent == "" }

func (a basicAuth) Answered(_ context.Context, _, _ string) error { return nil }

// BearerAuth returns credentials that send a token (RFC 6750) without waiting
// for a challenge. Use them over TLS only. A token that is no token68 fails when
// a request is sent.
func BearerAuth(token string) Credentials { return bearerAuth{token} }

type bearerAuth struct{ token string }

func (a bearerAuth) Authorization(context.Context, *AuthRequest) (string, error) {
	if p := (authParser{s: a.token}); a.token == "" || p.token68() != a.token {
		return "", errAuthToken
	}
	return "Bearer " + a.token, nil
}

// Challenged reports false: what was sent was wrong.
func (a bearerAuth) Challenged(_ context.Context, _ []string, sent string) bool { return sent == "" }

func (a bearerAuth) Answered(_ context.Context, _, _ string) error { return nil }

// hasControl says whether s has a control character, tab included.
func hasControl(s string) bool {
	return !isFieldValue(s) || strings.IndexByte(s, '\t') >= 0
}
