package flare

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// These tests have bodies that wait in Read when their request ends: nobody reads
// them any more then.

// A clientWaitingBody gives one octet and then waits until it is closed, or, a
// stubborn one, for release.
type clientWaitingBody struct {
	reading  chan struct{} // closed when it waits
	closed   chan struct{}
	release  chan struct{}
	stubborn bool
	begun    bool
	once     sync.Once
	inside   atomic.Int32
	calls    atomic.Int32 // of Read
}

func newClientWaitingBody(stubborn bool) *clientWaitingBody {
	return &clientWaitingBody{reading: make(chan struct{}), closed: make(chan struct{}), release: make(chan struct{}), stubborn: stubborn}
}

func (b *clientWaitingBody) Read(p []byte) (int, error) {
	b.inside.Add(1)
	defer b.inside.Add(-1)
	b.calls.Add(1)
	if !b.begun {
		b.begun = true
		p[0] = 'x'
		return 1, nil
	}
	close(b.reading)
	closed := b.closed
	if b.stubborn {
		closed = nil
	}
	select {
	case <-closed:
		return 0, io.ErrClosedPipe
	case <-b.release:
		p[0] = 'y'
		return 1, nil
	}
}

func (b *clientWaitingBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// clientEndings end a request whose body waits. server answers on c, once the
// body waits; end does what the caller does, and returns when nobody may read the
// body any more.
var clientEndings = []struct {
	name   string
	server func(c net.Conn)
	end    func(t *testing.T, cancel func(), resp *ClientResponse, err error)
}{
	{"refused at once", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, c)
	}, clientWantStatus(403)},
	{"response in memory", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		io.Copy(io.Discard, c)
	}, clientWantStatus(403)},
	{"response closed", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno")
		io.Copy(io.Discard, c)
	}, func(t *testing.T, cancel func(), resp *ClientResponse, err error) {
		clientWantStatus(403)(t, cancel, resp, err)
		resp.Body.Close()
	}},
	{"response read", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
		io.WriteString(c, "0\r\n\r\n")
		io.Copy(io.Discard, c)
	}, func(t *testing.T, cancel func(), resp *ClientResponse, err error) {
		clientWantText(t, resp, err, 200, "ok")
	}},
	{"response cut off", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nno")
	}, func(t *testing.T, cancel func(), resp *ClientResponse, err error) {
		clientWantStatus(200)(t, cancel, resp, err)
		if _, err := resp.Bytes(); err == nil {
			t.Error("the response is whole")
		}
	}},
	{"no response", func(c net.Conn) {}, clientWantError},
	{"malformed response", func(c net.Conn) {
		io.WriteString(c, "HTTP/9 200\r\n\r\n")
		io.Copy(io.Discard, c)
	}, clientWantError},
	{"redirected without it", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 303 See Other\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, c)
	}, clientWantStatus(204)},
	{"redirected with it", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 307 Temporary Redirect\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, c)
	}, clientWantError},
	{"context ended in Do", nil, clientWantError},
	{"context ended behind Do", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nno")
		io.Copy(io.Discard, c)
	}, func(t *testing.T, cancel func(), resp *ClientResponse, err error) {
		clientWantStatus(200)(t, cancel, resp, err)
		cancel() // and the response is left as it is
	}},
}

func clientWantStatus(code int) func(t *testing.T, cancel func(), resp *ClientResponse, err error) {
	return func(t *testing.T, cancel func(), resp *ClientResponse, err error) {
		if err != nil || resp.StatusCode != code {
			t.Fatalf("%+v, %v", resp, err)
		}
	}
}

func clientWantError(t *testing.T, cancel func(), resp *ClientResponse, err error) {
	if err == nil {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// clientStopServer has one request with a body answered by serve, once the body
// waits, and others with 204. A nil serve has cancel called in place of an answer.
func clientStopServer(t *testing.T, body *clientWaitingBody, serve func(net.Conn), cancel func()) string {
	var first atomic.Bool
	return clientAccept(t, func(c net.Conn) {
		if !first.CompareAndSwap(false, true) {
			if clientReadTo(c, "\r\n\r\n") {
				io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			}
			return
		}
		if clientReadTo(c, "\r\n\r\n1\r\nx\r\n"); serve != nil {
			<-body.reading
			serve(c)
			return
		}
		<-body.reading
		cancel()
		io.Copy(io.Discard, c)
	})
}

// TestClientUploadStops has a body closed, and left by its reader, when its
// request has ended in whatever way, over Do and over Transport.
func TestClientUploadStops(t *testing.T) {
	t.Parallel()
	for _, tt := range clientEndings {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := newClientWaitingBody(false)
			ctx, cancel := context.WithCancel(clientContext(t))
			defer cancel()
			url := clientStopServer(t, body, tt.server, cancel)
			resp, err := clientOf(t, &Client{}).Do(ctx, &ClientRequest{Method: "POST", URL: url, Body: body})
			if err == nil {
				defer resp.Body.Close()
			}
			tt.end(t, cancel, resp, err)
			if ctx.Err() != nil {
				eventually(t, "the end of the body", func() bool { return body.inside.Load() == 0 })
			}
			if n := body.inside.Load(); n != 0 {
				t.Error("the body is still being read")
			}
			select {
			case <-body.closed:
			case <-time.After(patience):
				t.Error("the body was not closed")
			}
		})
	}
}

