package flare

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 5 (surface): a line of a log for each request. exchange_end.go
// says what there is to be told; access_log_format.go writes the lines that are not
// slog's to write.

// An AccessFormat is how AccessLog writes a line.
type AccessFormat int

const (
	AccessJSON     AccessFormat = iota // as slog.JSONHandler does
	AccessText                         // as slog.TextHandler does
	AccessCommon                       // the common log format
	AccessCombined                     // that with Referer and User-Agent behind it
)

// An AccessLog writes a line about each request, by its method Log as
// Server.AccessHook. It has the time, method, target, pattern, version, status,
// octets of both bodies, duration, the peer's address, the client's if that is
// another, and where there are such things the ids of request and trace, the name that TLS was
// asked for and the error. What clients have sent is escaped. The zero value logs to
// slog.Default. It must not be changed once it is in use.
type AccessLog struct {
	// Logger gets the lines, at slog.LevelInfo; nil is slog.Default.
	Logger *slog.Logger

	// Output, when set, gets the lines in place of Logger, each in one Write, one
	// after the other, and in Format. That costs a third of what slog does, and no
	// allocation. What it returns is not looked at.
	Output io.Writer
	Format AccessFormat

	// Filter, when set, says which requests are logged.
	Filter func(AccessEntry) bool

	// Sample is how many requests there are to a line, if their status is below 400
	// and they have no error; all others are logged. 0 and 1 log all.
	Sample int

	passed atomic.Uint64 // requests that Sample is about
	mu     sync.Mutex    // held while Output is written to
}

// Log writes the line for a request. It is for Server.AccessHook.
func (l *AccessLog) Log(e AccessEntry) {
	if l.Filter != nil && !l.Filter(e) {
		return
	}
	if l.Sample > 1 && e.Err == nil && e.Status > 0 && e.Status < 400 && l.passed.Add(1)%uint64(l.Sample) != 1 {
		return
	}
	if l.Output == nil {
		l.logSlog(e)
		return
	}
	line := accessLines.Get().(*accessLine)
	line.b = line.b[:0]
	if line.appendEntry(l.Format, &e) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.Output.Write(line.b)
	}
	if cap(line.b) <= accessLineKept {
		accessLines.Put(line)
	}
}

// accessMessage is the message of a line.
const accessMessage = "request"

// logSlog has slog write the line.
func (l *AccessLog) logSlog(e AccessEntry) {
	logger := l.Logger
	if logger == nil {
		logger = slog.Default()
	}
	ctx, r := context.Background(), e.Request
	if !logger.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 14)
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	text("method", r.Method())
	text("target", r.Target())
	text("pattern", r.Pattern())
	text("proto", r.Proto())
	attrs = append(attrs, slog.Int("status", e.Status), slog.Int64("bytes_in", e.BytesIn),
		slog.Int64("bytes_out", e.BytesOut), slog.Duration("duration", e.Duration))
	peer, client := r.RemoteAddr(), r.ClientAddr()
	if peer.IsValid() {
		text("peer", peer.String())
	}
	if client.IsValid() && client != peer {
		text("client", client.Addr().String())
	}
	text("request_id", r.RequestID())
	if t, ok := r.Value(traceKey{}).(TraceContext); ok {
		text("trace_id", t.traceID())
	}
	if state := r.TLS(); state != nil {
		text("tls_name", state.ServerName)
	}
	if e.Err != nil {
		text("error", e.Err.Error())
	}
	logger.LogAttrs(ctx, slog.LevelInfo, accessMessage, attrs...)
}

// An accessLine is memory for one line.
type accessLine struct {
	b       []byte
	scratch []byte // of one value
}

// accessLineKept bounds the memory that stays for the next line.
const accessLineKept = 4 << 10

var accessLines = sync.Pool{New: func() any { return &accessLine{b: make([]byte, 0, 512)} }}

// appendEntry appends the line. It reports whether the request could be asked.
func (a *accessLine) appendEntry(format AccessFormat, e *AccessEntry) bool {
	x := e.Request.lease.use()
	if x == nil {
		return false
	}
	defer e.Request.lease.exit()
	switch format {
	case AccessCommon, AccessCombined:
		a.appendCommon(e, x, format == AccessCombined)
	case AccessText:
		a.appendFields(e, x, textStyle{})
	default:
		a.appendFields(e, x, jsonStyle{})
	}
	a.b = append(a.b, '\n')
	return true
}

