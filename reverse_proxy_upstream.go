package flare

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 5 (surface): the servers behind a ReverseProxy: which one is asked
// next, and how they are, by what became of requests and by asking them.

const (
	proxyFailTimeout    = 10 * time.Second
	proxyHealthInterval = 10 * time.Second
	proxyHealthTimeout  = 5 * time.Second

	// proxyFailuresMax is how many requests in a row may go without an answer.
	proxyFailuresMax = 3

	// proxyProbesMax is how many probes in a row may.
	proxyProbesMax = 2
)

// proxyUpstreams are the servers behind a ReverseProxy.
type proxyUpstreams struct {
	list        []*proxyUpstream
	leastConns  bool          // the one that is least busy is asked
	failTimeout time.Duration // for how long one is left out
	turn        atomic.Uint32
	probing     atomic.Bool // somebody asks how they are
}

// errNoUpstream is answered while no server is well.
var errNoUpstream error = &StatusError{Code: http.StatusServiceUnavailable, Message: "no server is available"}

// A proxyUpstream is a server behind a ReverseProxy.
type proxyUpstream struct {
	base     string       // of URLs
	active   atomic.Int64 // requests under way
	failures atomic.Int32 // requests in a row without an answer
	until    atomic.Int64 // when it is asked again, since origin; in the past: it is asked
	sick     atomic.Bool  // probes have failed
	missed   int          // probes in a row; owned by who probes
}

// failed is told of a request that had no answer.
func (u *proxyUpstream) failed(err error, timeout time.Duration) {
	if n := u.failures.Add(1); timeout > 0 && (n >= proxyFailuresMax || isUnsent(err)) {
		u.until.Store(int64(time.Since(origin) + timeout))
	}
}

// isUnsent reports whether a request has failed before any of it was sent.
func isUnsent(err error) bool {
	var e *ClientError
	if errors.As(err, &e) {
		switch e.Phase {
		case PhaseResolve, PhaseDial, PhaseProxy, PhaseTLS:
			return true
		}
	}
	return false
}

// isUpstreamFault reports whether a request has failed for the server's sake, and not
// for the client's or that of the configuration.
func isUpstreamFault(err error) bool {
	var e *ClientError
	if !errors.As(err, &e) || e.Phase == PhaseRequest {
		return false
	}
	return !errors.As(err, new(*StatusError)) && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrTooLarge)
}

// choose returns the server that is to be asked next, none of tried; nil if there is
// none. One that has failed is better than none.
func (p *proxyUpstreams) choose(tried []*proxyUpstream) *proxyUpstream {
	now := int64(time.Since(origin))
	var best *proxyUpstream
	var bestRests bool
	turn := int(p.turn.Add(1) % uint32(len(p.list)))
	for i := range p.list {
		u := p.list[(turn+i)%len(p.list)]
		if u.sick.Load() || slices.Contains(tried, u) {
			continue
		}
		rests := now < u.until.Load()
		switch {
		case best == nil, bestRests && !rests:
		case rests != bestRests || !p.leastConns || u.active.Load() >= best.active.Load():
			continue
		}
		best, bestRests = u, rests
	}
	return best
}

// check is nil as long as some server is well.
func (p *proxyUpstreams) check() error {
	now := int64(time.Since(origin))
	for _, u := range p.list {
		if !u.sick.Load() && now >= u.until.Load() {
			return nil
		}
	}
	return errNoUpstream
}

// probe has the servers asked how they are at a path, until ctx ends.
func (p *proxyUpstreams) probe(ctx context.Context, do Doer, path string, interval time.Duration) {
	defer p.probing.Store(false)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		var all sync.WaitGroup
		for _, u := range p.list {
			all.Go(func() { u.probe(ctx, do, path) })
		}
		all.Wait()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	for _, u := range p.list {
		u.missed = 0
		u.sick.Store(false) // nobody would learn of its recovery
	}
}

// probe asks a server how it is.
func (u *proxyUpstream) probe(ctx context.Context, do Doer, path string) {
	ctx, cancel := context.WithTimeout(ctx, proxyHealthTimeout)
	defer cancel()
	resp, err := do(ctx, &ClientRequest{URL: u.base + path, KeepEncoded: true})
	if err == nil {
		resp.Body.Close()
	}
	if err == nil && resp.StatusCode < 400 {
		u.missed = 0
		u.failures.Store(0)
		u.until.Store(0)
		u.sick.Store(false)
	} else if u.missed++; u.missed >= proxyProbesMax {
		u.sick.Store(true)
	}
}
