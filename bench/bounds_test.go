//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSplitBounds(t *testing.T) {
	others, bounds := splitBounds([]string{"idle", "throughput", "slow", "nonsense"})
	if !slices.Equal(others, []string{"throughput", "nonsense"}) || !slices.Equal(bounds, []string{"idle", "slow"}) {
		t.Errorf("%q, %q", others, bounds)
	}
}

// What this process has in memory grows by what it touches, and its peak with it.
func TestMemoryFigures(t *testing.T) {
	pid := os.Getpid()
	before, err := residentBytes(pid)
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	touched := make([]byte, size)
	for i := 0; i < size; i += 4096 {
		touched[i] = 1
	}
	now, err := settledBytes(context.Background(), pid)
	if err != nil || now-before < size/2 {
		t.Errorf("%d bytes more after %d were touched, %v", now-before, size, err)
	}
	peak, err := statusBytes(pid, "VmHWM")
	if err != nil || peak < size {
		t.Errorf("peak %d, %v", peak, err)
	}
	runtime.KeepAlive(touched)
	if _, err := statusBytes(pid, "VmNonsense"); err == nil {
		t.Error("a field that is not there has a value")
	}
}

func TestIdleRow(t *testing.T) {
	for _, test := range []struct {
		name   string
		each   float64
		with   float64
		missed int
	}{
		{nameFlare, 512, 95, 0},
		{nameFlare, 513, 95, 1},
		{nameFlare, 513, 94, 2},
		{nameNetHTTP, 20000, 50, 0}, // it has no such bounds
	} {
		r := idleRow(test.name, []idleSample{{bytesEach: test.each, without: 100, with: test.with}})
		if len(r.Missed) != test.missed {
			t.Errorf("%+v: %q", test, r.Missed)
		}
	}
}

func TestSlowRow(t *testing.T) {
	pair := func(perSecond, p99 float64) slowSample {
		return slowSample{without: sample{PerSecond: 100, P99: 100}, with: sample{PerSecond: perSecond, P99: p99}}
	}
	for _, test := range []struct {
		pairs  []slowSample
		missed int
	}{
		{[]slowSample{pair(95, 150)}, 0},
		{[]slowSample{pair(94, 151)}, 2},
		{[]slowSample{pair(10, 900), pair(97, 100), pair(98, 120)}, 0}, // medians
		{[]slowSample{{without: sample{PerSecond: 1, P99: 1}, with: sample{PerSecond: 1, P99: 1}, wrong: map[string]int{"a": 2, "b": 1}}}, 2},
	} {
		if r := slowRow(nameFlare, test.pairs); len(r.Missed) != test.missed {
			t.Errorf("%q, want %d", r.Missed, test.missed)
		}
	}
}

func TestSlowEnds(t *testing.T) {
	head := &slowKind{name: "head", within: 3 * time.Second}
	reader := &slowKind{name: "reader", reads: true, within: 3 * time.Second}
	for _, test := range []struct {
		end  slowEnd
		want string
	}{
		{slowEnd{kind: head, after: 3 * time.Second, status: 408}, ""},
		{slowEnd{kind: head, after: 3 * time.Second, status: 200}, "408 is due"},
		{slowEnd{kind: head, after: time.Second, status: 408}, "outside"},
		{slowEnd{kind: head, after: 5 * time.Second, status: 408}, "outside"},
		{slowEnd{kind: head, after: 3 * time.Second, err: errors.New("reset")}, "reset"},
		{slowEnd{kind: reader, after: 3 * time.Second}, ""},
	} {
		if got := test.end.judge(); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%+v: %q, want %q", test.end, got, test.want)
		}
	}
}

// A reset is seen by a client that does not read.
func TestAwaitReset(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, trickles := range []bool{false, true} {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		peer.Write(make([]byte, 10_000))
		peer.(*net.TCPConn).SetLinger(0)
		go peer.Close()
		k := &slowKind{reads: true, trickles: trickles}
		if err := k.awaitReset(c.(*net.TCPConn), time.Now().Add(askTimeout)); err != nil {
			t.Errorf("trickles %v: %v", trickles, err)
		}
		c.Close()
	}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := (&slowKind{reads: true}).awaitReset(c.(*net.TCPConn), time.Now().Add(50*time.Millisecond)); err == nil {
		t.Error("a connection that is open was taken for reset")
	}
}
