package flare

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// outermost marks every response that passes through middleware.
func outermost(h Handler) Handler {
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-Outermost", "1")
		return h.Serve(w, r)
	})
}

// Bodies are bounded for each route, however they come, and what is refused passes
// through the middleware around.
func TestMaxBody(t *testing.T) {
	t.Parallel()
	read := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprint(len(p)))
	})
	stream := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		n, err := io.Copy(io.Discard, r.Body())
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprint(n))
	})
	mux := NewMux()
	mux.Use(outermost, MaxBody(10))
	for path, h := range map[string]Handler{"/bytes/": read, "/stream/": stream} {
		mux.Handle("POST "+path+"{$}", h)
		mux.Handle("POST "+path+"large", h, MaxBody(100_000))
		mux.Handle("POST "+path+"small", h, MaxBody(5))
		mux.Handle("POST "+path+"none", h, MaxBody(0))
		mux.Handle("POST "+path+"any", h, MaxBody(-1))
	}
	addr := startServer(t, &Server{Handler: mux, MaxBodyBytes: 200_000, Logger: quietLogger()})
	for _, row := range []struct {
		path   string
		length int
		want   int
	}{
		{"", 10, 200}, {"", 11, 413}, {"large", 11, 200}, {"large", 100_000, 200}, {"large", 100_001, 413},
		{"small", 5, 200}, {"small", 6, 413}, {"none", 0, 200}, {"none", 1, 413}, {"any", 200_000, 200}, {"any", 200_001, 413},
	} {
		for _, path := range []string{"/bytes/", "/stream/"} {
			for _, how := range []string{"length", "chunks", "asks"} {
				c := dialRaw(t, addr)
				body := strings.Repeat("x", row.length)
				head := "POST " + path + row.path + " HTTP/1.1\r\nHost: h\r\n"
				switch how {
				case "length":
					c.send(head, fmt.Sprintf("Content-Length: %d\r\n\r\n", row.length))
					io.WriteString(c, body) // which may be cut off
				case "asks":
					c.send(head, fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", row.length))
					if row.want == 200 && row.length > 0 {
						c.answer("POST").want(t, 100, "")
						c.send(body)
					}
				case "chunks":
					if row.length > 0 {
						body = fmt.Sprintf("%x\r\n%s\r\n", row.length, body)
					}
					c.send(head, "Transfer-Encoding: chunked\r\n\r\n")
					io.WriteString(c, body+"0\r\n\r\n")
				}
				a := c.answer("POST")
				refused := row.path == "any" && row.want == 413 && how != "chunks" // by the server
				if a.StatusCode != row.want || a.Header.Get("X-Outermost") == "" && !refused || row.want == 200 && a.body != fmt.Sprint(row.length) {
					t.Errorf("%s%s of %d by %s: %d %q, want %d", path, row.path, row.length, how, a.StatusCode, a.body, row.want)
				}
				c.Close()
			}
		}
	}
}

// A turnstile has handlers wait for a test.
type turnstile struct{ came, pass chan struct{} }

func newTurnstile() *turnstile { return &turnstile{make(chan struct{}, 100), make(chan struct{})} }

func (s *turnstile) Serve(w *ResponseWriter, r *Request) error {
	s.came <- struct{}{}
	<-s.pass
	switch r.Path() {
	case "/panic":
		panic("x")
	case "/goexit":
		runtime.Goexit()
	}
	return w.Text(200, "passed")
}

