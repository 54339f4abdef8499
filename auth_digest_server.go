package flare

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// This file is layer 5 (surface): the server's side of Digest (RFC 7616). What
// is computed is in auth_digest.go; here are nonces, which the server can
// recognise as its own without keeping them, and the counts of those that were
// used, which it has to keep so that nothing is answered twice.

const (
	digestNonceLife = 5 * time.Minute

	// digestNoncesMax bounds the counts that are kept. Only who knows a
	// password can add to them.
	digestNoncesMax = 4096

	nonceTimeBytes   = 8
	nonceRandomBytes = 8
	nonceMACBytes    = 16
)

// A DigestVerifier asks for and verifies Digest credentials. The zero value,
// with a Realm, offers SHA-256 and MD5 with qop auth. Its methods may be called
// from any goroutine; the fields must not change once it is in use.
type DigestVerifier struct {
	Realm      string   // no quotes and backslashes: clients disagree on what they hash to
	Algorithms []string // offered, best first; default SHA-256, MD5
	QOP        []string // auth, auth-int; default auth
	NonceLife  time.Duration
	Now        func() time.Time // nil: time.Now

	once sync.Once
	key  [sha256.Size]byte // makes nonces

	mu    sync.Mutex // guards what follows
	used  map[string]*nonceUse
	floor time.Time // nonces made until then count as too old
}

// A nonceUse says which counts came with a nonce: the highest, and, as bits,
// which of the 64 below it. Requests of several connections overtake each
// other.
type nonceUse struct {
	made    time.Time
	highest uint32
	seen    uint64
}

// Require is a middleware that lets requests pass whose user has the password
// that it is given. With auth-int offered it must not be used: the handler
// could not read the body again.
func (v *DigestVerifier) Require(password func(user string) (string, bool)) Middleware {
	return func(h Handler) Handler {
		return gatedHandler{h, func(w *ResponseWriter, r *Request) (bool, error) {
			user, ok, err := v.Verify(w, r, nil, password)
			if ok {
				r.SetValue(authUserKey{}, user)
			}
			return ok, err
		}}
	}
}

// Verify checks the credentials of a request. password returns that of a user;
// body is what the request has, of interest with auth-int only. When ok is
// false, err is a *StatusError with 401, and w has new challenges; the handler
// returns err.
func (v *DigestVerifier) Verify(w *ResponseWriter, r *Request, body []byte, password func(user string) (string, bool)) (user string, ok bool, err error) {
	v.once.Do(func() { rand.Read(v.key[:]) })
	now := time.Now()
	if v.Now != nil {
		now = v.Now()
	}
	rest, has := r.credentials("Digest")
	if !has {
		return "", false, v.refuse(w, now, false)
	}
	all, err := parseChallenges("Digest " + rest)
	if err != nil || len(all) != 1 {
		return "", false, v.refuse(w, now, false)
	}
	c := &all[0]
	user, right := v.right(c, r, body, password)
	if !right {
		return "", false, v.refuse(w, now, false)
	}
	// Only an answer that is right is told that its nonce is stale (RFC 7616
	// §3.3): others have to ask the user.
	if !v.fresh(c.param("nonce"), c.param("nc"), now) {
		return "", false, v.refuse(w, now, true)
	}
	v.prove(w, c, user, password)
	return user, true, nil
}

// right says whether c is computed from the password.
func (v *DigestVerifier) right(c *challenge, r *Request, body []byte, password func(user string) (string, bool)) (user string, ok bool) {
	name, qop := c.param("algorithm"), c.param("qop")
	algorithm, known := digestAlgorithmOf(name)
	if name == "" {
		name = "MD5"
	}
	user, named := digestUser(c)
	// The target is compared, not taken from c (RFC 7616 §3.4.6): whoever has
	// seen an answer could send it for another one.
	if !known || !named || !containsFold(v.algorithms(), name) || !containsFold(v.qops(), qop) ||
		c.param("realm") != v.Realm || c.param("uri") != r.Target() || c.param("cnonce") == "" || len(c.param("nc")) != 8 {
		return "", false
	}
	bodyHash := ""
	if qop == "auth-int" {
		h := algorithm.new()
		h.Write(body)
		bodyHash = hex.EncodeToString(h.Sum(nil))
	}
	secret, exists := password(user)
	nonce, cnonce := c.param("nonce"), c.param("cnonce")
	want := algorithm.response(algorithm.secret(user, v.Realm, secret, nonce, cnonce),
		r.Method(), r.Target(), nonce, c.param("nc"), cnonce, qop, bodyHash)
	same := subtle.ConstantTimeCompare([]byte(lowerName(c.param("response"))), []byte(want)) == 1
	return user, same && exists
}

// digestUser returns the user, from username or username* (RFC 7616 §3.4).
func digestUser(c *challenge) (string, bool) {
	user, coded := c.param("username"), c.param("username*")
	if coded == "" {
		return user, true
	}
	charset, text, _ := strings.Cut(coded, "''")
	decoded, err := url.PathUnescape(text)
	return decoded, err == nil && user == "" && equalFoldASCII(charset, "UTF-8")
}

