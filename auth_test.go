package flare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{" , ,", ""},
		{"Negotiate", "Negotiate"},
		{"Negotiate YWJj==", "Negotiate<YWJj==>"},
		{"Negotiate, Basic realm=x", "Negotiate Basic[realm=x]"},
		{`Basic realm="a b"`, "Basic[realm=a b]"},
		{`Basic realm = "a"  , charset=UTF-8`, "Basic[realm=a charset=UTF-8]"},
		{`Basic realm="a\"b\\c, d"`, `Basic[realm=a"b\c, d]`},
		{`Basic realm=""`, "Basic[realm=]"},
		{`Digest realm="a", qop="auth, auth-int", nonce=x, Basic realm="b",`, "Digest[realm=a qop=auth, auth-int nonce=x] Basic[realm=b]"},
		{`A, B b64+/-._~=, C x=y,,z=w , D`, "A B<b64+/-._~=> C[x=y z=w] D"},
		{"Bearer\tabc", "Bearer<abc>"},
		{"Basic realm=", "Basic<realm=>"}, // so the grammar has it
		{`Digest username*=UTF-8''J%C3%A4`, "Digest[username*=UTF-8''J%C3%A4]"},
		{"Basic realm=\"\xe4\"", "Basic[realm=\xe4]"},
	} {
		all, err := parseChallenges(c.in)
		var got []string
		for _, k := range all {
			s := k.scheme
			if k.token != "" {
				s += "<" + k.token + ">"
			}
			var params []string
			for _, p := range k.params {
				params = append(params, p.name+"="+p.value)
			}
			if params != nil {
				s += "[" + strings.Join(params, " ") + "]"
			}
			got = append(got, s)
		}
		if s := strings.Join(got, " "); err != nil || s != c.want {
			t.Errorf("%q: %q, %v, want %q", c.in, s, err, c.want)
		}
	}
	for _, in := range []string{
		"realm=x", "=x", "\"x\"", `Basic realm="a`, `Basic realm="a\`, `Basic realm="a"b`, "Basic realm=a b",
		`Basic realm=a, REALM=b`, "Basic a=b=c", "Basic@", "Basic abc, x=y", "Basic realm=\"a\x01\"", "Basic realm=\"a\\\n\"", "A/B", "Basic a b",
	} {
		if all, err := parseChallenges(in); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v, %v", in, all, err)
		}
	}
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Digest realm="a\"", qop="auth, auth-int", nonce=x, Basic realm="b", Negotiate YWJj==`)
	f.Add(`Digest realm=My Camera, nonce=YWJj==, domain=/x, =, "a, b`)
	f.Fuzz(func(t *testing.T, in string) {
		lenient := readChallenges(in) // whatever it is, it ends
		all, err := parseChallenges(in)
		if err != nil {
			return
		}
		if fmt.Sprint(lenient) != fmt.Sprint(all) { // nothing is read in another way that can be read
			t.Fatalf("%q: %v, leniently %v", in, all, lenient)
		}
		var b []byte
		for i, c := range all { // written again it says the same
			if i > 0 {
				b = append(b, ", "...)
			}
			b = append(append(b, c.scheme...), ' ')
			b = append(b, c.token...)
			for i, p := range c.params {
				if i > 0 {
					b = append(b, ", "...)
				}
				b = appendQuoted(append(append(b, p.name...), '='), p.value)
			}
		}
		again, err := parseChallenges(string(b))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(all) {
			t.Fatalf("%q, written %q: %v, %v, want %v", in, b, again, err, all)
		}
	})
}

