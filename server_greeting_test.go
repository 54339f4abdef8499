//go:build linux || darwin

package flare

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxyServerTest is a server whose peers all are proxies, and tells who they speak for.
func proxyServerTest() *Server {
	return &Server{
		ProxyProtocol:  true,
		TrustedProxies: []string{"loopback", "unix"},
		Loops:          2,
		Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			said := "nothing"
			if h := r.ProxyHeader(); h != nil {
				said = proxyTextTest(h)
			}
			return w.Text(200, fmt.Sprint(r.RemoteAddr(), " ", r.ClientAddr(), " ", r.Scheme(), "; ", said))
		}),
	}
}

// A proxyConnTest is a connection that begins with a header.
type proxyConnTest struct {
	net.Conn
	header string
}

func (c *proxyConnTest) Write(p []byte) (int, error) {
	if c.header != "" {
		if _, err := io.WriteString(c.Conn, c.header); err != nil {
			return 0, err
		}
		c.header = ""
	}
	return c.Conn.Write(p)
}

// On every kind of listener the header comes first, and what it says is what all
// hear: handlers, the hooks, the counts.
func TestProxyProtocolListeners(t *testing.T) {
	t.Parallel()
	const client = "192.0.2.1:8080"
	for _, listener := range hookedListeners {
		for name, header := range map[string]string{
			"v1": "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n",
			"v2": proxySumTest(),
		} {
			t.Run(listener.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				var mu sync.Mutex
				var told []string
				s := proxyServerTest()
				s.ConnState = func(c net.Conn, state http.ConnState) {
					mu.Lock()
					defer mu.Unlock()
					told = append(told, fmt.Sprint(state, " ", c.RemoteAddr()))
				}
				s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
					if got := c.RemoteAddr().String(); got != client {
						t.Errorf("ConnContext sees %s", got)
					}
					return ctx
				}
				dial, scheme := listener.serve(t, s)
				hc := listener.client(t, func() net.Conn { return &proxyConnTest{dial(), header} })
				h, _, err := parseProxyHeader([]byte(header))
				mustTest(t, err)
				want := fmt.Sprint(client, " ", client, " ", scheme, "; ", proxyTextTest(h))
				for range 2 {
					if status, got := getBy(t, hc, scheme+"://localhost/"); status != 200 || got != want {
						t.Errorf("%d %q, want %q", status, got, want)
					}
				}
				hc.CloseIdleConnections()
				gone(t, s)
				mu.Lock()
				defer mu.Unlock()
				if len(told) < 3 || told[0] != "new "+client || told[len(told)-1] != "closed "+client {
					t.Errorf("ConnState was told %q", told)
				}
			})
		}
	}
}

// A proxyWayTest is a way by which octets reach a server without TLS.
type proxyWayTest struct {
	name  string
	start func(t *testing.T, s *Server) (dial func() net.Conn)
}

var proxyWaysTest = []proxyWayTest{
	{"loop", func(t *testing.T, s *Server) func() net.Conn { return dialed(t, "tcp", startServer(t, s)) }},
	{"plain", func(t *testing.T, s *Server) func() net.Conn {
		ln := wrappedListener{listenNetTest(t, "tcp", "127.0.0.1:0")}
		startPlainOn(t, s, ln)
		return dialed(t, "tcp", ln.Addr().String())
	}},
}

const proxyGetTest = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

// proxyAskTest sends parts, in a write each, and returns all that comes back.
func proxyAskTest(t *testing.T, nc net.Conn, parts ...string) string {
	t.Helper()
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	for _, part := range parts {
		if _, err := io.WriteString(nc, part); err != nil {
			break // it may have been refused by now
		}
	}
	got, err := io.ReadAll(nc)
	if isTimeout(err) {
		t.Errorf("the connection is still open behind %q", parts)
	}
	return string(got)
}

