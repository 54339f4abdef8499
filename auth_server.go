package flare

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"strings"
)

// This file is layer 5 (surface): Basic, Bearer and certificates of clients for
// handlers: credentials of a request, refusals, middleware. The text is auth.go's,
// Digest is in auth_digest_server.go.

// SecretEqual compares two secrets in a time that tells nothing of where they
// differ, nor of the length of either.
func SecretEqual(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// credentials returns what follows the scheme in the request's Authorization
// field. Two fields are none: who reads the other one would see another user.
func (r *Request) credentials(scheme string) (string, bool) {
	found := ""
	for name, value := range r.Header().All() {
		if !equalFoldASCII(name, "Authorization") {
			continue
		}
		if found != "" {
			return "", false
		}
		found = value
	}
	if !hasPrefixFold(found, scheme) || len(found) == len(scheme) || found[len(scheme)] != ' ' {
		return "", false
	}
	return trimBlank(found[len(scheme):]), true
}

// BasicAuth returns the user and the password that the request has by RFC
// 7617; false without any, and for what is malformed.
func (r *Request) BasicAuth() (user, password string, ok bool) {
	coded, ok := r.credentials("Basic")
	if !ok {
		return "", "", false
	}
	text, err := base64.StdEncoding.Strict().DecodeString(coded)
	if err != nil || hasControl(string(text)) {
		return "", "", false
	}
	return strings.Cut(string(text), ":")
}

// BearerToken returns the token that the request has by RFC 6750; false
// without any, and for what is malformed.
func (r *Request) BearerToken() (token string, ok bool) {
	token, ok = r.credentials("Bearer")
	if p := (authParser{s: token}); !ok || token == "" || p.token68() != token {
		return "", false
	}
	return token, true
}

// Unauthorized refuses the request with 401 and the challenges, each the value
// of a WWW-Authenticate field (RFC 9110 §11.6.1): BasicChallenge,
// BearerChallenge. What it returns is a *StatusError for the handler to return.
func (w *ResponseWriter) Unauthorized(challenges ...string) error {
	for _, c := range challenges {
		w.Header().Add("WWW-Authenticate", c)
	}
	w.WriteHeader(http.StatusUnauthorized) // for a handler that forgets the error
	return &StatusError{Code: http.StatusUnauthorized}
}

// BasicChallenge is the challenge that browsers ask the user for a password
// at. realm is shown to them; with a control character in it the response fails.
func BasicChallenge(realm string) string {
	return string(appendQuoted([]byte("Basic realm="), realm)) + `, charset="UTF-8"`
}

// BearerChallenge is the challenge of RFC 6750 §3. failure is "" for a request
// without a token, else a code such as "invalid_token".
func BearerChallenge(realm, failure string) string {
	b := appendQuoted([]byte("Bearer realm="), realm)
	if failure != "" {
		b = appendQuoted(append(b, ", error="...), failure)
	}
	return string(b)
}

type authUserKey struct{}

// AuthUser returns the user that RequireBasic, RequireClientCert or a DigestVerifier
// has let pass, "" without one.
func AuthUser(r *Request) string {
	user, _ := r.Value(authUserKey{}).(string)
	return user
}

// RequireBasic is a middleware that lets requests pass whose user and password
// check accepts, and answers others with 401. check has to compare in constant
// time, as BasicUsers does.
func RequireBasic(realm string, check func(user, password string) bool) Middleware {
	challenge := BasicChallenge(realm)
	return func(h Handler) Handler {
		return gatedHandler{h, func(w *ResponseWriter, r *Request) (bool, error) {
			user, password, ok := r.BasicAuth()
			if !ok || !check(user, password) {
				return false, w.Unauthorized(challenge)
			}
			r.SetValue(authUserKey{}, user)
			return true, nil
		}}
	}
}

// BasicUsers checks against a map of passwords by user, which must not change
// any more. A user who does not exist takes as long as one who does.
func BasicUsers(passwords map[string]string) func(user, password string) bool {
	return func(user, password string) bool {
		want, known := passwords[user]
		return SecretEqual(password, want) && known
	}
}

// RequireBearer is a middleware that lets requests pass whose token check
// accepts, and answers others with 401. check has to compare in constant time,
// as BearerTokens does.
func RequireBearer(realm string, check func(token string) bool) Middleware {
	missing, invalid := BearerChallenge(realm, ""), BearerChallenge(realm, "invalid_token")
	return func(h Handler) Handler {
		return gatedHandler{h, func(w *ResponseWriter, r *Request) (bool, error) {
			token, ok := r.BearerToken()
			switch {
			case !ok:
				return false, w.Unauthorized(missing)
			case !check(token):
				return false, w.Unauthorized(invalid)
			}
			return true, nil
		}}
	}
}

// BearerTokens checks against a few tokens, all of them each time.
func BearerTokens(tokens ...string) func(token string) bool {
	return func(token string) bool {
		found := false
		for _, t := range tokens {
			found = SecretEqual(token, t) || found
		}
		return found
	}
}

// RequireClientCert is a middleware that lets requests pass whose client has shown a
// certificate that is signed by one of TLSConfig.ClientCAs and that user accepts. user
// returns who the client is, for AuthUser; nil accepts all of them, by the common name
// of their subject. Others are answered with 403.
//
// TLSConfig.ClientAuth is tls.VerifyClientCertIfGiven for a server with other routes
// beside, and tls.RequireAndVerifyClientCert for one without. Certificates that a
// server asks for without verifying them let nobody pass.
func RequireClientCert(user func(cert *x509.Certificate) (name string, ok bool)) Middleware {
	if user == nil {
		user = func(cert *x509.Certificate) (string, bool) { return cert.Subject.CommonName, true }
	}
	return func(h Handler) Handler {
		return gatedHandler{h, func(w *ResponseWriter, r *Request) (bool, error) {
			state := r.TLS()
			if state == nil || len(state.VerifiedChains) == 0 {
				return false, &StatusError{Code: http.StatusForbidden, Message: "a certificate of the client is needed"}
			}
			name, ok := user(state.VerifiedChains[0][0])
			if !ok {
				return false, &StatusError{Code: http.StatusForbidden}
			}
			r.SetValue(authUserKey{}, name)
			return true, nil
		}}
	}
}
