//go:build linux || darwin

package flare

import (
	"context"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// clientBenchServer is a server that costs next to nothing: each read is a
// request.
func clientBenchServer(b *testing.B) string {
	answer := []byte("HTTP/1.1 200 OK\r\nServer: x\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for p := make([]byte, 4096); ; {
					if _, err := c.Read(p); err != nil {
						return
					}
					c.Write(answer)
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String() + "/plaintext"
}

func clientCPU() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkClient reports CPU time, the server's part included: it is the same
// for all. bench/ measures clients alone.
func BenchmarkClient(b *testing.B) {
	flare := &Client{}
	std := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer flare.CloseIdleConnections()
	defer std.CloseIdleConnections()
	get := map[string]func(url string) error{
		"flare": func(url string) error {
			resp, err := flare.Get(context.Background(), url)
			if err != nil {
				return err
			}
			_, err = resp.Bytes()
			return err
		},
		"net-http": func(url string) error {
			resp, err := std.Get(url)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.ReadAll(resp.Body)
			return err
		},
	}
	for _, name := range []string{"flare", "net-http"} {
		for _, callers := range []struct {
			name string
			n    int
		}{{"1", 1}, {"64", 32}} {
			b.Run(name+"/"+callers.name, func(b *testing.B) {
				url := clientBenchServer(b)
				b.ReportAllocs()
				cpu := clientCPU()
				if callers.n == 1 {
					for b.Loop() {
						if err := get[name](url); err != nil {
							b.Fatal(err)
						}
					}
				} else {
					b.SetParallelism(callers.n) // times GOMAXPROCS
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							if err := get[name](url); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				b.ReportMetric(float64(clientCPU()-cpu)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
