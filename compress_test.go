package flare

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

func compressGet(t testing.TB, h Handler, method, accept string, fields ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, "http://h/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if accept != "" {
		req.Header.Set("Accept-Encoding", accept)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := TestClient(t, &Server{Handler: h}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func TestCompress(t *testing.T) {
	text := string(codedText())
	long := strings.Repeat(text, 20) // more than a response buffer holds
	for _, c := range []struct {
		name, accept string
		fields       string // of the response, "name=value,…"
		body         string
		status       int
		coding       string // "": sent as it is
		vary         string
	}{
		{name: "gzip", accept: "gzip", coding: "gzip", vary: "Accept-Encoding"},
		{name: "deflate", accept: "gzip;q=0.5, deflate", coding: "deflate", vary: "Accept-Encoding"},
		{name: "not accepted", accept: "br", vary: "Accept-Encoding"},
		{name: "refused", accept: "gzip;q=0", vary: "Accept-Encoding"},
		{name: "not asked for", vary: "Accept-Encoding"},
		{name: "long", accept: "gzip", body: long, coding: "gzip", vary: "Accept-Encoding"},
		{name: "long, not accepted", body: long, vary: "Accept-Encoding"},
		{name: "error page", accept: "gzip", status: 404, coding: "gzip", vary: "Accept-Encoding"},
		{name: "JSON", accept: "gzip", fields: "Content-Type=application/problem+JSON; charset=utf-8", coding: "gzip", vary: "Accept-Encoding"},
		{name: "with length", accept: "gzip", fields: "Content-Length=" + strconv.Itoa(len(text)), coding: "gzip", vary: "Accept-Encoding"},
		{name: "other Vary", accept: "gzip", fields: "Vary=Cookie", coding: "gzip", vary: "Cookie, Accept-Encoding"},
		{name: "Vary is there", accept: "gzip", fields: "Vary=cookie; accept-encoding", coding: "gzip", vary: "cookie; accept-encoding, Accept-Encoding"},
		{name: "Vary is there, in a list", accept: "gzip", fields: "Vary=accept-encoding", coding: "gzip", vary: "accept-encoding"},
		{name: "just large enough", accept: "gzip", body: text[:1024], coding: "gzip", vary: "Accept-Encoding"},

		{name: "tiny", accept: "gzip", body: text[:1023]},
		{name: "empty", accept: "gzip", body: "-"},
		{name: "coded already", accept: "gzip", fields: "Content-Encoding=br"},
		{name: "image", accept: "gzip", fields: "Content-Type=image/png"},
		{name: "no type", accept: "gzip", fields: "Content-Type="},
		{name: "range", accept: "gzip", fields: "Content-Range=bytes 0-9/99"},
		{name: "partial content", accept: "gzip", status: 206},
		{name: "digest", accept: "gzip", fields: "Content-Digest=sha-256=:eA==:"},
		{name: "no-transform", accept: "gzip", fields: "Cache-Control=max-age=1; no-transform,Cache-Control=no-transform"},
	} {
		h := Compress(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Type", "text/plain")
			for f := range strings.SplitSeq(c.fields, ",") {
				if name, value, _ := strings.Cut(f, "="); name != "" {
					w.Header().Set(name, value)
				}
			}
			w.Header().Set("ETag", `"x"`)
			w.Header().Set("Accept-Ranges", "bytes")
			if c.status != 0 {
				w.WriteHeader(c.status)
			}
			_, err := io.WriteString(w, strings.TrimPrefix(c.body, "-"))
			return err
		}))
		if c.body == "" {
			c.body = text
		}
		resp, body := compressGet(t, h, "GET", c.accept)
		want := strings.TrimPrefix(c.body, "-")
		if got := strings.Join(resp.Header["Vary"], ", "); got != c.vary {
			t.Errorf("%s: Vary %q, want %q", c.name, got, c.vary)
		}
		if c.coding == "" {
			if string(body) != want || resp.Header.Get("ETag") != `"x"` || resp.Header.Get("Accept-Ranges") == "" {
				t.Errorf("%s: changed: %d bytes, %v", c.name, len(body), resp.Header)
			}
			continue
		}
		got, err := decoded(body, c.coding, DecodeLimits{MaxRatio: -1})
		if err != nil || string(got) != want || len(body) > len(want)/2 {
			t.Errorf("%s: %d bytes of %d, %v", c.name, len(got), len(body), err)
		}
		if resp.Header.Get("Content-Encoding") != c.coding || resp.Header.Get("ETag") != `W/"x"` || resp.Header.Get("Accept-Ranges") != "" ||
			resp.ContentLength >= 0 && int(resp.ContentLength) != len(body) {
			t.Errorf("%s: %v", c.name, resp.Header)
		}
	}
}

func TestCompressor(t *testing.T) {
	c := &Compressor{MinBytes: -1, Level: 9, Types: func(kind string) bool { return kind == "image/png" }}
	h := func(kind, body string) Handler {
		return c.Wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Blob(200, kind, []byte(body)) }))
	}
	if resp, body := compressGet(t, h("Image/PNG; x=y", "x"), "GET", "gzip"); resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%v %q", resp.Header, body)
	}
	if resp, _ := compressGet(t, h("text/plain", strings.Repeat("x", 9999)), "GET", "gzip"); resp.Header.Get("Content-Encoding") != "" {
		t.Error(resp.Header)
	}
}

