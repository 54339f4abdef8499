package flare

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// This file is layer 5 (surface): the middleware that bounds how often a client may
// ask: a token bucket for each, kept as the one moment at which it is full again
// (the generic cell rate algorithm of ATM). What is kept of clients is bounded.

const (
	rateLimiterRate    = 10
	rateLimiterClients = 10_000

	// rateLimiterPrefix is how much of an IPv6 address is a client: whoever has one
	// usually has 64 bits more to choose from (RFC 4291 §2.5.1, RFC 6177).
	rateLimiterPrefix = 64
)

// A RateLimiter bounds the requests of each client: Wrap is the middleware, and all
// that one RateLimiter wraps count together. A client may make Burst requests at
// once, and gains Rate of them a second. Requests beyond that are refused with 429
// and Retry-After; every response says by RateLimit and RateLimit-Policy
// (draft-ietf-httpapi-ratelimit-headers) what is left.
//
// A client is Request.ClientAddr, of IPv6 the first 64 bits, or what Key says. At
// least MaxClients/2 and at most MaxClients are remembered, those that came last:
// one that is forgotten may burst again. In each field 0 is the default. It must not
// be changed once it is in use.
type RateLimiter struct {
	Rate       float64               // requests a second; default 10
	Burst      int                   // requests at once; default Rate, but at least 1
	MaxClients int                   // that are remembered; default 10,000
	Key        func(*Request) string // who the client is; nil: by its address

	once   sync.Once
	period time.Duration // in which a request is gained
	depth  time.Duration // period, Burst times
	policy string        // the value of RateLimit-Policy

	mu         sync.Mutex
	now        func() time.Duration       // in tests; nil: the clock of the request's turn
	young, old map[rateKey]*time.Duration // when a client's bucket is full again; guarded by mu
}

// A rateKey is a client.
type rateKey struct {
	addr netip.Addr
	name string // by Key
}

// Wrap is the middleware.
func (l *RateLimiter) Wrap(h Handler) Handler {
	l.once.Do(l.settle)
	return gatedHandler{h, l.admit}
}

// settle fills in the defaults.
func (l *RateLimiter) settle() {
	rate := l.Rate
	if !(rate > 0) {
		rate = rateLimiterRate
	}
	burst := l.Burst
	if burst <= 0 {
		burst = max(int(rate), 1)
	}
	l.period = time.Duration(min(math.Ceil(float64(time.Second)/rate), math.MaxInt64/4/float64(burst)))
	l.period = max(l.period, 1)
	l.depth = l.period * time.Duration(burst)
	l.policy = `"default";q=` + strconv.Itoa(burst) + ";w=" + strconv.Itoa(seconds(l.depth))
	l.young, l.old = make(map[rateKey]*time.Duration), make(map[rateKey]*time.Duration)
}

func (l *RateLimiter) clients() int {
	if l.MaxClients <= 0 {
		return rateLimiterClients
	}
	return l.MaxClients
}

// seconds returns d in seconds, rounded up.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// admit takes a request from its client's bucket.
func (l *RateLimiter) admit(w *ResponseWriter, r *Request) (bool, error) {
	var key rateKey
	if l.Key != nil {
		key.name = l.Key(r) // the user's, with nothing held
	}
	x := r.lease.enter()
	if x == nil {
		return false, errRequestDone
	}
	defer r.lease.exit()
	if l.Key == nil {
		key.addr = clientPrefix(x.r.ClientAddr().Addr())
	}
	now := x.workset().clock.now
	if l.now != nil {
		now = l.now()
	}
	left, wait := l.take(key, now)
	header := &x.w.header
	header.setValid(headerField{"RateLimit-Policy", l.policy})
	room := [64]byte{}
	b := append(room[:0], `"default";r=`...)
	b = strconv.AppendInt(b, int64(left), 10)
	b = append(b, ";t="...)
	b = strconv.AppendInt(b, int64(seconds(max(wait, l.period))), 10)
	header.setValid(headerField{"RateLimit", string(b)})
	if left >= 0 && wait == 0 {
		return true, nil
	}
	header.Set("Retry-After", strconv.Itoa(seconds(wait)))
	return false, &StatusError{Code: http.StatusTooManyRequests}
}

// clientPrefix is what of an address a client is known by.
func clientPrefix(addr netip.Addr) netip.Addr {
	if addr.Is6() && !addr.Is4In6() {
		if p, err := addr.Prefix(rateLimiterPrefix); err == nil {
			return p.Addr()
		}
	}
	return addr.Unmap()
}

// take takes a request from the bucket of key, if there is one in it. It returns how
// many are left, and for how long to wait if there is none.
func (l *RateLimiter) take(key rateKey, now time.Duration) (left int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.young[key]
	if full == nil {
		if full = l.old[key]; full == nil {
			full = new(time.Duration) // was full long ago
		}
		if len(l.young) >= max(l.clients()/2, 1) {
			clear(l.old)
			l.young, l.old = l.old, l.young
		}
		l.young[key] = full
	}
	if *full = max(*full, now); *full-now > l.depth-l.period {
		wait = *full - now - (l.depth - l.period)
	} else {
		*full += l.period
		left = int((l.depth - (*full - now)) / l.period)
	}
	return left, wait
}
