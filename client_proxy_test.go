package flare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestClientProxyEnvironment(t *testing.T) {
	t.Setenv("http_proxy", "")
	t.Setenv("https_proxy", "proxy.test:3129")
	t.Setenv("HTTP_PROXY", "http://proxy.test:3128")
	t.Setenv("HTTPS_PROXY", "http://other.test")
	t.Setenv("no_proxy", "")
	t.Setenv("NO_PROXY", "never.test, .below.test,10.0.0.0/8,192.0.2.1, port.test:81,[2001:db8::1],fe80::/64,fe81::1,fe82::1%eth1")
	t.Setenv("REQUEST_METHOD", "")
	env := readProxyEnvironment()
	const plain, secure = "http://proxy.test:3128", "http://proxy.test:3129"
	tests := []struct{ url, want string }{
		{"http://a.test", plain}, {"https://a.test", secure},
		{"http://never.test", ""}, {"http://x.never.test", ""}, {"http://xnever.test", plain},
		{"http://below.test", plain}, {"http://x.below.test", ""},
		{"http://10.1.2.3", ""}, {"http://11.1.2.3", plain}, {"http://192.0.2.1", ""}, {"http://192.0.2.2", plain},
		{"http://port.test:81", ""}, {"http://port.test", plain}, {"http://[2001:db8::1]", ""}, {"http://[2001:db8::2]", plain},
		{"http://[fe80::1%25eth0]", ""}, {"http://[fe81::1%25eth0]", ""}, {"http://[fe82::1%25eth1]", ""}, {"http://[fe82::1%25eth2]", plain},
		// A zone is whatever one writes there, and no name.
		{"http://[fe90::1%25never.test]", plain}, {"http://[fe90::1%25x.never.test]", plain}, {"http://[fe90::1%25.below.test]", plain}, {"http://[fe90::1%25x.port.test]:81", plain},
		{"http://localhost", ""}, {"http://127.0.0.1", ""}, {"http://[::1]:80", ""}, {"http://a.localhost", ""},
	}
	for _, tt := range tests {
		target, err := parseTarget(tt.url, PhaseRequest)
		if err != nil {
			t.Fatal(err)
		}
		if got := env.proxyURL(&target); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.url, got, tt.want)
		}
	}
	t.Setenv("REQUEST_METHOD", "GET")
	if env := readProxyEnvironment(); env.http != "" {
		t.Error("a CGI program believes HTTP_PROXY")
	}
}

// clientProxyServer is a proxy of package net/http, and what it was asked for.
func clientProxyServer(t *testing.T, refuse int) (*httptest.Server, *[]string) {
	h, asked := clientProxyHandler(refuse)
	ts := httptest.NewServer(h)
	t.Cleanup(ts.Close)
	return ts, asked
}

func clientProxyHandler(refuse int) (http.Handler, *[]string) {
	var asked []string
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization"))
		if refuse != 0 {
			w.WriteHeader(refuse)
			return
		}
		if r.Method != http.MethodConnect {
			r.RequestURI = ""
			http.NewResponseController(w).EnableFullDuplex() // the answer may begin before the body's end
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				w.WriteHeader(502)
				return
			}
			defer resp.Body.Close()
			if _, err := io.Copy(w, resp.Body); err != nil {
				panic(http.ErrAbortHandler) // or a body that was cut would end in order
			}
			return
		}
		far, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(502)
			return
		}
		near, _, _ := w.(http.Hijacker).Hijack()
		io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { io.Copy(far, near); far.Close() }()
		go func() { io.Copy(near, far); near.Close() }()
	}), &asked
}

func clientThrough(proxy string) func(*url.URL) (*url.URL, error) {
	return func(*url.URL) (*url.URL, error) { return url.Parse(proxy) }
}

