package flare

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// This file has what RFC 9110 and 9112 ask for, word for word, where no other test
// shows it. CONFORMANCE.md names the test of each such sentence, and
// conformance_paper_test.go holds that to what is there.

// mustServer has a handler for each kind of content, all of it changed at modified.
func mustServer(t *testing.T, modified time.Time) *Server {
	name := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(name, []byte(rangeContent), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, modified, modified); err != nil {
		t.Fatal(err)
	}
	mux := NewMux()
	for path, serve := range map[string]func(w *ResponseWriter, r *Request) error{
		"/file": func(w *ResponseWriter, r *Request) error { return w.SendFile(name) },
		"/content": func(w *ResponseWriter, r *Request) error {
			return w.ServeContent("a.txt", modified, strings.NewReader(rangeContent))
		},
		"/made": func(w *ResponseWriter, r *Request) error {
			if ok, err := w.Precondition(`"a"`, modified); !ok {
				return err
			}
			return w.Text(200, rangeContent)
		},
	} {
		mux.Get(path, func(w *ResponseWriter, r *Request) error {
			w.Header().Set("ETag", `"a"`)
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("Content-Location", "/a.txt")
			w.Header().Set("Expires", "0")
			w.Header().Set("Vary", "Accept")
			return serve(w, r)
		})
	}
	mux.Mount("/folder", filesOf(t, &Files{Dir: filepath.Dir(name)}))
	mux.Get("/205", func(w *ResponseWriter, r *Request) error { w.WriteHeader(205); return nil })
	mux.Get("/205/declared", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Length", "7")
		w.WriteHeader(205)
		return nil
	})
	mux.Get("/205/written", func(w *ResponseWriter, r *Request) error {
		w.WriteHeader(205)
		if _, err := w.WriteString("content"); !errors.Is(err, http.ErrBodyNotAllowed) {
			t.Errorf("content behind 205: %v", err)
		}
		return nil
	})
	mux.Get("/299", func(w *ResponseWriter, r *Request) error { w.WriteHeader(299); return nil })
	return &Server{Handler: mux, Logger: quietLogger()}
}

