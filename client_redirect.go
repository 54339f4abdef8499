package flare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// This file is layer 4 (roles): a request's way to its final answer: redirects,
// cookies, challenges. It knows responses; connections are
// client_roundtrip.go's.

// A clientCall is one request while it is answered, hop by hop. The fields
// change with a redirect; the user's request does not.
type clientCall struct {
	req      *ClientRequest
	bare     ClientRequest // req of those without a body that users do not see
	defaults *Header       // the client's fields; nil: none
	method   string
	target   clientTarget
	cookies  string    // value of Cookie, "" for none
	auth     string    // value of Authorization, "" for none
	by       time.Time // total limit; zero: none

	sent            bool // something of it was, on whatever connection
	closes          bool // the connection is not to be used again
	bodyDropped     bool // by a redirect
	ownDropped      bool // credentials of the request stay away from other origins
	defaultsDropped bool // so do those of the client
	decodes         bool // compression is asked for and removed
}

// credentialFields leave on a change of origin (RFC 9110 §15.4).
var credentialFields = []string{"Authorization", "Cookie", "Cookie2", "Proxy-Authorization", "WWW-Authenticate"}

func isCredentialField(name string) bool {
	for _, field := range credentialFields {
		if equalFoldASCII(name, field) {
			return true
		}
	}
	return false
}

var (
	errAuthValue = errors.New("flare: control character in the value of Authorization")
	errNoHops    = errors.New("the limit is MaxRedirects")
	errBodySent  = errors.New("flare: the body of a redirected request can be sent only once")
)

// clientCalls has calls that have ended. Responses hold nothing of them.
var clientCalls = sync.Pool{New: func() any { return new(clientCall) }}

// follow is Do without middleware.
func (c *Client) follow(ctx context.Context, r *ClientRequest) (*ClientResponse, error) {
	x := clientCalls.Get().(*clientCall)
	resp, err := c.followCall(ctx, x, r)
	x.release()
	return resp, err
}

// followBare is follow for a request without a body that nobody else sees.
func (c *Client) followBare(ctx context.Context, method, url string) (*ClientResponse, error) {
	x := clientCalls.Get().(*clientCall)
	x.bare.Method, x.bare.URL = method, url
	resp, err := c.followCall(ctx, x, &x.bare)
	x.release()
	return resp, err
}

func (x *clientCall) release() {
	*x = clientCall{}
	clientCalls.Put(x)
}

// phaseBefore is the phase in which a hop is that has not begun to send.
func (x *clientCall) phaseBefore() ClientPhase {
	if x.sent { // an attempt or a hop before it was
		return PhaseWrite
	}
	return PhaseRequest
}

// unsendable is the error of a request that cannot be sent, or cannot be sent
// again: only of the first can one say that nothing was.
func (x *clientCall) unsendable(host string, err error) error {
	if !x.sent {
		return invalidRequest(host, err)
	}
	return &ClientError{Phase: PhaseWrite, Host: host, Err: err}
}

func (c *Client) followCall(ctx context.Context, x *clientCall, r *ClientRequest) (*ClientResponse, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	text, err := joinURL(c.cfg.base, r.URL)
	if err != nil {
		return nil, err
	}
	x.req, x.defaults, x.method, x.decodes = r, &c.Header, r.method(), !r.KeepEncoded
	if x.target, err = parseTarget(text, PhaseRequest); err != nil {
		return nil, err
	}
	if c.cfg.timeout > 0 {
		x.by = time.Now().Add(c.cfg.timeout)
	}
	// Credentials of the configuration are for the configured origin.
	x.defaultsDropped = c.cfg.base != "" && x.target.origin() != c.cfg.baseOrigin
	for hops := 0; ; hops++ {
		resp, err := c.answer(ctx, x)
		if err != nil || c.cfg.redirectsMax < 0 {
			return resp, err
		}
		location := redirectLocation(resp)
		if location == "" {
			return resp, nil
		}
		resp.Body.Close()
		if hops == c.cfg.redirectsMax {
			return nil, &ClientError{Phase: PhaseRedirect, Host: x.target.hostPort(), Kind: ErrTooManyRedirects, Err: errNoHops}
		}
		if err := c.redirect(x, resp.StatusCode, location); err != nil {
			return nil, err
		}
	}
}

// redirectLocation returns where a response sends the client, "" if nowhere.
func redirectLocation(resp *ClientResponse) string {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return resp.Header.Get("Location")
	}
	return ""
}

