package flare

import (
	"fmt"
	"strings"
	"testing"
)

func TestETag(t *testing.T) {
	mux := NewMux()
	mux.Get("/small", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Cache-Control", "max-age=1")
		return w.Text(200, "small")
	})
	mux.Get("/own", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("ETag", `W/"v1"`)
		w.Header().Set("Last-Modified", "Thu, 02 Jan 2020 03:04:05 GMT")
		return w.Text(200, "own")
	})
	mux.Get("/created", func(w *ResponseWriter, r *Request) error { return w.Text(201, "created") })
	mux.Get("/large", func(w *ResponseWriter, r *Request) error {
		return w.Text(200, strings.Repeat("x", responseBufferMax+1))
	})
	mux.Get("/flushed", func(w *ResponseWriter, r *Request) error {
		w.WriteString("flushed")
		return w.Flush()
	})
	mux.Get("/fails", func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 409} })
	mux.Post("/small", func(w *ResponseWriter, r *Request) error { return w.Text(200, "small") })
	plain := startServer(t, &Server{Logger: quietLogger(), Handler: ETag(mux)})
	inside := startServer(t, &Server{Logger: quietLogger(), Handler: (&Compressor{MinBytes: -1}).Wrap(ETag(mux))})
	outside := startServer(t, &Server{Logger: quietLogger(), Handler: ETag((&Compressor{MinBytes: -1}).Wrap(mux))})

	small := askFiles(t, plain, "GET", "/small").Header.Get("ETag")
	if len(small) != 22 || small == askFiles(t, plain, "GET", "/own").Header.Get("ETag") {
		t.Fatalf("ETag %q", small)
	}
	for _, row := range []struct {
		method, path, fields string
		code                 int
		etag, body           string
	}{
		{"GET", "/small", "", 200, small, "small"},
		{"HEAD", "/small", "", 200, small, ""},
		{"GET", "/small", "If-None-Match: " + small, 304, small, ""},
		{"GET", "/small", "If-None-Match: W/" + small, 304, small, ""},
		{"HEAD", "/small", "If-None-Match: *", 304, small, ""},
		{"GET", "/small", `If-None-Match: "other"`, 200, small, "small"},
		{"GET", "/small", `If-Match: "other"`, 412, "", "Precondition Failed\n"},
		{"GET", "/small", "If-Match: " + small, 200, small, "small"},
		{"GET", "/small", "Range: bytes=0-1", 200, small, "small"},
		{"GET", "/own", `If-None-Match: "v1"`, 304, `W/"v1"`, ""},
		{"GET", "/own", `If-Match: W/"v1"`, 412, "", "Precondition Failed\n"},
		{"GET", "/own", "If-Modified-Since: Thu, 02 Jan 2020 03:04:05 GMT", 304, `W/"v1"`, ""},
		{"GET", "/created", "If-None-Match: *", 201, "", "created"},
		{"GET", "/flushed", "If-None-Match: *", 200, "", "flushed"},
		{"GET", "/large", "If-None-Match: *", 200, "", strings.Repeat("x", responseBufferMax+1)},
		{"GET", "/fails", "If-None-Match: *", 409, "", "Conflict\n"},
		{"POST", "/small", "If-None-Match: *", 200, "", "small"},
	} {
		fields := []string{"Content-Length: 0"}
		if row.fields != "" {
			fields = append(fields, row.fields)
		}
		for name, addr := range map[string]string{"plain": plain, "inside Compress": inside, "outside Compress": outside} {
			a := askFiles(t, addr, row.method, row.path, fields...)
			want := row.etag
			if strings.Contains(row.fields, "W/"+small) && name != "plain" {
				want = "W/" + small // the one that the client has
			}
			if a.StatusCode != row.code || a.body != row.body || a.Header.Get("ETag") != want {
				t.Errorf("%s: %s %s %s: %d %q %.20q", name, row.method, row.path, row.fields, a.StatusCode, a.Header.Get("ETag"), a.body)
			}
			if a.StatusCode == 304 && a.Header.Get("Content-Type") != "" {
				t.Errorf("%s: %v", name, a.Header)
			}
		}
	}
	for name, addr := range map[string]string{"inside Compress": inside, "outside Compress": outside} {
		a := askFiles(t, addr, "GET", "/small", "Accept-Encoding: gzip")
		if got := a.Header.Get("ETag"); got != "W/"+small || a.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: ETag %s, %v", name, got, a.Header)
		}
		if a := askFiles(t, addr, "GET", "/small", "Accept-Encoding: gzip", "If-None-Match: W/"+small); a.StatusCode != 304 || a.Header.Get("ETag") != "W/"+small {
			t.Errorf("%s: %d %v", name, a.StatusCode, a.Header)
		}
	}
}

// A change is made only to what the client knows.
func TestPrecondition(t *testing.T) {
	version := 1
	addr := startServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if ok, err := w.Precondition(fmt.Sprintf(`"v%d"`, version), conditionTime); !ok {
			return err
		}
		if r.Method() == "PUT" {
			version++
			w.Header().Set("ETag", fmt.Sprintf(`"v%d"`, version))
		}
		return w.Text(200, fmt.Sprint(version))
	})})
	for _, row := range []struct {
		method, field string
		code          int
		etag, body    string
	}{
		{"GET", "X: y", 200, `"v1"`, "1"},
		{"GET", `If-None-Match: "v1"`, 304, `"v1"`, ""},
		{"PUT", `If-Match: "v0"`, 412, "", "Precondition Failed\n"},
		{"PUT", `If-Match: "v1"`, 200, `"v2"`, "2"},
		{"PUT", `If-Match: "v1"`, 412, "", "Precondition Failed\n"},
		{"PUT", "If-None-Match: *", 412, "", "Precondition Failed\n"},
		{"PUT", "If-Unmodified-Since: Thu, 02 Jan 2020 03:04:04 GMT", 412, "", "Precondition Failed\n"},
		{"GET", "If-Modified-Since: Thu, 02 Jan 2020 03:04:05 GMT", 304, `"v2"`, ""},
	} {
		a := askFiles(t, addr, row.method, "/", row.field, "Content-Length: 0")
		if a.StatusCode != row.code || a.body != row.body || a.Header.Get("ETag") != row.etag {
			t.Errorf("%s %s: %d %q %q", row.method, row.field, a.StatusCode, a.body, a.Header.Get("ETag"))
		}
	}
}
