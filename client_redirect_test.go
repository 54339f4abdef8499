package flare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestClientRedirectMethods(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		if n, _ := fmt.Sscanf(r.URL.Path, "/to/%d", &status); n == 1 {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Location", "../end")
			w.WriteHeader(status)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Method", r.Method)
		fmt.Fprintf(w, "%s %s", body, r.Header.Get("Content-Type"))
	}))
	defer ts.Close()
	c := clientOf(t, &Client{BaseURL: ts.URL})
	const sent, gone = "{} application/json", " "
	tests := []struct {
		status       int
		method, want string
		body         string
	}{
		{301, "POST", "GET", gone}, {302, "POST", "GET", gone}, {303, "POST", "GET", gone},
		{307, "POST", "POST", sent}, {308, "POST", "POST", sent},
		{301, "PUT", "PUT", sent}, {302, "DELETE", "DELETE", sent}, {303, "PUT", "GET", gone},
		{303, "HEAD", "HEAD", ""}, {301, "HEAD", "HEAD", ""}, {308, "PATCH", "PATCH", sent},
	}
	for _, tt := range tests {
		r := &ClientRequest{Method: tt.method, URL: fmt.Sprint("/to/", tt.status)}
		if tt.method != "HEAD" {
			r.SetBody("{}")
		}
		resp, err := c.Do(clientContext(t), r)
		clientWantText(t, resp, err, 200, tt.body)
		if got := resp.Header.Get("X-Method"); got != tt.want {
			t.Errorf("%d %s became %s, want %s", tt.status, tt.method, got, tt.want)
		}
		if got := resp.URL().Path; got != "/end" {
			t.Errorf("ended at %s", got)
		}
	}
	once := io.MultiReader(strings.NewReader("abc"))
	if _, err := c.Post(clientContext(t), "/to/307", once); !errors.Is(err, errBodySent) {
		t.Errorf("a body that can be sent once: %v", err)
	}
	resp, err := c.Post(clientContext(t), "/to/307", strings.NewReader("abc"))
	clientWantText(t, resp, err, 200, "abc ")
	c = clientOf(t, &Client{BaseURL: ts.URL, MaxRedirects: -1})
	resp, err = c.Get(clientContext(t), "/to/302")
	clientWantText(t, resp, err, 302, "")
}

// What described the old body leaves with it; all else goes on.
func TestClientRedirectBodyFields(t *testing.T) {
	gone := []string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Location", "Content-Digest", "Repr-Digest",
		"Digest", "Content-MD5", "Content-Range", "Content-Disposition", "Last-Modified", "Trailer", "Expect"}
	kept := []string{"X-Other", "Accept", "If-Match", "Content-Security-Policy"}
	var got http.Header
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, "/to", http.StatusSeeOther)
			return
		}
		got = r.Header
	}))
	defer ts.Close()
	for _, byClient := range []bool{false, true} {
		c := clientOf(t, &Client{})
		r := &ClientRequest{Method: "POST", URL: ts.URL}
		r.SetBody([]byte("abc"))
		h := &r.Header
		if byClient {
			h = &c.Header
		}
		for _, name := range append(gone, kept...) {
			h.Set(name, "v")
		}
		h.Set("Expect", "100-continue")
		resp, err := c.Do(clientContext(t), r)
		clientWantText(t, resp, err, 200, "")
		for _, name := range gone {
			if v := got.Get(name); v != "" {
				t.Errorf("%s: %q", name, v)
			}
		}
		for _, name := range kept {
			if v := got.Get(name); v != "v" {
				t.Errorf("%s was dropped", name)
			}
		}
	}
}

