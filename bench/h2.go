//go:build linux

package main

// This file has the targets as servers of HTTP/2: how each is told to speak it, over TLS and
// without, and how its answer is checked. h2load.go measures what a request costs them, h2idle.go
// what waits.

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	nameNghttpd = "nghttpd"
	nameH2O     = "h2o"
)

// http2Commands has the targets that speak HTTP/2, with their command lines; pair is nil for
// prior knowledge without TLS.
var http2Commands = map[string]func(s start, pair *tlsPair) ([]string, error){
	nameFlare: func(s start, pair *tlsPair) ([]string, error) {
		return http2Command(s, pair, "-loops", fmt.Sprint(s.procs)), nil
	},
	nameWaits: func(s start, pair *tlsPair) ([]string, error) {
		return http2Command(s, pair, "-loops", fmt.Sprint(s.procs)), nil
	},
	nameNetHTTP: func(s start, pair *tlsPair) ([]string, error) { return http2Command(s, pair), nil },
	nameNginx:   nginxHTTP2Command,
	nameNghttpd: nghttpdCommand,
	nameH2O:     h2oCommand,
}

// http2Command is that of a target in Go.
func http2Command(s start, pair *tlsPair, more ...string) []string {
	argv := append([]string{s.program, "-addr", s.addr}, more...)
	if pair == nil {
		return append(argv, "-h2c")
	}
	return append(argv, "-cert", pair.cert, "-key", pair.key)
}

// http2Targets keeps the targets of those names that speak HTTP/2, without names all but flare-waits.
func http2Targets(targets []*target, names ...string) []*target {
	return slices.DeleteFunc(slices.Clone(targets), func(t *target) bool {
		if names != nil {
			return !slices.Contains(names, t.name)
		}
		return http2Commands[t.name] == nil || t.name == nameWaits
	})
}

// findServer finds a server that the system has, and its version in the first line it prints.
func findServer(name, pkg, flag string) func(*builder) (string, string, error) {
	return func(*builder) (string, string, error) {
		program, err := exec.LookPath(name)
		if err != nil {
			return "", "", errAbsent("no " + name + " (apt-get install " + pkg + ")")
		}
		return program, firstLine(program, flag), nil
	}
}

func nginxHTTP2Command(s start, pair *tlsPair) ([]string, error) {
	if pair == nil {
		return nginxPlaintext(s, "http2")
	}
	return nginxPlaintext(s, "http2 "+pair.nginx())
}

// writeFolder makes a folder with the answer to /plaintext, for servers of files.
func (s start) writeFolder() (string, error) {
	folder := filepath.Join(s.dir, "files")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return "", err
	}
	return folder, os.WriteFile(filepath.Join(folder, "plaintext"), []byte(wantBody), 0o644)
}

func nghttpdCommand(s start, pair *tlsPair) ([]string, error) {
	folder, err := s.writeFolder()
	argv := []string{s.program, "-a", "127.0.0.1", "-d", folder, "-n", fmt.Sprint(s.procs)}
	if pair == nil {
		return append(argv, "--no-tls", s.port()), err
	}
	return append(argv, s.port(), pair.key, pair.cert), err
}

// h2oConfig keeps the key in the process whose time counts.
const h2oConfig = `num-threads: %d
pid-file: %s/pid
error-log: /dev/null
listen:
  host: 127.0.0.1
  port: %s
%shosts:
  default:
    paths:
      /:
        file.dir: %s
        file.etag: OFF
        file.mime.setdefaulttype: %s
`

const h2oTLSConfig = `  ssl:
    certificate-file: %s
    key-file: %s
    neverbleed: OFF
`

func h2oCommand(s start, pair *tlsPair) ([]string, error) {
	folder, err := s.writeFolder()
	if err != nil {
		return nil, err
	}
	ssl := ""
	if pair != nil {
		ssl = fmt.Sprintf(h2oTLSConfig, pair.cert, pair.key)
	}
	file := filepath.Join(s.dir, "h2o.conf")
	text := fmt.Appendf(nil, h2oConfig, s.procs, s.dir, s.port(), ssl, folder, s.contentType)
	if os.Getuid() == 0 { // it insists on being told
		text = append([]byte("user: root\n"), text...)
	}
	return []string{s.program, "-c", file}, os.WriteFile(file, text, 0o644)
}

// serveHTTP2 starts a fresh process of t, with more arguments if any.
func (b *bencher) serveHTTP2(ctx context.Context, t *target, pair *tlsPair, extra ...string) (*process, string, error) {
	http2 := &target{name: t.name, command: func(s start) ([]string, error) { return http2Commands[t.name](s, pair) }}
	b.programs[http2] = b.programs[t]
	defer delete(b.programs, http2)
	return b.serve(ctx, http2, extra...)
}

// An asker asks over HTTP/2, or over HTTP/1.1 if http1 is set.
func asker(pair *tlsPair, http1 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(http1)
	p.SetHTTP2(!http1 && pair != nil)
	p.SetUnencryptedHTTP2(!http1 && pair == nil)
	return &http.Client{Timeout: askTimeout, Transport: &http.Transport{
		Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // a certificate of our own
		DisableCompression: true,
	}}
}

// checkHTTP2 holds the answer of the target at addr to the one demanded. Servers of files have fields
// of their own beside it, and nghttpd knows no type for a file without an extension.
func (t *target) checkHTTP2(addr, path, contentType string, pair *tlsPair, http1 bool) error {
	client := asker(pair, http1)
	defer client.CloseIdleConnections()
	resp, err := client.Get(urlOf(addr, path, pair))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, askBodyMax))
	if err != nil {
		return err
	}
	if want := map[bool]int{false: 2, true: 1}[http1]; resp.ProtoMajor != want {
		return fmt.Errorf("%s in place of HTTP/%d", resp.Proto, want)
	}
	a := answer{resp.StatusCode, textproto.MIMEHeader(resp.Header), string(body)}
	if t.name == nameNghttpd {
		a.header.Set("Content-Type", contentType)
	}
	d := a.differences(contentType, time.Now())
	if t.name == nameNghttpd || t.name == nameH2O {
		d = slices.DeleteFunc(d, func(text string) bool { return strings.HasSuffix(text, sentByNobodyElse) })
	}
	if len(d) > 0 {
		return fmt.Errorf("another answer than demanded: %s", strings.Join(d, "; "))
	}
	return nil
}

func urlOf(addr, path string, pair *tlsPair) string {
	if pair == nil {
		return "http://" + addr + path
	}
	return "https://" + addr + path
}
