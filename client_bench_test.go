//go:build linux || darwin

package flare

import (
	"context"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"
)

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
