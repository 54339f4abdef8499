package flare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// clumsyTexts are what clients may send to be logged.
var clumsyTexts = []string{
	"plain", "", "a b", `"quoted"`, `back\slash`, "tab\t", "line\nline\r\n", "\x00\x01\x1f\x7f", "bell\a\b\f\v", "é ü 漢字", "\xff\xfe", "a\xc3",
	"\u2028\u2029", "\u00a0", "<script>&amp;", "key=value", "\U0001f600", "\u200b", "\ufffd",
}

// The lines are, octet by octet, those of slog's handlers, whatever clients send.
func TestAccessLogIsSlogs(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 891_234_567, time.FixedZone("", 3600))
	for _, text := range clumsyTexts {
		for format, handler := range map[AccessFormat]func(w io.Writer) slog.Handler{
			AccessJSON: func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
			AccessText: func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		} {
			var slogs, own bytes.Buffer
			e := AccessEntry{Status: 200, BytesIn: 1, BytesOut: 1 << 40, Start: at, Duration: 1500 * time.Microsecond}
			if text != "" {
				e.Err = errors.New(text)
			}
			e.Request = newMuxRequest("GET", "h", "/"+text)
			r := behindRequest(e.Request)
			r.head.target = r.head.path
			r.head.target.end = uint32(len(r.raw))
			r.id = text
			r.match = &routeMatch{}
			r.origin = &requestOrigin{peer: netip.MustParseAddrPort("10.0.0.1:80"), proto: "HTTP/1.1", proxies: &proxyTrust{private: true}}
			r.header.Add("X-Forwarded-For", "2001:db8::1")
			r.filled, r.ctx = true, context.Background()
			r.SetValue(traceKey{}, TraceContext{TraceID: [16]byte{1, 0xab}})
			stamped := stampedHandler{handler(&slogs), at.Add(e.Duration)}
			(&AccessLog{Logger: slog.New(stamped)}).Log(e)
			(&AccessLog{Output: &own, Format: format}).Log(e)
			if sameSlog(own.String()) != sameSlog(slogs.String()) {
				t.Errorf("format %d, %q:\n%s\nslog has\n%s", format, text, own.String(), slogs.String())
			}
			if n := strings.Count(own.String(), "\n"); n != 1 || !strings.Contains(own.String(), "2001:db8::1") {
				t.Errorf("%d lines: %q", n, own.String())
			}
			if format == AccessJSON && !json.Valid(own.Bytes()) {
				t.Errorf("no JSON: %s", own.String())
			}
		}
	}
}

// sameSlog writes the character for what is no UTF-8 as slog does since Go 1.27: as it
// is. Before, its JSON has an escape for it.
func sameSlog(line string) string { return strings.ReplaceAll(line, `\ufffd`, "\ufffd") }

// A stampedHandler gives records a time.
type stampedHandler struct {
	slog.Handler
	at time.Time
}

func (h stampedHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Time = h.at
	return h.Handler.Handle(ctx, r)
}

// FuzzAccessLogText holds the escaping in lines to that of slog.
func FuzzAccessLogText(f *testing.F) {
	for _, s := range clumsyTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" || strings.Contains(s, "\x7f") { // DEL, which slog leaves as it is, and a terminal obeys
			return
		}
		for _, row := range []struct {
			style   lineStyle
			handler func(w io.Writer, o *slog.HandlerOptions) slog.Handler
		}{
			{jsonStyle{}, func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(w, o) }},
			{textStyle{}, func(w io.Writer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(w, o) }},
		} {
			var want bytes.Buffer
			slog.New(row.handler(&want, nil)).Info(accessMessage, "k", s)
			_, rest, _ := strings.Cut(want.String(), accessMessage)
			got := string(row.style.end(row.style.text(row.style.key(nil, "k"), s))) + "\n"
			if sameSlog(got) != sameSlog(strings.TrimPrefix(rest, `"`)) {
				t.Errorf("%q: got %s, slog has %s", s, got, rest)
			}
		}
		common := appendCommonText(nil, s, true)
		for _, c := range common {
			if c <= ' ' || c >= 0x7f {
				t.Errorf("%q becomes %q", s, common)
			}
		}
	})
}

