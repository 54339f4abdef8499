package flare

import (
	"archive/zip"
	"bytes"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"
)

//go:embed LICENSE doc.go
var embeddedFiles embed.FS

// filesTree are the files of these tests, by name.
var filesTree = map[string]string{
	"index.html":             "<p>start",
	"app-3fa94c1b.js":        "let app",
	"plain.css":              "p {}",
	"plain.css.gz":           "gzip of plain.css",
	"plain.css.br":           "br of plain.css",
	"plain.css.zst":          "zstd of plain.css",
	"one.svg":                "<svg>",
	"one.svg.gz":             "gzip of one.svg",
	"empty.txt":              "",
	"a b&c/d<e>.txt":         "odd name",
	"docs/index.html":        "<p>docs",
	"docs/x.txt":             "x",
	"bare/y.txt":             "y",
	"bare/.hidden":           "hidden",
	".env":                   "secret",
	".well-known/assets.txt": "known",
	"bare/javascript:z.txt":  "z",
}

// filesFolder makes a folder with filesTree, and a file beside it.
func filesFolder(t testing.TB) (dir string) {
	top := t.TempDir()
	dir = filepath.Join(top, "public")
	for name, text := range filesTree {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, conditionTime, conditionTime); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "secret.txt"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// filesOf returns f, which it closes when the test's servers have ended.
func filesOf(t testing.TB, f *Files) *Files {
	t.Cleanup(func() { f.Close() })
	return f
}

// askFiles sends a request as it is and returns the answer's status, fields and body.
func askFiles(t testing.TB, addr, method, target string, fields ...string) answer {
	t.Helper()
	c := dialRaw(t, addr)
	defer c.Close()
	c.send(head(method+" "+target+" HTTP/1.1", fields...))
	return c.answer(method)
}

func TestFiles(t *testing.T) {
	dir := filesFolder(t)
	tree := make(fstest.MapFS)
	for name, text := range filesTree {
		tree[name] = &fstest.MapFile{Data: []byte(text), ModTime: conditionTime, Mode: 0o644}
	}
	for kind, addr := range map[string]string{
		"Dir": startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{Dir: dir})}),
		"FS":  startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{FS: tree})}),
	} {
		for _, row := range []struct {
			method, target, fields string
			code                   int
			body                   string
			want                   string // "Name: value" of the answer, separated by |; "Name:" for none
		}{
			{"GET", "/", "", 200, "<p>start", "Content-Type: text/html; charset=utf-8|Cache-Control: no-cache|Last-Modified: Thu, 02 Jan 2020 03:04:05 GMT|Vary:"},
			{"GET", "/index.html?x=1", "", 200, "<p>start", "Accept-Ranges: bytes"},
			{"HEAD", "/index.html", "", 200, "", "Content-Length: 8"},
			{"GET", "/docs", "", 307, "Temporary Redirect\n", "Location: /docs/"},
			{"GET", "/docs?a=b", "", 307, "Temporary Redirect\n", "Location: /docs/?a=b"},
			{"GET", "/docs/", "", 200, "<p>docs", ""},
			{"GET", "/bare/", "", 404, "Not Found\n", "Cache-Control:"},
			{"GET", "/docs/x.txt/", "", 404, "Not Found\n", ""},
			{"GET", "/docs/x.txt/y", "", 404, "Not Found\n", ""},
			{"GET", "/empty.txt", "", 200, "", "Content-Length: 0"},
			{"GET", "/a%20b%26c/d%3ce%3E.txt", "", 200, "odd name", ""},
			{"GET", "/.well-known/assets.txt", "", 200, "known", ""},
			{"GET", "/app-3fa94c1b.js", "", 200, "let app", "Cache-Control: public, max-age=31536000, immutable|Content-Type: text/javascript; charset=utf-8"},
			{"GET", "/plain.css", "", 200, "p {}", "Vary: Accept-Encoding|Content-Encoding:"},
			{"GET", "/plain.css", "Accept-Encoding: gzip", 200, "gzip of plain.css", "Vary: Accept-Encoding|Content-Encoding: gzip|Content-Type: text/css; charset=utf-8"},
			{"GET", "/plain.css", "Accept-Encoding: gzip, br, zstd", 200, "br of plain.css", "Content-Encoding: br"},
			{"GET", "/plain.css", "Accept-Encoding: gzip, br;q=0, zstd", 200, "zstd of plain.css", "Content-Encoding: zstd"},
			{"GET", "/plain.css", "Accept-Encoding: br;q=0.5, gzip", 200, "gzip of plain.css", "Content-Encoding: gzip"},
			{"GET", "/plain.css", "Accept-Encoding: deflate", 200, "p {}", "Content-Encoding:"},
			{"GET", "/plain.css", "Accept-Encoding: gzip|Range: bytes=0-3", 206, "gzip", "Content-Encoding: gzip|Content-Range: bytes 0-3/17"},
			{"GET", "/plain.css.gz", "Accept-Encoding: gzip", 200, "gzip of plain.css", "Content-Type: application/gzip|Content-Encoding:|Vary:"},
			{"GET", "/one.svg", "Accept-Encoding: br", 200, "<svg>", "Vary: Accept-Encoding|Content-Encoding:"},
			{"GET", "/plain.css", "If-Modified-Since: Thu, 02 Jan 2020 03:04:05 GMT", 304, "", "Content-Type:|Cache-Control: no-cache|Vary: Accept-Encoding"},
			{"GET", "/docs/x.txt", "If-Match: \"other\"", 412, "Precondition Failed\n", "ETag:"},
			{"GET", "/docs/x.txt", "Range: bytes=7-", 416, "Requested Range Not Satisfiable\n", "Content-Range: bytes */1"},
			{"POST", "/index.html", "Content-Length: 0", 405, "Method Not Allowed\n", "Allow: GET, HEAD"},
			{"OPTIONS", "/index.html", "", 405, "Method Not Allowed\n", "Allow: GET, HEAD"},
		} {
			var fields []string
			if row.fields != "" {
				fields = strings.Split(row.fields, "|")
			}
			for again := range 2 { // opened, and kept open
				a := askFiles(t, addr, row.method, row.target, fields...)
				what := fmt.Sprint(kind, ", ", again, ": ", row.method, " ", row.target, " ", row.fields)
				if a.StatusCode != row.code || a.body != row.body {
					t.Errorf("%s: %d %q, want %d %q", what, a.StatusCode, a.body, row.code, row.body)
				}
				for want := range strings.SplitSeq(row.want, "|") {
					name, value, _ := strings.Cut(want, ":")
					if got := a.Header.Get(name); name != "" && got != strings.TrimSpace(value) {
						t.Errorf("%s: %s: %q, want %q", what, name, got, strings.TrimSpace(value))
					}
				}
			}
		}
	}
}

