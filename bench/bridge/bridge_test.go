// Package bridge has tests of what is made for net/http and not by its
// authors: WebSocket servers that hijack the connection, a router, and remote
// procedure calls over HTTP/2, on flare's server through FromHTTP. Each runs on
// net/http's server as well.
package bridge

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"flare"

	coder "github.com/coder/websocket"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	gorilla "github.com/gorilla/websocket"
)

const patience = 30 * time.Second

// servers runs test on both servers. base is the URL of h.
func servers(t *testing.T, h http.Handler, test func(t *testing.T, base string)) {
	t.Run("nethttp", func(t *testing.T) {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.Start()
		defer s.Close()
		test(t, s.URL)
	})
	t.Run("flare", func(t *testing.T) {
		mux := flare.NewMux()
		mux.Mount("", flare.FromHTTP(h))
		test(t, flare.TestServer(t, &flare.Server{Handler: mux}))
	})
}

// gorillaEcho sends every message back.
func gorillaEcho(t *testing.T) http.Handler {
	up := gorilla.Upgrader{EnableCompression: true, Subprotocols: []string{"echo"}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, http.Header{"X-Server": {"gorilla"}})
		if err != nil {
			return // Upgrade has answered
		}
		defer c.Close()
		for {
			kind, p, err := c.ReadMessage()
			if err != nil {
				if !gorilla.IsCloseError(err, gorilla.CloseNormalClosure) {
					t.Error(err)
				}
				return
			}
			if err := c.WriteMessage(kind, p); err != nil {
				t.Error(err)
				return
			}
		}
	})
}

// coderEcho is the same with the other package.
func coderEcho(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Server", "coder")
		c, err := coder.Accept(w, r, &coder.AcceptOptions{CompressionMode: coder.CompressionContextTakeover, Subprotocols: []string{"echo"}})
		if err != nil {
			return // Accept has answered
		}
		c.SetReadLimit(4 << 20)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for {
			kind, p, err := c.Read(ctx)
			if err != nil {
				if coder.CloseStatus(err) != coder.StatusNormalClosure {
					t.Error(err)
				}
				return
			}
			if err := c.Write(ctx, kind, p); err != nil {
				t.Error(err)
				return
			}
		}
	})
}

// A conversation is a client's.
type conversation interface {
	write(text string) error
	read() (string, error)
	close() error
}

type flareClient struct{ ws *flare.WebSocket }

func (c flareClient) write(s string) error { return c.ws.WriteText(context.Background(), s) }
func (c flareClient) close() error         { return c.ws.Close(flare.CloseNormal, "") }
func (c flareClient) read() (string, error) {
	_, p, err := c.ws.Read(context.Background())
	return string(p), err
}

type gorillaClient struct{ c *gorilla.Conn }

func (c gorillaClient) write(s string) error { return c.c.WriteMessage(gorilla.TextMessage, []byte(s)) }
func (c gorillaClient) read() (string, error) {
	_, p, err := c.c.ReadMessage()
	return string(p), err
}
func (c gorillaClient) close() error {
	defer c.c.Close()
	bye := gorilla.FormatCloseMessage(gorilla.CloseNormalClosure, "")
	if err := c.c.WriteControl(gorilla.CloseMessage, bye, time.Now().Add(patience)); err != nil {
		return err
	}
	if _, _, err := c.c.ReadMessage(); !gorilla.IsCloseError(err, gorilla.CloseNormalClosure) {
		return fmt.Errorf("closed with %w", err)
	}
	return nil
}

type coderClient struct{ c *coder.Conn }

func (c coderClient) write(s string) error {
	return c.c.Write(context.Background(), coder.MessageText, []byte(s))
}
func (c coderClient) close() error { return c.c.Close(coder.StatusNormalClosure, "") }
func (c coderClient) read() (string, error) {
	_, p, err := c.c.Read(context.Background())
	return string(p), err
}

// dial opens a conversation with each client there is.
var dial = map[string]func(ctx context.Context, url string) (conversation, error){
	"flare": func(ctx context.Context, url string) (conversation, error) {
		ws, _, err := flare.DialWebSocket(ctx, url, &flare.WebSocketDialOptions{WebSocketOptions: flare.WebSocketOptions{
			Compression: flare.CompressionOn, Subprotocols: []string{"echo"}, MaxMessageBytes: 4 << 20}})
		return flareClient{ws}, err
	},
	"gorilla": func(ctx context.Context, url string) (conversation, error) {
		d := gorilla.Dialer{EnableCompression: true, Subprotocols: []string{"echo"}}
		c, _, err := d.DialContext(ctx, url, nil)
		return gorillaClient{c}, err
	},
	"coder": func(ctx context.Context, url string) (conversation, error) {
		c, _, err := coder.Dial(ctx, url, &coder.DialOptions{CompressionMode: coder.CompressionContextTakeover, Subprotocols: []string{"echo"}})
		if err == nil {
			c.SetReadLimit(4 << 20)
		}
		return coderClient{c}, err
	},
}

