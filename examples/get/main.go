// Get fetches a URL, to the terminal or to a file with a progress bar.
//
//	go run ./examples/get http://127.0.0.1:8080/get
//	go run ./examples/get -o file http://127.0.0.1:8080/bytes?n=100000000
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"flare"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "get:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c := new(flare.Client)
	output := flag.String("o", "", "file to write to; empty is the terminal")
	method := flag.String("method", "GET", "request method")
	data := flag.String("data", "", "body to send, JSON text")
	flag.DurationVar(&c.Timeout, "timeout", 0, "for everything, 0 is none")
	flag.BoolVar(&c.Insecure, "insecure", false, "verify no certificate")
	flag.StringVar(&c.CAFile, "ca", "", "PEM file of the authorities to trust")
	flag.Parse()
	if flag.NArg() != 1 {
		return fmt.Errorf("exactly one URL; see -help")
	}
	r := &flare.ClientRequest{Method: *method, URL: flag.Arg(0)}
	if *data != "" {
		if err := r.SetBody(*data); err != nil {
			return err
		}
	}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if *output == "" {
		if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
			return err
		}
		if !resp.OK() {
			return fmt.Errorf("status %d %s", resp.StatusCode, resp.Reason())
		}
		return nil
	}
	if stderr, err := os.Stderr.Stat(); err == nil && stderr.Mode()&os.ModeCharDevice != 0 {
		resp.Progress = bar()
	}
	n, err := resp.SaveFile(*output)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "\n%s: %d bytes\n", *output, n)
	return nil
}

// bar draws progress, ten times a second at most.
func bar() func(read, total int64) {
	const width = 40
	var drawn time.Time
	return func(read, total int64) {
		if now := time.Now(); read == total || now.Sub(drawn) >= 100*time.Millisecond {
			drawn = now
			if total <= 0 {
				fmt.Fprintf(os.Stderr, "\r%d KiB", read>>10)
				return
			}
			full := int(read * width / total)
			fmt.Fprintf(os.Stderr, "\r[%s%s] %3d %%", strings.Repeat("=", full), strings.Repeat(" ", width-full), read*100/total)
		}
	}
}
