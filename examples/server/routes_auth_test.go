package main

import (
	"io"
	"net/http"
	"net/url"
	"testing"

	"flare"
)

func TestAuthRoutes(t *testing.T) {
	client := testClient(t)
	for _, c := range []struct {
		path, user, password, bearer string // path: may lead through a redirect
		status                       int
		body                         string // "": any
	}{
		{path: "/cookies", status: 200, body: `{"cookies":{}}`},
		{path: "/cookies/set?a=1", status: 200, body: `{"cookies":{"a":"1"}}`},
		{path: "/cookies/set/b/2", status: 200, body: `{"cookies":{"a":"1","b":"2"}}`},
		{path: "/cookies/delete?a", status: 200, body: `{"cookies":{"b":"2"}}`},
		{path: "/cookies/set?a=%0d%0aX:1", status: 400},
		{path: "/cookies/set/b;c/1", status: 400},
		{path: "/cookies/set/b/a%3bc", status: 400},
		{path: "/basic-auth/u/p", status: 401},
		{path: "/basic-auth/u/p", user: "u", password: "x", status: 401},
		{path: "/basic-auth/u/p", user: "u", password: "p", status: 200, body: `{"authenticated":true,"user":"u"}`},
		{path: "/bearer", status: 401},
		{path: "/bearer", bearer: "abc", status: 200, body: `{"authenticated":true,"token":"abc"}`},
		{path: "/digest-auth/auth/u/p", status: 401},
		{path: "/digest-auth/auth-int/u/p/SHA-256-sess", status: 401},
		{path: "/digest-auth/other/u/p", status: 404},
	} {
		req, err := http.NewRequest("GET", "http://h"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.user != "" {
			req.SetBasicAuth(c.user, c.password)
		}
		if c.bearer != "" {
			req.Header.Set("Authorization", "Bearer "+c.bearer)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || c.body != "" && string(body) != c.body {
			t.Errorf("%s: %d %q, %v, want %d %q", c.path, resp.StatusCode, body, err, c.status, c.body)
		}
		if want := c.status == 401; want != (resp.Header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s: %v", c.path, resp.Header)
		}
	}
}

// testClient returns a client of all routes that keeps cookies, as a browser does.
func testClient(t *testing.T) *http.Client {
	s := new(flare.Server)
	s.Handler = routes(s)
	c := flare.TestClient(t, s)
	c.Jar = new(flare.Jar)
	return c
}

// TestAuthRoutesDigest answers the challenge.
func TestAuthRoutesDigest(t *testing.T) {
	client := testClient(t)
	const target = "/digest-auth/auth/u/p/SHA-512-256"
	d := flare.DigestAuth("u", "p")
	for i, want := range []int{401, 200, 200} {
		field, err := d.Authorization(t.Context(), &flare.AuthRequest{Method: "GET", Target: target})
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "h", Path: target}, Header: http.Header{"Authorization": {field}}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("request %d: %d, want %d", i, resp.StatusCode, want)
		}
		if want == 401 {
			challenges := resp.Header.Values("WWW-Authenticate")
			if !d.Challenged(t.Context(), challenges, field) {
				t.Fatal(challenges)
			}
		}
	}
}
