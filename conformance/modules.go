package main

// This file has the suites that are modules: they are fetched, copied, and in the copy net/http's
// server is put out for flare's. The same text has to be there once: a version that has it no longer
// is an error and not a suite that tests net/http.

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	httpbinModule = "github.com/mccutchen/go-httpbin/v2@v2.26.0"
	connectModule = "connectrpc.com/conformance@v1.0.7"
)

// command runs a program and returns what it said, as an error too.
func (r *runner) command(dir string, argv ...string) (string, error) {
	cmd := exec.CommandContext(r.ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out), err
}

// module fetches a module and returns the folder of a copy that requires flare. absent says why it
// cannot be had.
func (r *runner) module(path string) (dir, absent string, err error) {
	out, err := exec.CommandContext(r.ctx, "go", "mod", "download", "-json", path).Output()
	var got struct{ Dir, Error string }
	if json.Unmarshal(out, &got) != nil || got.Dir == "" {
		return "", fmt.Sprintf("%s cannot be downloaded: %v %s", path, err, got.Error), nil
	}
	dir = filepath.Join(r.dir, strings.NewReplacer("/", "-", "@", "-").Replace(path))
	if err := os.CopyFS(dir, os.DirFS(got.Dir)); err != nil {
		return "", "", err
	}
	if err := makeWritable(dir); err != nil {
		return "", "", err
	}
	_, err = r.command(dir, "go", "mod", "edit", "-require=flare@v0.0.0", "-replace=flare="+r.root)
	return dir, "", err
}

func makeWritable(dir string) error {
	return filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(name, map[bool]os.FileMode{true: 0o755, false: 0o644}[d.IsDir()])
	})
}

// rewrite changes a file: each pattern is there once.
func rewrite(file string, changes ...[2]string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if n := strings.Count(string(text), c[0]); n != 1 {
			return fmt.Errorf("%s has %q %d times", filepath.Base(file), c[0], n)
		}
		text = []byte(strings.Replace(string(text), c[0], c[1], 1))
	}
	return os.WriteFile(file, text, 0o644)
}

// httpbinServer goes into go-httpbin's package of tests.
const httpbinServer = `package httpbin

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"flare"
)

// A silent listener has flare's address and no connections: it is for an httptest.Server that lends
// its client.
type silent struct {
	addr   net.Addr
	closed <-chan struct{}
	end    func()
}

func (s silent) Addr() net.Addr { return s.addr }
func (s silent) Close() error   { s.end(); return nil }
func (s silent) Accept() (net.Conn, error) {
	<-s.closed
	return nil, net.ErrClosed
}

func overFlare(t testing.TB, h http.Handler) *httptest.Server {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &flare.Server{Handler: flare.FromHTTP(h)}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	closed := make(chan struct{})
	srv := &httptest.Server{Config: &http.Server{}, Listener: silent{ln.Addr(), closed, sync.OnceFunc(func() { close(closed) })}}
	srv.Start()
	return srv
}
`

// httpbin runs go-httpbin's own tests of its handlers, on net/http as they are, and on flare.
func (r *runner) httpbin() ([]row, error) {
	dir, absent, err := r.module(httpbinModule)
	if err != nil || absent != "" {
		return skip("%s", absent), err
	}
	pkg := filepath.Join(dir, "httpbin")
	before, err := r.goTest("net/http", pkg, ".")
	if err != nil {
		return nil, err
	}
	err = os.WriteFile(filepath.Join(pkg, "flare_test.go"), []byte(httpbinServer), 0o644)
	if err == nil {
		err = rewrite(filepath.Join(pkg, "handlers_test.go"), [2]string{"srv := httptest.NewServer(app)", "srv := overFlare(t, app)"})
	}
	if err != nil {
		return nil, err
	}
	after, err := r.goTest("flare", pkg, ".")
	after.excuse("TestResponseHeaders/escaping_HTML_content", "a field whose name is no token makes the response a 500, where net/http leaves the field out")
	return []row{before, after}, err
}

