package flare

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// A request that cannot be sent again, after a redirect or for a body that
// cannot begin again, was sent all the same.
func TestClientSentOnce(t *testing.T) {
	url := clientRawServer(t, func(c net.Conn) {
		clientReadTo(c, "abc")
		io.WriteString(c, "HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
		clientReadHead(c)
	})
	gone := errors.New("gone")
	for name, tt := range map[string]struct {
		getBody func() (io.Reader, error)
		phase   ClientPhase
		want    error
	}{
		"a stream":        {nil, PhaseRedirect, errBodySent},
		"GetBody failing": {func() (io.Reader, error) { return nil, gone }, PhaseWrite, gone},
	} {
		r := &ClientRequest{Method: "POST", URL: url, Body: io.MultiReader(strings.NewReader("abc")), ContentLength: 3, GetBody: tt.getBody}
		if _, err := clientOf(t, &Client{}).Do(clientContext(t), r); !clientFailedLate(err, tt.phase) || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Before anything of it was, ErrInvalidRequest still says so.
	r := &ClientRequest{Method: "POST", URL: url, Body: clientReadFunc(func([]byte) (int, error) { return 0, gone }), GetBody: func() (io.Reader, error) { return nil, gone }}
	r.sent = true
	if _, err := clientOf(t, &Client{}).Do(clientContext(t), r); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("nothing sent: %v", err)
	}
}

// TestClientTrailerOfEmptyBody sends the trailer of a body in which nothing was, of whatever
// kind it is. Without a body there is none.
func TestClientTrailerOfEmptyBody(t *testing.T) {
	t.Parallel()
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, string(p)+"|"+r.Trailer().Get("X-Told"))
	})
	for _, http2 := range []bool{false, true} {
		url := TestServer(t, &Server{Handler: h, Protocols: proxyProtocols(http2)})
		c := clientOf(t, &Client{Protocols: proxyProtocols(http2)})
		for _, tt := range []struct {
			name string
			body any
			want string
		}{
			{"bytes", []byte("x"), "x|told"},
			{"no bytes", []byte{}, "|told"},
			{"no letters", "", "|told"},
			{"a reader at its end", strings.NewReader(""), "|told"},
			{"a stream", io.MultiReader(), "|told"},
			{"nothing", nil, "|"},
			{"nothing of net/http's", http.NoBody, "|"},
		} {
			r := &ClientRequest{Method: "POST", URL: url, Trailer: func(h *Header) { h.Set("X-Told", "told") }}
			if err := r.SetBody(tt.body); err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(clientContext(t), r)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if text, err := resp.Text(); text != tt.want || err != nil {
				t.Errorf("%s, HTTP/2 %v: %q, %v; want %q", tt.name, http2, text, err, tt.want)
			}
		}
	}
}

