package flare

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// sessionBrowser keeps the one cookie of a server with sessions.
type sessionBrowser struct {
	t      *testing.T
	addr   string
	cookie string // "name=value"
	set    *http.Cookie
}

func (b *sessionBrowser) get(path string) string {
	b.t.Helper()
	a := askFiles(b.t, b.addr, "GET", path, "Cookie: "+b.cookie)
	b.set = nil
	for _, c := range a.Cookies() {
		b.set = c
		if b.cookie = c.Name + "=" + c.Value; c.MaxAge < 0 {
			b.cookie = ""
		}
	}
	return fmt.Sprint(a.StatusCode, " ", a.body)
}

func sessionServer(t *testing.T, o *Sessions) *sessionBrowser {
	mux := NewMux()
	mux.Use(o.Wrap)
	mux.Get("/get", func(w *ResponseWriter, r *Request) error { return w.Text(200, CurrentSession(r).Get("user")) })
	mux.Get("/set/{user}", func(w *ResponseWriter, r *Request) error {
		CurrentSession(r).Set("user", r.PathValue("user"))
		return w.Text(200, "set")
	})
	mux.Get("/fail", func(w *ResponseWriter, r *Request) error {
		CurrentSession(r).Set("user", "failed")
		return &StatusError{Code: 409}
	})
	mux.Get("/flash", func(w *ResponseWriter, r *Request) error {
		CurrentSession(r).Flash("notice", "saved")
		return w.Text(200, "")
	})
	mux.Get("/take", func(w *ResponseWriter, r *Request) error { return w.Text(200, CurrentSession(r).TakeFlash("notice")) })
	mux.Get("/renew", func(w *ResponseWriter, r *Request) error {
		CurrentSession(r).Renew()
		return nil
	})
	mux.Get("/clear", func(w *ResponseWriter, r *Request) error {
		CurrentSession(r).Clear()
		return nil
	})
	mux.Get("/large", func(w *ResponseWriter, r *Request) error {
		CurrentSession(r).Set("user", strings.Repeat("x", 5000))
		return nil
	})
	mux.Get("/late", func(w *ResponseWriter, r *Request) error {
		if err := w.Flush(); err != nil {
			return err
		}
		CurrentSession(r).Set("user", "late")
		return nil
	})
	return &sessionBrowser{t: t, addr: startServer(t, &Server{Logger: quietLogger(), Handler: mux})}
}

func (b *sessionBrowser) want(path, want string) {
	b.t.Helper()
	if got := b.get(path); got != want {
		b.t.Errorf("%s: %q, want %q", path, got, want)
	}
}

var sessionTestKeys = [][]byte{[]byte(strings.Repeat("a", 32)), []byte(strings.Repeat("b", 40))}

func TestSessions(t *testing.T) {
	for name, store := range map[string]SessionStore{"cookie": nil, "store": new(MemorySessions)} {
		b := sessionServer(t, &Sessions{Keys: sessionTestKeys, Store: store})
		if b.want("/get", "200 "); b.set != nil {
			t.Errorf("%s: a cookie for nothing: %v", name, b.set)
		}
		b.want("/set/ada", "200 set")
		if c := b.set; c == nil || c.Name != "__Host-session" || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" ||
			c.SameSite != http.SameSiteLaxMode || c.MaxAge != 14*24*3600 || strings.Contains(c.Value, "ada") {
			t.Errorf("%s: %v", name, c)
		}
		if b.want("/get", "200 ada"); b.set != nil {
			t.Errorf("%s: a cookie though nothing has changed", name)
		}
		b.want("/fail", "409 Conflict\n")
		b.want("/get", "200 failed")
		b.want("/take", "200 ")
		b.want("/flash", "200 ")
		b.want("/get", "200 failed")
		b.want("/take", "200 saved")
		b.want("/take", "200 ")
		before := b.cookie
		b.want("/renew", "200 ")
		if b.want("/get", "200 failed"); b.cookie == before {
			t.Errorf("%s: Renew has left the cookie", name)
		}
		if store != nil {
			old := &sessionBrowser{t: t, addr: b.addr, cookie: before}
			old.want("/get", "200 ")
		}
		before = b.cookie
		b.want("/clear", "200 ")
		if b.want("/get", "200 "); b.cookie != "" {
			t.Errorf("%s: Clear has left %q", name, b.cookie)
		}
		if store != nil {
			old := &sessionBrowser{t: t, addr: b.addr, cookie: before}
			old.want("/get", "200 ")
			b.want("/large", "200 ")
			b.want("/get", "200 "+strings.Repeat("x", 5000))
		} else {
			b.want("/large", "500 Internal Server Error\n")
		}
		if a, err := http.Get("http://" + b.addr + "/late"); err == nil {
			if _, err := a.Body.Read(make([]byte, 1)); err == nil || err.Error() == "EOF" {
				t.Errorf("%s: a change behind the head was lost without a word: %v", name, err)
			}
			a.Body.Close()
		}
	}
}

