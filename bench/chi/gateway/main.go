// Gateway is examples/gateway in net/http, httputil and chi: the same flags, routes,
// limit, log and health, written with what these have.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

type route struct {
	host, path string
	upstreams  []string
}

type config struct {
	addr, admin       string
	certFile, keyFile string
	routes            []route
	trusted           []netip.Prefix
	rate              float64
	health            string
	leastConns        bool
	log               io.Writer
}

func parseFlags(args []string) (*config, error) {
	c := &config{log: os.Stdout}
	f := flag.NewFlagSet("gateway", flag.ContinueOnError)
	f.StringVar(&c.addr, "addr", "127.0.0.1:8080", "address to listen on, host:port")
	f.StringVar(&c.admin, "admin", "127.0.0.1:9090", "address of /metrics, /healthz and /readyz")
	f.StringVar(&c.certFile, "cert", "", "PEM `file` with a certificate")
	f.StringVar(&c.keyFile, "key", "", "PEM `file` with its key")
	f.Float64Var(&c.rate, "rate", 100, "requests a second of each client, 0 for any number")
	f.StringVar(&c.health, "health", "", "`path` that servers are asked at for how they are")
	f.BoolVar(&c.leastConns, "least", false, "ask the server that is least busy")
	f.Func("trust", "`prefix` of proxies in front whose X-Forwarded-For counts", func(s string) error {
		p, err := netip.ParsePrefix(s)
		c.trusted = append(c.trusted, p)
		return err
	})
	f.Func("route", "`[host]/path=url[,url...]`, more than once for several", func(s string) error {
		prefix, list, ok := strings.Cut(s, "=")
		host, path, slash := strings.Cut(prefix, "/")
		if !ok || !slash {
			return errors.New("want [host]/path=url")
		}
		c.routes = append(c.routes, route{host, "/" + path, strings.Split(list, ",")})
		return nil
	})
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if len(c.routes) == 0 {
		return nil, errors.New("no -route; see -help")
	}
	return c, nil
}

// An upstream is a server behind, and how it is.
type upstream struct {
	url    *url.URL
	active atomic.Int64
	until  atomic.Int64 // nanoseconds of the epoch: when it is asked again
	sick   atomic.Bool
}

// A balancer is a RoundTripper that chooses a server, and another if that fails.
type balancer struct {
	upstreams []*upstream
	turn      atomic.Uint32
	least     bool
	transport http.RoundTripper
}

func newBalancer(urls []string, least bool, transport http.RoundTripper) (*balancer, error) {
	b := &balancer{least: least, transport: transport}
	for _, s := range urls {
		u, err := url.Parse(s)
		if err != nil {
			return nil, err
		}
		b.upstreams = append(b.upstreams, &upstream{url: u})
	}
	return b, nil
}

func (b *balancer) choose(tried []*upstream) *upstream {
	var best *upstream
	turn, now := int(b.turn.Add(1)), time.Now().UnixNano()
	for i := range b.upstreams {
		u := b.upstreams[(turn+i)%len(b.upstreams)]
		if u.sick.Load() || now < u.until.Load() || slices.Contains(tried, u) {
			continue
		}
		if best == nil || b.least && u.active.Load() < best.active.Load() {
			best = u
		}
	}
	return best
}

// A countedBody is a body whose server is busy until it is closed.
type countedBody struct {
	io.ReadCloser
	once sync.Once
	done func()
}

func (b *countedBody) Close() error {
	b.once.Do(b.done)
	return b.ReadCloser.Close()
}

// Write is for upgrades.
func (b *countedBody) Write(p []byte) (int, error) {
	w, ok := b.ReadCloser.(io.Writer)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return w.Write(p)
}

func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	var tried []*upstream
	failed := errors.New("no server is available")
	for range 3 {
		u := b.choose(tried)
		if u == nil {
			break
		}
		tried = append(tried, u)
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host = u.url.Scheme, u.url.Host
		u.active.Add(1)
		resp, err := b.transport.RoundTrip(out)
		if err == nil {
			resp.Body = &countedBody{ReadCloser: resp.Body, done: func() { u.active.Add(-1) }}
			return resp, nil
		}
		u.active.Add(-1)
		failed = err
		var op *net.OpError
		unsent := errors.As(err, &op) && op.Op == "dial"
		if r.Context().Err() != nil {
			break
		}
		u.until.Store(time.Now().Add(10 * time.Second).UnixNano())
		bare := r.Body == nil || r.Body == http.NoBody
		if !bare || !unsent && r.Method != http.MethodGet && r.Method != http.MethodHead {
			break
		}
	}
	return nil, failed
}

