package flare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clientContext bounds a test.
func clientContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// clientOf returns a client whose connections end with the test.
func clientOf(t testing.TB, c *Client) *Client {
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// clientWantText fails unless the response has the status and the body.
func clientWantText(t *testing.T, resp *ClientResponse, err error, status int, want string) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
	got, err := resp.Text()
	if err != nil || resp.StatusCode != status || got != want {
		t.Fatalf("got %d %.200q, %v; want %d %.200q", resp.StatusCode, got, err, status, want)
	}
}

// clientEcho answers with what net/http makes of a request.
func clientEcho(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("X-Method", r.Method)
	w.Header().Set("X-Type", strings.Join(r.Header.Values("Content-Type"), "|"))
	w.Header().Set("X-Length", http.StatusText(0)+string(rune('0'+min(max(r.ContentLength, -1)+1, 9))))
	for name := range r.Trailer {
		w.Header().Set("X-Trailer-"+name, r.Trailer.Get(name))
	}
	w.Write(body)
}

func TestClientBodies(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer ts.Close()
	c := clientOf(t, &Client{BaseURL: ts.URL})
	large := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	value := "text"
	tests := []struct {
		name        string
		body        any
		want        string
		contentType string
	}{
		{"nil", nil, "", ""},
		{"bytes", []byte("abc"), "abc", ""},
		{"string", `{"a":1}`, `{"a":1}`, "application/json"},
		{"string that is no JSON", "text", "text", "application/json"},
		{"a string's value", &value, `"text"`, "application/json"},
		{"map", map[string]any{"a": nil}, `{"a":null}`, "application/json"},
		{"number", 1.5, "1.5", "application/json"},
		{"struct", struct {
			A int `json:"a"`
		}{1}, `{"a":1}`, "application/json"},
		{"form", url.Values{"a": {"1 2"}}, "a=1+2", "application/x-www-form-urlencoded"},
		{"reader of a known length", strings.NewReader("abc"), "abc", ""},
		{"reader", io.MultiReader(strings.NewReader("a"), strings.NewReader("bc")), "abc", ""},
		{"20 KiB", large[:20<<10], string(large[:20<<10]), ""},
		{"1 MiB", large, string(large), ""},
		{"1 MiB reader", io.MultiReader(bytes.NewReader(large)), string(large), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, err := c.Post(clientContext(t), "/", tt.body)
			clientWantText(t, resp, err, 200, tt.want)
			if got := resp.Header.Get("X-Type"); got != tt.contentType {
				t.Errorf("content type %q, want %q", got, tt.contentType)
			}
			if got := resp.Header.Get("X-Method"); got != "POST" {
				t.Errorf("method %q", got)
			}
		})
	}
}

// A content type that is set stays, before and after SetBody.
func TestClientBodyType(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer ts.Close()
	for _, body := range []any{"text", []byte("text"), strings.NewReader("text")} {
		for _, before := range []bool{true, false} {
			r := &ClientRequest{Method: "POST", URL: ts.URL}
			if before {
				r.Header.Set("content-type", "text/plain")
			}
			if err := r.SetBody(body); err != nil {
				t.Fatal(err)
			}
			if !before {
				r.Header.Set("Content-Type", "text/plain")
			}
			resp, err := clientOf(t, &Client{}).Do(clientContext(t), r)
			clientWantText(t, resp, err, 200, "text")
			if got := resp.Header.Get("X-Type"); got != "text/plain" {
				t.Errorf("content type %q", got)
			}
			if s, ok := body.(*strings.Reader); ok {
				s.Seek(0, io.SeekStart)
			}
		}
	}
	if err := new(ClientRequest).SetBody(func() {}); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("a body that is no JSON: %v", err)
	}
}

func TestClientReusesConnections(t *testing.T) {
	var mu sync.Mutex
	conns := 0
	ts := httptest.NewUnstartedServer(http.HandlerFunc(clientEcho))
	ts.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			mu.Lock()
			conns++
			mu.Unlock()
		}
	}
	ts.Start()
	defer ts.Close()
	c := clientOf(t, &Client{BaseURL: ts.URL})
	for range 5 {
		resp, err := c.Get(clientContext(t), "/")
		clientWantText(t, resp, err, 200, "")
		resp, err = c.Post(clientContext(t), "/", strings.Repeat("x", 100<<10))
		clientWantText(t, resp, err, 200, strings.Repeat("x", 100<<10))
		resp, err = c.Head(clientContext(t), "/")
		clientWantText(t, resp, err, 200, "")
	}
	mu.Lock()
	defer mu.Unlock()
	if conns != 1 {
		t.Errorf("%d connections, want 1", conns)
	}
}

