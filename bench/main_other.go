//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: needs Linux: the generator is an epoll program and CPU times come from Linux's process clocks")
	os.Exit(1)
}
