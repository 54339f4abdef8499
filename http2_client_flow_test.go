package flare

import (
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A delayedLink passes octets between a client and a server on as a long link does:
// each of them delay later, and no more than rate a second.
type delayedLink struct {
	delay time.Duration
	rate  float64 // octets a second
}

// start returns the address of a link to a server.
func (l delayedLink) start(t testing.TB, to string) (addr string) {
	return strings.TrimPrefix(clientAccept(t, func(c net.Conn) {
		s, err := net.Dial("tcp", to)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		go l.pass(s, c)
		l.pass(c, s)
	}), "http://")
}

func (l delayedLink) pass(to, from net.Conn) {
	type piece struct {
		p   []byte
		due time.Time
	}
	link := make(chan piece, 4096) // far more than rate times delay
	defer close(link)
	go func() {
		for piece := range link {
			time.Sleep(time.Until(piece.due))
			to.Write(piece.p)
		}
		to.(*net.TCPConn).CloseWrite()
	}()
	var free time.Time // when the link has sent what it was given
	for {
		p := make([]byte, 32<<10)
		n, err := from.Read(p)
		if err != nil {
			return
		}
		if now := time.Now(); free.Before(now) {
			free = now
		}
		free = free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
		link <- piece{p[:n], free.Add(l.delay)}
		time.Sleep(time.Until(free))
	}
}

var longLinkBytes = flag.Int64("longlink.bytes", 96<<20, "how much TestHTTP2ClientLongLink downloads")

// A window grows until a long link is full: a download is as quick as over HTTP/1.1,
// which has TCP's windows alone.
func TestHTTP2ClientLongLink(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector is slower than the link")
	}
	t.Parallel()
	const rate = 32 << 20
	size := *longLinkBytes
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range size / (64 << 10) {
			w.Write(make([]byte, 64<<10))
		}
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	url := "http://" + delayedLink{25 * time.Millisecond, rate}.start(t, srv.Listener.Addr().String())
	download := func(c *Client) time.Duration {
		defer c.CloseIdleConnections()
		begun := time.Now()
		resp, err := c.Get(t.Context(), url) // its end is BodyTimeout's
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil || n != size {
			t.Errorf("%d octets, %v", n, err)
		}
		return time.Since(begun)
	}
	versions := new(http.Protocols)
	versions.SetUnencryptedHTTP2(true)
	var http1, http2 time.Duration
	for range 3 { // others use the machine too
		http1, http2 = download(new(Client)), download(&Client{Protocols: versions})
		t.Logf("MiB a second: HTTP/1.1 %.1f, HTTP/2 %.1f", float64(size>>20)/http1.Seconds(), float64(size>>20)/http2.Seconds())
		if http2.Seconds()*0.9 <= http1.Seconds() {
			return
		}
	}
	t.Errorf("HTTP/1.1 took %v, HTTP/2 %v", http1, http2)
}
