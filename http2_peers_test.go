package flare

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// This file has other projects' clients speak HTTP/2 with flare's server, without
// TLS by prior knowledge and over TLS by ALPN. One that this machine does not have
// is skipped. Proxies are in server_front_test.go.

// peerServer answers the same whoever asks.
func peerServer() *Server {
	return &Server{Handler: routes{
		"/version": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, r.Proto()) }),
		"/bytes": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			return w.Blob(200, "x/y", bytes.Repeat([]byte("x"), 300_000))
		}),
		"/length": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			n, err := io.Copy(io.Discard, r.Body())
			if err != nil {
				return err
			}
			return w.Text(200, fmt.Sprint(n))
		}),
		"/trailer": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Trailer().Set("X-Sum", "4")
			_, err := io.WriteString(w, "body")
			return err
		}),
	}}
}

// A peerCommand is one that asks base, a URL, and the whole of what it has to
// print, or parts of it.
type peerCommand struct {
	name, program string
	args          func(base, dir string) []string
	prints        []string
}

// onBoth runs the peer against a server without TLS and one over TLS.
func onBoth(t *testing.T, run func(t *testing.T, base string)) {
	t.Run("cleartext", func(t *testing.T) { run(t, "http://"+startHTTP2(t, peerServer()).addr) })
	t.Run("TLS", func(t *testing.T) { run(t, "https://"+startHTTP2TLS(t, peerServer()).addr) })
}

var peerCommands = []peerCommand{
	{"curl, an answer", "curl", func(base, dir string) []string {
		return append(curlHTTP2(base), base+"/version")
	}, []string{"HTTP/2.0 2"}},
	{"curl, a download", "curl", func(base, dir string) []string {
		return append(curlHTTP2(base), base+"/bytes")
	}, []string{strings.Repeat("x", 300_000) + " 2\n"}},
	{"curl, an upload", "curl", func(base, dir string) []string {
		return append(curlHTTP2(base), "--data-binary", "@"+filepath.Join(dir, "upload"), base+"/length")
	}, []string{"1000000 2"}},
	{"curl, Expect", "curl", func(base, dir string) []string {
		return append(curlHTTP2(base), "-H", "Expect: 100-continue", "-T", filepath.Join(dir, "upload"), base+"/length")
	}, []string{"1000000 2"}},
	{"curl, many at once", "curl", func(base, dir string) []string {
		n := 200
		if strings.HasPrefix(base, "http:") {
			n = 1 // by prior knowledge curl 7.88 fails on the second, whoever is the server
		}
		return append(curlHTTP2(base), "--parallel", "--parallel-max", "50", "-o", os.DevNull, fmt.Sprintf("%s/version?[1-%d]", base, n))
	}, []string{" 2\n"}},
	{"curl, trailers", "curl", func(base, dir string) []string {
		return append(curlHTTP2(base), "-i", base+"/trailer")
	}, []string{"\r\n\r\nbody", "x-sum: 4"}},
	{"nghttp", "nghttp", func(base, dir string) []string {
		return []string{"-v", "--no-dep", base + "/version", base + "/bytes", base + "/trailer"}
	}, []string{":status: 200", "HTTP/2.0", "x-sum: 4", "; END_STREAM"}},
	{"nghttp, an upload with padding", "nghttp", func(base, dir string) []string {
		return []string{"-v", "--padding", "200", "-d", filepath.Join(dir, "upload"), base + "/length"}
	}, []string{":status: 200", "1000000"}},
	{"nghttp, windows of 2^14-1", "nghttp", func(base, dir string) []string {
		return []string{"-v", "-n", "-w14", "-W14", base + "/bytes"}
	}, []string{":status: 200", "content-length: 300000", "END_STREAM"}},
	{"h2load", "h2load", func(base, dir string) []string {
		return []string{"-n2000", "-c10", "-m100", base + "/version"}
	}, []string{"2000 succeeded, 0 failed, 0 errored, 0 timeout", "status codes: 2000 2xx"}},
	{"h2load, uploads", "h2load", func(base, dir string) []string {
		return []string{"-n20", "-c2", "-m10", "-d", filepath.Join(dir, "upload"), base + "/length"}
	}, []string{"20 succeeded, 0 failed, 0 errored, 0 timeout", "status codes: 20 2xx"}},
	{"Node", "node", func(base, dir string) []string { return []string{"-e", nodeHTTP2, base} }, []string{"all good"}},
}

func curlHTTP2(base string) []string {
	how := "--http2"
	if strings.HasPrefix(base, "http:") {
		how = "--http2-prior-knowledge"
	}
	return []string{"-sS", "-k", "--no-progress-meter", how, "-w", " %{http_version}\n"}
}

const nodeHTTP2 = `
const http2 = require('http2'), assert = require('assert');
const client = http2.connect(process.argv[1], {rejectUnauthorized: false});
client.on('error', e => { throw e; });
function ask(headers, body) {
  return new Promise((ok, bad) => {
    const stream = client.request(headers), answer = {chunks: []};
    stream.on('response', h => answer.headers = h).on('trailers', h => answer.trailers = h);
    stream.on('data', p => answer.chunks.push(p)).on('error', bad);
    stream.on('end', () => { answer.body = Buffer.concat(answer.chunks).toString(); ok(answer); });
    stream.end(body);
  });
}
(async () => {
  const all = await Promise.all([...Array(100)].map(() => ask({':path': '/version'})));
  for (const a of all) assert.equal(a.body, 'HTTP/2.0');
  assert.equal((await ask({':path': '/length', ':method': 'POST'}, Buffer.alloc(1000000))).body, '1000000');
  assert.equal((await ask({':path': '/bytes'})).body.length, 300000);
  assert.equal((await ask({':path': '/trailer'})).trailers['x-sum'], '4');
  assert.equal((await ask({':path': '/none'})).headers[':status'], 404);
  await new Promise((ok, bad) => client.ping(e => e ? bad(e) : ok()));
  const left = client.request({':path': '/bytes'});
  await new Promise(ok => { left.on('close', ok).on('error', () => {}); left.close(http2.constants.NGHTTP2_CANCEL); });
  assert.equal((await ask({':path': '/version'})).body, 'HTTP/2.0');
  client.close(() => console.log('all good'));
})().catch(e => { console.error(e); process.exit(1); });
`

