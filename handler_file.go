package flare

import (
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// This file is layer 4 (roles): files as responses. Their bytes go from the
// file to the socket inside the kernel where it can do that, and never from
// the goroutine that runs the loop, since a disk can block it.

var _ io.ReaderFrom = (*ResponseWriter)(nil)

// ReadFrom writes what r has, until its end. A regular *os.File, or an
// *io.LimitedReader of one, is sent by the kernel when the response's length
// was declared and nothing wraps its body.
func (w *ResponseWriter) ReadFrom(r io.Reader) (int64, error) {
	w.check()
	file, n := regularFile(r)
	if file != nil {
		w.c.workset.detach() // a disk can block
	}
	if file == nil || len(w.hooks) > 0 {
		return w.copyFrom(r)
	}
	if !w.begun && w.header.Get("Content-Length") == "" {
		return w.copyFrom(r)
	}
	if err := w.start(); err != nil {
		return 0, err
	}
	if w.chunked || w.noBody || w.declared < 0 {
		return w.copyFrom(r)
	}
	sent, err := w.sendFile(file, min(n, w.declared-w.written))
	if l, ok := r.(*io.LimitedReader); ok {
		l.N -= sent
	}
	if errors.Is(err, errors.ErrUnsupported) {
		copied, err := w.copyFrom(r)
		return sent + copied, err
	}
	if err == nil && sent < n && w.written == w.declared {
		// As Write: there is more than was declared.
		if more, _ := r.Read(make([]byte, 1)); more > 0 {
			return sent, errContentLength
		}
	}
	return sent, err
}

// copyFrom is ReadFrom through memory.
func (w *ResponseWriter) copyFrom(r io.Reader) (int64, error) {
	b := getBuffer(streamBytes)
	defer b.release()
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, b.b[:cap(b.b)])
}

// start commits the response and streams what was held back.
func (w *ResponseWriter) start() error {
	if w.begun {
		return nil
	}
	if !bodyAllowed(w.Status()) {
		return errBodyNotAllowed
	}
	if err := w.commit(-1); err != nil {
		return err
	}
	held := w.buf
	w.buf = w.buf[:0]
	return w.stream(held)
}

// regularFile returns the regular file that r reads, and at most how much of
// it; nil for anything else.
func regularFile(r io.Reader) (*os.File, int64) {
	n := int64(1) << 62
	if l, ok := r.(*io.LimitedReader); ok {
		r, n = l.R, l.N
	}
	file, ok := r.(*os.File)
	if !ok {
		return nil, 0
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, 0
	}
	return file, n
}

// sendFileBytes is what the kernel is asked to send at once: a write deadline
// is looked at in between.
const sendFileBytes = 1 << 20

// sendFile sends up to n bytes from the file's position on, and moves it.
func (w *ResponseWriter) sendFile(file *os.File, n int64) (sent int64, err error) {
	c := w.c
	if err := c.sendWait(nil); err != nil {
		return 0, err
	}
	c.workset.detach() // a disk can block
	offset, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	for sent < n && err == nil {
		var k int
		k, err = c.tr.sendFile(file, &offset, int(min(n-sent, sendFileBytes)))
		switch {
		case err == errWouldBlock:
			err = c.roomWait()
		case err == errors.ErrUnsupported:
		case err != nil:
			c.err, c.abort = err, true
		case k == 0:
			n = sent // the file is shorter than it was
		}
		sent += int64(k)
		w.written += int64(k)
		c.workset.counts[countBytesOut] += uint64(k)
		c.workset.writing.moved += int64(k)
	}
	file.Seek(offset, io.SeekStart)
	return sent, err
}

// SendFile answers with a regular file: its type by its name, Last-Modified,
// If-Modified-Since of GET and HEAD, and a single byte range of GET (RFC 9110
// §13.1.3, §14.2). A file
// that does not exist is a *StatusError with 404. name is a path of the
// system, never to be made of input that was not checked.
func (w *ResponseWriter) SendFile(name string) error {
	w.check()
	if w.begun || w.answered {
		return errAnswered
	}
	w.c.workset.detach() // a disk can block
	file, err := os.Open(name)
	if err != nil {
		return fileError(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fileError(err)
	}
	if !info.Mode().IsRegular() {
		return &StatusError{Code: http.StatusNotFound, Err: errors.New("flare: not a regular file")}
	}
	h := &w.header
	if h.Get("Content-Type") == "" {
		kind := mime.TypeByExtension(filepath.Ext(name))
		if kind == "" {
			kind = "application/octet-stream" // guessing from content is how text becomes script
		}
		h.Set("Content-Type", kind)
	}
	modified := info.ModTime().UTC().Truncate(time.Second)
	h.Set("Last-Modified", modified.Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	from, method := w.r.Header(), w.r.methodView()
	if since, err := http.ParseTime(from.Get("If-Modified-Since")); err == nil && !modified.After(since) &&
		from.Get("If-None-Match") == "" && (method == http.MethodGet || method == http.MethodHead) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	start, n, status := int64(0), info.Size(), http.StatusOK
	if method == http.MethodGet && from.Get("If-Range") == "" { // else as if it had changed (RFC 9110 §13.1.5)
		start, n, status = byteRange(from.Get("Range"), info.Size())
	}
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(info.Size(), 10))
		return w.Text(status, http.StatusText(status)+"\n")
	case http.StatusPartialContent:
		h.Set("Content-Range", "bytes "+strconv.FormatInt(start, 10)+"-"+strconv.FormatInt(start+n-1, 10)+"/"+strconv.FormatInt(info.Size(), 10))
	}
	w.WriteHeader(status)
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	if n == 0 || method == http.MethodHead {
		return nil
	}
	if _, err := file.Seek(start, io.SeekStart); err != nil {
		return err
	}
	_, err = w.ReadFrom(&io.LimitedReader{R: file, N: n})
	return err
}

// fileError turns a file's error into an answer that does not name the file.
func fileError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &StatusError{Code: http.StatusNotFound, Err: err}
	case errors.Is(err, fs.ErrPermission):
		return &StatusError{Code: http.StatusForbidden, Err: err}
	}
	return err
}

// byteRange reads a Range field with one range (RFC 9110 §14.1.2). Anything
// else than one valid range of bytes is ignored, as the RFC allows.
func byteRange(field string, size int64) (start, n int64, status int) {
	spec, ok := strings.CutPrefix(field, "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return 0, size, http.StatusOK
	}
	a, errA := strconv.ParseUint(first, 10, 63)
	b, errB := strconv.ParseUint(last, 10, 63)
	switch {
	case first == "" && errB == nil: // the last so many
		n = min(int64(b), size)
		start = size - n
		if n == 0 {
			return 0, 0, http.StatusRequestedRangeNotSatisfiable
		}
		return start, n, http.StatusPartialContent
	case errA != nil || last != "" && (errB != nil || b < a):
		return 0, size, http.StatusOK
	case int64(a) >= size:
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	case last == "":
		b = uint64(size) - 1
	}
	start = int64(a)
	return start, min(int64(b), size-1) - start + 1, http.StatusPartialContent
}