// As many requests run as may, as many wait, in order, and others are refused; what
// ends badly frees its place too.
func TestLimiter(t *testing.T) {
	t.Parallel()
	inside := newTurnstile()
	l := &Limiter{Max: 2, MaxQueue: 2, QueueTimeout: patience}
	s := &Server{Handler: outermost(l.Wrap(inside)), Logger: quietLogger()}
	addr := startServer(t, s)
	ask := func(path string) *rawClient {
		c := dialRaw(t, addr)
		c.send("GET ", path, " HTTP/1.1\r\nHost: h\r\n\r\n")
		return c
	}
	first, second := ask("/panic"), ask("/goexit")
	<-inside.came
	<-inside.came
	third := ask("/third")
	eventually(t, "one that waits", func() bool { return l.waiting.Load() == 1 })
	fourth := ask("/fourth")
	eventually(t, "two that wait", func() bool { return l.waiting.Load() == 2 })
	refused := ask("/refused").answer("GET")
	if refused.StatusCode != 503 || refused.Header.Get("Retry-After") != "30" || refused.Header.Get("X-Outermost") == "" {
		t.Errorf("%d %v", refused.StatusCode, refused.Header)
	}
	fourth.Close() // which frees its place in the queue
	eventually(t, "one that waits", func() bool { return l.waiting.Load() == 1 })
	fifth := ask("/fifth")
	eventually(t, "two that wait", func() bool { return l.waiting.Load() == 2 })
	inside.pass <- struct{}{}
	<-inside.came
	inside.pass <- struct{}{}
	<-inside.came
	inside.pass <- struct{}{}
	inside.pass <- struct{}{}
	third.answer("GET").want(t, 200, "passed")
	fifth.answer("GET").want(t, 200, "passed")
	first.answer("GET").want(t, 500, "Internal Server Error\n")
	second.toEnd()
	if n := len(l.slotsNow()); n != 0 || l.waiting.Load() != 0 {
		t.Errorf("%d are inside, %d wait", n, l.waiting.Load())
	}
}

func (l *Limiter) slotsNow() chan struct{} { return *l.slots.Load() }

// Nobody waits for longer than was said, and without a queue nobody waits.
func TestLimiterTimes(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]*Limiter{
		"time":     {Max: 1, QueueTimeout: 10 * time.Millisecond},
		"no queue": {Max: 1, MaxQueue: -1, QueueTimeout: -1},
	} {
		inside := newTurnstile()
		c := TestClient(t, &Server{Handler: l.Wrap(inside), Logger: quietLogger()})
		var wg sync.WaitGroup
		wg.Go(func() {
			resp, err := c.Get("http://h/")
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("%s: %v %v", name, resp, err)
			}
		})
		<-inside.came
		resp, err := c.Get("http://h/")
		if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %v %v", name, resp, err)
		}
		close(inside.pass)
		wg.Wait()
	}
	if h := HandlerFunc(describe); fmt.Sprint((&Limiter{Max: -1}).Wrap(h)) != fmt.Sprint(Handler(h)) {
		t.Error("no limit is a limit")
	}
}

// A handler that takes too long is answered for, and its request has ended for it.
func TestTimeout(t *testing.T) {
	t.Parallel()
	late := make(chan error, 1)
	release := make(chan struct{})
	for name, row := range map[string]struct {
		h    HandlerFunc
		want int // 0: cut
	}{
		"quick":  {func(w *ResponseWriter, r *Request) error { return w.Text(201, "quick") }, 201},
		"error":  {func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 404} }, 404},
		"panic":  {func(w *ResponseWriter, r *Request) error { panic("x") }, 500},
		"abort":  {func(w *ResponseWriter, r *Request) error { panic(http.ErrAbortHandler) }, 0},
		"goexit": {func(w *ResponseWriter, r *Request) error { runtime.Goexit(); return nil }, 500},
		"deaf": {func(w *ResponseWriter, r *Request) error {
			w.Header().Set("X-Inner", "1")
			w.Write([]byte("held back"))
			<-release
			_, err := w.Write([]byte("late"))
			late <- err
			return err
		}, 504},
		"context": {func(w *ResponseWriter, r *Request) error {
			<-r.Context().Done()
			return r.Context().Err()
		}, 504},
		"reads": {func(w *ResponseWriter, r *Request) error {
			_, err := io.ReadAll(r.Body())
			late <- err
			return err
		}, 504},
		"begun": {func(w *ResponseWriter, r *Request) error {
			w.Write([]byte("begun"))
			w.Flush()
			<-r.Context().Done()
			return nil
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			limit := 20 * time.Millisecond
			if row.want != 504 && name != "begun" {
				limit = patience
			}
			var log logBook
			s := &Server{Handler: outermost(Timeout(limit)(row.h)), Logger: log.logger()}
			c := dialRaw(t, startServer(t, s))
			c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
			a, err := readAnswer(c.br, "POST")
			if row.want == 0 {
				if err == nil {
					t.Errorf("a whole answer: %d %q", a.StatusCode, a.body)
				}
				return
			}
			if err != nil || a.StatusCode != row.want || a.Header.Get("X-Outermost") == "" || a.Header.Get("X-Inner") != "" || strings.Contains(a.body, "held") {
				t.Fatalf("%v: %d %q %v", err, a.StatusCode, a.body, a.Header)
			}
			switch name {
			case "deaf":
				close(release)
				if err := <-late; !errors.Is(err, errWriterDone) {
					t.Errorf("a late write: %v", err)
				}
			case "reads":
				if err := <-late; !errors.Is(err, http.ErrBodyReadAfterClose) {
					t.Errorf("the read: %v", err)
				}
			}
		})
	}
}