func TestClientProxy(t *testing.T) {
	proxy, asked := clientProxyServer(t, 0)
	plain := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(clientEcho))
	defer secure.Close()
	second := httptest.NewUnstartedServer(http.HandlerFunc(clientEcho))
	second.EnableHTTP2 = true
	second.StartTLS()
	defer second.Close()
	c := clientOf(t, &Client{Proxy: clientThrough(strings.Replace(proxy.URL, "//", "//u:p@", 1)), TLSConfig: tlsTrusting(secure.Certificate())})
	for _, call := range []struct{ url, version string }{
		{plain.URL, "HTTP/1.1"}, {secure.URL, "HTTP/1.1"}, {secure.URL, "HTTP/1.1"}, {second.URL, "HTTP/2.0"}, {second.URL, "HTTP/2.0"},
	} {
		resp, err := c.Post(clientContext(t), call.url+"/x", "abc")
		clientWantText(t, resp, err, 200, "abc")
		if resp.Proto() != call.version {
			t.Errorf("%s answered by %s", call.url, resp.Proto())
		}
	}
	want := fmt.Sprintf("[POST %s/x Basic dTpw CONNECT %s Basic dTpw CONNECT %s Basic dTpw]", plain.URL,
		strings.TrimPrefix(secure.URL, "https://"), strings.TrimPrefix(second.URL, "https://"))
	if got := fmt.Sprint(*asked); got != want {
		t.Errorf("the proxy was asked %s, want %s", got, want)
	}
	refusing, _ := clientProxyServer(t, 407)
	_, err := clientOf(t, &Client{Proxy: clientThrough(refusing.URL)}).Get(clientContext(t), secure.URL)
	var e *ResponseError
	if !errors.As(err, &e) || e.StatusCode != 407 {
		t.Errorf("refused tunnel: %v", err)
	}
}

