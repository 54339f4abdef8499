package flare

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"time"
)

// This file is layer 5 (surface): sessions: what a server remembers of a browser
// between two requests, in an encrypted cookie, or in a store under a name that such
// a cookie has. session_store.go has the store in memory.

// Sessions keeps a Session with each browser, in a cookie that is encrypted and
// authenticated (AES-256-GCM): clients can neither read nor change it. Wrap is the
// middleware; fields must not be changed once it is in use.
//
//	sessions := &flare.Sessions{Keys: [][]byte{key}}
//	mux.Use(sessions.Wrap)
//
// Cookies are not sent with what other sites post (SameSite=Lax); CrossOrigin refuses
// all that they send. Without a Store the values are in the cookie, so that a client can come back with
// an older one of its own until that expires. With one the cookie has a random name
// only, which Session.Renew changes, and the values end with Session.Clear.
type Sessions struct {
	// Keys are secrets of at least 32 bytes of randomness. The first makes cookies,
	// all open them: to rotate, put a new one before the old, and take the old one
	// away when MaxAge has passed.
	Keys [][]byte

	Store  SessionStore  // nil: the values are in the cookie
	Name   string        // of the cookie; default "__Host-session", "session" with Insecure
	MaxAge time.Duration // from the last change on; default 14 days

	// Insecure is for a server without TLS: browsers send the cookie over plain HTTP.
	Insecure bool

	now func() time.Time // nil: time.Now
}

// A SessionStore keeps sessions under their names, for any goroutine.
type SessionStore interface {
	Load(id string) (data []byte, ok bool, err error)
	Save(id string, data []byte, expires time.Time) error
	Delete(id string) error
}

// A Session is what is remembered of one browser: texts by name. It is for the
// goroutine of the handler whose request it came with.
type Session struct {
	id      string
	values  map[string]string
	flashes map[string]string
	old     string // the name to delete
	changed bool
}

const (
	sessionMaxAge   = 14 * 24 * time.Hour
	sessionKeyBytes = 32   // at least, of a key
	sessionBytesMax = 3800 // of a cookie's value: browsers keep 4,096 bytes with the name and attributes (RFC 6265bis §5.6)
)

var errSessionSize = errors.New("flare: the session is too large for a cookie; give Sessions a Store")

var errSessionLate = errors.New("flare: a session was changed in a response that is being sent already")

type sessionKey struct{}

// CurrentSession returns the session of a request behind Sessions.Wrap, and an empty
// one that is not kept elsewhere.
func CurrentSession(r *Request) *Session {
	if s, ok := r.Value(sessionKey{}).(*Session); ok {
		return s
	}
	return new(Session)
}

// Get returns the value of that name, "" if there is none.
func (s *Session) Get(name string) string { return s.values[name] }

// Set sets a value; "" takes it away. It has to be called before the response is
// committed.
func (s *Session) Set(name, value string) {
	s.changed = true
	set(&s.values, name, value)
}

// Flash leaves a value for the next request that asks for it by TakeFlash.
func (s *Session) Flash(name, value string) {
	s.changed = true
	set(&s.flashes, name, value)
}

// TakeFlash returns what Flash has left, once.
func (s *Session) TakeFlash(name string) string {
	value, ok := s.flashes[name]
	if ok {
		s.changed = true
		delete(s.flashes, name)
	}
	return value
}

func set(values *map[string]string, name, value string) {
	if value == "" {
		delete(*values, name)
		return
	}
	if *values == nil {
		*values = make(map[string]string)
	}
	(*values)[name] = value
}

// Renew gives a session in a Store another name, and ends the one that it had. Call it
// when a user logs in, so that whoever knew the session before does not share it.
func (s *Session) Renew() {
	s.changed = true
	if s.old == "" {
		s.old = s.id
	}
	s.id = ""
}

// Clear forgets everything, as at a logout.
func (s *Session) Clear() {
	s.Renew()
	s.values, s.flashes = nil, nil
}

// sessionContent is a session as JSON.
type sessionContent struct {
	Values  map[string]string `json:"v,omitempty"`
	Flashes map[string]string `json:"f,omitempty"`
}

// Wrap is the middleware. It panics without a key of 32 bytes.
func (o *Sessions) Wrap(h Handler) Handler {
	if len(o.Keys) == 0 {
		panic("flare: Sessions without a key")
	}
	for _, key := range o.Keys {
		if len(key) < sessionKeyBytes {
			panic("flare: a key of Sessions has less than 32 bytes")
		}
	}
	return &sessionHandler{h, o, o.name()}
}

func (o *Sessions) name() string {
	switch {
	case o.Name != "":
		return o.Name
	case o.Insecure:
		return "session"
	}
	return "__Host-session"
}

func (o *Sessions) maxAge() time.Duration {
	if o.MaxAge > 0 {
		return o.MaxAge
	}
	return sessionMaxAge
}

