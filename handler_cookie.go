package flare

import "iter"

// This file is layer 4 (roles): cookies as a handler sees and sets them. The
// text of cookies is cookie.go's.

// Cookie returns the value of the first cookie of that name (names are
// case-sensitive), as it was sent, and whether there was one. It allocates
// nothing but the text of the head, once for a request that asks for any of
// it.
func (r *Request) Cookie(name string) (value string, ok bool) {
	r.check()
	if r.filled { // a middleware may have changed the fields
		for i := range r.header.list {
			f := &r.header.list[i]
			if !equalFoldASCII(f.name, "Cookie") {
				continue
			}
			if start, end, ok := findCookie(f.value, name); ok {
				return f.value[start:end], true
			}
		}
		return "", false
	}
	for _, f := range r.head.fields {
		if f.nameEnd-f.name != uint32(len("Cookie")) || !equalFoldASCII(r.view(span{f.name, f.nameEnd}), "Cookie") {
			continue
		}
		if start, end, ok := findCookie(r.view(span{f.value, f.valueEnd}), name); ok {
			return r.string(span{f.value + uint32(start), f.value + uint32(end)}), true
		}
	}
	return "", false
}

// Cookies yields name and value of all cookies, in the order in which they
// were sent: those with the longer path first, if the client keeps to RFC
// 6265bis.
func (r *Request) Cookies() iter.Seq2[string, string] {
	h := r.Header()
	return func(yield func(name, value string) bool) {
		for i := range h.list {
			if !equalFoldASCII(h.list[i].name, "Cookie") {
				continue
			}
			for name, value := range ParseCookies(h.list[i].value) {
				if !yield(name, value) {
					return
				}
			}
		}
	}
}

// SetCookie adds a Set-Cookie field. A cookie that is not Valid makes the
// whole response a 500, with the reason in the log.
func (w *ResponseWriter) SetCookie(c *Cookie) {
	w.check()
	if err := c.Valid(); err != nil {
		w.header.refuse(err)
		return
	}
	w.header.Add("Set-Cookie", c.String())
}
