package flare

import (
	"syscall"
	"time"
)

// blockThread waits in a system call that the runtime knows nothing of.
func blockThread(d time.Duration) {
	var pipe [2]syscall.Handle
	if err := syscall.CreatePipe(&pipe[0], &pipe[1], nil, 0); err != nil {
		panic(err)
	}
	time.AfterFunc(d, func() { syscall.CloseHandle(pipe[1]) })
	syscall.Read(pipe[0], make([]byte, 1))
	syscall.CloseHandle(pipe[0])
}
