package flare

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTestClient(t *testing.T) {
	mux := NewMux()
	mux.Post("/echo/{n}", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-N", r.PathValue("n"))
		_, err := io.Copy(w, r.Body())
		return err
	})
	mux.Get("/old", func(w *ResponseWriter, r *Request) error { return w.Redirect(302, "/new") })
	mux.Get("/new", func(w *ResponseWriter, r *Request) error { return w.Text(200, "new at "+r.Host()) })
	mux.Get("/panic", func(w *ResponseWriter, r *Request) error { panic("x") })
	mux.Get("/abort", func(w *ResponseWriter, r *Request) error {
		w.Flush()
		return io.ErrClosedPipe
	})
	client := TestClient(t, &Server{Handler: mux})

	big := bytes.Repeat([]byte("x"), 300_000)
	for _, body := range []io.Reader{bytes.NewReader(big), io.MultiReader(bytes.NewReader(big))} {
		resp, err := client.Post("http://anything/echo/7", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, big) || resp.Header.Get("X-N") != "7" {
			t.Errorf("%d bytes, %v, X-N %q", len(got), err, resp.Header.Get("X-N"))
		}
	}
	for path, want := range map[string]string{"/old": "200 new at anything", "/panic": "500 Internal Server Error\n", "/none": "404 Not Found\n"} {
		resp, err := client.Get("http://anything" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if got := strings.Fields(resp.Status)[0] + " " + string(body); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	resp, err := client.Get("http://anything/abort")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
	}
	if err == nil {
		t.Error("an aborted response looks whole")
	}
}

// TestTestClientIsOfTheServer holds that what is configured at the Server holds
// for its TestClient.
func TestTestClientIsOfTheServer(t *testing.T) {
	var states sync.Map
	s := &Server{
		MaxBodyBytes: 10, MaxURIBytes: 50, Logger: quietLogger(),
		ErrorHandler: func(w *ResponseWriter, r *Request, err error) { w.Text(statusOf(err), "own\n") },
		ConnState:    func(_ net.Conn, state http.ConnState) { states.Store(state, true) },
	}
	mux := NewMux()
	mux.Use(func(next Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser {
				h.Set("X-Status", strconv.Itoa(status))
				return next
			})
			return next.Serve(w, r)
		})
	})
	mux.Post("/{$}", func(w *ResponseWriter, r *Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, string(p))
	})
	mux.Handle("GET /echo", wsEcho(WebSocketOptions{}))
	s.Handler = mux
	client := TestClient(t, s)
	for _, c := range []struct {
		url, body string
		status    int
		want      string
		hooked    string
	}{
		{"http://h/", "short", 200, "short", "200"},
		{"https://h/", "short", 200, "short", "200"},
		{"http://h/", "longer than that", 413, "own\n", ""},
		{"http://h/" + strings.Repeat("a", 50), "", 414, "own\n", ""},
		{"http://h/none", "", 404, "own\n", "404"},
	} {
		resp, err := client.Post(c.url, "text/plain", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || string(body) != c.want || resp.Header.Get("X-Status") != c.hooked {
			t.Errorf("%s %q: %d %q, %v, hooked for %q", c.url, c.body, resp.StatusCode, body, err, resp.Header.Get("X-Status"))
		}
	}
	ctx := t.Context()
	ws, _, err := DialWebSocket(ctx, "ws://h/echo", &WebSocketDialOptions{NetDial: client.Transport.(*http.Transport).DialContext})
	if err != nil {
		t.Fatal(err)
	}
	if err := ws.WriteText(ctx, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, p, err := ws.Read(ctx); err != nil || string(p) != "hello" {
		t.Errorf("WebSocket: %q, %v", p, err)
	}
	ws.Close(CloseNormal, "")
	client.CloseIdleConnections()
	gone(t, s)
	for _, state := range []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateClosed} {
		if _, ok := states.Load(state); !ok {
			t.Errorf("ConnState was not told of %v", state)
		}
	}
}

// A refusal that comes before all of the request has been sent is an answer.
func TestTestClientEarlyAnswer(t *testing.T) {
	t.Parallel()
	c := TestClient(t, &Server{Logger: quietLogger(), Handler: MaxBody(100)(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		_, err := r.Bytes()
		return err
	}))})
	for i := range 300 {
		resp, err := c.Post("http://a/", "text/plain", strings.NewReader(strings.Repeat("x", 100<<10)))
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		if resp.Body.Close(); resp.StatusCode != 413 {
			t.Fatalf("%d: %d", i, resp.StatusCode)
		}
	}
}

