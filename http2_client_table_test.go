package flare

import (
	"compress/gzip"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// versionTableHandler is the server of versionCalls.
func versionTableHandler(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		body, err := io.ReadAll(r.Body)
		w.Header().Set("X-Request", fmt.Sprintf("%s %s %q length %d agent %s cookie %s, %v", r.Method, r.URL, r.Header["X-Two"], r.ContentLength, r.UserAgent(), r.Header.Get("Cookie"), err))
		w.Write(body)
	case "/trailer":
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", r.Trailer.Get("X-End"))
	case "/interim":
		w.Header().Set("Link", "</x>")
		w.WriteHeader(103)
		w.WriteHeader(200)
	case "/gzip":
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		io.WriteString(z, strings.Repeat(r.Header.Get("Accept-Encoding"), 1000))
		z.Close()
	case "/redirect":
		status, _ := strconv.Atoi(r.URL.RawQuery)
		http.SetCookie(w, &http.Cookie{Name: "was", Value: "redirected", Path: "/"})
		http.Redirect(w, r, "/echo?from="+r.URL.RawQuery, status)
	case "/basic":
		if user, password, ok := r.BasicAuth(); !ok || user+password != "userpassword" {
			w.Header().Set("WWW-Authenticate", "Basic realm=x")
			w.WriteHeader(401)
		}
	case "/status":
		status, _ := strconv.Atoi(r.URL.RawQuery)
		w.Header().Set("Etag", `"x"`)
		w.WriteHeader(status)
	case "/early":
		w.WriteHeader(413)
		io.WriteString(w, "too much")
	case "/big":
		w.Write(make([]byte, 3<<20))
	case "/large-head":
		w.Header().Set("X-Large", strings.Repeat("x", 80<<10))
	case "/cut":
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case "/slow":
		<-r.Context().Done()
	}
}

// versionCalls are calls that have the same outcome over all versions.
var versionCalls = []struct {
	name string
	r    func() *ClientRequest
	set  func(c *Client)
}{
	{"GET", func() *ClientRequest { return &ClientRequest{URL: "/echo?a=b%20c"} }, nil},
	{"HEAD", func() *ClientRequest { return &ClientRequest{Method: "HEAD", URL: "/big"} }, nil},
	{"fields", func() *ClientRequest {
		r := &ClientRequest{URL: "/echo"}
		r.Header.Add("X-Two", "1")
		r.Header.Add("X-Two", "2")
		r.Header.Set("User-Agent", "")
		r.Header.Set("Connection", "X-Hop")
		r.Header.Set("Cookie", "own=1")
		return r
	}, func(c *Client) { c.Header.Set("X-Two", "default") }},
	{"empty POST", func() *ClientRequest { return &ClientRequest{Method: "POST", URL: "/echo"} }, nil},
	{"short body", func() *ClientRequest { return withBody("/echo", []byte("short")) }, nil},
	{"long body", func() *ClientRequest { return withBody("/echo", make([]byte, 300_000)) }, nil},
	{"stream", func() *ClientRequest {
		return withBody("/echo", io.MultiReader(strings.NewReader("a"), strings.NewReader(strings.Repeat("b", 100_000))))
	}, nil},
	{"body that fails", func() *ClientRequest {
		return withBody("/echo", io.MultiReader(strings.NewReader("a"), ownFailure{}))
	}, nil},
	{"body too short", func() *ClientRequest {
		return &ClientRequest{Method: "PUT", URL: "/echo", Body: io.MultiReader(strings.NewReader("abc")), ContentLength: 5}
	}, nil},
	{"Expect", func() *ClientRequest {
		r := withBody("/echo", []byte("expected"))
		r.Header.Set("Expect", "100-continue")
		return r
	}, nil},
	{"Expect, refused", func() *ClientRequest {
		r := withBody("/early", []byte("expected"))
		r.Header.Set("Expect", "100-continue")
		return r
	}, nil},
	{"trailers", func() *ClientRequest {
		r := withBody("/trailer", io.MultiReader(strings.NewReader("x")))
		r.Trailer = func(h *Header) { h.Set("X-End", "end") }
		r.Header.Set("Trailer", "X-End")
		return r
	}, nil},
	{"1xx", func() *ClientRequest { return &ClientRequest{URL: "/interim"} }, nil},
	{"gzip", func() *ClientRequest { return &ClientRequest{URL: "/gzip"} }, nil},
	{"gzip, kept", func() *ClientRequest { return &ClientRequest{URL: "/gzip", KeepEncoded: true} }, nil},
	{"redirect", func() *ClientRequest { return withBody("/redirect?302", []byte("x")) }, func(c *Client) { c.Jar = new(Jar) }},
	{"redirect with the body", func() *ClientRequest { return withBody("/redirect?307", strings.NewReader("body")) }, nil},
	{"Basic", func() *ClientRequest { return withBody("/basic", []byte("x")) }, func(c *Client) { c.Auth = BasicAuth("user", "password") }},
	{"no Basic", func() *ClientRequest { return &ClientRequest{URL: "/basic"} }, nil},
	{"204", func() *ClientRequest { return &ClientRequest{URL: "/status?204"} }, nil},
	{"304", func() *ClientRequest { return &ClientRequest{URL: "/status?304"} }, nil},
	{"404", func() *ClientRequest { return &ClientRequest{URL: "/status?404"} }, nil},
	{"large head", func() *ClientRequest { return &ClientRequest{URL: "/large-head"} }, nil},
	{"large body", func() *ClientRequest { return &ClientRequest{URL: "/big"} }, func(c *Client) { c.MaxBodyBytes = 1 << 20 }},
	{"body cut off", func() *ClientRequest { return &ClientRequest{Method: "POST", URL: "/cut"} }, nil},
	{"no answer", func() *ClientRequest { return &ClientRequest{URL: "/slow"} }, func(c *Client) { c.ResponseTimeout = 100 * time.Millisecond }},
	{"no method", func() *ClientRequest { return &ClientRequest{Method: "a b", URL: "/"} }, nil},
}

