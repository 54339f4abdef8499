package flare

import (
	"bytes"
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

// What the client sends is what net/http's server finds, with its length where it
// can be known, and again after a redirect.
func TestClientForm(t *testing.T) {
	https := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
			return
		}
		length := r.ContentLength
		err := r.ParseMultipartForm(1 << 20)
		fmt.Fprintf(w, "%d %v\n%s", length, r.TransferEncoding, formText(r.MultipartForm, err))
	}))
	defer https.Close()
	name := filepath.Join(t.TempDir(), "b.bin")
	if err := os.WriteFile(name, []byte("skipped of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	client := &Client{BaseURL: https.URL}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/", "/moved"} {
		for _, streams := range []bool{false, true} {
			file, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Seek(int64(len("skipped ")), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			form := new(ClientForm)
			form.Add("title", "one\r\ntwo")
			form.Add(`a "b`+"\r\n", "")
			form.AddFile("photo", "a.png", bytes.NewReader([]byte("png")))
			form.AddFile("file", `b "c.bin`, file)
			if streams {
				form.AddFile("stream", "s", io.MultiReader(strings.NewReader("streamed")))
			}
			resp, err := client.Post(context.Background(), path, form)
			if streams && path == "/moved" {
				if err == nil {
					resp.Body.Close()
					if resp.StatusCode != 307 {
						t.Errorf("a stream was sent twice: %d", resp.StatusCode)
					}
				}
				file.Close()
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := resp.Text()
			file.Close()
			first, rest, _ := strings.Cut(text, "\n")
			want := `field "a \"b\r\n" [""]` + "\n" + `field "title" ["one\r\ntwo"]` + "\n" +
				`file "file" "b \"c.bin" "application/octet-stream" 9 "of a file" 9 <nil>` + "\n" +
				`file "photo" "a.png" "image/png" 3 "png" 3 <nil>`
			if streams {
				want += "\n" + `file "stream" "s" "application/octet-stream" 8 "streamed" 8 <nil>`
			}
			want = strings.ReplaceAll(want, `"a \"b\r\n"`, `"a %22b%0D%0A"`)
			want = strings.ReplaceAll(want, `"b \"c.bin"`, `"b %22c.bin"`)
			if err != nil || rest != want || streams != (first == "-1 [chunked]") {
				t.Errorf("%s: %s\n%s\nwant\n%s, %v", path, first, rest, want, err)
			}
		}
	}
}

// A file that is shorter than it was fails the request.
func TestClientFormOfAShorterFile(t *testing.T) {
	https := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer https.Close()
	client := &Client{BaseURL: https.URL}
	defer client.CloseIdleConnections()
	file, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	file.WriteString("content")
	file.Seek(0, io.SeekStart)
	form := new(ClientForm)
	form.AddFile("f", "f", file)
	file.Truncate(3)
	if resp, err := client.Post(context.Background(), "/", form); err == nil {
		resp.Body.Close()
		t.Error("it was sent")
	}
}
