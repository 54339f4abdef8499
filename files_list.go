package flare

import (
	"cmp"
	"html"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// This file is layer 5 (surface): folders as pages, for Files with List.

// list answers with the entries of a folder.
func (f *Files) list(w *ResponseWriter, r *Request, name string) error {
	x := r.lease.enterBody()
	if x == nil {
		return errRequestDone
	}
	x.workset().detach() // a disk can block
	r.lease.exit()
	entries, err := f.entries(name)
	if err != nil {
		return err
	}
	title := "/"
	if name != "." {
		title = "/" + name + "/"
	}
	var b strings.Builder
	b.WriteString("<!doctype html>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n<title>" +
		html.EscapeString(title) + "</title>\n<h1>" + html.EscapeString(title) + "</h1>\n<ul>\n")
	if name != "." {
		b.WriteString("<li><a href=\"../\">../</a>\n")
	}
	for _, e := range entries {
		text := e.Name()
		to := "./" + url.PathEscape(text) // "./" since a name may look like a scheme
		if e.IsDir() {
			text, to = text+"/", to+"/"
		}
		b.WriteString("<li><a href=\"" + html.EscapeString(to) + "\">" + html.EscapeString(text) + "</a>\n")
	}
	b.WriteString("</ul>\n")
	if h := w.Header(); !h.has("Cache-Control") {
		h.Set("Cache-Control", "no-cache")
	}
	return w.HTML(http.StatusOK, b.String())
}

// entries returns what is served of a folder, folders first.
func (f *Files) entries(name string) ([]fs.DirEntry, error) {
	in, err := f.opener(f.now())
	if err != nil {
		return nil, err
	}
	if !f.Symlinks {
		if err := noLinks(in, name); err != nil {
			return nil, err
		}
	}
	all, err := in.readDir(name)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(e fs.DirEntry) bool { return !f.isServed(e) })
	slices.SortFunc(all, func(a, b fs.DirEntry) int {
		if a.IsDir() != b.IsDir() {
			if a.IsDir() {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name(), b.Name())
	})
	return all, nil
}

// isServed reports whether requests may ask for an entry of a folder.
func (f *Files) isServed(e fs.DirEntry) bool {
	if !isFileName(e.Name()) || e.Name()[0] == '.' && !f.DotFiles {
		return false
	}
	switch e.Type() {
	case 0, fs.ModeDir:
		return true
	}
	return e.Type() == fs.ModeSymlink && f.Symlinks
}
