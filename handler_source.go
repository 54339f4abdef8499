package flare

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// This file is layer 4 (roles): where content comes from that has a size and can
// be read from anywhere: regular files, and what users have. It knows no responses.

// A content is what a response sends all or parts of.
type content struct {
	representation
	name string // its extension says the type, unless the response has one
	from contentSource
}

// A contentSource reads a part of a content: its parts in ascending order or not,
// one after the other.
type contentSource interface {
	section(part byteSpan) (io.Reader, error)
}

// A fileSource is a regular file. Several may send it at once.
type fileSource struct{ *os.File }

func (s fileSource) section(part byteSpan) (io.Reader, error) {
	return &fileSection{s.File, part.start, part.n}, nil
}

// A heldSource is content in memory, which does not change.
type heldSource []byte

func (s heldSource) section(part byteSpan) (io.Reader, error) {
	return bytes.NewReader(s[part.start:][:part.n]), nil
}

// A seekSource is content of a user's.
type seekSource struct{ io.ReadSeeker }

func (s seekSource) section(part byteSpan) (io.Reader, error) {
	_, err := s.Seek(part.start, io.SeekStart)
	return &io.LimitedReader{R: s.ReadSeeker, N: part.n}, err
}

// wholeSeconds is a file's time as Last-Modified has it. What is before 1970, and
// the first two seconds of that, is what a file has whose time nobody knows, or which
// a package manager has taken away so that builds are equal.
func wholeSeconds(t time.Time) time.Time {
	if t.Unix() <= 1 {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

// A fileSection is a part of a regular file, as a reader. It reads by position,
// so that several may read a file at once.
type fileSection struct {
	file     *os.File
	start, n int64 // bytes: where the rest begins, and how much it is at most
}

func (s *fileSection) Read(p []byte) (int, error) {
	if s.n <= 0 {
		return 0, io.EOF
	}
	n, err := s.file.ReadAt(p[:min(int64(len(p)), s.n)], s.start)
	s.start, s.n = s.start+int64(n), s.n-int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

var errNotRegular = errors.New("flare: not a regular file")

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

// A folder is where files are opened by name: an *os.Root, or systemFiles.
type folder interface {
	Stat(name string) (fs.FileInfo, error)
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
}

// systemFiles are all files of the system.
type systemFiles struct{}

func (systemFiles) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

func (systemFiles) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

// openRegular opens a regular file, and nothing else: opening a FIFO waits for
// somebody who writes, and opening a device may move it.
func openRegular(in folder, name string) (*os.File, fs.FileInfo, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return nil, nil, fs.ErrNotExist // no system has files of that name
	}
	info, err := in.Stat(name)
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		return nil, nil, err
	}
	// It may be another one by now.
	file, err := in.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.EAGAIN) {
		file, err = in.OpenFile(name, os.O_RDONLY, 0) // somebody has a lease on it, and is asked to give it up
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
