package flare

import (
	"io/fs"
	"sync"
	"time"
)

// This file is layer 5 (surface): Files, which answers requests with files of a
// folder: its configuration. files_serve.go answers, files_path.go makes the name of
// a file from a request's path, files_open.go finds files, files_cache.go keeps them,
// files_list.go shows folders.

// Files is a Handler that serves files, below where it is mounted:
//
//	mux.Mount("/static", &flare.Files{Dir: "public"})
//	mux.Mount("/", &flare.Files{FS: pages, Fallback: "index.html"}) // pages is an embed.FS
//
// Registered for a pattern that ends in a wildcard, "/static/{path...}" or
// "/static/", it serves what that matches, and for any other the whole path.
//
// Answers are those of ServeContent, with an ETag of the file's time and size, or
// of its content where it has no time, as files of embed have none. A client that
// accepts a coding gets the file's sibling of that coding in its place, if there is
// one: app.js.br, app.js.zst or app.js.gz for app.js. Types are by extension.
// Requests other than GET and HEAD are answered with 405.
//
// There is no way out of the folder: a path with an escaped slash, backslash or
// control character, with "." and "..", escaped or not, or empty segments, is 404,
// and links and renames inside Dir lead nowhere else either (os.Root).
//
// The zero value serves nothing. Fields must not be changed once it is in use.
type Files struct {
	FS  fs.FS  // what is served. Files without a time are taken not to change
	Dir string // or the path of a folder of the system, which may be replaced by another

	Index    string // what stands for its folder; default "index.html"
	Fallback string // sent in place of a 404 to who seems to want a page; "": nothing is
	List     bool   // folders without an index are listed
	DotFiles bool   // names that begin with a dot are served, not only /.well-known
	Symlinks bool   // symbolic links are followed, those of Dir within it

	// CacheControl returns that field for a file, given its name, or "" for none. By
	// default a name with a hash of the content in it, as bundlers write them
	// ("app-3fa94c1b.js"), is immutable for a year, and anything else is asked for
	// again each time, which costs a 304: "no-cache".
	CacheControl func(name string) string

	// MaxOpenFiles is how many files are kept open for the next request, default
	// 256; negative: none. They are looked at again once a second, and closed by
	// Close, or when nobody has asked for them for a minute and somebody does for
	// others.
	MaxOpenFiles int

	clock  func() time.Duration // nil: the system's
	mu     sync.Mutex
	cache  fileCache  // guarded by mu
	folder rootFolder // of Dir, guarded by mu
}

func (f *Files) index() string {
	if f.Index == "" {
		return "index.html"
	}
	return f.Index
}

func (f *Files) now() time.Duration {
	if f.clock != nil {
		return f.clock()
	}
	return time.Since(origin)
}

// Close closes the files that are kept open, and Dir, for who has to see them closed
// before the process ends. No request may be served meanwhile; a later one opens them
// again. It is always nil.
func (f *Files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.cache.order.Len() > 0 {
		f.cache.drop(f.cache.order.Back().Value.(*servedFile))
	}
	if f.folder.root != nil {
		f.folder.root.Close()
		f.folder.root = nil
	}
	return nil
}
