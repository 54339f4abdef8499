package flare

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// These tests hold crypto/tls to what conn_tls.go builds on and its
// documentation does not promise. One that fails after a change of the Go
// release says that TLS on the loop has to be looked at again.

// A pinConn is a net.Conn with two buffers, and nothing that waits.
type pinConn struct {
	in       []byte
	inMax    int // bytes of one Read, 0: all
	reads    int // that had something
	out      []byte
	writeErr error
}

func (p *pinConn) Read(b []byte) (int, error) {
	if len(p.in) == 0 {
		return 0, errWouldBlock
	}
	if p.inMax > 0 {
		b = b[:min(len(b), p.inMax)]
	}
	n := copy(b, p.in)
	p.in = p.in[n:]
	p.reads++
	return n, nil
}

func (p *pinConn) Write(b []byte) (int, error) {
	if p.writeErr != nil {
		return 0, p.writeErr
	}
	p.out = append(p.out, b...)
	return len(b), nil
}

func (p *pinConn) Close() error                     { return nil }
func (p *pinConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (p *pinConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (p *pinConn) SetDeadline(time.Time) error      { return nil }
func (p *pinConn) SetReadDeadline(time.Time) error  { return nil }
func (p *pinConn) SetWriteDeadline(time.Time) error { return nil }

// A pinStage is a net.Conn that is one end of a pipe during the handshake, and
// a pinConn from then on.
type pinStage struct{ net.Conn }

// pinPair returns the two ends of a connection after the handshake. What one
// writes does not reach the other by itself.
func pinPair(t *testing.T, version uint16) (server, client *tls.Conn, serverSide, clientSide *pinConn) {
	t.Helper()
	return pinPairOf(t, version, nil)
}

// pinPairOf is pinPair with a client that writes its secrets down.
func pinPairOf(t *testing.T, version uint16, secrets io.Writer) (server, client *tls.Conn, serverSide, clientSide *pinConn) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	serverStage, clientStage := &pinStage{a}, &pinStage{b}
	server = tls.Server(serverStage, &tls.Config{Certificates: []tls.Certificate{tlsTestCA().issue(t, 3, "localhost")}, SessionTicketsDisabled: true})
	config := tlsClientConfig()
	config.MinVersion, config.MaxVersion, config.KeyLogWriter = version, version, secrets
	client = tls.Client(clientStage, config)
	failed := make(chan error, 1)
	go func() { failed <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	serverSide, clientSide = new(pinConn), new(pinConn)
	serverStage.Conn, clientStage.Conn = serverSide, clientSide
	return server, client, serverSide, clientSide
}

func pinVersions(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) { test(t, version) })
	}
}

// A Read that finds nothing below returns the very error of the connection, and
// goes on at the next call, at every byte of a record.
func TestTLSReadResumes(t *testing.T) {
	pinVersions(t, func(t *testing.T, version uint16) {
		server, client, serverSide, clientSide := pinPair(t, version)
		want := bytes.Repeat([]byte("0123456789"), 100)
		for _, n := range []int{1, 600, len(want)} {
			if _, err := client.Write(want[:n]); err != nil {
				t.Fatal(err)
			}
		}
		var got []byte
		buf := make([]byte, 2000)
		for _, b := range clientSide.out {
			n, err := server.Read(buf)
			if n != 0 || err != errWouldBlock {
				t.Fatalf("with nothing to read: %d, %v", n, err)
			}
			serverSide.in = []byte{b}
			n, err = server.Read(buf)
			if err != nil && err != errWouldBlock {
				t.Fatalf("after a byte: %v", err)
			}
			got = append(got, buf[:n]...)
		}
		if want := append(append(want[:1:1], want[:600]...), want...); !bytes.Equal(got, want) {
			t.Errorf("read %d bytes, want %d", len(got), len(want))
		}
	})
}

// The connection below is read only for a record that is not complete yet: the
// engine concludes from what it gave that nothing is left inside.
func TestTLSReadsNoFurtherThanNeeded(t *testing.T) {
	pinVersions(t, func(t *testing.T, version uint16) {
		server, client, serverSide, clientSide := pinPair(t, version)
		buf := make([]byte, 2000)
		for range 3 {
			client.Write([]byte("a record"))
		}
		serverSide.in = clientSide.out
		for i := range 3 {
			if n, err := server.Read(buf); n != 8 || err != nil {
				t.Fatalf("record %d: %d, %v", i, n, err)
			}
			if serverSide.reads != 1 {
				t.Fatalf("after record %d: %d reads below, want 1", i, serverSide.reads)
			}
		}
		if n, err := server.Read(buf); n != 0 || err != errWouldBlock {
			t.Errorf("behind the last: %d, %v", n, err)
		}
	})
}

