package flare

import (
	"bytes"
	"errors"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// These are the tests of the model in kqueue.go, by the rules of kqueue(2). They
// run where the model does: under the overlay (overlay.sh). There all tests of
// pollers run once more, on a queue that answers as FreeBSD's.

func init() {
	pollerMakers = append(pollerMakers, pollerMaker{"system, answers as on FreeBSD", func() (Poller, error) {
		p, err := NewPoller()
		if err == nil {
			syscall.KqueueBSD(p.(*systemPoller).fd)
		}
		return p, err
	}})
}

// kqTest is a kqueue and the shorthand to use it.
type kqTest struct {
	*testing.T
	fd int
}

func newKqTest(t *testing.T) kqTest {
	fd, err := syscall.Kqueue()
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, fd)
	return kqTest{t, fd}
}

// do makes one change without room for events and returns the errno of the call.
func (kq kqTest) do(fd int, filter int16, flags uint16, fflags uint32) syscall.Errno {
	_, err := syscall.Kevent(kq.fd, []syscall.Kevent_t{{
		Ident: uint64(fd), Filter: filter, Flags: flags, Fflags: fflags,
	}}, nil, nil)
	return errnoOf(err)
}

// must is do for what has to succeed.
func (kq kqTest) must(fd int, filter int16, flags uint16, fflags uint32) {
	kq.Helper()
	if errno := kq.do(fd, filter, flags, fflags); errno != 0 {
		kq.Fatalf("change of %d: %v", fd, errno)
	}
}

// look returns the events there are.
func (kq kqTest) look() []syscall.Kevent_t {
	kq.Helper()
	events := make([]syscall.Kevent_t, 16)
	n, err := syscall.Kevent(kq.fd, nil, events, new(syscall.Timespec))
	if err != nil {
		kq.Fatal(err)
	}
	return events[:n]
}

// one returns the only event there is, and fails if it is not fd's.
func (kq kqTest) one(fd int, filter int16) syscall.Kevent_t {
	kq.Helper()
	events := kq.look()
	if len(events) != 1 || events[0].Ident != uint64(fd) || events[0].Filter != filter {
		kq.Fatalf("%+v, want one event of %d, filter %d", events, fd, filter)
	}
	return events[0]
}

func (kq kqTest) none() {
	kq.Helper()
	if events := kq.look(); len(events) != 0 {
		kq.Errorf("%+v, want no event", events)
	}
}

func TestKqueueRead(t *testing.T) {
	kq := newKqTest(t)
	a, b := socketpairTest(t)
	udata := new(byte)
	if _, err := syscall.Kevent(kq.fd, []syscall.Kevent_t{{
		Ident: uint64(a), Filter: syscall.EVFILT_READ, Flags: syscall.EV_ADD, Udata: udata,
	}}, nil, nil); err != nil {
		t.Fatal(err)
	}
	kq.none()
	sendConn(b, []byte("five!"))
	for range 2 { // a level
		if ev := kq.one(a, syscall.EVFILT_READ); ev.Data != 5 || ev.Udata != udata || ev.Flags&syscall.EV_EOF != 0 {
			t.Errorf("%+v, want 5 bytes", ev)
		}
	}
	recvTest(t, a, 5)
	kq.none() // the filter ran again and found nothing
	sendConn(b, []byte("x"))
	shutdownWrite(b)
	if ev := kq.one(a, syscall.EVFILT_READ); ev.Data != 1 || ev.Flags&syscall.EV_EOF == 0 {
		t.Errorf("%+v, want the end with one byte before it", ev)
	}
}

func TestKqueueWrite(t *testing.T) {
	kq := newKqTest(t)
	a, b := tcpPairTest(t)
	kq.must(a, syscall.EVFILT_WRITE, syscall.EV_ADD, 0)
	if ev := kq.one(a, syscall.EVFILT_WRITE); ev.Data <= 0 || ev.Flags&syscall.EV_EOF != 0 {
		t.Errorf("%+v, want room", ev)
	}
	sent := 0
	for {
		n, errno := sendConn(a, make([]byte, 1<<16))
		if errno != 0 {
			break
		}
		sent += n
	}
	kq.none()
	recvTest(t, b, sent)
	kq.one(a, syscall.EVFILT_WRITE)
	shutdownWrite(a)
	if ev := kq.one(a, syscall.EVFILT_WRITE); ev.Flags&syscall.EV_EOF == 0 || ev.Fflags != 0 {
		t.Errorf("%+v after our shutdown, want EV_EOF without an error", ev)
	}
}

