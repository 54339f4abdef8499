package main

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
)

// TestDashboard is a look at whether it does what examples/dashboard does.
func TestDashboard(t *testing.T) {
	s, err := newServer([]string{"mail", "web"}, "secret", os.DirFS("../../../examples/dashboard/page"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler)
	defer server.Close()
	c := server.Client()
	c.Jar, _ = cookiejar.New(nil)
	ask := func(method, path, form string, status int, at, text string, fields ...string) {
		t.Helper()
		r, _ := http.NewRequest(method, server.URL+path, strings.NewReader(form))
		if method == "POST" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		for i := 0; i < len(fields); i += 2 {
			r.Header.Set(fields[i], fields[i+1])
		}
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		page, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || resp.Request.URL.Path != at || !strings.Contains(string(page), text) {
			t.Fatalf("%s %s: %d at %s %s, want %d at %s with %q", method, path, resp.StatusCode, resp.Request.URL.Path, page, status, at, text)
		}
	}
	ask("GET", "/", "", 200, "/login", "Your name")
	ask("POST", "/login", "user=ada&password=guess", 200, "/login", "That is not the password.")
	ask("POST", "/login", "password=secret", 400, "/login", "form user")
	ask("POST", "/login", "user=%3Cada%3E&password=secret", 200, "/", "&lt;ada&gt;")
	ask("POST", "/services/web", "state=down&note=+a+%3Ccable%3E+", 200, "/", "a &lt;cable&gt;")
	ask("POST", "/services/web", "state=gone", 422, "/services/web", "must be up, slow or down")
	ask("POST", "/services/none", "state=up", 404, "/services/none", "there is no such service")
	ask("POST", "/services/web", "state=up", 403, "/services/web", "403", "Sec-Fetch-Site", "cross-site")
	ask("POST", "/services/web", "note="+strings.Repeat("x", bodyMax), 413, "/services/web", "413")
	ask("GET", "/nowhere", "", 404, "/nowhere", "404")
	ask("GET", "/static/page.css", "", 200, "/static/page.css", "body")

	r, _ := http.NewRequest("GET", server.URL+"/events", nil)
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ask("POST", "/services/mail", url.Values{"state": {"slow"}}.Encode(), 200, "/", "mail is slow.")
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), `"name":"mail","state":"slow"`) {
	}
	if lines.Err() != nil || lines.Text() == "" {
		t.Fatal("the change did not come: ", lines.Err())
	}
	ask("POST", "/logout", "", 200, "/login", "You have logged out.")
	ask("GET", "/", "", 200, "/login", "Your name")
}