func TestHTTP2Clients(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "upload"), make([]byte, 1_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range peerCommands {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(c.program)
			if err != nil {
				t.Skip("no " + c.program)
			}
			onBoth(t, func(t *testing.T, base string) { runPeer(t, path, c.args(base, dir), c.prints) })
		})
	}
}

func runPeer(t *testing.T, path string, args, prints []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(out))
	}
	for _, want := range prints {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("%.60q is not in %d octets, at the end of which is\n%s", want, len(out), tail(out))
		}
	}
}

// Python's h2 is a library that knows no sockets; the script is a client on it.
const pythonHTTP2 = `
import socket, ssl, sys
from urllib.parse import urlparse
import h2.connection, h2.config, h2.events
url = urlparse(sys.argv[1])
sock = socket.create_connection((url.hostname, url.port), timeout=20)
if url.scheme == "https":
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2"])
    sock = context.wrap_socket(sock, server_hostname="localhost")
    assert sock.selected_alpn_protocol() == "h2"
conn = h2.connection.H2Connection(config=h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
conn.initiate_connection()
answers = {}
def flush():
    sock.sendall(conn.data_to_send())
def read():
    data = sock.recv(65536)
    assert data, "closed"
    for e in conn.receive_data(data):
        a = answers.get(getattr(e, "stream_id", 0))
        if isinstance(e, h2.events.ResponseReceived): a["head"] = dict(e.headers)
        elif isinstance(e, h2.events.TrailersReceived): a["trailer"] = dict(e.headers)
        elif isinstance(e, h2.events.DataReceived):
            a["body"] += e.data
            conn.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif isinstance(e, h2.events.StreamEnded): a["ended"] = True
        elif isinstance(e, (h2.events.StreamReset, h2.events.ConnectionTerminated)): raise Exception(repr(e))
    flush()
def start(path, method="GET", body=None):
    stream = conn.get_next_available_stream_id()
    answers[stream] = {"body": b"", "ended": False}
    conn.send_headers(stream, [(":method", method), (":scheme", url.scheme), (":authority", "h"), (":path", path)], end_stream=body is None)
    flush()
    while body:
        n = min(conn.local_flow_control_window(stream), conn.max_outbound_frame_size, len(body))
        if n == 0:
            read()
            continue
        conn.send_data(stream, body[:n], end_stream=n == len(body), pad_length=None)
        body = body[n:]
        flush()
    return stream
def answer(stream):
    while not answers[stream]["ended"]: read()
    return answers[stream]
for stream in [start("/version") for _ in range(100)]:
    assert answer(stream)["body"] == b"HTTP/2.0"
assert answer(start("/length", "POST", bytes(1000000)))["body"] == b"1000000"
assert len(answer(start("/bytes"))["body"]) == 300000
assert answer(start("/trailer"))["trailer"]["x-sum"] == "4"
print("all good")
`

func TestHTTP2PythonPeer(t *testing.T) {
	t.Parallel()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import h2").Run() == nil {
			onBoth(t, func(t *testing.T, base string) {
				runPeer(t, python, []string{"-c", pythonHTTP2, base}, []string{"all good"})
			})
			return
		}
	}
	t.Skip("python3 has no module h2")
}

// net/http's client, over TLS and without.
func TestHTTP2NetHTTPClient(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, base string) {
		protocols := new(http.Protocols)
		protocols.SetHTTP2(true)
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: protocols, TLSClientConfig: tlsClientConfig()}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: patience}
		answers := make(chan string, 100)
		for range cap(answers) {
			go func() {
				resp, err := client.Get(base + "/version")
				if err != nil {
					answers <- err.Error()
					return
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				answers <- string(text)
			}()
		}
		for range cap(answers) {
			if text := <-answers; text != "HTTP/2.0" {
				t.Error(text)
			}
		}
		resp, err := client.Post(base+"/length", "x/y", io.LimitReader(zeroReader{}, 5<<20))
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); string(text) != fmt.Sprint(5<<20) || err != nil {
			t.Errorf("%q, %v", text, err)
		}
		resp.Body.Close()
		if resp, err = client.Get(base + "/trailer"); err != nil {
			t.Fatal(err)
		}
		io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.Trailer.Get("X-Sum") != "4" {
			t.Errorf("trailer %v", resp.Trailer)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "POST", base+"/length", io.LimitReader(zeroReader{}, 1<<40))
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("a cancelled upload: %d", resp.StatusCode)
		}
		if _, text := getBy(t, client, base+"/version"); text != "HTTP/2.0" {
			t.Errorf("%q behind it", text)
		}
	})
}

// net/http's client sends two WINDOW_UPDATE frames whenever 4 KiB have been read of a
// body, and many readers ask for no more at once: gzip's, for one.
func TestHTTP2NetHTTPReadsLittle(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	base := TestServer(t, &Server{Protocols: protocols, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		_, err := io.CopyN(w, zeroReader{}, size)
		return err
	})})
	transport := &http.Transport{Protocols: protocols}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(base)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	// Behind the struct no ReadFrom or WriteTo asks for more.
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, make([]byte, 4096))
	if n != size || err != nil {
		t.Errorf("%d octets of %d, %v", n, size, err)
	}
}