// connectServer goes into the package of connect's reference server.
const connectServer = `package referenceserver

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"flare"
)

type flareServer struct {
	*flare.Server
	ln net.Listener
}

func (s *flareServer) Addr() string { return s.ln.Addr().String() }

func (s *flareServer) Serve() error {
	if s.TLSConfig != nil {
		return s.Server.ServeTLS(s.ln, "", "")
	}
	return s.Server.Serve(s.ln)
}

func onFlare(ctx context.Context, handler http.Handler, addr string, config *tls.Config, http2 bool) (httpServer, error) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	protocols.SetUnencryptedHTTP2(http2)
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &flareServer{&flare.Server{Handler: flare.FromHTTP(handler), TLSConfig: config, Protocols: protocols}, ln}, nil
}
`

// connectConfig is all that the reference server has, but for HTTP/3.
const connectConfig = `features:
  versions: [HTTP_VERSION_1, HTTP_VERSION_2]
  protocols: [PROTOCOL_CONNECT, PROTOCOL_GRPC, PROTOCOL_GRPC_WEB]
  codecs: [CODEC_PROTO, CODEC_JSON]
  compressions: [COMPRESSION_IDENTITY, COMPRESSION_GZIP, COMPRESSION_BR, COMPRESSION_ZSTD, COMPRESSION_DEFLATE, COMPRESSION_SNAPPY]
  supportsTlsClientCerts: true
  supportsHalfDuplexBidiOverHttp1: true
`

var (
	connectTotal = regexp.MustCompile(`Total cases: (\d+)\n(\d+) passed, (\d+) failed`)
	connectLeft  = regexp.MustCompile(`Another (\d+) could not be run`)
)

// connect runs the conformance suite of Connect, gRPC and gRPC-Web against its own reference server,
// which is served by net/http first and by flare then.
func (r *runner) connect() ([]row, error) {
	dir, absent, err := r.module(connectModule)
	if err != nil || absent != "" {
		return skip("%s", absent), err
	}
	tester := filepath.Join(r.dir, "connectconformance")
	if _, err := r.command(dir, "go", "build", "-mod=mod", "-o", tester, "./cmd/connectconformance"); err != nil {
		return nil, err
	}
	config := filepath.Join(r.dir, "connect.yaml")
	if err := os.WriteFile(config, []byte(connectConfig), 0o644); err != nil {
		return nil, err
	}
	var rows []row
	for _, name := range []string{"net/http", "flare"} {
		if name == "flare" {
			pkg := filepath.Join(dir, "internal", "app", "referenceserver")
			err := os.WriteFile(filepath.Join(pkg, "flare.go"), []byte(connectServer), 0o644)
			if err == nil {
				err = rewrite(filepath.Join(pkg, "server.go"),
					[2]string{"server, err = newH1Server(ctx, handler, listenAddr, tlsConf)", "server, err = onFlare(ctx, handler, listenAddr, tlsConf, false)"},
					[2]string{"server, err = newH2Server(ctx, handler, listenAddr, tlsConf)", "server, err = onFlare(ctx, handler, listenAddr, tlsConf, true)"},
					[2]string{"func newH1Server(", "func _("}, [2]string{"func newH2Server(", "func _("})
			}
			if err != nil {
				return nil, err
			}
		}
		server := filepath.Join(r.dir, "referenceserver")
		if _, err := r.command(dir, "go", "build", "-mod=mod", "-o", server, "./cmd/referenceserver"); err != nil {
			return nil, err
		}
		out, err := r.command(dir, tester, "--mode", "server", "--conf", config, "--known-failing", "@testing/referenceserver-known-failing.txt", "--", server)
		w, found := parseConnect(out)
		if !found {
			return nil, fmt.Errorf("no count of cases: %w", err)
		}
		w.name = name
		rows = append(rows, w)
	}
	return rows, nil
}

// parseConnect reads what connectconformance says in the end.
func parseConnect(out string) (w row, found bool) {
	m := connectTotal.FindStringSubmatch(out)
	if m == nil {
		return w, false
	}
	w.passed, _ = strconv.Atoi(m[2])
	w.failed, _ = strconv.Atoi(m[3])
	if m := connectLeft.FindStringSubmatch(out); m != nil {
		left, _ := strconv.Atoi(m[1])
		w.failed += left
		w.why = append(w.why, m[0])
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "FAILED: ") {
			w.why = append(w.why, strings.TrimSpace(line))
		}
	}
	return w, true
}
