package flare

import (
	"container/list"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// This file is layer 5 (surface): open files, as Files keeps them, and what tells
// that they have changed.

const (
	// openFilesDefault is some for each of the pages of a site that are asked for
	// often, and far from the 1,024 descriptors that systems give a process at least.
	openFilesDefault = 256

	// fileFresh is for how long a file is taken to be what its name leads to.
	fileFresh = time.Second

	// fileIdle is when a file that nobody asks for is closed.
	fileIdle = time.Minute

	// fileHeldMax is the size of a file whose content is held in memory while it is kept
	// open: an answer from there cannot wait for a disk, so it may be given on the loop.
	// For more the system's way from file to socket is the shorter one.
	fileHeldMax = 128 << 10

	// filesHeldMax bounds what the files of one Files hold.
	filesHeldMax = 16 << 20
)

// A servedFile is an open file with its siblings. All but the fields at the end are
// fixed.
type servedFile struct {
	name               string
	kind, cacheControl string        // fields
	variants           []fileVariant // at least the file itself, which is the first
	codings            []string      // of the others
	lasting            bool          // it does not change

	// Guarded by Files.mu.
	opened, used time.Duration
	users        int           // requests that are answered with it
	kept         *list.Element // in the cache; nil: it is closed behind its last user
}

// A fileVariant is a file in a coding, or as it is.
type fileVariant struct {
	content
	coding  string
	file    fs.File
	changed time.Time // with more than seconds
}

// A fileCache has the files that are kept open, the last used first.
type fileCache struct {
	byName map[string]*servedFile
	order  list.List // of *servedFile
	open   int       // variants
	held   int64     // octets of their contents in memory
}

// drop takes s out of the cache.
func (c *fileCache) drop(s *servedFile) {
	if s.kept == nil {
		return
	}
	delete(c.byName, s.name)
	c.order.Remove(s.kept)
	c.open -= len(s.variants)
	c.held -= s.held()
	if s.kept = nil; s.users == 0 {
		s.close()
	}
}

// held returns how many octets of s are in memory.
func (s *servedFile) held() (n int64) {
	for i := range s.variants {
		if held, ok := s.variants[i].from.(heldSource); ok {
			n += int64(len(held))
		}
	}
	return n
}

// hold reads the contents of s that are small, up to room octets.
func (s *servedFile) hold(room int64) {
	for i := range s.variants {
		v := &s.variants[i]
		file, ok := v.file.(*os.File)
		if !ok || v.size > min(fileHeldMax, room) {
			continue
		}
		p := make([]byte, v.size)
		if n, err := file.ReadAt(p, 0); n == len(p) && (err == nil || err == io.EOF) {
			v.from = heldSource(p)
			room -= v.size
		}
	}
}

func (s *servedFile) close() {
	for i := range s.variants {
		s.variants[i].file.Close()
	}
}

// unchanged reports whether nobody has written to the file, as far as its time and
// size tell.
func (v *fileVariant) unchanged() bool {
	file, ok := v.file.(*os.File)
	if !ok {
		return true
	}
	info, err := file.Stat()
	return err == nil && info.Size() == v.size && info.ModTime().Equal(v.changed)
}

// makeETag makes a strong ETag, by the time and size of a file, or by its content;
// "" if neither tells.
func (v *fileVariant) makeETag() string {
	if v.modified.IsZero() {
		from, ok := v.from.(readerAtSource)
		if !ok {
			return ""
		}
		hash := sha256.New()
		if _, err := io.Copy(hash, io.NewSectionReader(from, 0, v.size)); err != nil {
			return ""
		}
		return `"` + base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:15]) + `"`
	}
	b := strconv.AppendInt([]byte{'"'}, v.changed.UnixNano(), 36)
	b = strconv.AppendInt(append(b, '-'), v.size, 36)
	if v.coding != "" {
		b = append(append(b, '-'), v.coding...)
	}
	return string(append(b, '"'))
}

// A readerAtSource is a file of an fs.FS that several may read at once.
type readerAtSource struct{ io.ReaderAt }

func (s readerAtSource) section(part byteSpan) (io.Reader, error) {
	return io.NewSectionReader(s, part.start, part.n), nil
}

// A streamSource is a file of an fs.FS that can only be read from its start.
type streamSource struct{ io.Reader }

func (s streamSource) section(part byteSpan) (io.Reader, error) {
	return io.LimitReader(s, part.n), nil
}