// The context says why it has ended, and is the outer one again behind the handler.
func TestTimeoutContext(t *testing.T) {
	cause := make(chan error, 1)
	inner := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		ctx := r.Context()
		<-ctx.Done()
		_, has := ctx.Deadline()
		if !has {
			t.Error("no deadline")
		}
		return nil
	})
	outer := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		err := Timeout(time.Millisecond)(inner).Serve(w, r)
		if r.Context().Err() != nil {
			t.Error("the outer context has ended")
		}
		cause <- err
		return w.Text(200, "instead")
	})
	resp, err := TestClient(t, &Server{Handler: Offload(outer), Logger: quietLogger()}).Get("http://h/")
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	if err := <-cause; !errors.Is(err, ErrTimeout) || ErrorStatus(err) != 504 {
		t.Error(err)
	}
}

// A bucket is filled at its rate, empties by requests, and belongs to one client.
func TestRateLimiter(t *testing.T) {
	now := time.Hour
	l := &RateLimiter{Rate: 2, Burst: 3}
	l.now = func() time.Duration { return now }
	s := &Server{Handler: outermost(l.Wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "") }))), TrustedProxies: []string{"unix"}, Logger: quietLogger()}
	client := TestClient(t, s)
	const a, b = "192.0.2.1", "192.0.2.2"
	for i, row := range []struct {
		after  time.Duration
		client string
		want   string // status, RateLimit, Retry-After
	}{
		{0, a, `200 "default";r=2;t=1 `},
		{0, a, `200 "default";r=1;t=1 `},
		{0, a, `200 "default";r=0;t=1 `},
		{0, a, `429 "default";r=0;t=1 1`},
		{0, b, `200 "default";r=2;t=1 `},
		{499 * time.Millisecond, a, `429 "default";r=0;t=1 1`},
		{time.Millisecond, a, `200 "default";r=0;t=1 `},
		{0, a, `429 "default";r=0;t=1 1`},
		{time.Hour, a, `200 "default";r=2;t=1 `},
		{0, "2001:db8::1", `200 "default";r=2;t=1 `},
		{0, "2001:db8::2", `200 "default";r=1;t=1 `}, // the same 64 bits
		{0, "2001:db8:0:0:ffff::", `200 "default";r=0;t=1 `},
		{0, "2001:db8:0:1::1", `200 "default";r=2;t=1 `},
		{0, "unknown", `200 "default";r=2;t=1 `},
		{0, "_hidden", `200 "default";r=1;t=1 `}, // who cannot be told apart shares one
	} {
		now += row.after
		req, _ := http.NewRequest("GET", "http://h/", nil)
		req.Header.Set("X-Forwarded-For", row.client)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		h := resp.Header
		if got := fmt.Sprintf("%d %s %s", resp.StatusCode, h.Get("RateLimit"), h.Get("Retry-After")); got != row.want {
			t.Errorf("step %d: got %s, want %s", i, got, row.want)
		}
		if h.Get("RateLimit-Policy") != `"default";q=3;w=2` || h.Get("X-Outermost") == "" {
			t.Errorf("step %d: %v", i, h)
		}
	}
}