// TestCompressHead: the answer to HEAD has the fields of the answer to GET.
func TestCompressHead(t *testing.T) {
	text := codedText()
	for name, h := range map[string]HandlerFunc{
		"writes the body": func(w *ResponseWriter, r *Request) error { return w.Blob(200, "text/plain", text) },
		"declares it": func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", strconv.Itoa(len(text)))
			if r.Method() == "HEAD" {
				w.Header().Set("Content-Type", "text/plain")
				return nil
			}
			return w.Blob(200, "text/plain", text)
		},
	} {
		got, _ := compressGet(t, Compress(h), "HEAD", "gzip")
		want, _ := compressGet(t, Compress(h), "GET", "gzip")
		for _, field := range []string{"Content-Encoding", "Vary", "Content-Type"} {
			if got.Header.Get(field) != want.Header.Get(field) || want.Header.Get(field) == "" {
				t.Errorf("%s: %s: %q, of GET %q", name, field, got.Header.Get(field), want.Header.Get(field))
			}
		}
		if l := got.Header.Get("Content-Length"); l != "" && l != want.Header.Get("Content-Length") {
			t.Errorf("%s: Content-Length %s, of GET %s", name, l, want.Header.Get("Content-Length"))
		}
	}
}

func TestCompressNotModified(t *testing.T) {
	h := Compress(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("ETag", `"x"`)
		w.WriteHeader(304)
		return nil
	}))
	for condition, want := range map[string]string{`W/"x"`: `W/"x"`, `"y", W/"x"`: `W/"x"`, `"x"`: `"x"`, "": `"x"`} {
		resp, _ := compressGet(t, h, "GET", "gzip", "If-None-Match", condition)
		if got := resp.Header.Get("ETag"); got != want || resp.StatusCode != 304 || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("If-None-Match: %s: %d %v", condition, resp.StatusCode, resp.Header)
		}
	}
}

// TestCompressStream: what the handler flushes can be read while it waits.
func TestCompressStream(t *testing.T) {
	for _, coding := range []string{"gzip", "deflate"} {
		next := make(chan string, 1)
		h := Compress(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Type", "text/event-stream")
			for s := range next {
				w.WriteString(s)
				if err := w.Flush(); err != nil {
					return err
				}
			}
			return nil
		}))
		c := dialRaw(t, strings.TrimPrefix(TestServer(t, &Server{Handler: h}), "http://"))
		c.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: " + coding + "\r\n\r\n")
		var d io.Reader
		for i := 1; i <= 3; i++ {
			want := "tick " + strconv.Itoa(i) + "\n"
			next <- want
			if d == nil {
				resp, err := http.ReadResponse(c.br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if d, err = NewDecoder(resp.Body, coding, DecodeLimits{}); err != nil || resp.Header.Get("Content-Encoding") != coding {
					t.Fatal(err, resp.Header)
				}
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(d, got); err != nil || string(got) != want {
				t.Fatalf("%s: %q, %v, want %q", coding, got, err, want)
			}
		}
		close(next)
		if rest, err := io.ReadAll(d); err != nil || len(rest) > 0 {
			t.Errorf("%s: at the end %q, %v", coding, rest, err)
		}
	}
}

// TestCompressError: a handler that fails answers with the error, uncoded.
func TestCompressError(t *testing.T) {
	h := Compress(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Blob(200, "text/plain", codedText())
		return &StatusError{Code: 409, Message: "no"}
	}))
	resp, body := compressGet(t, h, "GET", "gzip")
	if resp.StatusCode != 409 || resp.Header.Get("Content-Encoding") != "" || !strings.HasPrefix(string(body), "no") {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
	}
}

// TestCompressWithCurl lets curl decode.
func TestCompressWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl to read coded responses with")
	}
	text := bytes.Repeat(codedText(), 30)
	url := TestServer(t, &Server{Handler: Compress(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.Blob(200, "text/plain", text)
	}))})
	for _, coding := range []string{"gzip", "deflate"} {
		var errOut bytes.Buffer
		cmd := exec.Command(curl, "-sS", "--max-time", "10", "--compressed", "-H", "Accept-Encoding: "+coding, "-w", "%{stderr}%{size_download} %header{content-encoding}", url)
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		size, used, _ := strings.Cut(errOut.String(), " ")
		if n, _ := strconv.Atoi(size); err != nil || !bytes.Equal(out, text) || used != coding || n == 0 || n > len(text)/10 {
			t.Errorf("%s: %d bytes, %v, %s", coding, len(out), errors.Join(err), errOut.String())
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	text := codedText()
	for _, coding := range []string{"identity", "gzip"} {
		b.Run(coding, func(b *testing.B) {
			h := Compress(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Blob(200, "text/plain", text) }))
			c := dialRaw(b, strings.TrimPrefix(TestServer(b, &Server{Handler: h}), "http://"))
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				c.got.Reset()
				c.send("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: " + coding + "\r\n\r\n")
				c.answer("GET")
			}
		})
	}
}
