// Dashboard is examples/dashboard in net/http and chi: the same routes, rules, refusals
// and pages, written with what these have. From bench/:
//
//	go run ./chi/dashboard
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io/fs"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
)

const (
	bodyMax      = 16 << 10
	historyMax   = 100
	sessionsMax  = 10_000
	sessionHours = 24
	cookieName   = "session"
	policy       = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action 'self'"
)

var states = []string{"up", "slow", "down"}

// A service is a line of the board.
type service struct {
	Name  string    `json:"name"`
	State string    `json:"state"`
	Note  string    `json:"note"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
}

// A problem is an error with its status, and what may be said of it.
type problem struct {
	Code    int
	Message string
}

func (p *problem) Error() string { return p.Message }

// An event is one of server-sent events; those without a number are not kept.
type event struct {
	number int
	text   []byte
}

// A hub has the streams that are open, and the last events for who comes back.
type hub struct {
	mu      sync.Mutex
	streams map[chan []byte]bool
	history []event
}

func (h *hub) broadcast(number int, kind string, v any) {
	data, _ := json.Marshal(v)
	var b bytes.Buffer
	if number > 0 {
		fmt.Fprintf(&b, "id: %d\n", number)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", kind, data)
	h.mu.Lock()
	defer h.mu.Unlock()
	if number > 0 {
		if len(h.history) == historyMax {
			h.history = slices.Delete(h.history, 0, 1)
		}
		h.history = append(h.history, event{number, b.Bytes()})
	}
	for c := range h.streams {
		select {
		case c <- b.Bytes():
		default: // too slow: it comes back, and is told what it missed
			delete(h.streams, c)
			close(c)
		}
	}
}

// join returns a stream, which begins with what came since an event.
func (h *hub) join(since int) chan []byte {
	c := make(chan []byte, historyMax+16)
	h.mu.Lock()
	defer h.mu.Unlock()
	if since > 0 {
		for _, e := range h.history {
			if e.number > since {
				c <- e.text
			}
		}
	}
	h.streams[c] = true
	return c
}

func (h *hub) leave(c chan []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, c)
}

func (h *hub) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	since, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	c := h.join(since)
	defer h.leave(c)
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	if out.Flush() != nil {
		return
	}
	alive := time.NewTicker(15 * time.Second)
	defer alive.Stop()
	for {
		text := []byte(":\n\n")
		select {
		case <-r.Context().Done():
			return
		case <-alive.C:
		case t, ok := <-c:
			if !ok {
				return
			}
			text = t
		}
		out.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := w.Write(text); err != nil || out.Flush() != nil {
			return
		}
	}
}

// A session is what is known of a visitor.
type session struct {
	user, notice string
	ends         time.Time
}

// sessions has them by the identifier in a cookie.
type sessions struct {
	mu  sync.Mutex
	all map[string]session
}

func (s *sessions) get(r *http.Request) session {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return session{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.all[c.Value]
	if time.Now().After(v.ends) {
		return session{}
	}
	return v
}

// set puts a session under an identifier of its own: whoever knew the one before does not share it.
func (s *sessions) set(w http.ResponseWriter, r *http.Request, v session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, err := r.Cookie(cookieName); err == nil {
		delete(s.all, c.Value)
	}
	now := time.Now()
	if len(s.all) >= sessionsMax {
		maps.DeleteFunc(s.all, func(_ string, old session) bool { return now.After(old.ends) })
	}
	for id := range s.all {
		if len(s.all) < sessionsMax {
			break
		}
		delete(s.all, id)
	}
	id := rand.Text()
	v.ends = now.Add(sessionHours * time.Hour)
	s.all[id] = v
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: id, Path: "/", MaxAge: sessionHours * 3600, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// takeNotice returns what is to be said once.
func (s *sessions) takeNotice(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.all[c.Value]
	if !ok {
		return ""
	}
	notice := v.notice
	v.notice = ""
	s.all[c.Value] = v
	return notice
}

// A limiter lets an address do something a number of times, and again with time.
type limiter struct {
	rate, burst float64
	mu          sync.Mutex
	all         map[string]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func (l *limiter) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		now := time.Now()
		l.mu.Lock()
		if len(l.all) > sessionsMax {
			clear(l.all)
		}
		b, ok := l.all[host]
		if !ok {
			b = bucket{l.burst, now}
		}
		b.left = min(l.burst, b.left+now.Sub(b.at).Seconds()*l.rate)
		b.at = now
		enough := b.left >= 1
		if enough {
			b.left--
		}
		l.all[host] = b
		l.mu.Unlock()
		if !enough {
			w.Header().Set("Retry-After", strconv.Itoa(int((1-b.left)/l.rate)+1))
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// A board is what all pages show. The hub tells them of each change of its version.
type board struct {
	hub      hub
	sessions sessions
	pages    *template.Template
	password string
	requests atomic.Uint64
	open     atomic.Int64

	mu       sync.Mutex
	services []service // guarded by mu
	version  int       // guarded by mu
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on, host:port")
	password := flag.String("password", rand.Text(), "for everybody; random without it")
	pages := flag.String("pages", "../examples/dashboard/page", "folder of the pages")
	flag.Parse()
	s, err := newServer([]string{"mail", "search", "web"}, *password, os.DirFS(*pages))
	if err != nil {
		log.Fatal(err)
	}
	s.Addr = *addr
	fmt.Printf("dashboard: http://%s/ with any name, and password %s\n", *addr, *password)
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	s.BaseContext = func(net.Listener) context.Context { return stop } // ends the streams too
	served := make(chan error, 1)
	go func() { served <- s.ListenAndServe() }()
	select {
	case err := <-served:
		log.Fatal(err)
	case <-stop.Done():
		s.Shutdown(context.Background())
	}
}

func newServer(services []string, password string, files fs.FS) (*http.Server, error) {
	pages, err := template.ParseFS(files, "*.html")
	if err != nil {
		return nil, err
	}
	static, err := fs.Sub(files, "static")
	if err != nil {
		return nil, err
	}
	b := &board{hub: hub{streams: make(map[chan []byte]bool)}, sessions: sessions{all: make(map[string]session)}, pages: pages, password: password}
	for _, name := range services {
		b.services = append(b.services, service{Name: name, State: states[0], At: time.Now()})
	}
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(b.refuse(http.StatusForbidden))
	logins := &limiter{rate: 0.2, burst: 10, all: make(map[string]bucket)}
	r := chi.NewRouter()
	r.Use(middleware.Recoverer, b.count, secure, origin.Handler, middleware.RequestSize(bodyMax))
	r.NotFound(b.refuse(http.StatusNotFound))
	r.MethodNotAllowed(b.refuse(http.StatusMethodNotAllowed))
	r.Handle("/static/*", http.StripPrefix("/static", http.FileServerFS(static)))
	r.Get("/login", b.handle(b.loginPage))
	r.With(logins.wrap).Post("/login", b.handle(b.login))
	r.Post("/logout", b.handle(b.logout))
	r.Group(func(r chi.Router) {
		r.Use(b.members)
		r.Get("/", b.handle(b.page))
		r.Post("/services/{name}", b.handle(b.change))
		r.Handle("/events", &b.hub)
	})
	b.measure(0)
	return &http.Server{Handler: r, ConnState: b.connState, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}, nil
}

func (b *board) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		next.ServeHTTP(w, r)
	})
}

func (b *board) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		b.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		b.open.Add(-1)
	}
}

// secure is what a page says of what may be done with it.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		next.ServeHTTP(w, r)
	})
}

// members lets in who has logged in.
func (b *board) members(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if b.sessions.get(r).user == "" {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// render answers with a page, whole or not at all.
func (b *board) render(w http.ResponseWriter, status int, name string, data any) error {
	var page bytes.Buffer
	if err := b.pages.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	w.Write(page.Bytes())
	return nil
}

// handle calls a handler that returns an error instead of answering.
func (b *board) handle(h func(w http.ResponseWriter, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		p := &problem{http.StatusInternalServerError, "The reason is in the log."}
		var large *http.MaxBytesError
		switch {
		case errors.As(err, &p):
		case errors.As(err, &large):
			p = &problem{Code: http.StatusRequestEntityTooLarge}
		default:
			slog.Error("handler failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		b.render(w, p.Code, "error.html", p)
	}
}

func (b *board) refuse(code int) http.HandlerFunc {
	return b.handle(func(http.ResponseWriter, *http.Request) error { return &problem{Code: code} })
}

// required returns a field of a form that has to be there.
func required(r *http.Request, name string) (string, error) {
	if err := r.ParseForm(); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return "", err
		}
		return "", &problem{http.StatusBadRequest, "the form is malformed"}
	}
	if r.PostForm.Get(name) == "" {
		return "", &problem{http.StatusBadRequest, "form " + name + ": is required"}
	}
	return r.PostForm.Get(name), nil
}

func (b *board) loginPage(w http.ResponseWriter, r *http.Request) error {
	return b.render(w, http.StatusOK, "login.html", b.sessions.takeNotice(r))
}

func (b *board) login(w http.ResponseWriter, r *http.Request) error {
	user, err := required(r, "user")
	if err != nil {
		return err
	}
	password, err := required(r, "password")
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(password), []byte(b.password)) != 1 {
		b.sessions.set(w, r, session{notice: "That is not the password."})
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return nil
	}
	b.sessions.set(w, r, session{user: user})
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

func (b *board) logout(w http.ResponseWriter, r *http.Request) error {
	b.sessions.set(w, r, session{notice: "You have logged out."})
	http.Redirect(w, r, "/login", http.StatusSeeOther)
	return nil
}

func (b *board) page(w http.ResponseWriter, r *http.Request) error {
	b.mu.Lock()
	data := map[string]any{"Services": slices.Clone(b.services), "Version": b.version, "States": states}
	b.mu.Unlock()
	data["User"], data["Notice"] = b.sessions.get(r).user, b.sessions.takeNotice(r)
	return b.render(w, http.StatusOK, "board.html", data)
}

func (b *board) change(w http.ResponseWriter, r *http.Request) error {
	state, err := required(r, "state")
	if err != nil {
		return err
	}
	name, note, v := chi.URLParam(r, "name"), r.PostForm.Get("note"), b.sessions.get(r)
	if !slices.Contains(states, state) || len(note) > 200 {
		return &problem{http.StatusUnprocessableEntity, "state must be up, slow or down, with a note of up to 200 letters"}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.services, func(s service) bool { return s.Name == name })
	if i < 0 {
		return &problem{http.StatusNotFound, "there is no such service"}
	}
	b.services[i] = service{name, state, strings.TrimSpace(note), v.user, time.Now()}
	b.version++
	b.hub.broadcast(b.version, "service", b.services[i])
	v.notice = name + " is " + state + "."
	b.sessions.set(w, r, v)
	http.Redirect(w, r, "/", http.StatusSeeOther)
	return nil
}

// measure tells once a second how the server is, and which version of the board to have.
func (b *board) measure(before uint64) {
	requests := b.requests.Load()
	b.mu.Lock()
	figures := map[string]any{"version": b.version, "rate": requests - before, "open": b.open.Load(), "watch": b.hub.len()}
	b.mu.Unlock()
	b.hub.broadcast(0, "figures", figures)
	time.AfterFunc(time.Second, func() { b.measure(requests) })
}
