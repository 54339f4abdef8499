package flare

import (
	"strings"
	"testing"
)

// The two heads that the package's figures are stated for: one as a browser with
// a long cookie sends it, 703 octets, one as a load generator does, 49 octets.
const (
	browserHead = "GET /gallery/2019/11/mountain-lake-at-dawn-panorama-4k.webp HTTP/1.1\r\n" +
		"Host: www.example-photographs.test\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8\r\n" +
		"Accept-Language: de-AT,de;q=0.8,en-US;q=0.5,en;q=0.3\r\n" +
		"Accept-Encoding: gzip, deflate, br\r\n" +
		"Referer: https://www.example-photographs.test/gallery/2019/\r\n" +
		"Connection: keep-alive\r\n" +
		"Cookie: session=0f8b2c4d6e1a3957bd24; theme=dark; lang=de-A; consent=20191104.1.necessary.statistics; _visits=v2.17.1572861733.1572775333; basket=eyJpdGVtcyI6W3siaWQiOjQyLCJuIjoxfV19; ab=variant-b; last=/gallery/2019/10/\r\n" +
		"Upgrade-Insecure-Requests: 1\r\n" +
		"\r\n"

	plaintextHead = "GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
)

var benchLimits = headLimits{uriBytes: 8 << 10, headerBytes: 16 << 10, headers: 100}

func TestBenchHeads(t *testing.T) {
	if len(browserHead) != 703 || len(plaintextHead) != 49 {
		t.Errorf("heads of %d and %d octets, want 703 and 49", len(browserHead), len(plaintextHead))
	}
}

func BenchmarkParseRequestHead(b *testing.B) {
	for _, bench := range []struct {
		name, head string
	}{
		{"703B", browserHead},
		{"49B", plaintextHead},
	} {
		b.Run(bench.name, func(b *testing.B) {
			in := []byte(bench.head)
			var h requestHead
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				h.reset()
				if n, err := h.parse(in, &benchLimits); n == 0 {
					b.Fatal(n, err)
				}
			}
		})
	}
}

func BenchmarkParseResponseHead(b *testing.B) {
	in := []byte("HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 02:37:00 GMT\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\n")
	var h responseHead
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		h.reset()
		if n, err := h.parse(in, &benchLimits); n == 0 {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkParseChunked is a body of ten chunks of 100 octets.
func BenchmarkParseChunked(b *testing.B) {
	in := []byte(strings.Repeat("64\r\n"+strings.Repeat("x", 100)+"\r\n", 10) + "0\r\n\r\n")
	var d chunkedDecoder
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		d.reset(&benchLimits)
		for at := 0; ; {
			_, n, done, err := d.decode(in[at:])
			if err != nil {
				b.Fatal(err)
			}
			if at += n; done {
				break
			}
		}
	}
}

// BenchmarkParseHeaderFill makes the Header of the browser's head: one string,
// one list.
func BenchmarkParseHeaderFill(b *testing.B) {
	in := []byte(browserHead)
	var h requestHead
	var header headerFields
	h.reset()
	if n, err := h.parse(in, &benchLimits); n == 0 {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		header.fill(string(in), h.fields)
		if header.Get("cookie") == "" {
			b.Fatal("no cookie")
		}
	}
}
