package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAPI is a look at whether it does what examples/api does.
func TestAPI(t *testing.T) {
	h := newHandler("secret")
	ask := func(method, path, body string, status int, fields ...string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != status {
			t.Fatalf("%s %s: %d %q, want %d", method, path, w.Code, w.Body, status)
		}
		return w
	}
	known := []string{"Authorization", "Bearer secret", "Content-Type", "application/json"}
	ask("POST", "/api/books", `{"title":"x","year":1}`, 401, "Content-Type", "application/json")
	ask("POST", "/api/books", `{"title":"x","year":1}`, 201, known...)
	ask("POST", "/api/books", `{"title":"","year":1}`, 422, known...)
	ask("POST", "/api/books", strings.Repeat(" ", 5000), 413, known...)
	tag := ask("GET", "/api/books/1", "", 200).Header().Get("ETag")
	ask("GET", "/api/books/1", "", 304, "If-None-Match", tag)
	ask("PUT", "/api/books/1", `{"title":"y","year":2}`, 200, append(known, "If-Match", tag)...)
	ask("PUT", "/api/books/1", `{"title":"z","year":2}`, 412, append(known, "If-Match", tag)...)
	ask("GET", "/api/books", "", 200)
	ask("OPTIONS", "/api/books/1", "", 204, "Origin", "https://x.example", "Access-Control-Request-Method", "PUT")
	ask("DELETE", "/api/books/1", "", 204, known...)
	ask("GET", "/api/books/1", "", 404)
	ask("GET", "/books/7", "", 200)
	ask("GET", "/missing.js", "", 404)
}
