package flare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// This file has what becomes of what handlers write, and of handlers that fail.

func TestHandlerFraming(t *testing.T) {
	long := strings.Repeat("x", responseBufferMax+1)
	overrun := make(chan error, 16)
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/text":  textHandler("hello"),
		"/empty": HandlerFunc(func(w *ResponseWriter, r *Request) error { return nil }),
		"/204": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteHeader(204)
			w.Header().Set("Content-Length", "5")
			if _, err := w.WriteString("hello"); !errors.Is(err, http.ErrBodyNotAllowed) {
				overrun <- fmt.Errorf("a body with 204: %v", err)
			}
			return nil
		}),
		"/304": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5")
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
			return nil
		}),
		"/flush": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString("hel")
			if err := w.Flush(); err != nil {
				return err
			}
			w.WriteString("lo")
			return nil
		}),
		"/flushfirst": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if err := w.Flush(); err != nil {
				return err
			}
			w.WriteString("hello")
			return w.Flush()
		}),
		"/long": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for p := long; p != ""; p = p[min(len(p), 1000):] {
				w.WriteString(p[:min(len(p), 1000)])
			}
			return nil
		}),
		"/blob": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Blob(200, "x/y", []byte(long)) }),
		"/declared": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5")
			w.WriteString("he")
			w.Flush()
			w.WriteString("llo")
			return nil
		}),
		"/fewer": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "9")
			w.WriteString("hello")
			return nil
		}),
		"/fewerflushed": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "9")
			w.WriteString("hello")
			return w.Flush()
		}),
		"/more": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5")
			w.WriteString("hello")
			_, err := w.WriteString("more")
			overrun <- err
			return nil
		}),
		"/latelength": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString("hello and more")
			w.Header().Set("Content-Length", "5")
			return nil
		}),
		"/moreflushed": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5")
			w.WriteString("hello")
			w.Flush()
			_, err := w.WriteString("more")
			overrun <- err
			return nil
		}),
		"/badlength": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5, 5")
			return w.Text(200, "hello")
		}),
		"/ownframing": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Transfer-Encoding", "gzip")
			return w.Text(200, "hello")
		}),
		"/close": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Connection", "close")
			return w.Text(200, "hello")
		}),
		"/date": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("date", "mine")
			return w.Text(200, "hello")
		}),
		"/599": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(599, "hello") }),
		"/readfrom": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := w.ReadFrom(strings.NewReader(long))
			return err
		}),
	}}
	addr := startServer(t, s)
	const unknown = -1 // chunked, or until the end of the connection
	for _, row := range []struct {
		method, path string
		code         int
		length       int64 // unknown, or of the field; -2: no field, no chunks
		body         string
		ends         bool // HTTP/1.1: the connection ends behind it
	}{
		{"GET", "/text", 200, 5, "hello", false},
		{"HEAD", "/text", 200, 5, "", false},
		{"GET", "/empty", 200, 0, "", false},
		{"POST", "/empty", 200, 0, "", false},
		{"GET", "/204", 204, -2, "", false},
		{"HEAD", "/204", 204, -2, "", false},
		{"GET", "/304", 304, 5, "", false},
		{"HEAD", "/304", 304, 5, "", false},
		{"GET", "/flush", 200, unknown, "hello", false},
		{"HEAD", "/flush", 200, -2, "", false},
		{"GET", "/flushfirst", 200, unknown, "hello", false},
		{"GET", "/long", 200, unknown, long, false},
		{"HEAD", "/long", 200, -2, "", false},
		{"GET", "/blob", 200, int64(len(long)), long, false},
		{"HEAD", "/blob", 200, int64(len(long)), "", false},
		{"GET", "/declared", 200, 5, "hello", false},
		{"HEAD", "/declared", 200, 5, "", false},
		{"GET", "/more", 200, 5, "hello", false},
		{"GET", "/latelength", 200, 5, "hello", true},
		{"GET", "/moreflushed", 200, 5, "hello", false},
		{"GET", "/badlength", 500, 22, "Internal Server Error\n", false},
		{"GET", "/ownframing", 200, 5, "hello", false},
		{"GET", "/close", 200, 5, "hello", true},
		{"GET", "/date", 200, 5, "hello", false},
		{"GET", "/599", 599, 5, "hello", false},
		{"GET", "/readfrom", 200, unknown, long, false},
		{"GET", "/none", 404, 10, "Not Found\n", false},
	} {
		for _, version := range []string{"1.1", "1.0"} {
			t.Run(row.method+row.path+" "+version, func(t *testing.T) {
				c := dialRaw(t, addr)
				keep := "Connection: keep-alive"
				c.send(head(row.method+" "+row.path+" HTTP/"+version, keep))
				a := c.answer(row.method)
				a.want(t, row.code, row.body)
				fields := c.got.String()
				fields = fields[:strings.Index(fields, "\r\n\r\n")+2]
				chunked := strings.Contains(fields, "\r\nTransfer-Encoding: chunked\r\n")
				hasLength := strings.Contains(fields, "\r\nContent-Length: ")
				switch {
				case row.length >= 0:
					if !strings.Contains(fields, fmt.Sprintf("\r\nContent-Length: %d\r\n", row.length)) || chunked {
						t.Errorf("want Content-Length %d in %q", row.length, fields)
					}
				case row.length == unknown && (hasLength || chunked != (version == "1.1")),
					row.length == -2 && (hasLength || chunked):
					t.Errorf("framing: %q", fields)
				}
				if dates := a.Header.Values("Date"); len(dates) != 1 {
					t.Errorf("Date %q", dates)
				}
				if strings.Contains(fields, "Server:") {
					t.Errorf("Server in %q", fields)
				}
				ends := row.ends || row.length == unknown && version == "1.0"
				keeps := strings.Contains(fields, "\r\nConnection: keep-alive\r\n")
				if version == "1.0" && row.path != "/latelength" && keeps == ends {
					t.Errorf("keep-alive %v, the connection ends: %v", keeps, ends)
				}
				if !ends {
					c.get("/text").want(t, 200, "hello")
					c.CloseWrite()
				}
				c.ended()
			})
		}
	}
	for _, path := range []string{"/fewer", "/fewerflushed"} {
		t.Run("GET"+path, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.send(request(path), request("/text"))
			if a, err := readAnswer(c.br, "GET"); err != io.ErrUnexpectedEOF || a.body != "hello" {
				t.Errorf("%q, %v", a.body, err)
			}
			if bytes.Count(c.got.Bytes(), []byte("HTTP/1.1")) != 1 {
				t.Errorf("more was sent behind a body that is short: %q", c.got.Bytes())
			}
		})
	}
	for range 4 {
		if err := <-overrun; !errors.Is(err, http.ErrContentLength) {
			t.Errorf("writing more than was declared: %v", err)
		}
	}
	select {
	case err := <-overrun:
		t.Error(err)
	default:
	}
}