// What Files answers is what net/http's FileServerFS does, but for the fields that
// it says more in.
func TestFilesAsNetHTTP(t *testing.T) {
	tree := make(fstest.MapFS)
	for name, text := range filesTree {
		tree[name] = &fstest.MapFile{Data: []byte(text), ModTime: conditionTime, Mode: 0o644}
	}
	flares := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{FS: tree})})
	other := httptest.NewServer(http.FileServerFS(tree))
	defer other.Close()
	for _, target := range []string{"/", "/docs/", "/docs/x.txt", "/one.svg", "/empty.txt", "/none", "/docs/none", "/app-3fa94c1b.js"} {
		for _, fields := range [][]string{nil, {"Range: bytes=0-1"}, {"Range: bytes=0-0,1-1"}, {"Range: bytes=99-"}, {"If-Modified-Since: Thu, 02 Jan 2020 03:04:05 GMT"}} {
			for _, method := range []string{"GET", "HEAD"} {
				if method == "HEAD" && fields != nil {
					continue // ranges are for GET
				}
				var said [2]string
				for i, addr := range []string{flares, other.Listener.Addr().String()} {
					a := askFiles(t, addr, method, target, fields...)
					body := a.body
					if a.StatusCode >= 400 {
						body = ""
						a.Header = http.Header{"Content-Range": a.Header["Content-Range"]}
					}
					if a.StatusCode == 304 {
						a.Header.Del("Last-Modified") // an ETag is enough (RFC 9110 §15.4.5)
					}
					kind := a.Header.Get("Content-Type")
					if _, boundary, ok := strings.Cut(kind, "boundary="); ok {
						kind, body = strings.ReplaceAll(kind, boundary, "B"), strings.ReplaceAll(body, boundary, "B")
						a.Header.Del("Content-Length")
					}
					said[i] = fmt.Sprint(a.StatusCode, kind, a.Header["Content-Length"], a.Header["Content-Range"], a.Header["Last-Modified"], a.Header["Accept-Ranges"], body)
				}
				if said[0] != said[1] {
					t.Errorf("%s %s %v: %s\nnet/http: %s", method, target, fields, said[0], said[1])
				}
			}
		}
	}
}

