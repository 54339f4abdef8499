package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Other people's clients against the server's HTTPS. The certificate is one of
// selfSigned, which they are told to trust.

// startTLS starts the server with a certificate, which is also in the file ca.
func startTLS(t *testing.T, args ...string) (p *program, ca string) {
	t.Helper()
	cert, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca = filepath.Join(dir, "cert.pem")
	keyFile := filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{ca: {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return start(t, append([]string{"-cert", ca, "-key", keyFile}, args...)...), ca
}

// failClient runs a client that has to fail, and returns all that it wrote.
func failClient(t *testing.T, stdin string, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err == nil || ctx.Err() != nil {
		t.Errorf("%s %q: %v\n%s", filepath.Base(path), args, err, out)
	}
	return string(out)
}

func TestSelfSigned(t *testing.T) {
	p := start(t, "-self-signed")
	if !strings.HasPrefix(p.url, "https://127.0.0.1:") {
		t.Fatalf("the server is on %s", p.url)
	}
	conn, err := tls.Dial("tcp", p.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cert := conn.ConnectionState().PeerCertificates[0]
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := cert.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if time.Until(cert.NotAfter) < 24*time.Hour {
		t.Errorf("valid until %v", cert.NotAfter)
	}
}

func TestCertificateFlags(t *testing.T) {
	for _, args := range [][]string{{"-cert", "a"}, {"-key", "a"}, {"-self-signed", "-cert", "a", "-key", "b"}} {
		if out := failClient(t, "", serverPath, args...); !strings.HasPrefix(out, "server: -") {
			t.Errorf("%q: %q", args, out)
		}
	}
	if out := failClient(t, "", serverPath, "-addr", "127.0.0.1:0", "-cert", "/nowhere", "-key", "/nowhere"); !strings.Contains(out, "no such file") {
		t.Errorf("files that are not there: %q", out)
	}
}

func TestTLSCurl(t *testing.T) {
	path := have(t, "curl")
	p, ca := startTLS(t)
	curl := func(t *testing.T, stdin string, args ...string) string {
		t.Helper()
		return runClient(t, strings.NewReader(stdin), path, append([]string{"-q", "--noproxy", "*", "-sS", "--cacert", ca}, args...)...)
	}
	body := repeated(3_000_000)
	for _, version := range []struct{ flag, number string }{{"--http1.1", "1.1"}, {"--http2", "2"}} {
		t.Run("HTTP/"+version.number, func(t *testing.T) {
			if version.number == "2" && !strings.Contains(runClient(t, nil, path, "-V"), "HTTP2") {
				t.Skip("this curl has no HTTP/2")
			}
			if got := curl(t, "", version.flag, "-w", " %{http_version}", p.url+"/plaintext"); got != "Hello, World! "+version.number {
				t.Errorf("got %q", got)
			}
			if got := curl(t, "", version.flag, "-w", "|%{num_connects}|", p.url+"/plaintext", p.url+"/plaintext"); got != "Hello, World!|1|Hello, World!|0|" {
				t.Errorf("two requests: got %q", got)
			}
			if got := curl(t, body, version.flag, "--data-binary", "@-", p.url+"/echo"); got != body {
				t.Errorf("of %d bytes %d came back", len(body), len(got))
			}
			if got := curl(t, body, version.flag, "-T", "-", p.url+"/upload"); !strings.Contains(got, sumOf(body)) {
				t.Errorf("upload: %q", got)
			}
			if got := curl(t, "", version.flag, p.url+"/bytes?n=20000000"); len(got) != 20_000_000 || sumOf(got) != sumOf(repeated(20_000_000)) {
				t.Errorf("download: %d bytes", len(got))
			}
			if got := curl(t, "", version.flag, "-N", p.url+"/stream?n=4&ms=1&size=3"); got != "012012012012" {
				t.Errorf("stream: %q", got)
			}
			if got := curl(t, "", version.flag, "-o", os.DevNull, "-w", "%{http_code}", p.url+"/error"); got != "500" {
				t.Errorf("status %s", got)
			}
		})
	}
	t.Run("HTTP on the port of HTTPS", func(t *testing.T) {
		got := curl(t, "", "-w", "%{http_code}", "http://"+p.addr+"/")
		if got != "Client sent an HTTP request to an HTTPS server.\n400" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("without HTTP/2", func(t *testing.T) {
		p, ca := startTLS(t, "-no-http2")
		if got := runClient(t, nil, path, "-q", "--noproxy", "*", "-sS", "--cacert", ca, "--http2", "-w", " %{http_version}", p.url+"/plaintext"); got != "Hello, World! 1.1" {
			t.Errorf("got %q", got)
		}
	})
}

func TestTLSOpenSSL(t *testing.T) {
	path := have(t, "openssl")
	p, ca := startTLS(t, "-no-http2")
	const request = "GET /plaintext HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	client := func(args ...string) []string {
		return append([]string{"s_client", "-connect", p.addr, "-CAfile", ca, "-verify_return_error", "-servername", "localhost"}, args...)
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		session := filepath.Join(t.TempDir(), "session")
		got := runClient(t, strings.NewReader(request), path, client(version, "-ign_eof", "-sess_out", session)...)
		if !strings.Contains(got, "Hello, World!") || !strings.Contains(got, "Verify return code: 0 (ok)") || !strings.Contains(got, "New, TLSv1.") {
			t.Errorf("%s:\n%s", version, got)
		}
		if got = runClient(t, strings.NewReader(request), path, client(version, "-ign_eof", "-sess_in", session)...); !strings.Contains(got, "Reused, TLSv1.") || !strings.Contains(got, "Hello, World!") {
			t.Errorf("%s with the session of before:\n%s", version, got)
		}
	}
	for _, version := range []string{"-tls1", "-tls1_1"} {
		// Level 0, or this client would not even ask.
		if got := failClient(t, request, path, client(version, "-cipher", "DEFAULT@SECLEVEL=0")...); !strings.Contains(got, "alert protocol version") {
			t.Errorf("%s:\n%s", version, got)
		}
	}
	// ALPN: what both know, in the server's order, and nothing else.
	if got := runClient(t, strings.NewReader(request), path, client("-ign_eof", "-alpn", "h2,http/1.1")...); !strings.Contains(got, "ALPN protocol: http/1.1") {
		t.Errorf("ALPN:\n%s", got)
	}
	if got := failClient(t, request, path, client("-alpn", "smtp")...); !strings.Contains(got, "alert no application protocol") {
		t.Errorf("ALPN with nothing in common:\n%s", got)
	}
}

const pythonTLSClient = `
import http.client, socket, ssl, sys
host, port, ca = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for version in ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3:
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = context.maximum_version = version
    c = http.client.HTTPSConnection(host, port, context=context, timeout=30)
    for i in range(100):
        c.request("POST", "/echo", b"x" * (i * 1000))
        r = c.getresponse()
        assert (r.status, r.read()) == (200, b"x" * (i * 1000)), i
    session = c.sock.session
    c.close()

    s = context.wrap_socket(socket.create_connection((host, port), 30), server_hostname="localhost", session=session)
    assert s.session_reused, version
    s.sendall(b"GET /plaintext HTTP/1.1\r\nHost: h\r\n\r\n")
    got = b""
    while not got.endswith(b"Hello, World!"):
        got += s.recv(65536)
    s.unwrap() # close_notify, and the server's

    # The server's goodbye comes before the end of its stream: without it
    # suppress_ragged_eofs would have something to suppress.
    s = context.wrap_socket(socket.create_connection((host, port), 30), server_hostname="localhost", suppress_ragged_eofs=False)
    s.sendall(b"GET /plaintext HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    while s.recv(65536):
        pass
    s.close()
print("all is well")
`

func TestTLSPython(t *testing.T) {
	path := have(t, "python3")
	p, ca := startTLS(t)
	host, port, _ := strings.Cut(p.addr, ":")
	if got := runClient(t, nil, path, "-I", "-c", pythonTLSClient, host, port, ca); got != "all is well\n" {
		t.Errorf("got %q", got)
	}
}

const nodeTLSClient = `
const assert = require("assert"), fs = require("fs"), http2 = require("http2"), https = require("https"), tls = require("tls");
const [url, caFile] = process.argv.slice(1), ca = fs.readFileSync(caFile), { hostname, port } = new URL(url);
const sent = Buffer.alloc(200000, "flare ");

function ask(agent, path, body) {
	return new Promise((resolve, reject) => {
		const req = https.request(url + path, { agent, method: body ? "POST" : "GET" }, r => {
			const parts = [], again = r.socket.isSessionReused();
			r.on("data", d => parts.push(d)).on("error", reject);
			r.on("end", () => resolve({ body: Buffer.concat(parts), reused: req.reusedSocket, again }));
		}).on("error", reject);
		req.end(body);
	});
}

async function agents() {
	const kept = new https.Agent({ ca, keepAlive: true, maxSockets: 1 });
	for (let i = 0; i < 50; i++) {
		const r = await ask(kept, "/echo", sent);
		assert.ok(r.body.equals(sent), "the echo differs");
		assert.strictEqual(r.reused, i > 0);
	}
	kept.destroy();
	const fresh = new https.Agent({ ca, keepAlive: false });
	for (let i = 0; i < 5; i++) {
		const r = await ask(fresh, "/plaintext");
		assert.strictEqual(String(r.body), "Hello, World!");
		assert.strictEqual(r.again, i > 0, "session " + i);
	}
}

function second() {
	return new Promise((resolve, reject) => {
		const session = http2.connect(url, { ca }).on("error", reject);
		let open = 20;
		for (let i = 0; i < 20; i++) {
			const stream = session.request({ ":path": "/echo", ":method": "POST" }), parts = [];
			stream.on("data", d => parts.push(d)).on("error", reject);
			stream.on("end", () => {
				if (!Buffer.concat(parts).equals(sent)) reject(new Error("the echo differs"));
				if (--open === 0) session.close(resolve);
			});
			stream.end(sent); // all of them are below what Node keeps for a session
		}
	});
}

function socket() {
	return new Promise((resolve, reject) => {
		const ws = new WebSocket(url.replace("https", "wss") + "/ws");
		ws.onopen = () => ws.send("hello");
		ws.onmessage = e => { assert.strictEqual(e.data, "hello"); ws.close(); };
		ws.onclose = e => e.wasClean ? resolve() : reject(new Error("not clean: " + e.code));
		ws.onerror = () => reject(new Error("WebSocket"));
	});
}

agents().then(second).then(() => typeof WebSocket === "function" ? socket() : undefined)
	.then(() => { console.log("all is well"); process.exit(0); }, e => { console.error(e); process.exit(1); });
`

func TestTLSNode(t *testing.T) {
	path := have(t, "node")
	p, ca := startTLS(t)
	t.Setenv("NODE_EXTRA_CA_CERTS", ca) // for WebSocket, which takes no option
	if got := runClient(t, nil, path, "-e", nodeTLSClient, p.url, ca); got != "all is well\n" {
		t.Errorf("got %q", got)
	}
}