// TestNothingIsInjected gives every setter what would split a response.
func TestNothingIsInjected(t *testing.T) {
	evils := []string{"a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\x00X-Evil: 1", "a\r\n\r\nX-Evil"}
	var log lockedBuffer
	s := &Server{Logger: slog.New(slog.NewTextHandler(&log, nil)), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		var n int
		fmt.Sscanf(r.URL().RawQuery, "%d", &n)
		switch evil := evils[n]; r.Path() {
		case "/value":
			w.Header().Set("X", evil)
		case "/name":
			w.Header().Set(evil, "x")
		case "/add":
			w.Header().Add("X", evil)
		case "/type":
			return w.Blob(200, evil, []byte("x"))
		case "/redirect":
			return w.Redirect(302, "/"+evil)
		case "/flush":
			w.Header().Set("X", evil)
			w.WriteString("x")
			w.Flush()
		case "/long":
			w.Header().Set("X", evil)
			w.Write(make([]byte, 2*responseBufferMax))
		case "/hook":
			w.OnCommit(func(_ int, h *Header, next io.WriteCloser) io.WriteCloser {
				h.Set("X", evil)
				return next
			})
		}
		return w.Text(200, "x")
	})}
	addr := startServer(t, s)
	for _, path := range []string{"/value", "/name", "/add", "/type", "/redirect", "/flush", "/long", "/hook"} {
		for n := range evils {
			c := dialRaw(t, addr)
			a := c.get(fmt.Sprintf("%s?%d", path, n))
			if a.StatusCode != 500 || strings.Contains(c.got.String(), "X-Evil") {
				t.Errorf("%s %q: %q", path, evils[n], c.got.String())
			}
			c.Close()
		}
	}
	if !strings.Contains(log.String(), "control character") {
		t.Error("the log does not say why")
	}
	if strings.Contains(log.String(), "X-Evil: 1") && !strings.Contains(log.String(), `\\r\\n`) {
		t.Error("the log repeats a value")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestHandlerFails(t *testing.T) {
	const secret = "s3cr3t"
	var log lockedBuffer
	fails := routes{
		"/status":     HandlerFunc(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 418, Message: "short"} }),
		"/statusbare": HandlerFunc(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 409, Err: errors.New(secret)} }),
		"/wrapped": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			return fmt.Errorf("%s: %w", secret, &StatusError{Code: 422})
		}),
		"/odd":   HandlerFunc(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 200, Message: secret} }),
		"/plain": HandlerFunc(func(w *ResponseWriter, r *Request) error { return errors.New(secret) }),
		"/dropped": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("ETag", secret)
			w.WriteHeader(202)
			w.WriteString(secret)
			return errors.New("failed")
		}),
		"/panic": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString(secret)
			panic(secret)
		}),
		"/panicnil": HandlerFunc(func(w *ResponseWriter, r *Request) error { panic(nil) }),
		"/fine":     textHandler("fine"),
		"/goexit":   HandlerFunc(func(w *ResponseWriter, r *Request) error { runtime.Goexit(); return nil }),
	}
	begin := func(w *ResponseWriter) {
		w.WriteString("begun")
		w.Flush()
	}
	fails["/lateerror"] = HandlerFunc(func(w *ResponseWriter, r *Request) error { begin(w); return errors.New(secret) })
	fails["/latestatus"] = HandlerFunc(func(w *ResponseWriter, r *Request) error { begin(w); return &StatusError{Code: 404} })
	fails["/latepanic"] = HandlerFunc(func(w *ResponseWriter, r *Request) error { begin(w); panic(secret) })
	fails["/lategoexit"] = HandlerFunc(func(w *ResponseWriter, r *Request) error { begin(w); runtime.Goexit(); return nil })
	s := &Server{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, row := range []struct {
		name string
		mw   Middleware
	}{{"on a worker", Offload}, {"on the loop", Inline}} {
		t.Run(row.name, func(t *testing.T) {
			pinned := routes{}
			for path, h := range fails {
				pinned[path] = row.mw(h)
			}
			s := &Server{Logger: s.Logger, Handler: pinned}
			addr := startServer(t, s)
			for path, want := range map[string]string{
				"/status": "418 short\n", "/statusbare": "409 Conflict\n", "/wrapped": "422 Unprocessable Entity\n",
				"/odd": "500 Internal Server Error\n", "/plain": "500 Internal Server Error\n", "/dropped": "500 Internal Server Error\n",
				"/panic": "500 Internal Server Error\n", "/panicnil": "500 Internal Server Error\n",
			} {
				t.Run(path[1:], func(t *testing.T) {
					c := dialRaw(t, addr)
					c.send(request("/fine"), request(path), request("/fine"))
					c.answer("GET").want(t, 200, "fine")
					a := c.answer("GET")
					if got := fmt.Sprintf("%d %s", a.StatusCode, a.body); got != want {
						t.Errorf("%q, want %q", got, want)
					}
					c.answer("GET").want(t, 200, "fine") // the failure was the request's
					if strings.Contains(c.got.String(), secret) {
						t.Errorf("leaked: %q", c.got.String())
					}
				})
			}
			for _, path := range []string{"/lateerror", "/latestatus", "/latepanic", "/goexit", "/lategoexit"} {
				t.Run(path[1:], func(t *testing.T) {
					c := dialRaw(t, addr)
					c.send(request("/fine"))
					c.answer("GET").want(t, 200, "fine")
					c.send(request("/fine"), request(path), request("/fine"))
					c.answer("GET").want(t, 200, "fine") // earlier answers are not lost
					a, err := readAnswer(c.br, "GET")
					c.cut(err)
					if strings.Contains(c.got.String(), secret) || path == "/goexit" && a.Response != nil {
						t.Errorf("received %q", c.got.String())
					}
					if path != "/goexit" {
						// Where the end of the connection is the end of the body,
						// only a reset tells a part from the whole.
						old := dialRaw(t, addr)
						old.send("GET ", path, " HTTP/1.0\r\n\r\n")
						_, err := readAnswer(old.br, "GET")
						old.cut(err)
					}
					other := dialRaw(t, addr) // the loop goes on
					other.get("/fine").want(t, 200, "fine")
				})
			}
		})
	}
	if !strings.Contains(log.String(), secret) || !strings.Contains(log.String(), "panicked") || !strings.Contains(log.String(), "stack=") {
		t.Error("the log lacks the reasons")
	}
}