func TestClientCredentials(t *testing.T) {
	for _, c := range []struct {
		credentials Credentials
		want        string // "": refused
	}{
		{BasicAuth("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, // RFC 7617 §2
		{BasicAuth("test", "123\u00a3"), "Basic dGVzdDoxMjPCow=="},                  // RFC 7617 §2.1
		{BasicAuth("", ""), "Basic Og=="},
		{BasicAuth("a", "b:c"), "Basic YTpiOmM="},
		{BasicAuth("a:b", "c"), ""},
		{BasicAuth("a\n", "c"), ""},
		{BasicAuth("a", "c\x00"), ""},
		{BasicAuth("a", "c\t"), ""},
		{BearerAuth("mF_9.B5f-4.1JqM"), "Bearer mF_9.B5f-4.1JqM"},
		{BearerAuth("YWI="), "Bearer YWI="},
		{BearerAuth(""), ""},
		{BearerAuth("a b"), ""},
		{BearerAuth("a\r\nX: y"), ""},
		{BearerAuth("=a"), ""},
		{BearerAuth("a,b"), ""},
	} {
		got, err := c.credentials.Authorization(context.Background(), &AuthRequest{Method: "GET", Target: "/"})
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%q: %q, %v, want %q", c.credentials, got, err, c.want)
		}
		if c.credentials.Challenged(context.Background(), nil, "Basic x") || c.credentials.Answered(context.Background(), "", "") != nil {
			t.Errorf("%q: would send again what was refused", c.credentials)
		}
	}
}

// authAsk sends Authorization fields to a handler.
func authAsk(t *testing.T, h Handler, fields ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest("GET", "http://h/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		req.Header.Add("Authorization", f)
	}
	resp, err := TestClient(t, &Server{Handler: h}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

func TestRequireBasic(t *testing.T) {
	h := RequireBasic(`a "realm"`, BasicUsers(map[string]string{"Aladdin": "open sesame", "colon": "a:b", "empty": ""}))(
		HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("User", AuthUser(r))
			return nil
		}))
	for _, c := range []struct{ field, user string }{
		{"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin"},
		{"bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin"},
		{"Basic Y29sb246YTpi", "colon"},
		{"Basic ZW1wdHk6", "empty"},
		{"", ""},
		{"Basic", ""},
		{"Basic ", ""},
		{"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ", ""},    // no padding
		{"Basic QWxhZGRpbjpvcGVuIHNlc2FtZR==", ""},  // bits behind the end
		{"Basic QWxhZGRpbjpvcGVu IHNlc2FtZQ==", ""}, // white space
		{"Basic QWxhZGRpbg==", ""},                  // no colon
		{"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQA=", ""},  // NUL behind
		{"Basic QWxhZGRpbjpvcGVuIHNlc2FtZXM=", ""},  // wrong
		{"Basic bm9ib2R5Og==", ""},                  // nobody, as empty as the password that is not there
		{"Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", ""}, // other scheme
		{"BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==", ""},
	} {
		resp := authAsk(t, h, c.field)
		if c.user != "" {
			if resp.StatusCode != 200 || resp.Header.Get("User") != c.user {
				t.Errorf("%q: %d %v", c.field, resp.StatusCode, resp.Header)
			}
			continue
		}
		if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != `Basic realm="a \"realm\"", charset="UTF-8"` {
			t.Errorf("%q: %d %v", c.field, resp.StatusCode, resp.Header)
		}
	}
	if resp := authAsk(t, h, "Basic Y29sb246YTpi", "Basic Y29sb246YTpi"); resp.StatusCode != 401 {
		t.Errorf("two fields: %d", resp.StatusCode)
	}
}

// Only who has shown a certificate that was verified and is welcome gets through, in
// either version of HTTP, also when the session of TLS is resumed.
func TestRequireClientCert(t *testing.T) {
	t.Parallel()
	ca := tlsTestCA()
	friend, stranger := ca.issue(t, 20, "friend", "friend.test"), ca.issue(t, 21, "stranger")
	mux := NewMux()
	h := func(w *ResponseWriter, r *Request) error { return w.Text(200, AuthUser(r)) }
	mux.Get("/open", h)
	mux.Get("/any", h, RequireClientCert(nil))
	mux.Get("/friends", h, RequireClientCert(func(cert *x509.Certificate) (string, bool) {
		i := slices.Index(cert.DNSNames, "friend.test")
		if i < 0 {
			return "", false
		}
		return cert.DNSNames[i], true
	}))
	verified := startTLSServer(t, &Server{Handler: mux, TLSConfig: &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.pool}})
	unverified := startTLSServer(t, &Server{Handler: mux, TLSConfig: &tls.Config{ClientAuth: tls.RequireAnyClientCert}})
	plain := startServer(t, &Server{Handler: mux})
	for _, row := range []struct {
		name, addr         string
		certs              []tls.Certificate
		open, any, friends string
	}{
		{"none", verified, nil, "200 ", "403", "403"},
		{"a friend's", verified, []tls.Certificate{friend}, "200 ", "200 friend", "200 friend.test"},
		{"a stranger's", verified, []tls.Certificate{stranger}, "200 ", "200 stranger", "403"},
		{"not verified", unverified, []tls.Certificate{friend}, "200 ", "403", "403"},
		{"without TLS", plain, nil, "200 ", "403", "403"},
	} {
		for _, http2 := range []bool{false, true} {
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!http2 || row.addr == plain)
			protocols.SetHTTP2(http2)
			config := tlsClientConfig()
			config.Certificates, config.ClientSessionCache = row.certs, tls.NewLRUClientSessionCache(1)
			scheme := "https://"
			if row.addr == plain {
				scheme = "http://"
			}
			for range 2 {
				client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: config, Protocols: protocols}}
				for path, want := range map[string]string{"/open": row.open, "/any": row.any, "/friends": row.friends} {
					resp, err := client.Get(scheme + row.addr + path)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					got := fmt.Sprint(resp.StatusCode)
					if resp.StatusCode == 200 {
						got += " " + string(body)
					}
					if got != want || err != nil {
						t.Errorf("certificate %s, HTTP/2 %v, %s: %s, %v, want %s", row.name, http2, path, got, err, want)
					}
				}
				client.CloseIdleConnections()
			}
		}
	}
}