// A header may come in any pieces, and one that ends early is no header.
func TestProxyProtocolCut(t *testing.T) {
	t.Parallel()
	for _, way := range proxyWaysTest {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := proxyServerTest()
			dial := way.start(t, s)
			for _, header := range []string{"PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n", proxySumTest()} {
				all := header + proxyGetTest
				for cut := range all {
					if got := proxyAskTest(t, dial(), all[:cut], all[cut:]); !strings.Contains(got, "\r\n\r\n192.0.2.1:8080 ") {
						t.Fatalf("cut at %d of %d: %q", cut, len(header), got)
					}
				}
				for cut := range header {
					nc := dial()
					_, err := io.WriteString(nc, header[:cut])
					mustTest(t, err)
					mustTest(t, nc.(*net.TCPConn).CloseWrite())
					if got := proxyAskTest(t, nc); got != "" {
						t.Fatalf("ended at %d of %d: %q", cut, len(header), got)
					}
				}
				octets := make([]string, len(all))
				for i := range octets {
					octets[i] = all[i : i+1]
				}
				if got := proxyAskTest(t, dial(), octets...); !strings.Contains(got, "\r\n\r\n192.0.2.1:8080 ") {
					t.Fatalf("octet by octet: %q", got)
				}
			}
			gone(t, s)
		})
	}
}

