package flare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// formText is what a form has, as text.
func formText(form *multipart.Form, err error) string {
	if err != nil {
		return "error"
	}
	var lines []string
	for name, values := range form.Value {
		lines = append(lines, fmt.Sprintf("field %q %q", name, values))
	}
	for name, heads := range form.File {
		for _, head := range heads {
			f, err := head.Open()
			if err != nil {
				return err.Error()
			}
			p, err := io.ReadAll(f)
			f.Close()
			lines = append(lines, fmt.Sprintf("file %q %q %q %d %.20q %d %v", name, head.Filename, head.Header.Get("Content-Type"), head.Size, p, len(p), err))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// formServers read the same forms, by flare and by net/http.
func formServers(t testing.TB) (flares, https string) {
	flares = startServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		form, err := r.Multipart()
		var status *StatusError
		if err != nil && !errors.As(err, &status) {
			t.Errorf("%v", err)
		}
		again, errAgain := r.Multipart()
		if form != again || err != errAgain {
			t.Errorf("a second call: %v, %v, the first %v, %v", again, errAgain, form, err)
		}
		return w.Text(200, formText(form, err))
	})})
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := r.ParseMultipartForm(formFileBytesMax)
		io.WriteString(w, formText(r.MultipartForm, err))
	}))
	t.Cleanup(other.Close)
	return flares, other.Listener.Addr().String()
}

// part is a part of a form with the boundary b.
func part(disposition, body string) string {
	return "--b\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + body + "\r\n"
}

var formBodies = []string{
	part(`name=a`, "1") + part(`name=a`, "2") + part(`name="b c"`, "ü") + "--b--\r\n",
	part(`name=f; filename="../x.txt"`, "file") + "--b--\r\n",
	part(`name=f; filename="a.bin"`, strings.Repeat("x", formFileBytesMax+1)) + part(`name=f; filename="b.bin"`, "y") + part("name=a", "1") + "--b--\r\n",
	part(`name=f; filename=""`, "") + part(`name=""`, "no name") + part(`filename="x"`, "no name") + "--b--\r\n",
	"preamble\r\n" + part(`name=a`, "1") + "--b--\r\nepilogue",
	part(`name=a`, "1") + "--b--",
	part(`name=a`, "1") + "--b",
	part(`name=a`, "1"), "", "--b--\r\n", "nothing", "--b\r\n\r\n--b--\r\n", "--b\n\nx\n--b--\n",
	part(`name=a`, "--b") + "--b--\r\n", part(`name=a`, "\r\n--bb\r\n") + "--b--\r\n",
	"--b\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--b--\r\n",
	"--b\r\nContent-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=41\r\n--b--\r\n",
	"--b\r\nno colon\r\n\r\nx\r\n--b--\r\n",
}

// A form has the fields and files that net/http finds in it, and is refused where
// net/http refuses it.
func TestMultipart(t *testing.T) {
	flares, https := formServers(t)
	for i, body := range formBodies {
		var said [2]string
		for i, addr := range []string{flares, https} {
			c := dialRaw(t, addr)
			c.send(head("POST / HTTP/1.1", "Content-Type: multipart/form-data; boundary=b", fmt.Sprintf("Content-Length: %d", len(body))), body)
			a := c.answer("POST")
			said[i] = fmt.Sprint(a.StatusCode, " ", a.body)
		}
		if said[0] != said[1] {
			t.Errorf("body %d: %.200q\n%s\nnet/http: %s", i, body, said[0], said[1])
		}
	}
}

func FuzzMultipart(f *testing.F) {
	for _, body := range formBodies {
		if len(body) < 1000 {
			f.Add([]byte(body))
		}
	}
	flares, https := formServers(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		var said [2]string
		for i, addr := range []string{flares, https} {
			resp, err := http.Post("http://"+addr, "multipart/form-data; boundary=b", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			p, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			said[i] = string(p)
		}
		if said[0] != said[1] {
			t.Errorf("%q: %s\nnet/http: %s", body, said[0], said[1])
		}
	})
}

// endlessForm repeats piece behind head, n times.
func endlessForm(head, piece string, n int, tail string) io.Reader {
	readers := []io.Reader{strings.NewReader(head)}
	for range n {
		readers = append(readers, strings.NewReader(piece))
	}
	return io.MultiReader(append(readers, strings.NewReader(tail))...)
}