func TestKqueueReset(t *testing.T) {
	kq := newKqTest(t)
	a, b := tcpPairTest(t)
	kq.must(a, syscall.EVFILT_READ, syscall.EV_ADD, 0)
	kq.must(a, syscall.EVFILT_WRITE, syscall.EV_ADD|syscall.EV_CLEAR, 0)
	kq.one(a, syscall.EVFILT_WRITE)
	disownTest(b)
	resetFD(b)
	for _, ev := range kq.look() {
		if ev.Flags&syscall.EV_EOF == 0 || ev.Fflags != uint32(syscall.ECONNRESET) {
			t.Errorf("%+v, want EV_EOF and ECONNRESET", ev)
		}
	}
	if _, errno := recvConn(a, make([]byte, 1)); errno != syscall.ECONNRESET {
		t.Errorf("the error was taken by looking: %v", errno)
	}
}

func TestKqueueListener(t *testing.T) {
	kq := newKqTest(t)
	lfd, err := listenUnix("@flare-kqueue-model")
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, lfd)
	kq.must(lfd, syscall.EVFILT_READ, syscall.EV_ADD, 0)
	kq.none()
	c, err := openSocket(syscall.AF_UNIX)
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, c)
	if err := syscall.Connect(c, &syscall.SockaddrUnix{Name: "@flare-kqueue-model"}); err != nil {
		t.Fatal(err)
	}
	if ev := kq.one(lfd, syscall.EVFILT_READ); ev.Data < 1 {
		t.Errorf("%+v, want a backlog", ev)
	}
}

func TestKqueueFlags(t *testing.T) {
	kq := newKqTest(t)
	a, b := socketpairTest(t)
	const read = syscall.EVFILT_READ
	sendConn(b, []byte("x"))

	kq.must(a, read, syscall.EV_ADD|syscall.EV_CLEAR, 0)
	kq.one(a, read)
	kq.none() // EV_CLEAR: until something new
	kq.must(a, read, syscall.EV_ADD, 0)
	kq.none() // adding again is no second registration
	sendConn(b, []byte("y"))
	kq.one(a, read)
	kq.must(a, read, syscall.EV_DELETE, 0)
	sendConn(b, []byte("z"))
	kq.none()

	kq.must(a, read, syscall.EV_ADD|syscall.EV_ONESHOT, 0)
	kq.one(a, read)
	kq.none()
	if errno := kq.do(a, read, syscall.EV_DELETE, 0); errno != syscall.ENOENT {
		t.Errorf("EV_ONESHOT left it registered: %v", errno)
	}

	kq.must(a, read, syscall.EV_ADD|syscall.EV_DISABLE, 0)
	kq.none()
	kq.must(a, read, syscall.EV_ENABLE, 0)
	kq.one(a, read)
	kq.must(a, read, syscall.EV_DISABLE, 0)
	kq.none()
	kq.must(a, read, syscall.EV_ADD, 0) // "automatically enables it"
	kq.one(a, read)
	kq.must(a, read, syscall.EV_DELETE, 0)

	kq.must(a, read, syscall.EV_ADD|syscall.EV_DISPATCH, 0)
	kq.one(a, read)
	kq.none()
	kq.must(a, read, syscall.EV_ENABLE, 0)
	kq.one(a, read)
}

