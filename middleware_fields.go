package flare

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// This file is layer 5 (surface): middleware that says something of every response:
// the fields that browsers keep users safe by, and a name for the request in logs.
// And the middleware that makes errors of panics where a report is wanted.

// SecurityFields sets the fields by which browsers keep a site's users safe: Wrap is
// the middleware, and what a handler sets takes the place of its. In each field "" is
// the default, and "-" leaves the response without. It must not be changed once it
// is in use.
type SecurityFields struct {
	// HSTS is the max-age of Strict-Transport-Security (RFC 6797), which is sent where
	// Request.Scheme is https; subdomains are included. 0 sends none: it cannot be taken
	// back before its time.
	HSTS time.Duration

	ContentSecurityPolicy string // default none: only you know what your pages load
	PermissionsPolicy     string // default none
	FrameOptions          string // default "SAMEORIGIN"
	ReferrerPolicy        string // default "strict-origin-when-cross-origin"
	OpenerPolicy          string // Cross-Origin-Opener-Policy; default "same-origin"
	ResourcePolicy        string // Cross-Origin-Resource-Policy; default none
}

// Wrap is the middleware. X-Content-Type-Options: nosniff is always sent.
func (s *SecurityFields) Wrap(h Handler) Handler {
	fields := []headerField{{name: "X-Content-Type-Options", value: "nosniff"}}
	for _, f := range []struct{ name, value, fallback string }{
		{"Content-Security-Policy", s.ContentSecurityPolicy, "-"},
		{"Permissions-Policy", s.PermissionsPolicy, "-"},
		{"X-Frame-Options", s.FrameOptions, "SAMEORIGIN"},
		{"Referrer-Policy", s.ReferrerPolicy, "strict-origin-when-cross-origin"},
		{"Cross-Origin-Opener-Policy", s.OpenerPolicy, "same-origin"},
		{"Cross-Origin-Resource-Policy", s.ResourcePolicy, "-"},
	} {
		if f.value == "" {
			f.value = f.fallback
		}
		if f.value != "-" {
			if !isFieldValue(f.value) {
				panic(errors.New("flare: SecurityFields with a value that is none"))
			}
			fields = append(fields, headerField{name: f.name, value: trimBlank(f.value)})
		}
	}
	hsts := ""
	if s.HSTS > 0 {
		hsts = "max-age=" + strconv.FormatInt(int64(s.HSTS/time.Second), 10) + "; includeSubDomains"
	}
	return gatedHandler{h, func(w *ResponseWriter, r *Request) (bool, error) {
		x := w.lease.enter()
		if x == nil {
			return false, errWriterDone
		}
		defer w.lease.exit()
		for i := range fields {
			x.w.header.setValid(fields[i])
		}
		if hsts != "" && x.r.Scheme() == "https" { // RFC 6797 §7.2
			x.w.header.Set("Strict-Transport-Security", hsts)
		}
		return true, nil
	}}
}

const (
	requestIDField    = "X-Request-Id"
	requestIDBytesMax = 128 // of one that a proxy has given
)

// RequestID is a middleware that names each request: Request.RequestID, X-Request-Id
// of the response, and lines in logs have the name. It is what X-Request-Id of the
// request says, if the peer is one of Server.TrustedProxies and it is a token of at
// most 128 characters, or else 128 random bits. It stays what an outer one has made
// it.
func RequestID(h Handler) Handler {
	return gatedHandler{h, func(w *ResponseWriter, r *Request) (bool, error) {
		x := r.lease.enter()
		if x == nil {
			return false, errRequestDone
		}
		defer r.lease.exit()
		if x.r.id == "" {
			x.r.id = x.r.givenID()
		}
		if x.r.id == "" {
			x.r.id = randomID()
		}
		x.w.header.setValid(headerField{requestIDField, x.r.id})
		return true, nil
	}}
}

// givenID returns what a trusted peer calls the request, "" if there is no such thing.
func (r *serverRequest) givenID() string {
	if t := r.trust(); t == nil || !t.trusts(r.RemoteAddr().Addr()) {
		return ""
	}
	var room [2]string
	given := r.fieldViews(requestIDField, room[:0])
	if len(given) != 1 || len(given[0]) > requestIDBytesMax || !isToken(given[0]) {
		return ""
	}
	return strings.Clone(given[0])
}

// randomID returns 128 random bits in hexadecimal.
func randomID() string {
	var bits [16]byte
	var digits [32]byte
	a, b := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		bits[i], bits[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	hex.Encode(digits[:], bits[:])
	return string(digits[:])
}

// Recover is a middleware that makes an error of a panic, as the server itself does,
// but at its own place: middleware further out sees the error. report, if it is not
// nil, is told of the panic first, with the stack. http.ErrAbortHandler passes
// through as the error that it is.
func Recover(report func(r *Request, value any, stack []byte)) Middleware {
	return func(h Handler) Handler { return &recoverHandler{h, report} }
}

type recoverHandler struct {
	Handler
	report func(r *Request, value any, stack []byte)
}

func (h *recoverHandler) pinned() pin { return pinOf(h.Handler) }

func (h *recoverHandler) Serve(w *ResponseWriter, r *Request) (err error) {
	p := guard(func() { err = h.Handler.Serve(w, r) }, nil)
	switch {
	case p == nil:
		return err
	case p.value == http.ErrAbortHandler:
		return http.ErrAbortHandler
	}
	if x := r.lease.enter(); x != nil {
		x.workset().counts[countPanics]++
		r.lease.exit()
	}
	if h.report != nil {
		h.report(r, p.value, p.stack)
	}
	return p
}