// TestClientUploadStopsStubborn has bodies that go on waiting in Read when they
// are closed. The request ends all the same, and what the body gives then goes
// nowhere: its connection was closed, nobody is told of progress, and the body is
// not asked for more.
func TestClientUploadStopsStubborn(t *testing.T) {
	t.Parallel()
	for _, tt := range clientEndings {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := newClientWaitingBody(true)
			ctx, cancel := context.WithCancel(clientContext(t))
			defer cancel()
			url := clientStopServer(t, body, tt.server, cancel)
			var progress atomic.Int64
			r := &ClientRequest{Method: "POST", URL: url, Body: body, Progress: func(sent, _ int64) { progress.Store(sent) }}
			c := clientOf(t, &Client{})
			resp, err := c.Do(ctx, r)
			if err == nil {
				defer resp.Body.Close()
			}
			tt.end(t, cancel, resp, err)
			if ctx.Err() != nil {
				<-body.closed
			}
			close(body.release)
			<-r.upload.ended
			if err := r.upload.err; !errors.Is(err, errUploadStopped) || body.calls.Load() != 2 || progress.Load() != 1 {
				t.Errorf("sending has ended with %v, after %d reads and %d octets", err, body.calls.Load(), progress.Load())
			}
			if n := len(c.pool.idle); n != 0 {
				t.Errorf("connections to %d hosts rest", n)
			}
		})
	}
}

// TestTransportUploadStops is TestClientUploadStops over net/http's client.
func TestTransportUploadStops(t *testing.T) {
	t.Parallel()
	for _, tt := range clientEndings {
		if tt.name == "redirected with it" {
			continue // http.Client's own matter
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := newClientWaitingBody(false)
			ctx, cancel := context.WithCancel(clientContext(t))
			defer cancel()
			url := clientStopServer(t, body, tt.server, cancel)
			req, err := http.NewRequestWithContext(ctx, "POST", url, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := (&http.Client{Transport: clientOf(t, &Client{}).Transport()}).Do(req)
			if err == nil {
				defer resp.Body.Close()
				switch tt.name {
				case "context ended behind Do":
					cancel()
				case "response closed":
					resp.Body.Close()
				default:
					io.Copy(io.Discard, resp.Body)
				}
			}
			eventually(t, "the end of the body", func() bool { return body.inside.Load() == 0 })
			select {
			case <-body.closed:
			case <-time.After(patience):
				t.Error("the body was not closed")
			}
		})
	}
}

// A clientOpenBody counts how often it is closed.
type clientOpenBody struct {
	io.Reader
	closed int
}

func (b *clientOpenBody) Close() error { b.closed++; return nil }

// TestClientBodyStaysOpen pins which bodies are not closed: one that was sent to
// its end, one that nothing was read of, and one that can be rewound.
func TestClientBodyStaysOpen(t *testing.T) {
	refuse := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	take := clientRawServer(t, func(c net.Conn) {
		clientReadTo(c, "0\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	whole := &clientOpenBody{Reader: io.MultiReader(&io.LimitedReader{R: endless{}, N: 100_000})}
	resp, err := clientOf(t, &Client{}).Do(clientContext(t), &ClientRequest{Method: "POST", URL: take, Body: whole})
	clientWantText(t, resp, err, 200, "")
	unread := &clientOpenBody{Reader: endless{}}
	r := &ClientRequest{Method: "POST", URL: refuse, Body: unread}
	r.Header.Set("Expect", "100-continue")
	resp, err = clientOf(t, &Client{ContinueTimeout: patience}).Do(clientContext(t), r)
	clientWantText(t, resp, err, 403, "")
	rewound := &clientSeekBody{}
	resp, err = clientOf(t, &Client{}).Do(clientContext(t), &ClientRequest{Method: "POST", URL: refuse, Body: rewound})
	clientWantText(t, resp, err, 403, "")
	if whole.closed != 0 || unread.closed != 0 || rewound.closed != 0 {
		t.Errorf("closed: sent %d, unread %d, rewindable %d times", whole.closed, unread.closed, rewound.closed)
	}
}

// A clientSeekBody has no end and can be rewound.
type clientSeekBody struct {
	endless
	closed int
}

func (b *clientSeekBody) Seek(int64, int) (int64, error) { return 0, nil }
func (b *clientSeekBody) Close() error                   { b.closed++; return nil }
