package flare

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// This file has what must not depend on how often, or in which order, a handler
// asks a request for something or answers it.

// The body of a request is read once, and is there for whoever asks again.
func TestBodyIsKept(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	form := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		for range 3 {
			values, err := r.Form()
			if err != nil {
				return err
			}
			if got := fmt.Sprint(values["a"], values["b"], len(values.Get("long"))); got != "[query body] [two] 100000" {
				t.Errorf("Form: %s", got)
			}
			values.Set("a", "changed") // is the caller's
		}
		p, err := r.Bytes()
		if !strings.HasPrefix(string(p), "a=body&") {
			t.Errorf("Bytes behind Form: %.20q", p)
		}
		return err
	})
	json := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		for range 2 {
			p, err := r.Bytes()
			if err != nil || string(p) != `{"n": 7}` {
				t.Errorf("Bytes: %q, %v", p, err)
			}
			var v struct{ N int }
			if err := r.JSON(&v); err != nil || v.N != 7 {
				t.Errorf("JSON: %v, %v", v, err)
			}
			if rest, err := io.ReadAll(r.Body()); len(rest) > 0 || err != nil {
				t.Errorf("Body: %q, %v", rest, err)
			}
		}
		return nil
	})
	empty := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		for range 2 {
			if p, err := r.Bytes(); len(p) > 0 || err != nil {
				t.Errorf("a body that there is not: %q, %v", p, err)
			}
		}
		return nil
	})
	s := &Server{Logger: quietLogger(), Handler: routes{"/form": form, "/json": json, "/empty": empty}}
	c := dialRaw(t, startServer(t, s))
	const formType = "Content-Type: Application/x-www-form-urlencoded ; charset=utf-8"
	body := "a=body&b=two&long=" + long
	for range 2 { // the second meets what the first has left behind
		c.send(head("POST /form?a=query HTTP/1.1", formType, fmt.Sprintf("Content-Length: %d", len(body))), body)
		c.answer("POST").want(t, 200, "")
		c.send(head("POST /form?a=query HTTP/1.1", formType, "Transfer-Encoding: chunked"), fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body))
		c.answer("POST").want(t, 200, "")
		c.send(head("POST /json HTTP/1.1", "Content-Length: 8", "Content-Type: text/plain"), `{"n": 7}`)
		c.answer("POST").want(t, 200, "")
		c.send(request("/empty"))
		c.answer("GET").want(t, 200, "")
	}
}

// Form refuses a body that it does not read: what it gave would look like a form
// without values.
func TestFormOfAnotherType(t *testing.T) {
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		values, err := r.Form()
		if err != nil {
			return err
		}
		return w.Text(200, values.Encode())
	})}
	addr := startServer(t, s)
	for _, row := range []struct {
		fields, body string
		code         int
		want         string
	}{
		{"Content-Type: multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--\r\n", 200, "a=x&q=1"},
		{"Content-Type: multipart/form-data", "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--b--\r\n", 400, "the body is not a form\n"},
		{"Content-Type: application/json", `{}`, 415, "Unsupported Media Type\n"},
		{"Content-Type: application/x-www-form-urlencoded2", `a=1`, 415, "Unsupported Media Type\n"},
		{"X: y", `a=1`, 415, "Unsupported Media Type\n"},
		{"Content-Type: application/x-www-form-urlencoded", `a=1`, 200, "a=1&q=1"},
		{"Content-Type: application/x-www-form-urlencoded", `a=%zz`, 400, "the body is not a form\n"},
		{"Content-Type: multipart/form-data; boundary=b", "", 200, "q=1"},
		{"X: y", "", 200, "q=1"},
	} {
		c := dialRaw(t, addr)
		c.send(head("POST /?q=1 HTTP/1.1", row.fields, fmt.Sprintf("Content-Length: %d", len(row.body))), row.body)
		c.answer("POST").want(t, row.code, row.want)
	}
}

// A request has one answer. The second is an error that the handler sees, and
// nothing of it gets into the first.
func TestSecondAnswer(t *testing.T) {
	answers := map[string]func(w *ResponseWriter) error{
		"Text":     func(w *ResponseWriter) error { return w.Text(500, "second") },
		"HTML":     func(w *ResponseWriter) error { return w.HTML(500, "second") },
		"Blob":     func(w *ResponseWriter) error { return w.Blob(500, "x/y", []byte("second")) },
		"JSON":     func(w *ResponseWriter) error { return w.JSON(500, "second") },
		"Redirect": func(w *ResponseWriter) error { return w.Redirect(302, "/second") },
		"SendFile": func(w *ResponseWriter) error { return w.SendFile("go.mod") },
		"EventStream": func(w *ResponseWriter) error {
			s, err := w.EventStream()
			if (s == nil) == (err == nil) {
				t.Error("a stream beside an error")
			}
			return err
		},
	}
	for name, again := range answers {
		for _, begun := range []bool{false, true} {
			s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
				if err := w.Text(200, "first"); err != nil {
					return err
				}
				if begun {
					if err := w.Flush(); err != nil {
						return err
					}
				}
				if err := again(w); err == nil {
					t.Errorf("%s, begun %v: no error", name, begun)
				}
				return nil
			})}
			a := dialRaw(t, startServer(t, s)).get("/")
			a.want(t, 200, "first")
			if a.Header.Get("Content-Type") != "text/plain; charset=utf-8" || a.Header.Get("Location") != "" || a.Header.Get("Accept-Ranges") != "" {
				t.Errorf("%s: %v", name, a.Header)
			}
		}
		// Behind a head that said 200 and nothing of a type.
		s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if err := w.Flush(); err != nil {
				return err
			}
			if err := again(w); err == nil {
				t.Errorf("%s behind the head: no error", name)
			}
			return nil
		})}
		dialRaw(t, startServer(t, s)).get("/").want(t, 200, "")
	}
	// What changes nothing is no second answer, and an error has an answer of its own.
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/behind": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString("a")
			w.Flush()
			return w.Text(200, "b")
		}),
		"/error": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Text(200, "first")
			return errors.New("for the log")
		}),
	}, ErrorHandler: func(w *ResponseWriter, r *Request, err error) {
		if err := w.JSON(500, "sorry"); err != nil {
			t.Error(err)
		}
	}}
	c := dialRaw(t, startServer(t, s))
	c.get("/behind").want(t, 200, "ab")
	c.get("/error").want(t, 500, `"sorry"`)
}