// clientStart starts a program and waits until something listens at addr.
func clientStart(t *testing.T, addr string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Skipf("%s does not start: %v", name, err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, name+" to listen", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// clientProgram returns where a program is, and a free port, or skips.
func clientProgram(t *testing.T, names ...string) (path, addr, port string) {
	for _, name := range names {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skipf("no %v on this machine", names)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr = ln.Addr().String()
	return path, addr, addr[strings.LastIndexByte(addr, ':')+1:]
}

func TestClientTinyproxy(t *testing.T) {
	path, addr, port := clientProgram(t, "tinyproxy")
	conf := filepath.Join(t.TempDir(), "tinyproxy.conf")
	text := "Port " + port + "\nListen 127.0.0.1\nTimeout 30\nMaxClients 20\nAllow 127.0.0.1\nBasicAuth u p\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	clientStart(t, addr, path, "-d", "-c", conf)
	clientThroughReal(t, addr)
}

func TestClientSquid(t *testing.T) {
	path, addr, _ := clientProgram(t, "squid")
	const anyPassword = "/usr/lib/squid/basic_fake_auth"
	if _, err := os.Stat(anyPassword); err != nil {
		t.Skip("squid has no helper that takes any password: ", err)
	}
	dir, err := os.MkdirTemp("", "flare-squid")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o777) // squid gives up being root
	conf := filepath.Join(dir, "squid.conf")
	text := "http_port " + addr + `
visible_hostname test
pid_filename none
cache deny all
access_log none
cache_store_log none
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
cache_log ` + dir + `/log
auth_param basic program ` + anyPassword + `
auth_param basic children 1
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
`
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	clientStart(t, addr, path, "-N", "-f", conf)
	clientThroughReal(t, addr)
}

// clientThroughReal sends requests through a proxy that knows a user u with the
// password p, to plain and https origins, each over connections that are used
// again, and without the password.
func clientThroughReal(t *testing.T, addr string) {
	plain := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer plain.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(clientEcho))
	defer secure.Close()
	trusting := tlsTrusting(secure.Certificate())
	long := strings.Repeat("x", 200<<10)
	c := clientOf(t, &Client{Proxy: clientThrough("http://u:p@" + addr), TLSConfig: trusting})
	for range 3 {
		for _, url := range []string{plain.URL, secure.URL} {
			resp, err := c.Post(clientContext(t), url, long)
			clientWantText(t, resp, err, 200, long)
			resp, err = c.Get(clientContext(t), url+"/x")
			clientWantText(t, resp, err, 200, "")
		}
	}
	c = clientOf(t, &Client{Proxy: clientThrough("http://" + addr), TLSConfig: trusting})
	if resp, err := c.Get(clientContext(t), plain.URL); err != nil || resp.StatusCode/100 != 4 {
		t.Errorf("without a password: %v, %v", resp, err)
	} else if _, err := resp.Bytes(); err != nil {
		t.Error(err)
	}
	var refused *ResponseError
	if _, err := c.Get(clientContext(t), secure.URL); !errors.As(err, &refused) || refused.StatusCode/100 != 4 {
		t.Errorf("a tunnel without a password: %v", err)
	}
}

func TestClientNginx(t *testing.T) {
	path, addr, port := clientProgram(t, "nginx")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file.txt"), []byte(strings.Repeat("0123456789", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "users"), []byte("u:{PLAIN}p\n"), 0o644)
	os.Chmod(dir, 0o755)
	conf := filepath.Join(dir, "nginx.conf")
	text := `daemon off; master_process off; pid ` + dir + `/pid; error_log stderr crit;
events {}
http {
	access_log off;
	client_body_temp_path ` + dir + `/b; proxy_temp_path ` + dir + `/p; fastcgi_temp_path ` + dir + `/f; uwsgi_temp_path ` + dir + `/u; scgi_temp_path ` + dir + `/s;
	gzip on; gzip_min_length 1; gzip_types text/plain; default_type text/plain; keepalive_requests 5;
	server {
		listen 127.0.0.1:` + port + `; root ` + dir + `;
		location /private/ { auth_basic "r"; auth_basic_user_file ` + dir + `/users; alias ` + dir + `/; }
	}
}
`
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	clientStart(t, addr, path, "-p", dir, "-c", conf)
	dials := 0
	c := clientOf(t, &Client{BaseURL: "http://" + addr, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials++
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	want := strings.Repeat("0123456789", 1000)
	for range 12 { // over keepalive_requests
		resp, err := c.Get(clientContext(t), "/file.txt")
		clientWantText(t, resp, err, 200, want)
		if !resp.Decoded {
			t.Error("the answer came without gzip")
		}
	}
	if dials != 3 {
		t.Errorf("%d connections for 12 requests, 5 on each", dials)
	}
	r := &ClientRequest{URL: "/file.txt"}
	r.Header.Set("Range", "bytes=10-19")
	resp, err := c.Do(clientContext(t), r)
	clientWantText(t, resp, err, 206, "0123456789")
	if got := resp.Header.Get("Content-Range"); got != "bytes 10-19/10000" || resp.Decoded {
		t.Errorf("range %q, decoded %v", got, resp.Decoded)
	}
	r.Header.Set("Range", "bytes=10-19, 30-31")
	if resp, err = c.Do(clientContext(t), r); err != nil || resp.StatusCode != 206 {
		t.Fatalf("%v %v", resp, err)
	}
	if text, err := resp.Text(); err != nil || !strings.Contains(text, "bytes 30-31/10000") {
		t.Errorf("two ranges: %q, %v", text, err)
	}
	r.Header.Set("Range", "bytes=20000-")
	if resp, err = c.Do(clientContext(t), r); err != nil || resp.StatusCode != 416 {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	if resp, err = c.Get(clientContext(t), "/private/file.txt"); err != nil || resp.StatusCode != 401 {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	c = clientOf(t, &Client{BaseURL: "http://" + addr, Auth: BasicAuth("u", "p")})
	resp, err = c.Get(clientContext(t), "/private/file.txt")
	clientWantText(t, resp, err, 200, want)
}

func TestClientPythonServer(t *testing.T) {
	path, addr, port := clientProgram(t, "python3")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file.txt"), []byte("from Python"), 0o644); err != nil {
		t.Fatal(err)
	}
	clientStart(t, addr, path, "-m", "http.server", "--bind", "127.0.0.1", "--directory", dir, port)
	c := clientOf(t, &Client{BaseURL: "http://" + addr})
	for range 3 {
		resp, err := c.Get(clientContext(t), "/file.txt")
		clientWantText(t, resp, err, 200, "from Python")
	}
	resp, err := c.Get(clientContext(t), "/missing")
	if err != nil || resp.StatusCode != 404 || resp.Err() == nil {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestClientOwnServer(t *testing.T) {
	url := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		if r.Path() == "/stream" {
			for _, c := range p {
				w.Write([]byte{c})
				if err := w.Flush(); err != nil {
					return err
				}
			}
			return nil
		}
		return w.Blob(200, "text/plain", p)
	})})
	c := clientOf(t, &Client{BaseURL: url})
	for _, path := range []string{"/", "/stream"} {
		for _, body := range []any{nil, []byte("abc"), io.MultiReader(strings.NewReader("abc"))} {
			want := "abc"
			if body == nil {
				want = ""
			}
			resp, err := c.Post(clientContext(t), path, body)
			clientWantText(t, resp, err, 200, want)
		}
	}
	r := &ClientRequest{Method: "POST", URL: "/"}
	r.SetBody(strings.Repeat("x", 1<<20))
	r.Header.Set("Expect", "100-continue")
	resp, err := c.Do(clientContext(t), r)
	clientWantText(t, resp, err, 200, strings.Repeat("x", 1<<20))
}

// bypassedByLabels is what a member of NO_PROXY that is a name means, label by label:
// the name and all below it, or with a dot in front only those below.
func bypassedByLabels(member, host string) bool {
	member = strings.TrimPrefix(member, "*")
	member, below := strings.CutPrefix(member, ".")
	name, labels := strings.Split(member, "."), strings.Split(host, ".")
	more := len(labels) - len(name)
	return more >= 0 && (more > 0 || !below) && slices.Equal(labels[max(more, 0):], name)
}

// FuzzNoProxy holds that members of NO_PROXY stand for themselves, that addresses are
// meant by addresses alone and names by their labels.
func FuzzNoProxy(f *testing.F) {
	for _, seed := range [][2]string{
		{"never.test, .below.test", "x.never.test"}, {"*", "a"}, {"*.test,,", "a.test."}, {"10.0.0.0/8,192.0.2.1:81", "192.0.2.1:81"},
		{"[2001:db8::1]:80, fe80::/64, fe81::1%eth0", "[fe81::1%25eth0]"}, {"port.test:81", "port.test:81"}, {"::ffff:10.0.0.1", "10.0.0.1"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, list, authority string) {
		target, err := parseTarget("http://"+authority, PhaseRequest)
		if err != nil || strings.Contains(list, "\x00") {
			t.Skip("no target, or no environment")
		}
		t.Setenv("http_proxy", "proxy.test")
		bypassed := func(list string) bool {
			t.Setenv("no_proxy", list)
			env := readProxyEnvironment()
			return env.proxyURL(&target) == ""
		}
		host := strings.TrimSuffix(target.host, ".")
		addr, literal := literalAddr(target.host)
		if bypassed(",") {
			if !isLocalhost(host) && !addr.WithZone("").Unmap().IsLoopback() {
				t.Errorf("%q is no loopback", authority)
			}
			t.Skip("never asked of a proxy")
		}
		some := false
		for member := range strings.SplitSeq(list, ",") {
			one := bypassed(member)
			some = some || one
			member = strings.ToLower(strings.TrimSpace(member))
			isName := member != "" && member != "*" && strings.Trim(member, "abcdefghijklmnopqrstuvwxyz.-") == ""
			switch {
			case isName && literal && one:
				t.Errorf("the name %q means the address %q", member, target.host)
			case isName && !literal && one != bypassedByLabels(member, host):
				t.Errorf("%q means %q: %t", member, host, one)
			}
		}
		if got := bypassed(list); list != "" && got != some {
			t.Errorf("%q means %q: %t, its members %t", list, authority, got, some)
		}
	})
}

// FuzzConnectAnswer holds what a proxy's answer to CONNECT has to be for a tunnel:
// heads of interim responses, that of a 2xx, whatever it says of a body, and nothing
// behind it.
func FuzzConnectAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 299 \r\nContent-Length: 5\r\nX: y\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nearly",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n",
		"HTTP/1.1 407 Who\r\nContent-Length: 1\r\n\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/2 200\r\n\r\n", "", "\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	c := &Client{MaxHeaderBytes: 1 << 10}
	c.prepare()
	f.Fuzz(func(t *testing.T, in []byte) {
		ask := func(r io.Reader) error {
			raw := &cannedConn{in: r}
			conn := newClientConn(raw, clientRoute{proxy: &clientProxy{authorization: "Proxy-Authorization: x\r\n"}}, "origin.test:443")
			err := c.tunnel(conn, time.Time{})
			if got := raw.out.String(); got != "CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\nProxy-Authorization: x\r\n\r\n" {
				t.Errorf("the proxy was sent %q", got)
			}
			var e *ClientError
			if err != nil && (!errors.As(err, &e) || e.Phase != PhaseProxy) {
				t.Errorf("%q: %v", in, err)
			}
			return err
		}
		whole, slow := ask(bytes.NewReader(in)), ask(iotest.OneByteReader(bytes.NewReader(in)))
		if early := errors.Is(whole, errEarlyBytes); early && slow != nil || !early && (whole == nil) != (slow == nil) {
			t.Errorf("%q: %v, octet by octet %v", in, whole, slow)
		}
		if whole != nil {
			return
		}
		heads := strings.SplitAfter(string(in), "\r\n\r\n")
		if last := len(heads) - 1; last < 1 || heads[last] != "" || heads[last-1][:8] < "HTTP/1.0" || heads[last-1][9] != '2' {
			t.Errorf("%q opened a tunnel", in)
		}
		for _, head := range heads[:max(len(heads)-2, 0)] {
			if head[9] != '1' || head[9:12] == "101" {
				t.Errorf("%q opened a tunnel behind %q", in, head)
			}
		}
	})
}
