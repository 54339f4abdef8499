package syscall

import (
	"sync"
	"unsafe"
)

// This file is a model of kqueue(2) for Linux. An overlay (overlay.sh) puts it
// into package syscall under Darwin's names and numbers, so that
// poller_darwin.go compiles and runs there and meets the same tests as
// poller_linux.go.
//
// It follows the manual page, and where that leaves room it does the least: an
// event that is added twice is not looked at again, a closed descriptor takes
// its events along. The filters READ, WRITE and USER are there; sockets, pipes
// and whatever else epoll can watch.
//
// Where systems differ it answers as XNU does (bsd/kern/kern_event.c and
// sys_pipe.c): a knote is looked for before the descriptor, so that what is not
// there is ENOENT, and only EV_ADD finds out that the descriptor is not open
// (EBADF); a pipe without a reader is taken, and the event says EOF. A queue
// answers as FreeBSD's once KqueueBSD was called for it: EBADF whatever the
// change is, and EPIPE.
//
// How: each knote of READ is registered with one epoll, each of WRITE with
// another, edge triggered; an edge makes the knote active. An active knote is
// queued, and its filter runs again (a poll of the one descriptor) when it is to
// be returned, as the manual says. Both epolls and an eventfd, for what other
// threads change, are nested in a third, whose descriptor is the kqueue's.
//
// Where it falls short: the errno that waits on a socket cannot be looked at
// without taking it, so fflags has ECONNRESET for any; the backlog of a listener
// counts as 1; that our own direction was shut down is seen for TCP only.

const (
	EVFILT_READ  = -0x1
	EVFILT_WRITE = -0x2
	EVFILT_USER  = -0xa

	EV_ADD      = 0x1
	EV_DELETE   = 0x2
	EV_ENABLE   = 0x4
	EV_DISABLE  = 0x8
	EV_ONESHOT  = 0x10
	EV_CLEAR    = 0x20
	EV_RECEIPT  = 0x40
	EV_DISPATCH = 0x80
	EV_ERROR    = 0x4000
	EV_EOF      = 0x8000

	NOTE_TRIGGER    = 0x1000000
	NOTE_FFNOP      = 0x0
	NOTE_FFAND      = 0x40000000
	NOTE_FFOR       = 0x80000000
	NOTE_FFCOPY     = 0xc0000000
	NOTE_FFCTRLMASK = 0xc0000000
	NOTE_FFLAGSMASK = 0xffffff
)

// Kevent_t is struct kevent, as on Darwin.
type Kevent_t struct {
	Ident  uint64
	Filter int16
	Flags  uint16
	Fflags uint32
	Data   int64
	Udata  *byte
}

type kqueue struct {
	fd, read, write, bell int

	mu     sync.Mutex // all below; not held while blocked
	bsd    bool       // answers as FreeBSD's
	fault  Errno      // of the next wait; 0: none
	notes  map[knoteKey]*knote
	head   *knote // the queue of active knotes, oldest first
	tail   *knote
	queued int
	free   *knote // to be used again
	raw    [128]EpollEvent
}

type knoteKey struct {
	ident  uint64
	filter int16
}

type knote struct {
	key      knoteKey
	flags    uint16 // EV_ONESHOT, EV_CLEAR, EV_DISPATCH
	fflags   uint32 // of USER
	data     int64  // of USER
	udata    *byte
	dev, ino uint64 // the open file, to tell that the descriptor was closed
	pipe     bool
	disabled bool
	active   bool
	queued   bool
	dropped  bool // left in the queue, to be freed when it is met there
	next     *knote
}

var kqueues struct {
	sync.Mutex
	byFD map[int]*kqueue
}

