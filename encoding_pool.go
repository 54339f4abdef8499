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

// A pooledWriter is a compressor and what it writes to. It is reset when it is
// used again, and not when it is put away too: that clears most of its tables, which takes
// as long as compressing some KiB.
type pooledWriter struct {
	z  resetWriter
	to io.Writer // nil while it is in the pool: it holds on to no connection
}

func (p *pooledWriter) Write(b []byte) (int, error) { return p.to.Write(b) }

// An Encoder writes what it is given in a content coding. It is for one
// goroutine at a time.
type Encoder struct {
	p    *pooledWriter // nil: closed
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
	pool := &encoderPools[kind][level-flate.HuffmanOnly]
	p, _ := pool.Get().(*pooledWriter)
	if p == nil { // the level is one that there is
		if p = new(pooledWriter); kind == 0 {
			p.z, _ = gzip.NewWriterLevel(p, level)
		} else {
			p.z, _ = zlib.NewWriterLevel(p, level)
		}
	}
	p.to = w
	p.z.Reset(p)
	return &Encoder{p, pool}, nil
}

// Write compresses p. Little of it leaves at once.
func (e *Encoder) Write(p []byte) (int, error) {
	if e.p == nil {
		return 0, ErrClosed
	}
	return e.p.z.Write(p)
}

// Flush makes everything written so far readable at the other end.
func (e *Encoder) Flush() error {
	if e.p == nil {
		return ErrClosed
	}
	return e.p.z.Flush()
}

// Close writes the end. It does not close the writer below. A second Close
// does nothing.
func (e *Encoder) Close() error {
	if e.p == nil {
		return nil
	}
	err := e.p.z.Close()
	e.p.to = nil
	if !raceEnabled { // under the race detector nothing is reused
		e.pool.Put(e.p)
	}
	e.p = nil
	return err
}
