package flare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFilesHeld has small contents in memory, within bounds, and never an old one of them.
func TestFilesHeld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string, at int64) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Second
	f := &Files{Dir: dir, clock: func() time.Duration { return now }}
	t.Cleanup(func() { f.Close() })
	held := func() int64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.cache.held
	}
	c := dialRaw(t, strings.TrimPrefix(TestServer(t, &Server{Handler: f}), "http://"))
	small, large := strings.Repeat("s", fileHeldMax), strings.Repeat("l", fileHeldMax+1)
	write("small", small, 1000)
	write("large", large, 1000)
	for range 3 {
		c.get("/small").want(t, 200, small)
		c.get("/large").want(t, 200, large)
	}
	if n := held(); n != fileHeldMax {
		t.Errorf("%d octets are held", n)
	}
	c.send("GET /small HTTP/1.1\r\nHost: h\r\nRange: bytes=1-3\r\n\r\n")
	c.answer("GET").want(t, 206, "sss")
	write("small", "new", 2000)
	c.get("/small").want(t, 200, "new")
	if n := held(); n != 3 {
		t.Errorf("%d octets are held of three", n)
	}
	for i := range filesHeldMax/fileHeldMax + 3 {
		name := "f" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		write(name, small, 1000)
		c.get("/"+name).want(t, 200, small)
	}
	if n := held(); n > filesHeldMax {
		t.Errorf("%d octets are held, at most %d", n, filesHeldMax)
	}
	f.Close()
	if n := held(); n != 0 {
		t.Errorf("%d octets are held of no files", n)
	}
}
