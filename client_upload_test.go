package flare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A server that refuses a body answers before it has read it, and closes. The
// caller gets the answer, whatever became of the sending.
func TestClientEarlyAnswer(t *testing.T) {
	t.Parallel()
	const refusal = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\nrefused"
	stop := make(chan struct{})
	defer close(stop)
	answerers := map[string]func(t *testing.T) string{
		"lingering": func(t *testing.T) string { // the end of the answer, then the rest of the body is dropped
			return clientRawServer(t, func(c net.Conn) {
				io.WriteString(c, refusal)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
			})
		},
		"reset": func(t *testing.T) string { // closed with octets unread: a reset comes behind the answer
			return clientRawServer(t, func(c net.Conn) { io.WriteString(c, refusal) })
		},
		"reset in the middle": func(t *testing.T) string {
			return clientRawServer(t, func(c net.Conn) {
				io.CopyN(io.Discard, c, 9000)
				io.WriteString(c, refusal)
			})
		},
		"no more read, and open": func(t *testing.T) string {
			return clientRawServer(t, func(c net.Conn) {
				io.WriteString(c, strings.Replace(refusal, "Connection: close\r\n", "", 1))
				<-stop
			})
		},
		"flare": func(t *testing.T) string {
			return TestServer(t, &Server{Logger: quietLogger(), MaxBodyBytes: 1000, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error { _, err := r.Bytes(); return err }),
				ErrorHandler: func(w *ResponseWriter, r *Request, err error) { w.Text(413, "refused") }})
		},
		"net/http": func(t *testing.T) string {
			ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(413)
				io.WriteString(w, "refused")
			}))
			t.Cleanup(ts.Close)
			return ts.URL
		},
	}
	for name, start := range answerers {
		t.Run(name, func(t *testing.T) {
			url := start(t)
			for _, size := range []int{10 << 10, 40 << 10, 200 << 10, 8 << 20} {
				body := bytes.Repeat([]byte("x"), size)
				for kind, v := range map[string]any{
					"bytes": body, "reader": bytes.NewReader(body), "stream": io.MultiReader(bytes.NewReader(body)),
				} {
					c := clientOf(t, &Client{})
					resp, err := c.Post(clientContext(t), url, v)
					if err != nil {
						t.Errorf("%d bytes, %s: %v", size, kind, err)
						continue
					}
					if text, err := resp.Text(); err != nil || resp.StatusCode != 413 || text != "refused" {
						t.Errorf("%d bytes, %s: %d %.80q, %v", size, kind, resp.StatusCode, text, err)
					}
				}
			}
		})
	}
}

