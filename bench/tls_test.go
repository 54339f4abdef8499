//go:build linux

package main

import (
	"crypto/tls"
	"testing"
)

func TestParseWrk(t *testing.T) {
	r, err := parseWrk("Running 1s test\n  1 threads and 64 connections\n  12345 requests in 1.10s, 1.70MB read\nRequests/sec:  11222.73\n")
	if err != nil || r.requests != 12345 || r.seconds != 1.1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := parseWrk("  7 requests in 250.00ms, 1.70KB read\n"); err != nil || r.seconds != 0.25 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := parseWrk("unable to connect"); err == nil {
		t.Error("a run without a result is no error")
	}
	for _, text := range []string{"  Socket errors: connect 0, read 1, write 0, timeout 0\n", "  Non-2xx or 3xx responses: 12\n"} {
		if wrkFault.FindString(text) == "" {
			t.Errorf("no fault found in %q", text)
		}
	}
}

func TestTLSPair(t *testing.T) {
	pair, err := makeTLSPair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(pair.cert, pair.key); err != nil {
		t.Error(err)
	}
}

func TestTLSTargets(t *testing.T) {
	var names []string
	for _, t := range tlsTargets(allTargets()) {
		names = append(names, t.name)
	}
	if len(names) != 2 || names[0] != nameFlare || names[1] != nameNetHTTP {
		t.Errorf("%q", names)
	}
}
