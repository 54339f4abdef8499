package main

import (
	"bytes"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"flare"
)

// A caller asks the API.
type caller struct {
	t *testing.T
	c *http.Client
}

func newCaller(t *testing.T) *caller {
	s := newServer("secret")
	s.AccessHook = nil
	s.Logger = slog.New(slog.DiscardHandler)
	return &caller{t, flare.TestClient(t, s)}
}

// ask sends a request with fields, given as name and value.
func (c *caller) ask(method, path, body string, fields ...string) (*http.Response, string) {
	c.t.Helper()
	req, err := http.NewRequest(method, "http://h"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := c.c.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, string(p)
}

func (c *caller) want(method, path, body string, status int, fields ...string) (*http.Response, string) {
	c.t.Helper()
	resp, text := c.ask(method, path, body, fields...)
	if resp.StatusCode != status {
		c.t.Fatalf("%s %s: %d %q, want %d", method, path, resp.StatusCode, text, status)
	}
	return resp, text
}

var known = []string{"Authorization", "Bearer secret", "Content-Type", "application/json"}

func TestBooks(t *testing.T) {
	c := newCaller(t)
	c.want("POST", "/api/books", `{"title":"x","year":1}`, 401, "Content-Type", "application/json")
	resp, text := c.want("POST", "/api/books", `{"title":"Engines","year":1843}`, 201, known...)
	if resp.Header.Get("Location") != "/api/books/1" || !strings.Contains(text, `"Engines"`) {
		t.Errorf("%q %q", resp.Header.Get("Location"), text)
	}
	resp, _ = c.want("GET", "/api/books/1", "", 200)
	tag := resp.Header.Get("ETag")
	c.want("GET", "/api/books/1", "", 304, "If-None-Match", tag)
	c.want("PUT", "/api/books/1", `{"title":"Notes","year":1843}`, 200, append(known, "If-Match", tag)...)
	c.want("PUT", "/api/books/1", `{"title":"Late","year":1843}`, 412, append(known, "If-Match", tag)...)
	if _, text := c.want("GET", "/api/books/1", "", 200); !strings.Contains(text, `"Notes"`) {
		t.Error(text)
	}
	c.want("DELETE", "/api/books/1", "", 204, known...)
	c.want("GET", "/api/books/1", "", 404)
}

func TestProblems(t *testing.T) {
	c := newCaller(t)
	for _, p := range []struct {
		body, says string
		status     int
	}{
		{`{"title":"","year":1}`, `"field":"title"`, 422},
		{`{"title":"x","size":1}`, `"status":400`, 400},
		{`{"title"`, `"status":400`, 400},
		{strings.Repeat(" ", 5000), `"status":413`, 413},
	} {
		resp, text := c.want("POST", "/api/books", p.body, p.status, known...)
		if resp.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(text, p.says) {
			t.Errorf("%.20q: %s %s", p.body, resp.Header.Get("Content-Type"), text)
		}
	}
	c.want("GET", "/api/books/seven", "", 400)
}

func TestPages(t *testing.T) {
	c := newCaller(t)
	for range 25 {
		c.want("POST", "/api/books", `{"title":"x","year":2000}`, 201, known...)
	}
	resp, text := c.want("GET", "/api/books", "", 200)
	if n := strings.Count(text, `"id"`); n != 20 || resp.Header.Get("X-Total-Count") != "25" || !strings.Contains(resp.Header.Get("Link"), "page=1&size=20") {
		t.Errorf("%d books, %q", n, resp.Header)
	}
	resp, text = c.want("GET", "/api/books?page=1", "", 200)
	if n := strings.Count(text, `"id"`); n != 5 || resp.Header.Get("Link") != "" {
		t.Errorf("%d books, %q", n, resp.Header)
	}
	c.want("GET", "/api/books?size=1000", "", 400)
}

func TestCover(t *testing.T) {
	c := newCaller(t)
	c.want("POST", "/api/books", `{"title":"x","year":2000}`, 201, known...)
	c.want("GET", "/api/books/1/cover", "", 404)
	put := func(content string, status int) {
		t.Helper()
		var body bytes.Buffer
		form := multipart.NewWriter(&body)
		part, _ := form.CreateFormFile("cover", "cover.png")
		io.WriteString(part, content)
		form.Close()
		c.want("PUT", "/api/books/1/cover", body.String(), status, "Authorization", "Bearer secret", "Content-Type", form.FormDataContentType())
	}
	const png = "\x89PNG\r\n\x1a\nand so on"
	put("<script>", 415)
	put(strings.Repeat("x", 70<<10), 413)
	put(png, 200)
	resp, text := c.want("GET", "/api/books/1/cover", "", 200)
	if resp.Header.Get("Content-Type") != "image/png" || text != png {
		t.Errorf("%q %q", resp.Header.Get("Content-Type"), text)
	}
}

func TestOtherOrigins(t *testing.T) {
	c := newCaller(t)
	resp, _ := c.want("OPTIONS", "/api/books/1", "", 204, "Origin", "https://x.example", "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "authorization")
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error(resp.Header)
	}
	resp, _ = c.want("GET", "/api/books/9", "", 404, "Origin", "https://x.example")
	if resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("of an error: %v", resp.Header)
	}
}

func TestPage(t *testing.T) {
	c := newCaller(t)
	for path, part := range map[string]string{"/": "<h1>Books", "/books/7": "<h1>Books", "/app.js": "fetch(", "/style.css": "color-scheme"} {
		if _, text := c.want("GET", path, "", 200); !strings.Contains(text, part) {
			t.Errorf("%s: %.40q", path, text)
		}
	}
	c.want("GET", "/missing.js", "", 404)
}