func TestClientTLS(t *testing.T) {
	ts := httptest.NewTLSServer(http.HandlerFunc(clientEcho))
	defer ts.Close()
	ts.Config.ErrorLog = clientNoLog()
	trusting := tlsTrusting(ts.Certificate())
	c := clientOf(t, &Client{BaseURL: ts.URL, TLSConfig: trusting})
	for range 3 {
		resp, err := c.Post(clientContext(t), "/", "x")
		clientWantText(t, resp, err, 200, "x")
		if resp.TLS() == nil || resp.TLS().NegotiatedProtocol != "http/1.1" {
			t.Errorf("TLS state %+v", resp.TLS())
		}
	}
	_, err := clientOf(t, &Client{}).Get(clientContext(t), ts.URL)
	if !errors.Is(err, ErrCertificateUntrusted) {
		t.Errorf("untrusted: %v", err)
	}
	other := trusting.Clone()
	other.ServerName = "other.test"
	_, err = clientOf(t, &Client{TLSConfig: other}).Get(clientContext(t), ts.URL)
	if !errors.Is(err, ErrCertificateHost) {
		t.Errorf("wrong host: %v", err)
	}
}

func TestClientDownload(t *testing.T) {
	body := strings.Repeat("0123456789", 50_000)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "500000")
		io.WriteString(w, body)
	}))
	defer ts.Close()
	c := clientOf(t, &Client{})
	resp, err := c.Get(clientContext(t), ts.URL)
	if err != nil {
		t.Fatal(err)
	}
	var last, total int64
	resp.Progress = func(n, of int64) {
		if n < last {
			t.Errorf("progress went from %d to %d", last, n)
		}
		last, total = n, of
	}
	name := filepath.Join(t.TempDir(), "file")
	n, err := resp.SaveFile(name)
	if err != nil || n != 500_000 || last != 500_000 || total != 500_000 {
		t.Fatalf("n %d, progress %d of %d, %v", n, last, total, err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != body {
		t.Fatalf("the file has %d bytes, %v", len(got), err)
	}
}

func TestClientUploadProgress(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer ts.Close()
	var last int64
	r := &ClientRequest{Method: "PUT", URL: ts.URL, Progress: func(n, total int64) {
		if total != 300_000 || n < last {
			t.Errorf("progress %d of %d after %d", n, total, last)
		}
		last = n
	}}
	r.SetBody(make([]byte, 300_000))
	resp, err := clientOf(t, &Client{}).Do(clientContext(t), r)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := resp.Bytes(); err != nil || len(p) != 300_000 || last != 300_000 {
		t.Fatalf("%d bytes, %v, progress %d", len(p), err, last)
	}
}

func TestClientTrailers(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		p, _ := io.ReadAll(r.Body)
		w.Write(p)
		w.Header().Set("X-Sum", r.Trailer.Get("X-Given"))
	}))
	defer ts.Close()
	trailer := func(h *Header) { h.Set("X-Given", "42") }
	r := &ClientRequest{Method: "POST", URL: ts.URL, Body: strings.NewReader("abc"), Trailer: trailer}
	r.Header.Set("Trailer", "X-Given")
	resp, err := clientOf(t, &Client{}).Do(clientContext(t), r)
	clientWantText(t, resp, err, 200, "abc")
	if got := resp.Trailer().Get("X-Sum"); got != "42" {
		t.Errorf("trailer %q", got)
	}
	for _, size := range []int{3, bodyInlineBytes + 1, bodyBlockingBytes + 1} { // bodies in memory, too
		r = &ClientRequest{Method: "POST", URL: ts.URL, Trailer: trailer}
		body := strings.Repeat("a", size)
		r.SetBody([]byte(body))
		resp, err := clientOf(t, &Client{}).Do(clientContext(t), r)
		clientWantText(t, resp, err, 200, body)
		if got := resp.Trailer().Get("X-Sum"); got != "42" {
			t.Errorf("trailer of %d bytes in memory: %q", size, got)
		}
	}
	framing := func(h *Header) { h.Set("Content-Length", "3") }
	r = &ClientRequest{Method: "POST", URL: ts.URL, Body: strings.NewReader("abc"), Trailer: framing}
	if _, err := clientOf(t, &Client{}).Do(clientContext(t), r); !clientFailedLate(err, PhaseWrite) {
		t.Errorf("framing trailer: %v", err)
	}
}

