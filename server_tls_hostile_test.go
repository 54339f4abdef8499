package flare

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Peers that stall, flood or trickle under TLS, and what else than plain
// requests has to go through it.

// tlsRecordOf is a record of n bytes, of which only the header is sent at first.
func tlsRecordOf(n int) string { return string([]byte{23, 3, 3, byte(n >> 8), byte(n)}) }

// 1,000 peers stall in the middle of their handshake. Others are served
// meanwhile, and the stalled ones are ended by HandshakeTimeout and not before.
func TestTLSStalledHandshakes(t *testing.T) {
	t.Parallel()
	stalled := 1000
	if openFDs(t)+2*stalled+200 > descriptorLimit(t) {
		stalled = (descriptorLimit(t) - openFDs(t) - 200) / 2
	}
	s := &Server{Handler: HandlerFunc(tlsRoutes), HandshakeTimeout: 5 * time.Second}
	addr := startTLSServer(t, s)
	client := tlsHTTPClient(t, false)
	beside := func() {
		t.Helper()
		if code, body := getBy(t, client, "https://"+addr+"/"); code != 200 || body != "hello" {
			t.Fatalf("beside stalled peers: %d %q", code, body)
		}
		client.CloseIdleConnections() // a handshake each
	}
	hello := tlsClientHello(t)
	began := time.Now()
	peers := make([]net.Conn, stalled)
	for i := range peers {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(4 * patience))
		// After nothing, a byte, a part of the ClientHello, and all of it.
		cut := []int{0, 1, len(hello) / 2, len(hello)}[i%4]
		if _, err := conn.Write(hello[:cut]); err != nil {
			t.Fatal(err)
		}
		peers[i] = conn
		if i%100 == 99 {
			beside()
		}
	}
	eventually(t, "the first timeout", func() bool {
		beside()
		return s.Stats().Timeouts.Handshake > 0
	})
	if early := time.Since(began); early < s.HandshakeTimeout {
		t.Errorf("ended after %v", early)
	}
	for i, conn := range peers {
		if i%4 == 3 {
			io.Copy(io.Discard, conn) // the server's part of the handshake
		}
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil || os.IsTimeout(err) {
			t.Fatalf("stalled peer %d: %d, %v", i, n, err)
		}
	}
	eventually(t, "a count of all timeouts", func() bool { return s.Stats().Timeouts.Handshake == uint64(stalled) })
	eventually(t, "the return of all slots", func() bool { return len(s.slots) == 0 })
}

// descriptorLimit is how many descriptors the process may have.
func descriptorLimit(t testing.TB) int {
	t.Helper()
	limit, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Skip("no /proc/self/limits")
	}
	for line := range strings.Lines(string(limit)) {
		if rest, ok := strings.CutPrefix(line, "Max open files"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				return 1 << 20 // unlimited
			}
			return n
		}
	}
	return 1024
}

// tlsClientHello returns the first message of a client.
func tlsClientHello(t testing.TB) []byte {
	t.Helper()
	below := new(pinConn)
	if err := tls.Client(below, tlsClientConfig()).Handshake(); err == nil {
		t.Fatal("a handshake without a server")
	}
	return below.out
}

// A peer that stalls in the middle of a record is ended as one that stalls in
// the middle of a head: the first byte of a record begins a request. One that
// trickles gains nothing by it.
func TestTLSStallInARecord(t *testing.T) {
	t.Parallel()
	s := &Server{Handler: HandlerFunc(tlsRoutes), HeadTimeout: 200 * time.Millisecond, IdleTimeout: time.Hour}
	addr := startTLSServer(t, s)
	began := time.Now()
	silent := dialTLSRaw(t, addr, nil)
	io.WriteString(silent.tcp, tlsRecordOf(200)+"half")
	trickler := dialTLSRaw(t, addr, nil)
	trickler.get("/").want(t, 200, "hello")
	stop := make(chan struct{})
	var trickling sync.WaitGroup
	trickling.Go(func() {
		io.WriteString(trickler.tcp, tlsRecordOf(10_000))
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := trickler.tcp.Write([]byte("x")); err != nil {
					return
				}
			}
		}
	})
	if _, err := io.ReadAll(silent); os.IsTimeout(err) {
		t.Error("the silent one is still open")
	}
	if _, err := io.ReadAll(trickler); os.IsTimeout(err) {
		t.Error("the trickler is still open")
	}
	close(stop)
	trickling.Wait()
	if took := time.Since(began); took < s.HeadTimeout {
		t.Errorf("ended after %v", took)
	}
	eventually(t, "a count of both", func() bool { return s.Stats().Timeouts.Head == 2 })
	// With a part of the head before it, there is somebody to answer.
	half := dialTLSRaw(t, addr, nil)
	half.send("GET / HTTP/1.1\r\nHo")
	io.WriteString(half.tcp, tlsRecordOf(200)+"half")
	if a := half.answer("GET"); a.StatusCode != 408 {
		t.Errorf("status %d", a.StatusCode)
	}
}