// A connection that is reset, rather than closed, has a name of its own.
func TestClientReset(t *testing.T) {
	reset := func(c net.Conn) {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	for _, tt := range []struct {
		name, front string
		phase       ClientPhase
	}{
		{"before the answer", "", PhaseHead},
		{"in the head", "HTTP/1.1 200 OK\r\nA: b", PhaseHead},
		{"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", PhaseBody},
		{"in a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", PhaseBody},
		{"in a body to the end", "HTTP/1.1 200 OK\r\n\r\nabc", PhaseBody},
	} {
		read := make(chan struct{})
		url := clientRawServer(t, func(c net.Conn) {
			io.WriteString(c, tt.front)
			if tt.phase == PhaseBody {
				<-read // what has come is not to be lost with the connection
			}
			reset(c)
		})
		resp, err := clientOf(t, &Client{}).Post(clientContext(t), url, nil)
		if tt.phase == PhaseBody {
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadFull(resp.Body, make([]byte, 3))
			close(read)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
			}
		}
		var e *ClientError
		if !errors.Is(err, ErrReset) || !errors.As(err, &e) || e.Phase != tt.phase || errors.Is(err, ErrUnexpectedEOF) || errors.Is(err, ErrTimeout) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Once something of the answer has come, or where the method does not allow
// it, a request is not sent a second time; nothing was lost where it was never
// sent.
func TestClientNoRetry(t *testing.T) {
	for _, tt := range []struct {
		name, method, answer string
		rested               bool // on a connection that had rested
		requests             int
		want                 error
	}{
		{"an octet of the answer", "GET", "H", false, 1, ErrUnexpectedEOF},
		{"half a head", "GET", "HTTP/1.1 200 OK\r\nA:", false, 1, ErrUnexpectedEOF},
		{"an interim answer", "GET", "HTTP/1.1 103 Early Hints\r\n\r\n", false, 1, ErrUnexpectedEOF},
		{"half a body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false, 1, ErrUnexpectedEOF},
		{"malformed", "GET", "nonsense\r\n\r\n", false, 1, ErrMalformed},
		{"POST, rested", "POST", "", true, 2, ErrUnexpectedEOF},
		{"PATCH, rested", "PATCH", "", true, 2, ErrUnexpectedEOF},
		{"octet on a rested one", "GET", "H", true, 2, ErrUnexpectedEOF},
		{"GET, rested", "GET", "", true, 3, ErrUnexpectedEOF}, // on the one that rested, and once more
		{"GET", "GET", "", false, 1, ErrUnexpectedEOF},
		{"DELETE", "DELETE", "", false, 1, ErrUnexpectedEOF},
	} {
		requests := make(chan struct{}, 16)
		first := tt.rested
		url := clientRawServer(t, func(c net.Conn) {
			requests <- struct{}{}
			if first {
				first = false
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				if !clientReadHead(c) {
					return
				}
				requests <- struct{}{}
			}
			io.WriteString(c, tt.answer)
		})
		c := clientOf(t, &Client{})
		if tt.rested {
			if body, err := clientFetch(t, c, url); err != nil || body != "ok" {
				t.Fatal(body, err)
			}
		}
		resp, err := c.Do(clientContext(t), &ClientRequest{Method: tt.method, URL: url})
		if err == nil {
			_, err = resp.Bytes()
		}
		if !errors.Is(err, tt.want) || len(requests) != tt.requests {
			t.Errorf("%s: %d requests, %v; want %d, %v", tt.name, len(requests), err, tt.requests, tt.want)
		}
	}
}

// A connection that had ended while it rested carries nothing: the request,
// whatever its method and body, goes on a new one.
func TestClientStale(t *testing.T) {
	closed := make(chan struct{}, 8)
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
		closed <- struct{}{}
	})
	c := clientOf(t, &Client{})
	for i := range 5 {
		resp, err := c.Post(clientContext(t), url, fmt.Sprint(i))
		clientWantText(t, resp, err, 200, "ok")
		<-closed
		clientAwaitStale(c)
	}
}

// A server that takes nothing of a body is given up, and the error says that
// it was the sending that took too long.
func TestClientWriteTimeout(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	defer close(stop)
	url := clientRawServer(t, func(c net.Conn) { <-stop })
	early := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
		<-stop
	})
	body := make([]byte, 32<<20) // more than the kernel takes
	for name, tt := range map[string]struct {
		client *Client
		body   any
	}{
		"bytes":           {&Client{WriteTimeout: 100 * time.Millisecond}, body},
		"stream":          {&Client{WriteTimeout: 100 * time.Millisecond}, io.MultiReader(bytes.NewReader(body))},
		"in all":          {&Client{Timeout: 500 * time.Millisecond}, body},
		"in all, stream":  {&Client{Timeout: 500 * time.Millisecond}, io.MultiReader(bytes.NewReader(body))},
		"answer is later": {&Client{WriteTimeout: 100 * time.Millisecond, ResponseTimeout: 10 * time.Millisecond}, body},
	} {
		_, err := clientOf(t, tt.client).Put(clientContext(t), url, tt.body)
		var e *ClientError
		if !errors.Is(err, ErrTimeout) || !errors.As(err, &e) || e.Phase != PhaseWrite || !e.Timeout() {
			t.Errorf("%s: %v", name, err)
		}
	}
	resp, err := clientOf(t, &Client{WriteTimeout: 100 * time.Millisecond}).Put(clientContext(t), early, body)
	if err != nil {
		t.Fatal(err)
	}
	var e *ClientError
	if _, err := resp.Bytes(); !errors.Is(err, ErrTimeout) || !errors.As(err, &e) || e.Phase != PhaseWrite {
		t.Errorf("with half an answer: %v", err)
	}
}