type ownFailure struct{}

func (ownFailure) Read([]byte) (int, error) { return 0, errors.New("own failure") }

func withBody(url string, body any) *ClientRequest {
	r := &ClientRequest{Method: "POST", URL: url}
	r.SetBody(body)
	return r
}

// transcript is what a call comes to, without what differs by version.
func transcript(t testing.TB, c *Client, r *ClientRequest) string {
	var b strings.Builder
	ctx := httptrace.WithClientTrace(soon(t), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code != 100 { // a server may or may not
			fmt.Fprintln(&b, "interim", code, h.Get("Link"))
		}
		return nil
	}})
	resp, err := c.Do(ctx, r)
	if err == nil {
		var fields []string
		for name, value := range resp.Header.All() {
			switch name = strings.ToLower(name); name {
			case "date", "connection", "content-length", "transfer-encoding", "server", "keep-alive", "vary", "accept-ranges", "last-modified", "x-backend":
			case "etag":
				fields = append(fields, name)
			default:
				fields = append(fields, name+": "+value)
			}
		}
		slices.Sort(fields)
		fmt.Fprintln(&b, resp.StatusCode, resp.Decoded, strings.Join(fields, "\n"))
		var body []byte
		if body, err = resp.Bytes(); err == nil {
			fmt.Fprintln(&b, len(body), string(body[:min(len(body), 20)]), resp.Trailer().Get("X-Sum"))
		}
	}
	var e *ClientError
	if errors.As(err, &e) {
		fmt.Fprintln(&b, e.Phase, e.Kind)
	} else if err != nil {
		fmt.Fprintln(&b, err)
	}
	return b.String()
}

// versionClients are clients of HTTP/1.1 and of HTTP/2 for a server.
func versionClients(t testing.TB, base string, config *tls.Config) (clients [2]*Client) {
	for i := range clients {
		p := new(http.Protocols)
		p.SetHTTP1(i == 0)
		p.SetHTTP2(i == 1)
		clients[i] = &Client{BaseURL: base, TLSConfig: config, Protocols: p}
		t.Cleanup(clients[i].CloseIdleConnections)
	}
	return clients
}

// A call comes to the same over HTTP/1.1 and HTTP/2.
func TestHTTP2ClientTable(t *testing.T) {
	for _, server := range []string{"net/http", "flare"} {
		for _, call := range versionCalls {
			t.Run(server+"/"+call.name, func(t *testing.T) {
				t.Parallel()
				var base string
				config := tlsClientConfig()
				if server == "flare" {
					base = "https://" + startTLSServer(t, &Server{Handler: FromHTTP(http.HandlerFunc(versionTableHandler))})
				} else {
					srv := httptest.NewUnstartedServer(http.HandlerFunc(versionTableHandler))
					srv.EnableHTTP2 = true
					srv.Config.ErrorLog = clientNoLog()
					srv.StartTLS()
					t.Cleanup(srv.Close)
					base = srv.URL
					config = srv.Client().Transport.(*http.Transport).TLSClientConfig
				}
				var got [2]string
				for i, c := range versionClients(t, base, config) {
					if call.set != nil {
						call.set(c)
					}
					got[i] = transcript(t, c, call.r())
				}
				if call.name == "body cut off" { // the end of a connection there, RST_STREAM here
					got[0] = strings.Replace(got[0], ErrUnexpectedEOF.Error(), ErrReset.Error(), 1)
				}
				if got[0] != got[1] {
					t.Errorf("over HTTP/1.1:\n%s\nover HTTP/2:\n%s", got[0], got[1])
				}
			})
		}
	}
}

