package flare

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// identity and an empty field are no coding: the body stays what it is, its
// length known. Several lines are one list.
func TestClientContentEncoding(t *testing.T) {
	const plain = "hello"
	zipped := string(clientGzip(t, plain))
	twice := string(clientGzip(t, zipped))
	for _, tt := range []struct {
		fields, body, want string
		decoded            bool
	}{
		{"Content-Encoding: identity\r\n", plain, plain, false},
		{"Content-Encoding: Identity, identity\r\n", plain, plain, false},
		{"Content-Encoding:\r\n", plain, plain, false},
		{"Content-Encoding: ,\r\n", plain, plain, false},
		{"Content-Encoding:\r\nContent-Encoding: identity\r\n", plain, plain, false},
		{"Content-Encoding: gzip\r\n", zipped, plain, true},
		{"Content-Encoding: identity, gzip\r\n", zipped, plain, true},
		{"Content-Encoding: identity\r\nContent-Encoding: gzip\r\n", zipped, plain, true},
		{"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", twice, plain, true},
		{"Content-Encoding: gzip\r\nContent-Encoding: br\r\n", zipped, zipped, false},
		{"Content-Encoding: br\r\nContent-Encoding: gzip\r\n", zipped, zipped, false},
	} {
		url := clientRawServer(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n"+tt.fields+"Content-Length: "+strconv.Itoa(len(tt.body))+"\r\n\r\n"+tt.body)
			clientReadHead(c)
		})
		// A limit on what is decoded is none on what is not coded.
		c := clientOf(t, &Client{MaxDecodedBytes: int64(len(plain)), MaxBufferedBytes: 1 << 10})
		resp, err := c.Get(clientContext(t), url)
		if err != nil {
			t.Errorf("%q: %v", tt.fields, err)
			continue
		}
		length := int64(len(tt.body))
		if tt.decoded {
			length = -1
		}
		if resp.Decoded != tt.decoded || resp.ContentLength != length || (resp.Header.Get("Content-Length") == "") != tt.decoded {
			t.Errorf("%q: decoded %v, length %d", tt.fields, resp.Decoded, resp.ContentLength)
		}
		if got, err := resp.Text(); err != nil || got != tt.want {
			t.Errorf("%q: %q, %v", tt.fields, got, err)
		}
	}
	long := strings.Repeat("x", 1000)
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\n\r\n"+long)
	})
	c := clientOf(t, &Client{MaxDecodedBytes: 10})
	if got, err := clientFetch(t, c, url); err != nil || got != long {
		t.Errorf("%d bytes, %v: the bound of what is decoded is not for what is not", len(got), err)
	}
}

// A reverse proxy passes an upgrade on through the client.
func TestTransportUpgrade(t *testing.T) {
	backend := clientAccept(t, func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil || req.Header.Get("Upgrade") != "echo" {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(c, c)
	})
	to, _ := url.Parse(backend)
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.Transport = clientOf(t, &Client{}).Transport()
	front := httptest.NewServer(proxy)
	defer front.Close()
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Connection") != "Upgrade" || resp.Close {
		t.Fatalf("%+v, %v", resp, err)
	}
	io.WriteString(conn, "ping")
	p := make([]byte, 4)
	if _, err := io.ReadFull(in, p); err != nil || string(p) != "ping" {
		t.Errorf("%q, %v", p, err)
	}
}

// A folded value reaches the user as one, in the head and in the trailer.
func TestClientFold(t *testing.T) {
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Long: a,\r\n  b\r\nTransfer-Encoding:\r\n chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 4\r\n\t2\r\n\r\n")
		clientReadHead(c)
	})
	resp, err := clientOf(t, &Client{}).Get(clientContext(t), url)
	clientWantText(t, resp, err, 200, "ok")
	long, sum := strings.Fields(resp.Header.Get("X-Long")), strings.Fields(resp.Trailer().Get("X-Sum"))
	if strings.Join(long, " ") != "a, b" || strings.Join(sum, " ") != "4 2" {
		t.Errorf("%q, %q", long, sum)
	}
}