func TestKqueueUser(t *testing.T) {
	kq := newKqTest(t)
	const user = syscall.EVFILT_USER
	if errno := kq.do(7, user, 0, syscall.NOTE_TRIGGER); errno != syscall.ENOENT {
		t.Errorf("a trigger before the event was added: %v, want ENOENT", errno)
	}
	kq.must(7, user, syscall.EV_ADD|syscall.EV_CLEAR, 0)
	kq.none()
	kq.must(7, user, 0, syscall.NOTE_FFCOPY|6)
	kq.must(7, user, 0, syscall.NOTE_FFAND|3)
	kq.must(7, user, 0, syscall.NOTE_FFOR|8)
	kq.none()
	kq.must(7, user, 0, syscall.NOTE_TRIGGER)
	kq.must(7, user, 0, syscall.NOTE_TRIGGER)
	if ev := kq.one(7, user); ev.Fflags != 10 {
		t.Errorf("%+v, want fflags 10", ev)
	}
	kq.none()
	kq.must(8, user, syscall.EV_ADD, syscall.NOTE_TRIGGER)
	kq.one(8, user)
	kq.one(8, user) // a level
	kq.must(8, user, syscall.EV_DELETE, 0)
	kq.none()
}

func TestKqueueErrors(t *testing.T) {
	kq := newKqTest(t)
	a, b := socketpairTest(t)
	closed, _ := dupCloexec(a)
	closeFD(closed)
	for _, tt := range []struct {
		name   string
		fd     int
		filter int16
		flags  uint16
		want   syscall.Errno
	}{
		{"delete, not added", a, syscall.EVFILT_READ, syscall.EV_DELETE, syscall.ENOENT},
		{"enable, not added", a, syscall.EVFILT_WRITE, syscall.EV_ENABLE, syscall.ENOENT},
		{"disable, not added", a, syscall.EVFILT_USER, syscall.EV_DISABLE, syscall.ENOENT},
		{"add, not open", closed, syscall.EVFILT_READ, syscall.EV_ADD, syscall.EBADF},
		{"delete, not open", closed, syscall.EVFILT_READ, syscall.EV_DELETE, syscall.ENOENT},
		{"enable, not open", closed, syscall.EVFILT_WRITE, syscall.EV_ENABLE, syscall.ENOENT},
		{"add and delete, not open", closed, syscall.EVFILT_READ, syscall.EV_ADD | syscall.EV_DELETE, syscall.ENOENT},
		{"no such descriptor", -1, syscall.EVFILT_READ, syscall.EV_ADD, syscall.EBADF},
		{"no such filter", a, -42, syscall.EV_ADD, syscall.EINVAL},
	} {
		if errno := kq.do(tt.fd, tt.filter, tt.flags, 0); errno != tt.want {
			t.Errorf("%s, no room: %v, want %v", tt.name, errno, tt.want)
		}
		change := []syscall.Kevent_t{{Ident: uint64(tt.fd), Filter: tt.filter, Flags: tt.flags}}
		// The same memory for both.
		n, err := syscall.Kevent(kq.fd, change, change, nil)
		if n != 1 || err != nil || change[0].Flags&syscall.EV_ERROR == 0 || change[0].Data != int64(tt.want) {
			t.Errorf("%s, with room: %d, %v, %+v; want %v", tt.name, n, err, change[0], tt.want)
		}
	}

	// Errors and receipts come instead of events, and later changes are made.
	sendConn(b, []byte("x"))
	events := make([]syscall.Kevent_t, 8)
	n, err := syscall.Kevent(kq.fd, []syscall.Kevent_t{
		{Ident: uint64(closed), Filter: syscall.EVFILT_READ, Flags: syscall.EV_ADD},
		{Ident: uint64(a), Filter: syscall.EVFILT_READ, Flags: syscall.EV_ADD | syscall.EV_RECEIPT},
		{Ident: uint64(a), Filter: syscall.EVFILT_WRITE, Flags: syscall.EV_ADD},
	}, events, nil)
	if n != 2 || err != nil || events[0].Data != int64(syscall.EBADF) ||
		events[1].Data != 0 || events[1].Flags&syscall.EV_ERROR == 0 {
		t.Fatalf("%+v, %v; want an error and a receipt", events[:max(n, 0)], err)
	}
	if events := kq.look(); len(events) != 2 {
		t.Errorf("%+v, want READ and WRITE", events)
	}
}