// escapes are paths that lead out of a folder somewhere, or to names that are not
// meant to be served.
var escapes = []string{
	"/../secret.txt", "/%2e%2e/secret.txt", "/%2E./secret.txt", "/.%2e/secret.txt", "/..%2fsecret.txt", "/..%5csecret.txt", `/..\secret.txt`,
	"/docs/../../secret.txt", "/docs/%2e%2e/%2e%2e/secret.txt", "/docs/..%2f..%2fsecret.txt", "/docs%2fx.txt", "/docs%5cx.txt", "/docs//x.txt", "//docs/x.txt", "//docs",
	"/%2fetc/passwd", "//etc/passwd", "/%2f/etc/passwd", "/file:///etc/passwd", "/docs/./x.txt", "/./docs/x.txt", "/docs/%2e/x.txt",
	"/index.html%00", "/%00", "/index.html%00.txt", "/docs/x.txt%0a", "/docs/x%7f.txt", "/..;/secret.txt", "/%252e%252e/secret.txt", "/%c0%ae%c0%ae/secret.txt",
	"/%e0%80%ae%e0%80%ae/secret.txt", "/.%00./secret.txt", "/....//secret.txt", "/..../secret.txt", "/~/secret.txt", "/C:/secret.txt", "/%5c%5chost%5cshare",
	"/.env", "/%2eenv", "/bare/.hidden", "/bare/%2ehidden", "/.", "/..", "/.git/config", "/docs/.", "/docs/..", "/docs/%2e%2e", "/%2e%2e", "/%2e",
	"/docs/" + "x" + strings.Repeat("y", 300), "/link.txt", "/linked/x.txt", "/out.txt", "/outer/secret.txt", "/fifo", "/%ff", "/docs/x.txt%2f", "/docs/.well-known",
	"/" + strings.Repeat("%2e%2e/", 20) + "secret.txt", "/" + strings.Repeat("a/", 500),
}

