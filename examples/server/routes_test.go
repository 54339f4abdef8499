package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"flare"
)

// repeated is a text of n bytes as /bytes and /stream send them.
func repeated(n int) string {
	return strings.Repeat("0123456789abcdef", n/16+1)[:n]
}

func (p *program) stats() flare.Stats {
	p.Helper()
	resp, text := p.ask("GET", "/stats", nil)
	var s flare.Stats
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil || resp.Header.Get("Content-Type") != "application/json" {
		p.Fatalf("stats: %v, %s: %q", err, resp.Header.Get("Content-Type"), text)
	}
	return s
}

func TestRoutes(t *testing.T) {
	const (
		plain  = "text/plain"
		text   = "text/plain; charset=utf-8"
		html   = "text/html; charset=utf-8"
		octets = "application/octet-stream"
		js     = "application/json"
	)
	index := strings.NewReplacer("{{.HTTP}}", "HTTP/1.1", "{{with .TLS}} over <strong>{{.}}</strong>{{end}}", "").Replace(pageText)
	bare := "Internal Server Error\n"
	p := start(t)
	for _, test := range []struct {
		method, target, body string
		status               int
		kind                 string // Content-Type
		want                 string
	}{
		{"GET", "/", "", 200, html, index},
		{"GET", "/plaintext", "", 200, plain, "Hello, World!"},
		{"GET", "/plaintext?a=b", "", 200, plain, "Hello, World!"},
		{"GET", "/json", "", 200, js, `{"message":"Hello, World!"}`},
		{"POST", "/echo", "hi", 200, "text/x-hi", "hi"},
		{"PUT", "/echo", repeated(1 << 20), 200, "text/x-hi", repeated(1 << 20)},
		{"GET", "/echo", "", 200, "text/x-hi", ""},
		{"DELETE", "/echo", "bye", 200, "text/x-hi", "bye"},
		{"GET", "/status/200", "", 200, text, "200 OK\n"},
		{"GET", "/status/404", "", 404, text, "404 Not Found\n"},
		{"POST", "/status/418", "", 418, text, "418 I'm a teapot\n"},
		{"GET", "/status/503", "", 503, text, "503 Service Unavailable\n"},
		{"GET", "/status/599", "", 599, text, "599 \n"},
		{"GET", "/status/204", "", 204, "", ""},
		{"GET", "/status/304", "", 304, "", ""},
		{"GET", "/status/199", "", 400, text, "the code must be from 200 to 599\n"},
		{"GET", "/status/600", "", 400, text, "the code must be from 200 to 599\n"},
		{"GET", "/status/x", "", 400, text, "the code must be from 200 to 599\n"},
		{"GET", "/bytes", "", 200, octets, repeated(1024)},
		{"GET", "/bytes?n=0", "", 200, octets, ""},
		{"GET", "/bytes?n=1", "", 200, octets, "0"},
		{"GET", "/bytes?n=1000000", "", 200, octets, repeated(1000000)},
		{"GET", "/bytes?n=-1", "", 400, text, "n must be a number from 0 to 1099511627776\n"},
		{"GET", "/bytes?n=1099511627777", "", 400, text, "n must be a number from 0 to 1099511627776\n"},
		{"GET", "/bytes?n=99999999999999999999", "", 400, text, "n must be a number from 0 to 1099511627776\n"},
		{"GET", "/bytes?n=x", "", 400, text, "n must be a number from 0 to 1099511627776\n"},
		{"GET", "/stream?n=3&ms=1&size=5", "", 200, octets, "012340123401234"},
		{"GET", "/stream?n=0", "", 200, octets, ""},
		{"GET", "/stream?n=-1", "", 400, text, "n must be a number from 0 to 1048576\n"},
		{"GET", "/stream?ms=x", "", 400, text, "ms must be a number from 0 to 60000\n"},
		{"GET", "/stream?size=0", "", 400, text, "size must be a number from 1 to 16384\n"},
		{"GET", "/slow?ms=10", "", 200, text, "slept 10 ms\n"},
		{"GET", "/slow?ms=60001", "", 400, text, "ms must be a number from 0 to 60000\n"},
		{"GET", "/spin?ms=5", "", 200, text, "spun 5 ms\n"},
		{"GET", "/spin?ms=", "", 200, text, "spun 100 ms\n"},
		{"GET", "/spin?ms=1e3", "", 400, text, "ms must be a number from 0 to 10000\n"},
		{"GET", "/panic", "", 500, text, bare},
		{"GET", "/error", "", 500, text, bare},
		{"GET", "/nonsense", "", 404, text, "Not Found\n"},
		{"GET", "/plaintext/", "", 404, text, "Not Found\n"},
		{"POST", "/plaintext", "", 405, text, "Method Not Allowed\n"},
	} {
		t.Run(test.method+" "+test.target, func(t *testing.T) {
			p.T = t
			req, err := http.NewRequest(test.method, p.url+test.target, strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "text/x-hi")
			begin := time.Now()
			resp, err := p.client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status || strings.TrimSuffix(string(got), "\n") != strings.TrimSuffix(test.want, "\n") {
				t.Errorf("%d %.200q; want %d %.200q", resp.StatusCode, got, test.status, test.want)
			}
			if kind := resp.Header.Get("Content-Type"); kind != test.kind {
				t.Errorf("Content-Type %q; want %q", kind, test.kind)
			}
			if date, err := http.ParseTime(resp.Header.Get("Date")); err != nil || begin.Sub(date) > 2*time.Second || date.After(time.Now()) {
				t.Errorf("Date %q at %v", resp.Header.Get("Date"), begin)
			}
			// RFC 9110 §8.6: no Content-Length in a 204.
			if length := resp.Header.Get("Content-Length"); test.status == 204 && length != "" {
				t.Errorf("a 204 has Content-Length %s", length)
			}
			if test.status == 405 && resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("Allow %q", resp.Header.Get("Allow"))
			}
		})
	}
	p.T = t
	log := p.log.String()
	for _, want := range []string{"panic", "asked for: the log has this text", "pattern=\"GET /error\""} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not have %q:\n%s", want, log)
		}
	}
}

