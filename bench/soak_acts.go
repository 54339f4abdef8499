//go:build linux

package main

// This file has the actors of -soak and what they do over HTTP/1.1 and HTTP/2. soak_streams.go has
// WebSockets and events.

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"flare"
)

// A soakKind is something that clients do. play returns nil if all was as it should be; a
// wrongAnswer if it was not; any other error if the connection failed.
type soakKind struct {
	name   string
	weight int
	play   func(a *soakActor, ctx context.Context) error
}

func soakKinds() []soakKind {
	return []soakKind{
		{"keep-alive", 10, (*soakActor).keepAlive},
		{"pipelined", 3, (*soakActor).pipelined},
		{"churn", 10, (*soakActor).churn},
		{"uploads", 6, (*soakActor).uploads},
		{"downloads, some left", 5, (*soakActor).downloads},
		{"WebSockets of flare's client", 6, (*soakActor).webSockets},
		{"WebSockets of gorilla's", 4, (*soakActor).gorillaSockets},
		{"events", 5, (*soakActor).events},
		{"TLS", 6, (*soakActor).handshakes},
		{"HTTP/2 of net/http's client", 8, (*soakActor).http2},
		{"requests given up", 4, (*soakActor).givenUp},
		{"flare's client", 10, (*soakActor).flareClient},
	}
}

const soakSlowName = "slow clients"

// A soakActor is one goroutine of clients. Its transports are kept from act to act.
type soakActor struct {
	*soak
	n        int
	from     string // its address
	rand     *rand.Rand
	epoch    int64 // when its transports were made
	requests int64 // of the act

	tls             *tls.Config
	std, std2, h2c  *http.Transport
	client, client2 *flare.Client
	clientH2C       *flare.Client
}

func (s *soak) newActor(n int) *soakActor {
	a := &soakActor{soak: s, n: n, from: fmt.Sprintf("127.0.1.%d", n+1), rand: rand.New(rand.NewPCG(s.seed, uint64(n)))}
	// The certificate is of this run's own making, and not what is tested.
	a.tls = &tls.Config{InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	return a
}

func soakProtocols(set func(*http.Protocols, bool)) *http.Protocols {
	p := new(http.Protocols)
	set(p, true)
	return p
}

// renew makes new transports, since connections of the old ones may have ended with a server.
func (a *soakActor) renew() {
	a.leave()
	dial := soakDialer(a.from).DialContext
	std := func(set func(*http.Protocols, bool)) *http.Transport {
		return &http.Transport{DialContext: dial, TLSClientConfig: a.tls.Clone(), Protocols: soakProtocols(set), MaxIdleConnsPerHost: 8}
	}
	a.std, a.std2, a.h2c = std((*http.Protocols).SetHTTP1), std((*http.Protocols).SetHTTP2), std((*http.Protocols).SetUnencryptedHTTP2)
	ours := func(set func(*http.Protocols, bool)) *flare.Client {
		return &flare.Client{Dial: dial, TLSConfig: a.tls.Clone(), Protocols: soakProtocols(set), Timeout: soakActMax}
	}
	a.client, a.client2, a.clientH2C = ours((*http.Protocols).SetHTTP1), ours((*http.Protocols).SetHTTP2), ours((*http.Protocols).SetUnencryptedHTTP2)
}

func (a *soakActor) leave() {
	if a.std == nil {
		return
	}
	for _, t := range []*http.Transport{a.std, a.std2, a.h2c} {
		t.CloseIdleConnections()
	}
	for _, c := range []*flare.Client{a.client, a.client2, a.clientH2C} {
		c.CloseIdleConnections()
	}
}

// run acts until ctx ends. An act that has begun is ended in peace.
func (a *soakActor) run(ctx context.Context) {
	kinds, sum := soakKinds(), 0
	for _, k := range kinds {
		sum += k.weight
	}
	a.renew()
	defer func() { a.leave() }()
	for ctx.Err() == nil {
		if epoch := a.soak.epoch.Load(); epoch != a.epoch {
			a.epoch = epoch
			a.renew()
		}
		if a.n >= soakActors {
			a.act(soakSlowName, (*soakActor).slow)
			continue
		}
		at := a.rand.IntN(sum)
		for _, k := range kinds {
			if at -= k.weight; at < 0 {
				a.act(k.name, k.play)
				break
			}
		}
	}
}

func (a *soakActor) act(name string, play func(*soakActor, context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), soakActMax)
	defer cancel()
	a.requests = 0
	err := play(a, ctx)
	after := a.soak.epoch.Load()
	a.count(name, a.requests, err, a.epoch != after || after%2 == 1)
}

func (a *soakActor) ask(ctx context.Context, t http.RoundTripper, scheme string, ask *soakAsk) error {
	a.requests++
	return ask.over(ctx, t, a.base(scheme))
}

