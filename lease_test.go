package flare

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// These tests use what a handler was given after its end, while the same exchange
// may be another request's.

// heldViews are what a handler can keep of one request.
type heldViews struct {
	w       *ResponseWriter
	r       *Request
	body    io.ReadCloser
	events  *EventStream
	next    io.WriteCloser // of a hook
	wHeader *Header
	rHeader *Header
	trailer *Header
	clone   *Request
}

// TestUseAfterHandler has every call that returns an error return one, once the
// handler has returned.
func TestUseAfterHandler(t *testing.T) {
	held, _, _ := heldAfter(t)
	for name, call := range map[string]func() error{
		"Body.Read":        func() error { _, err := held.body.Read(make([]byte, 1)); return err },
		"Body again":       func() error { _, err := io.ReadAll(held.r.Body()); return err },
		"Bytes":            func() error { _, err := held.r.Bytes(); return err },
		"JSON":             func() error { return held.r.JSON(new(any)) },
		"Form":             func() error { _, err := held.r.Form(); return err },
		"Multipart":        func() error { _, err := held.r.Multipart(); return err },
		"MultipartReader":  func() error { _, err := held.r.MultipartReader(); return err },
		"StrictJSON":       func() error { return held.r.StrictJSON(new(any)) },
		"Precondition":     func() error { _, err := held.w.Precondition("", time.Time{}); return err },
		"FormFile":         func() error { _, _, err := held.r.FormFile("f"); return err },
		"ServeContent":     func() error { return held.w.ServeContent("x", time.Time{}, strings.NewReader("x")) },
		"Write":            func() error { _, err := held.w.Write([]byte("x")); return err },
		"WriteString":      func() error { _, err := held.w.WriteString("x"); return err },
		"ReadFrom":         func() error { _, err := held.w.ReadFrom(strings.NewReader("x")); return err },
		"Flush":            func() error { return held.w.Flush() },
		"Text":             func() error { return held.w.Text(200, "x") },
		"HTML":             func() error { return held.w.HTML(200, "x") },
		"Blob":             func() error { return held.w.Blob(200, "x/y", nil) },
		"response JSON":    func() error { return held.w.JSON(200, 1) },
		"Redirect":         func() error { return held.w.Redirect(302, "/x") },
		"SendFile":         func() error { return held.w.SendFile("go.mod") },
		"Informational":    func() error { return held.w.Informational(103, nil) },
		"EventStream":      func() error { _, err := held.w.EventStream(); return err },
		"Send":             func() error { return held.events.Send(ServerSentEvent{Data: "x"}) },
		"SendFrom":         func() error { return held.events.SendFrom(nil, 0) },
		"Comment":          func() error { return held.events.Comment("x") },
		"SetReadDeadline":  func() error { return held.w.SetReadDeadline(time.Now()) },
		"SetWriteDeadline": func() error { return held.w.SetWriteDeadline(time.Now()) },
		"Hijack":           func() error { _, _, err := held.w.Hijack(); return err },
		"hook's Write":     func() error { _, err := held.next.Write([]byte("x")); return err },
		"hook's Flush":     func() error { return held.next.(interface{ Flush() error }).Flush() },
		"AcceptWebSocket":  func() error { _, err := AcceptWebSocket(held.w, held.r, nil); return err },
		"WebSocketHandler": func() error { return new(WebSocketHandler).Serve(held.w, held.r) },
		"FromHTTP":         func() error { return FromHTTP(http.NotFoundHandler()).Serve(held.w, held.r) },
		"Mux":              func() error { return NewMux().Serve(held.w, held.r) },
	} {
		if err := call(); err == nil {
			t.Errorf("%s works", name)
		} else if strings.HasPrefix(name, "Body") && !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if held.clone.Path() != "/kept" || held.clone.Query().Get("a") != "b" || held.clone.Header().Get("X-Sent") != "1" {
		t.Error("the clone has changed")
	}
}

// TestAccessAfterHandler has calls without an error return nothing and do
// nothing; one line in the log has the stack. Under the race detector they panic.
func TestAccessAfterHandler(t *testing.T) {
	held, again, log := heldAfter(t)
	for name, call := range map[string]func() any{
		"Method":        func() any { return held.r.Method() },
		"Target":        func() any { return held.r.Target() },
		"Path":          func() any { return held.r.Path() },
		"Host":          func() any { return held.r.Host() },
		"Proto":         func() any { return held.r.Proto() },
		"Pattern":       func() any { return held.r.Pattern() },
		"PathValue":     func() any { return held.r.PathValue("x") },
		"URL":           func() any { return held.r.URL().String() },
		"Query":         func() any { return held.r.Query().Get("a") },
		"RemoteAddr":    func() any { return map[bool]string{true: "there"}[held.r.RemoteAddr().IsValid()] },
		"ClientAddr":    func() any { return map[bool]string{true: "there"}[held.r.ClientAddr().IsValid()] },
		"RequestID":     func() any { return held.r.RequestID() },
		"LastEventID":   func() any { return held.events.LastEventID() },
		"Scheme":        func() any { return held.r.Scheme() },
		"ClientHost":    func() any { return held.r.ClientHost() },
		"Cookie":        func() any { v, _ := held.r.Cookie("c"); return v },
		"field":         func() any { return held.rHeader.Get("X-Sent") },
		"trailer":       func() any { return held.trailer.Get("X-Sent") },
		"SetValue":      func() any { held.r.SetValue(1, "v"); return "" },
		"Value":         func() any { v, _ := held.r.Value(1).(string); return v },
		"WriteHeader":   func() any { held.w.WriteHeader(500); return "" },
		"Header.Set":    func() any { held.wHeader.Set("X-Stray", "1"); return "" },
		"Header.Add":    func() any { held.w.Header().Add("X-Stray", "1"); return "" },
		"Trailer.Set":   func() any { held.w.Trailer().Set("X-Stray", "1"); return "" },
		"OnCommit":      func() any { held.w.OnCommit(nil); return "" },
		"SetCookie":     func() any { held.w.SetCookie(&Cookie{Name: "stray", Value: "1"}); return "" },
		"Route":         func() any { _, pattern := NewMux().Route(held.r); return pattern },
		"ended context": func() any { return map[bool]string{true: "goes on"}[held.r.Context().Err() == nil] },
	} {
		func() {
			defer func() {
				if p := recover(); (p != nil) != raceEnabled {
					t.Errorf("%s: panic %v", name, p)
				}
			}()
			if got := call(); got != "" {
				t.Errorf("%s: %q", name, got)
			}
		}()
	}
	if a := again(); a.StatusCode != 200 || a.Header.Get("X-Stray") != "" || a.Header.Get("Set-Cookie") != "" || a.body != "fine" {
		t.Errorf("the next answer: %d %q, %v", a.StatusCode, a.body, a.Header)
	}
	if n := strings.Count(log(), "after its handler returned"); n != 1 && !raceEnabled {
		t.Errorf("%d lines in the log: %s", n, log())
	}
}

// heldAfter returns what the handler of a request was given, the way to send
// another request on the connection, and what was logged.
func heldAfter(t *testing.T) (held heldViews, again func() answer, log func() string) {
	var lines lockedBuffer
	s := &Server{Loops: 1, Logger: slog.New(slog.NewTextHandler(&lines, nil)), Handler: Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() != "/kept" {
			return w.Text(200, "fine")
		}
		held = heldViews{w: w, r: r, body: r.Body(), events: &EventStream{w, r}, wHeader: w.Header(), rHeader: r.Header(), trailer: r.Trailer(), clone: r.Clone()}
		w.OnCommit(func(_ int, _ *Header, next io.WriteCloser) io.WriteCloser {
			held.next = next
			return next
		})
		return w.Text(200, "held")
	}))}
	c := dialRaw(t, startServer(t, s))
	c.send("POST /kept?a=b HTTP/1.1\r\nHost: h\r\nX-Sent: 1\r\nCookie: c=d\r\nContent-Length: 4\r\n\r\nbody")
	c.answer("POST").want(t, 200, "held")
	again = func() answer { return c.get("/next") }
	again() // its handler runs behind the end of the other's
	return held, again, lines.String
}

// TestRequestsShareLeaseMemory pins that a request costs no allocation of its own.
func TestRequestsShareLeaseMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	some, x := leases(nil), new(exchange)
	if n := testing.AllocsPerRun(10*leasesAtOnce, func() { some.next(x, nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A zero Request and ResponseWriter are as those of an ended handler.
func TestZeroRequest(t *testing.T) {
	if _, err := new(ResponseWriter).Write(nil); err == nil {
		t.Error("a zero ResponseWriter writes")
	}
	if _, err := new(Request).Body().Read(nil); err == nil {
		t.Error("a zero Request has a body")
	}
	if !raceEnabled && new(Request).Context().Err() != context.Canceled {
		t.Error("the context of a zero Request goes on")
	}
}

// TestLeaseSize holds what a request costs in memory: its lease is all that is
// made anew for each.
func TestLeaseSize(t *testing.T) {
	if size := unsafe.Sizeof(lease{}); unsafe.Sizeof(uintptr(0)) == 8 && size > 72 {
		t.Errorf("a lease has %d bytes", size)
	}
}
