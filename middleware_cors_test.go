package flare

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// askCORS sends a request with those fields, "Name: value" in lines.
func askCORS(t *testing.T, client *http.Client, method, url, fields string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(fields, "\n") {
		if name, value, ok := strings.Cut(line, ": "); ok {
			req.Header.Add(name, value)
		}
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// The cases of the CORS protocol in the Fetch standard (§3.3 and §4.8): what is said
// to which request. The fields are Allow-Origin, Allow-Credentials, Expose-Headers,
// Allow-Methods, Allow-Headers, Max-Age and Vary.
func TestCORS(t *testing.T) {
	t.Parallel()
	const (
		page      = "Origin: https://example.com"
		preflight = "\nAccess-Control-Request-Method: PUT\nAccess-Control-Request-Headers: x-a"
		fetched   = "Origin"
	)
	named := &CORS{Origins: []string{"https://example.com", "https://*.example.org", "http://localhost:8080"}, Methods: []string{"PUT", "DELETE"},
		Headers: []string{"X-A", "Content-Type"}, Expose: []string{"X-B"}, MaxAge: time.Hour}
	for _, row := range []struct {
		name   string
		cors   *CORS
		method string
		fields string
		status int
		want   string
	}{
		{"no origin", named, "GET", "", 200, "||||||Origin"},
		{"listed", named, "GET", page, 200, "https://example.com||X-B||||Origin"},
		{"not listed", named, "GET", "Origin: https://example.net", 200, "||||||Origin"},
		{"another scheme", named, "GET", "Origin: http://example.com", 200, "||||||Origin"},
		{"another port", named, "GET", "Origin: https://example.com:8443", 200, "||||||Origin"},
		{"a port that is listed", named, "GET", "Origin: http://localhost:8080", 200, "http://localhost:8080||X-B||||Origin"},
		{"behind the listed", named, "GET", "Origin: https://example.com.evil.net", 200, "||||||Origin"},
		{"before the listed", named, "GET", "Origin: https://evilexample.com", 200, "||||||Origin"},
		{"of the pattern", named, "GET", "Origin: https://a.example.org", 200, "https://a.example.org||X-B||||Origin"},
		{"the pattern's own domain", named, "GET", "Origin: https://example.org", 200, "||||||Origin"},
		{"before the pattern", named, "GET", "Origin: https://evilexample.org", 200, "||||||Origin"},
		{"a path before the pattern", named, "GET", "Origin: https://evil.net/.example.org", 200, "||||||Origin"},
		{"a user before the pattern", named, "GET", "Origin: https://x@a.example.org", 200, "||||||Origin"},
		{"null", named, "GET", "Origin: null", 200, "||||||Origin"},
		{"no origin at all", named, "GET", "Origin: %zz", 200, "||||||Origin"},
		{"two origins", named, "GET", page + "\n" + page, 200, "||||||Origin"},
		{"an error", named, "PUT", page, 405, "https://example.com||X-B||||Origin"},
		{"not found", named, "POST", page, 405, "https://example.com||X-B||||Origin"},

		{"preflight", named, "OPTIONS", page + preflight, 204, "https://example.com|||PUT, DELETE|X-A, Content-Type|3600|Origin"},
		{"preflight, not listed", named, "OPTIONS", "Origin: https://example.net" + preflight, 204, "||||||Origin"},
		{"preflight of a simple method", named, "OPTIONS", page + "\nAccess-Control-Request-Method: GET", 204, "https://example.com|||PUT, DELETE|X-A, Content-Type|3600|Origin"},
		{"OPTIONS without a method", named, "OPTIONS", page, 405, "https://example.com||X-B||||Origin"},
		{"OPTIONS without an origin", named, "OPTIONS", preflight[1:], 405, "||||||Origin"},

		{"all", &CORS{Origins: []string{"*"}}, "GET", page, 200, "*||||||"},
		{"all, no origin", &CORS{Origins: []string{"*"}}, "GET", "", 200, "||||||"},
		{"all, null", &CORS{Origins: []string{"*"}}, "GET", "Origin: null", 200, "*||||||"},
		{"all of all", &CORS{Origins: []string{"*"}, Methods: []string{"*"}, Headers: []string{"*", "Authorization"}, MaxAge: -1}, "OPTIONS", page + preflight, 204, "*|||*|*, Authorization|0|"},
		{"null is listed", &CORS{Origins: []string{"null"}}, "GET", "Origin: null", 200, "null||||||Origin"},
		{"credentials", &CORS{Origins: []string{"https://example.com"}, Credentials: true}, "GET", page, 200, "https://example.com|true|||||Origin"},
		{"credentials, preflight", &CORS{Origins: []string{"https://example.com"}, Credentials: true}, "OPTIONS", page + preflight, 204, "https://example.com|true|||||Origin"},
		{"credentials, not listed", &CORS{Origins: []string{"https://example.com"}, Credentials: true}, "GET", "Origin: https://example.net", 200, "||||||Origin"},
		{"asked", &CORS{AllowOrigin: func(r *Request, origin string) bool { return origin == "https://example.com" }}, "GET", page, 200, "https://example.com||||||Origin"},
		{"asked, no", &CORS{AllowOrigin: func(r *Request, origin string) bool { return false }}, "GET", page, 200, "||||||Origin"},
		{"nobody", &CORS{}, "GET", page, 200, "||||||Origin"},
	} {
		mux := NewMux()
		mux.Use(row.cors.Wrap)
		mux.Get("/", func(w *ResponseWriter, r *Request) error { return w.Text(200, "") })
		resp := askCORS(t, TestClient(t, &Server{Handler: mux, Logger: quietLogger()}), row.method, "http://h/", row.fields)
		h := resp.Header
		var got []string
		for _, name := range []string{"Allow-Origin", "Allow-Credentials", "Expose-Headers", "Allow-Methods", "Allow-Headers", "Max-Age"} {
			got = append(got, strings.Join(h.Values("Access-Control-"+name), "+"))
		}
		got = append(got, h.Get("Vary"))
		if text := strings.Join(got, "|"); text != row.want || resp.StatusCode != row.status {
			t.Errorf("%s: %d %s, want %d %s", row.name, resp.StatusCode, text, row.status, row.want)
		}
	}
}

// What browsers would not take is refused where it is written down.
func TestCORSPanics(t *testing.T) {
	for name, c := range map[string]*CORS{
		"origins": {Origins: []string{"*"}, Credentials: true},
		"methods": {Methods: []string{"*"}, Credentials: true},
		"headers": {Headers: []string{"*"}, Credentials: true},
		"expose":  {Expose: []string{"*"}, Credentials: true},
		"no name": {Headers: []string{"X-A\r\nX-B: 1"}},
	} {
		if p := guard(func() { c.Wrap(HandlerFunc(describe)) }, nil); p == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A page may read that its upload was too large.
func TestCORSOfRefusals(t *testing.T) {
	cors := &CORS{Origins: []string{"*"}}
	c := dialRaw(t, startServer(t, &Server{Logger: quietLogger(), Refusals: func(h Handler) Handler { return RequestID(cors.Wrap(h)) }}))
	c.send("POST / HTTP/1.1\r\nHost: h\r\nOrigin: https://example.com\r\nContent-Length: 99999999\r\n\r\n")
	if a := c.answer("POST"); a.StatusCode != 413 || a.Header.Get("Access-Control-Allow-Origin") != "*" || a.Header.Get("X-Request-Id") == "" {
		t.Errorf("%d %v", a.StatusCode, a.Header)
	}
}

// CrossOrigin lets the same requests pass as net/http's CrossOriginProtection, and
// answers others in the same way.
func TestCrossOriginIsNetHTTPs(t *testing.T) {
	t.Parallel()
	theirs := http.NewCrossOriginProtection()
	if err := theirs.AddTrustedOrigin("https://trusted.example"); err != nil {
		t.Fatal(err)
	}
	theirs.AddInsecureBypassPattern("/open/")
	ours := &CrossOrigin{Origins: []string{"https://trusted.example"}, Exempt: func(r *Request) bool { return strings.HasPrefix(r.Path(), "/open/") }}
	host := httptest.NewServer(theirs.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("fine")) })))
	defer host.Close()
	client := TestClient(t, &Server{Logger: quietLogger(), Handler: ours.Wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "fine") }))})
	n := map[int]int{}
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"} {
		for _, path := range []string{"/", "/open/x"} {
			for _, site := range []string{"", "same-origin", "same-site", "cross-site", "none", "Same-Origin", "x"} {
				for _, origin := range []string{"", "HOST", "https://HOST", "https://trusted.example", "http://trusted.example", "https://trusted.example:443", "https://evil.example", "null", "https://trusted.example.evil", "%"} {
					ask := func(client *http.Client, url, host string) string {
						t.Helper()
						req, _ := http.NewRequest(method, url+path, nil)
						if site != "" {
							req.Header.Set("Sec-Fetch-Site", site)
						}
						if origin != "" {
							o := strings.Replace(origin, "HOST", host, 1)
							if origin == "HOST" {
								o = "http://" + host
							}
							req.Header.Set("Origin", o)
						}
						resp, err := client.Do(req)
						if err != nil {
							t.Fatal(err)
						}
						resp.Body.Close()
						n[resp.StatusCode]++
						return fmt.Sprint(resp.StatusCode)
					}
					want := ask(host.Client(), host.URL, strings.TrimPrefix(host.URL, "http://"))
					got := ask(client, "http://h", "h")
					if origin == "https://trusted.example:443" {
						continue // the same origin, which net/http compares as text
					}
					if got != want {
						t.Errorf("%s %s, Sec-Fetch-Site %q, Origin %q: %s, net/http has %s", method, path, site, origin, got, want)
					}
				}
			}
		}
	}
	if n[200] == 0 || n[403] == 0 || len(n) != 2 {
		t.Errorf("answers %v", n)
	}
}