// Who the client is, or that it is refused, for each kind of header and of peer.
func TestProxyProtocolRefusals(t *testing.T) {
	t.Parallel()
	v1 := "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n"
	tlsField := "\x20\x00\x05\x01\x00\x00\x00\x00"
	for _, way := range proxyWaysTest {
		for _, row := range []struct {
			name, trusted, sent, fields string
			want                        string // PEER is the connection's own address; "": a reset
		}{
			{"a proxy", "loopback", v1, "", "192.0.2.1:8080 192.0.2.1:8080 http; 1 false 192.0.2.1:8080 198.51.100.2:443 []"},
			{"the client's fields", "loopback", v1, "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n", "192.0.2.1:8080 192.0.2.1:8080 http; 1 false"},
			{"a proxy of ours is the client", "loopback,192.0.2.0/24", v1, "X-Forwarded-For: 203.0.113.9\r\n", "192.0.2.1:8080 203.0.113.9:0 http; 1 false"},
			{"IPv6", "loopback", proxyV2Test(0x21, 0x21, proxyAddrs6Test), "", "[2001:db8::1]:8080 [2001:db8::1]:8080 http; 2 false"},
			{"TLS in front of the proxy", "loopback", proxyV2Test(0x21, 0x11, proxyAddrs4Test+tlsField), "", "192.0.2.1:8080 192.0.2.1:8080 https; 2 false"},
			{"the proxy itself", "loopback", proxyV2Test(0x20, 0, ""), "", "PEER PEER http; 2 true"},
			{"unknown", "loopback", "PROXY UNKNOWN\r\n", "", "PEER PEER http; 1 false"},
			{"the fields of nobody", "loopback", "PROXY UNKNOWN\r\n", "X-Forwarded-For: 203.0.113.9\r\n", "PEER PEER http; 1 false"},
			{"another peer, without a header", "10.0.0.0/8", "", "", "PEER PEER http; nothing"},
			{"another peer, with one", "10.0.0.0/8", v1, "", "400"},
			{"another peer, with a binary one", "10.0.0.0/8", proxySumTest(), "", "400"},
			{"no header", "loopback", "", "", ""},
			{"two headers", "loopback", v1 + v1, "", "400"},
			{"wrong version", "loopback", proxyV2Test(0x31, 0x11, proxyAddrs4Test), "", ""},
			{"wrong checksum", "loopback", strings.Replace(proxySumTest(), "h", "i", 1), "", ""},
			{"oversized line", "loopback", "PROXY UNKNOWN " + strings.Repeat("x", 93) + "\r\n", "", ""},
			{"oversized", "loopback", proxyV2Test(0x21, 0, strings.Repeat("x", 5000)), "", ""},
			{"large", "loopback", proxyV2Test(0x21, 0, strings.Repeat("x", 4080)), "", "PEER PEER http; 2 false"},
		} {
			t.Run(way.name+"/"+row.name, func(t *testing.T) {
				t.Parallel()
				s := proxyServerTest()
				s.TrustedProxies = strings.Split(row.trusted, ",")
				nc := way.start(t, s)()
				peer := nc.LocalAddr().String()
				got := proxyAskTest(t, nc, row.sent, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"+row.fields+"\r\n")
				switch want := strings.ReplaceAll(row.want, "PEER", peer); {
				case want == "" && got != "":
					t.Errorf("answered with %q", got)
				case want == "400" && !strings.HasPrefix(got, "HTTP/1.1 400 "):
					t.Errorf("got %q, want a 400", got)
				case want != "" && want != "400" && !strings.Contains(got, "\r\n\r\n"+want):
					t.Errorf("got %q, want %q", got, want)
				}
				gone(t, s)
			})
		}
	}
}

// A proxy that says nothing, or too slowly, has HandshakeTimeout, and nobody waits
// for it: not whoever comes next, nor the end of the server.
func TestProxyProtocolSilent(t *testing.T) {
	t.Parallel()
	for _, way := range proxyWaysTest {
		t.Run(way.name+"/timeout", func(t *testing.T) {
			t.Parallel()
			s := proxyServerTest()
			s.HandshakeTimeout = 50 * time.Millisecond
			dial := way.start(t, s)
			for _, begin := range []string{"", "PROXY", proxyV2Begin} {
				if got := proxyAskTest(t, dial(), begin); got != "" {
					t.Errorf("%q behind %q", got, begin)
				}
			}
			nc := dial()
			defer nc.Close()
			ended := make(chan struct{})
			go func() { // a trickle is no way to stay
				defer close(ended)
				proxyAskTest(t, nc)
			}()
			for trickling := true; trickling; {
				io.WriteString(nc, "PROXY UNKNOWN "[:1])
				select {
				case <-ended:
					trickling = false
				case <-time.After(10 * time.Millisecond):
				}
			}
			gone(t, s)
		})
		t.Run(way.name+"/many", func(t *testing.T) {
			t.Parallel()
			s := proxyServerTest()
			s.HandshakeTimeout = -1
			dial := way.start(t, s)
			for i := range 100 {
				nc := dial()
				defer nc.Close()
				_, err := io.WriteString(nc, "PROXY TCP4 1"[:i%12])
				mustTest(t, err)
			}
			eventually(t, "all to be accepted", func() bool { return s.conns.Load() == 100 })
			for range 20 {
				if got := proxyAskTest(t, dial(), "PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n"+proxyGetTest); !strings.Contains(got, "\r\n\r\n192.0.2.1:8080 ") {
					t.Fatalf("%q", got)
				}
			}
			if n := s.conns.Load(); n < 100 {
				t.Errorf("%d connections are left", n)
			}
			mustTest(t, s.Close())
			gone(t, s)
		})
		t.Run(way.name+"/shutdown", func(t *testing.T) {
			t.Parallel()
			s := proxyServerTest()
			s.HandshakeTimeout = -1
			dial := way.start(t, s)
			for range 3 {
				defer dial().Close()
			}
			eventually(t, "all to be accepted", func() bool { return s.conns.Load() == 3 })
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			mustTest(t, s.Shutdown(ctx))
		})
	}
}

// MaxConnsPerIP counts clients, not proxies, and connections that are not there yet
// are no client's.
func TestProxyProtocolMaxConnsPerIP(t *testing.T) {
	t.Parallel()
	for _, way := range proxyWaysTest {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := proxyServerTest()
			s.MaxConnsPerIP = 2
			dial := way.start(t, s)
			for range 5 {
				defer dial().Close()
			}
			ask := func(client, request string) net.Conn {
				nc := dial()
				nc.SetDeadline(time.Now().Add(patience))
				_, err := fmt.Fprintf(nc, "PROXY TCP4 %s 198.51.100.2 8080 443\r\n%s", client, request)
				mustTest(t, err)
				return nc
			}
			served := func(nc net.Conn, client string) bool {
				var p [512]byte
				n, err := nc.Read(p[:])
				if isTimeout(err) {
					t.Fatal("no answer and no end")
				}
				return strings.Contains(string(p[:n]), client)
			}
			const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
			var kept []net.Conn
			for i := range 4 {
				nc := ask("192.0.2.1", get)
				defer nc.Close()
				if got := served(nc, "192.0.2.1"); got != (i < 2) {
					t.Errorf("connection %d of one client: served %t", i, got)
				} else if got {
					kept = append(kept, nc)
				}
			}
			other := ask("192.0.2.2", get)
			defer other.Close()
			if !served(other, "192.0.2.2") {
				t.Error("another client is refused")
			}
			kept[0].Close()
			first := netip.MustParseAddr("192.0.2.1")
			eventually(t, "the end of one", func() bool {
				s.perIP.mu.Lock()
				defer s.perIP.mu.Unlock()
				return s.perIP.n[first] == 1
			})
			again := ask("192.0.2.1", get)
			defer again.Close()
			if !served(again, "192.0.2.1") {
				t.Error("a client is refused whose connection has ended")
			}
		})
	}
}