// TestTestClientInABubble holds that a server in memory and its client work in
// a bubble of testing/synctest, where time passes when all goroutines wait: in
// none is a goroutine that waits in the system.
func TestTestClientInABubble(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		next := make(chan string)
		s := &Server{HeadTimeout: time.Hour, IdleTimeout: 2 * time.Hour, Logger: quietLogger()}
		s.Handler = routes{
			"/sleep": HandlerFunc(func(w *ResponseWriter, r *Request) error {
				time.Sleep(time.Hour)
				return w.Text(200, "slept")
			}),
			"/wait": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, <-next) }),
			"/next": HandlerFunc(func(w *ResponseWriter, r *Request) error { next <- "done"; return nil }),
			"/gone": HandlerFunc(func(w *ResponseWriter, r *Request) error {
				<-r.Context().Done()
				next <- context.Cause(r.Context()).Error()
				return nil
			}),
			"/events": HandlerFunc(func(w *ResponseWriter, r *Request) error {
				for range 3 {
					time.Sleep(time.Minute)
					if _, err := w.WriteString("x"); err != nil {
						return err
					}
					if err := w.Flush(); err != nil {
						return err
					}
				}
				return nil
			}),
		}
		client := TestClient(t, s)
		ask := func(path, want string, took time.Duration) {
			t.Helper()
			began := time.Now()
			resp, err := client.Get("http://h" + path)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if date, err := http.ParseTime(resp.Header.Get("Date")); err != nil || time.Since(date) > time.Hour {
				t.Errorf("Date is %v, the time is %v", date, time.Now())
			}
			text, err := io.ReadAll(resp.Body)
			if passed := time.Since(began); err != nil || string(text) != want || passed < took || passed > took+time.Second {
				t.Errorf("%s: %q, %v after %v", path, text, err, passed)
			}
		}
		for range 50 { // as many as a route needs to be called on the loop elsewhere
			ask("/none", "Not Found\n", 0)
		}
		ask("/sleep", "slept", time.Hour)
		ask("/events", "xxx", 3*time.Minute)
		var asked sync.WaitGroup
		asked.Go(func() { ask("/wait", "done", 0) })
		synctest.Wait()
		ask("/next", "", 0)
		asked.Wait()

		// A client that leaves ends the context of its request.
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://h/gone", nil)
		asked.Go(func() {
			if resp, err := client.Do(req); err == nil {
				resp.Body.Close()
				t.Error("an answer, and the client has left")
			}
		})
		synctest.Wait()
		cancel()
		if cause := <-next; cause == "" {
			t.Error("no cause")
		}
		asked.Wait()

		// Timeouts of the server pass as everything else does.
		conn, err := client.Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		at := time.Now()
		io.WriteString(conn, "GET / HT")
		text, err := io.ReadAll(conn)
		if took := time.Since(at); err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 408 ") || took < time.Hour || took > time.Hour+time.Minute {
			t.Errorf("half a head: %q, %v after %v", text, err, took)
		}
	})
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %v in all", took)
	}
}

// TestBubbleLeavesNoTime holds that what a bubble's server has given back for
// reuse does not bring its time along.
func TestBubbleLeavesNoTime(t *testing.T) {
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "ok") })
	date := func(t *testing.T) time.Duration {
		resp, err := TestClient(t, &Server{Handler: h}).Get("http://h/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		date, err := http.ParseTime(resp.Header.Get("Date"))
		if err != nil {
			t.Fatal(err)
		}
		return time.Since(date).Abs()
	}
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			if off := date(t); off > 3*time.Second {
				t.Errorf("in a bubble Date is off by %v", off)
			}
		})
		if off := date(t); off > 3*time.Second {
			t.Errorf("outside Date is off by %v", off)
		}
	}
}

func TestTestServer(t *testing.T) {
	url := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "ok") })})
	if status, body := get(t, url+"/"); status != http.StatusOK || body != "ok" {
		t.Errorf("%d %q", status, body)
	}
	http.DefaultClient.CloseIdleConnections()
}
