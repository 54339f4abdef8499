//go:build unix

package flare

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func init() {
	makeFIFO = func(name string) error { return syscall.Mkfifo(name, 0o600) }
}

// saveFrom saves what a server answers under name.
func saveFrom(t *testing.T, url, name string) error {
	t.Helper()
	resp, err := clientOf(t, &Client{}).Get(clientContext(t), url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, err = resp.SaveFile(name)
	return err
}

// A file that is saved takes the place of a regular file, with its mode, and of
// nothing else: what is behind a link is meant, not the link.
func TestClientSaveFilePlaces(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "new") }))
	defer ts.Close()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(in("sub"), 0o700))
	for name, mode := range map[string]os.FileMode{"private": 0o600, "open": 0o666, "sub/target": 0o640} {
		must(os.WriteFile(in(name), []byte("old"), mode))
		must(os.Chmod(in(name), mode)) // whatever the umask is
	}
	must(os.Symlink("sub/target", in("link")))
	must(os.Symlink("link", in("second")))
	must(os.Symlink("sub/made", in("dangling")))
	must(os.Symlink("cycle", in("cycle")))
	must(makeFIFO(in("fifo")))
	must(os.Symlink("fifo", in("tofifo")))
	ln, err := net.Listen("unix", in("socket"))
	must(err)
	defer ln.Close()

	for _, row := range []struct {
		name, file string // file: where the content is to be found
		mode       os.FileMode
	}{
		{"private", "private", 0o600}, {"open", "open", 0o666},
		{"link", "sub/target", 0o640}, {"second", "sub/target", 0o640}, {"dangling", "sub/made", 0},
	} {
		before, err := os.Lstat(in(row.name))
		must(err)
		must(saveFrom(t, ts.URL, in(row.name)))
		after, err := os.Lstat(in(row.name))
		must(err)
		if before.Mode().Type() != after.Mode().Type() {
			t.Errorf("%s was %v and is %v", row.name, before.Mode(), after.Mode())
		}
		info, err := os.Lstat(in(row.file))
		must(err)
		if p, err := os.ReadFile(in(row.file)); string(p) != "new" || err != nil || row.mode != 0 && info.Mode() != row.mode {
			t.Errorf("%s: %q, %v, %v", row.file, p, info.Mode(), err)
		}
	}
	others := []string{in("fifo"), in("tofifo"), in("socket"), in("sub"), in("cycle")}
	if _, err := os.Stat("/dev/null"); err == nil {
		must(os.Symlink("/dev/null", in("null")))
		others = append(others, in("null"))
		if os.Getuid() != 0 {
			others = append(others, "/dev/null") // root could lose it
		}
	}
	for _, name := range others {
		before, err := os.Lstat(name)
		must(err)
		err = saveFrom(t, ts.URL, name)
		if after, _ := os.Lstat(name); err == nil || after == nil || before.Mode() != after.Mode() {
			t.Errorf("%s: %v, was %v and is %v", name, err, before, after)
		}
	}
	left, err := filepath.Glob(in("*/.flare-*"))
	must(err)
	more, err := filepath.Glob(in(".flare-*"))
	must(err)
	if len(left)+len(more) > 0 {
		t.Errorf("left behind: %q", append(left, more...))
	}
}

// A part is not saved as if it were the whole.
func TestClientSaveFilePart(t *testing.T) {
	name := conditionFile(t, conditionTime)
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) }))
	defer ts.Close()
	r := &ClientRequest{URL: ts.URL}
	r.Header.Set("Range", "bytes=2-4")
	resp, err := clientOf(t, &Client{}).Do(clientContext(t), r)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "part")
	var failed *ResponseError
	if _, err := resp.SaveFile(to); !errors.As(err, &failed) || failed.StatusCode != 206 {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file: %v", err)
	}
}
