package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// http2Servers are net/http's server over TLS and, by prior knowledge, without.
var http2Servers = []string{"TLS", "plain"}

// http2Std starts net/http's server with HTTP/2, and returns its URL and a client
// for it.
func http2Std(t testing.TB, kind string, h http.Handler) (url string, c *Client) {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	c = new(Client)
	if kind == "TLS" {
		srv.EnableHTTP2 = true
		srv.StartTLS()
		c.TLSConfig = &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	} else {
		var p http.Protocols
		p.SetUnencryptedHTTP2(true)
		srv.Config.Protocols = &p
		srv.Start()
		c.Protocols = &p
	}
	t.Cleanup(srv.Close)
	t.Cleanup(c.CloseIdleConnections)
	return srv.URL, c
}

func TestHTTP2ClientCalls(t *testing.T) {
	for _, kind := range http2Servers {
		t.Run(kind, func(t *testing.T) {
			url, c := http2Std(t, kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				w.Header().Set("X-Was", r.Method+" "+r.Proto+" "+r.URL.String()+" "+r.Host)
				w.Header().Set("X-Field", r.Header.Get("X-Field"))
				w.Write(body)
			}))
			ctx := context.Background()
			for i, size := range []int{0, 5, 3000, 20_000, 100_000, 1 << 20} {
				body := strings.Repeat("x", size)
				r := &ClientRequest{Method: "POST", URL: url + "/a?b"}
				r.Header.Set("X-Field", "value")
				if err := r.SetBody([]byte(body)); err != nil {
					t.Fatal(err)
				}
				if i%2 == 1 {
					r.SetBody(io.MultiReader(strings.NewReader(body)))
				}
				resp, err := c.Do(ctx, r)
				if err != nil {
					t.Fatal(size, err)
				}
				got, err := resp.Bytes()
				if err != nil || string(got) != body {
					t.Errorf("%d: %d octets came back, want %d: %v", i, len(got), size, err)
				}
				want := "POST HTTP/2.0 /a?b " + strings.TrimPrefix(strings.TrimPrefix(url, "https://"), "http://")
				if was := resp.Header.Get("X-Was"); was != want || resp.Proto() != "HTTP/2.0" || resp.Header.Get("X-Field") != "value" {
					t.Errorf("the request was %q, want %q; the response %s", was, want, resp.Proto())
				}
			}
		})
	}
}

func TestHTTP2ClientManyCallers(t *testing.T) {
	for _, kind := range http2Servers {
		t.Run(kind, func(t *testing.T) {
			url, c := http2Std(t, kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "Hello, "+r.URL.Path)
			}))
			var all sync.WaitGroup
			for i := range 300 {
				all.Go(func() {
					path := "/" + strings.Repeat("x", i)
					for range 10 {
						resp, err := c.Get(context.Background(), url+path)
						if err != nil {
							t.Error(err)
							return
						}
						if text, err := resp.Text(); err != nil || text != "Hello, "+path {
							t.Errorf("%q, %v", text, err)
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// When the context ends with a body that has come whole, and is partly read, the rest is
// gone, and that is no end of the body.
func TestHTTP2ClientContextEndsBehindBody(t *testing.T) {
	t.Parallel()
	const size = streamInlineBytes + 1000 // more is not handed over with the head
	url, c := http2Std(t, "plain", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, size))
	}))
	for _, before := range []int{0, 1000} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		resp, err := c.Get(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, before)); err != nil {
			t.Fatal(err)
		}
		st := resp.Body.(*clientBody).conn.(*clientStream)
		waitForHTTP2(t, c, func(*http2ClientConn) bool { return st.ended })
		cancel()
		waitForHTTP2(t, c, func(*http2ClientConn) bool { return st.recv.n == 0 })
		if n, err := io.Copy(io.Discard, resp.Body); n > 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("behind %d octets and the end of the context: %d octets, %v", before, n, err)
		}
		resp.Body.Close()
	}
}
