// Dashboard is a board of what a team runs: whoever has logged in sees live how it is,
// and tells the others of what changes.
//
//	go run ./examples/dashboard
//	open http://127.0.0.1:8080/
package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io/fs"
	"log"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"flare"
)

//go:embed page
var files embed.FS
var states = []string{"up", "slow", "down"}

// A service is a line of the board.
type service struct {
	Name  string    `json:"name"`
	State string    `json:"state"` // one of states
	Note  string    `json:"note"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
}

// A board is what all pages show. The hub tells them of each change of its version.
type board struct {
	hub      flare.Hub
	pages    flare.Templates
	password string

	mu       sync.Mutex
	services []service // guarded by mu
	version  int       // guarded by mu
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on, host:port")
	password := flag.String("password", rand.Text(), "for everybody; random without it")
	flag.Parse()
	s := newServer([]string{"mail", "search", "web"}, *password)
	s.Addr = *addr
	fmt.Printf("dashboard: http://%s/ with any name, and password %s\n", *addr, *password)
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- s.ListenAndServe() }()
	select {
	case err := <-served:
		log.Fatal(err)
	case <-stop.Done():
		s.Shutdown(context.Background()) // ends the streams too
	}
}

func newServer(services []string, password string) *flare.Server {
	b := &board{hub: flare.Hub{MaxHistory: 100}, pages: template.Must(template.ParseFS(files, "page/*.html")), password: password}
	for _, name := range services {
		b.services = append(b.services, service{Name: name, State: states[0], At: time.Now()})
	}
	static, _ := fs.Sub(files, "page/static") // it is in the program
	key := []byte(rand.Text() + rand.Text())  // of a file, where a restart is not to end all sessions
	sessions := &flare.Sessions{Keys: [][]byte{key}, Store: new(flare.MemorySessions), Insecure: true}
	fields := &flare.SecurityFields{ContentSecurityPolicy: "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action 'self'"}
	mux := flare.NewMux()
	mux.Use(fields.Wrap, new(flare.CrossOrigin).Wrap, sessions.Wrap)
	mux.Mount("/static", &flare.Files{FS: static})
	mux.Get("/login", b.loginPage)
	mux.Post("/login", b.login, (&flare.RateLimiter{Rate: 0.2, Burst: 10}).Wrap)
	mux.Post("/logout", b.logout)
	mux.Get("/{$}", b.page, members)
	mux.Post("/services/{name}", b.change, members)
	mux.Handle("GET /events", &b.hub, members)
	s := &flare.Server{Handler: mux, ErrorHandler: b.failed, MaxBodyBytes: 16 << 10}
	b.measure(s, 0)
	return s
}

// members lets in who has logged in.
func members(h flare.Handler) flare.Handler {
	return flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		if flare.CurrentSession(r).Get("user") == "" {
			return w.Redirect(http.StatusSeeOther, "/login")
		}
		w.Header().Set("Cache-Control", "no-store")
		return h.Serve(w, r)
	})
}

// seeOther leads from a form to a page, which has something to say, once.
func seeOther(w *flare.ResponseWriter, r *flare.Request, page, notice string) error {
	flare.CurrentSession(r).Flash("notice", notice)
	return w.Redirect(http.StatusSeeOther, page)
}

func (b *board) loginPage(w *flare.ResponseWriter, r *flare.Request) error {
	return w.Render(http.StatusOK, b.pages, "login.html", flare.CurrentSession(r).TakeFlash("notice"))
}

type credentials struct {
	User     string `form:"user,required"`
	Password string `form:"password,required"`
}

func (b *board) login(w *flare.ResponseWriter, r *flare.Request) error {
	form, err := flare.Bind[credentials](r)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(form.Password), []byte(b.password)) != 1 {
		return seeOther(w, r, "/login", "That is not the password.")
	}
	s := flare.CurrentSession(r)
	s.Renew() // whoever knew the session before does not share it
	s.Set("user", form.User)
	return w.Redirect(http.StatusSeeOther, "/")
}

func (b *board) logout(w *flare.ResponseWriter, r *flare.Request) error {
	flare.CurrentSession(r).Clear()
	return seeOther(w, r, "/login", "You have logged out.")
}

func (b *board) page(w *flare.ResponseWriter, r *flare.Request) error {
	b.mu.Lock()
	data := map[string]any{"Services": slices.Clone(b.services), "Version": b.version, "States": states}
	b.mu.Unlock()
	s := flare.CurrentSession(r)
	data["User"], data["Notice"] = s.Get("user"), s.TakeFlash("notice")
	return w.Render(http.StatusOK, b.pages, "board.html", data)
}

type change struct {
	Name  string `path:"name"`
	State string `form:"state,required"`
	Note  string `form:"note"`
}

func (c *change) Validate() error {
	if !slices.Contains(states, c.State) || len(c.Note) > 200 {
		return flare.FieldErrors{{In: "form", Field: "state", Rule: "must be up, slow or down, with a note of up to 200 letters"}}
	}
	return nil
}

func (b *board) change(w *flare.ResponseWriter, r *flare.Request) error {
	c, err := flare.Bind[change](r)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.services, func(s service) bool { return s.Name == c.Name })
	if i < 0 {
		return &flare.StatusError{Code: http.StatusNotFound, Message: "there is no such service"}
	}
	b.services[i] = service{c.Name, c.State, strings.TrimSpace(c.Note), flare.CurrentSession(r).Get("user"), time.Now()}
	b.version++
	data, _ := json.Marshal(b.services[i]) // JSON has all of it
	b.hub.Broadcast(flare.ServerSentEvent{ID: strconv.Itoa(b.version), Type: "service", Data: string(data)})
	return seeOther(w, r, "/", c.Name+" is "+c.State+".")
}

// measure tells once a second how the server is, and which version of the board to have.
func (b *board) measure(s *flare.Server, before uint64) {
	st := s.Stats()
	b.mu.Lock()
	data, _ := json.Marshal(map[string]any{"version": b.version, "rate": st.Requests - before, "open": st.Connections.Open, "watch": b.hub.Len()})
	b.mu.Unlock()
	b.hub.Broadcast(flare.ServerSentEvent{Type: "figures", Data: string(data)})
	time.AfterFunc(time.Second, func() { b.measure(s, st.Requests) })
}

// failed is the page for whatever goes wrong.
func (b *board) failed(w *flare.ResponseWriter, r *flare.Request, err error) {
	status := &flare.StatusError{Code: flare.ErrorStatus(err), Message: "The reason is in the log."}
	errors.As(err, &status)
	w.Render(status.Code, b.pages, "error.html", status)
}
