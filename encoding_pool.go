package flare

import (
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"io"
	"sync"
)

// This file is layer 1 (wire): compressors, which are pooled: each has up to a
// megabyte of tables, many times what it compresses at once.

// A resetWriter is what the three compressors of the standard library are.
type resetWriter interface {
	io.WriteCloser
	Flush() error
	Reset(w io.Writer)
}

const encoderLevels = flate.BestCompression - flate.HuffmanOnly + 1

// encoderPools has one for each coding and level.
var encoderPools [2][encoderLevels]sync.Pool

// An Encoder writes what it is given in a content coding. It is for one
// goroutine at a time.
type Encoder struct {
	z    resetWriter
	pool *sync.Pool
}

// NewEncoder returns an Encoder into w for a coding, "gzip" or "deflate" (with
// its zlib wrapper, as RFC 9110 §8.4.1.2 has it), and a level of compress/flate
// (-2 to 9, -1 the default). Others are ErrUnsupportedEncoding.
func NewEncoder(w io.Writer, coding string, level int) (*Encoder, error) {
	if level < flate.HuffmanOnly || level > flate.BestCompression {
		return nil, ErrUnsupportedEncoding
	}
	kind := 0
	switch {
	case equalFoldASCII(coding, codingGzip):
	case equalFoldASCII(coding, codingDeflate):
		kind = 1
	default:
		return nil, ErrUnsupportedEncoding
	}
	e := &Encoder{pool: &encoderPools[kind][level-flate.HuffmanOnly]}
	if e.z, _ = e.pool.Get().(resetWriter); e.z != nil {
		e.z.Reset(w)
		return e, nil
	}
	if kind == 0 {
		z, err := gzip.NewWriterLevel(w, level)
		e.z = z
		return e, err
	}
	z, err := zlib.NewWriterLevel(w, level)
	e.z = z
	return e, err
}

// Write compresses p. Little of it leaves at once.
func (e *Encoder) Write(p []byte) (int, error) {
	if e.z == nil {
		return 0, ErrClosed
	}
	return e.z.Write(p)
}

// Flush makes everything written so far readable at the other end.
func (e *Encoder) Flush() error {
	if e.z == nil {
		return ErrClosed
	}
	return e.z.Flush()
}

// Close writes the end. It does not close the writer below. A second Close
// does nothing.
func (e *Encoder) Close() error {
	if e.z == nil {
		return nil
	}
	err := e.z.Close()
	if !raceEnabled { // under the race detector nothing is reused
		e.z.Reset(io.Discard) // holds on to no connection
		e.pool.Put(e.z)
	}
	e.z = nil
	return err
}
