package flare

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// conditionTime is when the file of these tests was changed.
var conditionTime = time.Date(2020, 1, 2, 3, 4, 5, 600, time.UTC)

// conditionFile makes a file of ten bytes, changed at that time.
func conditionFile(t *testing.T, at time.Time) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(name, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, at, at); err != nil {
		t.Fatal(err)
	}
	return name
}

// Conditions and ranges have the outcome that net/http's ServeContent gives
// them, and that the table says: where those two differ, the row says why.
func TestConditions(t *testing.T) {
	const (
		same  = "Thu, 02 Jan 2020 03:04:05 GMT"
		older = "Thu, 02 Jan 2020 03:04:04 GMT"
		newer = "Thu, 02 Jan 2020 03:04:06 GMT"
		all   = "0123456789"
	)
	name := conditionFile(t, conditionTime)
	flares := startServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if tag := r.Header().Get("X-Tag"); tag != "" {
			w.Header().Set("ETag", tag)
		}
		w.Header().Set("Cache-Control", "max-age=1")
		w.Header().Set("Content-Language", "en")
		return w.SendFile(name)
	})})
	https := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tag := r.Header.Get("X-Tag"); tag != "" {
			w.Header().Set("ETag", tag)
		}
		http.ServeFile(w, r, name)
	}))
	defer https.Close()
	for _, row := range []struct {
		method, fields string // the latter separated by |
		code           int
		body           string // of GET, for 200 and 206
		differs        string // why net/http's outcome is another, if it is
	}{
		{"GET", "", 200, all, ""},
		{"GET", `If-Match: "a"|X-Tag: "a"`, 200, all, ""},
		{"GET", `If-Match: "b"|X-Tag: "a"`, 412, "", ""},
		{"GET", `If-Match: "b" ,"a"|X-Tag: "a"`, 200, all, ""},
		{"GET", `If-Match: "b"|If-Match: "a"|X-Tag: "a"`, 200, all, "several lines are one list (RFC 9110 §5.3)"},
		{"GET", `If-Match: W/"a"|X-Tag: "a"`, 412, "", ""},
		{"GET", `If-Match: W/"a"|X-Tag: W/"a"`, 412, "", ""},
		{"GET", `If-Match: "a"|X-Tag: W/"a"`, 412, "", ""},
		{"GET", `If-Match: *`, 200, all, ""},
		{"GET", `If-Match: "a"`, 412, "", ""},
		{"GET", `If-Match: a|X-Tag: a`, 412, "", ""},
		{"POST", `If-Match: "b"|X-Tag: "a"`, 412, "", ""},
		{"PUT", `If-Match: "a"|X-Tag: "a"`, 200, all, ""},
		{"OPTIONS", `If-Match: "b"|X-Tag: "a"`, 200, all, "OPTIONS selects nothing (RFC 9110 §13.2.1)"},
		{"GET", `If-Match: "a"|If-Unmodified-Since: ` + older + `|X-Tag: "a"`, 200, all, ""},
		{"GET", `If-Unmodified-Since: ` + older, 412, "", ""},
		{"GET", `If-Unmodified-Since: ` + same, 200, all, ""},
		{"GET", `If-Unmodified-Since: ` + newer, 200, all, ""},
		{"GET", `If-Unmodified-Since: yesterday`, 200, all, ""},
		{"POST", `If-Unmodified-Since: ` + older, 412, "", ""},
		{"GET", `If-Unmodified-Since: ` + same + `|If-Modified-Since: ` + same, 304, "", ""},
		{"GET", `If-None-Match: "a"|X-Tag: "a"`, 304, "", ""},
		{"GET", `If-None-Match: W/"a"|X-Tag: "a"`, 304, "", ""},
		{"GET", `If-None-Match: "a"|X-Tag: W/"a"`, 304, "", ""},
		{"GET", `If-None-Match: "b", "a"|X-Tag: "a"`, 304, "", ""},
		{"GET", `If-None-Match: "b"|If-None-Match: "a"|X-Tag: "a"`, 304, "", "several lines are one list (RFC 9110 §5.3)"},
		{"GET", `If-None-Match: "b, a"|X-Tag: "a"`, 200, all, ""},
		{"GET", `If-None-Match: "a|X-Tag: "a"`, 200, all, ""},
		{"GET", `If-None-Match: *`, 304, "", ""},
		{"HEAD", `If-None-Match: *`, 304, "", ""},
		{"POST", `If-None-Match: *`, 412, "", ""},
		{"POST", `If-None-Match: "b"|X-Tag: "a"`, 200, all, ""},
		{"GET", `If-None-Match: "b"|If-Modified-Since: ` + newer + `|X-Tag: "a"`, 200, all, ""},
		{"GET", `If-Match: "b"|If-None-Match: "a"|X-Tag: "a"`, 412, "", ""},
		{"GET", `If-Modified-Since: ` + older, 200, all, ""},
		{"GET", `If-Modified-Since: ` + same, 304, "", ""},
		{"HEAD", `If-Modified-Since: ` + same, 304, "", ""},
		{"GET", `If-Modified-Since: ` + newer, 304, "", ""},
		{"POST", `If-Modified-Since: ` + newer, 200, all, ""},
		{"GET", `If-Modified-Since: ` + newer + `|If-Modified-Since: ` + newer, 200, all, "more than one member is ignored (RFC 9110 §13.1.3)"},
		{"GET", `Range: bytes=2-4`, 206, "234", ""},
		{"GET", `Range: Bytes=2-4`, 206, "234", "units have no case (RFC 9110 §14.1)"},
		{"GET", `Range: bytes=,2-4 ,`, 206, "234", ""},
		{"GET", `Range: bytes=2-`, 206, "23456789", ""},
		{"GET", `Range: bytes=-3`, 206, "789", ""},
		{"GET", `Range: bytes=-99`, 206, all, ""},
		{"GET", `Range: bytes=9-99`, 206, "9", ""},
		{"GET", `Range: bytes=9-99999999999999999999999`, 206, "9", "a large number is one"},
		{"GET", `Range: bytes=10-`, 416, "", ""},
		{"GET", `Range: bytes=99999999999999999999999-`, 416, "", ""},
		{"GET", `Range: bytes=4-2`, 200, all, "what is invalid is ignored (RFC 9110 §14.2)"},
		{"GET", `Range: bytes=-`, 200, all, "what is invalid is ignored (RFC 9110 §14.2)"},
		{"GET", `Range: bytes=+1-2`, 200, all, "what is invalid is ignored (RFC 9110 §14.2)"},
		{"GET", `Range: lines=1-2`, 200, all, "units that are not known are ignored (RFC 9110 §14.2)"},
		{"GET", `Range: bytes=1-5, 4-9`, 200, all, ""},
		{"GET", `Range: bytes=1-2, 10-`, 206, "12", ""},
		{"GET", `Range: bytes=10-, 11-12`, 416, "", ""},
		{"GET", `Range: bytes=1-2|Range: bytes=4-5`, 200, all, "Range is no list of fields"},
		{"HEAD", `Range: bytes=2-4`, 200, "", "ranges are for GET (RFC 9110 §14.2)"},
		{"POST", `Range: bytes=2-4`, 200, all, "ranges are for GET (RFC 9110 §14.2)"},
		{"GET", `Range: bytes=2-4|If-Range: "a"|X-Tag: "a"`, 206, "234", ""},
		{"GET", `Range: bytes=2-4|If-Range: "b"|X-Tag: "a"`, 200, all, ""},
		{"GET", `Range: bytes=2-4|If-Range: W/"a"|X-Tag: W/"a"`, 200, all, ""},
		{"GET", `Range: bytes=2-4|If-Range: "a"`, 200, all, ""},
		{"GET", `Range: bytes=99-|If-Range: "b"|X-Tag: "a"`, 200, all, ""},
		{"GET", `Range: bytes=2-4|If-Range: ` + same, 206, "234", ""},
		{"GET", `Range: bytes=2-4|If-Range: ` + newer, 200, all, ""},
		{"GET", `Range: bytes=2-4|If-Range: ` + older, 200, all, ""},
		{"GET", `Range: bytes=2-4|If-Range: yesterday`, 200, all, ""},
		{"GET", `Range: bytes=2-4|If-Match: "b"|X-Tag: "a"`, 412, "", ""},
		{"GET", `Range: bytes=99-|If-None-Match: "a"|X-Tag: "a"`, 304, "", ""},
		{"GET", `Range: bytes=2-4|If-None-Match: "b"|X-Tag: "a"`, 206, "234", ""},
	} {
		ask := func(addr string) answer {
			c := dialRaw(t, addr)
			defer c.Close()
			fields := []string{"Content-Length: 0"}
			if row.fields != "" {
				fields = append(fields, strings.Split(row.fields, "|")...)
			}
			c.send(head(row.method+" /a.txt HTTP/1.1", fields...))
			return c.answer(row.method)
		}
		a, theirs := ask(flares), ask(https.Listener.Addr().String())
		what := row.method + " " + row.fields
		if agree := a.StatusCode == theirs.StatusCode && (a.StatusCode > 206 || a.body == theirs.body); agree != (row.differs == "") {
			t.Errorf("%s: net/http says %d %q, flare %d %q; expected to differ: %q", what, theirs.StatusCode, theirs.body, a.StatusCode, a.body, row.differs)
		}
		if a.StatusCode != row.code || a.StatusCode <= 206 && row.method != "HEAD" && a.body != row.body {
			t.Errorf("%s: %d %q, want %d %q", what, a.StatusCode, a.body, row.code, row.body)
		}
		wantConditionFields(t, what, a, row.method)
	}
}

