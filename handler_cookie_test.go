package flare

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestRequestCookie(t *testing.T) {
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		var kept []string
		look := func() {
			for _, name := range []string{"a", "b", "none", "empty", "A"} {
				value, ok := r.Cookie(name)
				if ok {
					value = "(" + value + ")"
				}
				kept = append(kept, name+value)
			}
		}
		look()
		for name, value := range r.Cookies() { // fills the header: the other way to look
			kept = append(kept, name+"="+value)
		}
		look()
		clone := r.Clone()
		if value, ok := clone.Cookie("b"); !ok || value != "2" {
			t.Errorf("clone: %q %v", value, ok)
		}
		return w.Text(200, strings.Join(kept, " "))
	})
	c := dialRaw(t, strings.TrimPrefix(TestServer(t, &Server{Handler: h}), "http://"))
	c.send("GET / HTTP/1.1\r\nHost: h\r\ncookie: a=1;  empty=; a=9\r\nX: b=3\r\nCooKie: b=2\r\n\r\n")
	c.answer("GET").want(t, 200, "a(1) b(2) none empty() A a=1 empty= a=9 b=2 a(1) b(2) none empty() A")
	c.send("GET / HTTP/1.1\r\nHost: h\r\nCookie: b=2\r\n\r\n")
	c.answer("GET").want(t, 200, "a b(2) none empty A b=2 a b(2) none empty A")
}

func TestRequestCookieChangedHeader(t *testing.T) {
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		r.Header().Set("Cookie", "a=2")
		value, _ := r.Cookie("a")
		return w.Text(200, value)
	})
	c := dialRaw(t, strings.TrimPrefix(TestServer(t, &Server{Handler: h}), "http://"))
	c.send("GET / HTTP/1.1\r\nHost: h\r\nCookie: a=1\r\n\r\n")
	c.answer("GET").want(t, 200, "2")
}

// TestRequestCookieAllocations: a look-up that finds nothing is free, and one
// that finds something makes the head's text once.
func TestRequestCookieAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		none := testing.AllocsPerRun(100, func() {
			if _, ok := r.Cookie("none"); ok {
				t.Error("found a cookie that is not there")
			}
		})
		if none != 0 || behindRequest(r).text != "" {
			t.Errorf("absent: %v allocations, text %q", none, behindRequest(r).text)
		}
		if value, ok := r.Cookie("session"); !ok || value != "0123456789abcdef" { // makes the text
			t.Errorf("session: %q %v", value, ok)
		}
		found := testing.AllocsPerRun(100, func() {
			r.Cookie("session")
			r.Cookie("lang")
		})
		r.Header()
		filled := testing.AllocsPerRun(100, func() { r.Cookie("session") })
		all := testing.AllocsPerRun(100, func() {
			for name, value := range r.Cookies() {
				if name == value {
					t.Error("name and value are equal")
				}
			}
		})
		if found != 0 || filled != 0 || all != 0 {
			t.Errorf("allocations: found %v, header filled %v, all %v; want none", found, filled, all)
		}
		return nil
	})
	cookieGet(t, h, "/", "theme=dark; session=0123456789abcdef; lang=en")
}

