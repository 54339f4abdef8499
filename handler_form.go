package flare

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

// This file is layer 4 (roles): bodies of requests by what their type says: forms,
// urlencoded and multipart with fields and files, kept or read part by part, and JSON.

// formFileBytesMax is how much of the files of a form is held in memory. What is
// more is in temporary files until the handler has returned. Fields, their names and
// the heads of parts may take formFieldBytes beside it, and there may be
// formPartsMax parts: these two are package mime/multipart's.
const (
	formFileBytesMax = 1 << 20
	formFieldBytes   = 10 << 20
	formPartsMax     = 1000
)

const (
	typeForm      = "application/x-www-form-urlencoded"
	typeMultipart = "multipart/form-data"
)

// mediaType returns the type of the body, in lower case without parameters, and
// those; "" for none and for what is malformed. there: the request has a body.
func (r *Request) mediaType() (kind string, parameters map[string]string, there bool, err error) {
	x := r.lease.enterBody()
	if x == nil {
		return "", nil, false, errBodyDone
	}
	defer r.lease.exit()
	kind, parameters, malformed := mime.ParseMediaType(x.r.Header().Get("Content-Type"))
	if malformed != nil {
		kind, parameters = "", nil
	}
	return kind, parameters, x.r.body.there, nil
}

// Form returns the query's values and, behind them, those of a body of type
// application/x-www-form-urlencoded or the fields of one of multipart/form-data,
// in a new map. A body of another type is a *StatusError with status 415, and one
// that does not parse is one with 400.
func (r *Request) Form() (url.Values, error) {
	kind, _, there, err := r.mediaType()
	if err != nil {
		return nil, err
	}
	values, body := r.Query(), url.Values(nil)
	switch {
	case !there:
	case kind == typeMultipart:
		form, err := r.Multipart()
		if err != nil {
			return nil, err
		}
		body = form.Value
	default:
		if body, err = r.formValues(); err != nil {
			return nil, err
		}
	}
	for name, v := range body {
		values[name] = append(values[name], v...)
	}
	return values, nil
}

// formValues are the values of a body of type application/x-www-form-urlencoded.
func (r *Request) formValues() (url.Values, error) {
	kind, _, _, err := r.mediaType()
	switch {
	case err != nil:
		return nil, err
	case kind != typeForm:
		return nil, &StatusError{Code: http.StatusUnsupportedMediaType}
	}
	p, err := r.Bytes()
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(string(p))
	if err != nil {
		return nil, &StatusError{Code: http.StatusBadRequest, Message: "the body is not a form", Err: err}
	}
	return values, nil
}

// Multipart reads a body of type multipart/form-data to its end and returns its
// fields and files, the same ones when it is called again. Up to 1 MiB of files is
// held in memory; the rest is in temporary files, in os.TempDir, that are removed
// when the handler returns: one who wants to keep a file copies or moves it before.
//
// A body of another type is a *StatusError with status 415, one that is malformed
// one with 400, and one over MaxBodyBytes, with more than 1,000 parts or with more
// than 10 MiB of fields one with 413. FileHeader.Filename is what the client says,
// without a path: do not make a name of your system from it.
func (r *Request) Multipart() (*multipart.Form, error) {
	x := r.lease.enterBody()
	if x == nil {
		return nil, errBodyDone
	}
	read := x.r.form
	if read == nil {
		x.workset().detach() // a disk can block
	}
	r.lease.exit()
	if read != nil {
		return read.form, read.err
	}
	read = new(requestForm)
	read.form, read.err = r.readMultipart()
	if x = r.lease.enterBody(); x == nil {
		read.remove() // the handler has returned meanwhile
		return nil, errBodyDone
	}
	defer r.lease.exit()
	x.r.form = read
	return read.form, read.err
}

func (r *Request) readMultipart() (*multipart.Form, error) {
	if kind, _, _, err := r.mediaType(); err != nil {
		return nil, err
	} else if kind != typeMultipart {
		return nil, &StatusError{Code: http.StatusUnsupportedMediaType}
	}
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, err
	}
	form, err := parts.ReadForm(formFileBytesMax)
	if err == nil {
		_, err = io.Copy(io.Discard, r.formBody()) // what is behind the last boundary has no meaning (RFC 2046 §5.1.1)
	}
	if err != nil {
		(&requestForm{form: form}).remove()
		return nil, formError(err)
	}
	return form, nil
}

// MultipartReader returns what reads a body of a multipart type part by part, for
// one that is too large to keep: NextPart, then the part's FormName, FileName and
// Read. It reads on while the client sends, and what it returns ends with the
// handler. Errors of the body are those of Body; all that NextPart says itself means
// that the body is malformed. A body of another type is a *StatusError with status
// 415, and one whose type lacks its boundary is one with 400.
func (r *Request) MultipartReader() (*multipart.Reader, error) {
	switch kind, parameters, _, err := r.mediaType(); {
	case err != nil:
		return nil, err
	case kind != typeMultipart && kind != "multipart/mixed":
		return nil, &StatusError{Code: http.StatusUnsupportedMediaType}
	case parameters["boundary"] == "":
		return nil, formError(http.ErrMissingBoundary)
	default:
		return multipart.NewReader(r.formBody(), parameters["boundary"]), nil
	}
}

// StrictJSON is JSON for a body whose type is said to be JSON (415 otherwise), and
// without members that v has no field for.
func (r *Request) StrictJSON(v any) error {
	p, err := r.Bytes()
	if err != nil {
		return err
	}
	kind, _, _, err := r.mediaType()
	switch {
	case err != nil:
		return err
	case kind != "application/json" && !strings.HasSuffix(kind, "+json"):
		return &StatusError{Code: http.StatusUnsupportedMediaType}
	}
	d := json.NewDecoder(bytes.NewReader(p))
	d.DisallowUnknownFields()
	if err = d.Decode(v); err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errTrailingJSON
		}
	}
	if err != nil {
		return jsonError(err)
	}
	return nil
}

// formBody is the body, also when Bytes has read it.
func (r *Request) formBody() io.Reader {
	if x := r.lease.enterBody(); x != nil {
		kept := x.r.kept
		r.lease.exit()
		if kept != nil {
			return bytes.NewReader(kept)
		}
	}
	return r.Body()
}

// FormFile returns the first file of that name in a form of type
// multipart/form-data, which Multipart reads, and what is said of it. Closing the
// file is the caller's. Without one it is a *StatusError with status 400 that is
// http.ErrMissingFile.
func (r *Request) FormFile(name string) (multipart.File, *multipart.FileHeader, error) {
	form, err := r.Multipart()
	if err != nil {
		return nil, nil, err
	}
	if len(form.File[name]) == 0 {
		return nil, nil, &StatusError{Code: http.StatusBadRequest, Message: "the form lacks a file", Err: http.ErrMissingFile}
	}
	head := form.File[name][0]
	file, err := head.Open()
	return file, head, err
}

// formError is the answer to what mime/multipart makes of a body. Errors of the
// body itself are answers already, and errors of a disk are none.
func formError(err error) error {
	var status *StatusError
	var disk *fs.PathError
	switch {
	case errors.As(err, &status), errors.Is(err, http.ErrBodyReadAfterClose), errors.As(err, &disk):
		return err
	case errors.Is(err, multipart.ErrMessageTooLarge):
		return &StatusError{Code: http.StatusRequestEntityTooLarge, Err: err}
	}
	return &StatusError{Code: http.StatusBadRequest, Message: "the body is not a form", Err: err}
}
