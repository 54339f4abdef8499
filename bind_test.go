package flare

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type bindPaging struct {
	Page int `query:"page" default:"1"`
}

type bindEverything struct {
	bindPaging
	ID     uint8       `path:"id"`
	Query  string      `query:"q,required"`
	Tags   []string    `query:"tag"`
	Ratio  *float64    `query:"ratio"`
	Flag   bool        `query:"flag"`
	Since  time.Time   `header:"X-Since"`
	From   *netip.Addr `header:"X-From"`
	Kept   string
	Title  string   `json:"title"`
	Years  []int    `json:"years"`
	hidden struct{} // is no matter of Bind's
}

func (b *bindEverything) Validate() error {
	switch b.Title {
	case "plain":
		return errors.New("the title is plain")
	case "fields":
		return FieldErrors{{"body", "title", "must be another"}}
	case "taken":
		return &StatusError{Code: 409, Message: "there is one"}
	}
	return nil
}

func TestBind(t *testing.T) {
	mux := NewMux()
	mux.Post("/all/{id}", func(w *ResponseWriter, r *Request) error {
		v, err := Bind[bindEverything](r)
		if err != nil {
			return err
		}
		ratio, from := 0.0, netip.Addr{}
		if v.Ratio != nil {
			ratio = *v.Ratio
		}
		if v.From != nil {
			from = *v.From
		}
		return w.Text(200, fmt.Sprintf("%d%s%d%v%v%v%d%v%s%s%v", v.ID, v.Query, v.Page, v.Tags, ratio, v.Flag, v.Since.Year(), from, v.Kept, v.Title, v.Years))
	})
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: mux, ErrorHandler: ProblemHandler})
	for _, row := range []struct {
		target, fields, body string
		code                 int
		want                 string // text, or the problem's detail and errors
	}{
		{"/all/7?q=x", "", `{"title":"t","years":[1,2]}`, 200, "7x1[]0false1invalid IPt[1 2]"},
		{"/all/255?q=x&page=3&tag=a&tag=b&ratio=0.5&flag=on", "X-Since: 2020-01-02T03:04:05Z|X-From: 10.0.0.1", `{}`, 200, "255x3[a b]0.5true202010.0.0.1[]"},
		{"/all/7?q=", "", `{}`, 200, "71[]0false1invalid IP[]"},
		{"/all/256?page=x", "", `{}`, 400, `query page: must be a whole number within its range; path id: must be a whole number within its range; query q: is required [{query page must be a whole number within its range} {path id must be a whole number within its range} {query q is required}]`},
		{"/all/7?q=x&ratio=NaN", "", `{}`, 400, "query ratio: must be a number [{query ratio must be a number}]"},
		{"/all/7?q=x&flag=maybe", "X-Since: yesterday", `{}`, 400, "query flag: must be true or false; header X-Since: is malformed [{query flag must be true or false} {header X-Since is malformed}]"},
		{"/all/7?q=x", "", `{"title":7}`, 400, "the body is not the JSON that was expected: title is a string []"},
		{"/all/7?q=x", "", `{"unknown":7}`, 400, "the body is not the JSON that was expected []"},
		{"/all/7?q=x", "", `{} {}`, 400, "the body is not the JSON that was expected []"},
		{"/all/7?q=x", "", ``, 400, "the body is not the JSON that was expected []"},
		{"/all/7?q=x", "", `{"Kept":"injected","ID":9,"Query":"injected"}`, 200, "7x1[]0false1invalid IP[]"},
		{"/all/7?q=x", "Content-Type: text/plain", `{}`, 415, " []"},
		{"/all/7?q=x", "Content-Type: application/merge-patch+json; charset=utf-8", `{}`, 200, "7x1[]0false1invalid IP[]"},
		{"/all/7?q=x", "", `{"title":"plain"}`, 422, "the title is plain []"},
		{"/all/7?q=x", "", `{"title":"fields"}`, 422, "body title: must be another [{body title must be another}]"},
		{"/all/7?q=x", "", `{"title":"taken"}`, 409, "there is one []"},
		{"/none", "", ``, 404, " []"},
	} {
		c := dialRaw(t, addr)
		fields := strings.Split(row.fields, "|")
		if row.fields == "" {
			fields = nil
		}
		if !strings.Contains(row.fields, "Content-Type") {
			fields = append(fields, "Content-Type: application/json")
		}
		c.send(head("POST "+row.target+" HTTP/1.1", append(fields, fmt.Sprintf("Content-Length: %d", len(row.body)))...), row.body)
		a := c.answer("POST")
		got := a.body
		if a.StatusCode >= 400 {
			var p problem
			if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != a.StatusCode || p.Title == "" || p.Type != "about:blank" ||
				a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s: %q, %v", row.target, a.body, err)
			}
			got = p.Detail + " " + fmt.Sprint([]FieldError(p.Errors))
		}
		if a.StatusCode != row.code || got != row.want {
			t.Errorf("%s %s %s: %d %s\nwant %d %s", row.target, row.fields, row.body, a.StatusCode, got, row.code, row.want)
		}
	}
}

