package flare

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestTestClient(t *testing.T) {
	mux := NewMux()
	mux.Post("/echo/{n}", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-N", r.PathValue("n"))
		_, err := io.Copy(w, r.Body())
		return err
	})
	mux.Get("/old", func(w *ResponseWriter, r *Request) error { return w.Redirect(302, "/new") })
	mux.Get("/new", func(w *ResponseWriter, r *Request) error { return w.Text(200, "new at "+r.Host()) })
	mux.Get("/panic", func(w *ResponseWriter, r *Request) error { panic("x") })
	mux.Get("/abort", func(w *ResponseWriter, r *Request) error {
		w.Flush()
		return io.ErrClosedPipe
	})
	client := TestClient(mux)

	big := bytes.Repeat([]byte("x"), 300_000)
	for _, body := range []io.Reader{bytes.NewReader(big), io.MultiReader(bytes.NewReader(big))} {
		resp, err := client.Post("http://anything/echo/7", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, big) || resp.Header.Get("X-N") != "7" {
			t.Errorf("%d bytes, %v, X-N %q", len(got), err, resp.Header.Get("X-N"))
		}
	}
	for path, want := range map[string]string{"/old": "200 new at anything", "/panic": "500 Internal Server Error\n", "/none": "404 Not Found\n"} {
		resp, err := client.Get("http://anything" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if got := strings.Fields(resp.Status)[0] + " " + string(body); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	resp, err := client.Get("http://anything/abort")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("an aborted response looks whole")
	}
}

func TestTestServer(t *testing.T) {
	url := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "ok") })})
	if status, body := get(t, url+"/"); status != http.StatusOK || body != "ok" {
		t.Errorf("%d %q", status, body)
	}
	http.DefaultClient.CloseIdleConnections()
}
