package flare

import (
	"fmt"
	"slices"
	"testing"
)

// Routes has what Request.Pattern says of a request that each route takes.
func TestRoutes(t *testing.T) {
	seen := ""
	note := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		seen = r.Pattern()
		return nil
	})
	inner := NewMux()
	inner.Get("/{$}", note)
	inner.Get("/users/{id}", note)
	deep := NewMux()
	deep.Handle("/x/{rest...}", note)
	inner.Mount("/deep", deep)
	mux := NewMux()
	mux.Handle("example.com/host", note)
	mux.Get("/a", note)
	mux.Post("/a", note)
	mux.Group("/g").Get("/b", note)
	mux.Mount("/api", inner)
	mux.Mount("/files", note)
	mux.Mount("host.example/mounted", deep)
	want := []string{
		"example.com/host", "GET /a", "POST /a", "GET /g/b", "GET /api/{$}", "GET /api/users/{id}", "/api/deep/x/{rest...}",
		"/files/", "host.example/mounted/x/{rest...}",
	}
	if got := mux.Routes(); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	requests := []string{
		"GET example.com /host", "GET h /a", "POST h /a", "GET h /g/b", "GET h /api/", "GET h /api/users/7", "PUT h /api/deep/x/y/z",
		"GET h /files/z", "GET host.example /mounted/x/y",
	}
	for i, request := range requests {
		var method, host, path string
		fmt.Sscan(request, &method, &host, &path)
		seen = ""
		if serveMux(mux, newMuxRequest(method, host, path)); seen != want[i] {
			t.Errorf("%s: pattern %q, listed is %q", request, seen, want[i])
		}
	}
	deep.Mount("/loop", inner) // where it is mounted itself
	if got := mux.Routes(); len(got) > 2*len(want) {
		t.Errorf("a mux in itself: %q", got)
	}
	if got := NewMux().Routes(); len(got) != 0 {
		t.Errorf("an empty mux: %q", got)
	}
}
