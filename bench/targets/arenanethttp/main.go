// Command arenanethttp serves the arena's profiles with net/http as its documentation would, and with
// the pool of compressors that those who compress with it have.
package main

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"flare/bench/arena"
)

func main() {
	arena.Main("nethttp", func(files string) arena.Server { return &http.Server{Handler: routes(files)} })
}

func routes(files string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/sum", sum)
	mux.HandleFunc("GET /json/{n}", func(w http.ResponseWriter, r *http.Request) { rows(w, r, nil) })
	compressors := sync.Pool{New: func() any { return gzip.NewWriter(nil) }}
	mux.HandleFunc("GET /gzip/{n}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			rows(w, r, nil)
			return
		}
		z := compressors.Get().(*gzip.Writer)
		defer compressors.Put(z)
		rows(w, r, z)
	})
	mux.HandleFunc("POST /upload", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		plain(w, strconv.FormatInt(n, 10))
	})
	downloads := arena.Downloads()
	mux.HandleFunc("GET /memory/{name}", func(w http.ResponseWriter, r *http.Request) {
		p, ok := downloads[r.PathValue("name")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(len(p)))
		w.Write(p)
	})
	mux.HandleFunc("GET /file/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if _, ok := downloads[name]; !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeFile(w, r, filepath.Join(files, name))
	})
	mux.HandleFunc("GET /page/{path...}", func(w http.ResponseWriter, _ *http.Request) { plain(w, "Hello, World!") })
	return mux
}

func plain(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, text)
}

// sum adds the parameters a and b, and the body if there is one.
func sum(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	a, errA := strconv.Atoi(query.Get("a"))
	b, errB := strconv.Atoi(query.Get("b"))
	total := a + b
	var errBody error
	if r.Method == "POST" {
		var p []byte
		if p, errBody = io.ReadAll(r.Body); errBody == nil {
			var n int
			n, errBody = strconv.Atoi(strings.TrimSpace(string(p)))
			total += n
		}
	}
	if err := errors.Join(errA, errB, errBody); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	plain(w, strconv.Itoa(total))
}

// rows sends rows as JSON, through z if there is one.
func rows(w http.ResponseWriter, r *http.Request, z *gzip.Writer) {
	n, errN := strconv.Atoi(r.PathValue("n"))
	m, errM := strconv.Atoi(r.URL.Query().Get("m"))
	answer, ok := arena.Answer(n, m)
	if errN != nil || errM != nil || !ok {
		http.NotFound(w, r)
		return
	}
	text, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if z == nil {
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		w.Write(text)
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	z.Reset(w)
	z.Write(text)
	z.Close()
}
