package flare

import (
	"bytes"
	"io"
)

// This file is layer 1 (wire): lines, delimited fields and blocks of a known
// length, read from a stream within a bound. It knows an io.Reader and nothing
// of where that gets its bytes. Users' own protocols call it.

const (
	lineBytesDefault = 64 << 10
	lineBufferBytes  = 4 << 10 // what a reader begins with
	lineEmptyReads   = 100     // reads in a row with neither bytes nor an error, as bufio has it
)

// A LineReader takes a stream apart. Lines end in LF, CRLF or a lone CR. Where
// the CR is the last byte that has come, the line is returned at once, and an
// LF that comes next belongs to it, whatever is read then: how the stream is
// cut into pieces makes no difference.
//
// What ReadLine, ReadUntil and ReadExact return is valid until the next call.
// Errors of the stream are returned as they are. Bytes that came before one are
// kept, so that the call can be made again after a deadline. A LineReader
// belongs to one goroutine at a time.
type LineReader struct {
	r        io.Reader
	bytesMax int    // what one call returns; negative: no bound
	buf      []byte // buf[start:] has not been returned yet
	start    int
	err      error // came with bytes, and is still to be returned
	afterCR  bool  // the last line ended in CR, and the byte behind it has not been seen
}

// NewLineReader returns a reader of r. bytesMax bounds what one call returns,
// the end of a line not counted; 0 is 64 KiB, a negative value no bound.
func NewLineReader(r io.Reader, bytesMax int) *LineReader {
	if bytesMax == 0 {
		bytesMax = lineBytesDefault
	}
	return &LineReader{r: r, bytesMax: bytesMax}
}

// ReadLine returns the next line without its end. Where the stream ends it
// returns io.EOF, or what came behind the last line and io.ErrUnexpectedEOF. A
// line above the bound is ErrTooLarge, again with each call: nothing is skipped.
func (l *LineReader) ReadLine() ([]byte, error) {
	line, end, err := l.readTo(lineEnd)
	if err == nil {
		l.afterCR = end == '\r'
	}
	return line, err
}

// lineEnd does not look for LF and then for CR: where one of them is rare each
// line would cost a walk through the whole buffer.
func lineEnd(p []byte) int {
	for i, c := range p {
		if c == '\n' || c == '\r' {
			return i
		}
	}
	return -1
}

// ReadUntil returns what comes before the next delim, and uses delim up. It
// fails as ReadLine does.
func (l *LineReader) ReadUntil(delim byte) ([]byte, error) {
	field, _, err := l.readTo(func(p []byte) int { return bytes.IndexByte(p, delim) })
	return field, err
}

// ReadExact returns the next n bytes. Where the stream ends it returns io.EOF,
// or what there was of them and io.ErrUnexpectedEOF. An n above the bound or
// below 0 is ErrTooLarge, and nothing is read. Memory is taken for bytes that
// have come, not for those that were announced.
func (l *LineReader) ReadExact(n int) ([]byte, error) {
	if n < 0 || l.bytesMax >= 0 && n > l.bytesMax {
		return nil, ErrTooLarge
	}
	for n > 0 {
		p := l.pending()
		if len(p) >= n {
			l.start += n
			return p[:n:n], nil
		}
		if err := l.fill(); err != nil {
			return l.rest(p, err)
		}
	}
	return nil, nil
}

// Read is for what comes behind the lines, as an io.Reader.
func (l *LineReader) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if b := l.pending(); len(b) > 0 {
			n := copy(p, b)
			l.start += n
			return n, nil
		}
		if err := l.fill(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// readTo returns what comes before the byte that find finds, and that byte.
func (l *LineReader) readTo(find func([]byte) int) (p []byte, end byte, err error) {
	seen := 0
	for {
		p = l.pending()
		i := find(p[seen:])
		if i >= 0 {
			i += seen
		} else {
			i = len(p)
		}
		if l.bytesMax >= 0 && i > l.bytesMax {
			return nil, 0, ErrTooLarge
		}
		if i < len(p) {
			l.start += i + 1
			return p[:i:i], p[i], nil
		}
		seen = len(p)
		if err := l.fill(); err != nil {
			p, err = l.rest(p, err)
			return p, 0, err
		}
	}
}

// pending returns what has come and was not returned yet.
func (l *LineReader) pending() []byte {
	if l.afterCR && l.start < len(l.buf) {
		l.afterCR = false
		if l.buf[l.start] == '\n' {
			l.start++
		}
	}
	return l.buf[l.start:]
}

// rest is what a call returns that the stream does not have enough for.
func (l *LineReader) rest(p []byte, err error) ([]byte, error) {
	if err != io.EOF || len(p) == 0 {
		return nil, err
	}
	l.start = len(l.buf)
	return p, io.ErrUnexpectedEOF
}

// fill receives at least a byte.
func (l *LineReader) fill() error {
	if err := l.err; err != nil {
		l.err = nil
		return err
	}
	if l.start > 0 && (l.start == len(l.buf) || len(l.buf) == cap(l.buf)) {
		l.buf = l.buf[:copy(l.buf, l.buf[l.start:])]
		l.start = 0
	}
	if len(l.buf) == cap(l.buf) {
		grown := make([]byte, len(l.buf), max(lineBufferBytes, 2*cap(l.buf)))
		copy(grown, l.buf)
		l.buf = grown
	}
	for range lineEmptyReads {
		n, err := l.r.Read(l.buf[len(l.buf):cap(l.buf)])
		l.buf = l.buf[:len(l.buf)+n]
		if n > 0 {
			l.err = err
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