// wantConditionFields checks that an answer has the fields of its status.
func wantConditionFields(t *testing.T, what string, a answer, method string) {
	t.Helper()
	has := func(name string) bool { return a.Header.Get(name) != "" }
	want := map[string]bool{ // of the content of a file
		"Last-Modified": a.StatusCode <= 206 || a.StatusCode == 304 && !has("ETag"),
		"Accept-Ranges": a.StatusCode <= 206, "Content-Language": a.StatusCode <= 206,
		"Content-Range": a.StatusCode == 206 || a.StatusCode == 416, "Cache-Control": a.StatusCode < 400,
		"Content-Type": a.StatusCode != 304,
	}
	for name, want := range want {
		if has(name) != want {
			t.Errorf("%s: %d with %s %q", what, a.StatusCode, name, a.Header.Get(name))
		}
	}
	if a.StatusCode >= 400 && (has("ETag") || a.body == "" && method != "HEAD") || a.StatusCode == 416 && a.Header.Get("Content-Range") != "bytes */10" {
		t.Errorf("%s: %d with %v and %q", what, a.StatusCode, a.Header, a.body)
	}
	if a.StatusCode == 206 {
		var first, last, size int
		fmt.Sscanf(a.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size)
		if size != 10 || last-first+1 != len(a.body) || a.body != "0123456789"[first:last+1] {
			t.Errorf("%s: %q is %q", what, a.Header.Get("Content-Range"), a.body)
		}
	}
}

