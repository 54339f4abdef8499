package flare_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"flare"
)

// What stands around handlers in production. These examples serve in memory, as
// tests do.

// exampleT is a flare.TestingT for examples.
type exampleT struct{ cleanups []func() }

func (t *exampleT) Helper()                   {}
func (t *exampleT) Cleanup(f func())          { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Fatalf(f string, a ...any) { log.Fatalf(f, a...) }
func (t *exampleT) Errorf(f string, a ...any) { log.Printf(f, a...) }
func (t *exampleT) end() {
	for _, f := range t.cleanups {
		defer f()
	}
}

// serveExample answers a request with those fields, given as name and value.
func serveExample(s *flare.Server, method, url string, fields ...string) (resp *http.Response, body string) {
	t := new(exampleT)
	defer t.end()
	client := flare.TestClient(t, s)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		log.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	resp, err = client.Do(req)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	return resp, string(text)
}

// What proxies say of the client is believed of those that are trusted alone: here,
// whoever comes by a Unix socket or in memory, and addresses of the private network.
func ExampleRequest_ClientAddr() {
	mux := flare.NewMux()
	mux.Get("/", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, fmt.Sprint(r.ClientAddr().Addr(), " ", r.Scheme(), "://", r.ClientHost()))
	})
	s := &flare.Server{Handler: mux, TrustedProxies: []string{"unix", "10.0.0.0/8"}}
	_, body := serveExample(s, "GET", "http://inside/",
		"Forwarded", "for=198.51.100.9", // the client's own invention
		"Forwarded", "for=192.0.2.1;proto=https;host=example.com", // of the proxy that it has come by
		"Forwarded", "for=10.0.0.7") // of the next one
	fmt.Println(body)
	// Output:
	// 192.0.2.1 https://example.com
}

// A proxy that passes connections on, and not requests, says in front of each for whom
// it is. Here a Dialer stands for it.
func ExampleServer_proxyProtocol() {
	s := &flare.Server{
		ProxyProtocol:  true,
		TrustedProxies: []string{"loopback"},
		Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
			return w.Text(200, fmt.Sprint(r.RemoteAddr(), " for ", r.ProxyHeader().Destination))
		}),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go s.Serve(ln)
	defer s.Close()

	proxy := &flare.Dialer{ProxyHeader: &flare.ProxyHeader{
		Source:      netip.MustParseAddrPort("192.0.2.1:50000"),
		Destination: netip.MustParseAddrPort("198.51.100.2:80"),
	}}
	client := &flare.Client{Dial: proxy.Dial}
	defer client.CloseIdleConnections()
	resp, err := client.Get(context.Background(), "http://"+ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	text, err := resp.Text()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	// Output:
	// 192.0.2.1:50000 for 198.51.100.2:80
}

// A line for each request, those that were refused included. What clients have sent is
// escaped in it.
func ExampleAccessLog() {
	mux := flare.NewMux()
	mux.Get("/hello/{name}", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, "hello, "+r.PathValue("name"))
	})
	var lines bytes.Buffer
	access := &flare.AccessLog{Output: &lines}
	s := &flare.Server{Handler: mux, AccessHook: access.Log}
	serveExample(s, "GET", "http://example.com/hello/%22you%22?key=%3C")

	var line struct {
		Method, Target, Pattern string
		Status                  int
		Out                     int `json:"bytes_out"`
	}
	if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%+v\n", line)
	// Output:
	// {Method:GET Target:/hello/%22you%22?key=%3C Pattern:GET /hello/{name} Status:200 Out:12}
}

// Middleware learns what will be sent once the handler has returned: the status that
// was set, or that of the error.
func ExampleErrorStatus() {
	counted := func(h flare.Handler) flare.Handler {
		return flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
			err := h.Serve(w, r)
			status := w.Status()
			if s := flare.ErrorStatus(err); s != 0 && !w.Committed() {
				status = s
			}
			fmt.Println(r.Path(), status)
			return err
		})
	}
	mux := flare.NewMux()
	mux.Use(counted)
	mux.Get("/here", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(201, "made") })
	serveExample(&flare.Server{Handler: mux}, "GET", "http://example.com/here")
	serveExample(&flare.Server{Handler: mux}, "GET", "http://example.com/there")
	// Output:
	// /here 201
	// /there 404
}

// Middleware bounds what one route may be asked for: the size of its bodies, the time
// of its handler, how often each client may ask, and how many may at once.
func ExampleRateLimiter() {
	perClient := &flare.RateLimiter{Rate: 1, Burst: 2}
	atOnce := &flare.Limiter{Max: 50, QueueTimeout: 500 * time.Millisecond}
	mux := flare.NewMux()
	mux.Post("/reports", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, "made")
	}, perClient.Wrap, atOnce.Wrap, flare.Timeout(5*time.Second), flare.MaxBody(64<<10))
	for range 3 {
		resp, _ := serveExample(&flare.Server{Handler: mux}, "POST", "http://example.com/reports")
		fmt.Println(resp.StatusCode, resp.Header.Get("RateLimit"))
	}
	// Output:
	// 200 "default";r=1;t=1
	// 200 "default";r=0;t=1
	// 429 "default";r=0;t=1
}