// keepAlive is a connection with some requests one after another; with the last it says goodbye.
func (a *soakActor) keepAlive(ctx context.Context) error {
	c, err := dialSoak(ctx, a.from, a.plain, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	for range a.rand.IntN(30) {
		if err := a.ask(ctx, c, "http", anyAsk(a.rand)); err != nil {
			return err
		}
	}
	return a.last(ctx, c, "http")
}

func (a *soakActor) last(ctx context.Context, c *soakConn, scheme string) error {
	ask := &soakAsk{method: "GET", path: "/plaintext", fields: [2]string{"Connection", "close"}, want: 200, check: bodyIs(wantBody)}
	if err := a.ask(ctx, c, scheme, ask); err != nil {
		return err
	}
	return c.ended()
}

// pipelined is several requests in one write.
func (a *soakActor) pipelined(ctx context.Context) error {
	c, err := dialSoak(ctx, a.from, a.plain, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	for range 1 + a.rand.IntN(4) {
		var asks []*soakAsk
		var reqs []*http.Request
		var out bytes.Buffer
		for range 2 + a.rand.IntN(14) {
			ask := askBytes(a.rand)
			if a.rand.IntN(4) == 0 {
				ask = askSum(a.rand, a.rand.Int64N(1000))
				ask.fields = [2]string{}
			}
			req, err := ask.request(ctx, a.base("http"))
			if err == nil {
				err = req.Write(&out)
			}
			if err != nil {
				return err
			}
			asks, reqs = append(asks, ask), append(reqs, req)
		}
		if _, err := c.Write(out.Bytes()); err != nil {
			return err
		}
		for i, ask := range asks {
			a.requests++
			resp, err := c.read(reqs[i])
			if err == nil {
				err = ask.judge(resp)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// churn is a connection that is hardly used.
func (a *soakActor) churn(ctx context.Context) error {
	c, err := dialSoak(ctx, a.from, a.plain, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	a.requests++
	text := "GET /bytes?n=100000 HTTP/1.1\r\nHost: h\r\n\r\n"
	switch a.rand.IntN(5) {
	case 0: // nothing
	case 1: // a part of a request
		_, err = io.WriteString(c, text[:1+a.rand.IntN(len(text)-1)])
	case 2: // all of it, and a reset, with some of the answer under way
		if _, err = io.WriteString(c, text); err == nil {
			err = c.Conn.(*net.TCPConn).SetLinger(0)
		}
	case 3: // what is no request
		if _, err = io.WriteString(c, "\x16\x03 no request\r\n\r\n"); err != nil {
			return err
		}
		resp, err := c.read(nil)
		if err == nil && resp.StatusCode != 400 {
			err = wrongf("no request: status %d, 400 is due", resp.StatusCode)
		}
		return err
	default:
		a.requests--
		return a.last(ctx, c, "http")
	}
	return err
}

// slow is a client that sends or reads next to nothing. The server has to end it.
func (a *soakActor) slow(ctx context.Context) error {
	k := &slowKinds[a.rand.IntN(len(slowKinds))]
	d := soakDialer(a.from)
	d.Control = smallWindow
	nc, err := d.DialContext(ctx, "tcp", a.plain)
	if err != nil {
		return err
	}
	a.requests++
	end := k.run(nc.(*net.TCPConn))
	switch {
	case end.err != nil:
		return fmt.Errorf("%s: %w", k.name, end.err)
	case !k.reads && end.status != 408 && a.epoch == a.soak.epoch.Load():
		return wrongf("%s: status %d, 408 is due", k.name, end.status)
	}
	return nil
}

// uploads sends bodies, over net/http's client and flare's.
func (a *soakActor) uploads(ctx context.Context) error {
	for range 1 + a.rand.IntN(4) {
		var t http.RoundTripper = a.std
		if a.rand.IntN(2) == 0 {
			t = a.client.Transport()
		}
		scheme := []string{"http", "http", "https"}[a.rand.IntN(3)]
		if err := a.ask(ctx, t, scheme, askSum(a.rand, a.rand.Int64N(4<<20))); err != nil {
			return err
		}
	}
	return nil
}

// downloads reads long answers, or begins to.
func (a *soakActor) downloads(ctx context.Context) error {
	for range 1 + a.rand.IntN(4) {
		ask := askBytes(a.rand)
		ask.abandon = a.rand.IntN(3) == 0
		t := []http.RoundTripper{a.std, a.client.Transport()}[a.rand.IntN(2)]
		if err := a.ask(ctx, t, "http", ask); err != nil {
			return err
		}
	}
	return nil
}

// handshakes makes connections with TLS, some of which go nowhere.
func (a *soakActor) handshakes(ctx context.Context) error {
	if a.rand.IntN(4) == 0 {
		return a.noHandshake(ctx)
	}
	config := a.tls.Clone()
	config.NextProtos, config.ServerName = []string{"http/1.1"}, "127.0.0.1"
	if a.rand.IntN(4) == 0 {
		config.MaxVersion = tls.VersionTLS12
	}
	c, err := dialSoak(ctx, a.from, a.soak.tls, config)
	if err != nil {
		return err
	}
	defer c.Close()
	for range a.rand.IntN(4) {
		if err := a.ask(ctx, c, "https", anyAsk(a.rand)); err != nil {
			return err
		}
	}
	return a.last(ctx, c, "https")
}

// noHandshake connects to the port for TLS and speaks something else, or leaves in the middle.
func (a *soakActor) noHandshake(ctx context.Context) error {
	c, err := dialSoak(ctx, a.from, a.soak.tls, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	if a.rand.IntN(2) == 0 {
		_, err = c.Write([]byte("\x16\x03\x01\x02\x00\x01"))
		return err
	}
	if _, err = io.WriteString(c, "GET /plaintext HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return err
	}
	p, _ := io.ReadAll(c)
	if bytes.Contains(p, []byte(wantBody)) {
		return wrongf("a request without TLS was answered: %q", p)
	}
	return nil
}

// http2 is some requests at once on a connection of HTTP/2.
func (a *soakActor) http2(ctx context.Context) error {
	if a.rand.IntN(3) == 0 {
		return a.together(ctx, a.h2c, "http")
	}
	return a.together(ctx, a.std2, "https")
}

// together has up to 16 requests under way at once, and now and then gives one of them up.
func (a *soakActor) together(ctx context.Context, t http.RoundTripper, scheme string) error {
	var group sync.WaitGroup
	failed := make([]error, 1+a.rand.IntN(16))
	for i := range failed {
		ask, ctx, cancel := anyAsk(a.rand), ctx, context.CancelFunc(func() {})
		gone := a.rand.IntN(16) == 0
		if gone {
			ctx, cancel = context.WithTimeout(ctx, time.Duration(a.rand.Int64N(int64(5*time.Millisecond))))
		}
		ask.abandon = a.rand.IntN(16) == 0
		a.requests++
		group.Go(func() {
			defer cancel()
			err := ask.over(ctx, t, a.base(scheme))
			if gone {
				err = onlyWrong(err)
			}
			failed[i] = err
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// onlyWrong forgets other errors: they are what was wanted.
func onlyWrong(err error) error {
	var wrong wrongAnswer
	if errors.As(err, &wrong) {
		return err
	}
	return nil
}

// givenUp is requests whose context ends early, over every client.
func (a *soakActor) givenUp(ctx context.Context) error {
	all := []struct {
		t      http.RoundTripper
		scheme string
	}{{a.std, "http"}, {a.std2, "https"}, {a.h2c, "http"}, {a.client.Transport(), "http"},
		{a.client2.Transport(), "https"}, {a.clientH2C.Transport(), "http"}, {a.client.Transport(), "https"}}
	for range 1 + a.rand.IntN(4) {
		over := all[a.rand.IntN(len(all))]
		ctx, cancel := context.WithTimeout(ctx, time.Duration(a.rand.Int64N(int64(20*time.Millisecond))))
		ask := anyAsk(a.rand)
		if a.rand.IntN(2) == 0 {
			ask = askSum(a.rand, a.rand.Int64N(4<<20))
		}
		err := onlyWrong(a.ask(ctx, over.t, over.scheme, ask))
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// flareClient is flare's client, of any version, with several requests at once; and its own ways to
// ask.
func (a *soakActor) flareClient(ctx context.Context) error {
	switch a.rand.IntN(4) {
	case 0:
		return a.together(ctx, a.client2.Transport(), "https")
	case 1:
		return a.together(ctx, a.clientH2C.Transport(), "http")
	case 2:
		return a.together(ctx, a.client.Transport(), []string{"http", "https"}[a.rand.IntN(2)])
	}
	scheme := []string{"http", "https"}[a.rand.IntN(2)]
	client := a.client
	if scheme == "https" && a.rand.IntN(2) == 0 {
		client = a.client2
	}
	a.requests += 2
	resp, err := client.Get(ctx, a.base(scheme).String()+"/redirect")
	if err != nil {
		return err
	}
	if text, err := resp.Text(); err != nil {
		return err
	} else if text != wantBody {
		return wrongf("behind a redirect: %d %q", resp.StatusCode, text)
	}
	n := a.rand.IntN(100_000)
	form := new(flare.ClientForm)
	form.AddFile("file", "name", strings.NewReader(strings.Repeat("x", n)))
	if resp, err = client.Post(ctx, a.base(scheme).String()+"/upload", form); err != nil {
		return err
	}
	text, err := resp.Text()
	var got int
	if err == nil && (resp.StatusCode != 200 || !scanned(text, &got) || got < n) {
		err = wrongf("a form with a file of %d bytes: %d %q", n, resp.StatusCode, text)
	}
	return err
}

func scanned(text string, n *int) bool {
	_, err := fmt.Sscan(text, n)
	return err == nil
}
