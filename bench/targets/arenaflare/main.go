// Command arenaflare serves the arena's profiles with flare as its documentation would.
package main

import (
	"errors"
	"flag"
	"io"
	"net/http"
	"strconv"
	"strings"

	"flare"
	"flare/bench/arena"
)

func main() {
	loops := flag.Int("loops", 0, "event loops, 0 is one for each processor")
	arena.Main("flare", func(files string) arena.Server {
		return &flare.Server{Handler: routes(files), Loops: *loops, MaxBodyBytes: 64 << 20}
	})
}

func routes(files string) flare.Handler {
	mux := flare.NewMux()
	mux.Handle("/sum", flare.HandlerFunc(sum))
	mux.Get("/json/{n}", rows)
	mux.Handle("/gzip/{n}", flare.Compress(flare.HandlerFunc(rows)))
	mux.Post("/upload", func(w *flare.ResponseWriter, r *flare.Request) error {
		n, err := io.Copy(io.Discard, r.Body())
		if err != nil {
			return err
		}
		return plain(w, strconv.FormatInt(n, 10))
	})
	downloads := arena.Downloads()
	mux.Get("/memory/{name}", func(w *flare.ResponseWriter, r *flare.Request) error {
		p, ok := downloads[r.PathValue("name")]
		if !ok {
			return &flare.StatusError{Code: http.StatusNotFound}
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, err := w.Write(p)
		return err
	})
	mux.Mount("/file", &flare.Files{Dir: files})
	mux.Get("/page/{path...}", func(w *flare.ResponseWriter, _ *flare.Request) error { return plain(w, "Hello, World!") })
	return mux
}

func plain(w *flare.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain")
	_, err := w.WriteString(text)
	return err
}

// sum adds the parameters a and b, and the body if there is one.
func sum(w *flare.ResponseWriter, r *flare.Request) error {
	query := r.Query()
	a, errA := strconv.Atoi(query.Get("a"))
	b, errB := strconv.Atoi(query.Get("b"))
	total := a + b
	var errBody error
	if r.Method() == "POST" {
		var p []byte
		if p, errBody = r.Bytes(); errBody == nil {
			var n int
			n, errBody = strconv.Atoi(strings.TrimSpace(string(p)))
			total += n
		}
	}
	if err := errors.Join(errA, errB, errBody); err != nil {
		return &flare.StatusError{Code: http.StatusBadRequest, Err: err}
	}
	return plain(w, strconv.Itoa(total))
}

func rows(w *flare.ResponseWriter, r *flare.Request) error {
	n, err := r.PathInt("n")
	if err != nil {
		return err
	}
	m, err := r.QueryInt("m", 1)
	if err != nil {
		return err
	}
	answer, ok := arena.Answer(n, m)
	if !ok {
		return &flare.StatusError{Code: http.StatusNotFound}
	}
	return w.JSON(http.StatusOK, answer)
}
