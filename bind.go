package flare

import (
	"mime/multipart"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"sync"
)

// This file is layer 5 (surface): requests as structs, Bind, and values of paths and
// queries by their types. bind_value.go turns texts into values, problem.go tells the
// client what was wrong.

// Bind makes a T, a struct, of a request. Each field is taken from where its tag
// says:
//
//	type search struct {
//		Shelf int       `path:"shelf"`
//		Query string    `query:"q,required"`
//		Page  int       `query:"page" default:"1"`
//		Since time.Time `header:"X-Since"`
//		Title string    `form:"title"` // a form of either kind; *multipart.FileHeader for a file
//		Tags  []string  `json:"tags"`  // the body, by StrictJSON
//	}
//
// Fields have the kinds string, bool, int, uint and float of any size, are
// encoding.TextUnmarshalers, or pointers to these, nil where there is no value, or
// slices of them, for all values of that name. A value that is not there leaves the
// zero value or the default, unless it is required. Fields of embedded structs count
// as the struct's own, and a field without any of these tags stays as it is: the body
// sets only those with json.
//
// What is wrong comes back as a *StatusError: 400 that is FieldErrors for all fields
// that are wrong; what the body's reader says of it, 413 and 415 among that; and 422
// for what a method Validate() error of T or *T returns, which the client is shown.
// A T that cannot be bound is a mistake, and Bind panics.
func Bind[T any](r *Request) (T, error) {
	var v T
	err := bindTo(r, reflect.ValueOf(&v).Elem())
	if err == nil {
		err = validate(&v)
	}
	return v, err
}

// A FieldError says which value of a request is wrong, and how.
type FieldError struct {
	In    string `json:"in"`    // "path", "query", "header", "form" or "body"
	Field string `json:"field"` // its name there, as the handler has it
	Rule  string `json:"rule"`  // what it has to be, such as "must be a whole number"
}

// FieldErrors are all that is wrong with a request. A Validate method may return them
// too.
type FieldErrors []FieldError

func (e FieldErrors) Error() string {
	var b strings.Builder
	for i, f := range e {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(strings.TrimSpace(f.In+" "+f.Field) + ": " + f.Rule)
	}
	return b.String()
}

// refusal is the answer to e.
func (e FieldErrors) refusal(code int) *StatusError {
	return &StatusError{Code: code, Message: e.Error(), Err: e}
}

// validate calls v's method Validate, if it has one.
func validate(v any) error {
	validator, ok := v.(interface{ Validate() error })
	if !ok {
		return nil
	}
	switch err := validator.Validate().(type) {
	case nil:
		return nil
	case *StatusError:
		return err
	case FieldErrors:
		return err.refusal(http.StatusUnprocessableEntity)
	default:
		return &StatusError{Code: http.StatusUnprocessableEntity, Message: err.Error(), Err: err}
	}
}

// A boundField is a field of a struct and where it comes from.
type boundField struct {
	index    []int
	in, name string
	required bool
	fallback string // text in place of no value
	set      valueSetter
}

// boundTypes has the fields of structs that were bound, by reflect.Type.
var boundTypes sync.Map

// boundFields returns the fields of a struct that are bound.
func boundFields(t reflect.Type) []boundField {
	if fields, ok := boundTypes.Load(t); ok {
		return fields.([]boundField)
	}
	if t.Kind() != reflect.Struct {
		panic("flare: Bind of " + t.String() + ", which is no struct")
	}
	var fields []boundField
	for _, f := range reflect.VisibleFields(t) {
		if len(f.Index) > 1 && throughPointer(t, f.Index) {
			continue
		}
		for _, in := range [...]string{"path", "query", "header", "form", "json"} {
			tag, tagged := f.Tag.Lookup(in)
			name, options, _ := strings.Cut(tag, ",")
			switch {
			case !tagged || name == "-":
				continue
			case !f.IsExported() || name == "" && in != "json":
				panic("flare: Bind of " + t.String() + ": field " + f.Name + " is not exported or has no name")
			}
			b := boundField{index: f.Index, in: in, name: name, required: options == "required", fallback: f.Tag.Get("default")}
			if in != "json" && f.Type != fileHeaderType {
				if b.set = setterOf(f.Type); b.set == nil {
					panic("flare: Bind of " + t.String() + ": field " + f.Name + " is a " + f.Type.String())
				}
			}
			fields = append(fields, b)
		}
	}
	boundTypes.Store(t, fields)
	return fields
}

