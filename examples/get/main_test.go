package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"flare"
)

// get runs the program as with a terminal, or as in a pipe.
func get(t *testing.T, terminal bool, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, log bytes.Buffer
	err = run(ctx, args, &out, &log, terminal)
	return out.String(), log.String(), err
}

func serve(t *testing.T, body []byte) string {
	mux := flare.NewMux()
	mux.Get("/file", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Blob(200, "application/octet-stream", body)
	})
	mux.Get("/stream", func(w *flare.ResponseWriter, r *flare.Request) error {
		_, err := w.Write(body)
		return err
	})
	mux.Handle("/echo", flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, r.Method()+" "+r.Header().Get("Content-Type")+" "+strconv.Itoa(len(p))+" "+strconv.FormatBool(bytes.Equal(p, body)))
	}))
	return flare.TestServer(t, &flare.Server{Handler: mux})
}

func TestGet(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	url := serve(t, body)
	dir := t.TempDir()
	const whole = "[========================================] 100 %\n"
	name := filepath.Join(dir, "file")
	for _, terminal := range []bool{true, false} {
		_, log, err := get(t, terminal, "-o", name, url+"/file")
		got, readErr := os.ReadFile(name)
		if err != nil || readErr != nil || !bytes.Equal(got, body) {
			t.Fatalf("%v, %v, %d bytes", err, readErr, len(got))
		}
		if strings.Contains(log, "\rdown "+whole) != terminal || !strings.Contains(log, name+": 3200000 bytes\n") {
			t.Errorf("terminal %v: told %q", terminal, log)
		}
		out, log, err := get(t, terminal, "-upload", name, url+"/echo")
		if err != nil || out != "PUT  3200000 true" {
			t.Errorf("upload: %q, %v", out, err)
		}
		if strings.Contains(log, "\rup   "+whole) != terminal {
			t.Errorf("terminal %v: upload told %q", terminal, log)
		}
	}
	if _, log, err := get(t, true, "-o", name, url+"/stream"); err != nil || !strings.Contains(log, "\rdown ") || strings.Contains(log, "%") {
		t.Errorf("unknown length: told %q, %v", log, err)
	}
	if out, _, err := get(t, false, url+"/file"); err != nil || out != string(body) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if out, _, err := get(t, false, "-data", `{"a":1}`, url+"/echo"); err != nil || out != "POST application/json 7 false" {
		t.Errorf("data: %q, %v", out, err)
	}
	if out, _, err := get(t, false, "-method", "PATCH", "-data", "{}", url+"/echo"); err != nil || out != "PATCH application/json 2 false" {
		t.Errorf("method: %q, %v", out, err)
	}
}

func TestGetFails(t *testing.T) {
	url := serve(t, nil)
	missing := filepath.Join(t.TempDir(), "missing")
	if out, _, err := get(t, false, url+"/none"); err == nil || out != "Not Found\n" || !strings.Contains(err.Error(), "404") {
		t.Errorf("%q, %v", out, err)
	}
	var refused *flare.ResponseError
	if _, _, err := get(t, true, "-o", missing, url+"/none"); !errors.As(err, &refused) || refused.StatusCode != 404 {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a refusal became a file")
	}
	if _, _, err := get(t, false, "-upload", missing, url+"/echo"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	for _, args := range [][]string{{}, {url, url}, {"-data", "1", "-upload", "x", url}} {
		if _, _, err := get(t, false, args...); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	if _, log, err := get(t, false, "-help"); !errors.Is(err, flag.ErrHelp) || !strings.Contains(log, "-upload") {
		t.Errorf("%q, %v", log, err)
	}
}
