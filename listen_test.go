package flare

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// getFrom asks at an address of any network for /, over a connection of its own.
func getFrom(t *testing.T, addr net.Addr) string {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, Dial: func(_, _ string) (net.Conn, error) {
		return net.Dial(addr.Network(), addr.String())
	}}}
	resp, err := client.Get("http://any/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A server listens on several addresses at once, and serves all of them alike. So
// does one that knows nothing of such listeners.
func TestListenSeveral(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	config := new(ListenConfig)
	ln, err := config.Listen(t.Context(), "localhost:0", "127.0.0.1:0", "unix:"+path)
	if err != nil {
		t.Skip("cannot listen: ", err)
	}
	s := &Server{Loops: 1, Handler: textHandler("fine")}
	startPlainOn(t, s, ln)
	all := ln.(*listeners).all
	eventually(t, "all listeners", func() bool { return len(s.Addrs()) == len(all) })
	for _, addr := range s.Addrs() {
		if got := getFrom(t, addr); got != "fine" {
			t.Errorf("%v: %q", addr, got)
		}
	}
	// Both addresses of the name have one port.
	byName := all[:len(all)-2]
	for _, ln := range byName {
		if !strings.HasSuffix(ln.Addr().String(), fmt.Sprintf(":%d", byName[0].Addr().(*net.TCPAddr).Port)) {
			t.Errorf("localhost is %v and %v", byName[0].Addr(), ln.Addr())
		}
	}

	foreign, err := config.Listen(t.Context(), "127.0.0.1:0", "127.0.0.1:0", "[::1]:0")
	if err != nil {
		t.Skip("cannot listen: ", err)
	}
	other := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "fine too") })}
	served := make(chan error, 1)
	go func() { served <- other.Serve(foreign) }()
	for _, ln := range foreign.(*listeners).all {
		if got := getFrom(t, ln.Addr()); got != "fine too" {
			t.Errorf("%v: %q", ln.Addr(), got)
		}
	}
	other.Close()
	<-served
}

// Where one of the addresses cannot be listened on, none is.
func TestListenFails(t *testing.T) {
	t.Parallel()
	free := freeAddr(t)
	for _, bad := range []string{"127.0.0.1", "127.0.0.1:99999", "no.such.name.invalid:0", "unix:/no/such/folder/s"} {
		ln, err := new(ListenConfig).Listen(t.Context(), free, bad)
		if err == nil {
			ln.Close()
			t.Errorf("%s: no error", bad)
			continue
		}
		if ln, err = net.Listen("tcp", free); err != nil {
			t.Errorf("behind %s: %v", bad, err)
			continue
		}
		ln.Close()
	}
	if ln, err := new(ListenConfig).Listen(t.Context()); err == nil {
		ln.Close()
		t.Error("no addresses: no error")
	}
}

// One listener that fails ends what stands for all, and Serve returns why.
func TestListenSeveralEnds(t *testing.T) {
	t.Parallel()
	ln, err := new(ListenConfig).Listen(t.Context(), "127.0.0.1:0", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Loops: 1, Handler: textHandler("fine"), Logger: quietLogger()}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	all := ln.(*listeners).all
	eventually(t, "both listeners", func() bool { return len(s.Addrs()) == 2 })
	all[1].Close()
	if err := <-served; err == nil || err == ErrServerClosed {
		t.Errorf("Serve: %v", err)
	}
	if conn, err := net.Dial("tcp", all[0].Addr().String()); err == nil {
		conn.Close()
		t.Error("the other one still listens")
	}
	s.Close()
}

// 0.0.0.0 is IPv4 alone, no host is both families.
func TestListenFamilies(t *testing.T) {
	t.Parallel()
	if probe, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6: ", err)
	} else {
		probe.Close()
	}
	for addr, want := range map[string][]string{":0": {"127.0.0.1", "::1"}, "[::]:0": {"127.0.0.1", "::1"}, "0.0.0.0:0": {"127.0.0.1"}, "[::1]:0": {"::1"}} {
		ln, err := new(ListenConfig).Listen(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, host := range []string{"127.0.0.1", "::1"} {
			conn, err := net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(ln.Addr().(*net.TCPAddr).Port)))
			if err == nil {
				conn.Close()
				got = append(got, host)
			}
		}
		ln.Close()
		if !slices.Equal(got, want) {
			t.Errorf("%s takes connections to %v, not %v", addr, got, want)
		}
	}
}