func (o *Sessions) clock() time.Time {
	if o.now != nil {
		return o.now()
	}
	return time.Now()
}

type sessionHandler struct {
	Handler
	options *Sessions
	name    string
}

func (h *sessionHandler) pinned() pin { return pinOf(h.Handler) }

func (h *sessionHandler) Serve(w *ResponseWriter, r *Request) error {
	s, err := h.load(r)
	if err != nil {
		return err
	}
	r.SetValue(sessionKey{}, s)
	err = h.Handler.Serve(w, r)
	switch {
	case !s.changed:
		return err
	case w.Committed():
		return errors.Join(err, errSessionLate)
	}
	if saveErr := h.save(w, s); err == nil {
		err = saveErr
	}
	return err
}

// load returns the session of r, an empty one for a cookie that is none of ours, or
// too old.
func (h *sessionHandler) load(r *Request) (*Session, error) {
	s := new(Session)
	text, _ := r.Cookie(h.name)
	plain, ok := h.unseal(text)
	if !ok {
		return s, nil
	}
	if store := h.options.Store; store != nil {
		data, ok, err := store.Load(string(plain))
		if err != nil || !ok {
			return s, err
		}
		s.id, plain = string(plain), data
	}
	var content sessionContent
	if json.Unmarshal(plain, &content) == nil {
		s.values, s.flashes = content.Values, content.Flashes
	}
	return s, nil
}

// save puts s where it is kept, and the cookie into the response.
func (h *sessionHandler) save(w *ResponseWriter, s *Session) error {
	store, expires := h.options.Store, h.options.clock().Add(h.options.maxAge())
	cookie := &Cookie{
		Name: h.name, Path: "/", HttpOnly: true, Secure: !h.options.Insecure, SameSite: http.SameSiteLaxMode,
	}
	if err := h.forget(s); err != nil {
		return err
	}
	if len(s.values)+len(s.flashes) == 0 {
		cookie.MaxAge = -1
		w.SetCookie(cookie)
		return nil
	}
	plain, err := json.Marshal(sessionContent{maps.Clone(s.values), maps.Clone(s.flashes)})
	if err != nil {
		return err
	}
	if store != nil {
		if s.id == "" {
			s.id = rand.Text()
		}
		if err := store.Save(s.id, plain, expires); err != nil {
			return err
		}
		plain = []byte(s.id)
	}
	cookie.Value = h.seal(plain, expires)
	cookie.MaxAge = int(h.options.maxAge() / time.Second)
	if len(cookie.Value) > sessionBytesMax {
		return errSessionSize
	}
	w.SetCookie(cookie)
	return nil
}

// forget deletes what the store has of s under a name that it will not have.
func (h *sessionHandler) forget(s *Session) error {
	store := h.options.Store
	if store == nil {
		return nil
	}
	if s.old != "" {
		if err := store.Delete(s.old); err != nil {
			return err
		}
	}
	if s.id != "" && len(s.values)+len(s.flashes) == 0 {
		return store.Delete(s.id)
	}
	return nil
}

// seal encrypts a text together with the time at which it expires. The name of the
// cookie is authenticated with it, so that the text of another cookie is none of this.
func (h *sessionHandler) seal(plain []byte, expires time.Time) string {
	b := make([]byte, sessionSaltBytes, sessionSaltBytes+8+len(plain)+16)
	rand.Read(b)
	text := binary.BigEndian.AppendUint64(nil, uint64(expires.Unix()))
	b = sessionSealer(h.options.Keys[0], b).Seal(b, sessionNonce[:], append(text, plain...), []byte(h.name))
	return base64.RawURLEncoding.EncodeToString(b)
}

func (h *sessionHandler) unseal(text string) (plain []byte, ok bool) {
	if len(text) > sessionBytesMax {
		return nil, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < sessionSaltBytes {
		return nil, false
	}
	salt, sealed := b[:sessionSaltBytes], b[sessionSaltBytes:]
	for _, key := range h.options.Keys {
		plain, err := sessionSealer(key, salt).Open(nil, sessionNonce[:], sealed, []byte(h.name))
		if err == nil && len(plain) >= 8 {
			expires := int64(binary.BigEndian.Uint64(plain))
			return plain[8:], h.options.clock().Unix() < expires
		}
	}
	return nil, false
}

// sessionSaltBytes is the random part of a cookie, and sessionNonce always the same:
// each cookie has a key of its own, made from the secret and the salt by HMAC. The
// 96 bits of a random nonce would be few for a key that makes many cookies.
const sessionSaltBytes = 24

var sessionNonce [12]byte

func sessionSealer(key, salt []byte) cipher.AEAD {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("flare session\x00"))
	mac.Write(salt)
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	sealer, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has blocks of 16 bytes
	}
	return sealer
}