func TestRequireBearer(t *testing.T) {
	h := RequireBearer("api", BearerTokens("one", "two"))(HandlerFunc(func(w *ResponseWriter, r *Request) error { return nil }))
	for _, c := range []struct {
		field     string
		status    int
		challenge string
	}{
		{"Bearer one", 200, ""},
		{"bearer two", 200, ""},
		{"", 401, `Bearer realm="api"`},
		{"Basic one", 401, `Bearer realm="api"`},
		{"Bearer", 401, `Bearer realm="api"`},
		{"Bearer one two", 401, `Bearer realm="api"`},
		{"Bearer onetwo", 401, `Bearer realm="api", error="invalid_token"`},
		{"Bearer o", 401, `Bearer realm="api", error="invalid_token"`},
	} {
		resp := authAsk(t, h, c.field)
		if resp.StatusCode != c.status || resp.Header.Get("WWW-Authenticate") != c.challenge {
			t.Errorf("%q: %d %v", c.field, resp.StatusCode, resp.Header)
		}
	}
}

func TestAuthInjection(t *testing.T) {
	for _, bad := range []string{"\r\nX: y", "\n", "\r", "\x00"} {
		never := HandlerFunc(func(w *ResponseWriter, r *Request) error { return errors.New("let pass") })
		for name, h := range map[string]Handler{
			"basic realm":  RequireBasic(bad, BasicUsers(nil))(never),
			"bearer realm": RequireBearer(bad, BearerTokens())(never),
			"digest realm": (&DigestVerifier{Realm: bad}).Require(nil)(never),
		} {
			c := dialRaw(t, strings.TrimPrefix(TestServer(t, &Server{Handler: h, Logger: quietLogger()}), "http://"))
			if a := c.get("/"); a.StatusCode != 500 || a.Header.Get("X") != "" || a.Header.Get("WWW-Authenticate") != "" {
				t.Errorf("%s with %q: %d %v", name, bad, a.StatusCode, a.Header)
			}
		}
		for name, d := range map[string]*digestAuth{
			"user":     {user: bad},
			"password": {password: bad},
		} {
			d.take([]challenge{{scheme: "Digest", params: []authParam{{"nonce", "n"}}}}, "")
			if got, err := d.Authorization(context.Background(), &AuthRequest{Method: "GET", Target: "/"}); err == nil {
				t.Errorf("digest %s with %q: %q", name, bad, got)
			}
		}
		for _, param := range []string{"nonce", "realm", "opaque"} {
			var d digestAuth
			d.take([]challenge{{scheme: "Digest", params: []authParam{{param, bad}, {"nonce", "n"}}}}, "")
			if got, err := d.Authorization(context.Background(), &AuthRequest{Method: "GET", Target: "/"}); err == nil {
				t.Errorf("digest %s with %q: %q", param, bad, got)
			}
		}
		var d digestAuth
		d.take([]challenge{{scheme: "Digest", params: []authParam{{"nonce", "n"}}}}, "")
		if got, err := d.Authorization(context.Background(), &AuthRequest{Method: "GET", Target: "/" + bad}); err == nil {
			t.Errorf("digest target with %q: %q", bad, got)
		}
	}
}

func TestSecretEqual(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{{"", "", true}, {"a", "a", true}, {"a", "b", false}, {"a", "aa", false}, {"", "a", false}} {
		if SecretEqual(c.a, c.b) != c.want {
			t.Errorf("%q %q", c.a, c.b)
		}
	}
}