func (b *balancer) probe(ctx context.Context, path string) {
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		for _, u := range b.upstreams {
			late, cancel := context.WithTimeout(ctx, 5*time.Second)
			req, err := http.NewRequestWithContext(late, http.MethodGet, u.url.String()+path, nil)
			if err == nil {
				var resp *http.Response
				if resp, err = b.transport.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
				u.sick.Store(err != nil || resp.StatusCode >= 400)
			}
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (b *balancer) check() bool {
	return b.choose(nil) != nil
}

// A limiter has a bucket of tokens for each client.
type limiter struct {
	rate, burst float64
	mu          sync.Mutex
	clients     map[netip.Addr]*bucket // guarded by mu
}

type bucket struct {
	tokens float64
	at     time.Time
}

const clientsMax = 10_000

func (l *limiter) allow(client netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.clients[client]
	if b == nil {
		if len(l.clients) >= clientsMax {
			clear(l.clients)
		}
		b = &bucket{l.burst, now}
		l.clients[client] = b
	}
	b.tokens = min(l.burst, b.tokens+now.Sub(b.at).Seconds()*l.rate)
	if b.at = now; b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// clientOf walks X-Forwarded-For from the right through the proxies that are trusted.
func clientOf(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	client := peer.Addr()
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(list) - 1; i >= 0 && slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(client) }); i-- {
		next, err := netip.ParseAddr(strings.TrimSpace(list[i]))
		if err != nil {
			break
		}
		client = next
	}
	return client
}

// metrics count requests by route and status.
type metrics struct {
	mu     sync.Mutex
	counts map[string]int64         // guarded by mu
	times  map[string]time.Duration // guarded by mu
}

func (m *metrics) add(pattern string, status int, took time.Duration) {
	key := fmt.Sprintf(`{route=%q,status="%d"}`, pattern, status)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[key]++
	m.times[key] += took
}

func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintln(w, "# TYPE gateway_requests_total counter")
	for _, key := range slices.Sorted(maps.Keys(m.counts)) {
		fmt.Fprintf(w, "gateway_requests_total%s %d\n", key, m.counts[key])
	}
	fmt.Fprintln(w, "# TYPE gateway_seconds_total counter")
	for _, key := range slices.Sorted(maps.Keys(m.times)) {
		fmt.Fprintf(w, "gateway_seconds_total%s %g\n", key, m.times[key].Seconds())
	}
}

type gateway struct {
	front, admin *http.Server
	balancers    []*balancer
	health       string
	draining     atomic.Bool
}

func newGateway(c *config) (*gateway, error) {
	g := &gateway{health: c.health}
	transport := &http.Transport{MaxIdleConnsPerHost: 256, MaxIdleConns: 1024, ResponseHeaderTimeout: 30 * time.Second, ForceAttemptHTTP2: true}
	m := &metrics{counts: make(map[string]int64), times: make(map[string]time.Duration)}
	limit := &limiter{rate: c.rate, burst: 4*c.rate + 1, clients: make(map[netip.Addr]*bucket)}
	logger := slog.New(slog.NewJSONHandler(c.log, nil))
	hosts := make(map[string]*chi.Mux)
	for _, r := range c.routes {
		b, err := newBalancer(r.upstreams, c.leastConns, transport)
		if err != nil {
			return nil, err
		}
		g.balancers = append(g.balancers, b)
		proxy := &httputil.ReverseProxy{
			Transport:     b,
			FlushInterval: -1,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.Out.URL.Scheme, p.Out.URL.Host = "http", "upstream"
				if client, _ := netip.ParseAddrPort(p.In.RemoteAddr); slices.ContainsFunc(c.trusted, func(t netip.Prefix) bool { return t.Contains(client.Addr()) }) {
					p.Out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
				}
				p.SetXForwarded()
			},
		}
		if hosts[r.host] == nil {
			hosts[r.host] = chi.NewRouter()
		}
		hosts[r.host].Handle(r.path, proxy)
		hosts[r.host].Handle(strings.TrimSuffix(r.path, "/")+"/*", proxy)
	}
	route := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		mux := cmp.Or(hosts[host], hosts[""])
		if mux == nil {
			http.NotFound(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
	around := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := rand.Text()
		r.Header.Set("X-Request-Id", id)
		w.Header().Set("X-Request-Id", id)
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		client, start := clientOf(r, c.trusted), time.Now()
		ctx := chi.NewRouteContext()
		r = r.WithContext(context.WithValue(r.Context(), chi.RouteCtxKey, ctx))
		if c.rate > 0 && !limit.allow(client, start) {
			ww.Header().Set("Retry-After", strconv.Itoa(1))
			http.Error(ww, "too many requests", http.StatusTooManyRequests)
		} else {
			route.ServeHTTP(ww, r)
		}
		took := time.Since(start)
		m.add(ctx.RoutePattern(), ww.Status(), took)
		logger.Info("request", "method", r.Method, "target", r.RequestURI, "status", ww.Status(), "bytes", ww.BytesWritten(), "took", took, "client", client, "id", id)
	})
	admin := chi.NewRouter()
	admin.Handle("/metrics", m)
	admin.Get("/healthz", func(w http.ResponseWriter, r *http.Request) {})
	admin.Get("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if g.draining.Load() || slices.ContainsFunc(g.balancers, func(b *balancer) bool { return !b.check() }) {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		}
	})
	g.front = &http.Server{Addr: c.addr, Handler: around, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 75 * time.Second, MaxHeaderBytes: 16 << 10}
	g.admin = &http.Server{Addr: c.admin, Handler: admin, ReadHeaderTimeout: 10 * time.Second}
	return g, nil
}

func (g *gateway) serve(ctx context.Context, certFile, keyFile string) error {
	if g.health != "" {
		for _, b := range g.balancers {
			go b.probe(ctx, g.health)
		}
	}
	served := make(chan error, 2)
	go func() { served <- g.admin.ListenAndServe() }()
	go func() {
		if certFile != "" {
			served <- g.front.ListenAndServeTLS(certFile, keyFile)
		} else {
			served <- g.front.ListenAndServe()
		}
	}()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		g.draining.Store(true)
		time.Sleep(2 * time.Second)
	}
	late, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(err, g.front.Shutdown(late), g.admin.Close())
}

func main() {
	c, err := parseFlags(os.Args[1:])
	if err != nil {
		log.Fatal(err)
	}
	g, err := newGateway(c)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := g.serve(ctx, c.certFile, c.keyFile); err != nil {
		log.Fatal(err)
	}
}
