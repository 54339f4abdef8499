package flare

import "iter"

// This file is layer 1 (wire): the fields of one message as users hold them.
// header_fields.go has the fields themselves.

// A Header is the ordered list of fields of a request or a response. Names are
// compared without regard to case and sent as they were given. The zero value
// is empty and ready for use. A copy of one that has fields leads to the same
// fields, as with http.Header: Clone makes others.
//
// Set and Add refuse a name that is not a token (RFC 9110 §5.6.2) and a value
// with CR, LF, NUL or another control character but tab: they store nothing
// and the message then fails as a whole instead of being sent without the
// field. White space around a value is not part of it and is dropped.
//
// A struct has a Header as a field, functions take and return a *Header.
//
// A Header belongs to its message and is for one goroutine at a time. That of a
// Request or ResponseWriter ends with its handler; Clone makes one to keep.
type Header struct{ in headerOwner } // nil: there are none yet

// A headerOwner leads to the fields of a Header: they are its own, or a handler's.
type headerOwner interface {
	// enterFields returns them, for the time until exitFields; nil: they cannot
	// be reached any more.
	enterFields() *headerFields
	exitFields()
}

// noFields are those of a Header that has none. They are only read.
var noFields headerFields

// enter returns the fields to be read, or nil.
func (h *Header) enter() *headerFields {
	switch in := h.in.(type) {
	case nil:
		return &noFields
	case *headerFields:
		return in
	default:
		return in.enterFields()
	}
}

// enterToSet returns the fields to be changed, or nil.
func (h *Header) enterToSet() *headerFields {
	if h.in == nil {
		h.in = newHeaderFields()
	}
	return h.in.enterFields()
}

// exit is for after each enter that has not returned nil.
func (h *Header) exit() {
	if h.in != nil {
		h.in.exitFields()
	}
}

// Get returns the value of the first field of that name, or "".
func (h *Header) Get(name string) string {
	f := h.enter()
	if f == nil {
		return ""
	}
	defer h.exit()
	return f.Get(name)
}

// Values returns the values of all fields of that name, in order. The slice is
// the caller's.
func (h *Header) Values(name string) []string {
	f := h.enter()
	if f == nil {
		return nil
	}
	defer h.exit()
	return f.Values(name)
}

// Set gives the first field of that name the value, in its place, and removes
// the others of that name. Without one it adds the field at the end.
func (h *Header) Set(name, value string) {
	f := h.enterToSet()
	if f == nil {
		return
	}
	defer h.exit()
	f.Set(name, value)
}

// Add adds a field at the end, beside those that have the name already.
func (h *Header) Add(name, value string) {
	f := h.enterToSet()
	if f == nil {
		return
	}
	defer h.exit()
	f.Add(name, value)
}

// Del removes all fields of that name.
func (h *Header) Del(name string) {
	f := h.enter()
	if f == nil || f == &noFields {
		return
	}
	defer h.exit()
	f.Del(name)
}

// Len returns the number of fields.
func (h *Header) Len() int {
	f := h.enter()
	if f == nil {
		return 0
	}
	defer h.exit()
	return len(f.list)
}

// All yields name and value of each field, in order. The loop may set the
// field it was given; it must not add or remove any.
func (h *Header) All() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) { h.each(yield) } // small, to be inlined
}

// each is All as a loop. Fields are fetched one by one, so that the user's code
// does not keep their owner waiting.
func (h *Header) each(yield func(name, value string) bool) {
	for i := 0; ; i++ {
		f := h.enter()
		if f == nil {
			return
		}
		more, field := i < len(f.list), headerField{}
		if more {
			field = f.list[i]
		}
		h.exit()
		if !more || !yield(field.name, field.value) {
			return
		}
	}
}

// Clone returns a Header with the same fields that shares nothing with h.
func (h *Header) Clone() *Header {
	f := h.enter()
	if f == nil || f == &noFields {
		return new(Header)
	}
	defer h.exit()
	return &Header{f.clone()}
}

// has reports whether there is a field of that name.
func (h *Header) has(name string) bool {
	f := h.enter()
	if f == nil {
		return false
	}
	defer h.exit()
	return f.index(name) >= 0
}

// isHandlers reports whether h ends with a handler.
func (h *Header) isHandlers() bool {
	_, own := h.in.(*headerFields)
	return h.in != nil && !own
}

// snapshot returns the fields to be read, a handler's as a copy.
func (h *Header) snapshot() *headerFields {
	f := h.enter()
	if f == nil {
		return &noFields
	}
	defer h.exit()
	if h.isHandlers() {
		return f.clone()
	}
	return f
}

// fault returns what the first refused call of a setter did wrong. A message
// whose header has a fault is not sent.
func (h *Header) fault() error { return h.snapshot().err }