// What FreeBSD answers otherwise than XNU.
func TestKqueueBSD(t *testing.T) {
	var pipe [2]int
	mustTest(t, syscall.Pipe(pipe[:]))
	ownTest(t, pipe[1])
	mustTest(t, closeFD(pipe[0]))
	xnu, bsd := newKqTest(t), newKqTest(t)
	syscall.KqueueBSD(bsd.fd)
	closed, err := dupCloexec(pipe[1])
	mustTest(t, err)
	mustTest(t, closeFD(closed))
	for _, tt := range []struct {
		name     string
		fd       int
		filter   int16
		flags    uint16
		xnu, bsd syscall.Errno
	}{
		{"delete, not open", closed, syscall.EVFILT_READ, syscall.EV_DELETE, syscall.ENOENT, syscall.EBADF},
		{"enable, not open", closed, syscall.EVFILT_WRITE, syscall.EV_ENABLE, syscall.ENOENT, syscall.EBADF},
		{"add, not open", closed, syscall.EVFILT_READ, syscall.EV_ADD, syscall.EBADF, syscall.EBADF},
		{"write of a pipe without a reader", pipe[1], syscall.EVFILT_WRITE, syscall.EV_ADD, 0, syscall.EPIPE},
	} {
		for _, system := range []struct {
			kq   kqTest
			want syscall.Errno
		}{{xnu, tt.xnu}, {bsd, tt.bsd}} {
			if errno := system.kq.do(tt.fd, tt.filter, tt.flags, 0); errno != system.want {
				t.Errorf("%s: %v, want %v", tt.name, errno, system.want)
			}
		}
	}
	if ev := xnu.one(pipe[1], syscall.EVFILT_WRITE); ev.Flags&syscall.EV_EOF == 0 || ev.Fflags != 0 {
		t.Errorf("%+v, want EV_EOF without an error", ev)
	}
}

// A wait that Darwin ends with ETIMEDOUT (go.dev/issue/59679) is one without
// events, and no failure of the poller or of its loop.
func TestKqueueTimedOut(t *testing.T) {
	p, err := NewPoller()
	mustTest(t, err)
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	syscall.KqueueFault(p.(*systemPoller).fd, syscall.ETIMEDOUT)
	var events [4]Event
	if n, err := p.Wait(events[:], -1); n != 0 || err != nil {
		t.Errorf("ETIMEDOUT: %d, %v; want 0 and nil", n, err)
	}
	syscall.KqueueFault(p.(*systemPoller).fd, syscall.EFAULT)
	if n, err := p.Wait(events[:], -1); n != 0 || !errors.Is(err, syscall.EFAULT) {
		t.Errorf("EFAULT: %d, %v; want it told", n, err)
	}
	sendTest(t, b, "x")
	expectTest(t, p, a, Readable)
	mustTest(t, p.Remove(a))

	syscall.KqueueFault(p.(*systemPoller).fd, syscall.ETIMEDOUT)
	l, err := NewLoop(p)
	mustTest(t, err)
	mustTest(t, l.Post(func() { l.Close() }))
	mustTest(t, l.Run(t.Context()))
}

func TestKqueueClosed(t *testing.T) {
	kq := newKqTest(t)
	a, b := socketpairTest(t)
	kq.must(a, syscall.EVFILT_READ, syscall.EV_ADD, 0)
	sendConn(b, []byte("x"))
	dup, _ := dupCloexec(a)
	ownTest(t, dup)
	closeTest(t, a)
	kq.none() // close takes the event along, duplicates or not
	c, d := socketpairTest(t)
	if c != a {
		t.Fatalf("number %d was not reused, %d was", a, c)
	}
	if errno := kq.do(c, syscall.EVFILT_READ, syscall.EV_DELETE, 0); errno != syscall.ENOENT {
		t.Errorf("the reused number is registered: %v", errno)
	}
	kq.must(c, syscall.EVFILT_READ, syscall.EV_ADD, 0)
	kq.none()
	sendConn(d, []byte("y"))
	kq.one(c, syscall.EVFILT_READ)

	closeTest(t, kq.fd)
	if errno := kq.do(c, syscall.EVFILT_READ, syscall.EV_ADD, 0); errno != syscall.EBADF {
		t.Errorf("a closed kqueue: %v, want EBADF", errno)
	}
	if _, err := syscall.Kevent(-1, nil, nil, nil); err != syscall.EBADF {
		t.Errorf("no kqueue: %v, want EBADF", err)
	}
}