// Behind the header the connection may speak what any may: HTTP/2 without TLS, and
// a protocol of the user's.
func TestProxyProtocolOthers(t *testing.T) {
	t.Parallel()
	for _, way := range proxyWaysTest {
		t.Run(way.name+"/HTTP 2", func(t *testing.T) {
			t.Parallel()
			s := proxyServerTest()
			s.Protocols = new(http.Protocols)
			s.Protocols.SetUnencryptedHTTP2(true)
			dial := way.start(t, s)
			tr := &http.Transport{Protocols: s.Protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
				return &proxyConnTest{dial(), proxySumTest()}, nil
			}}
			defer tr.CloseIdleConnections()
			if status, got := getBy(t, &http.Client{Transport: tr}, "http://localhost/"); status != 200 || !strings.HasPrefix(got, "192.0.2.1:8080 ") {
				t.Errorf("%d %q", status, got)
			}
		})
		t.Run(way.name+"/protocol", func(t *testing.T) {
			t.Parallel()
			s := proxyServerTest()
			s.NewProtocol = func(c *Conn) Protocol {
				c.Write([]byte(fmt.Sprint(c.RemoteAddr(), " ", len(c.ProxyHeader().TLVs))))
				c.Close()
				return greetingProtocol{}
			}
			if got := proxyAskTest(t, way.start(t, s)(), proxySumTest()); got != "192.0.2.1:8080 1" {
				t.Errorf("%q", got)
			}
			gone(t, s)
		})
	}
}

func TestProxyProtocolOfNobody(t *testing.T) {
	s := &Server{ProxyProtocol: true}
	if err := s.Serve(listenNetTest(t, "tcp", "127.0.0.1:0")); err != errProxyNobody {
		t.Errorf("Serve: %v", err)
	}
}

// A Dialer says who it dials for, in front of TLS too.
func TestDialProxyHeader(t *testing.T) {
	t.Parallel()
	h, _, err := parseProxyHeader([]byte(proxySumTest()))
	mustTest(t, err)
	h.TLVs = append(h.TLVs, ProxyTLV{Type: proxyTLVChecksum})
	for _, version := range []int{1, 2} {
		d := &Dialer{ProxyHeader: h}
		if version == 1 {
			d.ProxyHeader = &ProxyHeader{Version: 1, Source: h.Source, Destination: h.Destination}
		}
		nc, err := d.Dial(t.Context(), "tcp", startServer(t, proxyServerTest()))
		mustTest(t, err)
		if got := proxyAskTest(t, nc, proxyGetTest); !strings.Contains(got, "\r\n\r\n192.0.2.1:8080 ") {
			t.Errorf("%q", got)
		}
		s := proxyServerTest()
		s.Protocols = onlyHTTP1()
		tc, err := d.DialTLS(t.Context(), startTLSServer(t, s), &tls.Config{RootCAs: tlsTestCA().pool, ServerName: "localhost"})
		mustTest(t, err)
		if got := proxyAskTest(t, tc, proxyGetTest); !strings.Contains(got, "\r\n\r\n192.0.2.1:8080 192.0.2.1:8080 https;") {
			t.Errorf("%q", got)
		}
	}
	d := &Dialer{ProxyHeader: &ProxyHeader{Version: 9}}
	if _, err := d.Dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("a header that cannot be sent: %v", err)
	}
}

// haproxy says who its clients are, in every form that it has.
func TestProxyProtocolHaproxy(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl", "send-proxy check inter 50ms", "send-proxy-v2 check inter 50ms"} {
		t.Run(options, func(t *testing.T) {
			t.Parallel()
			path, addr, _ := clientProgram(t, "haproxy")
			s := proxyServerTest()
			upstream := startServer(t, s)
			conf := filepath.Join(t.TempDir(), "haproxy.conf")
			text := "global\n\tmaxconn 64\n\tnbthread 1\ndefaults\n\tmode http\n\ttimeout connect 5s\n\ttimeout client 20s\n\ttimeout server 20s\n\tretries 0\n" +
				"frontend in\n\tbind " + addr + "\n\tunique-id-format id-%rt\n\tdefault_backend flare\nbackend flare\n\tserver flare " + upstream + " " + options + "\n"
			mustTest(t, os.WriteFile(conf, []byte(text), 0o644))
			clientStart(t, addr, path, "-db", "-f", conf)
			for range 10 {
				nc, err := net.Dial("tcp", addr)
				mustTest(t, err)
				me := nc.LocalAddr().String()
				if got := proxyAskTest(t, nc, proxyGetTest); !strings.Contains(got, "\r\n\r\n"+me+" "+me+" http;") {
					t.Errorf("%s is %q", me, got)
				}
			}
		})
	}
}