// Pages of one other origin may read what /api answers, and send it JSON. A preflight
// request is answered for every route.
func ExampleCORS() {
	cors := &flare.CORS{Origins: []string{"https://app.example.com"}, Methods: []string{"PUT"}, Headers: []string{"Content-Type"}}
	mux := flare.NewMux()
	mux.Use(cors.Wrap)
	mux.Put("/api/notes/{id}", func(w *flare.ResponseWriter, r *flare.Request) error {
		w.WriteHeader(204)
		return nil
	})
	for _, origin := range []string{"https://app.example.com", "https://evil.example"} {
		resp, _ := serveExample(&flare.Server{Handler: mux}, "OPTIONS", "http://api.example.com/api/notes/1",
			"Origin", origin, "Access-Control-Request-Method", "PUT")
		fmt.Printf("%d %q %q\n", resp.StatusCode, resp.Header.Get("Access-Control-Allow-Origin"), resp.Header.Get("Access-Control-Allow-Methods"))
	}
	// Output:
	// 204 "https://app.example.com" "PUT"
	// 204 "" ""
}

// Pages of other origins cannot have a browser send requests that change something,
// unless their origin is listed.
func ExampleCrossOrigin() {
	mux := flare.NewMux()
	mux.Use(new(flare.CrossOrigin).Wrap)
	mux.Post("/transfer", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, "done") })
	for _, site := range []string{"same-origin", "cross-site"} {
		resp, _ := serveExample(&flare.Server{Handler: mux}, "POST", "http://bank.example/transfer", "Sec-Fetch-Site", site)
		fmt.Println(site, resp.StatusCode)
	}
	// Output:
	// same-origin 200
	// cross-site 403
}

// What stands around everything: security fields, names of requests, and errors in
// place of panics, reported.
func ExampleSecurityFields() {
	mux := flare.NewMux()
	mux.Use(flare.RequestID, new(flare.SecurityFields).Wrap, flare.Recover(func(r *flare.Request, value any, stack []byte) {
		fmt.Println("panic at", r.Path(), "with a name of", len(r.RequestID()), "characters:", value)
	}))
	mux.Get("/", func(w *flare.ResponseWriter, r *flare.Request) error { panic("oops") })
	s := &flare.Server{Handler: mux, Logger: slog.New(slog.DiscardHandler)}
	resp, _ := serveExample(s, "GET", "http://example.com/")
	fmt.Println(resp.StatusCode, resp.Header.Get("X-Content-Type-Options"), len(resp.Header.Get("X-Request-Id")))
	// Output:
	// panic at / with a name of 32 characters: oops
	// 500 nosniff 32
}

// Metrics for Prometheus: requests by route, how long they took, connections, loops
// and the Go runtime. A probe is told when the server drains.
func ExampleMetricsHandler() {
	mux := flare.NewMux()
	s := &flare.Server{Handler: mux}
	mux.Handle("GET /metrics", flare.MetricsHandler(s))
	mux.Handle("GET /readyz", flare.HealthHandler(s))
	mux.Get("/hello/{name}", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, "hello") })

	t := new(exampleT)
	defer t.end()
	client := flare.TestClient(t, s)
	for _, path := range []string{"/hello/a", "/hello/b", "/readyz"} {
		resp, err := client.Get("http://example.com" + path)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
	}
	resp, err := client.Get("http://example.com/metrics")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "http_requests_total{") {
			fmt.Println(lines.Text())
		}
	}
	// Output:
	// http_requests_total{route="GET /hello/{name}",method="GET",code="200"} 2
	// http_requests_total{route="GET /readyz",method="GET",code="200"} 1
}

// A trace goes on from a request to the calls that its handler makes.
func ExampleTrace() {
	t := new(exampleT)
	defer t.end()
	inner := flare.TestServer(t, &flare.Server{Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, r.Header().Get("traceparent"))
	})})
	calls := &flare.Client{Wrap: []func(flare.Doer) flare.Doer{flare.TraceCalls(nil)}}
	defer calls.CloseIdleConnections()
	outer := flare.Trace(nil)(flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		resp, err := calls.Get(r.Context(), inner)
		if err != nil {
			return err
		}
		text, err := resp.Text()
		if err != nil {
			return err
		}
		return w.Text(200, text)
	}))
	_, body := serveExample(&flare.Server{Handler: outer}, "GET", "http://example.com/", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	span, ok := flare.ParseTraceParent(body)
	fmt.Printf("%v %x %v\n", ok, span.TraceID, span.String() == body)
	// Output:
	// true 0af7651916cd43dd8448eb211c80319c true
}