// Any number of clients need bounded memory, and those that stay are not forgotten
// for those that come and go.
func TestRateLimiterMemory(t *testing.T) {
	l := &RateLimiter{Rate: 1, Burst: 1}
	l.once.Do(l.settle)
	addr := netip.MustParseAddr("10.0.0.0")
	resident := rateKey{addr: netip.MustParseAddr("192.0.2.1")}
	l.take(resident, 1)
	for i := range 50_000 {
		addr = addr.Next()
		if _, wait := l.take(rateKey{addr: addr}, 2); wait != 0 {
			t.Fatal("a new client waits")
		}
		if n := len(l.young) + len(l.old); n > rateLimiterClients {
			t.Fatalf("%d clients are remembered", n)
		}
		if i%1000 == 0 {
			if _, wait := l.take(resident, 2); wait == 0 {
				t.Fatalf("a client is forgotten after %d others", i)
			}
		}
	}
	// 10,000 clients at once, from many goroutines: each has what it may have.
	fresh := &RateLimiter{Rate: 1, Burst: 5, MaxClients: 20_000}
	fresh.once.Do(fresh.settle)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 10_000 {
				key := rateKey{addr: netip.AddrFrom4([4]byte{byte(g), byte(i >> 16), byte(i >> 8), byte(i)})}
				key.addr = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
				if _, wait := fresh.take(key, 1); wait != 0 {
					t.Errorf("client %d waits at its request %d of 4", i, g)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := len(fresh.young) + len(fresh.old); n < 10_000 || n > 20_000 {
		t.Errorf("%d clients are remembered", n)
	}
}

// Settings at the edge are settings.
func TestRateLimiterSettings(t *testing.T) {
	for _, row := range []struct {
		l      *RateLimiter
		policy string
	}{
		{&RateLimiter{}, `"default";q=10;w=1`},
		{&RateLimiter{Rate: 0.1}, `"default";q=1;w=10`},
		{&RateLimiter{Rate: 1e9, Burst: 1 << 30}, `"default";q=1073741824;w=2`},
		{&RateLimiter{Rate: -5, Burst: -5}, `"default";q=10;w=1`},
	} {
		row.l.once.Do(row.l.settle)
		if row.l.policy != row.policy {
			t.Errorf("%v: %s, want %s", row.l.Rate, row.l.policy, row.policy)
		}
	}
	byKey := &RateLimiter{Rate: 1, Burst: 1, Key: func(r *Request) string { return r.Header().Get("X-Key") }}
	client := TestClient(t, &Server{Handler: byKey.Wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error { return nil })), Logger: quietLogger()})
	for i, row := range []struct {
		key  string
		want int
	}{{"a", 200}, {"b", 200}, {"a", 429}, {"", 200}} {
		req, _ := http.NewRequest("GET", "http://h/", nil)
		req.Header.Set("X-Key", row.key)
		resp, err := client.Do(req)
		if err != nil || resp.StatusCode != row.want {
			t.Errorf("step %d: %v %v", i, resp, err)
		}
	}
}

// Requests that the processor has let wait for too long are refused, in either version
// of HTTP, and no others.
func TestLimiterMaxLag(t *testing.T) {
	t.Parallel()
	for _, version := range []int{1, 2} {
		for _, slots := range []int{-1, 5} {
			served := 0
			l := &Limiter{Max: slots, MaxLag: patience}
			late := func(h Handler) Handler {
				return HandlerFunc(func(w *ResponseWriter, r *Request) error {
					if r.Path() == "/late" {
						r.lease.x.due -= patience
					}
					return h.Serve(w, r)
				})
			}
			mux := NewMux()
			mux.Use(late, l.Wrap)
			mux.Get("/{$}", func(w *ResponseWriter, r *Request) error { served++; return w.Text(200, "") })
			both := new(http.Protocols)
			both.SetHTTP1(version == 1)
			both.SetUnencryptedHTTP2(version == 2)
			addr := startServer(t, &Server{Loops: 1, Handler: mux, Protocols: both})
			client := &http.Client{Transport: &http.Transport{Protocols: both}, Timeout: patience}
			defer client.CloseIdleConnections()
			for i, want := range []struct {
				path   string
				status int
			}{{"/", 200}, {"/late", 503}, {"/", 200}, {"/late", 503}, {"/", 200}} {
				resp, err := client.Get("http://" + addr + want.path)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.ProtoMajor != version || resp.StatusCode != want.status || want.status == 503 && resp.Header.Get("Retry-After") != "1" {
					t.Errorf("HTTP/%d with %d slots, step %d: %d %v", resp.ProtoMajor, slots, i, resp.StatusCode, resp.Header)
				}
			}
			if served != 3 {
				t.Errorf("%d served, want 3", served)
			}
		}
	}
}