// An error of a write is for ever: Write below must not fail because a peer is
// slow.
func TestTLSWriteErrorsLast(t *testing.T) {
	pinVersions(t, func(t *testing.T, version uint16) {
		server, _, serverSide, _ := pinPair(t, version)
		serverSide.writeErr = errWouldBlock
		if _, err := server.Write([]byte("x")); !errors.Is(err, syscall.EAGAIN) {
			t.Fatalf("the first write: %v", err)
		}
		serverSide.writeErr = nil
		if _, err := server.Write([]byte("x")); err == nil {
			t.Error("a write after one that failed succeeds: it may be tried again, and conn_tls.go could be simpler")
		}
	})
}

// An error in a handshake is for ever too, which is why handshakes wait.
func TestTLSHandshakeErrorsLast(t *testing.T) {
	server := tls.Server(new(pinConn), &tls.Config{Certificates: []tls.Certificate{tlsTestCA().issue(t, 3, "localhost")}})
	for range 2 {
		if err := server.Handshake(); !errors.Is(err, syscall.EAGAIN) {
			t.Fatalf("got %v", err)
		}
	}
	below := server.NetConn().(*pinConn)
	below.in = []byte("\x16\x03\x01")
	if err := server.Handshake(); !errors.Is(err, syscall.EAGAIN) || len(below.in) != 3 {
		t.Errorf("a handshake that failed goes on, and need not wait on a goroutine: %v, %d bytes left", err, len(below.in))
	}
}

// Read writes: the answer to a KeyUpdate goes out before Read returns, and
// reading goes on with the new key.
func TestTLSReadWrites(t *testing.T) {
	var secrets tlsSecrets
	server, client, serverSide, clientSide := pinPairOf(t, tls.VersionTLS13, &secrets)
	f := secrets.forger(t, client.ConnectionState())
	serverSide.in = f.data(f.keyUpdate(t, nil), "after")
	buf := make([]byte, 100)
	n, err := server.Read(buf)
	if string(buf[:n]) != "after" || err != nil {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	if len(serverSide.out) == 0 {
		t.Error("the KeyUpdate was not answered by Read")
	}
	clientSide.in, serverSide.out = serverSide.out, nil
	server.Write([]byte("answer"))
	clientSide.in = append(clientSide.in, serverSide.out...)
	if n, err := client.Read(buf); string(buf[:n]) != "answer" || err != nil {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// The end of the stream is the same error with and without a close_notify; the
// connection below is asked again only without one.
func TestTLSEnd(t *testing.T) {
	pinVersions(t, func(t *testing.T, version uint16) {
		server, client, serverSide, clientSide := pinPair(t, version)
		client.CloseWrite()
		serverSide.in = clientSide.out
		buf := make([]byte, 100)
		for range 2 {
			if n, err := server.Read(buf); n != 0 || err != io.EOF {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if serverSide.reads != 1 {
			t.Errorf("%d reads below, want 1", serverSide.reads)
		}
		if err := server.CloseWrite(); err != nil || len(serverSide.out) == 0 {
			t.Errorf("close_notify after the peer's: %v, %d bytes", err, len(serverSide.out))
		}
	})
}

// The borders of records, whatever pieces they come in.
func TestTLSRecordBorders(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 255, 256, 16384}
	for _, n := range sizes {
		stream = append(append(stream, 23, 3, 3, byte(n>>8), byte(n)), make([]byte, n)...)
	}
	for _, step := range []int{1, 2, 3, 5, 7, 100, 5000, len(stream)} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			var r tlsRecords
			done := 0
			for at := 0; at < len(stream); at += step {
				r.feed(stream[at:min(at+step, len(stream))])
				done += int(r.completed)
			}
			if done != len(sizes) || r.got != 0 {
				t.Errorf("%d records and %d bytes, want %d records", done, r.got, len(sizes))
			}
			r.feed(stream[:4])
			if r.got != 4 || r.completed != 0 {
				t.Errorf("after a part of a header: %d bytes, %d records", r.got, r.completed)
			}
		})
	}
}
