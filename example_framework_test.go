package flare_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"flare"
)

// What handlers, and what stands around them, have beside requests and responses. As
// in example_production_test.go, these examples serve in memory.

// A gateway: what comes for /api goes to another server.
func ExampleReverseProxy() {
	t := new(exampleT)
	defer t.end()
	behind := flare.TestServer(t, &flare.Server{Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, r.Path()+" for "+r.Header().Get("X-Forwarded-Host"))
	})})
	mux := flare.NewMux()
	mux.Mount("/api", &flare.ReverseProxy{
		Upstreams: []string{behind},
		Rewrite: func(in *flare.Request, out *flare.ClientRequest) error {
			out.URL = strings.TrimPrefix(out.URL, "/api")
			return nil
		},
	})
	_, body := serveExample(&flare.Server{Handler: mux}, "GET", "http://example.com/api/books")
	fmt.Println(body)
	// Output:
	// /books for example.com
}

func ExampleETag() {
	mux := flare.NewMux()
	mux.Get("/news", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, "nothing new") }, flare.ETag)
	s := func() *flare.Server { return &flare.Server{Handler: mux} }
	first, body := serveExample(s(), "GET", "http://h/news")
	second, _ := serveExample(s(), "GET", "http://h/news", "If-None-Match", first.Header.Get("ETag"))
	fmt.Println(first.StatusCode, body)
	fmt.Println(second.StatusCode)
	// Output:
	// 200 nothing new
	// 304
}

func ExampleResponseWriter_Precondition() {
	mux := flare.NewMux()
	mux.Put("/page", func(w *flare.ResponseWriter, r *flare.Request) error {
		if ok, err := w.Precondition(`"v2"`, time.Time{}); !ok {
			return err
		}
		return w.Text(200, "changed")
	})
	late, _ := serveExample(&flare.Server{Handler: mux}, "PUT", "http://h/page", "If-Match", `"v1"`)
	_, body := serveExample(&flare.Server{Handler: mux}, "PUT", "http://h/page", "If-Match", `"v2"`)
	fmt.Println(late.StatusCode, body)
	// Output:
	// 412 changed
}

func ExampleResponseWriter_ServeContent() {
	mux := flare.NewMux()
	mux.Get("/report.csv", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.ServeContent("report.csv", time.Time{}, strings.NewReader("a,b\n1,2\n"))
	})
	resp, body := serveExample(&flare.Server{Handler: mux}, "GET", "http://h/report.csv", "Range", "bytes=4-6")
	fmt.Println(resp.StatusCode, resp.Header.Get("Content-Range"), body)
	// Output:
	// 206 bytes 4-6/8 1,2
}

func ExampleTimeout() {
	mux := flare.NewMux()
	mux.Get("/slow", func(w *flare.ResponseWriter, r *flare.Request) error {
		ctx := r.Context()
		<-ctx.Done() // as what asks a database with it does
		return ctx.Err()
	}, flare.Timeout(10*time.Millisecond))
	resp, _ := serveExample(&flare.Server{Handler: mux, Logger: slog.New(slog.DiscardHandler)}, "GET", "http://h/slow")
	fmt.Println(resp.StatusCode)
	// Output:
	// 504
}

func ExampleLimiter() {
	reports := &flare.Limiter{Max: 4} // at once; more wait for a while, or are refused
	mux := flare.NewMux()
	mux.Get("/report", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, "done") }, reports.Wrap)
	_, body := serveExample(&flare.Server{Handler: mux}, "GET", "http://h/report")
	fmt.Println(body)
	// Output:
	// done
}

func ExampleMaxBody() {
	t := new(exampleT)
	defer t.end()
	mux := flare.NewMux()
	mux.Post("/notes", func(w *flare.ResponseWriter, r *flare.Request) error {
		text, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(201, fmt.Sprint(len(text), " bytes"))
	}, flare.MaxBody(10))
	client := flare.TestClient(t, &flare.Server{Handler: mux})
	for _, note := range []string{"milk", "milk, bread and butter"} {
		resp, err := client.Post("http://h/notes", "text/plain", strings.NewReader(note))
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode)
	}
	// Output:
	// 201
	// 413
}

// What a body may not be: of another type, with fields that the struct has not, or with
// anything behind the value.
func ExampleRequest_StrictJSON() {
	t := new(exampleT)
	defer t.end()
	client := flare.TestClient(t, &flare.Server{Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		var book struct {
			Title string `json:"title"`
		}
		if err := r.StrictJSON(&book); err != nil {
			return err
		}
		return w.Text(200, book.Title)
	})})
	for _, b := range []struct{ kind, text string }{
		{"application/json", `{"title": "Dune"}`},
		{"application/json", `{"titel": "Dune"}`},
		{"text/plain", `{"title": "Dune"}`},
	} {
		resp, err := client.Post("http://h/", b.kind, strings.NewReader(b.text))
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.StatusCode)
	}
	// Output:
	// 200
	// 400
	// 415
}

func ExampleCompress() {
	mux := flare.NewMux()
	mux.Use(flare.Compress)
	mux.Get("/poem", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, strings.Repeat("a rose is a rose is ", 100))
	})
	s := func() *flare.Server { return &flare.Server{Handler: mux} }
	plain, body := serveExample(s(), "GET", "http://h/poem", "Accept-Encoding", "identity")
	fmt.Println(plain.Header.Get("Content-Encoding") == "", len(body))
	packed, body := serveExample(s(), "GET", "http://h/poem", "Accept-Encoding", "gzip")
	fmt.Println(packed.Header.Get("Content-Encoding"), len(body) < 200)
	// Output:
	// true 2000
	// gzip true
}