// http2Peers are servers of others: how they are started on a port with a
// certificate and a folder to serve.
var http2Peers = []struct {
	program string
	args    func(dir, cert, key, port string) []string
}{
	{"nginx", func(dir, cert, key, port string) []string {
		conf := "daemon off; master_process off; pid " + dir + "/pid; error_log stderr crit; events {} http { access_log off; client_body_temp_path " + dir + "/b; proxy_temp_path " + dir + "/p; fastcgi_temp_path " + dir + "/f; uwsgi_temp_path " + dir + "/u; scgi_temp_path " + dir + "/s; server { listen 127.0.0.1:" + port + " ssl http2; ssl_certificate " + cert + "; ssl_certificate_key " + key + "; root " + dir + "/root; } }"
		os.WriteFile(dir+"/conf", []byte(conf), 0o600)
		return []string{"-c", dir + "/conf"}
	}},
	{"h2o", func(dir, cert, key, port string) []string {
		conf := "listen:\n  host: 127.0.0.1\n  port: " + port + "\n  ssl:\n    certificate-file: " + cert + "\n    key-file: " + key + "\nhosts:\n  default:\n    paths:\n      /:\n        file.dir: " + dir + "/root\n"
		if os.Geteuid() == 0 {
			conf += "user: root\n"
		}
		os.WriteFile(dir+"/conf", []byte(conf), 0o600)
		return []string{"-c", dir + "/conf"}
	}},
	{"nghttpd", func(dir, cert, key, port string) []string {
		return []string{"-a", "127.0.0.1", "-d", dir + "/root", port, key, cert}
	}},
	{"node", func(dir, cert, key, port string) []string {
		script := `const h=require('http2'),fs=require('fs'),p=require('path');
h.createSecureServer({allowHTTP1:true,cert:fs.readFileSync(process.argv[2]),key:fs.readFileSync(process.argv[3])},(q,s)=>{
 fs.readFile(p.join(process.argv[4],new URL(q.url,'http://x').pathname),(e,d)=>{s.writeHead(e?404:200,{'content-type':'text/plain'});s.end(q.method=='HEAD'||e?undefined:d)})
}).listen(+process.argv[5],'127.0.0.1')`
		os.WriteFile(dir+"/server.js", []byte(script), 0o600)
		return []string{dir + "/server.js", cert, key, dir + "/root", port}
	}},
	{"haproxy", func(dir, cert, key, port string) []string {
		c, _ := os.ReadFile(cert)
		k, _ := os.ReadFile(key)
		os.WriteFile(dir+"/pem", append(c, k...), 0o600)
		conf := "defaults\n mode http\n timeout client 10s\n timeout server 10s\n timeout connect 10s\nfrontend f\n bind 127.0.0.1:" + port + " ssl crt " + dir + "/pem alpn h2,http/1.1\n http-request return status 404 if { path /missing }\n http-request return status 200 content-type text/plain file " + dir + "/root/small if { path /small }\n http-request return status 200 content-type text/plain file " + dir + "/root/large\n"
		os.WriteFile(dir+"/conf", []byte(conf), 0o600)
		return []string{"-f", dir + "/conf"}
	}},
}

// Servers of others answer over HTTP/2 what they answer over HTTP/1.1.
func TestHTTP2ClientPeers(t *testing.T) {
	for _, peer := range http2Peers {
		t.Run(peer.program, func(t *testing.T) {
			t.Parallel()
			program, err := exec.LookPath(peer.program)
			if err != nil {
				t.Skip("not installed")
			}
			dir := t.TempDir()
			os.Mkdir(filepath.Join(dir, "root"), 0o755)
			os.WriteFile(dir+"/root/small", []byte("small"), 0o644)
			os.WriteFile(dir+"/root/large", []byte(strings.Repeat("large", 2000)), 0o644)
			cert, key := tlsFiles(t, dir, tlsTestCA().issue(t, 3, "localhost"))
			port := freePort(t)
			cmd := exec.Command(program, peer.args(dir, cert, key, port)...)
			var output strings.Builder
			cmd.Stderr = &output
			cmd.WaitDelay = time.Second // a child of its may hold the pipe
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { cmd.Wait(); close(ended) }()
			t.Cleanup(func() { cmd.Process.Kill(); <-ended })
			base := "https://127.0.0.1:" + port
			clients := versionClients(t, base, tlsClientConfig())
			eventually(t, peer.program+" listens", func() bool {
				resp, err := clients[1].Get(soon(t), "/small")
				if err == nil {
					resp.Body.Close()
				}
				return err == nil
			})
			for _, call := range []struct{ method, path string }{
				{"GET", "/small"}, {"GET", "/large"}, {"HEAD", "/large"}, {"GET", "/missing"}, {"GET", "/small"},
			} {
				var got [2]string
				for i, c := range clients {
					if peer.program == "nghttpd" && i == 0 {
						continue // speaks HTTP/2 alone
					}
					got[i] = transcript(t, c, &ClientRequest{Method: call.method, URL: call.path})
				}
				if got[0] == "" {
					got[0] = got[1]
				}
				want := "200"
				if call.path == "/missing" {
					want = "404"
				}
				if got[0] != got[1] || !strings.HasPrefix(got[1], want) {
					t.Errorf("%s %s over HTTP/1.1:\n%s\nover HTTP/2:\n%s%s", call.method, call.path, got[0], got[1], output.String())
				}
			}
		})
	}
}

// freePort is a port of the loopback on which nobody listens.
func freePort(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}
