// Command mask puts masking (RFC 6455 §5.3) by flare beside gobwas, coder, gws, gorilla, Go's copy and a
// loop in C with the widest vectors of this machine, in one table:
//
//	go run ./mask             # from bench/; needs a C compiler
//
// Each masks payloads in place, going round a ring of them that fits the first-level cache: a payload
// is masked once in its life, and masking one again at once measures the CPU's wait for its own
// stores. Payloads stand where a server finds them, behind a header of 6 or 8 bytes, or at the front
// of a cache line. A figure is the best of the rounds, which are interleaved: whatever else runs can
// only make one slower.
package main

import (
	_ "embed"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe" // for go:linkname too: gorilla, coder and gws keep theirs to themselves

	"github.com/gobwas/ws"

	_ "github.com/coder/websocket"
	_ "github.com/gorilla/websocket"
	_ "github.com/lxzan/gws"

	"flare"
)

//go:embed mask.c
var loopSource []byte

//go:linkname gorillaMask github.com/gorilla/websocket.maskBytes
func gorillaMask(key [4]byte, pos int, b []byte) int

//go:linkname coderMask github.com/coder/websocket.mask
func coderMask(b []byte, key uint32) uint32

//go:linkname gwsMask github.com/lxzan/gws/internal.MaskXOR
func gwsMask(b, key []byte)

var key = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// A way goes round a ring of payloads once; other is as long as each. The loops are theirs, so that
// each is called as a server calls it, and not through a pointer.
type way struct {
	name   string
	around func(ring [][]byte, other []byte)
}

func ways() []way {
	return []way{
		{"flare", func(ring [][]byte, _ []byte) {
			for _, p := range ring {
				flare.MaskBytes(p, key, 0)
			}
		}},
		{"gobwas", func(ring [][]byte, _ []byte) {
			for _, p := range ring {
				ws.Cipher(p, key, 0)
			}
		}},
		{"coder", func(ring [][]byte, _ []byte) {
			for _, p := range ring {
				coderMask(p, binary.LittleEndian.Uint32(key[:]))
			}
		}},
		{"gws", func(ring [][]byte, _ []byte) {
			for _, p := range ring {
				gwsMask(p, key[:])
			}
		}},
		{"gorilla", func(ring [][]byte, _ []byte) {
			for _, p := range ring {
				gorillaMask(key, 0, p)
			}
		}},
		{"copy", func(ring [][]byte, other []byte) {
			for _, p := range ring {
				copy(p, other)
			}
		}},
	}
}

var sizes = []int{2, 3, 4, 7, 8, 12, 16, 24, 31, 32, 33, 48, 64, 65, 80, 100, 125, 128, 160, 200, 256, 300, 400, 512, 700, 1 << 10, 1500, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 64 << 10, 1 << 20}

// A place is a payload's size and where it begins in a cache line.
type place struct{ size, offset int }

// places are where a server finds payloads, and from 64 bytes on the fronts of lines too.
func places() (list []place) {
	for _, n := range sizes {
		header := 6
		if n > 125 {
			header = 8
		}
		list = append(list, place{n, header})
		if n >= 64 {
			list = append(list, place{n, 0})
		}
	}
	return list
}

const (
	ringBytes = 16 << 10 // as in mask.c
	ringMax   = 64
	window    = 500 * time.Microsecond

	ratioMin     = 0.9 // of the speed of the loop in C, from ratioFrom bytes
	ratioFrom    = 1 << 10
	peerSlack    = 1.05 // what is no difference
	missedExit   = 1
	failedToExit = 2
)

// ring returns payloads of a place.
func (at place) ring() [][]byte {
	stride := (at.offset + at.size + 63) / 64 * 64
	count := max(min(ringBytes/stride, ringMax), 1)
	room := make([]byte, stride*count+64)
	front := 0
	for ; uintptr(unsafe.Pointer(&room[front]))%64 != 0; front++ {
	}
	list := make([][]byte, count)
	for i := range list {
		list[i] = room[front+i*stride+at.offset:][:at.size:at.size]
	}
	return list
}

