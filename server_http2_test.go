package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// This file has clients that speak HTTP/2.

func TestTLSServesHTTP2(t *testing.T) {
	t.Parallel()
	s := &Server{Handler: HandlerFunc(tlsRoutes), MaxBodyBytes: 1 << 20}
	addr := startTLSServer(t, s)
	client := tlsHTTPClient(t, true)
	if _, body := getBy(t, client, "https://"+addr+"/state"); body != "HTTP/2.0 TLS 1.3 resumed=false sni=localhost client=" {
		t.Errorf("state %q", body)
	}
	if _, body := getBy(t, client, "https://"+addr+"/bytes?3000000"); len(body) != 3000000 {
		t.Errorf("%d bytes", len(body))
	}
	resp, err := client.Post("https://"+addr+"/echo", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20+1)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("a body beyond the limit: %d", resp.StatusCode)
	}
	eventually(t, "the count of requests", func() bool { return s.Stats().Requests == 3 })
	getBy(t, tlsHTTPClient(t, false), "https://"+addr+"/state")
	if st := s.Stats(); st.Connections.Open != 2 || st.Connections.HTTP2 != 1 {
		t.Errorf("open %d, of HTTP/2 %d", st.Connections.Open, st.Connections.HTTP2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if n := s.Stats().Connections.HTTP2; n != 0 {
		t.Errorf("of HTTP/2 %d after the end", n)
	}
}

func TestTLSHTTP2SwitchedOff(t *testing.T) {
	for name, s := range map[string]*Server{
		"by the field":  {Protocols: onlyHTTP1()},
		"by NextProtos": {TLSConfig: &tls.Config{NextProtos: []string{"http/1.1"}}},
		"by both":       {Protocols: onlyHTTP1(), TLSConfig: &tls.Config{NextProtos: []string{"h2", "http/1.1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s.Handler = HandlerFunc(tlsRoutes)
			addr := startTLSServer(t, s)
			if _, body := getBy(t, tlsHTTPClient(t, true), "https://"+addr+"/state"); !strings.HasPrefix(body, "HTTP/1.1 ") {
				t.Errorf("state %q", body)
			}
		})
	}
}

// Shutdown lets an HTTP/2 request in progress end, and counts its connection.
func TestTLSShutdownWaitsForHTTP2(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		close(entered)
		<-leave
		return w.Text(200, "done")
	})}
	addr := startTLSServer(t, s)
	client := tlsHTTPClient(t, true)
	got := make(chan string, 1)
	go func() {
		resp, err := client.Get("https://" + addr + "/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		got <- resp.Proto + " " + string(body)
	}()
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	eventually(t, "the end of accepting", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("Shutdown has not waited: %v", err)
	default:
	}
	close(leave)
	if text := <-got; text != "HTTP/2.0 done" {
		t.Errorf("got %q", text)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A client of HTTP/2 that neither sends its body nor opens its window has no
// longer than one of HTTP/1.1.
func TestTLSHTTP2Stalls(t *testing.T) {
	t.Parallel()
	failed := make(chan error, 2)
	s := &Server{BodyTimeout: 400 * time.Millisecond, WriteTimeout: 400 * time.Millisecond, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/body" {
			_, err := r.Bytes()
			failed <- err
			return err
		}
		for {
			if _, err := w.Write(make([]byte, 16<<10)); err != nil {
				failed <- err
				return err
			}
		}
	})}
	addr := startTLSServer(t, s)
	client := tlsHTTPClient(t, true)
	body, never := io.Pipe()
	defer never.Close()
	resp, err := client.Post("https://"+addr+"/body", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 408 {
		t.Errorf("a body that does not come: status %d", resp.StatusCode)
	}
	var status *StatusError
	if err := <-failed; !errors.As(err, &status) || status.Code != 408 {
		t.Errorf("the handler got %v", err)
	}
	if resp, err = client.Get("https://" + addr + "/endless"); err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select {
	case <-failed:
	case <-time.After(patience):
		t.Error("the handler still waits for a client that does not read")
	}
}