// A request that says close ends its connection, whoever put it there.
func TestClientConnectionClose(t *testing.T) {
	var conns atomic.Int32
	heads := make(chan string, 1)
	url := clientAccept(t, func(c net.Conn) {
		conns.Add(1)
		in := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			heads <- strings.Join(req.Header.Values("Connection"), "|")
			// Nothing in the answer says that the server will close.
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	closing := func(values ...string) (h Header) {
		for _, v := range values {
			h.Add("Connection", v)
		}
		return h
	}
	for _, tt := range []struct {
		name     string
		defaults Header
		request  ClientRequest
		sent     string
	}{
		{"Close", Header{}, ClientRequest{Close: true}, "close"},
		{"field", Header{}, ClientRequest{Header: closing("close")}, "close"},
		{"list", Header{}, ClientRequest{Header: closing("foo, CLOSE")}, "foo, CLOSE"},
		{"second line", Header{}, ClientRequest{Header: closing("foo", "close")}, "foo|close"},
		{"client's field", closing("close"), ClientRequest{}, "close"},
		{"Close and another option", Header{}, ClientRequest{Close: true, Header: closing("foo")}, "foo|close"},
		{"Close twice", Header{}, ClientRequest{Close: true, Header: closing("close")}, "close"},
	} {
		conns.Store(0)
		c := clientOf(t, &Client{Header: tt.defaults})
		for range 3 {
			r := tt.request
			r.URL = url
			resp, err := c.Do(clientContext(t), &r)
			clientWantText(t, resp, err, 200, "ok")
			if sent := <-heads; sent != tt.sent {
				t.Errorf("%s: Connection %q, want %q", tt.name, sent, tt.sent)
			}
		}
		if conns.Load() != 3 {
			t.Errorf("%s: %d connections for 3 requests", tt.name, conns.Load())
		}
	}
	conns.Store(0)
	c := clientOf(t, &Client{})
	for range 3 {
		req, _ := http.NewRequestWithContext(clientContext(t), "POST", url, nil)
		req.Header.Set("Connection", "close")
		resp, err := c.Transport().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		<-heads
	}
	if conns.Load() != 3 {
		t.Errorf("Transport: %d connections for 3 requests", conns.Load())
	}
}

// A body's content type follows the body when it is set anew; one that the user
// has set stays.
func TestClientBodyTypeAnew(t *testing.T) {
	r := new(ClientRequest)
	for _, tt := range []struct {
		body any
		want string
	}{
		{"{}", "application/json"},
		{url.Values{"a": {"b"}}, "application/x-www-form-urlencoded"},
		{map[string]int{"a": 1}, "application/json"},
		{[]byte("x"), ""},
		{"{}", "application/json"},
		{strings.NewReader("x"), ""},
		{url.Values{}, "application/x-www-form-urlencoded"},
		{nil, ""},
	} {
		if err := r.SetBody(tt.body); err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Get("Content-Type"); got != tt.want {
			t.Errorf("%T: %q, want %q", tt.body, got, tt.want)
		}
	}
	r.SetBody("{}")
	r.Header.Set("Content-Type", "text/plain")
	r.SetBody(url.Values{})
	r.SetBody("{}")
	if got := r.Header.Get("Content-Type"); got != "text/plain" {
		t.Errorf("the user's own became %q", got)
	}
}

// The user's Proxy-Authorization takes the place of that in the proxy's URL.
func TestClientProxyAuthorization(t *testing.T) {
	heads := make(chan *http.Request, 1)
	at := clientAccept(t, func(c net.Conn) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			heads <- req
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
	})
	proxy, _ := url.Parse(strings.Replace(at, "//", "//u:p@", 1))
	byProxy := func(*url.URL) (*url.URL, error) { return proxy, nil }
	for name, tt := range map[string]struct {
		r    ClientRequest
		c    *Client
		want string
	}{
		"URL":     {c: &Client{}, want: "Basic dTpw"},
		"request": {c: &Client{}, r: ClientRequest{Header: headerOf("Proxy-Authorization", "Own x")}, want: "Own x"},
		"client":  {c: &Client{Header: headerOf("proxy-authorization", "Own y")}, want: "Own y"},
	} {
		tt.c.Proxy, tt.r.URL = byProxy, "http://origin.test/a?b"
		if _, err := clientOf(t, tt.c).Do(clientContext(t), &tt.r); err != nil {
			t.Fatal(name, err)
		}
		req := <-heads
		if got := strings.Join(req.Header.Values("Proxy-Authorization"), "|"); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if req.RequestURI != "http://origin.test/a?b" {
			t.Errorf("%s: target %q", name, req.RequestURI)
		}
	}
	// A Host of the user's is where the proxy is sent: it goes by the target alone.
	r := &ClientRequest{URL: "http://origin.test/a", Header: headerOf("Host", "other.test:81")}
	if _, err := clientOf(t, &Client{Proxy: byProxy}).Do(clientContext(t), r); err != nil {
		t.Fatal(err)
	}
	if req := <-heads; req.RequestURI != "http://other.test:81/a" || req.Host != "other.test:81" {
		t.Errorf("target %q, Host %q", req.RequestURI, req.Host)
	}
}

func headerOf(name, value string) (h Header) {
	h.Set(name, value)
	return h
}