func TestBindForms(t *testing.T) {
	type upload struct {
		Title string                `form:"title,required"`
		Count int                   `form:"count"`
		File  *multipart.FileHeader `form:"file"`
	}
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		v, err := Bind[upload](r)
		if err != nil {
			return err
		}
		name := "none"
		if v.File != nil {
			name = v.File.Filename
		}
		return w.Text(200, fmt.Sprint(v.Title, " ", v.Count, " ", name))
	})})
	for _, row := range []struct {
		kind, body string
		code       int
		want       string
	}{
		{"application/x-www-form-urlencoded", "title=a+b&count=2", 200, "a b 2 none"},
		{"application/x-www-form-urlencoded", "count=2", 400, "form title: is required\n"},
		{"application/x-www-form-urlencoded", "", 400, "form title: is required\n"},
		{"application/x-www-form-urlencoded", "title=%zz", 400, "the body is not a form\n"},
		{"multipart/form-data; boundary=b", part("name=title", "t") + part("name=count", "x") + "--b--\r\n", 400, "form count: must be a whole number within its range\n"},
		{"multipart/form-data; boundary=b", part("name=title", "t") + part("name=file; filename=a.png", "png") + "--b--\r\n", 200, "t 0 a.png"},
		{"application/json", `{"title":"t"}`, 415, "Unsupported Media Type\n"},
	} {
		c := dialRaw(t, addr)
		c.send(head("POST /?title=query HTTP/1.1", "Content-Type: "+row.kind, fmt.Sprintf("Content-Length: %d", len(row.body))), row.body)
		c.answer("POST").want(t, row.code, row.want)
	}
}

func TestTypedValues(t *testing.T) {
	mux := NewMux()
	mux.Get("/{n}", func(w *ResponseWriter, r *Request) error {
		n, err := r.PathInt("n")
		if err != nil {
			return err
		}
		page, err := r.QueryInt("page", 1)
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprint(n, page))
	})
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: mux})
	for target, want := range map[string]string{
		"/7": "7 1", "/-7?page=2&page=3": "-7 2", "/x": "path n: must be a whole number within its range\n",
		"/99999999999999999999": "path n: must be a whole number within its range\n", "/7?page=": "query page: must be a whole number within its range\n",
	} {
		if a := askFiles(t, addr, "GET", target); a.body != want {
			t.Errorf("%s: %d %q", target, a.StatusCode, a.body)
		}
	}
}

// A struct that cannot be bound is found at the first request, whatever that has.
func TestBindMistakes(t *testing.T) {
	type channel struct {
		C chan int `query:"c"`
	}
	type unexported struct {
		c int `query:"c"`
	}
	type unnamed struct {
		C int `query:""`
	}
	for name, bind := range map[string]func(r *Request) error{
		"no struct":  func(r *Request) error { _, err := Bind[int](r); return err },
		"a channel":  func(r *Request) error { _, err := Bind[channel](r); return err },
		"unexported": func(r *Request) error { v, err := Bind[unexported](r); _ = v.c; return err },
		"no name":    func(r *Request) error { _, err := Bind[unnamed](r); return err },
	} {
		c := TestClient(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if p := panics(func() { bind(r) }); p == nil {
				t.Errorf("%s: no panic", name)
			}
			return nil
		})})
		resp, err := c.Get("http://h/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
}