// The URL that answered keeps the fragment, unless a redirect names another.
func TestClientURLFragment(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.URL.Query().Get("to"); to != "" {
			w.Header().Set("Location", to)
			w.WriteHeader(302)
		}
	}))
	defer ts.Close()
	for _, tt := range []struct{ ref, want string }{
		{"/a", "/a"}, {"/a#b", "/a#b"}, {"/a?c#b%20d", "/a?c#b%20d"},
		{"/a?to=/x#b", "/x#b"}, {"/a?to=/x%23y#b", "/x#y"}, {"/a?to=/x%23#b", "/x"},
		{"/a?to=/x%3Fto=/z#b", "/z#b"}, {"/a?to=/x%3Fto=/z%23y#b", "/z#y"},
	} {
		resp, err := clientOf(t, &Client{}).Get(clientContext(t), ts.URL+tt.ref)
		clientWantText(t, resp, err, 200, "")
		if got := strings.TrimPrefix(resp.URL().String(), ts.URL); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.ref, got, tt.want)
		}
	}
}

func TestClientRedirectCount(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		fmt.Sscanf(r.URL.Path, "/%d", &n)
		if n > 0 {
			http.Redirect(w, r, fmt.Sprint("/", n-1), 302)
		}
	}))
	defer ts.Close()
	c := clientOf(t, &Client{BaseURL: ts.URL})
	resp, err := c.Get(clientContext(t), "/10")
	clientWantText(t, resp, err, 200, "")
	if _, err := c.Get(clientContext(t), "/11"); !errors.Is(err, ErrTooManyRedirects) {
		t.Errorf("11 redirects: %v", err)
	}
}

// Credentials leave with a change of origin, and do not come back with the
// next one.
func TestClientRedirectCredentials(t *testing.T) {
	var seen []string
	note := func(r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization")+"/"+r.Header.Get("Cookie")+"/"+r.Header.Get("X-Other"))
	}
	var a, b *httptest.Server
	a = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r)
		switch r.URL.Path {
		case "/":
			http.Redirect(w, r, "/same", 302)
		case "/same":
			http.Redirect(w, r, b.URL+"/", 307)
		}
	}))
	defer a.Close()
	b = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		note(r)
		http.Redirect(w, r, a.URL+"/back", 302)
	}))
	defer b.Close()
	const all, none = "Basic dTpw/c=d/x", "//x"
	want := strings.Join([]string{all, all, none, none}, " ")
	byRequest := &ClientRequest{URL: a.URL + "/"}
	byRequest.Header.Set("Authorization", "Basic dTpw")
	byRequest.Header.Set("Cookie", "c=d")
	byRequest.Header.Set("X-Other", "x")
	byClient := &Client{BaseURL: a.URL, Auth: BasicAuth("u", "p")}
	byClient.Header.Set("Cookie", "c=d")
	byClient.Header.Set("X-Other", "x")
	inURL := &ClientRequest{URL: strings.Replace(a.URL, "//", "//u:p@", 1) + "/"}
	inURL.Header.Set("Cookie", "c=d")
	inURL.Header.Set("X-Other", "x")
	for name, try := range map[string]struct {
		c *Client
		r *ClientRequest
	}{
		"request": {&Client{}, byRequest},
		"client":  {byClient, &ClientRequest{URL: "/"}},
		"URL":     {&Client{}, inURL},
	} {
		seen = nil
		resp, err := clientOf(t, try.c).Do(clientContext(t), try.r)
		clientWantText(t, resp, err, 200, "")
		if got := strings.Join(seen, " "); got != want {
			t.Errorf("%s: the servers saw %s, want %s", name, got, want)
		}
	}
	// What a client with a base has is not for other origins at all.
	seen = nil
	byClient = &Client{BaseURL: a.URL, Auth: BasicAuth("u", "p"), Header: byClient.Header, MaxRedirects: -1}
	resp, err := clientOf(t, byClient).Get(clientContext(t), b.URL)
	if err != nil || len(seen) != 1 || seen[0] != none {
		t.Errorf("%v %v %v", resp, err, seen)
	}
}