// A record that comes slowly, but not too slowly, is progress of a body though
// nothing of it can be read yet.
func TestTLSSlowRecordsAreProgress(t *testing.T) {
	for name, size := range map[string]int{"awaited": 16 << 10, "read by the handler": 80 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Server{Handler: HandlerFunc(tlsRoutes), BodyTimeout: time.Second, MinBodyRate: 1 << 30}
			if name == "awaited" {
				s.MinBodyRate = -1
			} else {
				s.MinBodyRate = 1000
			}
			addr := startTLSServer(t, s)
			config := tlsClientConfig()
			config.DynamicRecordSizingDisabled = true
			slow := new(tlsSlowly)
			c := dialTLSOver(t, addr, config, func(nc net.Conn) net.Conn { slow.Conn = nc; return slow })
			c.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
			body := strings.Repeat("y", size)
			c.send(body[:size-8000])
			slow.pieces = 20
			c.send(body[size-8000:]) // takes twice the BodyTimeout for a single record
			c.answer("POST").want(t, 200, body)
		})
	}
}

// A tlsSlowly takes 2 seconds for a write once pieces are set.
type tlsSlowly struct {
	net.Conn
	pieces int
}

func (s *tlsSlowly) Write(p []byte) (int, error) {
	if s.pieces == 0 {
		return s.Conn.Write(p)
	}
	tick := time.NewTicker(2 * time.Second / time.Duration(s.pieces))
	defer tick.Stop()
	for piece := range slices.Chunk(p, (len(p)+s.pieces-1)/s.pieces) {
		<-tick.C
		if _, err := s.Conn.Write(piece); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// A peer that asks for new keys again and again, and reads none of the answers,
// is cut off before they fill the memory. One that reads them goes on.
func TestTLSKeyUpdateFlood(t *testing.T) {
	t.Parallel()
	s := &Server{Loops: 1, Logger: quietLogger(), MaxBodyBytes: 1 << 30, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if _, err := io.Copy(io.Discard, r.Body()); err != nil {
			return err
		}
		return w.Text(200, "hello")
	})}
	// The kernel keeps little for a peer (accepted connections inherit that), so
	// that few answers have to be forged before flare has to.
	lc := net.ListenConfig{Control: (&SocketOptions{WriteBuffer: 16 << 10}).control}
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	startTLSOn(t, s, ln)
	addr := ln.Addr().String()
	open := func() (*tlsRawClient, *tlsForger) {
		var secrets tlsSecrets
		config := tlsClientConfig()
		config.KeyLogWriter = &secrets
		c := dialTLSRaw(t, addr, config)
		return c, secrets.forger(t, c.ConnectionState())
	}
	flooder, f := open()
	reader, rf := open()
	var most int64
	// The byte of a body keeps crypto/tls from counting the updates.
	batch := f.data(nil, head("POST / HTTP/1.1", fmt.Sprint("Content-Length: ", 1<<30)))
	sent := 0
	for {
		if _, err := flooder.tcp.Write(batch); err != nil {
			break
		}
		most = max(most, s.buffered.Load())
		if sent > 1<<20 {
			t.Fatal("the flood is taken for ever")
		}
		batch = batch[:0]
		for range 64 {
			batch = f.data(f.keyUpdate(t, batch), "x")
			sent++
		}
	}
	if most > 3*tlsQueueMax { // a queue that grew once, and what came in
		t.Errorf("%d bytes in buffers", most)
	}
	if st := s.Stats().Timeouts; !onPlain() && st.Head+st.Body+st.Write+st.Idle > 0 {
		t.Errorf("it was time that ended the flood: %+v", st)
	}
	batch = nil
	for range 12 {
		batch = rf.keyUpdate(t, batch)
	}
	if _, err := reader.tcp.Write(rf.data(batch, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	reader.answer("GET").want(t, 200, "hello")
	reader.Close()
	gone(t, s)
	eventually(t, "the return of all buffers", func() bool { return s.buffered.Load() == 0 })
}

// A connection that waits has neither a goroutine nor a buffer of flare's.
func TestTLSIdleMemory(t *testing.T) {
	if onPlain() {
		t.Skip("a connection of the plain driver has a goroutine")
	}
	s := &Server{Handler: HandlerFunc(tlsRoutes)}
	addr := startTLSServer(t, s)
	dialTLSRaw(t, addr, nil).get("/").want(t, 200, "hello")
	before := runtime.NumGoroutine()
	const conns = 50
	for range conns {
		dialTLSRaw(t, addr, nil).get("/").want(t, 200, "hello")
	}
	eventually(t, "the end of all goroutines", func() bool { return runtime.NumGoroutine() <= before+2 }) // of loops that have been passed on
	eventually(t, "the return of all buffers", func() bool { return s.buffered.Load() == 0 })
	eventually(t, "all connections to be idle", func() bool { return s.Stats().Connections.Idle == conns+1 })
}

// Hijack gives a connection that goes on with the keys of before, and with what
// came behind the request.
func TestTLSHijack(t *testing.T) {
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		conn, rw, err := w.Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, ok := conn.(*tls.Conn); !ok {
			t.Errorf("Hijack returned a %T", conn)
		}
		conn.SetDeadline(time.Now().Add(patience))
		line, err := rw.ReadString('\n')
		if err != nil {
			return err
		}
		rw.WriteString("1 " + line)
		rw.Flush()
		if line, err = rw.ReadString('\n'); err != nil {
			return err
		}
		rw.WriteString("2 " + line)
		return rw.Flush()
	})}
	addr := startTLSServer(t, s)
	c := dialTLSRaw(t, addr, nil)
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\nbehind\n")
	if line, err := c.br.ReadString('\n'); line != "1 behind\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	c.send("later\n")
	if rest, err := io.ReadAll(c.br); string(rest) != "2 later\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	gone(t, s)
}