// A file under a status that was set beforehand is that answer, and no condition
// makes another of it. 200 is what there is without one.
func TestSendFileUnderAStatus(t *testing.T) {
	name := conditionFile(t, conditionTime)
	conditions := []string{
		"Range: bytes=2-4", "Range: bytes=99-", "If-None-Match: *", `If-Match: "b"`,
		"If-Modified-Since: Sat, 01 Jan 2050 00:00:00 GMT", "If-Unmodified-Since: Mon, 01 Jan 2001 00:00:00 GMT",
	}
	for _, code := range []int{200, 203, 404, 500} {
		c := dialRaw(t, startServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteHeader(code)
			w.Header().Set("ETag", `"a"`)
			return w.SendFile(name)
		})}))
		for i, field := range conditions {
			c.send(request("/", field))
			a := c.answer("GET")
			if want := []int{206, 416, 304, 412, 304, 412}[i]; code == 200 {
				if a.StatusCode != want {
					t.Errorf("%s: %d, want %d", field, a.StatusCode, want)
				}
				continue
			}
			a.want(t, code, "0123456789")
			if a.Header.Get("Content-Range") != "" || a.Header.Get("Accept-Ranges") != "" {
				t.Errorf("%d, %s: %v", code, field, a.Header)
			}
		}
	}
}