// Kqueue makes a new kernel event queue.
func Kqueue() (fd int, err error) {
	kqueues.Lock()
	defer kqueues.Unlock()
	for fd, kq := range kqueues.byFD {
		if !kq.open() {
			delete(kqueues.byFD, fd)
			kq.release()
		}
	}
	kq := &kqueue{notes: map[knoteKey]*knote{}, fd: -1, read: -1, write: -1, bell: -1}
	defer func() {
		if err != nil {
			for _, fd := range []int{kq.fd, kq.read, kq.write, kq.bell} {
				Close(fd)
			}
		}
	}()
	for _, ep := range []*int{&kq.fd, &kq.read, &kq.write} {
		if *ep, err = EpollCreate1(EPOLL_CLOEXEC); err != nil {
			return -1, err
		}
	}
	bell, _, errno := RawSyscall(SYS_EVENTFD2, 0, O_CLOEXEC|O_NONBLOCK, 0)
	if errno != 0 {
		return -1, errno
	}
	kq.bell = int(bell)
	for fd, events := range map[int]uint32{kq.read: EPOLLIN, kq.write: EPOLLIN, kq.bell: EPOLLIN | 1<<31} { // 1<<31: EPOLLET
		if err := EpollCtl(kq.fd, EPOLL_CTL_ADD, fd, &EpollEvent{Events: events}); err != nil {
			return -1, err
		}
	}
	if kqueues.byFD == nil {
		kqueues.byFD = map[int]*kqueue{}
	}
	if old := kqueues.byFD[kq.fd]; old != nil {
		old.release() // it was closed since the look above, and this one has its number
	}
	kqueues.byFD[kq.fd] = kq
	return kq.fd, nil
}

// release closes what a queue has beside its own descriptor.
func (kq *kqueue) release() {
	Close(kq.read)
	Close(kq.write)
	Close(kq.bell)
}

// KqueueBSD has a queue answer as FreeBSD's.
func KqueueBSD(fd int) { kqueueOf(fd, func(kq *kqueue) { kq.bsd = true }) }

// KqueueFault has the next wait at a queue end with an error at once.
func KqueueFault(fd int, errno Errno) { kqueueOf(fd, func(kq *kqueue) { kq.fault = errno }) }

func kqueueOf(fd int, change func(*kqueue)) {
	kqueues.Lock()
	defer kqueues.Unlock()
	kq := kqueues.byFD[fd]
	kq.mu.Lock()
	defer kq.mu.Unlock()
	change(kq)
}

// open says whether the descriptor is still this queue's: nobody tells of a
// close, but another epoll under the number would not know kq.read.
func (kq *kqueue) open() bool {
	return EpollCtl(kq.fd, EPOLL_CTL_MOD, kq.read, &EpollEvent{Events: EPOLLIN}) == nil
}

// Kevent makes changes, then waits for events. changes and events may be the
// same memory.
func Kevent(fd int, changes, events []Kevent_t, timeout *Timespec) (n int, err error) {
	kqueues.Lock()
	kq := kqueues.byFD[fd]
	kqueues.Unlock()
	if kq == nil || !kq.open() {
		return -1, EBADF
	}
	wait := int64(-1)
	if timeout != nil {
		if timeout.Sec < 0 || timeout.Sec > 100000000 || timeout.Nsec < 0 || timeout.Nsec >= 1e9 {
			return -1, EINVAL
		}
		wait = int64(timeout.Sec)*1e9 + int64(timeout.Nsec)
	}
	kq.mu.Lock()
	defer kq.mu.Unlock()
	for i := range changes {
		change := changes[i]
		errno := kq.change(&change)
		switch {
		case errno == 0 && change.Flags&EV_RECEIPT == 0:
		case n < len(events):
			change.Flags |= EV_ERROR
			change.Data = int64(errno)
			events[n] = change
			n++
		case errno != 0:
			return -1, errno
		}
	}
	if n > 0 || len(events) == 0 {
		return n, nil
	}
	return kq.wait(events, wait)
}

