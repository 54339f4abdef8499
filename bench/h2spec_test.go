//go:build linux

package main

// This file has h2spec, the conformance test of HTTP/2 by others, look at flare's server: all of its
// cases, the strict ones too, over TLS and without, on the event loop and on the plain driver.

import (
	"context"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"flare"
)

// buildModule builds a program of a module that go.mod names as a tool, and skips the test where the
// module cannot be had.
func buildModule(t *testing.T, module, program string) string {
	t.Helper()
	if out, err := exec.Command("go", "mod", "download", module).CombinedOutput(); err != nil {
		t.Skipf("%s cannot be downloaded: %v\n%s", module, err, out)
	}
	file := filepath.Join(t.TempDir(), filepath.Base(program))
	if out, err := exec.Command("go", "build", "-o", file, program).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// plainListener has no descriptor that a loop could wait for, so flare serves it on the plain driver.
type plainListener struct{ net.Listener }

func (ln plainListener) Accept() (net.Conn, error) {
	nc, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ net.Conn }{nc}, nil
}

// serveSpec serves what the cases ask for, and returns the port.
func serveSpec(t *testing.T, overTLS, plain bool) string {
	t.Helper()
	pair, err := makeTLSPair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	body := strings.Repeat("flare ", 1000)
	s := &flare.Server{
		Protocols: protocols,
		Logger:    slog.New(slog.DiscardHandler),
		Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
			if _, err := r.Bytes(); err != nil {
				return err
			}
			return w.Text(200, body)
		}),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	if plain {
		ln = plainListener{ln}
	}
	served := make(chan error, 1)
	go func() {
		if overTLS {
			served <- s.ServeTLS(ln, pair.cert, pair.key)
		} else {
			served <- s.Serve(ln)
		}
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return port
}

// A specReport is what h2spec writes, in JUnit's form.
type specReport struct {
	Suites []struct {
		Cases []struct {
			Section string  `xml:"package,attr"`
			Name    string  `xml:"classname,attr"`
			Skipped *string `xml:"skipped"`
			Failure *string `xml:"failure"`
			Error   *string `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// specCases is how many cases h2spec has with -strict.
const specCases = 146

func TestH2Spec(t *testing.T) {
	t.Parallel()
	program := buildModule(t, "github.com/summerwind/h2spec", "github.com/summerwind/h2spec/cmd/h2spec")
	for _, row := range []struct {
		name           string
		overTLS, plain bool
	}{
		{"TLS on the loop", true, false},
		{"TLS on the plain driver", true, true},
		{"cleartext on the loop", false, false},
		{"cleartext on the plain driver", false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			port, file := serveSpec(t, row.overTLS, row.plain), filepath.Join(t.TempDir(), "report.xml")
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			args := []string{"--strict", "--timeout", "5", "--port", port, "--junit-report", file}
			if row.overTLS {
				args = append(args, "--tls", "--insecure")
			}
			out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
			text, readErr := os.ReadFile(file)
			var report specReport
			if readErr != nil || xml.Unmarshal(text, &report) != nil {
				t.Fatalf("no report: %v, %v\n%s", err, readErr, out)
			}
			ran, failed := report.judge()
			if ran != specCases || len(failed) > 0 {
				t.Errorf("%d cases, want %d, %d failed:\n%s", ran, specCases, len(failed), strings.Join(failed, "\n"))
			}
		})
	}
}

// judge returns how many cases ran, and a line for each that was not passed.
func (r *specReport) judge() (ran int, failed []string) {
	for _, suite := range r.Suites {
		for _, c := range suite.Cases {
			ran++
			switch {
			case c.Failure != nil:
				failed = append(failed, fmt.Sprintf("%-28s %s: %s", c.Section, c.Name, strings.Join(strings.Fields(*c.Failure), " ")))
			case c.Error != nil:
				failed = append(failed, fmt.Sprintf("%-28s %s: error %s", c.Section, c.Name, *c.Error))
			case c.Skipped != nil:
				failed = append(failed, fmt.Sprintf("%-28s %s: skipped", c.Section, c.Name))
			}
		}
	}
	return ran, failed
}