// HEAD has the header fields of GET and no body (RFC 9110 §9.3.2).
func TestRoutesHead(t *testing.T) {
	p := start(t)
	for _, target := range []string{"/", "/plaintext", "/json", "/status/404", "/bytes?n=100000", "/slow?ms=1", "/error", "/nonsense"} {
		get, text := p.ask("GET", target, nil)
		head, body := p.ask("HEAD", target, nil)
		if head.StatusCode != get.StatusCode || body != "" {
			t.Errorf("%s: %d and %d bytes; GET has %d", target, head.StatusCode, len(body), get.StatusCode)
		}
		for _, name := range []string{"Content-Type", "Content-Length"} {
			if h, g := head.Header.Get(name), get.Header.Get(name); h != g {
				t.Errorf("%s: %s is %q, GET has %q", target, name, h, g)
			}
		}
		if get.ContentLength != int64(len(text)) {
			t.Errorf("%s: Content-Length %d and %d bytes", target, get.ContentLength, len(text))
		}
	}
}

func TestHeadersRoute(t *testing.T) {
	p := start(t)
	req, err := http.NewRequest("POST", p.url+"/headers?x=%2f", strings.NewReader("ignored"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Add("X-Twice", "one")
	req.Header.Add("X-Twice", "two")
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var seen struct {
		Method, Target, Host, RemoteAddr string
		Headers                          [][2]string
	}
	if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil {
		t.Fatal(err)
	}
	if seen.Method != "POST" || seen.Target != "/headers?x=%2f" || seen.Host != p.addr || !strings.HasPrefix(seen.RemoteAddr, "127.0.0.1:") {
		t.Errorf("seen: %+v", seen)
	}
	var twice []string
	for _, field := range seen.Headers {
		if strings.EqualFold(field[0], "X-Twice") {
			twice = append(twice, field[1])
		}
	}
	if len(twice) != 2 || twice[0] != "one" || twice[1] != "two" {
		t.Errorf("X-Twice is %q", twice)
	}
}

// A body that its handler leaves unread does not become the next request,
// however it is framed and whenever it comes.
func TestUnreadBody(t *testing.T) {
	p := start(t)
	const request = "GET /json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for _, test := range []struct{ name, post, body string }{
		{"with a length", "Content-Length: 43", "GET /smuggled HTTP/1.1\r\nHost: x\r\nX: 123\r\n\r\n"},
		{"in chunks", "Transfer-Encoding: chunked", "1a\r\nGET /smuggled HTTP/1.1\r\n\r\n\r\n0\r\n\r\n"},
	} {
		input := "POST /headers HTTP/1.1\r\nHost: x\r\n" + test.post + "\r\n\r\n" + test.body + request
		for cut := 1; cut < len(input); cut++ {
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(patience))
			io.WriteString(conn, input[:cut])
			io.WriteString(conn, input[cut:])
			answers, err := io.ReadAll(conn)
			conn.Close()
			if err != nil || strings.Count(string(answers), "HTTP/1.1 ") != 2 || strings.Count(string(answers), "HTTP/1.1 200 OK") != 2 ||
				!strings.Contains(string(answers), `{"message":"Hello, World!"}`) {
				t.Fatalf("%s, cut at %d: %v, answers %q", test.name, cut, err, answers)
			}
		}
	}
}

