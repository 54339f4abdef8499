package flare

import (
	"bytes"
	"compress/flate"
	"io"
	"sync"
)

// This file is layer 1 (wire): the payloads of permessage-deflate (RFC 7692
// §7.2). It knows bytes, windows and limits, and nothing of frames.
// websocket_extension.go agrees on the parameters; the message reader inflates
// with it, the writers of websocket.go deflate.

const (
	// flateWindowBytes is the window of compress/flate, and the largest there
	// is (RFC 1951 §2).
	flateWindowBytes = 32 << 10

	// flateLevel: messages are small and many, so speed counts.
	flateLevel = flate.BestSpeed

	// inflateTurnBytes is how much of compressed messages comes out in one turn
	// of a loop, save for the last of them, before others have theirs. The bound
	// on a message is MaxMessageBytes, however small it came: DEFLATE makes a
	// thousandth of equal rows, and that is no attack.
	inflateTurnBytes = 1 << 20

	inflateStepBytes = 4 << 10 // room made for output at first

	// A block that ends a stream has the next one begin with the whole window
	// in its place. A message may do so a few times, and once in so many bytes.
	inflateStreamsFree  = 16
	inflateBytesAStream = 1 << 10
)

// flateTail is what a sender leaves off a message (RFC 7692 §7.2.1), and
// flateEnd a last block, so that the reader knows that it has seen everything.
const (
	flateTail = "\x00\x00\xff\xff"
	flateEnd  = "\x01\x00\x00\xff\xff"
)

var inflaters, deflaters, flateSources sync.Pool

// An inflater decompresses the messages of one direction.
type inflater struct {
	takeover bool   // later messages refer to earlier ones
	window   []byte // the end of what came before; with takeover only
}

// A flateSource is a compressed message and what ends it. It hands out single
// bytes, so that nothing behind a block is taken.
type flateSource struct {
	message []byte
	tail    string
}

func (s *flateSource) ReadByte() (byte, error) {
	if len(s.message) > 0 {
		c := s.message[0]
		s.message = s.message[1:]
		return c, nil
	}
	if len(s.tail) > 0 {
		c := s.tail[0]
		s.tail = s.tail[1:]
		return c, nil
	}
	return 0, io.EOF
}

func (s *flateSource) Read(p []byte) (int, error) {
	n := copy(p, s.message)
	s.message = s.message[n:]
	if n < len(p) && len(s.message) == 0 {
		m := copy(p[n:], s.tail)
		s.tail = s.tail[m:]
		n += m
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// inflate decompresses a message into a buffer that the caller releases. rule
// says what is wrong with it; bytesMax bounds the result, negative: no limit.
func (z *inflater) inflate(message []byte, bytesMax int64) (out *buffer, rule string) {
	src, _ := flateSources.Get().(*flateSource)
	if src == nil {
		src = new(flateSource)
	}
	src.message, src.tail = message, flateTail+flateEnd
	fr, _ := inflaters.Get().(io.ReadCloser)
	if fr == nil {
		fr = flate.NewReaderDict(src, z.window)
	} else {
		fr.(flate.Resetter).Reset(src, z.window)
	}
	out, rule = z.drain(fr, src, bytesMax)
	if rule == "" && z.takeover {
		z.window = slideWindow(z.window, out.b)
	}
	src.message = nil
	flateSources.Put(src)
	inflaters.Put(fr)
	return out, rule
}

// drain reads all of src through fr.
func (z *inflater) drain(fr io.ReadCloser, src *flateSource, bytesMax int64) (out *buffer, rule string) {
	streams := inflateStreamsFree + len(src.message)/inflateBytesAStream
	out = getBuffer(max(inflateStepBytes, len(src.message)))
	for {
		out = out.grown(1)
		room := out.b[len(out.b):cap(out.b)]
		n, err := fr.Read(room)
		out.b = out.b[:len(out.b)+n]
		if bytesMax >= 0 && int64(len(out.b)) > bytesMax {
			return out, ruleMessageMax
		}
		if err == nil {
			continue
		}
		if err != io.EOF {
			return out, ruleMessageFlate
		}
		// A peer may end a message with a final block (RFC 7692 §7.2.3.4); what
		// follows it begins another, with the same window.
		if len(src.message) == 0 {
			return out, ""
		}
		if streams--; streams < 0 {
			return out, ruleMessageStreams
		}
		fr.(flate.Resetter).Reset(src, slideWindow(append([]byte(nil), z.window...), out.b))
	}
}

// slideWindow returns the last bytes of window and p together, in window's
// memory.
func slideWindow(window, p []byte) []byte {
	if len(p) >= flateWindowBytes {
		return append(window[:0], p[len(p)-flateWindowBytes:]...)
	}
	if over := len(window) + len(p) - flateWindowBytes; over > 0 {
		window = window[:copy(window, window[over:])]
	}
	return append(window, p...)
}

// A deflater compresses the messages of one direction. Its zero value takes
// nothing over and refers as far back as DEFLATE allows.
type deflater struct {
	takeover    bool
	windowBytes int           // how far back a reference may go, 0: flateWindowBytes
	fw          *flate.Writer // with takeover only: it holds the window
	out         flateSink
}

// A flateSink lets a flate.Writer append to a buffer.
type flateSink struct{ buf *buffer }

func (s *flateSink) Write(p []byte) (int, error) {
	s.buf = s.buf.grown(len(p))
	s.buf.b = append(s.buf.b, p...)
	return len(p), nil
}

// A pooledDeflater is a flate.Writer with the sink that it was made for.
type pooledDeflater struct {
	fw   *flate.Writer
	sink flateSink
}

// deflate appends the compressed message to out, which it may replace by a
// larger buffer. smaller is false when the message is better sent as it is; one
// that later messages may refer to has to be sent compressed all the same.
func (z *deflater) deflate(out *buffer, message []byte) (grown *buffer, smaller bool) {
	if z.takeover {
		z.out.buf = out
		if z.fw == nil {
			z.fw, _ = flate.NewWriter(&z.out, flateLevel) // the level is valid
		}
		z.fw.Write(message) // the sink never fails
		z.fw.Flush()
		out, z.out.buf = z.out.buf, nil
		out.b = bytes.TrimSuffix(out.b, []byte(flateTail))
		return out, true
	}
	p, _ := deflaters.Get().(*pooledDeflater)
	if p == nil {
		p = new(pooledDeflater)
		p.fw, _ = flate.NewWriter(&p.sink, flateLevel)
	}
	before, size := len(out.b), len(message)
	p.sink.buf = out
	window := z.windowBytes
	if window == 0 {
		window = max(len(message), 1)
	}
	// compress/flate knows one window. A smaller one is kept by starting afresh
	// so often that nothing lies further back.
	for more := true; more; more = len(message) > 0 { // an empty message has a block too (RFC 7692 §7.2.3.6)
		part := message[:min(window, len(message))]
		message = message[len(part):]
		p.fw.Reset(&p.sink)
		p.fw.Write(part)
		p.fw.Flush()
	}
	out, p.sink.buf = p.sink.buf, nil
	deflaters.Put(p)
	out.b = bytes.TrimSuffix(out.b, []byte(flateTail))
	return out, len(out.b)-before < size
}
