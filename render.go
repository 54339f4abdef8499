package flare

import (
	"bytes"
	"io"
	"path"
)

// This file is layer 5 (surface): pages from templates. It knows html/template and
// text/template by the one method that it needs, since programs that use neither need
// not contain them.

// Templates are what Render takes: a *template.Template of html/template, or of
// text/template where nothing has to be escaped.
type Templates interface {
	ExecuteTemplate(w io.Writer, name string, data any) error
}

// Render answers with the template of that name. The page is made in memory first: a
// template that fails is the error that Render returns, for a 500, and never half a
// page. The type is that of the name's extension, HTML without one that is known,
// unless Content-Type is set.
func (w *ResponseWriter) Render(code int, t Templates, name string, data any) error {
	var page bytes.Buffer
	if err := t.ExecuteTemplate(&page, name, data); err != nil { // the user's code, outside of the lease
		return err
	}
	kind := w.Header().Get("Content-Type")
	if kind == "" {
		kind = webTypes[path.Ext(name)]
	}
	if kind == "" {
		kind = webTypes[".html"]
	}
	return w.Blob(code, kind, page.Bytes())
}

// ReloadTemplates parses templates anew for each page, with what their files have
// become, for development:
//
//	parse := func() (*template.Template, error) { return template.ParseGlob("pages/*.html") }
//	var pages flare.Templates = template.Must(parse())
//	if *dev {
//		pages = flare.ReloadTemplates(parse)
//	}
func ReloadTemplates[T Templates](parse func() (T, error)) Templates { return reloaded[T](parse) }

type reloaded[T Templates] func() (T, error)

func (parse reloaded[T]) ExecuteTemplate(w io.Writer, name string, data any) error {
	t, err := parse()
	if err != nil {
		return err
	}
	return t.ExecuteTemplate(w, name, data)
}