func TestFilesEscape(t *testing.T) {
	dir := filesFolder(t)
	for link, to := range map[string]string{
		"link.txt": "docs/x.txt", "linked": "docs", "out.txt": "../secret.txt", "outer": "..", "abs.txt": filepath.Join(dir, "../secret.txt"),
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if makeFIFO != nil {
		if err := makeFIFO(filepath.Join(dir, "fifo")); err != nil {
			t.Fatal(err)
		}
	}
	mux := NewMux()
	mux.Mount("/mount", filesOf(t, &Files{Dir: dir}))
	mux.Handle("GET /wild/{path...}", filesOf(t, &Files{Dir: dir}))
	mux.Handle("/slash/", filesOf(t, &Files{Dir: dir}))
	quiet := quietLogger()
	for name, where := range map[string]struct{ addr, prefix string }{
		"alone": {startServer(t, &Server{Logger: quiet, Handler: filesOf(t, &Files{Dir: dir})}), ""},
		"FS":    {startServer(t, &Server{Logger: quiet, Handler: filesOf(t, &Files{FS: os.DirFS(dir)})}), ""},
		"mount": {startServer(t, &Server{Logger: quiet, Handler: mux}), "/mount"},
		"wild":  {startServer(t, &Server{Logger: quiet, Handler: mux}), "/wild"},
		"slash": {startServer(t, &Server{Logger: quiet, Handler: mux}), "/slash"},
	} {
		if a := askFiles(t, where.addr, "GET", where.prefix+"/docs/x.txt"); a.StatusCode != 200 || a.body != "x" {
			t.Fatalf("%s: %d %q", name, a.StatusCode, a.body)
		}
		for _, path := range escapes {
			a := askFiles(t, where.addr, "GET", where.prefix+path)
			clean := a.StatusCode == 307 && where.prefix != "" // by the Mux, to the clean path
			if a.StatusCode != 404 && a.StatusCode != 400 && !clean || strings.Contains(a.body, "secret") {
				t.Errorf("%s: %s: %d %q %q", name, path, a.StatusCode, a.body, a.Header.Get("Location"))
			}
		}
	}
}

// Symbolic links are followed if they may be, and never out of Dir.
func TestFilesSymlinks(t *testing.T) {
	dir := filesFolder(t)
	for link, to := range map[string]string{
		"link.txt": "docs/x.txt", "linked": "docs", "out.txt": "../secret.txt", "outer": "..", "abs.txt": filepath.Join(dir, "../secret.txt"), "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{Dir: dir, Symlinks: true})})
	for path, want := range map[string]string{
		"/link.txt": "x", "/linked/x.txt": "x", "/linked/": "<p>docs",
		"/out.txt": "", "/outer/secret.txt": "", "/abs.txt": "", "/loop": "", "/outer/public/docs/x.txt": "",
	} {
		a := askFiles(t, addr, "GET", path)
		if want != "" && (a.StatusCode != 200 || a.body != want) || want == "" && (a.StatusCode < 400 || strings.Contains(a.body, "secret")) {
			t.Errorf("%s: %d %q", path, a.StatusCode, a.body)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, path := range escapes {
		f.Add(path, false)
	}
	f.Add("/docs/a%20b.txt", true)
	f.Fuzz(func(t *testing.T, raw string, dotFiles bool) {
		name, _, ok := fileName(raw, dotFiles)
		if !ok {
			return
		}
		if !fs.ValidPath(name) || !filepath.IsLocal(name) || strings.ContainsAny(name, "\x00\\\n") {
			t.Errorf("%q names %q", raw, name)
		}
		if !dotFiles && name != "." && (strings.Contains(name, "/.") || name[0] == '.' && !strings.HasPrefix(name+"/", ".well-known/")) {
			t.Errorf("%q names the dot file %q", raw, name)
		}
	})
}

// A page of an application stands in for what it has a route for, and for nothing
// that a page refers to.
func TestFilesFallback(t *testing.T) {
	tree := fstest.MapFS{"index.html": {Data: []byte("<p>app")}, "a.js": {Data: []byte("a")}, "img/a.png": {Data: []byte("png")}}
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{FS: tree, Fallback: "index.html"})})
	for _, row := range []struct {
		path, accept string
		code         int
		body         string
	}{
		{"/", "*/*", 200, "<p>app"},
		{"/users/7", "*/*", 200, "<p>app"},
		{"/users/7/", "*/*", 200, "<p>app"},
		{"/users/j.doe", "*/*", 404, "Not Found\n"},
		{"/users/j.doe", "text/html,application/xhtml+xml,*/*;q=0.8", 200, "<p>app"},
		{"/a.js", "*/*", 200, "a"},
		{"/b.js", "*/*", 404, "Not Found\n"},
		{"/img/", "*/*", 200, "<p>app"},
		{"/.env", "text/html", 404, "Not Found\n"},
		{"/..%2fx", "text/html", 404, "Not Found\n"},
	} {
		a := askFiles(t, addr, "GET", row.path, "Accept: "+row.accept)
		if a.StatusCode != row.code || a.body != row.body {
			t.Errorf("%s for %s: %d %q", row.path, row.accept, a.StatusCode, a.body)
		}
		if a.body == "<p>app" && (a.Header.Get("Cache-Control") != "no-cache" || a.Header.Get("Content-Type") != "text/html; charset=utf-8") {
			t.Errorf("%s: %v", row.path, a.Header)
		}
	}
	gone := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{FS: fstest.MapFS{}, Fallback: "index.html"})})
	if a := askFiles(t, gone, "GET", "/x"); a.StatusCode != 404 {
		t.Errorf("without the fallback's file: %d", a.StatusCode)
	}
}

