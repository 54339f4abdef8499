//go:build linux && (amd64 || arm64) && !purego

package flare

import "testing"

// A batch comes and goes without an allocation.
func TestDatagramBatchAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	b := newDatagramBatch(1500, false)
	s := udpSocket(t, "127.0.0.1:0", nil)
	to := s.LocalAddr()
	fd, err := dupSocket(s.conn)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	b.queue([]byte("x"), to)
	if n := testing.AllocsPerRun(100, func() {
		if failed, done := b.flush(fd); failed > 0 || !done {
			t.Fatal(failed, done)
		}
		n, errno := b.receive(fd)
		if n != 1 || errno != 0 {
			t.Fatal(n, errno)
		}
		b.queue(b.datagram(0), b.received[0].from)
	}); n > 0 {
		t.Errorf("%v allocations a datagram", n)
	}
}
