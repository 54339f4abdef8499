package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestGateway is a look at whether it does what examples/gateway does.
func TestGateway(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "a "+r.URL.Path+" "+r.Header.Get("X-Forwarded-Host"))
	}))
	defer up.Close()
	c, err := parseFlags([]string{"-route", "/api=http://127.0.0.1:1," + up.URL, "-rate", "2"})
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	c.log = &lines
	g, err := newGateway(c)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(h http.Handler, path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "http://h"+path, nil))
		return w.Code, w.Body.String()
	}
	for path, want := range map[string]int{"/api/x": 200, "/api": 200, "/": 404} {
		if status, body := ask(g.front.Handler, path); status != want || status == 200 && body != "a "+path+" h" {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	refused := 0
	for range 20 {
		if status, _ := ask(g.front.Handler, "/api/x"); status == 429 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no request was refused")
	}
	if status, text := ask(g.admin.Handler, "/metrics"); status != 200 || !strings.Contains(text, `status="429"`) {
		t.Errorf("/metrics: %d %q", status, text)
	}
	if status, _ := ask(g.admin.Handler, "/readyz"); status != 200 || !strings.Contains(lines.String(), "/api/x") {
		t.Errorf("/readyz: %d; the log %.200q", status, lines.String())
	}
}