// 1970 and before is no time at which a file was changed.
func TestSendFileOfNoTime(t *testing.T) {
	for _, at := range []int64{0, -1, -1 << 31} {
		name := conditionFile(t, time.Unix(at, 0))
		c := dialRaw(t, startServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			return w.SendFile(name)
		})}))
		for _, field := range []string{
			"X: y", "If-Modified-Since: Thu, 02 Jan 2020 03:04:05 GMT", "If-Unmodified-Since: Fri, 01 Jan 1960 00:00:00 GMT",
			"If-Range: Thu, 01 Jan 1970 00:00:00 GMT\r\nRange: bytes=1-2",
		} {
			c.send(request("/", field))
			a := c.answer("GET")
			if a.want(t, 200, "0123456789"); a.Header.Get("Last-Modified") != "" {
				t.Errorf("changed at %d: Last-Modified %q", at, a.Header.Get("Last-Modified"))
			}
		}
	}
}

// An empty file has no range that could be missing from it.
func TestRangeOfNothing(t *testing.T) {
	for _, field := range []string{"bytes=0-", "bytes=0-99", "bytes=-5", "bytes=-0"} {
		if got := byteRanges(field, 0); got.status != 200 || got.n != 0 || got.parts != nil {
			t.Errorf("%s: %+v", field, got)
		}
	}
	if got := byteRanges("bytes=-0", 10); got.status != 416 {
		t.Errorf("%+v", got) // RFC 9110 §14.1.2: unsatisfiable
	}
}

// makeFIFO makes a named pipe, where the system has those.
var makeFIFO func(name string) error

// What is no regular file is not there, and nobody waits to learn that. A
// worker that did would keep the test from its end.
func TestSendFileOfNoFile(t *testing.T) {
	name := conditionFile(t, conditionTime)
	dir := filepath.Dir(name)
	loop := filepath.Join(dir, "loop")
	names := []string{
		name + "/x", name + "\x00", "\x00", name + "/", dir, dir + "/none", strings.Repeat("n", 300), "",
	}
	if makeFIFO != nil {
		fifo := filepath.Join(dir, "fifo")
		if err := makeFIFO(fifo); err != nil {
			t.Fatal(err)
		}
		names = append(names, fifo)
	}
	if err := os.Symlink(loop, loop); err == nil {
		names = append(names, loop)
	}
	if _, err := os.Stat("/dev/null"); err == nil {
		names = append(names, "/dev/null", "/dev/zero")
	}
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("ETag", `"of the file"`)
		var i int
		fmt.Sscan(r.Path()[1:], &i)
		return w.SendFile(names[i])
	})}
	c := dialRaw(t, startServer(t, s))
	for i, name := range names {
		a := c.get(fmt.Sprint("/", i))
		if a.StatusCode != 404 || a.body != "Not Found\n" || a.Header.Get("ETag") != "" {
			t.Errorf("%.40q: %d %q %v", name, a.StatusCode, a.body, a.Header)
		}
	}
}

// A file that the kernel will not send is copied, from where it stands.
func TestUnsendableFile(t *testing.T) {
	const name = "/proc/version"
	want, err := os.ReadFile(name)
	if err != nil || len(want) < 20 {
		t.Skip("no /proc/version on this system")
	}
	read := func(w io.ReaderFrom, set func(name, value string)) error {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err := io.CopyN(io.Discard, f, 10); err != nil {
			return err
		}
		if _, err := f.Seek(10, io.SeekStart); err != nil {
			return err
		}
		set("Content-Length", fmt.Sprint(len(want)-11))
		n, err := w.ReadFrom(&io.LimitedReader{R: f, N: int64(len(want) - 11)})
		if n != int64(len(want)-11) {
			t.Errorf("%d bytes, %v", n, err)
		}
		return err
	}
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/flare": HandlerFunc(func(w *ResponseWriter, r *Request) error { return read(w, w.Header().Set) }),
		"/http": FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := read(w.(io.ReaderFrom), w.Header().Set); err != nil {
				t.Error(err)
			}
		})),
	}}
	c := dialRaw(t, startServer(t, s))
	for range 2 {
		c.get("/flare").want(t, 200, string(want[10:len(want)-1]))
		c.get("/http").want(t, 200, string(want[10:len(want)-1]))
	}
}