func TestFilesList(t *testing.T) {
	dir := filesFolder(t)
	if err := os.Symlink("y.txt", filepath.Join(dir, "bare/link")); err != nil {
		t.Fatal(err)
	}
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{Dir: dir, List: true, Index: "none.html"})})
	const head = "<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n"
	for path, want := range map[string]string{
		"/bare/": head + "<title>/bare/</title>\n<h1>/bare/</h1>\n<ul>\n<li><a href=\"../\">../</a>\n" +
			"<li><a href=\"./javascript:z.txt\">javascript:z.txt</a>\n<li><a href=\"./y.txt\">y.txt</a>\n</ul>\n",
		"/a%20b%26c/": head + "<title>/a b&amp;c/</title>\n<h1>/a b&amp;c/</h1>\n<ul>\n<li><a href=\"../\">../</a>\n" +
			"<li><a href=\"./d%3Ce%3E.txt\">d&lt;e&gt;.txt</a>\n</ul>\n",
	} {
		a := askFiles(t, addr, "GET", path)
		if a.want(t, 200, want); a.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %v", path, a.Header)
		}
	}
	if a := askFiles(t, addr, "GET", "/"); !strings.Contains(a.body, "<a href=\"./docs/\">docs/</a>\n") || strings.Contains(a.body, ".env") {
		t.Errorf("%q", a.body)
	}
	for _, path := range []string{"/none/", "/bare/y.txt/", "/fifo/"} {
		askFiles(t, addr, "GET", path).want(t, 404, "Not Found\n")
	}
}

// Files of embed have no time, so their ETag is one of their content, and files of
// an archive can only be read from their start.
func TestFilesWithoutTimeOrPlace(t *testing.T) {
	license, err := os.ReadFile("LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	embedded := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{FS: embeddedFiles})})
	a := askFiles(t, embedded, "GET", "/LICENSE")
	tag := a.Header.Get("ETag")
	if a.want(t, 200, string(license)); len(tag) != 22 || a.Header.Get("Last-Modified") != "" {
		t.Errorf("%v", a.Header)
	}
	askFiles(t, embedded, "GET", "/LICENSE", "If-None-Match: "+tag).want(t, 304, "")
	askFiles(t, embedded, "GET", "/LICENSE", "Range: bytes=0-9", "If-Range: "+tag).want(t, 206, string(license[:10]))
	if other := askFiles(t, embedded, "GET", "/doc.go").Header.Get("ETag"); other == tag || other == "" {
		t.Errorf("ETag %s of both", other)
	}

	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	fw, err := zw.CreateHeader(&zip.FileHeader{Name: "docs/a.txt", Method: zip.Deflate, Modified: conditionTime})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(fw, "archived")
	zw.Close()
	archive, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	zipped := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, &Files{FS: archive})})
	for range 2 {
		a = askFiles(t, zipped, "GET", "/docs/a.txt", "Range: bytes=2-3")
		if a.want(t, 200, "archived"); a.Header.Get("Accept-Ranges") != "" || a.Header.Get("ETag") == "" {
			t.Errorf("%v", a.Header)
		}
	}
}

// What was written to a file, and what took its place or its folder's, is sent:
// the former at once, the latter within a second.
func TestFilesChange(t *testing.T) {
	top := t.TempDir()
	write := func(dir, name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(top, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var clock atomic.Int64
	files := &Files{Dir: filepath.Join(top, "current"), clock: func() time.Duration { return time.Duration(clock.Load()) }}
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, files)})
	get := func(want string) (tag string) {
		t.Helper()
		a := askFiles(t, addr, "GET", "/a.txt")
		a.want(t, 200, want)
		return a.Header.Get("ETag")
	}
	write("one", "a.txt", "first")
	if err := os.Symlink("one", filepath.Join(top, "current")); err != nil {
		t.Fatal(err)
	}
	first := get("first")
	write("one", "a.txt", "in place")
	if tag := get("in place"); tag == first {
		t.Error("the ETag stays when a file is written")
	}
	write("one", "b.txt", "by rename")
	if err := os.Rename(filepath.Join(top, "one/b.txt"), filepath.Join(top, "one/a.txt")); err != nil {
		t.Fatal(err)
	}
	get("in place")
	clock.Add(int64(fileFresh))
	get("by rename")
	write("two", "a.txt", "released")
	if err := os.Symlink("two", filepath.Join(top, "next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(top, "next"), filepath.Join(top, "current")); err != nil {
		t.Fatal(err)
	}
	get("by rename")
	clock.Add(int64(fileFresh))
	get("released")
	if err := os.Remove(filepath.Join(top, "two/a.txt")); err != nil {
		t.Fatal(err)
	}
	clock.Add(int64(fileFresh))
	askFiles(t, addr, "GET", "/a.txt").want(t, 404, "Not Found\n")
	write("two", "a.txt", "again")
	files.Close()
	get("again")
}