// A body that can be read only once, and was not, goes on the next connection
// after one that had ended while it rested.
func TestClientStaleStream(t *testing.T) {
	closed := make(chan struct{}, 1)
	url := clientRawServer(t, func(c net.Conn) {
		clientReadTo(c, "0\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
		closed <- struct{}{}
	})
	c := clientOf(t, &Client{})
	for range 3 {
		resp, err := c.Post(clientContext(t), url, io.MultiReader(strings.NewReader("abc")))
		clientWantText(t, resp, err, 200, "ok")
		<-closed
		clientAwaitStale(c)
	}
}

// clientAwaitStale waits until the end of a connection that rests has arrived.
func clientAwaitStale(c *Client) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	for _, list := range c.pool.idle {
		for list[0].silent() {
		}
	}
}

// A redirect in place of a 100 leaves the body whole for where it leads.
func TestClientRedirectBeforeBody(t *testing.T) {
	to := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		clientReadTo(c, "3\r\nabc\r\n0\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	from := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 307 Temporary Redirect\r\nLocation: "+to+"/\r\nContent-Length: 0\r\n\r\n")
	})
	r := &ClientRequest{Method: "POST", URL: from, Body: io.MultiReader(strings.NewReader("abc"))}
	r.Header.Set("Expect", "100-continue")
	resp, err := clientOf(t, &Client{ContinueTimeout: patience}).Do(clientContext(t), r)
	clientWantText(t, resp, err, 200, "ok")
}

// A body that its owner does not go on with holds nobody up beyond Timeout,
// where it has to be begun again.
func TestClientUploadHangs(t *testing.T) {
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 307 Temporary Redirect\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	goOn := make(chan struct{})
	defer close(goOn)
	body := func() (io.Reader, error) {
		return clientReadFunc(func([]byte) (int, error) {
			<-goOn
			return 0, io.EOF
		}), nil
	}
	r := &ClientRequest{Method: "POST", URL: url, GetBody: body}
	r.Body, _ = body()
	if _, err := clientOf(t, &Client{Timeout: 200 * time.Millisecond}).Do(clientContext(t), r); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
}

// A clientSlowBody is a Seeker that takes its time in a Read.
type clientSlowBody struct {
	*strings.Reader
	reading chan struct{} // told once
	goOn    chan struct{}
	slow    bool
}

func (b *clientSlowBody) Read(p []byte) (int, error) {
	if b.slow {
		b.slow = false
		close(b.reading)
		<-b.goOn
	}
	return b.Reader.Read(p)
}

// A request is sent again once the response's body was closed, though the body
// of the first time was still being read then.
func TestClientRequestAgain(t *testing.T) {
	for name, again := range map[string]func(r *ClientRequest){
		"the same body": func(*ClientRequest) {},
		"another body":  func(r *ClientRequest) { r.SetBody(io.MultiReader(strings.NewReader("def"))) },
	} {
		reading, goOn := make(chan struct{}), make(chan struct{})
		conns := make(chan int, 2)
		conns <- 1
		conns <- 2
		c := clientOf(t, &Client{})
		r := &ClientRequest{Method: "POST", URL: clientAccept(t, func(c net.Conn) {
			if <-conns == 1 {
				<-reading
				io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				io.Copy(io.Discard, c)
			} else if clientReadTo(c, "0\r\n\r\n") {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})}
		r.SetBody(&clientSlowBody{strings.NewReader("abc"), reading, goOn, true})
		resp, err := c.Do(clientContext(t), r)
		if err != nil || resp.StatusCode != 413 {
			t.Fatalf("%s: %+v, %v", name, resp, err)
		}
		resp.Body.Close()
		close(goOn)
		again(r)
		resp, err = c.Do(clientContext(t), r)
		clientWantText(t, resp, err, 200, "ok")
	}
}
