package main

// This file has flare's wire format of HTTP/2 beside golang.org/x/net's. It is not exported, so its
// files are compiled together with testdata/http2/xnet_test.go, as a package of their own.

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "golang.org/x/net/http2" // for the package below: go mod tidy does not see it
)

// wireFiles are flare's files that have the wire format, and what they need.
var wireFiles = []string{
	"hpack*.go", "http2_*.go", "parser.go", "parser_fields.go", "parser_framing.go", "parser_response.go", "target.go",
	"ascii.go", "errors.go", "errors_net.go", "view.go", "header.go", "header_fields.go", "body.go", "buffer.go", "race_off.go",
}

// To fuzz, give the target and the time, from bench/:
//
//	HTTP2_FUZZ=FuzzXNetFramer HTTP2_FUZZTIME=1m go test -run TestHTTP2BesideXNet -v .
func TestHTTP2BesideXNet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := []string{}
	for _, pattern := range append([]string{"bench/testdata/http2/xnet_test.go"}, wireFiles...) {
		names, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") && !strings.Contains(name, "xnet") {
				continue
			}
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(pattern, "http2_") && !bytes.Contains(text, []byte("layer 1 (wire)")) {
				continue // connections and streams
			}
			file := filepath.Join(dir, filepath.Base(name))
			if err := os.WriteFile(file, text, 0o666); err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	args := []string{"test", "-count=1", "-v"}
	if target := os.Getenv("HTTP2_FUZZ"); target != "" {
		args = append(args, "-run=^$", "-fuzz=^"+target+"$", "-fuzztime="+os.Getenv("HTTP2_FUZZTIME"))
	}
	out, err := exec.Command("go", append(args, files...)...).CombinedOutput()
	if testing.Verbose() || err != nil {
		t.Logf("%s", out)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []string{"TestXNetDecodes", "TestXNetEncodes", "FuzzXNetHPACK", "FuzzXNetFramer"} {
		if os.Getenv("HTTP2_FUZZ") == "" && !strings.Contains(string(out), "--- PASS: "+test) {
			t.Errorf("%s did not run", test)
		}
	}
}
