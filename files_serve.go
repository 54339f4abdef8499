package flare

import (
	"net/http"
	"path"
	"strings"
)

// This file is layer 5 (surface): how Files answers a request: with a file, its
// folder, a page in its place, or a refusal. How a file's content becomes an answer
// is handler_content.go's.

// Serve answers with the file that the request's path names.
func (f *Files) Serve(w *ResponseWriter, r *Request) error {
	if method := r.Method(); method != http.MethodGet && method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return &StatusError{Code: http.StatusMethodNotAllowed}
	}
	raw, err := r.rest()
	if err != nil {
		return err
	}
	name, isFolder, ok := fileName(raw, f.DotFiles)
	if !ok {
		return &StatusError{Code: http.StatusNotFound}
	}
	file := name
	if isFolder {
		file = path.Join(name, f.index())
	}
	err = f.serveFile(w, r, file)
	if err == errIsFolder && !isFolder {
		return w.Redirect(http.StatusTemporaryRedirect, r.withSlash())
	}
	if err = fileError(err); isFolder && f.List && isMissing(err) {
		err = fileError(f.list(w, r, name))
	}
	if f.Fallback != "" && isMissing(err) && wantsPage(r, name) {
		addVary(w.Header(), "Accept")
		err = fileError(f.serveFile(w, r, f.Fallback))
	}
	return err
}

// isMissing reports whether err is a 404.
func isMissing(err error) bool {
	status, ok := err.(*StatusError)
	return ok && status.Code == http.StatusNotFound
}

// wantsPage reports whether a request for what is not there is one for a page of
// an application that runs in the browser: not a script, a style or an image.
func wantsPage(r *Request, name string) bool {
	if path.Ext(name) == "" {
		return true
	}
	for _, accept := range r.Header().Values("Accept") {
		if strings.Contains(accept, "text/html") { // as browsers say when they go to a page
			return true
		}
	}
	return false
}

// serveFile answers with the file of that name, in the coding that suits r best.
func (f *Files) serveFile(w *ResponseWriter, r *Request, name string) error {
	s, v, err := f.acquire(r, name)
	if err != nil {
		return err
	}
	defer f.release(s)
	h := w.Header()
	if s.kind != "" && !h.has("Content-Type") {
		h.Set("Content-Type", s.kind)
	}
	if v.etag != "" && !h.has("ETag") {
		h.Set("ETag", v.etag)
	}
	if s.cacheControl != "" && !h.has("Cache-Control") {
		h.Set("Cache-Control", s.cacheControl)
	}
	if len(s.variants) > 1 {
		addVary(h, "Accept-Encoding")
	}
	if v.coding != "" {
		h.Set("Content-Encoding", v.coding)
	}
	c := v.content
	return w.sendContent(&c)
}
