package flare

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A handler of flare's answers through net/http's server, by HTTP/1.1 and
// HTTP/2 alike.
func TestToHTTP(t *testing.T) {
	mux := NewMux()
	mux.Get("/hello/{name}", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-Proto", r.Proto())
		w.Header().Set("X-Pattern", r.Pattern())
		return w.Text(200, "hello, "+r.PathValue("name"))
	})
	mux.Post("/echo", func(w *ResponseWriter, r *Request) error {
		_, err := io.Copy(w, r.Body())
		w.Trailer().Set("X-Sum", "42")
		return err
	})
	mux.Get("/panic", func(*ResponseWriter, *Request) error { panic("on purpose") })
	srv := httptest.NewUnstartedServer(&Server{Handler: mux, Logger: quietLogger()})
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	client := srv.Client()
	resp, err := client.Get(srv.URL + "/hello/ada")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	t.Log(resp, string(text))
	resp, err = client.Post(srv.URL+"/echo", "text/plain", strings.NewReader(strings.Repeat("x", 200_000)))
	if err != nil {
		t.Fatal(err)
	}
	text, err = io.ReadAll(resp.Body)
	resp.Body.Close()
	t.Log(resp, len(text), err, resp.Trailer)
	for _, path := range []string{"/panic", "/none", "/echo", "/../x"} {
		resp, err = client.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		t.Log(resp, string(text), err)
	}
	_ = http.StatusOK
}
