package flare

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
)

// This file is layer 1 (wire): the Digest scheme (RFC 7616): what is computed
// from what, and the client's credentials. auth_digest_server.go verifies.

var (
	errDigestServer = errors.New("flare: server did not prove that it knows the password (RFC 7616 §3.5)")
	errDigestText   = errors.New("flare: control character in what a digest is made of")
)

// digestAlgorithms are those of RFC 7616 §6.1, by name.
var digestAlgorithms = map[string]digestAlgorithm{
	"md5":              {md5.New, false},
	"md5-sess":         {md5.New, true},
	"sha-256":          {sha256.New, false},
	"sha-256-sess":     {sha256.New, true},
	"sha-512-256":      {sha512.New512_256, false},
	"sha-512-256-sess": {sha512.New512_256, true},
}

type digestAlgorithm struct {
	new     func() hash.Hash
	session bool // A1 covers the session's first nonces too
}

// digestAlgorithmOf finds an algorithm by name; none is MD5 (RFC 7616 §3.3).
func digestAlgorithmOf(name string) (digestAlgorithm, bool) {
	if name == "" {
		name = "MD5"
	}
	a, ok := digestAlgorithms[lowerName(name)]
	return a, ok
}

// sum returns the hash of the parts with colons between them, in hexadecimal.
func (a digestAlgorithm) sum(parts ...string) string {
	h := a.new()
	for i, part := range parts {
		if i > 0 {
			io.WriteString(h, ":")
		}
		io.WriteString(h, part)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// secret is H(A1) (RFC 7616 §3.4.2).
func (a digestAlgorithm) secret(user, realm, password, nonce, cnonce string) string {
	s := a.sum(user, realm, password)
	if a.session {
		s = a.sum(s, nonce, cnonce)
	}
	return s
}

// response is the digest of a request, or with no method of an answer (RFC
// 7616 §3.4.1, §3.4.3, §3.5). qop "" is RFC 2069's form.
func (a digestAlgorithm) response(secret, method, target, nonce, nc, cnonce, qop, bodyHash string) string {
	covered := []string{method, target}
	if qop == "auth-int" {
		covered = append(covered, bodyHash)
	}
	if qop == "" {
		return a.sum(secret, nonce, a.sum(covered...))
	}
	return a.sum(secret, nonce, nc, cnonce, qop, a.sum(covered...))
}

// DigestAuth returns credentials of a user whose password is not sent (RFC
// 7616), for one server. They answer the first challenge whose algorithm they
// know: MD5, SHA-256, SHA-512-256, and each with -sess; with qop auth, auth-int
// where that is all there is, or none. User and password are UTF-8.
func DigestAuth(user, password string) Credentials {
	return &digestAuth{user: user, password: password}
}

type digestAuth struct {
	user, password string

	mu        sync.Mutex // guards what follows
	challenge challenge  // that is being answered; no scheme: none yet
	algorithm digestAlgorithm
	qop       string
	nonce     string
	secret    string // H(A1), for as long as the challenge lasts
	cnonce    string // of the session, for -sess
	count     uint32 // requests with nonce
}

// Authorization returns "" before the first challenge. It fails where
// something has a control character, or the body cannot be read.
func (d *digestAuth) Authorization(_ context.Context, r *AuthRequest) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.challenge.scheme == "" {
		return "", nil
	}
	for _, s := range [...]string{d.user, d.password, r.Method, r.Target, d.nonce, d.challenge.param("realm"), d.challenge.param("opaque")} {
		if hasControl(s) {
			return "", errDigestText
		}
	}
	bodyHash := ""
	if d.qop == "auth-int" {
		var err error
		if bodyHash, err = d.algorithm.bodyHash(r.Body); err != nil {
			return "", err
		}
	}
	cnonce := rand.Text()
	if d.algorithm.session && d.cnonce != "" {
		cnonce = d.cnonce // the one that is in A1, for servers that ask for it each time
	}
	if d.secret == "" {
		d.cnonce = cnonce
		d.secret = d.algorithm.secret(d.user, d.challenge.param("realm"), d.password, d.nonce, cnonce)
	}
	d.count++
	nc := fmt.Sprintf("%08x", d.count)
	return d.field(r, nc, cnonce, d.algorithm.response(d.secret, r.Method, r.Target, d.nonce, nc, cnonce, d.qop, bodyHash)), nil
}

// bodyHash is H(entity-body) (RFC 7616 §3.4.3).
func (a digestAlgorithm) bodyHash(body func() (io.Reader, error)) (string, error) {
	h := a.new()
	if body != nil {
		r, err := body()
		if err != nil {
			return "", err
		}
		if _, err := io.Copy(h, r); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// field writes the credentials (RFC 7616 §3.4).
func (d *digestAuth) field(r *AuthRequest, nc, cnonce, response string) string {
	realm := d.challenge.param("realm")
	b := []byte("Digest ")
	hashed := equalFoldASCII(d.challenge.param("userhash"), "true")
	switch {
	case hashed:
		b = appendQuoted(append(b, "username="...), d.algorithm.sum(d.user, realm))
	case !isASCII(d.user) && equalFoldASCII(d.challenge.param("charset"), "UTF-8"):
		b = appendExtValue(append(b, "username*="...), d.user)
	default:
		b = appendQuoted(append(b, "username="...), d.user)
	}
	quoted := func(name, value string) {
		b = appendQuoted(append(append(append(b, ", "...), name...), '='), value)
	}
	plain := func(name, value string) {
		b = append(append(append(append(b, ", "...), name...), '='), value...)
	}
	quoted("realm", realm)
	quoted("uri", r.Target)
	if name := d.challenge.param("algorithm"); name != "" {
		plain("algorithm", name)
	}
	quoted("nonce", d.nonce)
	if d.qop != "" {
		plain("nc", nc)
		quoted("cnonce", cnonce)
		plain("qop", d.qop)
	}
	quoted("response", response)
	if d.challenge.has("opaque") { // returned unchanged, be it empty (RFC 7616 §3.3)
		quoted("opaque", d.challenge.param("opaque"))
	}
	if hashed {
		plain("userhash", "true")
	}
	return string(b)
}

// appendExtValue appends s as UTF-8”... (RFC 8187 §3.2).
func appendExtValue(b []byte, s string) []byte {
	b = append(b, "UTF-8''"...)
	for i := range len(s) {
		if c := s[i]; isDigit(c) || 'a' <= lowerASCII(c) && lowerASCII(c) <= 'z' || strings.IndexByte("!#$&+-.^_`|~", c) >= 0 {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "%%%02X", c)
		}
	}
	return b
}

// Challenged takes what it can use of the challenges.
func (d *digestAuth) Challenged(_ context.Context, challenges []string, sent string) bool {
	var all []challenge
	for _, field := range challenges {
		all = append(all, readChallenges(field)...)
	}
	return d.take(all, sent)
}

// take takes the first Digest challenge that it can answer. It reports false
// where the server has refused an answer that was not just late.
func (d *digestAuth) take(challenges []challenge, sent string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range challenges {
		algorithm, known := digestAlgorithmOf(c.param("algorithm"))
		qop, ok := chooseQOP(c.param("qop"))
		if !equalFoldASCII(c.scheme, "Digest") || !known || !ok || c.param("nonce") == "" {
			continue
		}
		again := sent == "" || equalFoldASCII(c.param("stale"), "true") || sentNonce(sent) != d.nonce
		d.challenge, d.algorithm, d.qop = c, algorithm, qop
		d.nonce, d.count, d.secret, d.cnonce = c.param("nonce"), 0, "", ""
		return again
	}
	return false
}

// chooseQOP takes auth before auth-int, and none where the server knows none.
func chooseQOP(offered string) (string, bool) {
	switch {
	case offered == "":
		return "", true
	case listContains(offered, "auth"):
		return "auth", true
	case listContains(offered, "auth-int"):
		return "auth-int", true
	}
	return "", false
}

func sentNonce(sent string) string {
	if all, err := parseChallenges(sent); err == nil && len(all) == 1 {
		return all[0].param("nonce")
	}
	return ""
}

// Answered takes the server's next nonce, and checks its proof if it gave one
// (RFC 7616 §3.5); that of an answer with auth-int, whose body would be needed,
// is not checked.
func (d *digestAuth) Answered(_ context.Context, info, sent string) error {
	if info == "" || sent == "" {
		return nil
	}
	// What cannot be read of it proves nothing, and takes nothing away: an
	// answer without it is one too.
	c := readAuthParams(info)
	all, err := parseChallenges(sent)
	if err != nil || len(all) != 1 {
		return nil // not of these credentials' making
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	mine := &all[0]
	if mine.param("nonce") != d.nonce {
		return nil // another answer has moved on
	}
	if proof := c.param("rspauth"); proof != "" && d.qop == "auth" {
		want := d.algorithm.response(d.secret, "", mine.param("uri"), d.nonce, mine.param("nc"), mine.param("cnonce"), d.qop, "")
		if subtle.ConstantTimeCompare([]byte(lowerName(proof)), []byte(want)) == 0 {
			return errDigestServer
		}
	}
	if next := c.param("nextnonce"); next != "" && next != d.nonce {
		d.nonce, d.count = next, 0 // A1 stays: the session goes on (RFC 7616 §3.4.2)
	}
	return nil
}
