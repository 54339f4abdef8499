package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TLS over connections in memory: HTTP/1.1, what is known of the peer, Hijack,
// and peers that stall in their handshake.
func TestPlainTLS(t *testing.T) {
	t.Parallel()
	pair := dialCertificate(t, "h", time.Now())
	s := &Server{HandshakeTimeout: time.Second, Logger: quietLogger(), Handler: routes{
		"/": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if r.TLS() == nil || r.TLS().NegotiatedProtocol != "http/1.1" {
				return errors.New("no TLS to be seen")
			}
			return w.Text(200, "secure")
		}),
		"/hijack": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			conn, _, err := w.Hijack()
			if err != nil {
				return err
			}
			defer conn.Close()
			if _, ok := conn.(*tls.Conn); !ok {
				t.Errorf("Hijack gave a %T", conn)
			}
			_, err = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nhijacked")
			return err
		}),
	}}
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	ln := newPlainListener()
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(ln, "", "") }()
	stalled := dialPlain(t, ln)
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	for range 2 {
		for path, want := range map[string]string{"/": "secure", "/hijack": "hijacked"} {
			raw := dialPlain(t, ln)
			tc := tls.Client(raw.Conn, config)
			go io.WriteString(tc, request(path, "Connection: close"))
			resp, err := io.ReadAll(tc)
			if err != nil || !strings.HasSuffix(string(resp), "\r\n\r\n"+want) {
				t.Errorf("%s: %q, %v", path, tail(resp), err)
			}
			raw.Close()
		}
	}
	stalled.ended()
	gone(t, s)
	eventually(t, "the count", func() bool { return s.Stats().Timeouts.Handshake == 1 })
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != ErrServerClosed {
		t.Errorf("ServeTLS: %v", err)
	}
}

// A record that is complete stays progress until its bytes were taken: a
// deadline that comes before that turn would forget it.
func TestPlainPartialRecordUntilTaken(t *testing.T) {
	peer, conn := net.Pipe()
	defer peer.Close()
	defer conn.Close()
	s := &plainTLS{Conn: conn, changed: func() {}}
	go func() {
		for _, piece := range []string{"\x17\x03\x03\x00\x02", "ab", "\x17"} {
			io.WriteString(peer, piece)
		}
	}()
	p := make([]byte, 100)
	var seen []partialRecord
	for range 3 {
		if _, err := s.Read(p); err != nil {
			t.Fatal(err)
		}
		seen = append(seen, s.part)
	}
	if seen[0].size != 5 || seen[1].began != seen[0].began || seen[1].grew <= seen[0].grew || seen[2].size != 1 || seen[2].began <= seen[1].grew {
		t.Errorf("%+v", seen)
	}
}

// The end of the socket that comes with bytes comes again, unless there is a
// close_notify among them: then it is an end in order.
func TestPlainTLSEndWithBytes(t *testing.T) {
	s := &plainTLS{Conn: plainBad{read: plainOnce("\x17\x03\x03\x00\x02ab", io.EOF)}, changed: func() {}}
	p := make([]byte, 100)
	if n, err := s.Read(p); n != 7 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if err := s.cutOff(io.EOF); err != io.EOF { // as crypto/tls says of a close_notify
		t.Errorf("an end with close_notify: %v", err)
	}
	if _, err := s.Read(p); s.cutOff(err) != io.ErrUnexpectedEOF {
		t.Errorf("an end without close_notify: %v", s.cutOff(err))
	}
}
