package flare

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// This file is layer 1 (wire): the fields of one message, as a list in the
// order of the wire. It knows names and values, not what they mean. Parsers
// fill it, writers append it to their output, users read and set it through a
// Header.

// headerFields are what a Header leads to. The exported methods are Header's.
type headerFields struct {
	list []headerField
	err  error // what the first refused setter call did wrong

	// accepted is the last field whose octets were found to be allowed, nil where
	// that is not kept. A handler sets the same few constants again and again:
	// comparing with them is a look at two pointers.
	accepted *headerField
}

// newHeaderFields returns none, with room for the usual few.
func newHeaderFields() *headerFields {
	f := new(struct {
		headerFields
		room [4]headerField
	})
	f.list = f.room[:0]
	return &f.headerFields
}

// As the owner of a Header, fields lead to themselves.
func (h *headerFields) enterFields() *headerFields { return h }
func (h *headerFields) exitFields()                {}

// acceptedBytesMax bounds the value that a Header keeps for the comparison.
const acceptedBytesMax = 64

type headerField struct{ name, value string }

// Get returns the value of the first field of that name, or "".
func (h *headerFields) Get(name string) string {
	if i := h.index(name); i >= 0 {
		return h.list[i].value
	}
	return ""
}

// Values returns the values of all fields of that name, in order. The slice is
// the caller's.
func (h *headerFields) Values(name string) []string {
	var values []string
	for i := range h.list {
		if equalFoldASCII(h.list[i].name, name) {
			values = append(values, h.list[i].value)
		}
	}
	return values
}

// Set gives the first field of that name the value, in its place, and removes
// the others of that name. Without one it adds the field at the end.
func (h *headerFields) Set(name, value string) {
	if !h.accepts(name, value) {
		return
	}
	h.setValid(headerField{name, trimBlank(value)})
}

// setValid is Set for a field that is known to be fit to be sent.
func (h *headerFields) setValid(f headerField) {
	i := h.index(f.name)
	if i < 0 {
		h.list = append(h.list, f)
		return
	}
	h.list[i] = f
	h.deleteFrom(i+1, f.name)
}

// Add adds a field at the end, beside those that have the name already.
func (h *headerFields) Add(name, value string) {
	if h.accepts(name, value) {
		h.list = append(h.list, headerField{name, trimBlank(value)})
	}
}

// Del removes all fields of that name.
func (h *headerFields) Del(name string) {
	h.deleteFrom(0, name)
}

// Len returns the number of fields.
func (h *headerFields) Len() int {
	return len(h.list)
}

// All yields name and value of each field, in order.
func (h *headerFields) All() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for i := range h.list {
			if !yield(h.list[i].name, h.list[i].value) {
				return
			}
		}
	}
}

func (h *headerFields) clone() *headerFields {
	return &headerFields{list: slices.Clone(h.list), err: h.err}
}

// has reports whether there is a field of that name.
func (h *headerFields) has(name string) bool { return h.index(name) >= 0 }

func (h *headerFields) index(name string) int {
	for i := range h.list {
		if equalFoldASCII(h.list[i].name, name) {
			return i
		}
	}
	return -1
}

func (h *headerFields) deleteFrom(i int, name string) {
	kept := h.list[:i]
	for _, f := range h.list[i:] {
		if !equalFoldASCII(f.name, name) {
			kept = append(kept, f)
		}
	}
	clear(h.list[len(kept):]) // let go of the strings
	h.list = kept
}

// accepts says whether the field may be sent, and records why not. The error
// quotes the name, which is the program's own, and never the value, which may
// be the peer's.
func (h *headerFields) accepts(name, value string) bool {
	switch {
	case h.accepted != nil && name == h.accepted.name && value == h.accepted.value && name != "":
	case !isToken(name): // RFC 9110 §5.1
		h.refuse(fmt.Errorf("flare: header name %q is not a token", name))
		return false
	case !isFieldValue(value): // RFC 9110 §5.5
		h.refuse(fmt.Errorf("flare: control character in the value of header %s", name))
		return false
	case h.accepted != nil && len(value) <= acceptedBytesMax:
		*h.accepted = headerField{name, value}
	}
	return true
}

func (h *headerFields) refuse(err error) {
	if h.err == nil {
		h.err = err
	}
}

// fault is Header's.
func (h *headerFields) fault() error { return h.err }

// reset empties the header and keeps its memory for the next message.
func (h *headerFields) reset() {
	if len(h.list) > fieldsKept {
		clear(h.list) // many fields may hold much memory
	}
	h.list = h.list[:0]
	h.err = nil
}

// fieldsKept is how many fields may stay in memory until the next message
// writes over them.
const fieldsKept = 8

// fill replaces the contents with the fields of a parsed head, whose text is
// given. Names and values are substrings of it: nothing is allocated once the
// list has grown to the usual number of fields.
func (h *headerFields) fill(text string, fields []field) {
	h.reset()
	h.list = slices.Grow(h.list, len(fields))
	for _, f := range fields {
		h.list = append(h.list, headerField{text[f.name:f.nameEnd], text[f.value:f.valueEnd]})
	}
}

// dropKeepAlive takes back what a handler has said of a connection that ends with
// its response (RFC 9112 §9.3): the option keep-alive and the field of that name.
func (h *headerFields) dropKeepAlive() {
	h.Del("Keep-Alive")
	h.list = slices.DeleteFunc(h.list, func(f headerField) bool {
		return equalFoldASCII(f.name, "Connection") && equalFoldASCII(f.value, "keep-alive")
	})
	for i, f := range h.list {
		if equalFoldASCII(f.name, "Connection") {
			options := slices.DeleteFunc(strings.Split(f.value, ","), func(option string) bool {
				return equalFoldASCII(trimBlank(option), "keep-alive")
			})
			h.list[i].value = trimBlank(strings.Join(options, ","))
		}
	}
}

// appendTo appends the fields as lines of a head, without the empty line that
// ends it. It allocates only to make room in b.
func (h *headerFields) appendTo(b []byte) []byte {
	for i := range h.list {
		b = append(b, h.list[i].name...)
		b = append(b, ": "...)
		b = append(b, h.list[i].value...)
		b = append(b, "\r\n"...)
	}
	return b
}

// vary adds a member to Vary, unless it is there (RFC 9110 §12.5.5).
func (h *headerFields) vary(name string) {
	for i := range h.list {
		if f := &h.list[i]; equalFoldASCII(f.name, "Vary") && (listContains(f.value, name) || listContains(f.value, "*")) {
			return
		}
	}
	h.Add("Vary", name)
}
