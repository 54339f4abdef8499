package flare

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// This file is layer 5 (surface): the two kinds of folder that Files serves: one
// of the system, which may be replaced, and an fs.FS.

// listedMax bounds the entries of a folder that are shown.
const listedMax = 10_000

var errIsFolder = fmt.Errorf("%w: a folder", errNotRegular)

// A fileOpener opens files of a folder, by names as io/fs has them.
type fileOpener interface {
	openRegular(name string) (fs.File, fs.FileInfo, error)
	lstat(name string) (fs.FileInfo, error)
	readDir(name string) ([]fs.DirEntry, error) // some, in no order
}

// A rootFolder is what the path of a folder leads to.
type rootFolder struct {
	root   *os.Root // nil: not opened yet. It is closed when nobody has it any more
	info   fs.FileInfo
	looked time.Duration
}

// open opens the folder, unless it is open and the same.
func (d *rootFolder) open(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		d.root = nil
		return err
	}
	if d.root != nil && os.SameFile(info, d.info) {
		return nil
	}
	root, err := os.OpenRoot(name)
	if err == nil {
		info, err = root.Stat(".")
	}
	if err == nil {
		d.root, d.info = root, info
	}
	return err
}

// A rootOpener is a folder of the system, which no name leads out of.
type rootOpener struct{ *os.Root }

func (o rootOpener) openRegular(name string) (fs.File, fs.FileInfo, error) {
	file, info, err := openRegular(o.Root, name)
	if err == errNotRegular {
		if info, statErr := o.Stat(name); statErr == nil && info.IsDir() {
			err = errIsFolder
		}
	}
	return file, info, err
}

func (o rootOpener) lstat(name string) (fs.FileInfo, error) { return o.Lstat(name) }

func (o rootOpener) readDir(name string) ([]fs.DirEntry, error) { return readFolder(o.Root.FS(), name) }

// readFolder reads the first listedMax entries of a folder.
func readFolder(in fs.FS, name string) ([]fs.DirEntry, error) {
	if info, err := fs.Stat(in, name); err != nil || !info.IsDir() {
		return nil, fs.ErrNotExist // opening what is neither file nor folder may wait
	}
	file, err := in.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	folder, ok := file.(fs.ReadDirFile)
	if !ok {
		return nil, fs.ErrNotExist
	}
	entries, err := folder.ReadDir(listedMax)
	if err == io.EOF {
		err = nil
	}
	return entries, err
}

// An fsOpener is an fs.FS.
type fsOpener struct{ fs.FS }

func (o fsOpener) openRegular(name string) (fs.File, fs.FileInfo, error) {
	info, err := fs.Stat(o.FS, name) // opening what is no file may wait
	if err == nil {
		err = regularOrNot(info)
	}
	if err != nil {
		return nil, nil, err
	}
	file, err := o.Open(name)
	if err != nil {
		return nil, nil, err
	}
	if info, err = file.Stat(); err == nil {
		err = regularOrNot(info)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

func regularOrNot(info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return errIsFolder
	case !info.Mode().IsRegular():
		return errNotRegular
	}
	return nil
}

func (o fsOpener) lstat(name string) (fs.FileInfo, error) { return fs.Lstat(o.FS, name) }

func (o fsOpener) readDir(name string) ([]fs.DirEntry, error) { return readFolder(o.FS, name) }
