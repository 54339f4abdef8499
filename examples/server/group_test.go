//go:build !windows

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup makes cmd, once started, a process group of its own, which kill ends.
func ownGroup(cmd *exec.Cmd) (kill func() error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
