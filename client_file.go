package flare

import (
	"crypto/rand"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
)

// This file is layer 4 (roles): a response's body as a file. The client's user
// calls it.

// linksMax bounds the symbolic links that lead to a file, as systems do.
const linksMax = 40

// SaveFile writes the body to a file of that name and returns its size in
// bytes. The file appears under its name, or takes the old one's place and mode,
// when all of the body is there; on an error nothing is left or changed. A
// symbolic link is followed; what is no regular file (a directory, a device, a
// FIFO) is an error: copy Body to it. A status other than 2xx is a
// *ResponseError, and so is 206, whose body is a part.
func (r *ClientResponse) SaveFile(name string) (n int64, err error) {
	return r.saveFile(name, func(f *os.File) (int64, error) { return io.Copy(f, r.Body) })
}

// saveFile is SaveFile with what copies the body.
func (r *ClientResponse) saveFile(name string, copyTo func(*os.File) (int64, error)) (n int64, err error) {
	if !r.OK() || r.StatusCode == http.StatusPartialContent {
		return 0, r.failure()
	}
	defer r.Body.Close()
	name, old, err := saveTarget(name)
	if err != nil {
		return 0, err
	}
	mode := fs.FileMode(0o644)
	if old != nil {
		mode = old.Mode().Perm()
	}
	dir, _ := filepath.Split(name) // as it is: ".." behind a link is not what is before it
	f, err := os.OpenFile(dir+".flare-"+rand.Text(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o200)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	n, err = copyTo(f)
	if old != nil && err == nil {
		err = os.Chmod(f.Name(), mode) // the umask was not meant for it
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return 0, err
	}
	return n, os.Rename(f.Name(), name)
}

// saveTarget follows symbolic links from name to the name of a regular file, or
// to one that is free, where info is nil.
func saveTarget(name string) (target string, info fs.FileInfo, err error) {
	for range linksMax {
		info, err = os.Lstat(name)
		switch {
		case os.IsNotExist(err):
			return name, nil, nil
		case err != nil:
			return "", nil, err
		case info.Mode().IsRegular():
			return name, info, nil
		case info.Mode().Type() != fs.ModeSymlink:
			return "", nil, &fs.PathError{Op: "save", Path: name, Err: errNotRegular}
		}
		to, err := os.Readlink(name)
		if err != nil {
			return "", nil, err
		}
		if !filepath.IsAbs(to) {
			dir, _ := filepath.Split(name)
			to = dir + to
		}
		name = to
	}
	return "", nil, &fs.PathError{Op: "save", Path: name, Err: syscall.ELOOP}
}