// change makes one change.
func (kq *kqueue) change(c *Kevent_t) Errno {
	key := knoteKey{c.Ident, c.Filter}
	var st Stat_t
	switch c.Filter {
	case EVFILT_READ, EVFILT_WRITE:
		if c.Ident > 1<<31-1 || Fstat(int(c.Ident), &st) != nil {
			kq.dropBoth(c.Ident) // the close took them along
			if c.Flags&(EV_ADD|EV_DELETE) == EV_ADD || kq.bsd {
				return EBADF
			}
			return ENOENT
		}
	case EVFILT_USER:
	default:
		return EINVAL
	}
	note := kq.notes[key]
	if note != nil && (note.dev != uint64(st.Dev) || note.ino != st.Ino) {
		kq.dropBoth(c.Ident) // another file by now: the close took the old one's along
		note = nil
	}
	if note == nil {
		if c.Flags&(EV_ADD|EV_DELETE) != EV_ADD { // the second overrules the first
			return ENOENT
		}
		note = kq.take()
		*note = knote{key: key, flags: c.Flags & (EV_ONESHOT | EV_CLEAR | EV_DISPATCH),
			dev: uint64(st.Dev), ino: st.Ino, pipe: st.Mode&S_IFMT == S_IFIFO}
		if errno := kq.register(note); errno != 0 {
			note.next, kq.free = kq.free, note
			return errno
		}
		kq.notes[key] = note
	}
	switch {
	case c.Flags&EV_DELETE != 0:
		kq.drop(note)
		return 0
	case c.Flags&EV_ADD != 0:
		note.udata = c.Udata
		note.disabled = false // "Adding an event automatically enables it"
	}
	if c.Filter == EVFILT_USER {
		note.touch(c)
	}
	if c.Flags&EV_DISABLE != 0 {
		note.disabled = true
	}
	if c.Flags&EV_ENABLE != 0 {
		note.disabled = false
	}
	if note.active && !note.disabled {
		kq.enqueue(note)
		kq.ring()
	}
	return 0
}

// touch changes a user event: its flags by NOTE_FFAND, NOTE_FFOR or NOTE_FFCOPY,
// and whether it is triggered.
func (note *knote) touch(c *Kevent_t) {
	ff := c.Fflags & NOTE_FFLAGSMASK
	switch c.Fflags & NOTE_FFCTRLMASK {
	case NOTE_FFAND:
		note.fflags &= ff
	case NOTE_FFOR:
		note.fflags |= ff
	case NOTE_FFCOPY:
		note.fflags = ff
	}
	note.data = c.Data
	if c.Fflags&NOTE_TRIGGER != 0 {
		note.active = true
	}
}

// register begins to watch. What is ready already is an edge.
func (kq *kqueue) register(note *knote) Errno {
	ev := EpollEvent{Fd: int32(note.key.ident)}
	ep := kq.read
	switch note.key.filter {
	case EVFILT_USER:
		return 0
	case EVFILT_READ:
		ev.Events = EPOLLIN | EPOLLRDHUP | 1<<31
	case EVFILT_WRITE:
		ev.Events, ep = EPOLLOUT|1<<31, kq.write
		if kq.bsd && note.pipe && pollNow(int(note.key.ident), pollOut)&pollErr != 0 {
			return EPIPE
		}
	}
	err := EpollCtl(ep, EPOLL_CTL_ADD, int(note.key.ident), &ev)
	if err == EEXIST { // closed, its duplicate opened again under the old number
		err = EpollCtl(ep, EPOLL_CTL_MOD, int(note.key.ident), &ev)
	}
	if err == EPERM {
		return EINVAL // a file that cannot be polled
	}
	if err != nil {
		return err.(Errno)
	}
	return 0
}

func (kq *kqueue) dropBoth(ident uint64) {
	for _, filter := range [2]int16{EVFILT_READ, EVFILT_WRITE} {
		if note := kq.notes[knoteKey{ident, filter}]; note != nil {
			kq.drop(note)
		}
	}
}