// The common log format, as Apache's httpd documents it.
func TestAccessLogCommon(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.FixedZone("", -3600))
	for _, row := range []struct {
		format AccessFormat
		target string
		user   string
		agent  string
		want   string
	}{
		{AccessCommon, "/x%3Fy=1", "", "", `192.0.2.1 - - [04/Mar/2026:05:06:07 -0100] "GET /x%3Fy=1 HTTP/1.1" 200 7`},
		{AccessCommon, "/x", `ada "x" y`, "", `192.0.2.1 - ada\x20\"x\"\x20y [04/Mar/2026:05:06:07 -0100] "GET /x HTTP/1.1" 200 7`},
		{AccessCombined, "/x", "", "", `192.0.2.1 - - [04/Mar/2026:05:06:07 -0100] "GET /x HTTP/1.1" 200 7 "-" "-"`},
		{AccessCombined, "/\xff", "", "a\"\n\\b", `192.0.2.1 - - [04/Mar/2026:05:06:07 -0100] "GET /\xff HTTP/1.1" 200 7 "-" "a\"\x0a\\b"`},
	} {
		var out bytes.Buffer
		e := AccessEntry{Status: 200, BytesOut: 7, Start: at, Request: newMuxRequest("GET", "h", row.target)}
		r := behindRequest(e.Request)
		r.head.target = r.head.path
		r.head.target.end = uint32(len(r.raw))
		r.origin = &requestOrigin{peer: netip.MustParseAddrPort("192.0.2.1:80"), proto: "HTTP/1.1"}
		r.filled, r.ctx = true, context.Background()
		if row.user != "" {
			r.SetValue(authUserKey{}, row.user)
		}
		if row.agent != "" {
			r.header.list = append(r.header.list, headerField{name: "User-Agent", value: row.agent})
		}
		(&AccessLog{Output: &out, Format: row.format}).Log(e)
		if got := strings.TrimSuffix(out.String(), "\n"); got != row.want {
			t.Errorf("got\n%s\nwant\n%s", got, row.want)
		}
	}
}

// Of what went well one in so many is logged; of what did not, all that the filter
// lets pass.
func TestAccessLogSample(t *testing.T) {
	var lines atomic.Int64
	l := &AccessLog{Sample: 10, Output: countingWriter{&lines}, Filter: func(e AccessEntry) bool { return e.Status != 404 }}
	e := AccessEntry{Request: newMuxRequest("GET", "h", "/")}
	behindRequest(e.Request).origin = new(requestOrigin)
	behindRequest(e.Request).ctx = context.Background()
	for _, row := range []struct {
		status int
		err    error
		want   int64
	}{{200, nil, 10}, {301, nil, 10}, {500, nil, 100}, {0, nil, 100}, {200, io.EOF, 100}, {404, nil, 0}} {
		lines.Store(0)
		e.Status, e.Err = row.status, row.err
		for range 100 {
			l.Log(e)
		}
		if lines.Load() != row.want {
			t.Errorf("%d, %v: %d lines, want %d", row.status, row.err, lines.Load(), row.want)
		}
	}
}

type countingWriter struct{ n *atomic.Int64 }

func (w countingWriter) Write(p []byte) (int, error) { w.n.Add(1); return len(p), nil }

// A line says what was asked, by HTTP over a socket.
func TestAccessLogLine(t *testing.T) {
	var out logBook
	log := &AccessLog{Output: &out}
	s := &Server{Handler: endings(), AccessHook: log.Log, Logger: quietLogger()}
	c := dialRaw(t, startServer(t, s))
	c.get("/text/you?x=1").want(t, 200, "hello")
	c.get("/failed").want(t, 500, "Internal Server Error\n")
	eventually(t, "two lines", func() bool { return strings.Count(out.String(), "\n") == 2 })
	for i, want := range []map[string]any{
		{"level": "INFO", "msg": "request", "method": "GET", "target": "/text/you?x=1", "pattern": "GET /text/{name}", "proto": "HTTP/1.1",
			"status": 200., "bytes_in": 0., "bytes_out": 5., "peer": c.LocalAddr().String()},
		{"status": 500., "error": "secret"},
	} {
		var got map[string]any
		line := strings.Split(out.String(), "\n")[i]
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		for key, value := range want {
			if fmt.Sprint(got[key]) != fmt.Sprint(value) {
				t.Errorf("%s is %v, want %v, in %s", key, got[key], value, line)
			}
		}
	}
}
