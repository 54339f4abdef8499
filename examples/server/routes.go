package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"time"

	"flare"
)

// routes returns the handler of the whole program. Each route is plain
// blocking Go.
func routes(s *flare.Server) flare.Handler {
	mux := flare.NewMux()
	mux.Get("/plaintext", plaintext)
	mux.Get("/json", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.JSON(http.StatusOK, message{"Hello, World!"})
	})
	mux.Handle("/echo", flare.HandlerFunc(echo))
	mux.Handle("/headers", flare.HandlerFunc(headers))
	mux.Handle("/status/{code}", flare.HandlerFunc(status))
	mux.Get("/bytes", bytes)
	mux.Get("/stream", stream)
	mux.Handle("/upload", flare.HandlerFunc(upload))
	mux.Get("/slow", slow)
	mux.Get("/spin", spin)
	mux.Get("/panic", func(w *flare.ResponseWriter, r *flare.Request) error { panic("asked for") })
	mux.Get("/error", func(w *flare.ResponseWriter, r *flare.Request) error {
		return errors.New("asked for: the log has this text, the client a bare 500")
	})
	mux.Handle("/ws", wsEcho())
	mux.Handle("/ws/time", new(wsClock).handler())
	mux.Get("/stats", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.JSON(http.StatusOK, s.Stats())
	})
	newDashboard(s).routes(mux)
	authRoutes(mux)
	clientRoutes(mux)
	return mux
}

type message struct {
	Message string `json:"message"`
}

func plaintext(w *flare.ResponseWriter, r *flare.Request) error {
	w.Header().Set("Content-Type", "text/plain")
	_, err := w.WriteString("Hello, World!")
	return err
}

// echo sends the body back as it comes, with its type.
func echo(w *flare.ResponseWriter, r *flare.Request) error {
	if kind := r.Header().Get("Content-Type"); kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	_, err := io.Copy(w, r.Body())
	return err
}

// headers tells what the server has seen of the request.
func headers(w *flare.ResponseWriter, r *flare.Request) error {
	seen := struct {
		Method     string      `json:"method"`
		Target     string      `json:"target"`
		Host       string      `json:"host"`
		RemoteAddr string      `json:"remoteAddr"`
		Headers    [][2]string `json:"headers"`
	}{r.Method(), r.Target(), r.Host(), r.RemoteAddr().String(), [][2]string{}}
	for name, value := range r.Header().All() {
		seen.Headers = append(seen.Headers, [2]string{name, value})
	}
	return w.JSON(http.StatusOK, seen)
}

func status(w *flare.ResponseWriter, r *flare.Request) error {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		return &flare.StatusError{Code: http.StatusBadRequest, Message: "the code must be from 200 to 599"}
	}
	w.WriteHeader(code)
	if code == http.StatusNoContent || code == http.StatusNotModified {
		return nil
	}
	return w.Text(code, strconv.Itoa(code)+" "+http.StatusText(code)+"\n")
}

// piece is what bytes writes at once.
const piece = 16 << 10

// bytes sends n bytes, written in pieces.
func bytes(w *flare.ResponseWriter, r *flare.Request) error {
	n, err := number(r, "n", 1024, 0, min(1<<40, math.MaxInt))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(n))
	for p := pattern(); n > 0; {
		wrote, err := w.Write(p[:min(n, len(p))])
		if err != nil {
			return err
		}
		n -= wrote
	}
	return nil
}

// stream sends n chunks of size bytes, ms milliseconds apart.
func stream(w *flare.ResponseWriter, r *flare.Request) error {
	n, err := number(r, "n", 10, 0, 1<<20)
	if err != nil {
		return err
	}
	ms, err := number(r, "ms", 100, 0, 60_000)
	if err != nil {
		return err
	}
	size, err := number(r, "size", 16, 1, piece)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	for p := pattern()[:size]; n > 0; n-- {
		if _, err := w.Write(p); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if n > 1 {
			time.Sleep(time.Duration(ms) * time.Millisecond)
		}
	}
	return nil
}

// upload reads the whole body and keeps none of it.
func upload(w *flare.ResponseWriter, r *flare.Request) error {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body())
	if err != nil {
		return err
	}
	return w.JSON(http.StatusOK, struct {
		Bytes  int64  `json:"bytes"`
		SHA256 string `json:"sha256"`
	}{n, hex.EncodeToString(sum.Sum(nil))})
}

// slow waits as any handler may: the loop goes on without it.
func slow(w *flare.ResponseWriter, r *flare.Request) error {
	ms, err := number(r, "ms", 100, 0, 60_000)
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(ms) * time.Millisecond)
	return w.Text(http.StatusOK, "slept "+strconv.Itoa(ms)+" ms\n")
}

// spin keeps a processor busy.
func spin(w *flare.ResponseWriter, r *flare.Request) error {
	ms, err := number(r, "ms", 100, 0, 10_000)
	if err != nil {
		return err
	}
	for end := time.Now().Add(time.Duration(ms) * time.Millisecond); time.Now().Before(end); {
	}
	return w.Text(http.StatusOK, "spun "+strconv.Itoa(ms)+" ms\n")
}

// number returns a query parameter, or a 400.
func number(r *flare.Request, name string, byDefault, least, most int) (int, error) {
	value := r.Query().Get(name)
	if value == "" {
		return byDefault, nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return 0, &flare.StatusError{
			Code:    http.StatusBadRequest,
			Message: name + " must be a number from " + strconv.Itoa(least) + " to " + strconv.Itoa(most),
		}
	}
	return n, nil
}

var patternBytes = func() []byte {
	p := make([]byte, piece)
	for i := range p {
		p[i] = "0123456789abcdef"[i%16]
	}
	return p
}()

// pattern returns bytes to send; they are not to be changed.
func pattern() []byte { return patternBytes }