// What counts is how long a request has waited since the loop took the batch that it
// came with: for the second of two that come together, the first one's time too.
func TestLimiterMaxLagCounts(t *testing.T) {
	t.Parallel()
	notPlain(t, "its requests are a batch each")
	type look struct{ due, began time.Duration }
	looks := make(chan look, 3)
	h := Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		looks <- look{r.lease.x.due, time.Since(origin)}
		return w.Text(200, "")
	}))
	c := dialRaw(t, startServer(t, &Server{Loops: 1, Handler: (&Limiter{MaxLag: patience}).Wrap(h)}))
	c.get("/")
	if first := <-looks; first.due == 0 || first.due > first.began {
		t.Errorf("due %v, begun %v", first.due, first.began)
	}
	before := time.Since(origin)
	c.send(request("/"), request("/"))
	c.answer("GET")
	c.answer("GET")
	one, two := <-looks, <-looks
	if one.due < before || one.due > one.began || two.due != one.due || two.began < one.began {
		t.Errorf("before %v; %v, %v", before, one, two)
	}
}

// Refusals come quickly, and say nothing of how long the handler takes that they keep
// requests from: it stays off the loop.
func TestLimiterTeachesNothing(t *testing.T) {
	t.Parallel()
	inside := newTurnstile()
	s := &Server{Loops: 1, Handler: (&Limiter{Max: 1, MaxQueue: -1}).Wrap(inside), Logger: quietLogger()}
	addr := startServer(t, s)
	first := dialRaw(t, addr)
	first.send(request("/"))
	<-inside.came
	other := dialRaw(t, addr)
	for range 4 * needFirst {
		if a := other.get("/"); a.StatusCode != 503 {
			t.Fatalf("%d", a.StatusCode)
		}
	}
	inside.pass <- struct{}{}
	first.answer("GET").want(t, 200, "passed")
	eventually(t, "the counts", func() bool { return s.Stats().Handlers.Worker >= 4*needFirst })
	if n := s.Stats().Handlers; n.Promotions != 0 || n.Inline != 0 {
		t.Errorf("%+v", n)
	}
}

// No more does what other middleware refuses, or answers by itself: slow handlers that
// nobody gets through to do not come onto the loop.
func TestRefusalsTeachNothing(t *testing.T) {
	t.Parallel()
	origin := "Origin: https://other.test\r\n"
	digest := new(DigestVerifier).Require(func(string) (string, bool) { return "", false })
	for _, row := range []struct {
		name   string
		around Middleware
		head   string // of a request that is refused
		status int
	}{
		{"RateLimiter", (&RateLimiter{Rate: 1e-9, Burst: 1}).Wrap, "GET / HTTP/1.1\r\n", 429},
		{"RequireBasic", RequireBasic("x", BasicUsers(nil)), "GET / HTTP/1.1\r\n", 401},
		{"RequireBearer", RequireBearer("x", BearerTokens()), "GET / HTTP/1.1\r\n", 401},
		{"RequireClientCert", RequireClientCert(nil), "GET / HTTP/1.1\r\n", 403},
		{"DigestVerifier", digest, "GET / HTTP/1.1\r\n", 401},
		{"CrossOrigin", new(CrossOrigin).Wrap, "POST / HTTP/1.1\r\nContent-Length: 0\r\n" + origin, 403},
		{"CORS", (&CORS{Origins: []string{"https://other.test"}}).Wrap, "OPTIONS / HTTP/1.1\r\nAccess-Control-Request-Method: PUT\r\n" + origin, 204},
	} {
		t.Run(row.name, func(t *testing.T) {
			mux := NewMux()
			mux.Handle("/{$}", HandlerFunc(func(w *ResponseWriter, r *Request) error { return nil }), row.around)
			s := &Server{Loops: 1, Handler: mux, Logger: quietLogger()}
			c := dialRaw(t, startServer(t, s))
			if row.status == 429 {
				c.get("/").want(t, 200, "")
			}
			method, _, _ := strings.Cut(row.head, " ")
			for range 4 * needFirst {
				c.send(row.head, "Host: h\r\n\r\n")
				if a := c.answer(method); a.StatusCode != row.status {
					t.Fatalf("%d", a.StatusCode)
				}
			}
			eventually(t, "the counts", func() bool { return s.Stats().Handlers.Worker+s.Stats().Handlers.Inline >= 4*needFirst })
			if n := s.Stats().Handlers; n.Promotions != 0 || n.Inline != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}
