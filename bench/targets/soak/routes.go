package main

// This file has what is served. The clients' half of each route is in bench's soak_ask.go and
// soak_acts.go.

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"time"

	"flare"
	"flare/bench/content"
)

// writeFile writes what /file sends.
func writeFile(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content.NewReader(content.FileSeed, content.FileBytes))
	return errors.Join(err, f.Close())
}

func (t *target) routes() flare.Handler {
	mux := flare.NewMux()
	mux.Get("/plaintext", func(w *flare.ResponseWriter, _ *flare.Request) error { return w.Text(200, "Hello, World!") })
	mux.Get("/bytes", sendBytes, flare.Compress)
	mux.Post("/upload", sumBody)
	mux.Post("/echo", func(w *flare.ResponseWriter, r *flare.Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Blob(200, "application/octet-stream", p)
	})
	mux.Get("/sleep", func(w *flare.ResponseWriter, r *flare.Request) error {
		ms, err := r.QueryInt("ms", 0)
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return w.Text(200, strconv.Itoa(ms))
	})
	mux.Get("/panic", func(*flare.ResponseWriter, *flare.Request) error { panic("as asked for") })
	mux.Get("/file", func(w *flare.ResponseWriter, _ *flare.Request) error { return w.SendFile(t.file) })
	mux.Get("/redirect", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Redirect(307, "/plaintext") })
	mux.Get("/events", sendEvents)
	for name, mode := range map[string]flare.Compression{"plain": flare.CompressionOff, "deflate": flare.CompressionOn, "takeover": flare.CompressionTakeover} {
		opts := flare.WebSocketOptions{Compression: mode}
		mux.Handle("GET /ws/"+name, &flare.WebSocketHandler{WebSocketOptions: opts,
			OnMessage: func(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
				return ws.Write(context.Background(), kind, p)
			}})
		mux.Get("/ws-read/"+name, func(w *flare.ResponseWriter, r *flare.Request) error { return readEcho(w, r, &opts) })
	}
	return mux
}

// sendBytes sends n bytes of a seed, in chunks if it is asked to.
func sendBytes(w *flare.ResponseWriter, r *flare.Request) error {
	q := r.Query()
	n, err := strconv.ParseInt(q.Get("n"), 10, 64)
	if err != nil {
		return &flare.StatusError{Code: 400}
	}
	seed, _ := strconv.ParseUint(q.Get("seed"), 10, 64)
	w.Header().Set("Content-Type", "text/plain")
	if q.Get("chunked") == "" {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	_, err = io.Copy(w, content.NewReader(seed, n))
	return err
}

// sumBody answers with the length and the checksum of what was sent.
func sumBody(w *flare.ResponseWriter, r *flare.Request) error {
	sum := crc32.NewIEEE()
	n, err := io.Copy(sum, r.Body())
	if err != nil {
		return err
	}
	return w.Text(200, fmt.Sprintf("%d %08x", n, sum.Sum32()))
}

// sendEvents sends n events, or, without n, events until the client or the server has enough.
func sendEvents(w *flare.ResponseWriter, r *flare.Request) error {
	n, err := r.QueryInt("n", -1)
	if err != nil {
		return err
	}
	s, err := w.EventStream()
	if err != nil {
		return err
	}
	for i := 0; i != n; i++ {
		if i%16 == 15 {
			select {
			case <-r.Context().Done():
				return nil
			case <-time.After(time.Millisecond):
			}
		}
		if err := s.Send(flare.ServerSentEvent{ID: strconv.Itoa(i), Data: "event " + strconv.Itoa(i)}); err != nil {
			return nil // the client has left
		}
	}
	return nil
}

// readEcho echoes with a goroutine that reads.
func readEcho(w *flare.ResponseWriter, r *flare.Request, opts *flare.WebSocketOptions) error {
	ws, err := flare.AcceptWebSocket(w, r, opts)
	if err != nil {
		return err
	}
	for {
		kind, p, err := ws.Read(r.Context())
		if err == nil {
			err = ws.Write(r.Context(), kind, p)
		}
		if err != nil {
			return ws.Close(flare.CloseGoingAway, "")
		}
	}
}
