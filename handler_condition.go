package flare

import (
	"math"
	"net/http"
	"strings"
	"time"
)

// This file is layer 4 (roles): conditional requests (RFC 9110 §13) and ranges
// (§14). It says what becomes of a request for something that would otherwise
// be answered with 200, and knows neither files nor responses: handler_content.go
// calls it with what describes the content.

// A representation is what conditions are compared with.
type representation struct {
	etag     string    // "": none
	modified time.Time // in whole seconds; zero: not known
	size     int64     // in bytes
	entire   bool      // no part of it can be had alone
}

// A byteSpan is a part of a representation.
type byteSpan struct{ start, n int64 } // bytes

// A selection is what to answer with: all of a representation (200), one part or
// several (206), nothing since the client has it (304), or a refusal (412, 416).
type selection struct {
	status   int
	byteSpan            // of 200, and of 206 with one part
	parts    []byteSpan // of 206 with several, in the order in which they were asked for
}

// selects evaluates the conditions of r in the order of RFC 9110 §13.2.2.
func (r *serverRequest) selects(rep representation) selection {
	all := selection{http.StatusOK, byteSpan{0, rep.size}, nil}
	method := r.methodView()
	switch method {
	case http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return all // they select nothing (§13.2.1)
	}
	reads := method == http.MethodGet || method == http.MethodHead
	var room [2]string
	if tags := r.fieldViews("If-Match", room[:0]); len(tags) > 0 {
		if !matchETag(tags, rep.etag, true) {
			return selection{status: http.StatusPreconditionFailed}
		}
	} else if since, ok := r.dateOf("If-Unmodified-Since"); ok && !rep.modified.IsZero() && rep.modified.After(since) {
		return selection{status: http.StatusPreconditionFailed}
	}
	if tags := r.fieldViews("If-None-Match", room[:0]); len(tags) > 0 {
		switch matched := matchETag(tags, rep.etag, false); {
		case matched && reads:
			return selection{status: http.StatusNotModified}
		case matched:
			return selection{status: http.StatusPreconditionFailed}
		}
	} else if reads && !rep.modified.IsZero() {
		if since, ok := r.dateOf("If-Modified-Since"); ok && !rep.modified.After(since) {
			return selection{status: http.StatusNotModified}
		}
	}
	if method != http.MethodGet || rep.entire || !r.inRange(rep) {
		return all
	}
	if fields := r.fieldViews("Range", room[:0]); len(fields) == 1 {
		return byteRanges(fields[0], rep.size)
	}
	return all
}

// dateOf returns the date of a field. What is no date, or more than one, counts
// as if it were not there (RFC 9110 §13.1.3, §13.1.4).
func (r *serverRequest) dateOf(name string) (time.Time, bool) {
	var room [2]string
	values := r.fieldViews(name, room[:0])
	if len(values) != 1 {
		return time.Time{}, false
	}
	t, err := http.ParseTime(values[0])
	return t, err == nil
}

// inRange reports whether If-Range, if there is one, lets a Range count: the
// client has a part of this very representation (RFC 9110 §13.1.5).
func (r *serverRequest) inRange(rep representation) bool {
	var room [2]string
	switch values := r.fieldViews("If-Range", room[:0]); {
	case len(values) == 0:
		return true
	case len(values) > 1:
		return false
	case strings.Contains(values[0], `"`):
		tag, rest := nextETag(values[0])
		return rest == "" && tag != "" && tag == rep.etag && tag[0] == '"' // strong
	}
	since, ok := r.dateOf("If-Range")
	return ok && since.Equal(rep.modified) // exactly, not "no later"
}

// matchETag reports whether one of the tags in the lines of a list is etag, or
// the list is "*". Weak tags are equal to none when strong is asked for (RFC
// 9110 §8.8.3.2).
func matchETag(lines []string, etag string, strong bool) bool {
	for _, list := range lines {
		if list == "*" {
			return true
		}
		for list != "" {
			var tag string
			if tag, list = nextETag(list); tag == "" {
				break // the rest of the line is no list of tags
			}
			list = strings.TrimLeft(list, " \t,")
			switch {
			case etag == "":
			case !strong && strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(etag, "W/"),
				strong && tag == etag && tag[0] == '"':
				return true
			}
		}
	}
	return false
}

// nextETag returns the entity tag that s begins with, behind blanks and empty
// members, and what is behind it; "" if s begins with none (RFC 9110 §8.8.3).
func nextETag(s string) (tag, rest string) {
	s = strings.TrimLeft(s, " \t,")
	quote := 0
	if strings.HasPrefix(s, "W/") {
		quote = 2
	}
	if quote >= len(s) || s[quote] != '"' {
		return "", ""
	}
	for i := quote + 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], s[i+1:]
		case c <= ' ' || c == 0x7f:
			return "", ""
		}
	}
	return "", ""
}

// rangesMax bounds the ranges of a request. Each part of the answer has a head of
// its own, so many small ones cost more than all of the content.
const rangesMax = 64

// byteRanges reads a Range field for size bytes (RFC 9110 §14.1.2). What is no
// list of ranges is ignored, as §14.2 allows. So are too many ranges, ranges that
// are together longer than everything, and any range of nothing: a client that
// asks for the front of a file only bounds what it gets.
func byteRanges(field string, size int64) selection {
	all := selection{http.StatusOK, byteSpan{0, size}, nil}
	const unit = "bytes="
	if !hasPrefixFold(field, unit) || size == 0 {
		return all
	}
	sel := selection{status: http.StatusRequestedRangeNotSatisfiable}
	members, found, sum := field[len(unit):], 0, int64(0)
	for more := true; more; {
		var member string
		member, members, more = strings.Cut(members, ",")
		if member = trimBlank(member); member == "" {
			continue
		}
		part, ok := byteRange(member, size)
		if found++; !ok || found > rangesMax {
			return all
		}
		if part.n == 0 {
			continue // behind the end
		}
		if sum += part.n; sel.status == http.StatusPartialContent {
			if sel.parts == nil {
				sel.parts = append(make([]byteSpan, 0, 4), sel.byteSpan)
			}
			sel.parts = append(sel.parts, part)
			continue
		}
		sel.status, sel.byteSpan = http.StatusPartialContent, part
	}
	if found == 0 || sum > size {
		return all
	}
	return sel
}

// byteRange reads one range of size bytes, which is empty if it lies behind them.
func byteRange(member string, size int64) (part byteSpan, ok bool) {
	first, last, dash := strings.Cut(member, "-")
	a, hasA := rangePos(first)
	b, hasB := rangePos(last)
	switch {
	case !dash, first != "" && !hasA, last != "" && !hasB, !hasA && !hasB, hasA && hasB && b < a:
		return part, false
	case !hasA: // the last so many
		a, b = size-min(b, size), size-1
	case !hasB:
		b = size - 1
	}
	if a >= size {
		return part, true
	}
	return byteSpan{a, min(b, size-1) - a + 1}, true
}

// rangePos reads a position of a range. One that is too large for a number is
// behind the end of everything.
func rangePos(digits string) (int64, bool) {
	n := int64(0)
	for i := range len(digits) {
		d := digits[i] - '0'
		if d > 9 {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64/10 - 1 // and stays there
		}
		n = n*10 + int64(d)
	}
	return n, digits != ""
}
