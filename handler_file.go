package flare

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// This file is layer 4 (roles): files as responses. Their bytes go from the
// file to the socket inside the kernel where it can do that, and never from
// the goroutine that runs the loop, since a disk can block it.

// ReadFrom writes what r has, until its end. A regular *os.File, or an
// *io.LimitedReader of one, is sent by the kernel when the response's length
// was declared and nothing wraps its body.
// readFile is ReadFrom of at most n bytes of a regular file, which r reads.
func (w *serverResponse) readFile(r io.Reader, file *os.File, n int64) (int64, error) {
	w.x.workset().detach() // a disk can block
	if len(w.hooks) > 0 {
		return w.copyFrom(r)
	}
	if !w.begun && w.header.Get("Content-Length") == "" {
		return w.copyFrom(r)
	}
	if err := w.start(); err != nil {
		return 0, err
	}
	if w.noBody || w.declared < 0 {
		return w.copyFrom(r)
	}
	sent, err := w.x.stream.sendFile(file, min(n, w.declared-w.written))
	w.written += sent
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

// ReadFrom is ResponseWriter.ReadFrom for whoever is inside the lease.
func (w *serverResponse) ReadFrom(r io.Reader) (int64, error) {
	if file, n := regularFile(r); file != nil {
		return w.readFile(r, file, n)
	}
	return w.copyFrom(r)
}

// copyFrom is ReadFrom through memory.
func (w *serverResponse) copyFrom(r io.Reader) (int64, error) { return copyThroughMemory(w, r) }

func copyThroughMemory(w io.Writer, r io.Reader) (int64, error) {
	b := getBuffer(streamBytes)
	defer b.release()
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, b.b[:cap(b.b)])
}

// start commits the response and streams what was held back.
func (w *serverResponse) start() error {
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

func (w *serverResponse) SendFile(name string) error {
	if w.begun || w.answered {
		return errAnswered
	}
	w.x.workset().detach() // a disk can block
	file, info, err := openRegular(name)
	if err != nil {
		return fileError(err)
	}
	defer file.Close()
	w.answered = true
	rep := w.describeFile(name, info)
	sel := selection{http.StatusOK, 0, rep.size}
	if w.Status() == http.StatusOK { // RFC 9110 §13.2.1, §14.2
		sel = w.r.selects(rep)
		w.status = sel.status
	}
	h := &w.header
	switch sel.status {
	case http.StatusNotModified:
		w.notModified()
		return nil
	case http.StatusPreconditionFailed:
		return &StatusError{Code: sel.status}
	case http.StatusRequestedRangeNotSatisfiable:
		h.Set("Content-Range", unsatisfiedRange+strconv.FormatInt(rep.size, 10))
		return &StatusError{Code: sel.status}
	case http.StatusPartialContent:
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", sel.start, sel.start+sel.n-1, rep.size))
	}
	h.Set("Content-Length", strconv.FormatInt(sel.n, 10))
	if sel.n == 0 || w.r.methodView() == http.MethodHead {
		return nil
	}
	if _, err := file.Seek(sel.start, io.SeekStart); err != nil {
		return err
	}
	_, err = w.ReadFrom(&io.LimitedReader{R: file, N: sel.n})
	return err
}

// describeFile sets the fields of a file, and returns what conditions are
// compared with.
func (w *serverResponse) describeFile(name string, info fs.FileInfo) representation {
	h := &w.header
	if h.Get("Content-Type") == "" {
		kind := mime.TypeByExtension(filepath.Ext(name))
		if kind == "" {
			kind = "application/octet-stream" // guessing from content is how text becomes script
		}
		h.Set("Content-Type", kind)
	}
	rep := representation{size: info.Size()}
	if tag, rest := nextETag(h.Get("ETag")); rest == "" {
		rep.etag = tag
	}
	// 1970 and before is what a file has whose time nobody knows.
	if at := info.ModTime().UTC().Truncate(time.Second); at.Unix() > 0 {
		rep.modified = at
		h.Set("Last-Modified", at.Format(http.TimeFormat))
	}
	if w.Status() == http.StatusOK {
		h.Set("Accept-Ranges", "bytes")
	}
	return rep
}

// notModified takes the fields away that a 304 should not have: the client has
// those, and its own are the ones that belong to what it has (RFC 9110 §15.4.5).
func (w *serverResponse) notModified() {
	h := &w.header
	for _, name := range [...]string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Length", "Content-Disposition", "Accept-Ranges"} {
		h.Del(name)
	}
	if h.Get("ETag") != "" {
		h.Del("Last-Modified")
	}
}

var errNotRegular = errors.New("flare: not a regular file")

// openRegular opens a regular file, and nothing else: opening a FIFO waits for
// somebody who writes, and opening a device may move it.
func openRegular(name string) (*os.File, fs.FileInfo, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return nil, nil, fs.ErrNotExist // no system has files of that name
	}
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		return nil, nil, err
	}
	// It may be another one by now.
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.EAGAIN) {
		file, err = os.Open(name) // somebody has a lease on it, and is asked to give it up
	}
	if err != nil {
		return nil, nil, err
	}
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// fileError turns a file's error into an answer that does not name the file.
func fileError(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &StatusError{Code: http.StatusForbidden, Err: err}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotRegular):
		return &StatusError{Code: http.StatusNotFound, Err: err}
	}
	for _, errno := range [...]syscall.Errno{syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.ENXIO} {
		if errors.Is(err, errno) {
			return &StatusError{Code: http.StatusNotFound, Err: err} // no regular file is there
		}
	}
	return err
}