func TestClientRedirectDowngrade(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.RedirectHandler(plain.URL, 302))
	defer secure.Close()
	trusting := tlsTrusting(secure.Certificate())
	_, err := clientOf(t, &Client{TLSConfig: trusting}).Get(clientContext(t), secure.URL)
	if !errors.Is(err, ErrInsecureRedirect) {
		t.Errorf("%v", err)
	}
	resp, err := clientOf(t, &Client{TLSConfig: trusting, AllowInsecureRedirect: true}).Get(clientContext(t), secure.URL)
	clientWantText(t, resp, err, 200, "")
}

func TestClientJar(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/set":
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1", Path: "/"})
			http.Redirect(w, r, "/show", 302)
		case "/show":
			io.WriteString(w, strings.Join(r.Header.Values("Cookie"), "|"))
		}
	}))
	defer ts.Close()
	c := clientOf(t, &Client{BaseURL: ts.URL, Jar: new(Jar)})
	resp, err := c.Get(clientContext(t), "/set")
	clientWantText(t, resp, err, 200, "a=1")
	r := &ClientRequest{URL: "/show"}
	r.Header.Set("Cookie", "b=2")
	resp, err = c.Do(clientContext(t), r)
	clientWantText(t, resp, err, 200, "b=2; a=1")
}

func TestClientDigest(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			var asked atomic.Int32
			url, c := http2Std(t, "TLS", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				body, _ := io.ReadAll(r.Body)
				if !strings.HasPrefix(r.Header.Get("Authorization"), "Digest ") {
					w.Header().Set("WWW-Authenticate", `Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256`)
					w.WriteHeader(401)
					return
				}
				w.Write(body)
			}))
			c.BaseURL, c.Auth = url, DigestAuth("u", "p")
			if version == "HTTP/1.1" {
				c.Protocols = onlyHTTP1()
			}
			for range 2 {
				resp, err := c.Post(clientContext(t), "/", "abc")
				clientWantText(t, resp, err, 200, "abc")
				if resp.Proto() != version {
					t.Errorf("answered by %s", resp.Proto())
				}
			}
			if n := asked.Load(); n != 3 {
				t.Errorf("%d requests, want 3: the second call knows the challenge", n)
			}
		})
	}
}

// Credentials are called with the request's context, and with the fields of a
// challenge as they came.
func TestClientCredentialsContext(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Own 2" {
			w.Header()["Www-Authenticate"] = []string{`Own a="1", Basic realm="r"`, "Other"}
			w.WriteHeader(401)
			return
		}
		w.Header().Set("Authentication-Info", "next")
	}))
	defer ts.Close()
	type key struct{}
	creds := &tellingAuth{key: key{}}
	ctx := context.WithValue(clientContext(t), key{}, "request")
	resp, err := clientOf(t, &Client{Auth: creds}).Get(ctx, ts.URL)
	clientWantText(t, resp, err, 200, "")
	want := `request: authorize|request: [Own a="1", Basic realm="r" Other] to "Own 1"|request: authorize|request: "next" to "Own 2"`
	if got := strings.Join(creds.told, "|"); got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

// A tellingAuth writes down what it is called with.
type tellingAuth struct {
	key  any // of a value in the context
	told []string
}

func (a *tellingAuth) tell(ctx context.Context, format string, args ...any) {
	a.told = append(a.told, fmt.Sprintf("%v: ", ctx.Value(a.key))+fmt.Sprintf(format, args...))
}

func (a *tellingAuth) Authorization(ctx context.Context, r *AuthRequest) (string, error) {
	a.tell(ctx, "authorize")
	return fmt.Sprintf("Own %d", len(a.told)/2+1), nil
}

func (a *tellingAuth) Challenged(ctx context.Context, challenges []string, sent string) bool {
	a.tell(ctx, "%v to %q", challenges, sent)
	return true
}

func (a *tellingAuth) Answered(ctx context.Context, info, sent string) error {
	a.tell(ctx, "%q to %q", info, sent)
	return nil
}
