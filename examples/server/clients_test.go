package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Other people's clients against the server: what each does by itself, seen
// from its side. A client that this machine does not have is skipped.

// have skips the test where a program is missing, and returns its path.
func have(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", strings.Join(names, " or "))
	return ""
}

// runClient runs a client to its end and returns what it wrote to standard output.
// Whatever it started ends with it.
func runClient(t *testing.T, stdin io.Reader, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	killGroup := ownGroup(cmd)
	cmd.Cancel = killGroup
	cmd.WaitDelay = 5 * time.Second
	var out, log output
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &log
	err := cmd.Run()
	if cmd.Process != nil {
		killGroup() // what it left in its group, if anything
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%s %q: %v\n%s\n%s", filepath.Base(path), args, err, out.String(), log.String())
	}
	return out.String()
}

// sumOf returns the SHA-256 of a text in hexadecimal.
func sumOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestCurl(t *testing.T) {
	path := have(t, "curl")
	p := start(t)
	curl := func(t *testing.T, stdin string, args ...string) string {
		t.Helper()
		return runClient(t, strings.NewReader(stdin), path, append([]string{"-q", "--noproxy", "*", "-sS"}, args...)...)
	}

	t.Run("GET", func(t *testing.T) {
		if got := curl(t, "", p.url+"/plaintext"); got != "Hello, World!" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("HEAD", func(t *testing.T) {
		got := curl(t, "", "-I", p.url+"/plaintext")
		if !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got, "\r\nContent-Length: 13\r\n") || !strings.HasSuffix(got, "\r\n\r\n") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("one connection for several requests", func(t *testing.T) {
		got := curl(t, "", "-w", "|%{num_connects}|", p.url+"/plaintext", p.url+"/nonsense", p.url+"/json", p.url+"/echo")
		if want := "Hello, World!|1|Not Found\n|0|{\"message\":\"Hello, World!\"}\n|0||0|"; strings.ReplaceAll(got, "}|", "}\n|") != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("POST", func(t *testing.T) {
		body := repeated(3_000_000) // far over what curl sends without asking
		if got := curl(t, body, "--data-binary", "@-", p.url+"/echo"); got != body {
			t.Errorf("of %d bytes %d came back, the same: %v", len(body), len(got), got == body)
		}
	})
	t.Run("form", func(t *testing.T) {
		got := curl(t, "", "-d", "a=1&b=2", p.url+"/headers")
		var seen struct {
			Method  string
			Headers [][2]string
		}
		if err := json.Unmarshal([]byte(got), &seen); err != nil || seen.Method != "POST" {
			t.Errorf("got %q: %v", got, err)
		}
		if !strings.Contains(got, `["Content-Type","application/x-www-form-urlencoded"]`) || !strings.Contains(got, `["Content-Length","7"]`) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("chunked upload", func(t *testing.T) {
		body := repeated(2_000_000)
		got := curl(t, body, "-T", "-", p.url+"/upload")
		var read struct {
			Bytes  int
			SHA256 string
		}
		if err := json.Unmarshal([]byte(got), &read); err != nil || read.Bytes != len(body) || read.SHA256 != sumOf(body) {
			t.Errorf("got %q: %v, want %d bytes with sum %s", got, err, len(body), sumOf(body))
		}
	})
	t.Run("download", func(t *testing.T) {
		const n = 50_000_000
		if got := curl(t, "", p.url+"/bytes?n=50000000"); len(got) != n || sumOf(got) != sumOf(repeated(n)) {
			t.Errorf("got %d bytes", len(got))
		}
	})
	t.Run("slow reader", func(t *testing.T) {
		const n = 2_000_000 // more than the sockets hold, at a rate that fills them
		if got := curl(t, "", "--limit-rate", "2M", p.url+"/bytes?n=2000000"); got != repeated(n) {
			t.Errorf("got %d bytes", len(got))
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		got := curl(t, "", "--http1.0", "-i", p.url+"/stream?n=3&ms=1&size=4")
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || !strings.Contains(head, "Connection: close") || strings.Contains(head, "Transfer-Encoding") || body != "012301230123" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("Expect: 100-continue", func(t *testing.T) {
		body := repeated(1_000_000)
		got := curl(t, body, "-i", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "--data-binary", "@-", p.url+"/upload")
		if !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n") || !strings.Contains(got, sumOf(body)) {
			t.Errorf("got %q", got)
		}
	})
	t.Run("Expect with a body that nobody wants", func(t *testing.T) {
		for _, test := range []struct {
			target string
			bytes  int
			want   string // status and bytes sent
		}{
			{"/nonsense", 1 << 20, "404 0"},
			{"/upload", 11 << 20, "413 0"},
		} {
			got := curl(t, repeated(test.bytes), "-o", os.DevNull, "-w", "%{http_code} %{size_upload}", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "--data-binary", "@-", p.url+test.target)
			if got != test.want {
				t.Errorf("%s: status and bytes sent: %q, want %q", test.target, got, test.want)
			}
		}
	})
	t.Run("an offer of HTTP/2", func(t *testing.T) { // Upgrade: h2c, which is ignored
		if !strings.Contains(runClient(t, nil, path, "-V"), "HTTP2") {
			t.Skip("this curl has no HTTP/2")
		}
		if got := curl(t, "", "--http2", "-w", " %{http_version}", "-d", "hi", p.url+"/echo"); got != "hi 1.1" {
			t.Errorf("got %q", got)
		}
	})
}

func TestWrk(t *testing.T) {
	path := have(t, "wrk")
	p := start(t)
	for _, target := range []string{"/plaintext", "/slow?ms=1"} {
		got := runClient(t, nil, path, "-t1", "-c16", "-d1s", p.url+target)
		if !strings.Contains(got, "Requests/sec:") || strings.Contains(got, "Requests/sec:      0.00") || strings.Contains(got, "Socket errors") || strings.Contains(got, "Non-2xx") {
			t.Errorf("%s:\n%s", target, got)
		}
	}
}

func TestApacheBench(t *testing.T) {
	path := have(t, "ab")
	p := start(t)
	body := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(body, []byte(repeated(5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"a connection each", []string{p.url + "/plaintext"}, []string{"Document Length:        13 bytes"}},
		{"keep-alive", []string{"-k", p.url + "/plaintext"}, []string{"Keep-Alive requests:    2000"}},
		{"POST", []string{"-k", "-p", body, "-T", "text/plain", p.url + "/echo"}, []string{"Document Length:        5000 bytes", "Keep-Alive requests:    2000"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := runClient(t, nil, path, append([]string{"-q", "-n", "2000", "-c", "20"}, test.args...)...)
			for _, want := range append(test.want, "Complete requests:      2000", "Failed requests:        0") {
				if !strings.Contains(got, want) {
					t.Errorf("no %q in\n%s", want, got)
				}
			}
			if strings.Contains(got, "Non-2xx") {
				t.Errorf("answers other than 2xx in\n%s", got)
			}
		})
	}
}

const pythonClient = `
import hashlib, http.client, json, sys
c = http.client.HTTPConnection(sys.argv[1], timeout=30)

def ask(method, target, body=None, headers={}, **more):
    c.request(method, target, body, headers, **more)
    r = c.getresponse()
    return r, r.read()

r, text = ask("GET", "/plaintext")
assert (r.status, r.version, text) == (200, 11, b"Hello, World!"), (r.status, text)
socket = c.sock
for i in range(200):
    r, text = ask("POST", "/echo", b"x" * i)
    assert (r.status, text) == (200, b"x" * i), (i, r.status, text)
    assert c.sock is socket, "the connection was closed"

pieces = [bytes([i]) * (i * 97 + 1) for i in range(200)]
whole = b"".join(pieces)
r, text = ask("POST", "/upload", iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
got = json.loads(text)
assert got == {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}, got

r, text = ask("GET", "/stream?n=4&ms=1&size=3")
assert (r.chunked, text) == (True, b"012" * 4), text
r, text = ask("HEAD", "/json")
assert (r.status, text) == (200, b"")
r, text = ask("GET", "/status/304")
assert (r.status, text) == (304, b"")
r, text = ask("GET", "/error")
assert (r.status, text) == (500, b"Internal Server Error\n"), text
assert c.sock is socket, "the connection was closed"
print("all is well")
`

func TestPython(t *testing.T) {
	path := have(t, "python3")
	p := start(t)
	if got := runClient(t, nil, path, "-I", "-c", pythonClient, p.addr); got != "all is well\n" {
		t.Errorf("got %q", got)
	}
}

const nodeClient = `
const assert = require("assert"), crypto = require("crypto"), http = require("http");
const url = process.argv[1];

async function fetches() {
	const big = Buffer.alloc(1 << 20, "flare ");
	for (let i = 0; i < 20; i++) {
		const r = await fetch(url + "/json");
		assert.deepStrictEqual(await r.json(), { message: "Hello, World!" });
	}
	let r = await fetch(url + "/echo", { method: "POST", body: big });
	assert.ok(Buffer.from(await r.arrayBuffer()).equals(big), "the echo differs");
	const pieces = new ReadableStream({
		start(c) { for (let i = 0; i < 100; i++) c.enqueue(Buffer.alloc(1000, String(i % 10))); c.close(); },
	});
	r = await fetch(url + "/upload", { method: "POST", body: pieces, duplex: "half" });
	assert.strictEqual((await r.json()).bytes, 100000);
	r = await fetch(url + "/status/404");
	assert.strictEqual(r.status, 404);
	const many = await Promise.all(Array.from({ length: 50 }, (_, i) => fetch(url + "/slow?ms=" + i).then(r => r.text())));
	many.forEach((text, i) => assert.strictEqual(text, "slept " + i + " ms\n"));
}

function get(agent, path) {
	return new Promise((resolve, reject) => {
		const req = http.get(url + path, { agent }, r => {
			let text = "";
			r.on("data", d => text += d).on("error", reject);
			r.on("end", () => resolve({ text, reused: req.reusedSocket, status: r.statusCode }));
		}).on("error", reject);
	});
}

async function agents() {
	const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
	for (let i = 0; i < 100; i++) {
		const r = await get(agent, i % 2 ? "/plaintext" : "/stream?n=2&ms=0&size=2");
		assert.deepStrictEqual(r, { text: i % 2 ? "Hello, World!" : "0101", reused: i > 0, status: 200 });
	}
	agent.destroy();
}

fetches().then(agents).then(() => { console.log("all is well"); process.exit(0); }, e => { console.error(e); process.exit(1); });
`

func TestNode(t *testing.T) {
	path := have(t, "node")
	if runClient(t, nil, path, "-p", "typeof fetch") != "function\n" {
		t.Skip("this node has no fetch")
	}
	p := start(t)
	if got := runClient(t, nil, path, "-e", nodeClient, p.url); got != "all is well\n" {
		t.Errorf("got %q", got)
	}
}