// A lineStyle is how a line has its keys and values.
type lineStyle interface {
	begin(b []byte, t time.Time) []byte // with time, level and message
	key(b []byte, key string) []byte
	text(b []byte, s string) []byte
	duration(b []byte, d time.Duration) []byte
	end(b []byte) []byte
}

// appendFields appends the line in slog's formats.
func (a *accessLine) appendFields(e *AccessEntry, x *exchange, style lineStyle) {
	r := &x.r
	a.b = style.begin(a.b, e.Start.Add(e.Duration))
	a.text(style, "method", r.methodView())
	a.text(style, "target", r.view(r.head.target))
	if r.match != nil {
		a.scratch = r.match.appendPattern(a.scratch[:0])
		a.text(style, "pattern", viewString(a.scratch))
	}
	a.text(style, "proto", r.Proto())
	for _, n := range [...]struct {
		key   string
		value int64
	}{{"status", int64(e.Status)}, {"bytes_in", e.BytesIn}, {"bytes_out", e.BytesOut}} {
		a.b = strconv.AppendInt(style.key(a.b, n.key), n.value, 10)
	}
	a.b = style.duration(style.key(a.b, "duration"), e.Duration)
	a.appendNames(r, style)
	if e.Err != nil {
		a.text(style, "error", e.Err.Error())
	}
	a.b = style.end(a.b)
}

// appendNames appends who has asked, and by which names others know the request.
func (a *accessLine) appendNames(r *serverRequest, style lineStyle) {
	peer, client := r.RemoteAddr(), r.ClientAddr()
	if peer.IsValid() {
		a.scratch = peer.AppendTo(a.scratch[:0])
		a.text(style, "peer", viewString(a.scratch))
	}
	if client.IsValid() && client != peer {
		a.scratch = client.Addr().AppendTo(a.scratch[:0])
		a.text(style, "client", viewString(a.scratch))
	}
	a.text(style, "request_id", r.id)
	if t, ok := r.Value(traceKey{}).(TraceContext); ok {
		a.scratch = hex.AppendEncode(a.scratch[:0], t.TraceID[:])
		a.text(style, "trace_id", viewString(a.scratch))
	}
	if state := r.TLS(); state != nil {
		a.text(style, "tls_name", state.ServerName)
	}
}

// text appends a value that is there.
func (a *accessLine) text(style lineStyle, key, value string) {
	if value != "" {
		a.b = style.text(style.key(a.b, key), value)
	}
}

// appendCommon appends a line in the common log format. Apache's httpd has it, and
// how what clients send is escaped in it.
func (a *accessLine) appendCommon(e *AccessEntry, x *exchange, combined bool) {
	r, b := &x.r, a.b
	if client := r.ClientAddr(); client.IsValid() {
		b = client.Addr().AppendTo(b)
	} else {
		b = append(b, '-')
	}
	b = append(b, " - "...)
	user, _ := r.Value(authUserKey{}).(string)
	b = appendCommonText(b, user, true)
	b = e.Start.AppendFormat(b, ` [02/Jan/2006:15:04:05 -0700] "`)
	if method := r.methodView(); method != "" {
		b = append(appendCommonText(b, method, false), ' ')
		b = append(appendCommonText(b, r.view(r.head.target), false), ' ')
		b = append(b, r.Proto()...)
	} else {
		b = append(b, '-')
	}
	b = append(b, `" `...)
	b = append(strconv.AppendInt(b, int64(e.Status), 10), ' ')
	b = strconv.AppendInt(b, e.BytesOut, 10)
	if combined {
		for _, name := range [...]string{"Referer", "User-Agent"} {
			var room [1]string
			b = append(b, ` "`...)
			if values := r.fieldViews(name, room[:0]); len(values) > 0 {
				b = appendCommonText(b, values[0], false)
			} else {
				b = append(b, '-')
			}
			b = append(b, '"')
		}
	}
	a.b = b
}
