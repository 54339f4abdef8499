package flare

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A bounded is the same handler for flare and for net/http, and what a client sees of
// it behind Timeout and http.TimeoutHandler.
type bounded struct {
	name   string
	ours   func(w *ResponseWriter, r *Request, told chan<- string) error
	theirs func(w http.ResponseWriter, r *http.Request, told chan<- string)
	late   bool
	want   string
}

var boundedHandlers = []bounded{
	{"quick", func(w *ResponseWriter, r *Request, told chan<- string) error {
		w.Header().Set("X-Inner", "1")
		return w.Text(201, "quick")
	}, func(w http.ResponseWriter, r *http.Request, told chan<- string) {
		w.Header().Set("X-Inner", "1")
		w.WriteHeader(201)
		io.WriteString(w, "quick")
	}, false, `201 "quick" X-Inner=1`},
	{"nothing", func(w *ResponseWriter, r *Request, told chan<- string) error { return nil },
		func(w http.ResponseWriter, r *http.Request, told chan<- string) {}, false, `200 "" X-Inner=`},
	{"a refusal", func(w *ResponseWriter, r *Request, told chan<- string) error {
		return &StatusError{Code: 404, Message: "no"}
	}, func(w http.ResponseWriter, r *http.Request, told chan<- string) { http.Error(w, "no", 404) }, false, `404 "no\n" X-Inner=`},
	{"a body", func(w *ResponseWriter, r *Request, told chan<- string) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, string(p))
	}, func(w http.ResponseWriter, r *http.Request, told chan<- string) { io.Copy(w, r.Body) }, false, `200 "sent" X-Inner=`},
	{"a deadline", func(w *ResponseWriter, r *Request, told chan<- string) error {
		_, ok := r.Context().Deadline()
		return w.Text(200, fmt.Sprint(ok))
	}, func(w http.ResponseWriter, r *http.Request, told chan<- string) {
		_, ok := r.Context().Deadline()
		fmt.Fprint(w, ok)
	}, false, `200 "true" X-Inner=`},
	{"a panic that aborts", func(*ResponseWriter, *Request, chan<- string) error { panic(http.ErrAbortHandler) },
		func(http.ResponseWriter, *http.Request, chan<- string) { panic(http.ErrAbortHandler) }, false, "no answer"},
	{"one that looks at its context", func(w *ResponseWriter, r *Request, told chan<- string) error {
		w.Header().Set("X-Inner", "1")
		io.WriteString(w, "held back")
		ctx := r.Context() // once: the request ends with its time
		<-ctx.Done()
		told <- fmt.Sprint(ctx.Err())
		return nil
	}, func(w http.ResponseWriter, r *http.Request, told chan<- string) {
		w.Header().Set("X-Inner", "1")
		io.WriteString(w, "held back")
		ctx := r.Context() // once: the request ends with its time
		<-ctx.Done()
		told <- fmt.Sprint(ctx.Err())
	}, true, `late X-Inner=, told context deadline exceeded`},
	{"one that writes on", func(w *ResponseWriter, r *Request, told chan<- string) error {
		w.Header().Set("X-Inner", "1")
		told <- writesOn(w)
		return nil
	}, func(w http.ResponseWriter, r *http.Request, told chan<- string) {
		w.Header().Set("X-Inner", "1")
		told <- writesOn(w)
	}, true, `late X-Inner=, told it fails`},
}

// writesOn writes until that fails.
func writesOn(w io.Writer) string {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := io.WriteString(w, "."); err != nil {
			return "it fails"
		}
	}
	return "it never fails"
}

// Timeout is http.TimeoutHandler in all that a client sees: answers of handlers that are
// in time, nothing of what others had set and written, a context that ends, and late
// writes that fail. The status of what took too long is 504 here, and 503 there.
func TestTimeoutBesideNetHTTP(t *testing.T) {
	t.Parallel()
	for _, row := range boundedHandlers {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			limit := patience
			if row.late {
				limit = 20 * time.Millisecond
			}
			ask := func(url string, late int, told <-chan string) string {
				resp, err := http.Post(url, "text/plain", strings.NewReader("sent"))
				if err != nil {
					return "no answer"
				}
				defer resp.Body.Close()
				p, err := io.ReadAll(resp.Body)
				switch {
				case err != nil:
					return "no answer"
				case !row.late:
					return fmt.Sprintf("%d %q X-Inner=%s", resp.StatusCode, p, resp.Header.Get("X-Inner"))
				case resp.StatusCode != late || strings.Contains(string(p), "held") || strings.Contains(string(p), "."):
					return fmt.Sprintf("%d %q", resp.StatusCode, p)
				}
				return fmt.Sprintf("late X-Inner=%s, told %s", resp.Header.Get("X-Inner"), <-told)
			}
			told := make(chan string, 2)
			s := httptest.NewUnstartedServer(http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { row.theirs(w, r, told) }), limit, "too late"))
			s.Config.ErrorLog = clientNoLog()
			s.Start()
			defer s.Close()
			theirs := ask(s.URL, 503, told)
			h := Timeout(limit)(HandlerFunc(func(w *ResponseWriter, r *Request) error { return row.ours(w, r, told) }))
			ours := ask("http://"+startServer(t, &Server{Handler: h, Logger: quietLogger()}), 504, told)
			if theirs != row.want || ours != row.want {
				t.Errorf("net/http %s, flare %s, want %s", theirs, ours, row.want)
			}
		})
	}
}

// A handler of net/http's has an http.TimeoutHandler of its own.
func TestTimeoutOfNetHTTP(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	h := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-release }), time.Millisecond, "too late")
	resp, err := TestClient(t, &Server{Handler: FromHTTP(h)}).Get("http://h/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 {
		t.Errorf("status %d", resp.StatusCode)
	}
}
