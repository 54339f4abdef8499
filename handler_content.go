package flare

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// This file is layer 4 (roles): content that has a size and can be read from
// anywhere, as a response: all of it, one range or several, or what its conditions
// say. SendFile, ServeContent and Files answer by it; handler_condition.go decides
// which of these it is, handler_file.go sends files.

// SendFile answers with a regular file: its type by its name, its Last-Modified,
// and, as RFC 9110 §13.2.2 and §14.2 have it, 304, 412, 416 or one or more byte
// ranges where the request asks for that. Conditions are compared with the ETag
// that the handler has set, if any, and with the time of the file.
//
// With a status set beforehand, 200 apart, all of the file is sent with that.
// What is no regular file, or does not exist, is a *StatusError with 404, and so
// are 403, 412 and 416. name is a path of the system, never to be made of input
// that was not checked; Files is for that.
func (w *ResponseWriter) SendFile(name string) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	file, info, err := x.w.openToSend(name)
	w.lease.exit()
	if err != nil {
		return err
	}
	defer file.Close()
	rep := representation{modified: wholeSeconds(info.ModTime()), size: info.Size()}
	return w.sendContent(&content{rep, name, fileSource{file}})
}

// ServeContent is SendFile for content from elsewhere, as net/http's function of
// that name: name says the type by its extension unless Content-Type is set,
// modified is Last-Modified unless it is zero, and the size is where a seek to the
// end arrives.
func (w *ResponseWriter) ServeContent(name string, modified time.Time, from io.ReadSeeker) error {
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	return w.sendContent(&content{representation{modified: wholeSeconds(modified), size: size}, name, seekSource{from}})
}

// sendContent answers with c.
func (w *ResponseWriter) sendContent(c *content) error {
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	sel, heads, err := x.w.beginContent(c)
	reads := x.r.methodView() != http.MethodHead
	w.lease.exit()
	switch {
	case err != nil || !reads:
		return err
	case heads == nil:
		return w.sendPart(c, sel.byteSpan)
	}
	for i, part := range sel.parts {
		if _, err := w.WriteString(heads[i]); err != nil {
			return err
		}
		if err := w.sendPart(c, part); err != nil {
			return err
		}
	}
	_, err = w.WriteString(heads[len(heads)-1])
	return err
}

func (w *ResponseWriter) sendPart(c *content, part byteSpan) error {
	if part.n == 0 {
		return nil
	}
	if held, ok := c.from.(heldSource); ok {
		_, err := w.Write(held[part.start:][:part.n])
		return err
	}
	r, err := c.from.section(part)
	if err == nil {
		_, err = w.ReadFrom(r)
	}
	return err
}

// beginContent sets the status and the fields of an answer with c, and says what
// of it is to be sent. With several parts, heads are what is before each of them,
// and behind the last.
func (w *serverResponse) beginContent(c *content) (sel selection, heads []string, err error) {
	if w.begun || w.answered {
		return sel, nil, errAnswered
	}
	w.answered = true
	w.describe(c)
	sel = selection{http.StatusOK, byteSpan{0, c.size}, nil}
	if w.Status() == http.StatusOK { // RFC 9110 §13.2.1, §14.2
		sel = w.r.selects(c.representation)
		w.status = sel.status
	}
	h, length := &w.header, sel.n
	switch sel.status {
	case http.StatusNotModified:
		w.notModified()
		return sel, nil, nil
	case http.StatusPreconditionFailed:
		return sel, nil, &StatusError{Code: sel.status}
	case http.StatusRequestedRangeNotSatisfiable:
		h.Set("Content-Range", unsatisfiedRange+strconv.FormatInt(c.size, 10))
		return sel, nil, &StatusError{Code: sel.status}
	case http.StatusPartialContent:
		if sel.parts == nil {
			h.Set("Content-Range", sel.contentRange(c.size))
			break
		}
		boundary := rand.Text()
		heads, length = partHeads(sel.parts, c.size, h.Get("Content-Type"), boundary)
		h.Set("Content-Type", "multipart/byteranges; boundary="+boundary)
	}
	h.Set("Content-Length", strconv.FormatInt(length, 10))
	return sel, heads, nil
}

// contentRange is the field of that name for a part of size bytes.
func (p byteSpan) contentRange(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", p.start, p.start+p.n-1, size)
}

// partHeads returns what is around the parts of a multipart/byteranges body (RFC
// 9110 §14.6), and the length of all of it in bytes.
func partHeads(parts []byteSpan, size int64, kind, boundary string) (heads []string, length int64) {
	before := "--"
	for _, part := range parts {
		head := before + boundary + "\r\nContent-Range: " + part.contentRange(size) + "\r\nContent-Type: " + kind + "\r\n\r\n"
		heads = append(heads, head)
		length += int64(len(head)) + part.n
		before = "\r\n--"
	}
	end := before + boundary + "--\r\n"
	return append(heads, end), length + int64(len(end))
}

// describe sets the fields of c that nobody has set, and gives c the ETag that
// the response has.
func (w *serverResponse) describe(c *content) {
	h := &w.header
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", typeByName(c.name))
	}
	if tag, rest := nextETag(h.Get("ETag")); rest == "" {
		c.etag = tag
	}
	w.sayModified(&c.representation)
	if w.Status() == http.StatusOK && !c.entire {
		h.Set("Accept-Ranges", "bytes")
	}
}

// sayModified sets Last-Modified, if the time is known. One that is yet to come is now
// (RFC 9110 §8.8.2.1).
func (w *serverResponse) sayModified(rep *representation) {
	if rep.modified.IsZero() {
		return
	}
	if now := w.x.workset().clock.unix; rep.modified.Unix() > now {
		rep.modified = time.Unix(now, 0).UTC()
	}
	w.header.Set("Last-Modified", rep.modified.Format(http.TimeFormat))
}

// notModified takes the fields away that a 304 should not have: the client has
// those, and its own are the ones that belong to what it has (RFC 9110 §15.4.5).
func (w *serverResponse) notModified() {
	h := &w.header
	for _, name := range [...]string{"Content-Type", "Content-Encoding", "Content-Language", "Content-Length", "Content-Disposition", "Accept-Ranges"} {
		h.Del(name)
	}
	if h.Get("ETag") != "" {
		h.Del("Last-Modified")
	}
}
