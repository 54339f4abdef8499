package flare

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDigestVectors has the examples of the RFCs.
func TestDigestVectors(t *testing.T) {
	for _, c := range []struct {
		name, algorithm, user, password, realm, target, nonce, cnonce, want string
	}{
		{"RFC 7616 §3.9.1, MD5", "MD5", "Mufasa", "Circle of Life", "http-auth@example.org", "/dir/index.html",
			"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "8ca523f5e9506fed4657c9700eebdbec"},
		{"RFC 7616 §3.9.1, SHA-256", "SHA-256", "Mufasa", "Circle of Life", "http-auth@example.org", "/dir/index.html",
			"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"},
		{"RFC 7616 §3.9.2 as corrected by erratum 4897", "SHA-512-256", "J\u00e4s\u00f8n Doe", "Secret, or not?", "api@example.org", "/doe.json",
			"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v", "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"},
		{"RFC 2617 §3.5", "", "Mufasa", "Circle Of Life", "testrealm@host.com", "/dir/index.html",
			"dcd98b7102dd2f0e8b11d0f600bfb0c093", "0a4f113b", "6629fae49393a05397450978507c4ef1"},
	} {
		a, ok := digestAlgorithmOf(c.algorithm)
		if !ok {
			t.Fatal(c.name)
		}
		got := a.response(a.secret(c.user, c.realm, c.password, c.nonce, c.cnonce), "GET", c.target, c.nonce, "00000001", c.cnonce, "auth", "")
		if got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

// digestAsk sends a request the way a client does that has credentials: again
// after a challenge, once.
func digestAsk(t *testing.T, client *http.Client, d Credentials, method, url, body string) (resp *http.Response, sent string, tries int) {
	t.Helper()
	for {
		req, err := http.NewRequest(method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		sent, err = d.Authorization(context.Background(), &AuthRequest{Method: method, Target: req.URL.RequestURI(),
			Body: func() (io.Reader, error) { return strings.NewReader(body), nil }})
		if err != nil {
			t.Fatal(err)
		}
		if sent != "" {
			req.Header.Set("Authorization", sent)
		}
		if resp, err = client.Do(req); err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		tries++
		if resp.StatusCode != 401 || tries == 3 {
			return resp, sent, tries
		}
		if !d.Challenged(context.Background(), resp.Header["Www-Authenticate"], sent) {
			return resp, sent, tries
		}
	}
}

// digestHandler wants the password of user in every test.
func digestHandler(v *DigestVerifier, user, password string) Handler {
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		body, err := r.Bytes()
		if err != nil {
			return err
		}
		got, ok, err := v.Verify(w, r, body, func(u string) (string, bool) { return password, u == user })
		if !ok {
			return err
		}
		return w.Text(200, got)
	})
}

func TestDigestRoundTrip(t *testing.T) {
	for _, qop := range []string{"auth", "auth-int"} {
		for _, algorithm := range []string{"MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"} {
			for _, user := range []string{"Mufasa", `quo"te\`, "J\u00e4s\u00f8n Doe"} {
				v := &DigestVerifier{Realm: "a realm", QOP: []string{qop}, Algorithms: []string{algorithm}}
				client := TestClient(t, &Server{Handler: digestHandler(v, user, "pass:word")})
				d := DigestAuth(user, "pass:word")
				for i, want := range []int{2, 1, 1} { // one challenge, and the nonce serves on
					resp, sent, tries := digestAsk(t, client, d, "POST", "http://h/x?y=z", "body")
					if resp.StatusCode != 200 || tries != want {
						t.Errorf("%s %s %s, request %d: %d after %d", qop, algorithm, user, i, resp.StatusCode, tries)
					}
					info := resp.Header.Get("Authentication-Info")
					if (info != "") != (qop == "auth") || d.Answered(context.Background(), info, sent) != nil {
						t.Errorf("%s %s: proof %q, %v", qop, algorithm, info, d.Answered(context.Background(), info, sent))
					}
					if qop == "auth" {
						if err := d.Answered(context.Background(), strings.Replace(info, `rspauth="`, `rspauth="0`, 1), sent); err != errDigestServer {
							t.Errorf("wrong proof: %v", err)
						}
					}
				}
				for name, wrong := range map[string]Credentials{
					"password": DigestAuth(user, "pass"), "user": DigestAuth("x", "pass:word"), "both": DigestAuth("", ""),
				} {
					if resp, _, tries := digestAsk(t, client, wrong, "GET", "http://h/", ""); resp.StatusCode != 401 || tries != 2 {
						t.Errorf("wrong %s: %d after %d", name, resp.StatusCode, tries)
					}
				}
			}
		}
	}
}

// TestDigestRefused changes a valid answer in one place.
func TestDigestRefused(t *testing.T) {
	for _, c := range []struct {
		name, old, new string
		method, target string
		body           string
		status         int
	}{
		{name: "nothing", status: 200},
		{name: "response", old: `response="`, new: `response="0`, status: 401},
		{name: "no response", old: `response="`, new: `x="`, status: 401},
		{name: "realm", old: `realm="r"`, new: `realm="s"`, status: 401},
		{name: "count", old: "nc=00000001", new: "nc=00000002", status: 401},
		{name: "count of another form", old: "nc=00000001", new: "nc=1", status: 401},
		{name: "cnonce", old: `cnonce="`, new: `cnonce="0`, status: 401},
		{name: "user", old: `username="u"`, new: `username="v"`, status: 401},
		{name: "qop", old: "qop=auth-int", new: "qop=auth", status: 401},
		{name: "algorithm", old: "algorithm=SHA-256", new: "algorithm=MD5", status: 401},
		{name: "unknown algorithm", old: "algorithm=SHA-256", new: "algorithm=x", status: 401},
		{name: "uri", old: `uri="/a"`, new: `uri="/b"`, status: 401},
		{name: "target", target: "/b", status: 401},
		{name: "method", method: "PUT", status: 401},
		{name: "body", body: "changed", status: 401},
		{name: "scheme", old: "Digest ", new: "Basic ", status: 401},
		{name: "syntax", old: `nonce="`, new: `nonce="\`, status: 200}, // an escape that says the same
		{name: "broken syntax", old: `username="u"`, new: `username="u`, status: 401},
	} {
		v := &DigestVerifier{Realm: "r", QOP: []string{"auth-int"}, Algorithms: []string{"SHA-256"}}
		client := TestClient(t, &Server{Handler: digestHandler(v, "u", "p")})
		send := func(field string) *http.Response {
			method, target, body := "POST", "/a", "body"
			if c.method != "" {
				method = c.method
			}
			if c.target != "" {
				target = c.target
			}
			if c.body != "" {
				body = c.body
			}
			req, _ := http.NewRequest(method, "http://h"+target, strings.NewReader(body))
			req.Header.Set("Authorization", field)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp
		}
		d := DigestAuth("u", "p")
		if challenges := send("").Header["Www-Authenticate"]; !d.Challenged(context.Background(), challenges, "") {
			t.Fatal(challenges)
		}
		field, err := d.Authorization(context.Background(), &AuthRequest{Method: "POST", Target: "/a", Body: func() (io.Reader, error) { return strings.NewReader("body"), nil }})
		if err != nil || !strings.Contains(field, c.old) {
			t.Fatalf("%s: %q %v", c.name, field, err)
		}
		changed := strings.Replace(field, c.old, c.new, 1)
		resp := send(changed)
		if resp.StatusCode != c.status || strings.Contains(resp.Header.Get("WWW-Authenticate"), "stale") {
			t.Errorf("%s: %d %q", c.name, resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
		}
		if c.status == 200 { // a second time it is a replay
			if resp := send(changed); resp.StatusCode != 401 || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "stale=true") {
				t.Errorf("%s, replayed: %d %q", c.name, resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
			}
		}
	}
}

// TestDigestStale: an old nonce costs one more request, no question.
func TestDigestStale(t *testing.T) {
	now := time.Unix(1e9, 0)
	v := &DigestVerifier{Realm: "r", NonceLife: time.Minute, Now: func() time.Time { return now }}
	client := TestClient(t, &Server{Handler: digestHandler(v, "u", "p")})
	d := &digestAuth{user: "u", password: "p"}
	ask := func(want int) {
		t.Helper()
		if resp, _, tries := digestAsk(t, client, d, "GET", "http://h/", ""); resp.StatusCode != 200 || tries != want {
			t.Errorf("%d after %d, want %d", resp.StatusCode, tries, want)
		}
	}
	ask(2)
	now = now.Add(time.Minute)
	ask(1)
	now = now.Add(1)
	ask(2)
	d.nonce = "made-up"
	ask(2)
	d.nonce = (&DigestVerifier{}).nonce(now) // of another server, or of this one before its restart
	ask(2)
}

// TestDigestNextNonce: the client goes on with the server's next nonce.
func TestDigestNextNonce(t *testing.T) {
	d := &digestAuth{user: "u", password: "p"}
	challenges := []string{`Basic realm="r", Digest realm="r", algorithm=unknown, nonce="x"`, `Digest realm="r", qop="auth-int,auth", nonce="one", opaque="o"`}
	if !d.Challenged(context.Background(), challenges, "") {
		t.Fatal("takes none")
	}
	r := &AuthRequest{Method: "GET", Target: "/"}
	first, _ := d.Authorization(context.Background(), r)
	second, _ := d.Authorization(context.Background(), r)
	if err := d.Answered(context.Background(), `nextnonce="two"`, second); err != nil {
		t.Fatal(err)
	}
	third, _ := d.Authorization(context.Background(), r)
	for i, want := range []string{`nonce="one", nc=00000001`, `nonce="one", nc=00000002`, `nonce="two", nc=00000001`} {
		if got := []string{first, second, third}[i]; !strings.Contains(got, want) || !strings.Contains(got, `opaque="o"`) || !strings.Contains(got, "qop=auth,") {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
	if err := d.Answered(context.Background(), `nextnonce=`, third); err != nil { // the answer is one without it
		t.Errorf("malformed: %v", err)
	}
	if d.take([]challenge{{scheme: "Digest", params: []authParam{{"nonce", "three"}}}}, third) {
		t.Error("would send again what was refused")
	}
	if !d.take([]challenge{{scheme: "Digest", params: []authParam{{"nonce", "four"}, {"stale", "TRUE"}}}}, third) {
		t.Error("gives up on a stale nonce")
	}
	if got, _ := d.Authorization(context.Background(), r); strings.Contains(got, "qop") || strings.Contains(got, "nc=") { // RFC 2069
		t.Errorf("without qop: %s", got)
	}
	if d.take([]challenge{{scheme: "Digest", params: []authParam{{"nonce", "n"}, {"qop", "other"}}}}, "") {
		t.Error("takes an unknown qop")
	}
}

func TestDigestRequire(t *testing.T) {
	v := &DigestVerifier{Realm: "r"}
	client := TestClient(t, &Server{Handler: v.Require(func(user string) (string, bool) { return "p", user == "u" })(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("User", AuthUser(r))
		return nil
	}))})
	resp, _, _ := digestAsk(t, client, DigestAuth("u", "p"), "GET", "http://h/", "")
	if resp.StatusCode != 200 || resp.Header.Get("User") != "u" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	resp, _, _ = digestAsk(t, client, DigestAuth("v", "p"), "GET", "http://h/", "")
	challenges := resp.Header["Www-Authenticate"]
	if resp.StatusCode != 401 || len(challenges) != 2 {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	for _, text := range challenges {
		if all, err := parseChallenges(text); err != nil || len(all) != 1 || !strings.HasPrefix(text, `Digest realm="r", `) {
			t.Errorf("%q: %v, %v", text, all, err) // a parameter that comes twice is an error
		}
	}
}

func TestDigestUserhash(t *testing.T) {
	d := &digestAuth{user: "u", password: "p"}
	d.take([]challenge{{scheme: "Digest", params: []authParam{{"nonce", "n"}, {"realm", "r"}, {"userhash", "true"}}}}, "")
	got, err := d.Authorization(context.Background(), &AuthRequest{Method: "GET", Target: "/"})
	if want := fmt.Sprintf(`username="%x"`, md5.Sum([]byte("u:r"))); err != nil || !strings.Contains(got, want) || !strings.HasSuffix(got, "userhash=true") {
		t.Errorf("%s, %v", got, err)
	}
}

// TestDigestCounts: a count serves once, in any order within 64.
func TestDigestCounts(t *testing.T) {
	var u nonceUse
	for _, c := range []struct {
		n    uint32
		want bool
	}{{1, true}, {1, false}, {3, true}, {2, true}, {2, false}, {3, false}, {66, true}, {2, false}, {3, false}, {4, true}, {200, true}, {136, false}, {137, true}, {137, false}} {
		if got := u.take(c.n); got != c.want {
			t.Errorf("%d: %v", c.n, got)
		}
	}
}

// TestDigestNoncesBound: the counts that are kept are bounded, and what was
// forgotten is not answered again.
func TestDigestNoncesBound(t *testing.T) {
	now := time.Unix(1e9, 0)
	v := &DigestVerifier{}
	first := v.nonce(now)
	if !v.fresh(first, "00000001", now) {
		t.Fatal("not fresh")
	}
	for range 3 * digestNoncesMax {
		now = now.Add(time.Millisecond)
		v.fresh(v.nonce(now), "00000001", now)
		if len(v.used) > digestNoncesMax {
			t.Fatalf("%d nonces", len(v.used))
		}
	}
	if v.fresh(first, "00000001", now) {
		t.Error("replay of a forgotten nonce")
	}
	for range 2 * digestNoncesMax { // all at one moment
		v.fresh(v.nonce(now), "00000001", now)
	}
	if len(v.used) > digestNoncesMax {
		t.Errorf("%d nonces", len(v.used))
	}
	if now = now.Add(time.Millisecond); !v.fresh(v.nonce(now), "00000001", now) {
		t.Error("nothing is fresh any more")
	}
}

// TestDigestWithCurl has curl answer flare's challenges.
func TestDigestWithCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl to answer challenges")
	}
	// No SHA-512-256: curl before 8.7 computes SHA-256 for it.
	for _, algorithm := range []string{"MD5", "MD5-sess", "SHA-256", "SHA-256-sess"} {
		for _, qop := range [][]string{{"auth"}, {"auth-int"}, {"auth", "auth-int"}} {
			v := &DigestVerifier{Realm: "a realm", QOP: qop, Algorithms: []string{algorithm}}
			url := TestServer(t, &Server{Handler: digestHandler(v, `us"er`, "pass word")}) + "/x?y=z"
			for password, want := range map[string]string{"pass word": `us"er 200`, "wrong": " 401"} {
				out, err := exec.Command(curl, "-sS", "--max-time", "10", "--digest", "-u", `us"er:`+password, "-w", " %{http_code}", url, url).CombinedOutput()
				got := strings.ReplaceAll(string(out), "Unauthorized\n", "")
				if err != nil || got != want+want {
					t.Errorf("%s %s, password %q: %q, %v", algorithm, qop, password, got, err)
				}
			}
		}
	}
}

// TestDigestOfNginx says why there is none.
func TestDigestOfNginx(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("no nginx to be challenged by")
	}
	if out, _ := exec.Command(nginx, "-V").CombinedOutput(); !bytes.Contains(out, []byte("auth_digest")) {
		t.Skip("nginx has Digest in a third-party module alone, and this one is built without it")
	}
	t.Fatal("this nginx knows Digest: write the test that TestDigestOfApache is")
}

// TestDigestOfApache answers Apache's challenges, and checks its proofs.
func TestDigestOfApache(t *testing.T) {
	apache, modules := findApache(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	root, err := os.MkdirTemp("", "flare-apache")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	os.Chmod(root, 0o755) // Apache's children are nobody
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	conf := "ServerName localhost\nListen " + addr + "\nPidFile " + root + "/pid\nErrorLog " + root + "/log\nDocumentRoot " + root + "\n"
	for _, m := range []string{"mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_digest"} {
		conf += "LoadModule " + m + "_module " + filepath.Join(modules, "mod_"+m+".so") + "\n"
	}
	if os.Getuid() == 0 {
		conf += "User nobody\nGroup nogroup\n"
	}
	conf += "<Location />\nAuthType Digest\nAuthName \"a realm\"\nAuthDigestProvider file\nAuthUserFile " + root + "/users\nRequire valid-user\n</Location>\n"
	write("conf", conf)
	write("page", "hello")
	write("users", fmt.Sprintf("user:a realm:%x\n", md5.Sum([]byte("user:a realm:secret"))))

	cmd := exec.Command(apache, "-X", "-d", root, "-f", filepath.Join(root, "conf"))
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		cmd.Process.Kill()
		<-ended
	}()
	eventually(t, "Apache listening", func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	d := DigestAuth("user", "secret")
	for i, want := range []int{2, 1, 1} {
		resp, sent, tries := digestAsk(t, http.DefaultClient, d, "GET", "http://"+addr+"/page?x=y", "")
		if resp.StatusCode != 200 || tries != want {
			t.Fatalf("request %d: %d after %d, %s", i, resp.StatusCode, tries, output.String())
		}
		if info := resp.Header.Get("Authentication-Info"); info == "" || d.Answered(context.Background(), info, sent) != nil {
			t.Errorf("request %d: proof %q, %v", i, info, d.Answered(context.Background(), info, sent))
		}
	}
	if resp, _, _ := digestAsk(t, http.DefaultClient, DigestAuth("user", "wrong"), "GET", "http://"+addr+"/page", ""); resp.StatusCode != 401 {
		t.Errorf("wrong password: %d", resp.StatusCode)
	}
	c := clientOf(t, &Client{BaseURL: "http://" + addr, Auth: DigestAuth("user", "secret")})
	for range 3 {
		resp, err := c.Get(clientContext(t), "/page?x=y")
		clientWantText(t, resp, err, 200, "hello")
	}
	c = clientOf(t, &Client{BaseURL: "http://" + addr, Auth: DigestAuth("user", "wrong")})
	if resp, err := c.Get(clientContext(t), "/page"); err != nil || resp.StatusCode != 401 || resp.Err() == nil {
		t.Errorf("wrong password: %v, %v", resp, err)
	}
}

func findApache(t *testing.T) (binary, modules string) {
	for _, name := range []string{"apache2", "httpd"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		for _, dir := range []string{filepath.Join(filepath.Dir(path), "../lib/apache2/modules"), "/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/libexec/apache2"} {
			if _, err := os.Stat(filepath.Join(dir, "mod_auth_digest.so")); err == nil {
				return path, dir
			}
		}
	}
	t.Skip("no Apache with mod_auth_digest to be challenged by")
	return "", ""
}

// One odd parameter is no reason to give a challenge up: this is what cameras,
// printers and old servers send.
func TestDigestOddChallenges(t *testing.T) {
	for _, tt := range []struct{ field, want string }{
		{`Digest realm="r", nonce="n", domain=/x`, `realm="r", nonce="n"`},
		{`Digest realm="r", nonce=YWJj==`, `realm="r", nonce="YWJj=="`},
		{`Digest realm=My Camera, nonce="n"`, `realm="My Camera", nonce="n"`},
		{`Digest realm="r" nonce="n"`, `realm="r", nonce="n"`},
		{`Digest realm="r", nonce="n", nonce="m"`, `realm="r", nonce="n"`},
		{`Digest realm="r", =, x=, nonce="n"`, `realm="r", nonce="n"`},
		{`Digest realm="r", nonce="n", "junk, here", stale=false`, `realm="r", nonce="n"`},
		{`Digest realm="r", nonce="n", opaque=""`, `realm="r", nonce="n", opaque=""`},
		{`Digest realm="r", nonce="n", opaque="o"`, `realm="r", nonce="n", opaque="o"`},
		{`Digest realm="r", nonce="n", opaque=a=/b==`, `realm="r", nonce="n", opaque="a=/b=="`},
		{`Negotiate abc==, Digest realm="r", nonce="n"`, `realm="r", nonce="n"`},
		{`@, Digest realm="r", nonce="n"`, `realm="r", nonce="n"`},
	} {
		d := DigestAuth("u", "p")
		resp := &ClientResponse{StatusCode: 401}
		resp.Header.Add("WWW-Authenticate", tt.field)
		if again, err := challenged(t.Context(), d, resp, &clientCall{bodyDropped: true}, 0); !again || err != nil {
			t.Errorf("%s: %v, %v", tt.field, again, err)
			continue
		}
		sent, err := d.Authorization(context.Background(), &AuthRequest{Method: "GET", Target: "/"})
		if err != nil {
			t.Errorf("%s: %v", tt.field, err)
			continue
		}
		all, err := parseChallenges(sent)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, name := range []string{"realm", "nonce", "opaque"} {
			if all[0].has(name) {
				got += ", " + name + `="` + all[0].param(name) + `"`
			}
		}
		if got = strings.TrimPrefix(got, ", "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.field, got, tt.want)
		}
	}
}

// An Authentication-Info that cannot be read is none: the answer stands. No
// error has a line break in it.
func TestDigestMalformedInfo(t *testing.T) {
	for _, info := range []string{"rspauth", "=", `nextnonce="`, "x y z", ",,,", `rspauth="1" junk`} {
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Digest realm="r", nonce="n"`)
				w.WriteHeader(401)
				return
			}
			w.Header().Set("Authentication-Info", info)
		}))
		resp, err := clientOf(t, &Client{Auth: DigestAuth("u", "p")}).Get(clientContext(t), ts.URL)
		clientWantText(t, resp, err, 200, "")
		ts.Close()
	}
	d := DigestAuth("", "")
	for _, sent := range []string{"\x00", "Digest a=b, Digest c=d", `Digest nonce="`} {
		if err := d.Answered(context.Background(), `nextnonce="m"`, sent); err != nil {
			t.Errorf("%q: %v", sent, err)
		}
	}
}
