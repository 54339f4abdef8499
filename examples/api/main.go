// Api is a JSON API for a shelf of books, with covers to upload, and a page that uses it.
//
//	go run ./examples/api -token secret
//	open http://127.0.0.1:8080/
package main

import (
	"embed"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"flare"
)

//go:embed page
var page embed.FS

const booksMax = 1000

// A book is what clients get.
type book struct {
	ID    int    `json:"id"`
	Title string `json:"title"`
	Year  int    `json:"year"`
	Cover bool   `json:"cover"`

	version int // for ETag
	image   []byte
}

func (b *book) etag() string { return fmt.Sprintf(`"%d-%d"`, b.ID, b.version) }

// A change is what clients say of a book.
type change struct {
	ID    int    `path:"id"`
	Title string `json:"title"`
	Year  int    `json:"year"`
}

func (c *change) Validate() error {
	if c.Title == "" || len(c.Title) > 200 {
		return flare.FieldErrors{{In: "body", Field: "title", Rule: "must have 1 to 200 bytes"}}
	}
	return nil
}

// A shelf has books, in the order of their numbers.
type shelf struct {
	mu    sync.Mutex
	books []book // guarded by mu
	last  int    // number given; guarded by mu
}

// with calls f with the book of the path, which f may change, or take away.
func (s *shelf) with(r *flare.Request, f func(i int, b *book) error) error {
	id, err := r.PathInt("id")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.books, func(b book) bool { return b.ID == id })
	if i < 0 {
		return &flare.StatusError{Code: 404, Message: "there is no such book"}
	}
	return f(i, &s.books[i])
}

// change has f change a book, if it is still the one that the client has seen.
func (s *shelf) change(w *flare.ResponseWriter, r *flare.Request, f func(b *book)) error {
	return s.with(r, func(_ int, b *book) error {
		if ok, err := w.Precondition(b.etag(), time.Time{}); !ok {
			return err
		}
		f(b)
		b.version++
		w.Header().Set("ETag", b.etag())
		return w.JSON(200, b)
	})
}

func (s *shelf) list(w *flare.ResponseWriter, r *flare.Request) error {
	q, err := flare.Bind[struct {
		Page uint16 `query:"page"`
		Size uint8  `query:"size" default:"20"`
	}](r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from := min(int(q.Page)*int(q.Size), len(s.books))
	to := min(from+int(q.Size), len(s.books))
	w.Header().Set("X-Total-Count", strconv.Itoa(len(s.books)))
	if to < len(s.books) {
		w.Header().Set("Link", fmt.Sprintf(`</api/books?page=%d&size=%d>; rel="next"`, q.Page+1, q.Size))
	}
	return w.JSON(200, s.books[from:to])
}

func (s *shelf) show(w *flare.ResponseWriter, r *flare.Request) error {
	return s.with(r, func(_ int, b *book) error {
		w.Header().Set("ETag", b.etag())
		return w.JSON(200, b)
	})
}

func (s *shelf) add(w *flare.ResponseWriter, r *flare.Request) error {
	c, err := flare.Bind[struct{ change }](r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.books) == booksMax {
		return &flare.StatusError{Code: 507, Message: "the shelf is full"}
	}
	s.last++
	s.books = append(s.books, book{ID: s.last, Title: c.Title, Year: c.Year})
	w.Header().Set("Location", fmt.Sprintf("/api/books/%d", s.last))
	return w.JSON(201, s.books[len(s.books)-1])
}

func (s *shelf) update(w *flare.ResponseWriter, r *flare.Request) error {
	c, err := flare.Bind[change](r)
	if err != nil {
		return err
	}
	return s.change(w, r, func(b *book) { b.Title, b.Year = c.Title, c.Year })
}

func (s *shelf) remove(w *flare.ResponseWriter, r *flare.Request) error {
	return s.with(r, func(i int, b *book) error {
		s.books = slices.Delete(s.books, i, i+1)
		w.WriteHeader(204)
		return nil
	})
}

func (s *shelf) setCover(w *flare.ResponseWriter, r *flare.Request) error {
	file, _, err := r.FormFile("cover")
	if err != nil {
		return err
	}
	defer file.Close()
	p, err := io.ReadAll(file)
	if err != nil || !strings.HasPrefix(http.DetectContentType(p), "image/") {
		return &flare.StatusError{Code: 415, Message: "a cover is an image", Err: err}
	}
	return s.change(w, r, func(b *book) { b.image, b.Cover = p, true })
}

func (s *shelf) showCover(w *flare.ResponseWriter, r *flare.Request) error {
	return s.with(r, func(_ int, b *book) error {
		if !b.Cover {
			return &flare.StatusError{Code: 404}
		}
		return w.Blob(200, http.DetectContentType(b.image), b.image)
	})
}

func newServer(token string) *flare.Server {
	s, mux := new(shelf), flare.NewMux()
	cors := &flare.CORS{Origins: []string{"*"}, Methods: []string{"PUT", "DELETE"}, Headers: []string{"Content-Type", "Authorization", "If-Match"}, Expose: []string{"ETag", "Link", "X-Total-Count"}}
	mux.Use(flare.RequestID, new(flare.SecurityFields).Wrap, cors.Wrap)
	books := mux.Group("/api/books")
	books.Get("", s.list, flare.ETag)
	books.Get("/{id}", s.show, flare.ETag)
	books.Get("/{id}/cover", s.showCover, flare.ETag)
	known := flare.RequireBearer("books", flare.BearerTokens(token))
	books.Post("", s.add, known, flare.MaxBody(4<<10))
	books.Put("/{id}", s.update, known, flare.MaxBody(4<<10))
	books.Delete("/{id}", s.remove, known)
	books.Put("/{id}/cover", s.setCover, known, flare.MaxBody(64<<10))
	files, _ := fs.Sub(page, "page") // it is in the program
	mux.Mount("/", &flare.Files{FS: files, Fallback: "index.html"})
	return &flare.Server{Handler: mux, ErrorHandler: flare.ProblemHandler, Refusals: cors.Wrap, AccessHook: new(flare.AccessLog).Log}
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on, host:port")
	token := flag.String("token", "", "what clients that change books have to know")
	flag.Parse()
	s := newServer(*token)
	s.Addr = *addr
	log.Printf("api: http://%s/", *addr)
	log.Fatal(s.ListenAndServe())
}
