package flare

import (
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// This file is layer 5 (surface): the files that Files serves, found, opened and
// kept open. It knows folders and descriptors, and of requests only that opening
// must not hold up a loop.

// fileCodings are the siblings that are looked for, best first.
var fileCodings = [...]struct{ coding, extension string }{{"br", ".br"}, {"zstd", ".zst"}, {codingGzip, ".gz"}}

// acquire returns the file of that name, open until release, and which of it and its
// siblings suits r best.
func (f *Files) acquire(r *Request, name string) (*servedFile, *fileVariant, error) {
	now := f.now()
	if s := f.kept(name, now); s != nil {
		if v := s.variant(r); v.unchanged() {
			return s, v, nil
		}
		f.mu.Lock()
		f.cache.drop(s)
		f.mu.Unlock()
		f.release(s)
	}
	x := r.lease.enterBody()
	if x == nil {
		return nil, nil, errRequestDone
	}
	x.workset().detach() // a disk can block
	r.lease.exit()
	s, err := f.openAll(strings.Clone(name), now)
	if err != nil {
		return nil, nil, err
	}
	if f.MaxOpenFiles >= 0 {
		f.mu.Lock()
		room := filesHeldMax - f.cache.held
		f.mu.Unlock()
		s.hold(room)
	}
	f.keep(s)
	return s, s.variant(r), nil
}

// variant returns the one that suits r best.
func (s *servedFile) variant(r *Request) *fileVariant {
	if len(s.variants) == 1 {
		return &s.variants[0]
	}
	coding := NegotiateEncoding(r.Header().Values("Accept-Encoding"), s.codings...)
	for i := range s.variants {
		if s.variants[i].coding == coding {
			return &s.variants[i]
		}
	}
	return &s.variants[0]
}

// kept returns a file that is open, and fresh.
func (f *Files) kept(name string, now time.Duration) *servedFile {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.cache.byName[name]
	if s == nil {
		return nil
	}
	if now-s.opened >= fileFresh && !s.lasting {
		f.cache.drop(s)
		return nil
	}
	s.users++
	s.used = now
	f.cache.order.MoveToFront(s.kept)
	return s
}

// keep puts s, new, into the cache, and takes others out.
func (f *Files) keep(s *servedFile) {
	s.users = 1
	most := f.MaxOpenFiles
	if most == 0 {
		most = openFilesDefault
	}
	for i := range s.variants {
		if _, shared := s.variants[i].from.(seekSource); shared || s.variants[i].entire {
			most = -1 // it can be read by one at a time
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &f.cache
	if old := c.byName[s.name]; old != nil {
		f.cache.drop(old) // somebody has been quicker
	}
	if len(s.variants) <= most {
		if c.byName == nil {
			c.byName = make(map[string]*servedFile)
		}
		c.byName[s.name], s.kept = s, c.order.PushFront(s)
		c.open += len(s.variants)
		c.held += s.held()
	}
	for c.order.Len() > 0 {
		last := c.order.Back().Value.(*servedFile)
		if c.open <= most && c.held <= filesHeldMax && s.opened-last.used < fileIdle {
			break
		}
		f.cache.drop(last)
	}
}

func (f *Files) release(s *servedFile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.users--; s.users == 0 && s.kept == nil {
		s.close()
	}
}

// opener returns the folder that is served.
func (f *Files) opener(now time.Duration) (fileOpener, error) {
	switch {
	case f.FS != nil:
		return fsOpener{f.FS}, nil
	case f.Dir == "":
		return nil, fs.ErrNotExist
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.folder.root == nil || now-f.folder.looked >= fileFresh {
		if err := f.folder.open(f.Dir); err != nil {
			return nil, err
		}
		f.folder.looked = now
	}
	return rootOpener{f.folder.root}, nil
}

// openAll opens a file and its siblings.
func (f *Files) openAll(name string, now time.Duration) (*servedFile, error) {
	in, err := f.opener(now)
	if err != nil {
		return nil, err
	}
	s := &servedFile{name: name, kind: typeByName(name), opened: now, used: now}
	if f.CacheControl == nil {
		s.cacheControl = cacheControl(name)
	} else {
		s.cacheControl = f.CacheControl(name)
	}
	v, err := f.openVariant(in, name, "")
	if err != nil {
		return nil, err
	}
	s.variants = append(s.variants, v)
	_, onDisk := v.file.(*os.File)
	s.lasting = v.modified.IsZero() && !onDisk
	for _, c := range fileCodings {
		if v, err := f.openVariant(in, name+c.extension, c.coding); err == nil {
			s.variants = append(s.variants, v)
			s.codings = append(s.codings, c.coding)
		}
	}
	return s, nil
}

func (f *Files) openVariant(in fileOpener, name, coding string) (v fileVariant, err error) {
	if !fs.ValidPath(name) {
		return v, fs.ErrNotExist
	}
	if !f.Symlinks {
		if err := noLinks(in, name); err != nil {
			return v, err
		}
	}
	file, info, err := in.openRegular(name)
	if err != nil {
		return v, err
	}
	v = fileVariant{coding: coding, file: file, changed: info.ModTime()}
	v.size, v.modified = info.Size(), wholeSeconds(info.ModTime())
	switch file := file.(type) {
	case *os.File:
		v.from = fileSource{file}
	case io.ReaderAt:
		v.from = readerAtSource{file}
	case io.ReadSeeker:
		v.from = seekSource{file}
	default:
		v.from, v.entire = streamSource{file}, true
	}
	v.etag = v.makeETag()
	return v, nil
}

// noLinks fails with fs.ErrNotExist where a symbolic link is on the way to a file.
func noLinks(in fileOpener, name string) error {
	for at := 0; at <= len(name); at++ {
		if at < len(name) && name[at] != '/' {
			continue
		}
		if info, err := in.lstat(name[:at]); err != nil {
			return err
		} else if info.Mode().Type() == fs.ModeSymlink {
			return &fs.PathError{Op: "open", Path: path.Base(name), Err: fs.ErrNotExist}
		}
	}
	return nil
}