func TestClientExpectContinue(t *testing.T) {
	refuse := true
	read := make(chan string, 1)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		p, _ := io.ReadAll(r.Body)
		read <- string(p)
	}))
	defer ts.Close()
	c := clientOf(t, &Client{ContinueTimeout: patience})
	touched := false
	body := clientReadFunc(func(p []byte) (int, error) { touched = true; return 0, io.EOF })
	r := &ClientRequest{Method: "POST", URL: ts.URL, Body: body, ContentLength: 10}
	r.Header.Set("Expect", "100-continue")
	resp, err := c.Do(clientContext(t), r)
	clientWantText(t, resp, err, 413, "")
	if touched {
		t.Error("the body was read though the server refused")
	}
	refuse = false
	r = &ClientRequest{Method: "POST", URL: ts.URL}
	r.SetBody("abc")
	r.Header.Set("Expect", "100-continue")
	resp, err = c.Do(clientContext(t), r)
	clientWantText(t, resp, err, 200, "")
	if got := <-read; got != "abc" {
		t.Errorf("the server read %q", got)
	}
}

type clientReadFunc func([]byte) (int, error)

func (f clientReadFunc) Read(p []byte) (int, error) { return f(p) }

func TestClientBodyFails(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer ts.Close()
	broken := errors.New("broken reader")
	c := clientOf(t, &Client{})
	for name, r := range map[string]*ClientRequest{
		"reader": {Body: io.MultiReader(strings.NewReader("abc"), clientReadFunc(func([]byte) (int, error) { return 0, broken }))},
		"short":  {Body: strings.NewReader("abc"), ContentLength: 4},
		"long":   {Body: strings.NewReader("abcde"), ContentLength: 4},
	} {
		r.Method, r.URL = "PUT", ts.URL
		_, err := c.Do(clientContext(t), r)
		if !clientFailedLate(err, PhaseWrite) || name == "reader" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// clientFailedLate says whether a request has failed in that phase, with
// something of it sent: ErrInvalidRequest would say that nothing was.
func clientFailedLate(err error, phase ClientPhase) bool {
	var e *ClientError
	return errors.As(err, &e) && e.Phase == phase && !errors.Is(err, ErrInvalidRequest)
}

func TestClientResponseHelpers(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			w.WriteHeader(404)
		}
		io.WriteString(w, `{"a":1}`+strings.Repeat(" ", 3000))
	}))
	defer ts.Close()
	c := clientOf(t, &Client{BaseURL: ts.URL, MaxBufferedBytes: 4000})
	var v struct{ A int }
	resp, err := c.Get(clientContext(t), "here")
	if err != nil || !resp.OK() || resp.Err() != nil {
		t.Fatal(resp, err)
	}
	if err := resp.JSON(&v); err != nil || v.A != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	resp, err = c.Get(clientContext(t), "/missing")
	if err != nil || resp.OK() {
		t.Fatal(resp, err)
	}
	var e *ResponseError
	if err := resp.JSON(&v); !errors.As(err, &e) || e.StatusCode != 404 || len(e.Excerpt) != excerptBytesMax {
		t.Errorf("%v, %+v", err, e)
	}
	if strings.Contains(e.Error(), `"a"`) {
		t.Error("the error repeats the peer's words")
	}
	c = clientOf(t, &Client{BaseURL: ts.URL, MaxBufferedBytes: 1000})
	if resp, err = c.Get(clientContext(t), "/"); err != nil {
		t.Fatal(err)
	}
	if _, err := resp.Bytes(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over MaxBufferedBytes: %v", err)
	}
	c = clientOf(t, &Client{BaseURL: ts.URL, MaxBodyBytes: 1000})
	resp, err = c.Get(clientContext(t), "/")
	if err == nil {
		_, err = resp.Bytes()
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("over MaxBodyBytes: %v", err)
	}
}

func TestClientWrap(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Order"))
	}))
	defer ts.Close()
	add := func(s string) func(Doer) Doer {
		return func(next Doer) Doer {
			return func(ctx context.Context, r *ClientRequest) (*ClientResponse, error) {
				r.Header.Set("X-Order", r.Header.Get("X-Order")+s)
				return next(ctx, r)
			}
		}
	}
	c := clientOf(t, &Client{Wrap: []func(Doer) Doer{add("a"), add("b")}})
	resp, err := c.Get(clientContext(t), ts.URL)
	clientWantText(t, resp, err, 200, "ab")
}