// drop forgets a knote, and what it had to tell.
func (kq *kqueue) drop(note *knote) {
	delete(kq.notes, note.key)
	var none EpollEvent
	switch note.key.filter { // fails if the descriptor was closed: then it is gone
	case EVFILT_READ:
		EpollCtl(kq.read, EPOLL_CTL_DEL, int(note.key.ident), &none)
	case EVFILT_WRITE:
		EpollCtl(kq.write, EPOLL_CTL_DEL, int(note.key.ident), &none)
	}
	note.dropped = true
	if !note.queued {
		note.next, kq.free = kq.free, note
	}
}

func (kq *kqueue) take() *knote {
	note := kq.free
	if note == nil {
		return new(knote)
	}
	kq.free = note.next
	return note
}

func (kq *kqueue) enqueue(note *knote) {
	if note.queued {
		return
	}
	note.queued, note.next = true, nil
	if kq.tail == nil {
		kq.head = note
	} else {
		kq.tail.next = note
	}
	kq.tail = note
	kq.queued++
}

func (kq *kqueue) dequeue() *knote {
	note := kq.head
	kq.head = note.next
	if kq.head == nil {
		kq.tail = nil
	}
	note.queued, note.next = false, nil
	kq.queued--
	return note
}

// ring wakes whoever is blocked in wait.
func (kq *kqueue) ring() {
	one := uint64(1)
	RawSyscall(SYS_WRITE, uintptr(kq.bell), uintptr(unsafe.Pointer(&one)), 8)
}

// wait returns events as soon as there are any. It is called with mu held and
// gives it up while it blocks. timeout is in nanoseconds, negative for ever.
func (kq *kqueue) wait(events []Kevent_t, timeout int64) (int, error) {
	deadline := monotonic() + timeout
	for {
		if errno := kq.fault; errno != 0 {
			kq.fault = 0
			return -1, errno
		}
		kq.harvest(kq.read, EVFILT_READ)
		kq.harvest(kq.write, EVFILT_WRITE)
		if n := kq.report(events); n > 0 || timeout == 0 {
			return n, nil
		}
		ms := -1
		if timeout > 0 {
			left := deadline - monotonic()
			if left <= 0 {
				return 0, nil
			}
			ms = int(min((left+1e6-1)/1e6, 1<<31-1))
		}
		var ev [1]EpollEvent
		kq.mu.Unlock()
		_, _, errno := Syscall6(SYS_EPOLL_PWAIT, uintptr(kq.fd), uintptr(unsafe.Pointer(&ev)), 1, uintptr(ms), 0, 0)
		kq.mu.Lock()
		if errno != 0 {
			return -1, errno
		}
	}
}

