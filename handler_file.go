package flare

import (
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"syscall"
)

// This file is layer 4 (roles): files as bodies of responses. Their bytes go from
// the file to the socket inside the kernel where it can do that, and never from
// the goroutine that runs the loop, since a disk can block it. What a response
// says of a file, and which part of it is sent, is in handler_content.go.

// sendSection is ReadFrom of a part of a file.
func (w *serverResponse) sendSection(s *fileSection) (int64, error) {
	w.x.workset().detach() // a disk can block
	if len(w.hooks) > 0 || !w.begun && w.header.Get("Content-Length") == "" {
		return w.copyFrom(s)
	}
	if err := w.start(); err != nil {
		return 0, err
	}
	if w.noBody || w.declared < 0 {
		return w.copyFrom(s)
	}
	sent, err := w.x.stream.sendFile(s.file, s.start, min(s.n, w.declared-w.written))
	w.written += sent
	s.start, s.n = s.start+sent, s.n-sent
	if errors.Is(err, errors.ErrUnsupported) {
		copied, err := w.copyFrom(s)
		return sent + copied, err
	}
	if err == nil && s.n > 0 && w.written == w.declared {
		// As Write: there is more than was declared.
		if more, _ := s.Read(make([]byte, 1)); more > 0 {
			return sent, errContentLength
		}
	}
	return sent, err
}

// readFile is ReadFrom of at most n bytes of a regular file, which r reads. The
// file stands behind what was written of it afterwards.
func (w *serverResponse) readFile(r io.Reader, file *os.File, n int64) (int64, error) {
	w.x.workset().detach() // a disk can block
	start, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	sent, err := w.sendSection(&fileSection{file, start, n})
	if l, ok := r.(*io.LimitedReader); ok {
		l.N -= sent
	}
	if _, seekErr := file.Seek(start+sent, io.SeekStart); err == nil {
		err = seekErr
	}
	return sent, err
}

// ReadFrom is ResponseWriter.ReadFrom for whoever is inside the lease.
func (w *serverResponse) ReadFrom(r io.Reader) (int64, error) {
	if s, ok := r.(*fileSection); ok {
		return w.sendSection(s)
	}
	if file, n := regularFile(r); file != nil {
		return w.readFile(r, file, n)
	}
	return w.copyFrom(r)
}

// copyFrom is ReadFrom through memory.
func (w *serverResponse) copyFrom(r io.Reader) (int64, error) {
	return copyThroughMemory(w, r, streamBytes)
}

// copyThroughMemory is io.Copy by n bytes at once, whatever else w and r can do.
func copyThroughMemory(w io.Writer, r io.Reader, n int) (int64, error) {
	b := getBuffer(n)
	defer b.release()
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, b.b[:cap(b.b)])
}

// openToSend opens the file of an answer, unless there is one.
func (w *serverResponse) openToSend(name string) (*os.File, fs.FileInfo, error) {
	if w.begun || w.answered {
		return nil, nil, errAnswered
	}
	w.x.workset().detach() // a disk can block
	file, info, err := openRegular(systemFiles{}, name)
	return file, info, fileError(err)
}

// fileError turns a file's error into an answer that does not name the file.
func fileError(err error) error {
	switch {
	case err == nil:
		return nil
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