func TestKqueueWait(t *testing.T) {
	kq := newKqTest(t)
	a, b := socketpairTest(t)
	kq.must(a, syscall.EVFILT_READ, syscall.EV_ADD|syscall.EV_CLEAR, 0)
	events := make([]syscall.Kevent_t, 4)
	start := time.Now()
	n, err := syscall.Kevent(kq.fd, nil, nil, nil)
	if n != 0 || err != nil {
		t.Errorf("no room: %d, %v", n, err)
	}
	for attempt := 0; ; attempt++ {
		start = time.Now()
		timeout := syscall.NsecToTimespec(int64(10*time.Millisecond + 1))
		n, err = syscall.Kevent(kq.fd, nil, events, &timeout)
		if err != syscall.EINTR || attempt == 5 {
			break
		}
	}
	if took := time.Since(start); n != 0 || err != nil || took <= 10*time.Millisecond {
		t.Errorf("a wait: %d, %v after %v", n, err, took)
	}
	for _, bad := range []syscall.Timespec{{Sec: -1}, {Nsec: -1}, {Nsec: 1e9}, {Sec: 1 << 40}} {
		if _, err := syscall.Kevent(kq.fd, nil, events, &bad); err != syscall.EINVAL {
			t.Errorf("timeout %+v: %v, want EINVAL", bad, err)
		}
	}

	// What comes about while the wait is under way ends it: data, a trigger, and
	// a change by another thread.
	c, d := socketpairTest(t)
	sendConn(d, []byte("x"))
	kq.must(1, syscall.EVFILT_USER, syscall.EV_ADD|syscall.EV_CLEAR, 0)
	for name, cause := range map[string]func(){
		"data":    func() { sendConn(b, []byte("x")) },
		"trigger": func() { kq.do(1, syscall.EVFILT_USER, 0, syscall.NOTE_TRIGGER) },
		"add":     func() { kq.do(c, syscall.EVFILT_READ, syscall.EV_ADD|syscall.EV_CLEAR, 0) },
	} {
		done := make(chan struct{})
		go func() { cause(); close(done) }()
		n, err := -1, error(syscall.EINTR)
		for err == syscall.EINTR {
			n, err = syscall.Kevent(kq.fd, nil, events, nil)
		}
		if n != 1 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		<-done
	}
}

// Fairness among more ready descriptors than there is room for.
func TestKqueueQueue(t *testing.T) {
	kq := newKqTest(t)
	seen := map[uint64]int{}
	for range 10 {
		a, b := socketpairTest(t)
		sendConn(b, bytes.Repeat([]byte("x"), 10))
		kq.must(a, syscall.EVFILT_READ, syscall.EV_ADD, 0)
	}
	events := make([]syscall.Kevent_t, 3)
	for range 10 {
		n, err := syscall.Kevent(kq.fd, nil, events, new(syscall.Timespec))
		if n != 3 || err != nil {
			t.Fatal(n, err)
		}
		for _, ev := range events {
			seen[ev.Ident]++
		}
	}
	for ident, times := range seen {
		if times != 3 {
			t.Errorf("%d was reported %d times in 30 places of 10", ident, times)
		}
	}
}

// The field widths are Darwin's: ident and data 8 bytes, filter and flags 2.
func TestKqueueLayout(t *testing.T) {
	var ev syscall.Kevent_t
	if size := unsafe.Sizeof(ev); size != 32 {
		t.Errorf("struct kevent has %d bytes, want 32", size)
	}
	if unsafe.Offsetof(ev.Fflags) != 12 || unsafe.Offsetof(ev.Data) != 16 || unsafe.Offsetof(ev.Udata) != 24 {
		t.Errorf("fields out of place: %d %d %d", unsafe.Offsetof(ev.Fflags), unsafe.Offsetof(ev.Data), unsafe.Offsetof(ev.Udata))
	}
}