// upper is a hook's writer: it changes what passes, and has a last word.
type upper struct {
	next   io.WriteCloser
	h      *Header
	closed *atomic.Int32
}

func (u upper) Write(p []byte) (int, error) { return u.next.Write(bytes.ToUpper(p)) }

func (u upper) Close() error {
	u.closed.Add(1)
	u.h.Set("X-End", "1") // has an effect only while nothing was sent
	u.next.Write([]byte("."))
	return u.next.Close()
}

func TestOnCommit(t *testing.T) {
	var closed atomic.Int32
	long := strings.Repeat("x", responseBufferMax)
	hooked := func(h HandlerFunc) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser {
				h.Set("X-Status", fmt.Sprint(status))
				return upper{next, h, &closed}
			})
			return h(w, r)
		})
	}
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/short": hooked(textHandler("short")),
		"/empty": hooked(func(w *ResponseWriter, r *Request) error { w.WriteHeader(202); return nil }),
		"/flush": hooked(func(w *ResponseWriter, r *Request) error {
			w.WriteString("a")
			w.Flush()
			w.WriteString("b")
			return nil
		}),
		"/long":   hooked(textHandler(long + "x")),
		"/pieces": hooked(func(w *ResponseWriter, r *Request) error { w.WriteString(long); w.WriteString("x"); return nil }),
		"/error":  hooked(func(w *ResponseWriter, r *Request) error { w.WriteString("dropped"); return errors.New("failed") }),
		"/order": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for _, name := range []string{"1", "2"} {
				w.OnCommit(func(_ int, h *Header, next io.WriteCloser) io.WriteCloser {
					h.Add("X-Order", name)
					return tagged{next, name}
				})
			}
			return w.Text(200, "x")
		}),
	}}
	addr := startServer(t, s)
	c := dialRaw(t, addr)
	for _, row := range []struct {
		path, status, end, body string
		code                    int
		chunked                 bool
	}{
		{"/short", "200", "1", "SHORT.", 200, false},
		{"/empty", "202", "1", ".", 202, false},
		{"/flush", "200", "", "AB.", 200, true},
		{"/long", "200", "", strings.ToUpper(long) + "X.", 200, true},
		{"/pieces", "200", "", strings.ToUpper(long) + "X.", 200, true},
		{"/error", "500", "1", "INTERNAL SERVER ERROR\n.", 500, false},
	} {
		before := closed.Load()
		a := c.get(row.path)
		a.want(t, row.code, row.body)
		if a.Header.Get("X-Status") != row.status || a.Header.Get("X-End") != row.end || (a.ContentLength < 0) != row.chunked {
			t.Errorf("%s: %v, length %d", row.path, a.Header, a.ContentLength)
		}
		if n := closed.Load() - before; n > 1 || n == 0 && row.code < 400 {
			t.Errorf("%s: closed %d times", row.path, n)
		}
	}
	a := c.get("/order")
	a.want(t, 200, "x21") // the last registered is nearest to the handler
	if got := a.Header.Values("X-Order"); strings.Join(got, "") != "12" {
		t.Errorf("called in the order %q", got)
	}
}

