package flare

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// This file has the server behind proxies, which keep their connections to it
// and send anybody's requests over them. They are told never to try a request
// twice, so that one which fails is seen.

// frontHaproxy configures haproxy.
func frontHaproxy(server string) func(dir, addr, network, upstream string) string {
	return func(dir, addr, network, upstream string) string {
		if network == "unix" {
			upstream = "unix@" + upstream
		}
		return `global
	maxconn 512
	nbthread 1
defaults
	mode http
	timeout connect 5s
	timeout client 20s
	timeout server 20s
	option http-keep-alive
	http-reuse always
	retries 0
frontend in
	bind ` + addr + `
	default_backend flare
backend flare
	server flare ` + upstream + server + `
`
	}
}

// frontNginx configures nginx.
func frontNginx(pass string) func(dir, addr, network, upstream string) string {
	return func(dir, addr, network, upstream string) string {
		if network == "unix" {
			upstream = "unix:" + upstream
		}
		return `daemon off; master_process off; pid ` + dir + `/pid; error_log stderr crit;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path ` + dir + `/b; proxy_temp_path ` + dir + `/p; fastcgi_temp_path ` + dir + `/f; uwsgi_temp_path ` + dir + `/u; scgi_temp_path ` + dir + `/s;
	keepalive_requests 100000;
	upstream flare { server ` + upstream + ` max_fails=0; keepalive 16; keepalive_requests 100000; }
	server {
		listen ` + addr + `;
		location / {
			` + pass + `
		}
	}
}
`
	}
}

// frontProxies are the proxies, and what configures one that listens at addr
// and has its upstream at a TCP address or a Unix socket.
var frontProxies = []struct {
	name string // of the program, and what it speaks if not HTTP/1.1
	conf func(dir, addr, network, upstream string) string
	args func(dir, conf string) []string
	// loses says that it closes its client's connection for a request which it
	// has not sent yet when the server announces the end of the one that was to
	// take it. Clients send it again then; the server must see it once.
	loses bool
}{
	{
		name: "nginx",
		conf: frontNginx(`proxy_pass http://flare; proxy_http_version 1.1; proxy_set_header Connection "";
			proxy_request_buffering off; proxy_buffering off; proxy_next_upstream off;`),
		args: func(dir, conf string) []string { return []string{"-p", dir, "-c", conf} },
	},
	{
		name: "nginx HTTP/2", // which it has for gRPC's sake
		conf: frontNginx(`grpc_pass grpc://flare; grpc_next_upstream off;`),
		args: func(dir, conf string) []string { return []string{"-p", dir, "-c", conf} },
	},
	{
		name: "haproxy",
		conf: frontHaproxy(""),
		args: func(dir, conf string) []string { return []string{"-db", "-f", conf} },
	},
	{
		name:  "haproxy HTTP/2",
		conf:  frontHaproxy(" proto h2"),
		args:  func(dir, conf string) []string { return []string{"-db", "-f", conf} },
		loses: true,
	},
}

// TestBehindProxies puts each proxy under load in front of a server, over TCP
// and a Unix socket. No request fails, connections are kept, and where the
// server ends one after so many requests the proxy is told in time.
func TestBehindProxies(t *testing.T) {
	t.Parallel()
	const clients, requestsEach = 12, 120
	for _, proxy := range frontProxies {
		for _, network := range []string{"tcp", "unix"} {
			for _, perConn := range []int{0, 25} {
				t.Run(fmt.Sprintf("%s/%s/%d requests a connection", proxy.name, network, perConn), func(t *testing.T) {
					program, version, _ := strings.Cut(proxy.name, " ")
					path, addr, _ := clientProgram(t, program)
					dir := t.TempDir()
					os.Chmod(dir, 0o755)
					listenAt := "127.0.0.1:0"
					if network == "unix" {
						listenAt = filepath.Join(dir, "s")
					}
					ln, err := net.Listen(network, listenAt)
					if err != nil {
						t.Skip("cannot listen: ", err)
					}
					s := &Server{Loops: 2, MaxRequestsPerConn: perConn, Handler: frontHandler(), Protocols: new(http.Protocols)}
					s.Protocols.SetHTTP1(version == "")
					s.Protocols.SetUnencryptedHTTP2(version != "")
					startPlainOn(t, s, ln)
					conf := filepath.Join(dir, "proxy.conf")
					if err := os.WriteFile(conf, []byte(proxy.conf(dir, addr, network, ln.Addr().String())), 0o644); err != nil {
						t.Fatal(err)
					}
					clientStart(t, addr, path, proxy.args(dir, conf)...)

					var all sync.WaitGroup
					for range clients {
						all.Go(func() { frontClient(t, "http://"+addr, requestsEach, proxy.loses) })
					}
					all.Wait()
					const want = clients * requestsEach
					eventually(t, "the count of all requests", func() bool { // a loop tells it after a batch
						st := s.Stats()
						return st.Requests == want && st.Responses.Class2xx == want
					})
					st := s.Stats()
					most := uint64(4 * clients)
					if perConn > 0 {
						most += st.Requests / uint64(perConn)
					}
					if st.Accepted > most {
						t.Errorf("%d connections for %d requests", st.Accepted, st.Requests)
					}
				})
			}
		}
	}
}

func frontHandler() Handler {
	return routes{
		"/":     textHandler("fine"),
		"/big":  textHandler(strings.Repeat("0123456789", 30_000)),
		"/echo": HandlerFunc(echoHandler),
		"/stream": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for range 20 {
				if _, err := io.WriteString(w, strings.Repeat("x", 1000)); err != nil {
					return err
				}
				if err := w.Flush(); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

// frontClient sends n requests of all kinds and checks each answer. again says that
// one whose connection closes before the answer is sent once more.
func frontClient(t *testing.T, url string, n int, again bool) {
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	body := strings.Repeat("abcdefgh", 10_000)
	kinds := []struct {
		method, path string
		body         func() io.Reader
		want         string
	}{
		{"GET", "/", nil, "fine"},
		{"POST", "/echo", func() io.Reader { return strings.NewReader(body) }, body},
		{"HEAD", "/big", nil, ""},
		{"POST", "/echo", func() io.Reader { return io.MultiReader(strings.NewReader(body)) }, body}, // in chunks
		{"GET", "/big", nil, strings.Repeat("0123456789", 30_000)},
		{"GET", "/stream", nil, strings.Repeat("x", 20_000)},
		{"POST", "/", func() io.Reader { return strings.NewReader("not read") }, "fine"},
	}
	for i := range n {
		k := kinds[i%len(kinds)]
		var in io.Reader
		if k.body != nil {
			in = k.body()
		}
		req, err := http.NewRequest(k.method, url+k.path, in)
		if err != nil {
			t.Error(err)
			return
		}
		if again && k.body != nil {
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(k.body()), nil }
			req.Header["Idempotency-Key"] = nil // not sent, but net/http tries again
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("request %d, %s %s: %v", i, k.method, k.path, err)
			return
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(got) != k.want {
			t.Errorf("request %d, %s %s: %d, %d bytes, %v", i, k.method, k.path, resp.StatusCode, len(got), err)
			return
		}
	}
}