// unsendable is what kernels answer for a file that they do not send.
var unsendable = []syscall.Errno{
	syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.ENOTSUP, syscall.EOVERFLOW, syscall.EPERM,
}

// What the kernel says of a file is no failure of the connection.
func TestCannotSendFile(t *testing.T) {
	for _, errno := range unsendable {
		if got := errorOfSendFile(errno); got != errors.ErrUnsupported {
			t.Errorf("%v: %v", errno, got)
		}
	}
	for errno, want := range map[syscall.Errno]error{
		0: nil, syscall.EAGAIN: errWouldBlock,
		syscall.EPIPE: syscall.EPIPE, syscall.ECONNRESET: syscall.ECONNRESET, syscall.ETIMEDOUT: syscall.ETIMEDOUT,
	} {
		if got := errorOfSendFile(errno); got != want {
			t.Errorf("%v: %v", errno, got)
		}
	}
}

// A fileTransport is a scripted one whose kernel sends files, and stops.
type fileTransport struct {
	scriptedTransport
	stops []int // how many octets each call sends; the last says errno behind them
	errno syscall.Errno
}

func (s *fileTransport) sendFile(file *os.File, offset *int64, n int) (int, error) {
	if len(s.stops) == 0 {
		return 0, syscall.EBADF // it was asked again after it had said no
	}
	k := min(s.stops[0], n)
	if s.stops = s.stops[1:]; k == 0 && len(s.stops) > 0 {
		s.c.own.Or(ownWrite) // there is room by the time that somebody waits for it
		return 0, errWouldBlock
	}
	p := make([]byte, k)
	if _, err := file.ReadAt(p, *offset); err != nil {
		return 0, err
	}
	s.sent = append(s.sent, p...)
	*offset += int64(k)
	if len(s.stops) == 0 {
		return k, errorOfSendFile(s.errno)
	}
	return k, nil
}

// When the kernel has sent a part of a file and says that it cannot, the rest is
// copied from where it stopped, and what follows on the connection is whole.
func TestSendFileStopsInTheMiddle(t *testing.T) {
	content := make([]byte, 100<<10)
	for i := range content {
		content[i] = byte(i>>8) ^ byte(i)
	}
	name := filepath.Join(t.TempDir(), "file.bin")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(w io.ReaderFrom, set func(name, value string)) error {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		set("Content-Length", fmt.Sprint(len(content)))
		n, err := w.ReadFrom(file)
		if n != int64(len(content)) {
			t.Errorf("ReadFrom: %d, %v", n, err)
		}
		return err
	}
	f := newFeeder(t, &Server{Handler: routes{
		"/file": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.SendFile(name) }),
		"/from": HandlerFunc(func(w *ResponseWriter, r *Request) error { return read(w, w.Header().Set) }),
		"/http": FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := read(w.(io.ReaderFrom), w.Header().Set); err != nil {
				t.Error(err)
			}
		})),
		"/end": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "end") }),
	}})
	for _, errno := range unsendable {
		for _, stops := range [][]int{{0}, {1}, {50_000}, {50_000, 0}, {3, 0, 40_000, 7}, {1, 1, 0, 1, 0}} {
			for _, path := range []string{"/file", "/from", "/http"} {
				c := f.newConn()
				tr := &fileTransport{scriptedTransport{c: c, shutAt: -1}, stops, errno}
				tr.pieces = [][]byte{[]byte(head("GET "+path+" HTTP/1.1") + head("GET /end HTTP/1.1"))}
				c.tr = tr
				c.edges |= ownRead | ownWrite
				v := c.drive(f.workset)
				a := parseAnswers(t, string(tr.sent))
				if len(a) != 2 || a[0].StatusCode != 200 || a[0].body != string(content) || a[1].body != "end" {
					t.Errorf("%v after %v: %s: verdict %d, %d answers in %d octets", errno, stops, path, v, len(a), len(tr.sent))
				}
				if len(tr.stops) != 0 {
					t.Errorf("%v after %v: %s: sendFile was not called for %v", errno, stops, path, tr.stops)
				}
				c.setState(stateClosed)
				c.ended()
			}
		}
	}
}

