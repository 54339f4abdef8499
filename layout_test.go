//go:build linux && (amd64 || arm64)

package flare

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"runtime"
	"syscall"
	"testing"
	"unsafe"
)

// This file prints how the structs lie in memory that every request touches, and which of their
// fields one reads and writes. PERFORMANCE.md says what that is good for.

var layoutWanted = flag.Bool("layout", false, "TestLayout: print what a request touches")

const cacheLine = 64

// A layout is a struct. at is asked before each request: leases are used once.
type layout struct {
	of reflect.Type
	at func() unsafe.Pointer
}

func fixedLayout[T any](at *T) layout {
	return layout{reflect.TypeFor[T](), func() unsafe.Pointer { return unsafe.Pointer(at) }}
}

func layoutsOf(p *pairServer) []layout {
	h := p.conn.proto.(*httpConn)
	cache := p.workset.exchanges()
	x := cache.spare
	lease := layout{reflect.TypeFor[lease](), func() unsafe.Pointer {
		if len(cache.leases) == 0 {
			cache.leases = newLeases(leasesAtOnce)
		}
		return unsafe.Pointer(&cache.leases[0])
	}}
	return []layout{
		fixedLayout(p.conn), fixedLayout(h), fixedLayout(x), fixedLayout(x.stream.(*http1Stream)), lease,
		fixedLayout(x.r.match.(*routeMatch)), fixedLayout(p.workset), fixedLayout(cache), fixedLayout(p.loop), fixedLayout(h.srv),
	}
}

// TestLayout prints them, with -layout. The counts are of one request as a loop runs it: one
// receive, one send.
func TestLayout(t *testing.T) {
	if !*layoutWanted || raceEnabled {
		t.Skip("only with -v -layout, and without the race detector, under which nothing is reused")
	}
	runtime.LockOSThread() // whose accesses are counted
	defer runtime.UnlockOSThread()
	p := newPairServer(t, plaintextServer())
	p.roundTrip(t, plaintextRequest)
	var touched, written int
	for _, l := range layoutsOf(p) {
		a, b := l.print(t, func() { p.roundTrip(t, plaintextRequest) })
		touched, written = touched+a, written+b
	}
	t.Logf("in all a request touches %d lines and writes to %d", touched, written)
}

// print prints one, and returns how many of its lines a request touches and writes.
func (l layout) print(t *testing.T, request func()) (touched, written int) {
	lines := make(map[uintptr]bool) // true: written
	text := ""
	eachLeaf(l.of, 0, "", func(name string, offset uintptr, leaf reflect.Type) {
		at := (uintptr(l.at()) + offset) / cacheLine
		line := at - uintptr(l.at())/cacheLine
		reads, writes, err := l.count(offset, leaf.Size(), request)
		if err != nil {
			t.Skipf("accesses cannot be counted here: perf_event_open: %v", err)
		}
		if reads+writes > 0 {
			lines[line] = lines[line] || writes > 0
		}
		text += fmt.Sprintf("\n%6d %6d %6d %6d %6d  %s %v", line, offset, leaf.Size(), reads, writes, name, leaf)
	})
	touched = len(lines)
	for _, wrote := range lines {
		if wrote {
			written++
		}
	}
	if l.of == reflect.TypeFor[Conn]() && written == 0 {
		t.Error("no request changes its connection: accesses are not counted")
	}
	t.Logf("%v: %d bytes; a request touches %d lines and writes to %d\n  line offset  bytes  reads writes  field%s",
		l.of, l.of.Size(), touched, written, text)
	return touched, written
}

// eachLeaf calls visit for each field of t that is no struct of this package.
func eachLeaf(t reflect.Type, offset uintptr, name string, visit func(name string, offset uintptr, leaf reflect.Type)) {
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Name == "_" || f.Type.Size() == 0:
		case f.Type.Kind() == reflect.Struct && (f.Type.PkgPath() == t.PkgPath() || f.Type.PkgPath() == ""):
			eachLeaf(f.Type, offset+f.Offset, name+f.Name+".", visit)
		default:
			visit(name+f.Name, offset+f.Offset, f.Type)
		}
	}
}

// count returns how often request touches the size octets at offset, piece by piece.
func (l layout) count(offset, size uintptr, request func()) (reads, writes int, err error) {
	piece := min(size&-size, (offset|8)&-(offset|8))
	for ; size > 0 && err == nil; offset, size = offset+piece, size-piece {
		at := uintptr(l.at()) + offset
		w, errW := watchWord(at, piece, 2)   // HW_BREAKPOINT_W
		rw, errRW := watchWord(at, piece, 3) // HW_BREAKPOINT_RW
		request()
		wrote := watched(w)
		writes, reads = writes+wrote, reads+watched(rw)-wrote
		err = errors.Join(errW, errRW)
	}
	return reads, writes, err
}

// watchWord has a debug register of the processor count this thread's accesses, by perf_event_open.
func watchWord(at, size uintptr, kind uint32) (fd int, err error) {
	var attr [112]byte
	order := binary.NativeEndian
	order.PutUint32(attr[0:], 5) // PERF_TYPE_BREAKPOINT
	order.PutUint32(attr[4:], uint32(len(attr)))
	order.PutUint64(attr[40:], 1<<5|1<<6) // exclude_kernel, exclude_hv
	order.PutUint32(attr[52:], kind)
	order.PutUint64(attr[56:], uint64(at))
	order.PutUint64(attr[64:], uint64(size))
	n, _, errno := syscall.Syscall6(syscall.SYS_PERF_EVENT_OPEN, uintptr(unsafe.Pointer(&attr)), 0, ^uintptr(0), ^uintptr(0), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// watched is what it has counted; that is its end.
func watched(fd int) int {
	var b [8]byte
	syscall.Read(fd, b[:])
	syscall.Close(fd)
	return int(binary.NativeEndian.Uint64(b[:]))
}
