package flare

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
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
	c := clientOf(t, &Client{})
	for name, tt := range map[string]struct {
		getBody func() (io.Reader, error)
		phase   ClientPhase
		want    error
	}{
		"a stream":        {nil, PhaseRedirect, errBodySent},
		"GetBody failing": {func() (io.Reader, error) { return nil, gone }, PhaseWrite, gone},
	} {
		r := &ClientRequest{Method: "POST", URL: url, Body: io.MultiReader(strings.NewReader("abc")), ContentLength: 3, GetBody: tt.getBody}
		if _, err := c.Do(clientContext(t), r); !clientFailedLate(err, tt.phase) || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Before anything of it was, ErrInvalidRequest still says so.
	r := &ClientRequest{Method: "POST", URL: url, Body: clientReadFunc(func([]byte) (int, error) { return 0, gone }), GetBody: func() (io.Reader, error) { return nil, gone }}
	r.sent = true
	if _, err := c.Do(clientContext(t), r); !errors.Is(err, ErrInvalidRequest) {
		t.Errorf("nothing sent: %v", err)
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