func containsFold(list []string, s string) bool {
	for _, member := range list {
		if equalFoldASCII(member, s) {
			return true
		}
	}
	return false
}

func (v *DigestVerifier) algorithms() []string {
	if v.Algorithms == nil {
		return []string{"SHA-256", "MD5"}
	}
	return v.Algorithms
}

func (v *DigestVerifier) qops() []string {
	if v.QOP == nil {
		return []string{"auth"}
	}
	return v.QOP
}

func (v *DigestVerifier) life() time.Duration {
	if v.NonceLife <= 0 {
		return digestNonceLife
	}
	return v.NonceLife
}

// refuse answers with a challenge for each algorithm.
func (v *DigestVerifier) refuse(w *ResponseWriter, now time.Time, stale bool) error {
	var challenges []string
	nonce := v.nonce(now)
	for _, name := range v.algorithms() {
		b := appendQuoted([]byte("Digest realm="), v.Realm)
		b = appendQuoted(append(b, ", qop="...), strings.Join(v.qops(), ", "))
		b = append(append(b, ", algorithm="...), name...)
		b = appendQuoted(append(b, ", nonce="...), nonce)
		if stale {
			b = append(b, ", stale=true"...)
		}
		challenges = append(challenges, string(append(b, ", charset=UTF-8"...)))
	}
	return w.Unauthorized(challenges...)
}

// prove sends the server's own digest (RFC 7616 §3.5), where the body of the
// answer is not part of it.
func (v *DigestVerifier) prove(w *ResponseWriter, c *challenge, user string, password func(user string) (string, bool)) {
	if c.param("qop") != "auth" {
		return
	}
	algorithm, _ := digestAlgorithmOf(c.param("algorithm"))
	secret, _ := password(user)
	nonce, nc, cnonce := c.param("nonce"), c.param("nc"), c.param("cnonce")
	b := appendQuoted([]byte("rspauth="), algorithm.response(algorithm.secret(user, v.Realm, secret, nonce, cnonce),
		"", c.param("uri"), nonce, nc, cnonce, "auth", ""))
	b = appendQuoted(append(b, ", qop=auth, cnonce="...), cnonce)
	w.Header().Set("Authentication-Info", string(append(append(b, ", nc="...), nc...)))
}

// nonce makes a new one: when, a random number, and a code that only v can
// make.
func (v *DigestVerifier) nonce(now time.Time) string {
	b := make([]byte, nonceTimeBytes+nonceRandomBytes, nonceTimeBytes+nonceRandomBytes+sha256.Size)
	binary.BigEndian.PutUint64(b, uint64(now.UnixNano()))
	rand.Read(b[nonceTimeBytes:])
	return base64.RawURLEncoding.EncodeToString(v.seal(b)[:len(b)+nonceMACBytes])
}

// seal appends the code.
func (v *DigestVerifier) seal(b []byte) []byte {
	mac := hmac.New(sha256.New, v.key[:])
	mac.Write(b)
	return mac.Sum(b)
}

// fresh says whether the nonce is v's own and not too old, and count was not
// used with it before; it is used then.
func (v *DigestVerifier) fresh(nonce, count string, now time.Time) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(nonce)
	n, err2 := strconv.ParseUint(count, 16, 32)
	const plain = nonceTimeBytes + nonceRandomBytes
	if err != nil || err2 != nil || n == 0 || len(b) != plain+nonceMACBytes ||
		!hmac.Equal(v.seal(b[:plain:plain])[plain:plain+nonceMACBytes], b[plain:]) {
		return false
	}
	made := time.Unix(0, int64(binary.BigEndian.Uint64(b)))
	v.mu.Lock()
	defer v.mu.Unlock()
	if now.Sub(made) > v.life() || !made.After(v.floor) {
		return false
	}
	use := v.used[nonce]
	if use == nil {
		v.makeRoom(now)
		if !made.After(v.floor) {
			return false
		}
		if v.used == nil {
			v.used = make(map[string]*nonceUse)
		}
		use = &nonceUse{made: made}
		v.used[strings.Clone(nonce)] = use
	}
	return use.take(uint32(n))
}

// makeRoom forgets what is too old; with too many left the older half, whose
// nonces are then too old as well.
func (v *DigestVerifier) makeRoom(now time.Time) {
	if len(v.used) < digestNoncesMax {
		return
	}
	for limit := v.life(); len(v.used) > digestNoncesMax/2; limit /= 2 {
		if limit < time.Microsecond {
			clear(v.used)
			v.floor = now
			return
		}
		floor := now.Add(-limit)
		for nonce, use := range v.used {
			if !use.made.After(floor) {
				delete(v.used, nonce)
			}
		}
		if floor.After(v.floor) {
			v.floor = floor
		}
	}
}

// take uses a count, unless it was used or is too far behind to tell.
func (u *nonceUse) take(n uint32) bool {
	if n > u.highest {
		if shift := n - u.highest; shift < 64 {
			u.seen = u.seen<<shift | 1
		} else {
			u.seen = 1
		}
		u.highest = n
		return true
	}
	behind := u.highest - n
	if behind >= 64 || u.seen&(1<<behind) != 0 {
		return false
	}
	u.seen |= 1 << behind
	return true
}