// redirect changes the call to what a Location asks for.
func (c *Client) redirect(x *clientCall, status int, location string) error {
	from := x.target
	u, err := url.Parse(location)
	if err != nil {
		return invalidURL(PhaseRedirect, ruleURLForm)
	}
	if u.User != nil { // a way to look like another site
		return invalidURL(PhaseRedirect, ruleURLUserinfo)
	}
	to, err := targetOf(from.url().ResolveReference(u), PhaseRedirect)
	if err != nil {
		return err
	}
	if from.https && !to.https && !c.AllowInsecureRedirect {
		return &ClientError{Phase: PhaseRedirect, Host: to.hostPort(), Kind: ErrInsecureRedirect}
	}
	to.user = from.user
	if to.fragment == "" && !strings.Contains(location, "#") { // RFC 9110 §10.2.2
		to.fragment = from.fragment
	}
	if to.origin() != from.origin() { // for good: coming back does not restore them
		x.ownDropped, x.defaultsDropped, to.user = true, true, nil
	}
	x.target = to
	switch status {
	case http.StatusMovedPermanently, http.StatusFound: // RFC 9110 §15.4.2, §15.4.3
		if x.method == http.MethodPost {
			x.method, x.bodyDropped = http.MethodGet, true
		}
	case http.StatusSeeOther: // RFC 9110 §15.4.4
		if x.method != http.MethodHead {
			x.method = http.MethodGet
		}
		x.bodyDropped = true
	}
	if !x.bodyDropped && !x.req.rewindable() {
		return &ClientError{Phase: PhaseRedirect, Host: to.hostPort(), Err: errBodySent}
	}
	return nil
}

// answer is one hop: cookies and authorization go with it, and a challenge is
// answered once.
func (c *Client) answer(ctx context.Context, x *clientCall) (*ClientResponse, error) {
	if x.method == http.MethodOptions && x.target.isServer() {
		x.target.path = "*"
	}
	creds := c.credentials(x)
	for attempt := 0; ; attempt++ {
		x.cookies, x.auth = "", ""
		if c.Jar != nil && x.method != http.MethodTrace {
			x.cookies = c.Jar.CookieHeader(x.target.url())
		}
		if creds != nil {
			var err error
			if x.auth, err = creds.Authorization(ctx, x.authRequest()); err == nil && !isFieldValue(x.auth) {
				err = errAuthValue // by Credentials that are not flare's
			}
			if err != nil {
				return nil, x.unsendable(x.target.hostPort(), err)
			}
		}
		resp, err := c.roundTrip(ctx, x)
		if err != nil {
			return nil, err
		}
		if c.Jar != nil {
			c.Jar.SetFromHeader(x.target.url(), &resp.Header)
		}
		if creds == nil {
			return resp, nil
		}
		again, err := challenged(ctx, creds, resp, x, attempt)
		if err != nil {
			resp.Body.Close()
			return nil, clientError(PhaseHead, x.target.hostPort(), err)
		}
		if !again {
			return resp, nil
		}
		resp.Body.Close()
	}
}

// credentials returns what authorizes the hop: the client's, or what the URL
// says; nil for nothing.
func (c *Client) credentials(x *clientCall) Credentials {
	if x.method == http.MethodTrace { // whose answer repeats them (RFC 9110 §9.3.8)
		return nil
	}
	if c.Auth != nil && !x.defaultsDropped {
		return c.Auth
	}
	if user := x.target.user; user != nil {
		password, _ := user.Password()
		return BasicAuth(user.Username(), password)
	}
	return nil
}

// challengesMax is how often one hop answers challenges: once, and once more
// for a nonce that has gone stale meanwhile.
const challengesMax = 2

// challenged tells the credentials of the answer, and says whether the request
// is to be sent again.
func challenged(ctx context.Context, creds Credentials, resp *ClientResponse, x *clientCall, attempt int) (bool, error) {
	if resp.StatusCode != http.StatusUnauthorized {
		return false, creds.Answered(ctx, resp.Header.Get("Authentication-Info"), x.auth)
	}
	challenges := resp.Header.Values("WWW-Authenticate")
	return creds.Challenged(ctx, challenges, x.auth) && attempt < challengesMax && (x.bodyDropped || x.req.rewindable()), nil
}

// authRequest says what credentials may cover.
func (x *clientCall) authRequest() *AuthRequest {
	r := &AuthRequest{Method: x.method, Target: x.target.path}
	if req := x.req; req.inMem && !x.bodyDropped {
		r.Body = func() (io.Reader, error) { return bytes.NewReader(req.payload), nil }
	} else if x.req.GetBody != nil && !x.bodyDropped {
		r.Body = x.req.GetBody
	}
	return r
}