func TestClientTimeouts(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			io.WriteString(w, "front")
			w.(http.Flusher).Flush()
		}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(ts.Close)
	t.Cleanup(func() { close(release) })
	const limit = 2 * time.Second // more than it takes to get as far as that on a loaded machine
	tests := []struct {
		name, path string
		client     *Client
		phase      ClientPhase
	}{
		{"response", "/head", &Client{ResponseTimeout: limit}, PhaseHead},
		{"total in the head", "/head", &Client{Timeout: limit}, PhaseHead},
		{"body", "/body", &Client{BodyTimeout: limit}, PhaseBody},
		{"total in the body", "/body", &Client{Timeout: limit}, PhaseBody},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp, err := clientOf(t, tt.client).Get(clientContext(t), ts.URL+tt.path)
			if err == nil {
				_, err = resp.Bytes()
			}
			var e *ClientError
			if !errors.Is(err, ErrTimeout) || !errors.As(err, &e) || e.Phase != tt.phase || !e.Timeout() {
				t.Errorf("%v", err)
			}
		})
	}
	for _, path := range []string{"/head", "/body"} {
		t.Run("deadline of the context"+path, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			resp, err := clientOf(t, &Client{}).Get(ctx, ts.URL+path)
			if err == nil {
				_, err = resp.Bytes()
			}
			if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimeout) {
				t.Error(err)
			}
		})
		t.Run("end of the context"+path, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(limit, cancel)
			resp, err := clientOf(t, &Client{}).Get(ctx, ts.URL+path)
			if err == nil {
				_, err = resp.Bytes()
			}
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
				t.Error(err)
			}
		})
	}
	t.Run("close wakes a reader", func(t *testing.T) {
		resp, err := clientOf(t, &Client{}).Get(clientContext(t), ts.URL+"/body")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		if _, err := io.ReadFull(resp.Body, make([]byte, len("front"))); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := resp.Body.Read(make([]byte, 1))
			got <- err
		}()
		resp.Body.Close()
		if err := <-got; err == nil || err == io.EOF {
			t.Errorf("%v", err)
		}
	})
}

type clientHanging struct{}

func (clientHanging) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A time that has passed is told with the phase it passed in, before there is
// a connection as well.
func TestClientTimeoutPhases(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	at := "http://" + silent.Addr().String()
	for _, tt := range []struct {
		name   string
		client func(limit time.Duration) *Client
		url    string
		phase  ClientPhase
	}{
		{"look-up", func(limit time.Duration) *Client { return &Client{Resolver: clientHanging{}, DialTimeout: limit} }, "http://a.test", PhaseResolve},
		{"look-up, in all", func(limit time.Duration) *Client { return &Client{Resolver: clientHanging{}, Timeout: limit} }, "http://a.test", PhaseResolve},
		{"tunnel", func(limit time.Duration) *Client { return &Client{Proxy: clientThrough(at), ResponseTimeout: limit} }, "https://a.test", PhaseProxy},
		{"tunnel, in all", func(limit time.Duration) *Client { return &Client{Proxy: clientThrough(at), Timeout: limit} }, "https://a.test", PhaseProxy},
		{"handshake", func(limit time.Duration) *Client { return &Client{HandshakeTimeout: limit} }, "https://" + silent.Addr().String(), PhaseTLS},
		{"handshake, in all", func(limit time.Duration) *Client { return &Client{Timeout: limit} }, "https://" + silent.Addr().String(), PhaseTLS},
		{"head", func(limit time.Duration) *Client { return &Client{ResponseTimeout: limit} }, at, PhaseHead},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := clientOf(t, tt.client(2*time.Second)).Get(clientContext(t), tt.url)
			var e *ClientError
			if !errors.Is(err, ErrTimeout) || !errors.As(err, &e) || e.Phase != tt.phase {
				t.Error(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			time.AfterFunc(10*time.Millisecond, cancel)
			_, err = clientOf(t, tt.client(patience)).Get(ctx, tt.url)
			if !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}

// Behind a 101 the body is the other protocol, in both directions and as it is.
func TestClientUpgrade(t *testing.T) {
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Encoding: gzip\r\n\r\nhello")
		if clientReadTo(c, "ping") {
			io.WriteString(c, "pong")
		}
	})
	c := clientOf(t, &Client{})
	r := &ClientRequest{URL: url}
	r.Header.Set("Upgrade", "x")
	r.Header.Set("Connection", "upgrade")
	resp, err := c.Do(clientContext(t), r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.ContentLength != -1 {
		t.Fatalf("%+v, %v", resp, err)
	}
	body, ok := resp.Body.(io.ReadWriter)
	if !ok {
		t.Fatal("nothing can be written")
	}
	p := make([]byte, 5)
	if _, err := io.ReadFull(body, p); err != nil || string(p) != "hello" {
		t.Fatalf("%q, %v", p, err)
	}
	if _, err := io.WriteString(body, "ping"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(body); err != nil || string(rest) != "pong" {
		t.Errorf("%q, %v", rest, err)
	}
	if resp.Body.Close(); c.pool.total != 0 {
		t.Error("the connection rests")
	}
}

// Behind a 101 nothing is a body that has to make progress.
func TestClientUpgradeSilence(t *testing.T) {
	const limit = 30 * time.Millisecond
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
		time.Sleep(5 * limit) // the silence that is tested
		io.WriteString(c, "late")
	})
	c := clientOf(t, &Client{BodyTimeout: limit})
	r := &ClientRequest{URL: url}
	r.Header.Set("Upgrade", "x")
	r.Header.Set("Connection", "upgrade")
	resp, err := c.Do(clientContext(t), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if p, err := io.ReadAll(resp.Body); err != nil || string(p) != "late" {
		t.Errorf("%q, %v", p, err)
	}
}

// The length in an answer to HEAD is that of a body which does not come.
func TestClientHeadOfLargeBody(t *testing.T) {
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
	})
	resp, err := clientOf(t, &Client{MaxBufferedBytes: 10, MaxBodyBytes: 10}).Head(clientContext(t), url)
	if err != nil || resp.ContentLength != 1000 {
		t.Fatalf("%+v, %v", resp, err)
	}
	if p, err := resp.Bytes(); err != nil || len(p) != 0 {
		t.Errorf("%q, %v", p, err)
	}
}

