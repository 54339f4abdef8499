package flare

import (
	"context"
	"fmt"
	"io"
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