type tagged struct {
	io.WriteCloser
	name string
}

func (w tagged) Write(p []byte) (int, error) {
	if _, err := w.WriteCloser.Write(append(bytes.Clone(p), w.name...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// A hook that comes when the head is final is not called: it would change a
// body whose head says nothing of it.
func TestOnCommitTooLate(t *testing.T) {
	compressed := Compress(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.WriteString("second")
		return w.Flush()
	}))
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteString("first ")
		w.Flush()
		return compressed.Serve(w, r)
	})}
	c := dialRaw(t, startServer(t, s))
	c.send(request("/", "Accept-Encoding: gzip"))
	c.answer("GET").want(t, 200, "first second")
}

// Blob declares the length of a long body where that is the whole of it, and
// where nothing is to come behind it.
func TestBlobIsNotAlone(t *testing.T) {
	long := []byte(strings.Repeat("b", responseBufferMax+1))
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Blob(200, "text/plain", long) }),
		"/behind": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString("a")
			return w.Blob(200, "text/plain", long)
		}),
		"/trailer": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Trailer().Set("X-Sum", "1")
			return w.Blob(200, "text/plain", long)
		}),
	}}
	c := dialRaw(t, startServer(t, s))
	a := c.get("/")
	a.want(t, 200, string(long))
	if a.ContentLength != int64(len(long)) {
		t.Errorf("alone: Content-Length %d", a.ContentLength)
	}
	c.get("/behind").want(t, 200, "a"+string(long))
	a = c.get("/trailer")
	a.want(t, 200, string(long))
	if a.Trailer.Get("X-Sum") != "1" {
		t.Errorf("trailer %v", a.Trailer)
	}
}
