package flare

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The fields are there on every response, errors too, and a handler's own count.
func TestSecurityFields(t *testing.T) {
	const usual = "X-Content-Type-Options: nosniff|X-Frame-Options: SAMEORIGIN|Referrer-Policy: strict-origin-when-cross-origin|Cross-Origin-Opener-Policy: same-origin"
	for _, row := range []struct {
		name   string
		fields *SecurityFields
		path   string
		proto  string
		want   string
	}{
		{"zero value", &SecurityFields{}, "/", "", usual},
		{"error", &SecurityFields{}, "/nowhere", "", usual},
		{"the handler's own", &SecurityFields{}, "/own", "", strings.Replace(usual, "SAMEORIGIN", "DENY", 1)},
		{"without", &SecurityFields{FrameOptions: "-", ReferrerPolicy: "-", OpenerPolicy: "-"}, "/", "", "X-Content-Type-Options: nosniff"},
		{"all", &SecurityFields{ContentSecurityPolicy: "default-src 'self'", PermissionsPolicy: "camera=()", FrameOptions: "DENY", ReferrerPolicy: "no-referrer", OpenerPolicy: "unsafe-none", ResourcePolicy: "same-site"}, "/", "",
			"X-Content-Type-Options: nosniff|Content-Security-Policy: default-src 'self'|Permissions-Policy: camera=()|X-Frame-Options: DENY|Referrer-Policy: no-referrer|Cross-Origin-Opener-Policy: unsafe-none|Cross-Origin-Resource-Policy: same-site"},
		{"HSTS in the clear", &SecurityFields{HSTS: time.Hour}, "/", "http", usual},
		{"HSTS", &SecurityFields{HSTS: 365 * 24 * time.Hour}, "/", "https", usual + "|Strict-Transport-Security: max-age=31536000; includeSubDomains"},
	} {
		mux := NewMux()
		mux.Use(row.fields.Wrap)
		mux.Get("/{$}", func(w *ResponseWriter, r *Request) error { return w.Text(200, "") })
		mux.Get("/own", func(w *ResponseWriter, r *Request) error {
			w.Header().Set("X-Frame-Options", "DENY")
			return w.Text(200, "")
		})
		s := &Server{Handler: mux, Logger: quietLogger(), TrustedProxies: []string{"unix"}}
		resp := askCORS(t, TestClient(t, s), "GET", "http://h"+row.path, "X-Forwarded-Proto: "+row.proto)
		var got []string
		for _, name := range []string{"X-Content-Type-Options", "Content-Security-Policy", "Permissions-Policy", "X-Frame-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Strict-Transport-Security"} {
			for _, value := range resp.Header.Values(name) {
				got = append(got, name+": "+value)
			}
		}
		if text := strings.Join(got, "|"); text != row.want {
			t.Errorf("%s: %s, want %s", row.name, text, row.want)
		}
	}
}

// A request's name is the proxy's where that is trusted and it is a name, and is in
// the response, whatever that is, and in the log.
func TestRequestID(t *testing.T) {
	made := regexp.MustCompile(`^[0-9a-f]{32}$`)
	seen := map[string]bool{}
	for _, row := range []struct {
		trusted, given string
		kept           bool
	}{
		{"unix", "", false},
		{"unix", "abc-123", true},
		{"private", "abc-123", false},
		{"unix", strings.Repeat("x", 128), true},
		{"unix", strings.Repeat("x", 129), false},
		{"unix", "a b", false},
		{"unix", `a"b`, false},
	} {
		for _, path := range []string{"/", "/fails"} {
			var log logBook
			mux := NewMux()
			mux.Use(RequestID, RequestID)
			mux.Get("/{$}", func(w *ResponseWriter, r *Request) error { return w.Text(200, r.RequestID()+" "+r.Clone().RequestID()) })
			mux.Get("/fails", func(w *ResponseWriter, r *Request) error { return errors.New("x") })
			s := &Server{Handler: mux, Logger: log.logger(), TrustedProxies: []string{row.trusted}}
			fields := ""
			if row.given != "" {
				fields = "X-Request-Id: " + row.given
			}
			resp := askCORS(t, TestClient(t, s), "GET", "http://h"+path, fields)
			id := resp.Header.Get("X-Request-Id")
			switch {
			case row.kept && id != row.given:
				t.Errorf("%q is not kept: %q", row.given, id)
			case !row.kept && (!made.MatchString(id) || seen[id]):
				t.Errorf("%q becomes %q", row.given, id)
			}
			if seen[id] = true; path == "/fails" && !strings.Contains(log.String(), "request_id="+id) {
				t.Errorf("the log does not name the request %s: %s", id, log.String())
			}
		}
	}
	resp := askCORS(t, TestClient(t, &Server{TrustedProxies: []string{"unix"}, Handler: RequestID(HandlerFunc(describe))}), "GET", "http://h/", "X-Request-Id: a\nX-Request-Id: b")
	if id := resp.Header.Get("X-Request-Id"); !made.MatchString(id) {
		t.Errorf("of two names %q is taken", id)
	}
}

// A panic becomes an error at the middleware, with a report; an abort stays one.
func TestRecover(t *testing.T) {
	reports := make(chan string, 9)
	report := func(r *Request, value any, stack []byte) {
		if !strings.Contains(string(stack), "middleware_fields_test.go") {
			t.Errorf("the stack is %s", stack)
		}
		reports <- fmt.Sprint(r.Path(), " ", value)
	}
	statuses := make(chan int, 9)
	outer := func(h Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			err := h.Serve(w, r)
			statuses <- ErrorStatus(err)
			return err
		})
	}
	for name, mw := range map[string]Middleware{"report": Recover(report), "none": Recover(nil)} {
		mux := NewMux()
		mux.Use(outer, mw)
		mux.Get("/panic", func(w *ResponseWriter, r *Request) error { panic("secret") })
		mux.Get("/abort", func(w *ResponseWriter, r *Request) error { panic(http.ErrAbortHandler) })
		mux.Get("/fine", func(w *ResponseWriter, r *Request) error { return nil })
		s := &Server{Handler: mux, Logger: quietLogger()}
		addr := startServer(t, s)
		c := dialRaw(t, addr)
		c.get("/panic").want(t, 500, "Internal Server Error\n")
		c.get("/fine").want(t, 200, "")
		c.send("GET /abort HTTP/1.1\r\nHost: h\r\n\r\n")
		c.ended()
		for _, want := range []int{500, 0, 0} {
			if got := <-statuses; got != want {
				t.Errorf("%s: the middleware around sees %d, want %d", name, got, want)
			}
		}
		eventually(t, "a panic is counted", func() bool { return s.Stats().Handlers.Panics == 1 })
	}
	if got := <-reports; got != "/panic secret" || len(reports) != 0 {
		t.Errorf("reported %q and %d more", got, len(reports))
	}
}