func FuzzConditions(f *testing.F) {
	f.Add(`"a", W/"b"`, `"a"`, "bytes=1-2")
	f.Add(`,, *`, `W/"`, "bytes=-")
	f.Fuzz(func(t *testing.T, list, etag, ranges string) {
		if tag, rest := nextETag(list); tag != "" && (!strings.HasSuffix(tag, `"`) || !strings.HasSuffix(list, rest)) {
			t.Errorf("%q begins with the tag %q", list, tag)
		}
		if matchETag([]string{list}, etag, true) && !matchETag([]string{list}, etag, false) {
			t.Errorf("%q has %q strongly and not weakly", list, etag)
		}
		got := byteRanges(ranges, 10)
		if len(got.parts) == 1 || len(got.parts) > 0 && got.status != 206 {
			t.Errorf("%q: %+v", ranges, got)
		}
		sum := int64(0)
		for _, part := range append(got.parts, got.byteSpan) {
			sum += part.n
			if part.start < 0 || part.n < 0 || part.start+part.n > 10 || got.status == 206 && part.n == 0 {
				t.Errorf("%q: %+v", ranges, got)
			}
		}
		if len(got.parts) > 0 && sum-got.n > 10 {
			t.Errorf("%q: more than everything: %+v", ranges, got)
		}
	})
}

// FuzzPreconditions holds the conditions of requests to net/http's, whose ServeContent
// differs where a list has "*" among other members, or has none at all.
func FuzzPreconditions(f *testing.F) {
	const same = "Thu, 02 Jan 2020 03:04:05 GMT"
	f.Add(uint8(0), `"a"`, `"b", W/"a"`, `"a"`, "", same)
	f.Add(uint8(1), `W/"a"`, "", `,, "a" "b`, same, "Thursday, 02-Jan-20 03:04:05 GMT")
	f.Add(uint8(2), "", "*", "*", "Thu Jan  2 03:04:05 2020", "yesterday")
	content := func() io.ReadSeeker { return strings.NewReader("0123456789") }
	var etag string
	feeder := newFeeder(f, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("ETag", etag)
		return w.ServeContent("a.txt", conditionTime, content())
	})})
	feeder.workset.clock.unix = conditionTime.Unix() + 3600 // nothing has changed in the future
	f.Add(uint8(0), "", "", "0", "", "Saturday, 01-Jan-00 00:00:00 GMT")
	f.Fuzz(func(t *testing.T, method uint8, tag, match, noneMatch, since, unsince string) {
		feeder.t = t
		etag = tag
		name := []string{"GET", "HEAD", "PUT", "DELETE"}[method%4]
		fields := []string{"Content-Length: 0"}
		for field, value := range map[string]string{"If-Match": match, "If-None-Match": noneMatch, "If-Modified-Since": since, "If-Unmodified-Since": unsince} {
			if value == "" {
				continue
			}
			list := strings.HasSuffix(field, "Match")
			if !isFieldValue(value) || trimBlank(value) != value || list && value != "*" && (strings.Contains(value, "*") || strings.Trim(value, ", \t") == "") {
				t.Skip("no field that could arrive, or where net/http differs")
			}
			fields = append(fields, field+": "+value)
		}
		if got, rest := nextETag(tag); tag != "" && (got != tag || rest != "") {
			t.Skip("no tag that a handler would set")
		}
		request := head(name+" / HTTP/1.1", fields...)
		answers := parseAnswers(t, feeder.run(feed{pieces: []string{request}}).out, name)
		if len(answers) != 1 {
			t.Fatalf("%q: %d answers", request, len(answers))
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		w.Header().Set("ETag", etag)
		http.ServeContent(w, r, "a.txt", conditionTime, content())
		if got := answers[0]; got.StatusCode != w.Code || w.Code == 200 && got.body != w.Body.String() {
			t.Errorf("%q: %d, net/http %d", request, got.StatusCode, w.Code)
		}
	})
}
