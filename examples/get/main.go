// Get fetches a URL, to the terminal or to a file, and sends files, with a
// progress bar where there is a terminal.
//
//	go run ./examples/get http://127.0.0.1:8080/get
//	go run ./examples/get -o file http://127.0.0.1:8080/bytes?n=100000000
//	go run ./examples/get -upload file http://127.0.0.1:8080/upload
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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
	info, err := os.Stderr.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	err = run(ctx, os.Args[1:], os.Stdout, os.Stderr, terminal)
	cancel()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "get:", err)
		os.Exit(1)
	}
}

// run does what args say. Bars go to stderr if that is a terminal.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, terminal bool) error {
	c := new(flare.Client)
	defer c.CloseIdleConnections()
	flags := flag.NewFlagSet("get", flag.ContinueOnError)
	flags.SetOutput(stderr)
	output := flags.String("o", "", "file to write to; empty is the terminal")
	method := flags.String("method", "", "request method; empty is GET, or POST with -data, or PUT with -upload")
	data := flags.String("data", "", "body to send, JSON text")
	upload := flags.String("upload", "", "file to send as the body")
	flags.DurationVar(&c.Timeout, "timeout", 0, "for everything, 0 is none")
	c.TLSConfig = new(tls.Config)
	flags.BoolVar(&c.TLSConfig.InsecureSkipVerify, "insecure", false, "verify no certificate")
	ca := flags.String("ca", "", "PEM file of the authorities to trust")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *ca != "" {
		var err error
		if c.TLSConfig.RootCAs, err = readAuthorities(*ca); err != nil {
			return err
		}
	}
	if flags.NArg() != 1 || *data != "" && *upload != "" {
		return errors.New("exactly one URL, and one body at most; see -help")
	}
	r := &flare.ClientRequest{Method: *method, URL: flags.Arg(0)}
	byDefault := "GET"
	switch {
	case *data != "":
		byDefault = "POST"
		if err := r.SetBody(*data); err != nil {
			return err
		}
	case *upload != "":
		byDefault = "PUT"
		f, err := os.Open(*upload)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		r.Body, r.ContentLength = f, info.Size()
		if terminal {
			r.Progress = bar(stderr, "up")
		}
	}
	if r.Method == "" {
		r.Method = byDefault
	}
	resp, err := c.Do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if *output == "" {
		if _, err := io.Copy(stdout, resp.Body); err != nil {
			return err
		}
		if !resp.OK() {
			return fmt.Errorf("status %d %s", resp.StatusCode, resp.Reason())
		}
		return nil
	}
	if terminal {
		resp.Progress = bar(stderr, "down")
	}
	n, err := resp.SaveFile(*output)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s: %d bytes\n", *output, n)
	return nil
}

// readAuthorities reads the certificates of a PEM file.
func readAuthorities(name string) (*x509.CertPool, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in " + name)
	}
	return pool, nil
}

// bar draws progress in one line, ten times a second at most, and goes on to
// the next line at the end.
func bar(w io.Writer, label string) func(done, total int64) {
	const width = 40
	var drawn time.Time
	return func(done, total int64) {
		now := time.Now()
		if done != total && now.Sub(drawn) < 100*time.Millisecond {
			return
		}
		drawn = now
		if total <= 0 {
			fmt.Fprintf(w, "\r%-4s %d KiB", label, done>>10)
			return
		}
		full := int(done * width / total)
		fmt.Fprintf(w, "\r%-4s [%s%s] %3d %%", label, strings.Repeat("=", full), strings.Repeat(" ", width-full), done*100/total)
		if done == total {
			fmt.Fprintln(w)
		}
	}
}
