package flare

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is layer 5 (surface): what pages of other origins may do: the CORS
// protocol of the Fetch standard, which lets them read responses, and the protection
// of handlers from requests that they send anyway.

// A CORS lets pages of other origins read responses, by the CORS protocol (Fetch
// standard, §3.3): Wrap is the middleware, for Mux.Use, so that it answers preflight
// requests for routes that have no OPTIONS, and for Server.Refusals. It protects
// nothing: see CrossOrigin for that. The zero value lets no page read anything. It
// must not be changed once it is in use.
type CORS struct {
	// Origins are those whose pages may: "https://example.com", patterns in which *
	// stands for anything but a slash ("https://*.example.com"), "null", which
	// documents in a sandbox have, and "*" for all. "*" and Credentials exclude each
	// other: Wrap panics.
	Origins []string

	// AllowOrigin, when set, is asked about origins that Origins does not have.
	AllowOrigin func(r *Request, origin string) bool

	Methods     []string // besides GET, HEAD and POST; "*": all, if without credentials
	Headers     []string // of requests, besides those that any page may set; "*" likewise, but for Authorization
	Expose      []string // fields of responses, besides those that any page may read; "*" likewise
	Credentials bool     // cookies and the like may be sent, and responses to that be read

	// MaxAge is how long a browser may keep the answer to a preflight request; 0 leaves
	// it to the browser (5 s), negative is not at all.
	MaxAge time.Duration
}

// Wrap is the middleware.
func (c *CORS) Wrap(h Handler) Handler {
	any := slices.Contains(c.Origins, "*")
	if c.Credentials && (any || slices.Contains(c.Methods, "*") || slices.Contains(c.Headers, "*") || slices.Contains(c.Expose, "*")) {
		panic(errors.New(`flare: CORS with Credentials and "*"`)) // which browsers take for a star (Fetch, §3.3.5)
	}
	ch := &corsHandler{Handler: h, cors: c, any: any && c.AllowOrigin == nil}
	for _, list := range []struct {
		to   *string
		from []string
	}{{&ch.methods, c.Methods}, {&ch.headers, c.Headers}, {&ch.expose, c.Expose}} {
		for _, name := range list.from {
			if !isToken(name) {
				panic(errors.New("flare: CORS with a method or field name that is none"))
			}
		}
		*list.to = strings.Join(list.from, ", ")
	}
	switch {
	case c.MaxAge < 0:
		ch.maxAge = "0"
	case c.MaxAge > 0:
		ch.maxAge = strconv.Itoa(int(c.MaxAge / time.Second))
	}
	return ch
}

type corsHandler struct {
	Handler
	cors                             *CORS
	any                              bool // the answer is the same for all origins
	methods, headers, expose, maxAge string
}

func (h *corsHandler) pinned() pin { return pinOf(h.Handler) }

func (h *corsHandler) Serve(w *ResponseWriter, r *Request) error {
	origin, preflight := h.look(r)
	header := w.Header()
	allowed := origin != "" && h.allows(r, origin)
	if allowed {
		if h.any {
			origin = "*"
		}
		header.Set("Access-Control-Allow-Origin", origin)
		if h.cors.Credentials {
			header.Set("Access-Control-Allow-Credentials", "true")
		}
	}
	if preflight {
		r.spareHandler()
		return h.preflight(w, header, allowed)
	}
	if allowed && h.expose != "" {
		header.Set("Access-Control-Expose-Headers", h.expose)
	}
	return h.Handler.Serve(w, r)
}

// look returns the origin of r, "" without one, and whether r is a preflight request.
// The response varies with the origin also without one: caches must not mix them up.
func (h *corsHandler) look(r *Request) (origin string, preflight bool) {
	x := r.lease.enter()
	if x == nil {
		return "", false
	}
	defer r.lease.exit()
	if !h.any {
		x.w.header.vary("Origin")
	}
	var room [2]string
	origins := x.r.fieldViews("Origin", room[:0])
	if len(origins) != 1 { // two are no origin
		return "", false
	}
	origin = strings.Clone(origins[0])
	if x.r.methodView() == http.MethodOptions {
		preflight = len(x.r.fieldViews("Access-Control-Request-Method", room[:0])) == 1
	}
	return origin, preflight
}

// allows reports whether pages of an origin may read responses.
func (h *corsHandler) allows(r *Request, origin string) bool {
	if h.any || originListed(h.cors.Origins, origin) {
		return true
	}
	return h.cors.AllowOrigin != nil && h.cors.AllowOrigin(r, origin)
}

// originListed reports whether one of the patterns fits an origin.
func originListed(patterns []string, origin string) bool {
	if slices.Contains(patterns, origin) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Host == "" {
		return false
	}
	for _, pattern := range patterns {
		if pattern == "*" || strings.Contains(pattern, "://") && originMatches(u, defaultPort(u.Scheme), strings.ToLower(pattern)) {
			return true
		}
	}
	return false
}

// preflight answers a preflight request. What a page may do is said whatever it has
// asked for: the browser compares.
func (h *corsHandler) preflight(w *ResponseWriter, header *Header, allowed bool) error {
	if allowed {
		for _, f := range [...]headerField{
			{name: "Access-Control-Allow-Methods", value: h.methods},
			{name: "Access-Control-Allow-Headers", value: h.headers},
			{name: "Access-Control-Max-Age", value: h.maxAge},
		} {
			if f.value != "" {
				header.Set(f.name, f.value)
			}
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// A CrossOrigin protects handlers from what pages of other origins have a browser
// send with its user's cookies (cross-site request forgery), as net/http's
// CrossOriginProtection does, by Sec-Fetch-Site and Origin: Wrap is the middleware.
// Requests by GET, HEAD and OPTIONS pass, which must not change anything, and so do
// those that no browser sends. Others are refused with 403.
type CrossOrigin struct {
	Origins []string              // "https://example.com": pages that may all the same; as of CORS, without "*"
	Exempt  func(r *Request) bool // when set, says which requests may all the same
}

// Wrap is the middleware.
func (c *CrossOrigin) Wrap(h Handler) Handler {
	if slices.Contains(c.Origins, "*") {
		panic(errors.New("flare: CrossOrigin that keeps nobody out"))
	}
	return gatedHandler{h, func(w *ResponseWriter, r *Request) (bool, error) {
		if err := c.check(r); err != nil {
			return false, &StatusError{Code: http.StatusForbidden, Message: err.Error(), Err: err}
		}
		return true, nil
	}}
}

var (
	errCrossOrigin    = errors.New("cross-origin request detected from Sec-Fetch-Site header")
	errCrossOriginOld = errors.New("cross-origin request detected, and/or browser is out of date: " +
		"Sec-Fetch-Site is missing, and Origin does not match Host")
)

// check returns why r is not to be served.
func (c *CrossOrigin) check(r *Request) error {
	switch r.Method() {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	site, origin := r.Header().Get("Sec-Fetch-Site"), r.Header().Get("Origin")
	switch {
	case site == "same-origin", site == "none":
		return nil
	case site == "" && origin == "": // no browser, or the same origin
		return nil
	case site == "":
		// Without the scheme: browsers that say no more are of before 2023.
		if o, err := url.Parse(origin); err == nil && o.Host == r.ClientHost() {
			return nil
		}
	}
	if origin != "" && originListed(c.Origins, origin) || c.Exempt != nil && c.Exempt(r) {
		return nil
	}
	if site == "" {
		return errCrossOriginOld
	}
	return errCrossOrigin
}
