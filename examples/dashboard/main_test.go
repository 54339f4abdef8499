package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"flare"
)

const password = "correct horse"

// A visitor is a browser, as far as a test needs one.
type visitor struct {
	t *testing.T
	c *http.Client
}

// newVisitor serves a board in memory.
func newVisitor(t *testing.T) *visitor {
	t.Helper()
	c := flare.TestClient(t, newServer([]string{"mail", "web"}, password))
	c.Jar, _ = cookiejar.New(nil)
	return &visitor{t, c}
}

// ask returns a request's answer, after redirects, and its page.
func (v *visitor) ask(method, path string, form url.Values, header ...string) (*http.Response, string) {
	v.t.Helper()
	req, err := http.NewRequest(method, "http://board.test"+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	if method == "POST" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := v.c.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return resp, string(page)
}

// sees asks, and wants a status, a path and texts of the page.
func (v *visitor) sees(method, path string, form url.Values, code int, at string, texts ...string) {
	v.t.Helper()
	resp, page := v.ask(method, path, form)
	if resp.StatusCode != code || resp.Request.URL.Path != at {
		v.t.Errorf("%s %s: %d at %s, want %d at %s\n%s", method, path, resp.StatusCode, resp.Request.URL.Path, code, at, page)
	}
	for _, text := range texts {
		if !strings.Contains(page, text) {
			v.t.Errorf("%s %s: no %q in\n%s", method, path, text, page)
		}
	}
}

func (v *visitor) login(name string) {
	v.t.Helper()
	v.sees("POST", "/login", url.Values{"user": {name}, "password": {password}}, 200, "/", "<h1>")
}

func TestLogin(t *testing.T) {
	t.Parallel()
	v := newVisitor(t)
	for _, path := range []string{"/", "/events"} {
		v.sees("GET", path, nil, 200, "/login", "Your name")
	}
	v.sees("POST", "/services/web", url.Values{"state": {"down"}}, 200, "/login")
	v.sees("POST", "/login", url.Values{"user": {"ada"}, "password": {"guess"}}, 200, "/login", "That is not the password.")
	if _, page := v.ask("GET", "/login", nil); strings.Contains(page, "That is not") {
		t.Error("what is said once is said twice")
	}
	v.sees("POST", "/login", url.Values{"password": {password}}, 400, "/login", "form user")
	v.login("<ada>")
	v.sees("GET", "/", nil, 200, "/", "&lt;ada&gt;", "web", "mail")
	v.sees("POST", "/logout", nil, 200, "/login", "You have logged out.")
	v.sees("GET", "/", nil, 200, "/login")
	for range 10 {
		v.ask("POST", "/login", url.Values{"user": {"ada"}, "password": {"guess"}})
	}
	v.sees("POST", "/login", url.Values{"user": {"ada"}, "password": {password}}, 429, "/login")
}

func TestChange(t *testing.T) {
	t.Parallel()
	v := newVisitor(t)
	v.login("ada")
	v.sees("POST", "/services/web", url.Values{"state": {"down"}, "note": {" a <cable> "}}, 200, "/", "web is down.", "a &lt;cable&gt;", `data-state="down"`, "ada, ")
	v.sees("POST", "/services/web", url.Values{"state": {"gone"}}, 422, "/services/web", "must be up, slow or down")
	v.sees("POST", "/services/web", url.Values{"state": {"up"}, "note": {strings.Repeat("x", 201)}}, 422, "/services/web")
	v.sees("POST", "/services/none", url.Values{"state": {"up"}}, 404, "/services/none", "there is no such service")
	v.sees("GET", "/nowhere", nil, 404, "/nowhere", "404")
	// What a page of another site has the browser send.
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "http://evil.test"}} {
		if resp, _ := v.ask("POST", "/services/web", url.Values{"state": {"up"}}, header...); resp.StatusCode != 403 {
			t.Errorf("%q: %d", header, resp.StatusCode)
		}
	}
	v.sees("GET", "/", nil, 200, "/", `data-state="down"`)
}

// Changes come to who watches, those too that were missed; figures come each second.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVisitor(t)
		v.login("ada")
		watch := func(last string) (next func() (kind, data string)) {
			req, _ := http.NewRequest("GET", "http://board.test/events", nil)
			req.Header.Set("Last-Event-ID", last)
			resp, err := v.c.Do(req)
			if err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
				t.Fatal(resp, err)
			}
			t.Cleanup(func() { resp.Body.Close() })
			lines := bufio.NewScanner(resp.Body)
			return func() (kind, data string) {
				for lines.Scan() {
					switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
					case "event":
						kind = value
					case "data":
						data = value
					case "":
						if data != "" {
							return kind, data
						}
					}
				}
				t.Fatal(lines.Err())
				return "", ""
			}
		}
		v.ask("POST", "/services/mail", url.Values{"state": {"slow"}})
		v.ask("POST", "/services/mail", url.Values{"state": {"up"}})
		next := watch("1")
		v.ask("POST", "/services/web", url.Values{"state": {"down"}})
		for _, want := range []string{"mail is up", "web is down"} {
			kind, data := next()
			for kind == "figures" {
				kind, data = next()
			}
			var s service
			if err := json.Unmarshal([]byte(data), &s); err != nil || s.Name+" is "+s.State != want || s.By != "ada" || s.At.IsZero() {
				t.Errorf("%s %s, want %s", kind, data, want)
			}
		}
		before := time.Now()
		kind, data := next()
		for kind != "figures" || !strings.Contains(data, `"rate":0`) { // a second without requests
			kind, data = next()
		}
		if !strings.Contains(data, `"watch":1`) || !strings.Contains(data, `"version":3`) || time.Since(before) > 3*time.Second {
			t.Errorf("%s after %v", data, time.Since(before))
		}
	})
}
