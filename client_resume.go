package flare

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// This file is layer 4 (roles): a file fetched in spite of breaks: what is missing is
// asked for again, and only that.

// resumesMax is how often in a row SaveFile asks again without getting any further.
const resumesMax = 5

// SaveFile fetches a URL into a file of that name, as ClientResponse.SaveFile does.
// When the connection breaks in the middle of the body it asks for the rest (RFC 9110
// §14.2), if the server has said which version of the content it has, by a strong
// ETag or, without one, a Last-Modified before the second of its Date (If-Range), and
// begins again where that has changed meanwhile. It gives up when five requests in a row bring nothing, or ctx
// ends. The content is stored as it comes, not decompressed.
func (c *Client) SaveFile(ctx context.Context, url, name string) (int64, error) {
	req := &ClientRequest{URL: url, KeepEncoded: true}
	resp, err := c.Do(ctx, req)
	if err != nil {
		return 0, err
	}
	validator := rangeValidator(resp)
	first := resp
	return first.saveFile(name, func(f *os.File) (n int64, err error) {
		for tries := 0; ; tries++ {
			before := n
			n, err = appendBody(f, resp, n)
			if err == nil || ctx.Err() != nil || validator == "" || !isBroken(err) {
				return n, err
			}
			if n > before {
				tries = 0
			}
			if tries == resumesMax {
				return n, err
			}
			req.Header.Set("Range", "bytes="+strconv.FormatInt(n, 10)+"-")
			req.Header.Set("If-Range", validator)
			if resp, err = c.Do(ctx, req); err != nil {
				return n, err
			}
			if resp.StatusCode == http.StatusPartialContent {
				if tag := resp.Header.Get("ETag"); rangeStart(resp.Header.Get("Content-Range")) != n || tag != "" && tag != validator {
					resp.Body.Close()
					return n, errWrongRange
				}
				continue
			}
			if !resp.OK() {
				return n, resp.failure()
			}
			validator, n = rangeValidator(resp), 0 // it is another one now
		}
	})
}

var errWrongRange = errors.New("flare: the server has sent another range than it was asked for")

// appendBody writes a body to f from start on, in place of what is there.
func appendBody(f *os.File, resp *ClientResponse, start int64) (n int64, err error) {
	defer resp.Body.Close()
	if err := f.Truncate(start); err != nil {
		return start, err
	}
	if _, err := f.Seek(start, io.SeekStart); err != nil {
		return start, err
	}
	copied, err := io.Copy(f, resp.Body)
	return start + copied, err
}

// isBroken reports whether another request may bring the rest.
func isBroken(err error) bool {
	return errors.Is(err, ErrUnexpectedEOF) || errors.Is(err, ErrReset) || errors.Is(err, ErrTimeout)
}

// rangeValidator is what If-Range can name a response by, "" without that.
func rangeValidator(resp *ClientResponse) string {
	if tag := resp.Header.Get("ETag"); tag != "" {
		if strings.HasPrefix(tag, "\"") {
			return tag
		}
		return "" // a weak one says nothing of octets (RFC 9110 §13.1.5)
	}
	changed, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	sent, dateErr := http.ParseTime(resp.Header.Get("Date"))
	if err != nil || dateErr != nil || sent.Sub(changed) < time.Second {
		return "" // it may have changed again in that second (RFC 9110 §8.8.2.2)
	}
	return resp.Header.Get("Last-Modified")
}

// rangeStart reads the first position of a Content-Range, -1 if it is none of octets, or
// an invalid one (RFC 9110 §14.4).
func rangeStart(field string) int64 {
	unit, rest, _ := strings.Cut(field, " ")
	span, whole, _ := strings.Cut(rest, "/")
	from, to, _ := strings.Cut(span, "-")
	first, ok := rangePos(from)
	last, lastOK := rangePos(to)
	size, sizeOK := rangePos(whole)
	if !ok || !lastOK || !equalFoldASCII(unit, "bytes") || last < first || whole != "*" && (!sizeOK || size <= last) {
		return -1
	}
	return first
}