// cookieGet asks h through flare's own parser and writer.
func cookieGet(t testing.TB, h Handler, path, cookies string) *http.Response {
	t.Helper()
	req, err := http.NewRequest("GET", "http://h"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cookies != "" {
		req.Header.Set("Cookie", cookies)
	}
	client := TestClient(t, &Server{Handler: h})
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestSetCookie(t *testing.T) {
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.SetCookie(&Cookie{Name: "a", Value: "1", Path: "/", HttpOnly: true})
		w.SetCookie(&Cookie{Name: "b", MaxAge: -1})
		return w.Text(200, "")
	})
	got := cookieGet(t, h, "/", "").Header["Set-Cookie"]
	if want := "a=1; Path=/; HttpOnly,b=; Max-Age=0"; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSetterInjection gives every setter something that would begin a line, or
// an attribute, of its own. The response fails as a whole.
func TestSetterInjection(t *testing.T) {
	for _, bad := range []string{"\r\nX-Injected: 1", "\nX-Injected: 1", "\rX-Injected: 1", "\x00"} {
		for name, set := range map[string]func(w *ResponseWriter) error{
			"cookie name":   func(w *ResponseWriter) error { w.SetCookie(&Cookie{Name: "a" + bad}); return nil },
			"cookie value":  func(w *ResponseWriter) error { w.SetCookie(&Cookie{Name: "a", Value: bad}); return nil },
			"cookie path":   func(w *ResponseWriter) error { w.SetCookie(&Cookie{Name: "a", Path: "/" + bad}); return nil },
			"cookie domain": func(w *ResponseWriter) error { w.SetCookie(&Cookie{Name: "a", Domain: "x" + bad}); return nil },
			"header name":   func(w *ResponseWriter) error { w.Header().Set("A"+bad, "b"); return nil },
			"header value":  func(w *ResponseWriter) error { w.Header().Add("A", "b"+bad); return nil },
			"redirect":      func(w *ResponseWriter) error { return w.Redirect(302, "/x"+bad) },
			"content type":  func(w *ResponseWriter) error { return w.Blob(200, "text/plain"+bad, nil) },
			"set cookie":    func(w *ResponseWriter) error { w.Header().Add("Set-Cookie", "a=b"+bad); return nil },
			"challenge":     func(w *ResponseWriter) error { return w.Unauthorized("Basic realm=x" + bad) },
			"basic realm":   func(w *ResponseWriter) error { return w.Unauthorized(BasicChallenge(bad)) },
			"bearer realm":  func(w *ResponseWriter) error { return w.Unauthorized(BearerChallenge(bad, "")) },
			"bearer error":  func(w *ResponseWriter) error { return w.Unauthorized(BearerChallenge("r", bad)) },
			"digest realm": func(w *ResponseWriter) error {
				_, _, err := (&DigestVerifier{Realm: bad}).Verify(w, &w.lease.r, nil, nil)
				return err
			},
			"digest algorithm": func(w *ResponseWriter) error {
				_, _, err := (&DigestVerifier{Algorithms: []string{"MD5" + bad}}).Verify(w, &w.lease.r, nil, nil)
				return err
			},
			"digest qop": func(w *ResponseWriter) error {
				_, _, err := (&DigestVerifier{QOP: []string{"auth" + bad}}).Verify(w, &w.lease.r, nil, nil)
				return err
			},
			"interim answer": func(w *ResponseWriter) error {
				var h Header
				h.Set("Link", "</x>"+bad)
				return w.Informational(103, &h)
			},
			"event's type": func(w *ResponseWriter) error {
				return (&EventStream{w: w}).Send(ServerSentEvent{ID: "1", Type: bad + "\n"})
			},
			"event's ID": func(w *ResponseWriter) error {
				return (&EventStream{w: w}).Send(ServerSentEvent{ID: bad, Data: "x"})
			},
		} {
			h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
				if err := set(w); err != nil {
					return err
				}
				_, err := w.WriteString("ok")
				return err
			})
			s := &Server{Handler: h, Logger: quietLogger()}
			c := dialRaw(t, strings.TrimPrefix(TestServer(t, s), "http://"))
			a := c.get("/")
			if a.StatusCode != 500 || a.Header.Get("X-Injected") != "" || len(a.Header["Set-Cookie"]) > 0 || a.Header.Get("Location") != "" ||
				strings.Contains(a.Header.Get("WWW-Authenticate"), "Injected") {
				t.Errorf("%s with %q: %d %v", name, bad, a.StatusCode, a.Header)
			}
		}
	}
}

func BenchmarkRequestCookie(b *testing.B) {
	const cookies = "theme=dark; _ga=GA1.2.1234567890.1234567890; session=0123456789abcdef0123456789abcdef; lang=en"
	b.Run("flare", func(b *testing.B) {
		h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
			r.Cookie("session") // the head's text is made once
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := r.Cookie("session"); !ok {
					b.Fatal("no session")
				}
			}
			return nil
		})
		io.Copy(io.Discard, cookieGet(b, h, "/", cookies).Body)
	})
	b.Run("nethttp", func(b *testing.B) {
		r := &http.Request{Header: http.Header{"Cookie": {cookies}}}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Cookie("session"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSetCookieString(b *testing.B) {
	b.Run("flare", func(b *testing.B) {
		c := &Cookie{Name: "session", Value: "0123456789abcdef0123456789abcdef", Path: "/", MaxAge: 86400, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
		b.ReportAllocs()
		for b.Loop() {
			if c.String() == "" {
				b.Fatal("refused")
			}
		}
	})
	b.Run("nethttp", func(b *testing.B) {
		c := &http.Cookie{Name: "session", Value: "0123456789abcdef0123456789abcdef", Path: "/", MaxAge: 86400, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
		b.ReportAllocs()
		for b.Loop() {
			if c.String() == "" {
				b.Fatal("refused")
			}
		}
	})
}

func BenchmarkParseSetCookie(b *testing.B) {
	const line = "session=0123456789abcdef0123456789abcdef; Expires=Wed, 02 Jan 2030 03:04:05 GMT; Path=/; Domain=example.com; Secure; HttpOnly; SameSite=Lax"
	b.Run("flare", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ParseSetCookie(line); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("nethttp", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := http.ParseSetCookie(line); err != nil {
				b.Fatal(err)
			}
		}
	})
}