// Servers of both packages echo messages of all sizes to clients of all, and
// close in order.
func TestWebSocketServers(t *testing.T) {
	for name, handler := range map[string]func(*testing.T) http.Handler{"gorilla": gorillaEcho, "coder": coderEcho} {
		t.Run(name, func(t *testing.T) {
			servers(t, handler(t), func(t *testing.T, base string) {
				for client, open := range dial {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					c, err := open(ctx, strings.Replace(base, "http", "ws", 1))
					if err != nil {
						cancel()
						t.Fatalf("%s: %v", client, err)
					}
					for _, text := range []string{"", "x", "hello", strings.Repeat("compressible ", 1000), strings.Repeat("0123456789", 200_000)} {
						if err := c.write(text); err != nil {
							t.Fatalf("%s: write of %d: %v", client, len(text), err)
						}
						if got, err := c.read(); err != nil || got != text {
							t.Fatalf("%s: %d bytes came back as %d, %v", client, len(text), len(got), err)
						}
					}
					if err := c.close(); err != nil {
						t.Errorf("%s: close: %v", client, err)
					}
					cancel()
				}
				resp, err := http.Get(base) // no handshake
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode < 400 || resp.StatusCode > 499 {
					t.Errorf("without a handshake: %s", resp.Status)
				}
			})
		})
	}
}

// chiRouter is a router with much of what chi's users have.
func chiRouter() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.RealIP, middleware.Recoverer, middleware.Compress(5), middleware.Timeout(patience), middleware.GetHead)
	r.Get("/items/{id}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "item %s of %s, id %t", chi.URLParam(r, "id"), chi.RouteContext(r.Context()).RoutePattern(), middleware.GetReqID(r.Context()) != "")
	})
	r.Post("/items", func(w http.ResponseWriter, r *http.Request) {
		p, err := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%d, %v", len(p), err)
	})
	r.Get("/panic", func(http.ResponseWriter, *http.Request) { panic("on purpose") })
	r.Get("/long", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for range 1000 {
			io.WriteString(w, "compressible ")
		}
	})
	r.Get("/stream", func(w http.ResponseWriter, r *http.Request) {
		for i := range 3 {
			fmt.Fprintf(w, "part %d;", i)
			if err := http.NewResponseController(w).Flush(); err != nil {
				fmt.Fprint(w, err)
			}
		}
	})
	r.Route("/sub", func(r chi.Router) {
		r.Use(middleware.BasicAuth("sub", map[string]string{"ada": "pass"}))
		r.Get("/{a}/*", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s and %s", chi.URLParam(r, "a"), chi.URLParam(r, "*"))
		})
	})
	r.Mount("/files", http.StripPrefix("/files", http.FileServer(http.Dir("."))))
	return r
}

// A chi router answers the same on both servers.
func TestChi(t *testing.T) {
	var answers []string
	log.SetOutput(io.Discard) // Recoverer's
	servers(t, chiRouter(), func(t *testing.T, base string) {
		var seen strings.Builder
		for _, ask := range []struct{ method, path, user string }{
			{"GET", "/items/7", ""}, {"HEAD", "/items/7", ""}, {"GET", "/items/a%2Fb", ""}, {"POST", "/items", ""}, {"PUT", "/items", ""},
			{"GET", "/none", ""}, {"GET", "/panic", ""}, {"GET", "/long", ""}, {"GET", "/stream", ""},
			{"GET", "/sub/x/y/z", ""}, {"GET", "/sub/x/y/z", "ada"}, {"GET", "/files/bridge_test.go", ""}, {"GET", "/files/none", ""},
		} {
			req, err := http.NewRequest(ask.method, base+ask.path, strings.NewReader("hello"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept-Encoding", "gzip")
			if ask.user != "" {
				req.SetBasicAuth(ask.user, "pass")
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			if resp.Header.Get("Content-Encoding") == "gzip" && len(body) > 0 {
				z, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(z); err != nil {
					t.Fatal(err)
				}
			}
			fmt.Fprintf(&seen, "%s %s: %s, %s, %s, %q %q, %d: %.100q\n", ask.method, ask.path, resp.Status, resp.Header.Get("Content-Type"),
				resp.Header.Get("Content-Encoding"), resp.Header.Get("Allow"), resp.Header.Get("WWW-Authenticate"), len(body), body)
		}
		answers = append(answers, seen.String())
	})
	if answers[0] != answers[1] {
		t.Errorf("net/http:\n%s\nflare:\n%s", answers[0], answers[1])
	}
	if !strings.Contains(answers[0], "item 7 of /items/{id}, id true") {
		t.Error("the route was not found")
	}
}
