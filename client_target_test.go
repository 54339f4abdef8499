package flare

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestClientTarget(t *testing.T) {
	tests := []struct{ url, host, authority, path string }{
		{"http://a.test", "a.test", "a.test", "/"},
		{"http://a.test?q", "a.test", "a.test", "/?q"},
		{"http://A.Test:8080/b?c=d#e", "a.test", "a.test:8080", "/b?c=d"},
		{"https://a.test/%41/b", "a.test", "a.test", "/%41/b"},
		{"https://a.test/a/b c", "a.test", "a.test", "/a/b%20c"},
		{"http://a.test/?q=a b\u00e4\"\\", "a.test", "a.test", "/?q=a%20b%C3%A4\"%5C"},
		{"http://127.0.0.1:80/", "127.0.0.1", "127.0.0.1:80", "/"},
		{"http://[::1]:81/x", "::1", "[::1]:81", "/x"},
		{"http://[fe80::1%25eth0]/", "fe80::1%eth0", "[fe80::1]", "/"},
		{"http://a_b.test./", "a_b.test.", "a_b.test.", "/"},
		{"http://u:p@a.test/", "a.test", "a.test", "/"},
	}
	for _, tt := range tests {
		got, err := parseTarget(tt.url, PhaseRequest)
		if err != nil || got.host != tt.host || got.authority != tt.authority || got.path != tt.path {
			t.Errorf("%s: %+v, %v", tt.url, got, err)
		}
	}
}

// A host in another alphabet is refused with what to do about it.
func TestClientHostASCII(t *testing.T) {
	for _, s := range []string{"http://b\u00fccher.test/", "http://b%C3%BCcher.test/", "http://\u4f8b\u3048.test:80/"} {
		_, err := parseTarget(s, PhaseRequest)
		if !errors.Is(err, ErrInvalidURL) || !strings.Contains(err.Error(), "ASCII form, with xn--") {
			t.Errorf("%s: %v", s, err)
		}
	}
	if got, err := parseTarget("http://xn--bcher-kva.test/", PhaseRequest); err != nil || got.host != "xn--bcher-kva.test" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestClientJoinURL(t *testing.T) {
	tests := []struct{ base, ref, want string }{
		{"http://a/b", "c", "http://a/b/c"},
		{"http://a/b/", "/c", "http://a/b/c"},
		{"http://a", "?q", "http://a?q"},
		{"http://a", "", "http://a"},
		{"http://a", "https://b/", "https://b/"},
		{"http://a", "c?u=http://d/", "http://a/c?u=http://d/"},
	}
	for _, tt := range tests {
		if got, err := joinURL(tt.base, tt.ref); err != nil || got != tt.want {
			t.Errorf("%q + %q: %q, %v; want %q", tt.base, tt.ref, got, err, tt.want)
		}
	}
	if _, err := joinURL("http://a", "//evil/"); err == nil {
		t.Error("a reference that names another host was joined")
	}
}

// The short way of taking a URL apart agrees with the long one.
func FuzzClientTarget(f *testing.F) {
	for _, s := range []string{"http://a/", "http://a:80/b?c", "https://1.2.3.4", "http://a/b:c@d", "http://a/(b)?%zz", "http://a:/", "http://a/%41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		plain, ok := parsePlainTarget(s)
		if !ok {
			return
		}
		u, err := url.Parse(s)
		if err != nil {
			t.Fatalf("%q: taken, and url.Parse says %v", s, err)
		}
		long, err := targetOf(u, PhaseRequest)
		if err != nil {
			t.Fatalf("%q: taken, and refused by targetOf: %v", s, err)
		}
		if plain.origin() != long.origin() || plain.authority != long.authority || plain.path != long.path {
			t.Fatalf("%q: %+v and %+v", s, plain, long)
		}
	})
}
