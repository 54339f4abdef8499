package flare

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// A signal that interrupts the wait is no error and no event. Only Linux can
// send a signal to the one thread that waits.
func TestPollerInterrupted(t *testing.T) {
	for _, maker := range pollerMakers {
		t.Run(maker.name, func(t *testing.T) {
			p, err := maker.make() // all that there are on Linux
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tid := syscall.Gettid()
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				for {
					select {
					case <-stop:
						return
					default:
						// The runtime takes SIGURG for its own and ignores it. Again and
						// again, since the first may come before the wait.
						syscall.Tgkill(os.Getpid(), tid, syscall.SIGURG)
						runtime.Gosched()
					}
				}
			}()
			start := time.Now()
			var events [4]Event
			n, err := p.Wait(events[:], time.Minute)
			close(stop)
			<-stopped
			if n != 0 || err != nil {
				t.Errorf("interrupted: %d, %v; want 0 events and no error", n, err)
			}
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("no signal ended the wait: %v", took)
			}
		})
	}
}

// pollBellTest returns the bell of a poller on poll(2), nil for another.
func pollBellTest(p Poller) *pollerBell {
	if p, ok := p.(*pollPoller); ok {
		return &p.bell
	}
	return nil
}