// Who watches a download may end it.
func TestClientProgressCloses(t *testing.T) {
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
		io.Copy(io.Discard, c)
	})
	resp, err := clientOf(t, &Client{}).Get(clientContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Progress = func(read, total int64) {
		if read != 3 || total != 1000 {
			t.Errorf("%d of %d", read, total)
		}
		resp.Body.Close()
	}
	if p, err := io.ReadAll(resp.Body); err == nil || string(p) != "abc" {
		t.Errorf("%q, %v", p, err)
	}
}

// A Host among the client's fields goes with every request that has none, to the
// client's origin.
func TestClientDefaultHost(t *testing.T) {
	hosts := make(chan string, 1)
	ts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host }))
	defer ts.Close()
	var fields Header
	fields.Set("Host", "a.test")
	c := clientOf(t, &Client{Header: fields, BaseURL: ts.URL})
	own := &ClientRequest{URL: "/"}
	own.Header.Set("Host", "b.test")
	elsewhere := strings.Replace(ts.URL, "127.0.0.1", "localhost", 1)
	for _, try := range []struct {
		r    *ClientRequest
		host string
	}{
		{&ClientRequest{URL: "/"}, "a.test"},
		{own, "b.test"},
		{&ClientRequest{URL: elsewhere}, strings.TrimPrefix(elsewhere, "http://")},
	} {
		resp, err := c.Do(clientContext(t), try.r)
		clientWantText(t, resp, err, 200, "")
		if got := <-hosts; got != try.host {
			t.Errorf("%q, want %q", got, try.host)
		}
	}
	fields.Set("Host", "a b")
	if _, err := clientOf(t, &Client{Header: fields}).Get(clientContext(t), ts.URL); !errors.Is(err, ErrInvalidRequest) {
		t.Error(err)
	}
}

// A write has all of WriteTimeout, though a deadline of one before is nearer.
func TestClientSocketWriteTimeout(t *testing.T) {
	for _, raw := range []syscall.RawConn{nil, struct{ syscall.RawConn }{}} { // with a descriptor, and without
		a, b := net.Pipe()
		defer a.Close()
		defer b.Close()
		s := newClientSocket(a)
		s.raw = raw
		s.writeTimeout = 100 * time.Millisecond
		s.writeArmed = time.Now().Add(60 * time.Millisecond)
		a.SetWriteDeadline(s.writeArmed)
		begun := time.Now()
		if _, err := s.Write([]byte("x")); !errors.Is(err, ErrTimeout) || time.Since(begun) < s.writeTimeout {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	}
}
