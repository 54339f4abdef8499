// Api is examples/api in net/http and chi: the same routes, rules, refusals and page,
// written with what these have.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

//go:embed page
var page embed.FS

const booksMax = 1000

type book struct {
	ID    int    `json:"id"`
	Title string `json:"title"`
	Year  int    `json:"year"`
	Cover bool   `json:"cover"`

	version int
	image   []byte
}

func (b *book) etag() string { return fmt.Sprintf(`"%d-%d"`, b.ID, b.version) }

type change struct {
	Title string `json:"title"`
	Year  int    `json:"year"`
}

// A fieldError says what is wrong with a field.
type fieldError struct {
	In    string `json:"in"`
	Field string `json:"field"`
	Rule  string `json:"rule"`
}

// A problem is an error as RFC 9457 has it.
type problem struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail,omitempty"`
	Errors []fieldError `json:"errors,omitempty"`
}

func (p *problem) Error() string { return p.Detail }

func newProblem(status int, detail string, fields ...fieldError) error {
	return &problem{"about:blank", http.StatusText(status), status, detail, fields}
}

// A handler returns an error instead of answering.
type handler func(w http.ResponseWriter, r *http.Request) error

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h(w, r)
	if err == nil {
		return
	}
	var p *problem
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &large):
		errors.As(newProblem(http.StatusRequestEntityTooLarge, ""), &p)
	default:
		slog.Error("handler failed", "method", r.Method, "path", r.URL.Path, "error", err)
		errors.As(newProblem(http.StatusInternalServerError, ""), &p)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(p)
	return nil
}

// readChange reads a body strictly: one value, of that type, without other members.
func readChange(w http.ResponseWriter, r *http.Request) (c change, err error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return c, newProblem(http.StatusUnsupportedMediaType, "the body is not JSON")
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10))
	dec.DisallowUnknownFields()
	if err = dec.Decode(&c); err == nil {
		if _, err = dec.Token(); err == io.EOF {
			err = nil
		} else if err == nil {
			err = errors.New("more than one value")
		}
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return c, err
	case err != nil:
		return c, newProblem(http.StatusBadRequest, "the body is not the JSON that was expected")
	case c.Title == "" || len(c.Title) > 200:
		return c, newProblem(http.StatusUnprocessableEntity, "", fieldError{"body", "title", "must have 1 to 200 bytes"})
	}
	return c, nil
}

// number reads a value of the query.
func number(r *http.Request, name string, otherwise, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, newProblem(http.StatusBadRequest, "", fieldError{"query", name, "must be a whole number within its range"})
	}
	return n, nil
}

type shelf struct {
	mu    sync.Mutex
	books []book // guarded by mu
	last  int    // guarded by mu
}

func (s *shelf) with(r *http.Request, f func(i int, b *book) error) error {
	id, err := strconv.Atoi(chi.URLParam(r, "id"))
	if err != nil {
		return newProblem(http.StatusBadRequest, "", fieldError{"path", "id", "must be a whole number within its range"})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.books, func(b book) bool { return b.ID == id })
	if i < 0 {
		return newProblem(http.StatusNotFound, "there is no such book")
	}
	return f(i, &s.books[i])
}

// change has f change a book, if it is still the one that the client has seen.
func (s *shelf) change(w http.ResponseWriter, r *http.Request, f func(b *book)) error {
	return s.with(r, func(_ int, b *book) error {
		if given := r.Header.Get("If-Match"); given != "" && !hasTag(given, b.etag()) {
			return newProblem(http.StatusPreconditionFailed, "")
		}
		f(b)
		b.version++
		w.Header().Set("ETag", b.etag())
		return writeJSON(w, http.StatusOK, b)
	})
}

// hasTag reports whether a list of tags has one.
func hasTag(list, tag string) bool {
	for member := range strings.SplitSeq(list, ",") {
		if member = strings.TrimSpace(member); member == "*" || strings.TrimPrefix(member, "W/") == tag {
			return true
		}
	}
	return false
}

func (s *shelf) list(w http.ResponseWriter, r *http.Request) error {
	at, err := number(r, "page", 0, 1<<16-1)
	if err != nil {
		return err
	}
	size, err := number(r, "size", 20, 1<<8-1)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from := min(at*size, len(s.books))
	to := min(from+size, len(s.books))
	w.Header().Set("X-Total-Count", strconv.Itoa(len(s.books)))
	if to < len(s.books) {
		w.Header().Set("Link", fmt.Sprintf(`</api/books?page=%d&size=%d>; rel="next"`, at+1, size))
	}
	return writeJSON(w, http.StatusOK, s.books[from:to])
}

func (s *shelf) show(w http.ResponseWriter, r *http.Request) error {
	return s.with(r, func(_ int, b *book) error {
		w.Header().Set("ETag", b.etag())
		return writeJSON(w, http.StatusOK, b)
	})
}

func (s *shelf) add(w http.ResponseWriter, r *http.Request) error {
	c, err := readChange(w, r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.books) == booksMax {
		return newProblem(http.StatusInsufficientStorage, "the shelf is full")
	}
	s.last++
	s.books = append(s.books, book{ID: s.last, Title: c.Title, Year: c.Year})
	w.Header().Set("Location", fmt.Sprintf("/api/books/%d", s.last))
	return writeJSON(w, http.StatusCreated, s.books[len(s.books)-1])
}

