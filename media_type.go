package flare

import (
	"mime"
	"path"
)

// This file is layer 1 (wire): media types of files by their names.

// typeByName returns the media type of a file by its extension. Without one it is
// application/octet-stream: guessing from content is how text becomes script.
func typeByName(name string) string {
	extension := path.Ext(name)
	if kind := webTypes[extension]; kind != "" {
		return kind
	}
	if kind := mime.TypeByExtension(extension); kind != "" {
		return kind
	}
	return "application/octet-stream"
}

// webTypes are those of the files of web pages, so that they do not depend on the
// tables of the system, which package mime reads.
var webTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".htm": "text/html; charset=utf-8",
	".css": "text/css; charset=utf-8", ".txt": "text/plain; charset=utf-8",
	".csv": "text/csv; charset=utf-8", ".md": "text/markdown; charset=utf-8",
	".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".json": "application/json", ".map": "application/json", ".webmanifest": "application/manifest+json",
	".xml": "text/xml; charset=utf-8", ".wasm": "application/wasm", ".pdf": "application/pdf", ".zip": "application/zip",
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
	".gif": "image/gif", ".webp": "image/webp", ".avif": "image/avif", ".ico": "image/x-icon",
	".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf",
	".mp4": "video/mp4", ".webm": "video/webm", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".wav": "audio/wav",
	".br": "application/octet-stream", ".gz": "application/gzip", ".zst": "application/zstd",
}
