//go:build !windows

package flare

import (
	"syscall"
	"time"
)

// blockThread waits in a system call that the runtime knows nothing of.
func blockThread(d time.Duration) {
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil {
		panic(err)
	}
	time.AfterFunc(d, func() { syscall.Close(pipe[1]) })
	syscall.Read(pipe[0], make([]byte, 1))
	syscall.Close(pipe[0])
}