var fileHeaderType = reflect.TypeFor[*multipart.FileHeader]()

// throughPointer reports whether a field is in an embedded pointer, which may be nil.
func throughPointer(t reflect.Type, index []int) bool {
	for _, i := range index[:len(index)-1] {
		if t = t.Field(i).Type; t.Kind() == reflect.Pointer {
			return true
		}
	}
	return false
}

// A boundSource has the values of a request, read when they are asked for.
type boundSource struct {
	r     *Request
	query url.Values
	form  url.Values
	files map[string][]*multipart.FileHeader
	read  bool // the form
}

func bindTo(r *Request, v reflect.Value) error {
	fields := boundFields(v.Type())
	if err := bindBody(r, v, fields); err != nil {
		return err
	}
	var wrong FieldErrors
	source := boundSource{r: r}
	for i := range fields {
		f := &fields[i]
		if f.in == "json" {
			continue
		}
		if f.in == "form" {
			if err := source.readForm(); err != nil {
				return err
			}
		}
		if rule := source.bind(f, v.FieldByIndex(f.index)); rule != "" {
			wrong = append(wrong, FieldError{f.in, f.name, rule})
		}
	}
	if wrong != nil {
		return wrong.refusal(http.StatusBadRequest)
	}
	return nil
}

// bindBody reads the fields that are the body's. The body says nothing of others,
// even if it has members of their names.
func bindBody(r *Request, v reflect.Value, fields []boundField) error {
	var body reflect.Value
	for i := range fields {
		if fields[i].in != "json" {
			continue
		}
		if !body.IsValid() {
			body = reflect.New(v.Type())
			if err := r.StrictJSON(body.Interface()); err != nil {
				return err
			}
		}
		v.FieldByIndex(fields[i].index).Set(body.Elem().FieldByIndex(fields[i].index))
	}
	return nil
}

func (s *boundSource) readForm() error {
	if s.read {
		return nil
	}
	s.read = true
	kind, _, there, err := s.r.mediaType()
	switch {
	case err != nil || !there:
		return err
	case kind == typeMultipart:
		form, err := s.r.Multipart()
		if err != nil {
			return err
		}
		s.form, s.files = form.Value, form.File
		return nil
	}
	s.form, err = s.r.formValues()
	return err
}

// bind sets a field, and returns the rule that its value breaks.
func (s *boundSource) bind(f *boundField, v reflect.Value) (rule string) {
	if v.Type() == fileHeaderType {
		if files := s.files[f.name]; len(files) > 0 {
			v.Set(reflect.ValueOf(files[0]))
		} else if f.required {
			return "is required"
		}
		return ""
	}
	texts := s.texts(f)
	switch {
	case len(texts) > 0:
	case f.required:
		return "is required"
	case f.fallback != "":
		texts = []string{f.fallback}
	default:
		return ""
	}
	return f.set(v, texts)
}

func (s *boundSource) texts(f *boundField) []string {
	switch f.in {
	case "path":
		if text := s.r.PathValue(f.name); text != "" {
			return []string{text}
		}
		return nil
	case "query":
		if s.query == nil {
			s.query = s.r.Query()
		}
		return s.query[f.name]
	case "header":
		return s.r.Header().Values(f.name)
	}
	return s.form[f.name]
}

// PathInt returns what the pattern's wildcard of that name matched, as a number. What
// is none is a *StatusError with status 400 that is FieldErrors.
func (r *Request) PathInt(name string) (int, error) {
	return intOf("path", name, r.PathValue(name))
}

// QueryInt returns the first value of that name in the query, as a number, or
// otherwise where there is none. What is no number is an error as PathInt's.
func (r *Request) QueryInt(name string, otherwise int) (int, error) {
	values := r.Query()[name]
	if len(values) == 0 {
		return otherwise, nil
	}
	return intOf("query", name, values[0])
}

func intOf(in, name, text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, FieldErrors{{in, name, ruleInt}}.refusal(http.StatusBadRequest)
	}
	return n, nil
}