// No bit of a cookie can be changed, no other cookie or key takes its place, and it
// ends with its time.
func TestSessionTampering(t *testing.T) {
	var now atomic.Int64
	clock := func() time.Time { return time.Unix(1_700_000_000+now.Load(), 0) }
	b := sessionServer(t, &Sessions{Keys: sessionTestKeys[:1], now: clock, MaxAge: time.Hour})
	b.want("/set/ada", "200 set")
	name, value, _ := strings.Cut(b.cookie, "=")
	try := func(b *sessionBrowser, cookie, want string) {
		t.Helper()
		(&sessionBrowser{t: t, addr: b.addr, cookie: cookie}).want("/get", "200 "+want)
	}
	try(b, name+"="+value, "ada")
	for i := range value {
		for _, c := range []byte{'A', 'B', '-', value[i] ^ 1} {
			if c != value[i] && isToken(string(c)) {
				try(b, name+"="+value[:i]+string(c)+value[i+1:], "")
			}
		}
	}
	for _, changed := range []string{"", "x", value[1:], value[:len(value)-1], value + "A", value + value, strings.Repeat("A", 5000)} {
		try(b, name+"="+changed, "")
	}
	// Keys rotate: the old one still opens, and no longer makes cookies.
	rotated := sessionServer(t, &Sessions{Keys: [][]byte{sessionTestKeys[1], sessionTestKeys[0]}, now: clock})
	try(rotated, b.cookie, "ada")
	rotated.cookie = b.cookie
	rotated.want("/set/bob", "200 set")
	try(b, rotated.cookie, "")
	try(rotated, rotated.cookie, "bob")
	gone := sessionServer(t, &Sessions{Keys: sessionTestKeys[1:], now: clock})
	try(gone, b.cookie, "")
	try(gone, rotated.cookie, "bob")
	// The text of a cookie of another name is none.
	other := sessionServer(t, &Sessions{Keys: sessionTestKeys[:1], now: clock, Name: "other", Insecure: true})
	try(other, "other="+value, "")
	now.Store(3599)
	try(b, b.cookie, "ada")
	now.Store(3600)
	try(b, b.cookie, "")
	for _, keys := range [][][]byte{nil, {[]byte("short")}} {
		if panics(func() { (&Sessions{Keys: keys}).Wrap(notFound) }) == nil {
			t.Errorf("keys %q were taken", keys)
		}
	}
}

// The store forgets what has expired, and what was used longest ago where there are
// too many.
func TestMemorySessions(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	m := &MemorySessions{MaxSessions: 3, now: func() time.Time { return now }}
	for i := range 10 {
		m.Save(fmt.Sprint(i), []byte{byte(i)}, now.Add(time.Hour))
		if _, ok, _ := m.Load("0"); i < 3 && !ok {
			t.Errorf("0 is gone after %d", i)
		}
	}
	for i := range 10 {
		data, ok, _ := m.Load(fmt.Sprint(i))
		if want := i == 0 || i >= 8; ok != want || ok && data[0] != byte(i) {
			t.Errorf("%d: %v %v", i, data, ok)
		}
	}
	m.Save("9", []byte("again"), now.Add(time.Minute))
	m.Delete("8")
	if _, ok, _ := m.Load("8"); ok || len(m.byID) != 2 || m.order.Len() != 2 {
		t.Errorf("%d by name, %d in order", len(m.byID), m.order.Len())
	}
	now = now.Add(time.Minute)
	if _, ok, _ := m.Load("9"); ok || len(m.byID) != 1 {
		t.Error("9 has not expired")
	}
	now = now.Add(time.Hour)
	m.Save("new", nil, now.Add(time.Hour))
	if len(m.byID) != 1 {
		t.Errorf("%d are kept that have expired", len(m.byID)-1)
	}
}