// Without a limit on fields, and with one that is too large for what net/http
// reckons in, HTTP/2 has none that is smaller.
func TestTLSHTTP2UnlimitedHeader(t *testing.T) {
	for _, limit := range []int{-1, math.MaxInt} {
		addr := startTLSServer(t, &Server{Handler: HandlerFunc(tlsRoutes), MaxHeaderBytes: limit})
		req, err := http.NewRequest("GET", "https://"+addr+"/state", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Long", strings.Repeat("x", 2<<20)) // net/http's own default is 1 MiB
		resp, err := tlsHTTPClient(t, true).Do(req)
		if err != nil {
			t.Errorf("MaxHeaderBytes %d: %v", limit, err)
			continue
		}
		if resp.Body.Close(); resp.StatusCode != 200 || resp.ProtoMajor != 2 {
			t.Errorf("MaxHeaderBytes %d: %d over %s", limit, resp.StatusCode, resp.Proto)
		}
	}
}

// A port without TLS of a server that has no version for it refuses: whoever asks
// by HTTP/1.1, and whoever begins with HTTP/2.
func TestVersionsNotServed(t *testing.T) {
	t.Parallel()
	only := func(set func(*http.Protocols)) *http.Protocols {
		p := new(http.Protocols)
		set(p)
		return p
	}
	served := func(*ResponseWriter, *Request) error {
		t.Error("a handler was called")
		return nil
	}
	for _, row := range []struct {
		name, ask string
		protocols *http.Protocols
		answer    string
	}{
		{"HTTP/1.1, of HTTP/2 over TLS", request("/"), only(func(p *http.Protocols) { p.SetHTTP2(true) }), "HTTP/1.1 505 "},
		{"HTTP/1.1, of none", request("/"), new(http.Protocols), "HTTP/1.1 505 "},
		{"HTTP/1.0, of none", "GET / HTTP/1.0\r\n\r\n", new(http.Protocols), "HTTP/1.1 505 "},
		{"HTTP/2, of HTTP/2 over TLS", http2Preface, only(func(p *http.Protocols) { p.SetHTTP2(true) }), "HTTP/1.1 400 "},
		{"HTTP/2, of HTTP/1.1", http2Preface, onlyHTTP1(), "HTTP/1.1 400 "},
		{"HTTP/1.1, of HTTP/2 without TLS", request("/"), only(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }), "\x00\x00"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			nc := dialFor(t, startServer(t, &Server{Handler: HandlerFunc(served), Protocols: row.protocols}), false)
			nc.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(nc, row.ask); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(nc) // to the end, which the server makes
			if err != nil || !strings.HasPrefix(string(answer), row.answer) {
				t.Errorf("%q, %v", answer, err)
			}
		})
	}
}

// onlyHTTP1 are Protocols without HTTP/2.
func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// TestHTTP2TrailerOfEmptyBody has Bytes find the end, and so the trailer, of a body in which
// nothing was and which came with the head.
func TestHTTP2TrailerOfEmptyBody(t *testing.T) {
	t.Parallel()
	p := dialHTTP2(t, startServer(t, &Server{Protocols: proxyProtocols(true), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		body, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, string(body)+"|"+r.Trailer().Get("X-Told"))
	})}))
	for _, body := range []string{"", "x"} {
		b, stream := p.head(false, requestLines("POST", "/")...)
		if body != "" {
			b = appendData(b, stream, []byte(body), false)
		}
		p.send(append(b, http2Frame(frameHeaders, flagEndStream|flagEndHeaders, stream, string(rawBlock("x-told: told")))...))
		a := p.answer(stream)
		if got := string(a.body); got != body+"|told" {
			t.Errorf("%q for a body of %d octets", got, len(body))
		}
	}
}
