package flare

// This file is layer 4 (roles): cookies as a handler sees and sets them. The
// text of cookies is cookie.go's.

func (r *serverRequest) Cookie(name string) (value string, ok bool) {
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

func (w *serverResponse) SetCookie(c *Cookie) {
	if err := c.Valid(); err != nil {
		w.header.refuse(err)
		return
	}
	w.header.Add("Set-Cookie", c.String())
}
