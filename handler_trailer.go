package flare

import (
	"slices"
	"strings"
)

// This file is layer 4 (roles): fields behind the body of a response (RFC 9110
// §6.5), such as a checksum of what has been streamed.

func (w *serverResponse) Trailer() *headerFields {
	if w.trailer == nil {
		w.trailer = newHeaderFields()
	}
	return w.trailer
}

// hasTrailer reports whether there are fields for behind the body.
func (w *serverResponse) hasTrailer() bool { return w.trailer != nil && w.trailer.Len() > 0 }

// startTrailer commits a response that ends with a trailer, so that its body is
// sent in chunks. It fails when a field of the trailer was refused.
func (w *serverResponse) startTrailer() error {
	if w.trailer != nil {
		if err := w.trailer.fault(); err != nil {
			return err
		}
	}
	if w.begun || !w.hasTrailer() || !w.x.stream.hasTrailer() || !bodyAllowed(w.Status()) {
		return nil
	}
	return w.start()
}

// announceTrailer names the fields that will follow (RFC 9110 §6.6.2).
func (w *serverResponse) announceTrailer() {
	if !w.hasTrailer() || !w.x.stream.hasTrailer() || w.header.Get("Trailer") != "" {
		return
	}
	var names []string
	for name := range w.trailer.All() {
		if allowedInTrailer(name) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		w.header.Set("Trailer", strings.Join(names, ", "))
	}
}

// sendableTrailer returns the fields for behind the body that may be there, nil
// without any.
func (w *serverResponse) sendableTrailer() *headerFields {
	if !w.hasTrailer() {
		return nil
	}
	kept := w.trailer.list[:0]
	for _, field := range w.trailer.list {
		if allowedInTrailer(field.name) {
			kept = append(kept, field)
		}
	}
	w.trailer.list = kept
	return w.trailer
}