// What a server has to do and only it can be asked for.
func TestServerMusts(t *testing.T) {
	t.Parallel()
	addr := startServer(t, mustServer(t, conditionTime))
	ask := func(t *testing.T, addr, line string, fields ...string) answer {
		t.Helper()
		c := dialRaw(t, addr)
		defer c.Close()
		c.send(head(line+" HTTP/1.1", fields...))
		method, _, _ := strings.Cut(line, " ")
		return c.answer(method)
	}
	t.Run("a date has any of three forms", func(t *testing.T) { // RFC 9110 §5.6.7
		for date, code := range map[string]int{
			"Thu, 02 Jan 2020 03:04:05 GMT": 304, "Thursday, 02-Jan-20 03:04:05 GMT": 304, "Thu Jan  2 03:04:05 2020": 304,
			"Sunday, 06-Nov-94 08:49:37 GMT": 200, // of 1994: 2094 would be more than 50 years ahead
			"Sun Nov  6 08:49:37 1994":       200, "Sunday, 06-Nov-70 08:49:37 GMT": 200,
		} {
			if a := ask(t, addr, "GET /file", "If-Modified-Since: "+date); a.StatusCode != code {
				t.Errorf("%s: %d, want %d", date, a.StatusCode, code)
			}
		}
	})
	t.Run("nothing was changed in the future", func(t *testing.T) { // RFC 9110 §8.8.2.1
		addr := startServer(t, mustServer(t, time.Now().Add(48*time.Hour)))
		for _, path := range []string{"/file", "/content", "/made", "/folder/a.txt"} {
			a := ask(t, addr, "GET "+path)
			modified, err := http.ParseTime(a.Header.Get("Last-Modified"))
			date, dateErr := http.ParseTime(a.Header.Get("Date"))
			if err != nil || dateErr != nil || modified.After(date) {
				t.Errorf("%s: changed at %s, sent at %s", path, a.Header.Get("Last-Modified"), a.Header.Get("Date"))
			}
		}
	})
	t.Run("205 has no content and an end", func(t *testing.T) { // RFC 9110 §15.3.6
		c := dialRaw(t, addr)
		for _, path := range []string{"/205", "/205/declared", "/205/written"} {
			c.send(request(path))
			if a := c.answer("GET"); a.StatusCode != 205 || a.body != "" || a.ContentLength != 0 {
				t.Errorf("%s: %d with %d octets, %q", path, a.StatusCode, a.ContentLength, a.body)
			}
		}
	})
	t.Run("a status without a phrase has its space", func(t *testing.T) { // RFC 9112 §4
		c := dialRaw(t, addr)
		c.send(request("/299"))
		if line, err := c.br.ReadString('\n'); line != "HTTP/1.1 299 \r\n" {
			t.Errorf("%q, %v", line, err)
		}
	})
	t.Run("HEAD has the fields of GET", func(t *testing.T) { // RFC 9110 §8.6, §9.3.2
		for _, path := range []string{"/file", "/content", "/made", "/folder/a.txt", "/none"} {
			full, bare := ask(t, addr, "GET "+path), ask(t, addr, "HEAD "+path)
			full.Header.Del("Date")
			bare.Header.Del("Date")
			if bare.body != "" || bare.ContentLength != full.ContentLength || fmt.Sprint(bare.Header) != fmt.Sprint(full.Header) {
				t.Errorf("%s: %d %v\nGET: %d %v", path, bare.ContentLength, bare.Header, full.ContentLength, full.Header)
			}
		}
	})
	t.Run("304 and 206 have the fields of 200", func(t *testing.T) { // RFC 9110 §15.3.7, §15.4.5
		for _, path := range []string{"/file", "/content", "/made"} {
			all := ask(t, addr, "GET "+path)
			for _, field := range []string{`If-None-Match: "a"`, "Range: bytes=1-2", "Range: bytes=1-2, 4-5"} {
				a := ask(t, addr, "GET "+path, field)
				for _, name := range []string{"Date", "Cache-Control", "Etag", "Expires", "Content-Location", "Vary"} {
					if a.Header.Get(name) == "" || name != "Date" && a.Header.Get(name) != all.Header.Get(name) {
						t.Errorf("%s, %s: %d without %s: %v", path, field, a.StatusCode, name, a.Header)
					}
				}
				if want := map[bool]int{true: 304, false: 206}[strings.HasPrefix(field, "If")]; a.StatusCode != want && path != "/made" {
					t.Errorf("%s, %s: %d", path, field, a.StatusCode)
				}
				if a.StatusCode == 304 && (a.body != "" || a.Header.Get("Content-Length") != "") {
					t.Errorf("%s: 304 with %q", path, a.body)
				}
			}
		}
	})
	t.Run("each of several parts says what it is", func(t *testing.T) { // RFC 9110 §14.6, §15.3.7.2
		a := ask(t, addr, "GET /file", "Range: bytes=1-2, 4-5")
		kind, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/byteranges" || a.Header.Get("Content-Range") != "" {
			t.Fatalf("%v, %v", a.Header, err)
		}
		if lf := strings.Count(a.body, "\n"); lf == 0 || strings.Count(a.body, "\r\n") != lf {
			t.Errorf("lines end without CR: %q", a.body)
		}
		parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
		for _, want := range []string{"bytes 1-2/20 12", "bytes 4-5/20 45"} {
			part, err := parts.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(part)
			if got := part.Header.Get("Content-Range") + " " + string(text); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		one := ask(t, addr, "GET /file", "Range: bytes=1-2")
		if one.Header.Get("Content-Range") != "bytes 1-2/20" || strings.HasPrefix(one.Header.Get("Content-Type"), "multipart") {
			t.Errorf("a single range: %v", one.Header)
		}
	})
	t.Run("what has no meaning is ignored", func(t *testing.T) {
		for _, row := range []struct {
			line, field string
			code        int
		}{
			{"GET /file", "Content-Range: bytes 0-1/5", 200},             // RFC 9110 §14.4
			{"GET /file", `If-Range: "b"`, 200},                          // §13.1.5: without Range
			{"GET /made", "Range: bytes=1-2\r\nIf-Range: \"a\"", 200},    // no ranges of it
			{"GET /none", `If-Match: "b"`, 404},                          // §13.2.1
			{"POST /file", `If-Match: "b"`, 405},                         // the same
			{"GET /file", "Upgrade: h2c, x\r\nConnection: Upgrade", 200}, // §7.8
			{"GET /file", "X-Unknown: y", 200},                           // §5.1
		} {
			if a := ask(t, addr, row.line, row.field); a.StatusCode != row.code {
				t.Errorf("%s, %s: %d, want %d", row.line, row.field, a.StatusCode, row.code)
			}
		}
		c := dialRaw(t, addr)
		c.send(head("GET /file HTTP/1.0", "Upgrade: websocket", "Connection: Upgrade"))
		c.answer("GET").want(t, 200, rangeContent)
	})
	t.Run("empty members of a list are none", func(t *testing.T) { // RFC 9110 §5.6.1.2
		for _, field := range []string{"Connection: ,, \t,close,", `If-None-Match: ,"b", ,"a",`, "Range: bytes=,1-2,,"} {
			a := ask(t, addr, "GET /file", field)
			if !a.Close && a.StatusCode == 200 {
				t.Errorf("%s: %d", field, a.StatusCode)
			}
		}
	})
	t.Run("100 goes before 101", func(t *testing.T) { // RFC 9110 §7.8
		for _, h := range []Handler{wsEcho(WebSocketOptions{}), wsEchoBlocking(WebSocketOptions{})} {
			c := dialRaw(t, startServer(t, &Server{Handler: h, Logger: quietLogger()}))
			c.send(wsTestHandshake, "Expect: 100-continue\r\n\r\n")
			for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n", "HTTP/1.1 101 Switching Protocols\r\n"} {
				if line, err := c.br.ReadString('\n'); line != want {
					t.Errorf("%q, want %q, %v", line, want, err)
				}
			}
		}
	})
	t.Run("a connection is nobody's", func(t *testing.T) { // RFC 9110 §3.3
		h := RequireBasic("r", BasicUsers(map[string]string{"Aladdin": "open sesame"}))(textHandler("in"))
		c := dialRaw(t, startServer(t, &Server{Handler: h, Logger: quietLogger()}))
		for range 2 {
			c.send(request("/", "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="))
			c.answer("GET").want(t, 200, "in")
			if a := c.get("/"); a.StatusCode != 401 {
				t.Errorf("the next request, without credentials: %d", a.StatusCode)
			}
		}
	})
	t.Run("405 says what is allowed", func(t *testing.T) { // RFC 9110 §10.2.1, §15.5.6
		if a := ask(t, addr, "DELETE /file"); a.StatusCode != 405 || a.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%d %v", a.StatusCode, a.Header)
		}
	})
}