// Files go through memory under TLS.
func TestTLSSendFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file.txt")
	text := strings.Repeat("0123456789", 100_000)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.SendFile(name) })}
	addr := startTLSServer(t, s)
	if _, body := getBy(t, tlsHTTPClient(t, false), "https://"+addr+"/"); body != text {
		t.Errorf("%d bytes", len(body))
	}
}

// A handler that reads and writes at once, from two goroutines.
func TestTLSFullDuplex(t *testing.T) {
	s := &Server{MaxBodyBytes: -1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		read := make(chan error, 1)
		go func() {
			_, err := io.Copy(io.Discard, r.Body())
			read <- err
		}()
		piece := bytes.Repeat([]byte("d"), 10_000)
		for range 300 {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return <-read
	})}
	addr := startTLSServer(t, s)
	c := dialTLSRaw(t, addr, nil)
	var failed atomic.Value
	go func() {
		const size = 3 << 20
		if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: "+strconv.Itoa(size)+"\r\n\r\n"+strings.Repeat("u", size)); err != nil {
			failed.Store(err)
		}
	}()
	if a := c.answer("POST"); len(a.body) != 3_000_000 || failed.Load() != nil {
		t.Errorf("%d bytes, %v", len(a.body), failed.Load())
	}
}

// Close and Shutdown in the middle of everything leave nothing behind.
func TestTLSCloseUnderLoad(t *testing.T) {
	for _, orderly := range []bool{false, true} {
		s := &Server{Handler: HandlerFunc(tlsRoutes)}
		addr := startTLSServer(t, s)
		var clients sync.WaitGroup
		var done atomic.Int64
		for i := range 16 {
			client := tlsHTTPClient(t, i%2 == 0)
			clients.Go(func() {
				for {
					resp, err := client.Get("https://" + addr + "/bytes?100000")
					if err != nil {
						return
					}
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err != nil {
						if orderly {
							t.Errorf("a response was cut: %v", err)
						}
						return
					}
					done.Add(1)
				}
			})
		}
		eventually(t, "load", func() bool { return done.Load() > 100 })
		if orderly {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			cancel()
		} else {
			s.Close()
		}
		clients.Wait()
	}
}

// A function of the configuration that ends its goroutine ends its connection,
// and keeps neither the slot nor the server's end.
func TestTLSGoexitInHandshake(t *testing.T) {
	t.Parallel()
	cert := tlsTestCA().issue(t, 9, "localhost")
	for name, plain := range map[string]bool{"loop": false, "plain driver": true} {
		var asked atomic.Int32
		goexits := int32(slotsPerProcessor*runtime.GOMAXPROCS(0) + 1)
		s := &Server{Handler: HandlerFunc(tlsRoutes), HandshakeTimeout: -1, Logger: quietLogger(), TLSConfig: &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				if asked.Add(1) <= goexits {
					runtime.Goexit()
				}
				return &cert, nil
			},
		}}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := ln.Addr().String()
		if plain {
			ln = struct{ net.Listener }{ln}
		}
		served := make(chan error, 1)
		go func() { served <- s.ServeTLS(ln, "", "") }()
		for range goexits {
			if err := dialTLSOver(t, addr, nil, unwrapped).Handshake(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("%s: the handshake: %v", name, err)
			}
		}
		dialTLSRaw(t, addr, nil).Close()
		gone(t, s)
		if n := s.Stats().Handshakes.Failed; n != uint64(goexits) {
			t.Errorf("%s: %d failed handshakes, want %d", name, n, goexits)
		}
		if err := s.Shutdown(wsPatience(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		<-served
	}
}
