// Gateway stands in front of other servers: it passes requests on by host and path,
// with TLS, a limit of requests for each client, an access log, metrics and health.
//
//	go run ./examples/gateway -route /api=http://127.0.0.1:8081,http://127.0.0.1:8082 -route example.com/=http://127.0.0.1:8083
//	curl http://127.0.0.1:9090/metrics
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"flare"
)

// A route sends what is asked at a host and below a path to one of some servers.
type route struct {
	prefix    string // "/path", "host/path"
	upstreams []string
}

// A config is what the command line says.
type config struct {
	addr, admin       string
	certFile, keyFile string
	routes            []route
	trusted           []string // proxies in front
	rate              float64  // requests a second of a client; 0: any number
	health            string   // path that servers are asked at; "": they are not
	leastConns        bool
	log               io.Writer
}

func parseFlags(args []string) (*config, error) {
	c := &config{log: os.Stdout}
	f := flag.NewFlagSet("gateway", flag.ContinueOnError)
	f.StringVar(&c.addr, "addr", "127.0.0.1:8080", "address to listen on, host:port")
	f.StringVar(&c.admin, "admin", "127.0.0.1:9090", "address of /metrics, /healthz and /readyz")
	f.StringVar(&c.certFile, "cert", "", "PEM `file` with a certificate: HTTPS and HTTP/2; looked at again while serving")
	f.StringVar(&c.keyFile, "key", "", "PEM `file` with its key")
	f.Float64Var(&c.rate, "rate", 100, "requests a second of each client, 0 for any number")
	f.StringVar(&c.health, "health", "", "`path` that servers are asked at for how they are")
	f.BoolVar(&c.leastConns, "least", false, "ask the server that is least busy, and not one after the other")
	f.Func("trust", "`proxy` in front whose X-Forwarded-For counts: an address, a prefix, loopback or private; more than once for several", func(s string) error {
		c.trusted = append(c.trusted, s)
		return nil
	})
	f.Func("route", "`[host]/path=url[,url...]`, more than once for several", func(s string) error {
		prefix, list, ok := strings.Cut(s, "=")
		if !ok || !strings.Contains(prefix, "/") {
			return errors.New("want [host]/path=url")
		}
		c.routes = append(c.routes, route{prefix, strings.Split(list, ",")})
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

// A gateway is the server in front, and the one that tells how it is.
type gateway struct {
	front, admin *flare.Server
	client       *flare.Client // of the servers behind
	proxies      []*flare.ReverseProxy
}

func newGateway(c *config) *gateway {
	mux, access := flare.NewMux(), &flare.AccessLog{Output: c.log}
	g := &gateway{
		client: &flare.Client{MaxIdleConnsPerHost: 256, MaxIdleConns: 1024, BodyTimeout: 5 * time.Minute},
		front: &flare.Server{
			Addr: c.addr, Handler: mux, TrustedProxies: c.trusted, AccessHook: access.Log,
			Refusals: flare.RequestID, DrainDelay: 2 * time.Second,
		},
	}
	mux.Use(flare.RequestID)
	if c.rate > 0 {
		mux.Use((&flare.RateLimiter{Rate: c.rate, Burst: int(4*c.rate) + 1}).Wrap)
	}
	for _, r := range c.routes {
		p := &flare.ReverseProxy{Upstreams: r.upstreams, Client: g.client, HealthPath: c.health, LeastConns: c.leastConns}
		g.proxies = append(g.proxies, p)
		mux.Mount(r.prefix, p)
	}
	admin := flare.NewMux()
	admin.Handle("GET /metrics", flare.MetricsHandler(g.front))
	admin.Handle("GET /healthz", flare.HealthHandler(nil))
	admin.Handle("GET /readyz", flare.HealthHandler(g.front, g.check))
	g.admin = &flare.Server{Addr: c.admin, Handler: admin}
	return g
}

// check is nil if each route has a server that is well.
func (g *gateway) check(ctx context.Context) error {
	for _, p := range g.proxies {
		if err := p.Check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// serve serves until ctx ends, and then answers what has been asked, for 30 s at most.
func (g *gateway) serve(ctx context.Context, front, admin net.Listener, certFile, keyFile string) error {
	served := make(chan error, 2)
	go func() { served <- g.admin.Serve(admin) }()
	go func() {
		if certFile != "" {
			served <- g.front.ServeTLS(front, certFile, keyFile)
		} else {
			served <- g.front.Serve(front)
		}
	}()
	var err error
	select {
	case err = <-served:
		served <- err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err = errors.Join(err, g.front.Shutdown(late), g.admin.Close())
	for range 2 {
		<-served
	}
	g.client.CloseIdleConnections()
	return err
}

func run(args []string) error {
	c, err := parseFlags(args)
	if err != nil {
		return err
	}
	front, err := net.Listen("tcp", c.addr)
	if err != nil {
		return err
	}
	defer front.Close()
	admin, err := net.Listen("tcp", c.admin)
	if err != nil {
		return err
	}
	defer admin.Close()
	log.Printf("gateway: %s, and %s for /metrics and /readyz", front.Addr(), admin.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return newGateway(c).serve(ctx, front, admin, c.certFile, c.keyFile)
}

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(1)
	}
}
