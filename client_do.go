package flare

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// This file is layer 4 (roles): the calls of a Client, all of which are Do, and
// what it makes ready for the first of them.

// prepare fills the configuration in.
func (c *Client) prepare() {
	cfg := &c.cfg
	cfg.timeout = c.Timeout
	cfg.dialTimeout = limitOr(c.DialTimeout, defaultDialTimeout)
	cfg.handshakeTimeout = limitOr(c.HandshakeTimeout, defaultHandshakeTimeout)
	cfg.writeTimeout = limitOr(c.WriteTimeout, defaultWriteTimeout)
	cfg.responseTimeout = limitOr(c.ResponseTimeout, 30*time.Second)
	cfg.continueTimeout = limitOr(c.ContinueTimeout, time.Second)
	cfg.bodyTimeout = limitOr(c.BodyTimeout, 30*time.Second)
	cfg.head = headLimits{headerBytes: limitOr(c.MaxHeaderBytes, 64<<10), headers: limitOr(c.MaxHeaders, 256)}
	cfg.redirectsMax = limitOr(c.MaxRedirects, 10)
	cfg.bodyBytesMax = limitOr(c.MaxBodyBytes, -1)
	cfg.bufferedBytesMax = limitOr(c.MaxBufferedBytes, 64<<20)
	cfg.decode = DecodeLimits{MaxBytes: c.MaxDecodedBytes, MaxRatio: c.MaxDecodeRatio}
	c.pool.perRouteMax = limitOr(c.MaxIdleConnsPerHost, 64)
	c.pool.totalMax = limitOr(c.MaxIdleConns, 256)
	c.pool.idleTimeout = limitOr(c.IdleTimeout, 60*time.Second)
	cfg.http2 = newHTTP2ClientConfig(c.Protocols, c.HTTP2, &cfg.head)
	cfg.http2.writeTimeout, cfg.http2.idleTimeout = cfg.writeTimeout, c.pool.idleTimeout
	cfg.http2.keepsIdle = c.pool.perRouteMax > 0 && c.pool.totalMax > 0
	if c.Proxy == nil {
		cfg.env = readProxyEnvironment()
	}
	cfg.do = c.follow
	for i := len(c.Wrap) - 1; i >= 0; i-- {
		cfg.do = c.Wrap[i](cfg.do)
	}
	cfg.tls = c.tlsConfig()
	if c.initErr = c.checkDefaults(); c.initErr == nil && c.BaseURL != "" {
		c.initErr = c.prepareBase()
	}
}

// checkDefaults says what is wrong with the fields of every request.
func (c *Client) checkDefaults() error {
	err := c.Header.fault()
	if err == nil {
		err = checkHostField(&c.Header)
	}
	if err != nil {
		return invalidRequest("", err)
	}
	return nil
}

// prepareBase takes BaseURL apart.
func (c *Client) prepareBase() error {
	t, err := parseTarget(c.BaseURL, PhaseRequest)
	if err != nil {
		return err
	}
	c.cfg.baseOrigin = t.origin()
	base, _, _ := strings.Cut(c.BaseURL, "#")
	c.cfg.base, _, _ = strings.Cut(base, "?")
	return nil
}

// Do sends a request and returns the response once its head is there, whatever
// its status, after redirects. The body is for the caller to read or close.
// ctx ends the whole of it, the body included.
func (c *Client) Do(ctx context.Context, r *ClientRequest) (*ClientResponse, error) {
	if c.once.Do(c.prepare); c.initErr != nil {
		return nil, c.initErr
	}
	return c.cfg.do(ctx, r)
}

// Get sends a GET request, as Do does.
func (c *Client) Get(ctx context.Context, url string) (*ClientResponse, error) {
	return c.doBare(ctx, http.MethodGet, url)
}

// Head sends a HEAD request.
func (c *Client) Head(ctx context.Context, url string) (*ClientResponse, error) {
	return c.doBare(ctx, http.MethodHead, url)
}

// Delete sends a DELETE request.
func (c *Client) Delete(ctx context.Context, url string) (*ClientResponse, error) {
	return c.doBare(ctx, http.MethodDelete, url)
}

// Post sends body with a POST request; see ClientRequest.SetBody for what body
// may be.
func (c *Client) Post(ctx context.Context, url string, body any) (*ClientResponse, error) {
	return c.doBody(ctx, http.MethodPost, url, body)
}

// Put sends body with a PUT request.
func (c *Client) Put(ctx context.Context, url string, body any) (*ClientResponse, error) {
	return c.doBody(ctx, http.MethodPut, url, body)
}

// Patch sends body with a PATCH request.
func (c *Client) Patch(ctx context.Context, url string, body any) (*ClientResponse, error) {
	return c.doBody(ctx, http.MethodPatch, url, body)
}

// doBare sends a request without a body. What wraps Do may keep what it is given.
func (c *Client) doBare(ctx context.Context, method, url string) (*ClientResponse, error) {
	if c.once.Do(c.prepare); c.initErr != nil || len(c.Wrap) > 0 {
		return c.Do(ctx, &ClientRequest{Method: method, URL: url})
	}
	return c.followBare(ctx, method, url)
}

func (c *Client) doBody(ctx context.Context, method, url string, body any) (*ClientResponse, error) {
	r := &ClientRequest{Method: method, URL: url}
	if err := r.SetBody(body); err != nil {
		return nil, err
	}
	return c.Do(ctx, r)
}

// CloseIdleConnections closes the connections that rest. Requests under way
// and later ones are not disturbed.
func (c *Client) CloseIdleConnections() {
	c.pool.closeIdle(false)
	c.http2.closeIdle()
}

// DefaultClient is the client of Get, Head and Post.
var DefaultClient = new(Client)

// Get sends a GET request with DefaultClient.
func Get(ctx context.Context, url string) (*ClientResponse, error) {
	return DefaultClient.Get(ctx, url)
}

// Head sends a HEAD request with DefaultClient.
func Head(ctx context.Context, url string) (*ClientResponse, error) {
	return DefaultClient.Head(ctx, url)
}

// Post sends body with a POST request of DefaultClient.
func Post(ctx context.Context, url string, body any) (*ClientResponse, error) {
	return DefaultClient.Post(ctx, url, body)
}
