package flare

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A download goes on where it broke, begins again where the content has changed, and
// ends where the server cannot tell or brings nothing.
func TestSaveFileResumes(t *testing.T) {
	content := strings.Repeat("0123456789", 1000)
	for name, test := range map[string]struct {
		etag   string
		broken int // so many answers break
		change bool
		give   int // octets of each before it breaks
		fails  bool
		ranges string
	}{
		"whole":          {`"a"`, 0, false, 0, false, "[]"},
		"breaks":         {`"a"`, 3, false, 2500, false, "[ bytes=2500- bytes=5000- bytes=7500-]"},
		"changes":        {`"a"`, 1, true, 4000, false, "[ bytes=4000-]"},
		"no validator":   {"", 1, false, 4000, true, "[]"},
		"a weak one":     {`W/"a"`, 1, false, 4000, true, "[]"},
		"brings nothing": {`"a"`, 99, false, 0, true, "[ bytes=0- bytes=0- bytes=0- bytes=0- bytes=0-]"},
	} {
		var ranges []string
		calls := 0
		https := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ranges = append(ranges, r.Header.Get("Range"))
			if r.Header.Get("If-Range") != "" && r.Header.Get("If-Range") != test.etag || r.Header.Get("Accept-Encoding") != "" {
				t.Errorf("%s: %v", name, r.Header)
			}
			tag, body, start := test.etag, content, 0
			if fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); test.change && calls > 0 {
				tag, body, start = `"b"`, strings.ToUpper("changed"), 0
			}
			if tag != "" {
				w.Header().Set("ETag", tag)
			}
			body = body[start:]
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			if start > 0 || r.Header.Get("Range") != "" && !test.change {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(content)-1, len(content)))
				w.WriteHeader(206)
			}
			calls++
			if calls > test.broken {
				io.WriteString(w, body)
				return
			}
			io.WriteString(w, body[:test.give])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}))
		file := filepath.Join(t.TempDir(), "file")
		client := &Client{BaseURL: https.URL}
		n, err := client.SaveFile(context.Background(), "/", file)
		got, readErr := os.ReadFile(file)
		want := content
		if test.change {
			want = "CHANGED"
		}
		switch {
		case test.fails && (err == nil || !os.IsNotExist(readErr)):
			t.Errorf("%s: %v, a file of %d bytes", name, err, len(got))
		case !test.fails && (err != nil || string(got) != want || n != int64(len(want))):
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if got := strings.Join(strings.Fields(fmt.Sprint(ranges)), " "); got != test.ranges {
			t.Errorf("%s: asked for %s, want %s", name, got, test.ranges)
		}
		client.CloseIdleConnections()
		https.Close()
	}
}

// What a file may be put together from (RFC 9110 §13.1.5, §14.3, §14.4): a version that
// If-Range can name, and a part that says that it is the one that is missing.
func TestSaveFileParts(t *testing.T) {
	t.Parallel()
	const date = "Thu, 02 Jan 2020 03:04:05 GMT"
	for _, row := range []struct{ name, first, part, want string }{
		{"a tag", `ETag: "a"`, "Content-Range: bytes 2-4/5", `If-Range: "a", 01234`},
		{"the same tag", `ETag: "a"`, "Content-Range: BYTES 2-4/*\r\nETag: \"a\"", `If-Range: "a", 01234`},
		{"another tag", `ETag: "a"`, "Content-Range: bytes 2-4/5\r\nETag: \"b\"", `If-Range: "a", error`},
		{"a tag goes before a date", "ETag: W/\"a\"\r\nLast-Modified: " + date, "", "none, error"},
		{"a date", "Last-Modified: " + date, "Content-Range: bytes 2-4/5", "If-Range: " + date + ", 01234"},
		{"a date of the same second", "Last-Modified: " + date + "\r\nDate: " + date, "", "none, error"},
		{"a date and no clock", "Last-Modified: " + date + "\r\nDate: x", "", "none, error"},
		{"no ranges after all", "ETag: \"a\"\r\nAccept-Ranges: bytes", "", `If-Range: "a", 01234`},
		{"another part", `ETag: "a"`, "Content-Range: bytes 1-3/5", `If-Range: "a", error`},
		{"another unit", `ETag: "a"`, "Content-Range: pages 2-4/5", `If-Range: "a", error`},
		{"an end before its beginning", `ETag: "a"`, "Content-Range: bytes 2-1/5", `If-Range: "a", error`},
		{"a length that is too short", `ETag: "a"`, "Content-Range: bytes 2-4/4", `If-Range: "a", error`},
		{"several parts", `ETag: "a"`, "Content-Type: multipart/byteranges; boundary=x", `If-Range: "a", error`},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan string, 2)
			first := row.first
			if !strings.Contains(first, "Date:") {
				first += "\r\nDate: Thu, 02 Jan 2020 03:04:06 GMT"
			}
			base := clientAccept(t, func(c net.Conn) {
				req, err := http.ReadRequest(bufio.NewReader(c))
				switch {
				case err != nil:
				case req.Header.Get("Range") == "":
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"+first+"\r\n\r\n01")
				case row.part == "":
					asked <- "If-Range: " + req.Header.Get("If-Range")
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n01234")
				default:
					asked <- "If-Range: " + req.Header.Get("If-Range")
					io.WriteString(c, "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n"+row.part+"\r\n\r\n234")
				}
			})
			c := new(Client)
			defer c.CloseIdleConnections()
			file := filepath.Join(t.TempDir(), "file")
			_, err := c.SaveFile(soon(t), base, file)
			got, _ := os.ReadFile(file)
			if err != nil {
				got = []byte("error")
			}
			asked <- "none"
			if text := <-asked + ", " + string(got); text != row.want {
				t.Errorf("%s, %v; want %s", text, err, row.want)
			}
		})
	}
}