func TestUploadRoute(t *testing.T) {
	p := start(t, "-max-body", "200000")
	body := repeated(200_000)
	sum := sha256.Sum256([]byte(body))
	for _, test := range []struct {
		name string
		body io.Reader
	}{
		{"with a length", strings.NewReader(body)},
		{"in chunks", struct{ io.Reader }{strings.NewReader(body)}},
	} {
		resp, text := p.ask("POST", "/upload", test.body)
		var got struct {
			Bytes  int64
			SHA256 string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: %d %q: %v", test.name, resp.StatusCode, text, err)
		}
		if got.Bytes != int64(len(body)) || got.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: the server read %d bytes with sum %s", test.name, got.Bytes, got.SHA256)
		}
	}
	tooLong := body + "x"
	for _, body := range []io.Reader{strings.NewReader(tooLong), struct{ io.Reader }{strings.NewReader(tooLong)}} {
		if resp, text := p.ask("POST", "/upload", body); resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("a byte over -max-body: %d %q", resp.StatusCode, text)
		}
	}
}

// Chunks are sent when they are written, not when the handler returns.
func TestStreamRoute(t *testing.T) {
	p := start(t)
	resp, err := p.client.Get(p.url + "/stream?n=2&ms=1000&size=4")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if len(resp.TransferEncoding) != 1 || resp.TransferEncoding[0] != "chunked" {
		t.Errorf("Transfer-Encoding %q", resp.TransferEncoding)
	}
	var piece [4]byte
	if _, err := io.ReadFull(resp.Body, piece[:]); err != nil {
		t.Fatal(err)
	}
	first := time.Now()
	rest, err := io.ReadAll(resp.Body)
	if err != nil || string(rest) != "0123" {
		t.Errorf("after the first chunk: %q, %v", rest, err)
	}
	if apart := time.Since(first); apart < 100*time.Millisecond {
		t.Errorf("chunks written a second apart came %v apart", apart)
	}
}

func TestStatsRoute(t *testing.T) {
	p := start(t)
	before := p.stats()
	for range 10 {
		p.ask("GET", "/plaintext", nil)
		p.ask("GET", "/nonsense", nil)
	}
	p.await("the count of 20 requests", func(after flare.Stats) bool {
		return after.Requests-before.Requests >= 20 && after.Responses.Class2xx-before.Responses.Class2xx >= 10 &&
			after.Responses.Class4xx-before.Responses.Class4xx >= 10
	})
	after := p.stats()
	if n := after.Responses.Class4xx - before.Responses.Class4xx; n != 10 {
		t.Errorf("10 answers of 4xx counted as %d", n)
	}
	if after.Connections.Open < 1 || after.Accepted < 1 || after.BytesIn <= before.BytesIn || after.BytesOut <= before.BytesOut {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