// measure returns nanoseconds for each call.
func (w way) measure(at place) float64 {
	ring, other := at.ring(), make([]byte, at.size)
	calls, begin := 0, time.Now()
	for {
		for range 64 {
			w.around(ring, other)
		}
		calls += 64 * len(ring)
		if spent := time.Since(begin); spent >= window {
			return float64(spent.Nanoseconds()) / float64(calls)
		}
	}
}

// A loop is the compiled mask.c.
type loop struct{ program string }

func buildLoop(dir string) (l loop, err error) {
	source := filepath.Join(dir, "mask.c")
	if err := os.WriteFile(source, loopSource, 0o600); err != nil {
		return l, err
	}
	l.program = filepath.Join(dir, "mask")
	if out, err := exec.Command("cc", "-O3", "-march=native", "-o", l.program, source).CombinedOutput(); err != nil {
		return l, fmt.Errorf("cc: %w\n%s", err, out)
	}
	return l, nil
}

// measure returns the loop's name and nanoseconds for each call at each place.
func (l loop) measure(list []place) (name string, ns []float64, err error) {
	var args []string
	for _, at := range list {
		args = append(args, strconv.Itoa(at.size), strconv.Itoa(at.offset))
	}
	out, err := exec.Command(l.program, args...).Output()
	if err != nil {
		return "", nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, line := range lines[1:] {
		v, err := strconv.ParseFloat(line, 64)
		if err != nil {
			return "", nil, err
		}
		ns = append(ns, v)
	}
	if len(ns) != len(list) {
		return "", nil, fmt.Errorf("the loop in C printed %d figures for %d places", len(ns), len(list))
	}
	return lines[0], ns, nil
}

// best keeps the smaller figures.
func best(a, b []float64) []float64 {
	if a == nil {
		return b
	}
	for i := range a {
		a[i] = min(a[i], b[i])
	}
	return a
}

func run(rounds int) (missed bool, err error) {
	dir, err := os.MkdirTemp("", "mask")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	c, err := buildLoop(dir)
	if err != nil {
		return false, err
	}
	list, all := places(), ways()
	figures := make([][]float64, len(all))
	var inC []float64
	var nameOfC string
	for range rounds {
		name, ns, err := c.measure(list)
		if err != nil {
			return false, err
		}
		nameOfC, inC = name, best(inC, ns)
		for i, w := range all {
			ns := make([]float64, len(list))
			for j, at := range list {
				ns[j] = w.measure(at)
			}
			figures[i] = best(figures[i], ns)
		}
	}
	fmt.Printf("GB/s; C is a loop with %s\n%8s %6s", nameOfC, "bytes", "offset")
	for _, w := range all {
		fmt.Printf(" %8s", w.name)
	}
	fmt.Printf(" %8s %9s\n", "C", "flare : C")
	for j, at := range list {
		fmt.Printf("%8d %6d", at.size, at.offset)
		for i := range all {
			fmt.Printf(" %8.1f", float64(at.size)/figures[i][j])
		}
		ratio := inC[j] / figures[0][j]
		fmt.Printf(" %8.1f %9.2f", float64(at.size)/inC[j], ratio)
		for i, w := range all[1:] {
			if w.name != "copy" && figures[0][j] > figures[i+1][j]*peerSlack {
				fmt.Printf("  slower than %s", w.name)
				missed = true
			}
		}
		if at.size >= ratioFrom && ratio < ratioMin {
			fmt.Printf("  below %.1f of C", ratioMin)
			missed = true
		}
		fmt.Println()
	}
	return missed, nil
}

func main() {
	rounds := flag.Int("rounds", 100, "rounds; each takes a quarter of a second")
	flag.Parse()
	missed, err := run(max(*rounds, 1))
	if err != nil {
		fmt.Fprintln(os.Stderr, "mask:", err)
		os.Exit(failedToExit)
	}
	if missed {
		os.Exit(missedExit)
	}
}