func (s *shelf) update(w http.ResponseWriter, r *http.Request) error {
	c, err := readChange(w, r)
	if err != nil {
		return err
	}
	return s.change(w, r, func(b *book) { b.Title, b.Year = c.Title, c.Year })
}

func (s *shelf) remove(w http.ResponseWriter, r *http.Request) error {
	return s.with(r, func(i int, b *book) error {
		s.books = slices.Delete(s.books, i, i+1)
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

func (s *shelf) setCover(w http.ResponseWriter, r *http.Request) error {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	file, _, err := r.FormFile("cover")
	if r.MultipartForm != nil {
		defer r.MultipartForm.RemoveAll()
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return err
	case errors.Is(err, http.ErrNotMultipart):
		return newProblem(http.StatusUnsupportedMediaType, "")
	case err != nil:
		return newProblem(http.StatusBadRequest, "")
	}
	defer file.Close()
	p, err := io.ReadAll(file)
	if err != nil || !strings.HasPrefix(http.DetectContentType(p), "image/") {
		return newProblem(http.StatusUnsupportedMediaType, "a cover is an image")
	}
	return s.change(w, r, func(b *book) { b.image, b.Cover = p, true })
}

func (s *shelf) showCover(w http.ResponseWriter, r *http.Request) error {
	return s.with(r, func(_ int, b *book) error {
		if !b.Cover {
			return newProblem(http.StatusNotFound, "")
		}
		w.Header().Set("Content-Type", http.DetectContentType(b.image))
		w.Write(b.image)
		return nil
	})
}

// known lets through who has the token.
func known(token string) func(http.Handler) http.Handler {
	want := sha256.Sum256([]byte(token))
	return func(h http.Handler) http.Handler {
		return handler(func(w http.ResponseWriter, r *http.Request) error {
			kind, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			sum := sha256.Sum256([]byte(given))
			if token == "" || !strings.EqualFold(kind, "Bearer") || subtle.ConstantTimeCompare(sum[:], want[:]) == 0 {
				w.Header().Set("WWW-Authenticate", `Bearer realm="books"`)
				return newProblem(http.StatusUnauthorized, "")
			}
			h.ServeHTTP(w, r)
			return nil
		})
	}
}

// A heldResponse is a response that is not sent yet.
type heldResponse struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (h *heldResponse) WriteHeader(status int)      { h.status = status }
func (h *heldResponse) Write(p []byte) (int, error) { return h.body.Write(p) }

// etag answers with 304 what the client has already.
func etag(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := &heldResponse{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(h, r)
		if h.status == http.StatusOK {
			if w.Header().Get("ETag") == "" {
				w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(h.body.Bytes())))
			}
			if hasTag(r.Header.Get("If-None-Match"), w.Header().Get("ETag")) {
				w.Header().Del("Content-Type")
				w.WriteHeader(http.StatusNotModified)
				return
			}
		}
		w.WriteHeader(h.status)
		w.Write(h.body.Bytes())
	})
}

// cors lets pages of all origins in, errors included.
func cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		if r.Header.Get("Origin") == "" {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Expose-Headers", "ETag, Link, X-Total-Count")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			h.Set("Access-Control-Allow-Methods", "PUT, DELETE")
			h.Set("Access-Control-Allow-Headers", "Content-Type, Authorization, If-Match")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// around names requests, says what browsers may, and logs.
func around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, start := rand.Text(), time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		h := ww.Header()
		h.Set("X-Request-Id", id)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(ww, r)
		slog.Info("request", "method", r.Method, "target", r.RequestURI, "status", ww.Status(), "bytes", ww.BytesWritten(), "took", time.Since(start), "client", r.RemoteAddr, "id", id)
	})
}

// pages serves the page's files, and the page itself where an application has a path.
func pages(files fs.FS) http.Handler {
	served := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(path.Clean(r.URL.Path), "/")
		_, err := fs.Stat(files, name)
		if name != "" && err != nil && (path.Ext(name) == "" || strings.Contains(r.Header.Get("Accept"), "text/html")) {
			http.ServeFileFS(w, r, files, "index.html")
			return
		}
		served.ServeHTTP(w, r)
	})
}

func newHandler(token string) http.Handler {
	s, mux := new(shelf), chi.NewRouter()
	mux.Use(around, cors)
	notFound := handler(func(http.ResponseWriter, *http.Request) error { return newProblem(http.StatusNotFound, "") })
	mux.Route("/api/books", func(r chi.Router) {
		r.NotFound(notFound.ServeHTTP)
		r.With(etag).Method("GET", "/", handler(s.list))
		r.With(etag).Method("GET", "/{id}", handler(s.show))
		r.With(etag).Method("GET", "/{id}/cover", handler(s.showCover))
		changing := r.With(known(token))
		changing.Method("POST", "/", handler(s.add))
		changing.Method("PUT", "/{id}", handler(s.update))
		changing.Method("DELETE", "/{id}", handler(s.remove))
		changing.Method("PUT", "/{id}/cover", handler(s.setCover))
	})
	files, _ := fs.Sub(page, "page") // it is in the program
	mux.Method("GET", "/*", pages(files))
	return middleware.Recoverer(mux)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on, host:port")
	token := flag.String("token", "", "what clients that change books have to know")
	flag.Parse()
	log.Printf("api: http://%s/", *addr)
	s := &http.Server{Addr: *addr, Handler: newHandler(*token), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 75 * time.Second, MaxHeaderBytes: 16 << 10}
	log.Fatal(s.ListenAndServe())
}