// Not more files than MaxOpenFiles are kept open, and none for longer than a minute
// without a request.
func TestFilesOpenAtOnce(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte(fmt.Sprint(i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var clock atomic.Int64
	now := func() time.Duration { return time.Duration(clock.Load()) }
	for _, most := range []int{-1, 1, 8} {
		files := &Files{Dir: dir, MaxOpenFiles: most, clock: now}
		addr := startServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, files)})
		open := func() (entries, variants int) {
			files.mu.Lock()
			defer files.mu.Unlock()
			if len(files.cache.byName) != files.cache.order.Len() {
				t.Errorf("%d by name, %d in order", len(files.cache.byName), files.cache.order.Len())
			}
			return files.cache.order.Len(), files.cache.open
		}
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				c := dialRaw(t, addr)
				for i := range 200 {
					c.get(fmt.Sprint("/", i*7%40)).want(t, 200, fmt.Sprint(i*7%40))
				}
			})
		}
		wait.Wait()
		if entries, variants := open(); entries != max(most, 0) || variants != entries {
			t.Errorf("MaxOpenFiles %d: %d files, %d descriptors are open", most, entries, variants)
		}
		clock.Add(int64(fileIdle))
		askFiles(t, addr, "GET", "/1").want(t, 200, "1")
		if entries, _ := open(); entries != min(max(most, 0), 1) {
			t.Errorf("MaxOpenFiles %d: %d files are open after a minute", most, entries)
		}
	}
}

func TestContentHash(t *testing.T) {
	for name, want := range map[string]bool{
		"main.3f2a1b4c.js": true, "js/main.3f2a1b4c.js": true, "app-KZ2Q5TBH.js": true, "index-B4fZ3x9a.css": true, "main.3f2a1b4c.js.map": true,
		"2.9f86d081884c7d659a2feaa0c55ad015.chunk.js": true, "logo-5d41402abc4b2a76b9719d911017c592.svg": true,
		"3f2a1b4c.js": false, "main.js": false, "jquery-3.7.1.min.js": false, "photo-20240101.jpg": false, "photo-DSC00123.jpg": false,
		"x-Logo2020.png": false, "x-Q1Report.png": false, "index-3f2a1b4c.html": false, "background-image.css": false, "app-deadbeef.js": false,
		"report-2023Q4V2.pdf": false, "MD5SUMS-3f2a1b4c": false, "jquery-ui.timepicker.js": false, "x-decade99.png": false, "a-.js": false,
	} {
		if got := hasContentHash(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Files of one response may be sent by many requests at a time, and their folder
// change meanwhile.
func TestFilesAtOnce(t *testing.T) {
	dir := t.TempDir()
	large := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	name := filepath.Join(dir, "large.bin")
	if err := os.WriteFile(name, large, 0o644); err != nil {
		t.Fatal(err)
	}
	files := &Files{Dir: dir, MaxOpenFiles: 1}
	url := TestServer(t, &Server{Logger: quietLogger(), Handler: filesOf(t, files)})
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range 20 {
				req, _ := http.NewRequest("GET", url+"/large.bin", nil)
				start := i * 1000
				req.Header.Set("Range", fmt.Sprintf("bytes=%d-", start))
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				p, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(p, large[start:]) {
					t.Errorf("%d bytes, %v", len(p), err)
				}
			}
		})
	}
	wait.Go(func() {
		for i := range 50 {
			next := filepath.Join(dir, fmt.Sprint("next", i))
			if os.WriteFile(next, large, 0o644) != nil || os.Rename(next, name) != nil {
				t.Error("cannot replace the file")
			}
			resp, err := http.Get(url + "/next")
			if err == nil {
				resp.Body.Close()
			}
		}
	})
	wait.Wait()
	http.DefaultClient.CloseIdleConnections()
}
