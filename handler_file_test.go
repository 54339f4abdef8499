package flare

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSendFileAnswers(t *testing.T) {
	dir := t.TempDir()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	name := filepath.Join(dir, "page.html")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	url := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		switch r.Path() {
		case "/dir":
			return w.SendFile(dir)
		case "/none":
			return w.SendFile(filepath.Join(dir, "none"))
		case "/empty":
			return w.SendFile(empty)
		case "/wrapped":
			w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser { return next })
		}
		return w.SendFile(name)
	})})
	for _, test := range []struct {
		path, method, field, value string
		status                     int
		body                       []byte
	}{
		{"/", "GET", "", "", 200, content},
		{"/wrapped", "GET", "", "", 200, content},
		{"/", "HEAD", "", "", 200, nil},
		{"/", "GET", "Range", "bytes=0-0", 206, content[:1]},
		{"/", "GET", "Range", "bytes=16-", 206, content[16:]},
		{"/", "GET", "Range", "bytes=-5", 206, content[len(content)-5:]},
		{"/", "GET", "Range", "bytes=5-99999999", 206, content[5:]},
		{"/", "GET", "Range", "bytes=99999999-", 416, []byte("Requested Range Not Satisfiable\n")},
		{"/", "GET", "Range", "bytes=-0", 416, []byte("Requested Range Not Satisfiable\n")},
		{"/", "GET", "Range", "bytes=1-2,4-5,x", 200, content},
		{"/", "GET", "Range", "bytes=5-1", 200, content},
		{"/", "GET", "Range", "lines=1-2", 200, content},
		{"/", "GET", "If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 304, nil},
		{"/", "POST", "If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 200, content},
		{"/", "POST", "Range", "bytes=0-0", 200, content},
		{"/", "HEAD", "Range", "bytes=0-0", 200, nil},
		{"/", "GET", "If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT", 200, content},
		{"/empty", "GET", "", "", 200, nil},
		{"/none", "GET", "", "", 404, []byte("Not Found\n")},
		{"/dir", "GET", "", "", 404, []byte("Not Found\n")},
	} {
		req, err := http.NewRequest(test.method, url+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.field != "" {
			req.Header.Set(test.field, test.value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != test.status || !bytes.Equal(body, test.body) {
			t.Errorf("%s %s, %s: %s: status %d, %d bytes, %v", test.method, test.path, test.field, test.value, resp.StatusCode, len(body), err)
		}
		if test.status == 200 && resp.ContentLength != int64(len(content)) && test.path != "/empty" && test.path != "/wrapped" {
			t.Errorf("%s %s: Content-Length %d", test.method, test.path, resp.ContentLength)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestInformationalComesFirst(t *testing.T) {
	addr := startServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		var hints Header
		hints.Add("Link", "</style.css>; rel=preload")
		if err := w.Informational(103, &hints); err != nil {
			return err
		}
		return w.Text(200, "page")
	})})
	c := dialRaw(t, addr)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if a := c.answer("GET"); a.StatusCode != 103 || a.Header.Get("Link") == "" || a.Header.Get("Date") != "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
	if a := c.answer("GET"); a.StatusCode != 200 || a.body != "page" {
		t.Errorf("%d %q", a.StatusCode, a.body)
	}
	c.send("GET / HTTP/1.0\r\n\r\n")
	if a := c.answer("GET"); a.StatusCode != 200 {
		t.Errorf("to HTTP/1.0: %d", a.StatusCode)
	}
}

func TestEventStream(t *testing.T) {
	refused := make(chan error, 1)
	addr := startServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		s, err := w.EventStream()
		if err != nil {
			return err
		}
		s.Comment("hello")
		s.Send(ServerSentEvent{ID: "7", Type: "tick", Data: "one\r\ntwo\rthree\nfour", Retry: time.Second})
		refused <- s.Send(ServerSentEvent{ID: "7\ndata: injected"})
		return nil
	})})
	c := dialRaw(t, addr)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	a := c.answer("GET")
	const want = ": hello\n\nid: 7\nevent: tick\nretry: 1000\ndata: one\ndata: two\ndata: three\ndata: four\n\n"
	if a.body != want || a.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%q", a.body)
	}
	if <-refused == nil {
		t.Error("a line break in an ID was taken")
	}
}

func TestDeadlinesOfARequest(t *testing.T) {
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/read" {
			w.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := r.Bytes()
			return err
		}
		w.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := io.Copy(w, neverEnding{})
		return err
	})}
	addr := startServer(t, s)
	c := dialRaw(t, addr)
	c.send("POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	if a := c.answer("POST"); a.StatusCode != 408 || !a.Close {
		t.Errorf("read: %d, close %v", a.StatusCode, a.Close)
	}
	c.Close()
	gone(t, s)
	c = dialRaw(t, addr)
	c.send("GET /write HTTP/1.1\r\nHost: x\r\n\r\n")
	eventually(t, "the connection", func() bool { return s.Stats().Accepted == 2 })
	gone(t, s) // nothing is read until the server has given up on this client
	_, err := io.Copy(io.Discard, c.br)
	c.cut(err)
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

func TestFullDuplex(t *testing.T) {
	for name, wrap := range map[string]Middleware{"inline": Inline, "offload": Offload} {
		t.Run(name, func(t *testing.T) {
			addr := startServer(t, &Server{Loops: 1, Handler: wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error {
				lines := make(chan string)
				go func() {
					defer close(lines)
					for s := bufio.NewScanner(r.Body()); s.Scan(); {
						lines <- s.Text()
					}
				}()
				if err := w.Flush(); err != nil {
					return err
				}
				for line := range lines {
					io.WriteString(w, strings.ToUpper(line)+"\n")
					if err := w.Flush(); err != nil {
						return err
					}
				}
				return nil
			}))})
			pr, pw := io.Pipe()
			req, err := http.NewRequest("POST", "http://"+addr+"/", pr)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			br := bufio.NewReader(resp.Body)
			for _, line := range []string{"one", "two", "three"} {
				io.WriteString(pw, line+"\n")
				if got, err := br.ReadString('\n'); got != strings.ToUpper(line)+"\n" {
					t.Fatalf("%q, %v", got, err)
				}
			}
			pw.Close()
			if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
				t.Errorf("%q, %v", rest, err)
			}
		})
	}
}