func monotonic() int64 {
	var ts Timespec
	const clockMonotonic = 1
	RawSyscall(SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return int64(ts.Sec)*1e9 + int64(ts.Nsec)
}

// harvest makes the knotes active whose descriptors had an edge.
func (kq *kqueue) harvest(ep int, filter int16) {
	for {
		n, err := EpollWait(ep, kq.raw[:], 0)
		if err != nil {
			return
		}
		for _, ev := range kq.raw[:n] {
			note := kq.notes[knoteKey{uint64(ev.Fd), filter}]
			if note == nil {
				continue
			}
			note.active = true
			if !note.disabled {
				kq.enqueue(note)
			}
		}
		if n < len(kq.raw) {
			return
		}
	}
}

// report returns events of queued knotes, each at most once.
func (kq *kqueue) report(events []Kevent_t) (n int) {
	for left := kq.queued; left > 0 && n < len(events); left-- {
		note := kq.dequeue()
		if note.dropped {
			note.next, kq.free = kq.free, note
			continue
		}
		if note.disabled {
			continue // stays active
		}
		if !kq.filter(note, &events[n]) {
			continue
		}
		n++
		switch {
		case note.flags&EV_ONESHOT != 0:
			kq.drop(note)
		case note.flags&EV_DISPATCH != 0:
			note.disabled = true
		case note.flags&EV_CLEAR != 0:
			note.active, note.fflags, note.data = false, 0, 0
		default:
			kq.enqueue(note)
		}
	}
	return n
}

// filter looks whether the condition of an active knote holds, and fills its
// event.
func (kq *kqueue) filter(note *knote, ev *Kevent_t) bool {
	*ev = Kevent_t{Ident: note.key.ident, Filter: note.key.filter, Flags: EV_ADD | note.flags, Udata: note.udata}
	if note.key.filter == EVFILT_USER {
		ev.Fflags, ev.Data = note.fflags, note.data
		return true
	}
	fd := int(note.key.ident)
	var st Stat_t
	if Fstat(fd, &st) != nil || uint64(st.Dev) != note.dev || st.Ino != note.ino {
		kq.drop(note) // closed meanwhile
		return false
	}
	holds := false
	if note.key.filter == EVFILT_READ {
		holds = filterRead(fd, ev)
	} else {
		holds = filterWrite(fd, ev)
	}
	if holds && note.pipe && pollNow(fd, 0)&(pollErr|pollHup) != 0 {
		ev.Flags |= EV_EOF // the other end is closed, whichever this one is
		ev.Fflags = 0
	}
	note.active = holds
	return holds
}

const (
	pollIn    = 0x1
	pollOut   = 0x4
	pollErr   = 0x8
	pollHup   = 0x10
	pollRdHup = 0x2000
)

func pollNow(fd int, events int16) int16 {
	var pfd = struct {
		fd              int32
		events, revents int16
	}{int32(fd), events, 0}
	var ts Timespec
	RawSyscall6(SYS_PPOLL, uintptr(unsafe.Pointer(&pfd)), 1, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	return pfd.revents
}

func filterRead(fd int, ev *Kevent_t) bool {
	is := pollNow(fd, pollIn|pollRdHup)
	if is == 0 {
		return false
	}
	if is&(pollRdHup|pollHup) != 0 {
		ev.Flags |= EV_EOF
	}
	if is&pollErr != 0 {
		ev.Fflags = uint32(ECONNRESET)
	}
	if n, err := GetsockoptInt(fd, SOL_SOCKET, SO_ACCEPTCONN); err == nil && n != 0 {
		ev.Data = 1
		return true
	}
	var unread int32
	RawSyscall(SYS_IOCTL, uintptr(fd), TIOCINQ, uintptr(unsafe.Pointer(&unread)))
	ev.Data = int64(unread)
	return true
}

func filterWrite(fd int, ev *Kevent_t) bool {
	is := pollNow(fd, pollOut)
	if is == 0 {
		return false
	}
	if is&(pollErr|pollHup) != 0 || sendShut(fd) {
		ev.Flags |= EV_EOF
	}
	if is&pollErr != 0 {
		ev.Fflags = uint32(ECONNRESET)
	}
	room, err := GetsockoptInt(fd, SOL_SOCKET, SO_SNDBUF)
	if err != nil {
		room = 4096 // a pipe: at least this much, or it would not be writable
	}
	var unsent int32
	RawSyscall(SYS_IOCTL, uintptr(fd), TIOCOUTQ, uintptr(unsafe.Pointer(&unsent)))
	ev.Data = int64(max(room-int(unsent), 0))
	return true
}

// sendShut says whether this end of a TCP connection was shut down for sending.
func sendShut(fd int) bool {
	var info TCPInfo
	size := uint32(SizeofTCPInfo)
	_, _, errno := RawSyscall6(SYS_GETSOCKOPT, uintptr(fd), IPPROTO_TCP, TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	const finWait1, finWait2, closed, lastAck, closing = 4, 5, 7, 9, 11
	if errno != 0 {
		return false
	}
	switch info.State {
	case finWait1, finWait2, closed, lastAck, closing:
		return true
	}
	return false
}
