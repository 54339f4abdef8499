package flare

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzProblem holds that whatever a client sends to be bound, and whatever a handler
// says of it, the answer is a value, or problem details that are JSON and have the
// status of the response.
func FuzzProblem(f *testing.F) {
	type values struct {
		Count int      `query:"n"`
		Name  string   `query:"name,required"`
		Tags  []string `json:"tags"`
	}
	f.Add("n=1&name=a", `{"tags":["x"]}`, "")
	f.Add("n=999999999999999999999&name=%ff&n=2", `{"tags":{}}`, "taken")
	f.Add("name=a&n=", "{}", "\xff<\u2028>\r\n")
	f.Add("name=%zz&;", "{}x", "")
	var said string
	feeder := newFeeder(f, &Server{Logger: quietLogger(), ErrorHandler: ProblemHandler, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		v, err := Bind[values](r)
		switch {
		case err != nil:
			return err
		case said != "":
			return &StatusError{Code: 409, Message: said, Err: FieldErrors{{In: "query", Field: said, Rule: v.Name}}}
		}
		return w.JSON(200, v)
	})})
	f.Fuzz(func(t *testing.T, query, body, message string) {
		feeder.t = t
		said = message
		if len(query) > 4000 || strings.ContainsFunc(query, func(r rune) bool { return r <= ' ' || r == '#' || r == 0x7f }) {
			t.Skip("no query that could arrive")
		}
		request := head("POST /?"+query+" HTTP/1.1", "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(body))) + body
		answers := parseAnswers(t, feeder.run(feed{pieces: []string{request}}).out, "POST")
		if len(answers) != 1 {
			t.Fatalf("%q: %d answers", request, len(answers))
		}
		a := answers[0]
		if a.StatusCode == http.StatusOK {
			if !json.Valid([]byte(a.body)) {
				t.Errorf("%q: %q", request, a.body)
			}
			return
		}
		var p problem
		if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != a.StatusCode || p.Title != http.StatusText(p.Status) ||
			p.Type != "about:blank" || a.Header.Get("Content-Type") != "application/problem+json" || a.StatusCode >= 500 {
			t.Errorf("%q: %d %q, %v", request, a.StatusCode, a.body, err)
		}
		if said != "" && a.StatusCode == http.StatusConflict && utf8.ValidString(said) && (p.Detail != said || len(p.Errors) != 1 || p.Errors[0].Field != said) {
			t.Errorf("%q became %+v", said, p)
		}
	})
}