// A download that asks for the rest when the connection breaks. The file appears when all
// of it is there.
func ExampleClient_SaveFile() {
	t := new(exampleT)
	defer t.end()
	url := flare.TestServer(t, &flare.Server{Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		w.Header().Set("ETag", `"v1"`)
		return w.ServeContent("report.csv", time.Time{}, strings.NewReader("a,b\n1,2\n"))
	})})
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	client := new(flare.Client)
	defer client.CloseIdleConnections()
	name := filepath.Join(dir, "report.csv")
	n, err := client.SaveFile(context.Background(), url, name)
	fmt.Println(n, err)
	text, err := os.ReadFile(name)
	fmt.Printf("%q %v\n", text, err)
	// Output:
	// 8 <nil>
	// "a,b\n1,2\n" <nil>
}

func ExampleRequestID() {
	mux := flare.NewMux()
	mux.Use(flare.RequestID)
	mux.Get("/", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, r.RequestID()) })
	s := &flare.Server{Handler: mux, TrustedProxies: []string{"unix"}} // the example's peer has no address
	resp, body := serveExample(s, "GET", "http://h/", "X-Request-Id", "from-the-proxy")
	fmt.Println(body, resp.Header.Get("X-Request-Id"))
	// Output:
	// from-the-proxy from-the-proxy
}

func ExampleRecover() {
	mux := flare.NewMux()
	mux.Use(flare.Recover(func(r *flare.Request, value any, stack []byte) { fmt.Println("report:", value) }))
	mux.Get("/", func(w *flare.ResponseWriter, r *flare.Request) error { panic("of a handler") })
	resp, _ := serveExample(&flare.Server{Handler: mux, Logger: slog.New(slog.DiscardHandler)}, "GET", "http://h/")
	fmt.Println(resp.StatusCode)
	// Output:
	// report: of a handler
	// 500
}

func ExampleProblemHandler() {
	mux := flare.NewMux()
	mux.Get("/books/{id}", func(w *flare.ResponseWriter, r *flare.Request) error {
		id, err := r.PathInt("id")
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprint("book ", id))
	})
	s := &flare.Server{Handler: mux, ErrorHandler: flare.ProblemHandler}
	resp, body := serveExample(s, "GET", "http://h/books/seven")
	fmt.Println(resp.Header.Get("Content-Type"))
	fmt.Println(body)
	// Output:
	// application/problem+json
	// {"type":"about:blank","title":"Bad Request","status":400,"detail":"path id: must be a whole number within its range","errors":[{"in":"path","field":"id","rule":"must be a whole number within its range"}]}
}

func ExampleHealthHandler() {
	database := func(context.Context) error { return errors.New("no connection") }
	s := new(flare.Server)
	mux := flare.NewMux()
	mux.Handle("GET /readyz", flare.HealthHandler(s, database))
	s.Handler, s.Logger = mux, slog.New(slog.DiscardHandler)
	resp, _ := serveExample(s, "GET", "http://h/readyz")
	fmt.Println(resp.StatusCode)
	// Output:
	// 503
}

func ExampleMux_Routes() {
	mux := flare.NewMux()
	books := mux.Group("/books")
	show := func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, "") }
	books.Get("/{id}", show)
	books.Post("/", show)
	for _, pattern := range mux.Routes() {
		fmt.Println(pattern)
	}
	// Output:
	// GET /books/{id}
	// POST /books/
}

// A form with a file, as Multipart has it and a ClientForm sends it.
func ExampleRequest_Multipart() {
	t := new(exampleT)
	defer t.end()
	url := flare.TestServer(t, &flare.Server{Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		form, err := r.Multipart()
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprint(form.Value["title"], sizes(form.File["photo"])))
	})})
	form := new(flare.ClientForm)
	form.Add("title", "Engine")
	form.AddFile("photo", "engine.jpg", strings.NewReader("pixels"))
	client := new(flare.Client)
	defer client.CloseIdleConnections()
	resp, err := client.Post(context.Background(), url, form)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := resp.Text()
	fmt.Println(text, err)
	// Output:
	// [Engine] [6] <nil>
}

func sizes(files []*multipart.FileHeader) (n []int64) {
	for _, f := range files {
		n = append(n, f.Size)
	}
	return n
}

func ExampleResponseWriter_EventStream() {
	mux := flare.NewMux()
	mux.Get("/count", func(w *flare.ResponseWriter, r *flare.Request) error {
		events, err := w.EventStream()
		if err != nil {
			return err
		}
		for i := range 2 {
			if err := events.Send(flare.ServerSentEvent{ID: fmt.Sprint(i), Data: "tick"}); err != nil {
				return nil // the client has left
			}
		}
		return nil
	})
	_, body := serveExample(&flare.Server{Handler: mux}, "GET", "http://h/count")
	fmt.Print(body)
	// Output:
	// id: 0
	// data: tick
	//
	// id: 1
	// data: tick
}

// A form that is read while it comes, part by part.
func ExampleRequest_MultipartReader() {
	t := new(exampleT)
	defer t.end()
	client := flare.TestClient(t, &flare.Server{Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		parts, err := r.MultipartReader()
		if err != nil {
			return err
		}
		for {
			part, err := parts.NextPart()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, part)
			if err != nil {
				return err
			}
			fmt.Fprintln(w, part.FormName(), n)
		}
	})})
	body := "--x\r\nContent-Disposition: form-data; name=\"log\"\r\n\r\na line\r\n--x--\r\n"
	resp, err := client.Post("http://h/", "multipart/form-data; boundary=x", strings.NewReader(body))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Print(http.StatusText(resp.StatusCode), ": ", string(text))
	// Output:
	// OK: log 6
}