// A form that would take much to hold is refused, however it goes about it.
func TestMultipartBombs(t *testing.T) {
	chunk := strings.Repeat("x", 1<<20)
	url := TestServer(t, &Server{Logger: quietLogger(), MaxBodyBytes: 64 << 20, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		_, err := r.Multipart()
		return err
	})})
	for name, test := range map[string]struct {
		body io.Reader
		code int
	}{
		"as many parts as there may be": {endlessForm("", part("name=a", ""), formPartsMax, "--b--\r\n"), 200},
		"too many parts":                {endlessForm("", part("name=a", ""), formPartsMax+1, "--b--\r\n"), 413},
		"too many files":                {endlessForm("", part("name=a; filename=b", "x"), formPartsMax+1, "--b--\r\n"), 413},
		"a large field":                 {endlessForm("--b\r\nContent-Disposition: form-data; name=a\r\n\r\n", chunk, 12, "\r\n--b--\r\n"), 413},
		"many fields":                   {endlessForm("", part("name=a", chunk), 12, "--b--\r\n"), 413},
		"a large name":                  {endlessForm("--b\r\nContent-Disposition: form-data; name=", chunk, 12, "\r\n\r\n\r\n--b--\r\n"), 413},
		"many fields of a part":         {endlessForm("--b\r\nContent-Disposition: form-data; name=a\r\n", "X: y\r\n", 20_000, "\r\n\r\n--b--\r\n"), 413},
		"a large file":                  {endlessForm("--b\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\n", chunk, 12, "\r\n--b--\r\n"), 200},
		"a larger file":                 {endlessForm("--b\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\n", chunk, 65, "\r\n--b--\r\n"), 413},
	} {
		resp, err := http.Post(url, "multipart/form-data; boundary=b", test.body)
		if err != nil {
			if test.code == 413 {
				continue // refused before all of it was sent
			}
			t.Fatalf("%s: %v", name, err)
		}
		if resp.Body.Close(); resp.StatusCode != test.code {
			t.Errorf("%s: status %d, want %d", name, resp.StatusCode, test.code)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

// Temporary files are there while the handler runs, and not longer, however it ends.
func TestMultipartFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	count := func() int {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	var late *Request
	handler := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		file, head, err := r.FormFile("f")
		if err != nil {
			return err
		}
		defer file.Close()
		if n := count(); n != 1 || head.Filename != "a.bin" || head.Size != formFileBytesMax+1 {
			t.Errorf("%d temporary files, %q, %d bytes", n, head.Filename, head.Size)
		}
		switch late = r; r.Path() {
		case "/error":
			return &StatusError{Code: 409}
		case "/panic":
			panic("a panic")
		case "/goexit":
			runtime.Goexit()
		}
		return nil
	})
	body := part(`name=f; filename="dir/a.bin"`, strings.Repeat("x", formFileBytesMax+1)) + "--b--\r\n"
	begin := func(addr, path, body string) *rawClient {
		c := dialRaw(t, addr)
		c.send(head("POST "+path+" HTTP/1.1", "Content-Type: multipart/form-data; boundary=b", fmt.Sprintf("Content-Length: %d", len(body))), body)
		return c
	}
	ask := func(addr, path, body string) answer { return begin(addr, path, body).answer("POST") }
	s := &Server{Logger: quietLogger(), Handler: handler}
	direct := startServer(t, s)
	carried := httptest.NewServer(ToHTTP(handler))
	defer carried.Close()
	for _, addr := range []string{direct, carried.Listener.Addr().String()} {
		for path, code := range map[string]int{"/": 200, "/error": 409, "/panic": 500} {
			if a := ask(addr, path, body); a.StatusCode != code {
				t.Errorf("%s: %d", path, a.StatusCode)
			}
			if n := count(); n != 0 {
				t.Errorf("%s: %d temporary files are left", path, n)
			}
			if _, err := late.Multipart(); err == nil {
				t.Errorf("%s: the form can be had behind the handler's end", path)
			}
		}
		if addr == direct { // the other's goroutine is net/http's
			_, err := io.Copy(io.Discard, begin(addr, "/goexit", body).br)
			if n := count(); n != 0 {
				t.Errorf("runtime.Goexit: %d temporary files are left, %v", n, err)
			}
		}
		if a := ask(addr, "/", part(`name=f; filename="dir/a.bin"`, strings.Repeat("x", formFileBytesMax+1))); a.StatusCode != 400 || count() != 0 {
			t.Errorf("a form without its end: %d, %d files", a.StatusCode, count())
		}
		if a := ask(addr, "/", part(`name=g; filename="a"`, "x")+"--b--\r\n"); a.StatusCode != 400 || a.body != "the form lacks a file\n" {
			t.Errorf("a form without the file: %d %q", a.StatusCode, a.body)
		}
	}
}

// Parts can be read while they come, without the end of the body.
func TestMultipartReader(t *testing.T) {
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		parts, err := r.MultipartReader()
		if err != nil {
			return err
		}
		for {
			part, err := parts.NextPart()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return &StatusError{Code: 400, Err: err}
			}
			p, err := io.ReadAll(part)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s %s %s\n", part.FormName(), part.FileName(), p)
			if err := w.Flush(); err != nil {
				return err
			}
		}
	})})
	c := dialRaw(t, addr)
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	c.send(head("POST / HTTP/1.1", "Content-Type: multipart/form-data; boundary=b", "Transfer-Encoding: chunked"), chunk(part("name=a", "1")+part("name=f; filename=x", "file")+"--b\r\n"))
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("a  1\nf x file\n"))
	if _, err := io.ReadFull(resp.Body, line); err != nil || string(line) != "a  1\nf x file\n" {
		t.Fatalf("%q, %v", line, err)
	}
	c.send(chunk("Content-Disposition: form-data; name=last\r\n\r\n2\r\n--b--\r\n"), "0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); string(rest) != "last  2\n" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	for kind, code := range map[string]int{"multipart/mixed; boundary=b": 200, "multipart/form-data": 400, "multipart/related; boundary=b": 415, "text/plain": 415} {
		c := dialRaw(t, addr)
		body := part("name=a", "1") + "--b--\r\n"
		c.send(head("POST / HTTP/1.1", "Content-Type: "+kind, fmt.Sprintf("Content-Length: %d", len(body))), body)
		if a := c.answer("POST"); a.StatusCode != code {
			t.Errorf("%s: %d", kind, a.StatusCode)
		}
	}
}