// Nothing, written to a response without a body, is no error.
func TestEmptyWriteWithoutBody(t *testing.T) {
	pass := Middleware(func(h Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.OnCommit(func(_ int, _ *Header, next io.WriteCloser) io.WriteCloser { return next })
			return h.Serve(w, r)
		})
	})
	for name, mw := range map[string]Middleware{"plain": nil, "hooked": pass, "compressed": Compress} {
		for _, code := range []int{204, 304} {
			h := Handler(HandlerFunc(func(w *ResponseWriter, r *Request) error {
				if err := w.Text(code, ""); err != nil {
					return err
				}
				if _, err := w.Write(nil); err != nil {
					return err
				}
				if _, err := io.Copy(w, strings.NewReader("")); err != nil {
					return err
				}
				if err := w.Flush(); err != nil {
					return err
				}
				_, err := w.WriteString("")
				return err
			}))
			if mw != nil {
				h = mw(h)
			}
			a := dialRaw(t, startServer(t, &Server{Logger: quietLogger(), Handler: h})).get("/")
			if a.want(t, code, ""); a.Header.Get("Content-Type") != "" {
				t.Errorf("%s: %v", name, a.Header)
			}
		}
	}
}

// Whatever a request's context is, it has the values of SetValue, those that
// were set before it was asked for, and keeps them.
func TestContextHasValues(t *testing.T) {
	type key int
	done := make(chan struct{})
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if v := r.Context().Value(key(1)); v != nil {
			t.Errorf("of another request: %v", v)
		}
		plain := r.Context()
		r.SetValue(key(1), "one")
		first := r.Context()
		if first != r.Context() {
			t.Error("a context is made anew for each call")
		}
		ctx, cancel := context.WithCancel(context.WithValue(first, key(2), "two"))
		r.SetContext(ctx)
		r.SetValue(key(3), "three")
		r.SetValue(key(1), "more")
		last := r.Context()
		go func() { // any goroutine may use a context, behind the handler's end as well
			defer close(done)
			<-last.Done()
			for i, want := range map[key]any{1: "more", 2: "two", 3: "three", 4: nil} {
				if got := last.Value(i); got != want {
					t.Errorf("value %d: %v, want %v", i, got, want)
				}
			}
			if plain.Value(key(1)) != nil || first.Value(key(1)) != "one" || first.Value(key(3)) != nil {
				t.Errorf("a context has changed: %v, %v", first.Value(key(1)), first.Value(key(3)))
			}
		}()
		for i := key(1); i < 4; i++ {
			if r.Value(i) != r.Context().Value(i) {
				t.Errorf("Value(%d) is %v, and %v of the context", i, r.Value(i), r.Context().Value(i))
			}
		}
		if got := r.Clone().Context().Value(key(3)); got != "three" {
			t.Errorf("of a clone: %v", got)
		}
		r.SetContext(context.WithoutCancel(ctx))
		if r.Context().Value(key(3)) != "three" {
			t.Error("SetContext loses a value")
		}
		err := FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
			if got := hr.Context().Value(key(3)); got != "three" {
				t.Errorf("of an http.Request: %v", got)
			}
		})).Serve(w, r)
		cancel()
		<-done
		return err
	})
	dialRaw(t, startServer(t, &Server{Logger: quietLogger(), Handler: h})).get("/").want(t, 200, "")
}

// A nestedJSON is encoded in a call of JSON's, and sends or fails in it.
type nestedJSON struct {
	text string
	err  error
}

func (n nestedJSON) MarshalJSON() ([]byte, error) {
	inner, err := json.Marshal(n.text)
	return inner, cmp.Or(n.err, err)
}

// What JSON sends is what json.Marshal makes, whatever was sent with the same room
// before, and nothing of it once encoding has failed.
func TestJSONRoom(t *testing.T) {
	broken := errors.New("broken")
	large := strings.Repeat("<&>", 2*jsonKeptBytes)
	values := []any{large, "short", []int{}, nil, map[string]any{"a": nestedJSON{"b", nil}}, nestedJSON{"", broken}, "after a failure", math.Inf(1), 7}
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		i, err := r.QueryInt("i", 0)
		if err != nil {
			return err
		}
		return w.JSON(200, values[i])
	})}
	c := dialRaw(t, startServer(t, s))
	for range 2 {
		for i, v := range values {
			a := c.get("/?i=" + strconv.Itoa(i))
			want, err := json.Marshal(v)
			if err != nil {
				if a.StatusCode != 500 {
					t.Errorf("value %d: status %d of %v", i, a.StatusCode, err)
				}
				continue
			}
			a.want(t, 200, string(want))
		}
	}
}
