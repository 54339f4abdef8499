package flare

import (
	"html/template"
	"os"
	"path/filepath"
	"testing"
	texttemplate "text/template"
)

func TestRender(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "page.html"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("<p>{{.Name}}{{if .Fail}}{{.Fail.None}}{{end}}")
	parse := func() (*template.Template, error) { return template.ParseGlob(filepath.Join(dir, "*.html")) }
	fixed, reloading := Templates(template.Must(parse())), ReloadTemplates(parse)
	text := texttemplate.Must(texttemplate.New("robots.txt").Parse("Disallow: /{{.Name}}"))
	type page struct {
		Name string
		Fail any
	}
	mux := NewMux()
	mux.Get("/fixed", func(w *ResponseWriter, r *Request) error { return w.Render(200, fixed, "page.html", page{Name: "a<b"}) })
	mux.Get("/reloading", func(w *ResponseWriter, r *Request) error {
		return w.Render(404, reloading, "page.html", page{Name: "a<b"})
	})
	mux.Get("/fails", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-Set", "kept")
		return w.Render(200, fixed, "page.html", page{Name: "half", Fail: 1})
	})
	mux.Get("/none", func(w *ResponseWriter, r *Request) error { return w.Render(200, fixed, "none.html", nil) })
	mux.Get("/text", func(w *ResponseWriter, r *Request) error { return w.Render(200, text, "robots.txt", page{Name: "a<b"}) })
	mux.Get("/typed", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Type", "application/xhtml+xml")
		return w.Render(200, fixed, "page.html", page{Name: "x"})
	})
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: mux})
	for _, row := range []struct {
		path, kind string
		code       int
		body       string
	}{
		{"/fixed", "text/html; charset=utf-8", 200, "<p>a&lt;b"},
		{"/reloading", "text/html; charset=utf-8", 404, "<p>a&lt;b"},
		{"/fails", "text/plain; charset=utf-8", 500, "Internal Server Error\n"},
		{"/none", "text/plain; charset=utf-8", 500, "Internal Server Error\n"},
		{"/text", "text/plain; charset=utf-8", 200, "Disallow: /a<b"},
		{"/typed", "application/xhtml+xml", 200, "<p>x"},
	} {
		a := askFiles(t, addr, "GET", row.path)
		if a.StatusCode != row.code || a.body != row.body || a.Header.Get("Content-Type") != row.kind {
			t.Errorf("%s: %d %q %q", row.path, a.StatusCode, a.Header.Get("Content-Type"), a.body)
		}
	}
	write("<b>{{.Name}}")
	askFiles(t, addr, "GET", "/fixed").want(t, 200, "<p>a&lt;b")
	askFiles(t, addr, "GET", "/reloading").want(t, 404, "<b>a&lt;b")
	write("{{")
	askFiles(t, addr, "GET", "/reloading").want(t, 500, "Internal Server Error\n")
}