// mustSend returns what c sends of r to a server that answers with 200, without what it
// says of itself.
func mustSend(t *testing.T, c *Client, r *ClientRequest) string {
	t.Helper()
	sent := make(chan string, 1)
	base := clientAccept(t, func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			sent <- err.Error()
			return
		}
		var b strings.Builder
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(&b, "%s %s %s", req.Method, req.RequestURI, req.Host)
		for _, name := range []string{"Te", "Upgrade", "Connection", "Expect", "Content-Type", "Cookie", "Authorization"} {
			for _, value := range req.Header.Values(name) {
				fmt.Fprintf(&b, "|%s: %s", name, value)
			}
		}
		fmt.Fprintf(&b, "|%s", body)
		sent <- b.String()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	host := strings.TrimPrefix(base, "http://")
	r.URL = strings.Replace(r.URL, "HOST", host, 1)
	resp, err := c.Do(soon(t), r)
	if err != nil {
		if !errors.Is(err, ErrInvalidRequest) {
			t.Error(err)
		}
		return "refused"
	}
	resp.Body.Close()
	return strings.Replace(<-sent, host, "HOST", 1)
}

// What a client has to do and only it can be asked for.
func TestClientMusts(t *testing.T) {
	t.Parallel()
	fields := func(list ...string) (h Header) {
		for _, line := range list {
			name, value, _ := strings.Cut(line, ": ")
			h.Add(name, value)
		}
		return h
	}
	jar := new(Jar)
	full := &Client{Auth: BasicAuth("u", "p"), Jar: jar}
	jar.Set(&url.URL{Scheme: "http", Host: "127.0.0.1", Path: "/"}, &Cookie{Name: "a", Value: "b"})
	for _, row := range []struct {
		name string
		c    *Client
		r    *ClientRequest
		want string
	}{
		{"TE is an option of the connection", new(Client), &ClientRequest{Header: fields("TE: trailers")}, "GET / HOST|Te: trailers|Connection: TE|"},
		{"and is not said twice", new(Client), &ClientRequest{Header: fields("TE: trailers", "Connection: te, close")}, "GET / HOST|Te: trailers|Connection: te, close|"},
		{"so is Upgrade", new(Client), &ClientRequest{Header: fields("Upgrade: x", "Connection: y")}, "GET / HOST|Upgrade: x|Connection: y|Connection: Upgrade|"},
		{"TRACE has no content", new(Client), &ClientRequest{Method: "TRACE", Body: strings.NewReader("x")}, "refused"},
		{"nor secrets of the client", full, &ClientRequest{Method: "TRACE"}, "TRACE / HOST|"},
		{"which others have", full, &ClientRequest{}, "GET / HOST|Cookie: a=b|Authorization: Basic dTpw|"},
		{"OPTIONS with content says a type", new(Client), &ClientRequest{Method: "OPTIONS", Body: strings.NewReader("x")}, "OPTIONS / HOST|Content-Type: application/octet-stream|x"},
		{"that of the caller, if there is one", new(Client), &ClientRequest{Method: "OPTIONS", Body: strings.NewReader("x"), Header: fields("Content-Type: a/b")}, "OPTIONS / HOST|Content-Type: a/b|x"},
		{"and without content none", new(Client), &ClientRequest{Method: "OPTIONS"}, "OPTIONS / HOST|"},
		{"OPTIONS without a path is for the server", new(Client), &ClientRequest{Method: "OPTIONS", URL: "http://u@HOST#f"}, "OPTIONS * HOST|Authorization: Basic dTo=|"},
		{"with a query it is not", new(Client), &ClientRequest{Method: "OPTIONS", URL: "http://HOST?"}, "OPTIONS /? HOST|"},
		{"no content is not expected", new(Client), &ClientRequest{Header: fields("Expect: 100-continue")}, "GET / HOST|"},
		{"userinfo and fragment stay here", new(Client), &ClientRequest{URL: "http://u:p@HOST#f"}, "GET / HOST|Authorization: Basic dTpw|"},
		{"a target has its query", new(Client), &ClientRequest{URL: "http://HOST?q"}, "GET /?q HOST|"},
		{"no method of several words", new(Client), &ClientRequest{Method: "A B"}, "refused"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.r.URL == "" {
				row.r.URL = "http://HOST/"
			}
			if got := mustSend(t, row.c, row.r); got != row.want {
				t.Errorf("%q\nwant %q", got, row.want)
			}
			row.c.CloseIdleConnections()
		})
	}
	t.Run("a tunnel begins behind the head", func(t *testing.T) { // RFC 9110 §9.3.6, RFC 9112 §6.3
		c := new(Client)
		c.prepare()
		for _, fields := range []string{"", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"} {
			raw := &cannedConn{in: strings.NewReader("HTTP/1.1 200 OK\r\n" + fields + "\r\n")}
			conn := newClientConn(raw, clientRoute{proxy: new(clientProxy)}, "origin.test:443")
			if err := c.tunnel(conn, time.Time{}); err != nil || !bytes.HasPrefix(raw.out.Bytes(), []byte("CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n")) {
				t.Errorf("%q: %v, sent %q", fields, err, raw.out.String())
			}
		}
	})
	t.Run("what is broken, or says close, leaves no connection", func(t *testing.T) { // RFC 9112 §6.1, §6.3, §9.3, §9.6
		for fields, whole := range map[string]bool{
			"Content-Length: 2\r\nConnection: x, close": true, "Content-Length: 2, 3": false, "Content-Length: 2\r\nContent-Length: 3": false,
			"Content-Length: 2x": false, "Content-Length: 2\r\nTransfer-Encoding: chunked": false, "Transfer-Encoding: chunked": false,
		} {
			base := clientRawServer(t, func(conn net.Conn) {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+fields+"\r\n\r\nok")
				clientReadHead(conn)
			})
			c := new(Client)
			resp, err := c.Get(soon(t), base)
			if err == nil {
				_, err = resp.Bytes()
			}
			if whole && err != nil || !whole && !errors.Is(err, ErrMalformed) {
				t.Errorf("%q: %v", fields, err)
			}
			if c.pool.total != 0 {
				t.Errorf("%q: its connection rests", fields)
			}
			c.CloseIdleConnections()
		}
	})
	t.Run("a request has nothing that was not asked for", func(t *testing.T) { // RFC 9112 §2.2; no Accept-Language, no Referer
		for body, want := range map[string]string{
			"":  "GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: flare\r\nAccept-Encoding: gzip, deflate\r\n\r\n",
			"x": "POST / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: flare\r\nAccept-Encoding: gzip, deflate\r\nContent-Length: 1\r\n\r\nx",
		} {
			raw := &cannedConn{in: strings.NewReader("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")}
			c := &Client{Dial: func(context.Context, string, string) (net.Conn, error) { return raw, nil }}
			r := &ClientRequest{Method: want[:strings.Index(want, " ")], URL: "http://a.test"}
			if body != "" {
				r.SetBody([]byte(body))
			}
			if resp, err := c.Do(soon(t), r); err != nil || resp.StatusCode != 200 {
				t.Error(err)
			}
			if got := raw.out.String(); got != want {
				t.Errorf("%q\nwant %q", got, want)
			}
		}
	})
	t.Run("a status that is not known is of its class", func(t *testing.T) { // RFC 9110 §15
		c := new(Client)
		defer c.CloseIdleConnections()
		for status, ok := range map[string]bool{"299": true, "499": false, "599": false} {
			base := clientRawServer(t, func(conn net.Conn) {
				io.WriteString(conn, "HTTP/1.1 "+status+" x\r\nContent-Length: 0\r\n\r\n")
			})
			resp, err := c.Get(context.Background(), base)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.OK() != ok || (resp.Err() == nil) != ok {
				t.Errorf("%s: %t, %v", status, resp.OK(), resp.Err())
			}
		}
	})
}
