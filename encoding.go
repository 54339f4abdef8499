package flare

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
)

// This file is layer 1 (wire): content codings (RFC 9110 §8.4.1): bodies into
// gzip and deflate and back, and which coding a request asks for. It knows
// readers, writers and limits, no messages. The Compress middleware and the
// client call it; encoding_pool.go has the compressors.

// Codings that flare knows.
const (
	codingGzip    = "gzip"
	codingDeflate = "deflate"
)

// AcceptedEncodings is the value of Accept-Encoding for what NewDecoder reads.
const AcceptedEncodings = codingGzip + ", " + codingDeflate

// ErrUnsupportedEncoding means a Content-Encoding other than gzip, deflate and
// identity.
var ErrUnsupportedEncoding = errors.New("flare: unsupported content coding")

var (
	errDecodedMax   = fmt.Errorf("flare: decoded body too large: %w", ErrTooLarge)
	errDecodedRatio = fmt.Errorf("flare: body decodes to too many times its size: %w", ErrTooLarge)
	errCodings      = fmt.Errorf("flare: too many content codings: %w", ErrTooLarge)
	errAfterCoded   = fmt.Errorf("flare: octets behind the end of a coded body: %w", ErrMalformed)
)

const (
	decodedBytesDefault = 64 << 20
	decodedRatioDefault = 200 // text seldom passes 30; the format's limit is 1032
	// A short body may decode to any number of times its size up to here: the
	// ratio of a page of zeros says nothing.
	decodedRatioFreeBytes = 1 << 20

	// codingsMax bounds how many codings lie around each other. One is usual;
	// each more multiplies what a few octets can become.
	codingsMax = 2

	decoderReadBytes = 4 << 10
)

// DecodeLimits bound what a coded body may become. The zero value has the
// defaults; negative is no limit.
type DecodeLimits struct {
	MaxBytes int64 // decoded, default 64 MiB
	MaxRatio int64 // decoded to received bytes, beyond 1 MiB decoded; default 200
}

// NewDecoder returns a reader of the content of body, which has been coded as
// contentEncoding, a Content-Encoding field's value, says. It reads body no
// further than it has to, and gives out what a flush of the sender has made
// complete. "deflate" is read with and without its zlib wrapper, since both
// are sent (RFC 9110 §8.4.1.2); a gzip body may have several members. An empty
// body is empty content.
//
// Read fails with an error that is io.ErrUnexpectedEOF for a body that is cut
// short, ErrTooLarge over the limits, ErrMalformed for what is not in the
// format or goes on behind its end, and with body's own errors. NewDecoder
// fails with ErrUnsupportedEncoding. Close closes body if it is an io.Closer; it
// may be called while another goroutine reads if body's may.
func NewDecoder(body io.Reader, contentEncoding string, limits DecodeLimits) (io.ReadCloser, error) {
	d, err := newDecoder(body, contentEncoding, limits)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func newDecoder(body io.Reader, contentEncoding string, limits DecodeLimits) (*decoder, error) {
	d := &decoder{source: source{r: body}, limits: limits}
	if d.limits.MaxBytes == 0 {
		d.limits.MaxBytes = decodedBytesDefault
	}
	if d.limits.MaxRatio == 0 {
		d.limits.MaxRatio = decodedRatioDefault
	}
	// The codings are listed in the order in which they were applied.
	var codings [codingsMax]string
	n := 0
	for more := true; more; {
		var coding string
		coding, contentEncoding, more = nextListMember(contentEncoding)
		if coding == "" || equalFoldASCII(coding, "identity") {
			continue
		}
		if n == codingsMax {
			return nil, errCodings
		}
		codings[n] = coding
		n++
	}
	var r io.Reader = &d.source
	for n--; n >= 0; n-- {
		in := bufio.NewReaderSize(r, decoderReadBytes)
		switch coding := codings[n]; {
		case equalFoldASCII(coding, codingGzip), equalFoldASCII(coding, "x-gzip"): // RFC 9110 §8.4.1.3
			r = &gzipReader{in: in}
		case equalFoldASCII(coding, codingDeflate):
			r = &deflateReader{in: in}
		default:
			return nil, ErrUnsupportedEncoding
		}
		d.coded = true
	}
	d.r = r
	return d, nil
}

// A decoder bounds what its readers give out.
type decoder struct {
	r      io.Reader
	source source
	limits DecodeLimits
	out    int64 // bytes given out
	coded  bool
	err    error // that ended it
	closed atomic.Bool
}

func (d *decoder) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if d.closed.Load() {
		return 0, ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	// One byte over the limit is asked for, to tell the end from more.
	if most := d.limits.MaxBytes; most >= 0 && int64(len(p)) > most-d.out {
		p = p[:most-d.out+1]
	}
	n, err := d.r.Read(p)
	d.out += int64(n)
	switch {
	case d.limits.MaxBytes >= 0 && d.out > d.limits.MaxBytes:
		n, d.err = n-1, errDecodedMax
	case d.coded && d.limits.MaxRatio >= 0 && d.out > decodedRatioFreeBytes && d.out/d.limits.MaxRatio > d.source.n:
		n, d.err = 0, errDecodedRatio
	case err != nil:
		d.err = d.reason(err)
	}
	return n, d.err
}

// reason gives an error of the formats its meaning, and leaves those of the
// body as they are.
func (d *decoder) reason(err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case d.source.err != nil && d.source.err != io.EOF:
		return d.source.err
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum),
		errors.Is(err, zlib.ErrHeader), errors.Is(err, zlib.ErrChecksum), errors.Is(err, zlib.ErrDictionary),
		errors.As(err, &corrupt):
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

func (d *decoder) Close() error {
	d.closed.Store(true)
	if c, ok := d.source.r.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// A source counts what is received.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil {
		s.err = err
	}
	return n, err
}

// A gzipReader reads gzip members up to the end of its input (RFC 1952 §2.2).
type gzipReader struct {
	in     *bufio.Reader
	z      *gzip.Reader // nil before the first member
	inside bool         // a member, rather than where one may begin
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		if !g.inside {
			if err := g.begin(); err != nil {
				return 0, err
			}
		}
		n, err := g.z.Read(p)
		if err == io.EOF {
			g.inside, err = false, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// gzipMagic is what each member begins with: two octets that say what it is,
// and the only method there is.
const gzipMagic = "\x1f\x8b\x08"

// begin reads the header of a member. It returns io.EOF where there is none any
// more. What does not begin as a member does is malformed however short it is.
func (g *gzipReader) begin() error {
	if _, err := g.in.Peek(1); err != nil {
		return err // io.EOF: nothing at all, no content
	}
	magic, err := g.in.Peek(len(gzipMagic))
	switch {
	case string(magic) != gzipMagic[:len(magic)] && g.z != nil:
		return errAfterCoded
	case string(magic) != gzipMagic[:len(magic)]:
		return gzip.ErrHeader
	case err == nil && g.z == nil:
		g.z, err = gzip.NewReader(g.in)
	case err == nil:
		err = g.z.Reset(g.in)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	g.z.Multistream(false)
	g.inside = true
	return nil
}

// A deflateReader reads one deflate stream, with its zlib wrapper or, as some
// servers send it, without.
type deflateReader struct {
	in *bufio.Reader
	z  io.Reader // nil before the first octet
}

func (d *deflateReader) Read(p []byte) (int, error) {
	if d.z == nil {
		head, err := d.in.Peek(2)
		switch {
		case len(head) == 0:
			return 0, err // io.EOF: nothing at all, no content
		case err != nil && err != io.EOF:
			return 0, err
		case isZlibHeader(head):
			if d.z, err = zlib.NewReader(d.in); err != nil {
				return 0, err
			}
		default:
			d.z = flate.NewReader(d.in)
		}
	}
	n, err := d.z.Read(p)
	if err == io.EOF {
		if _, more := d.in.ReadByte(); more == nil {
			err = errAfterCoded
		} else if more != io.EOF {
			err = more
		}
	}
	return n, err
}

// isZlibHeader tells a zlib stream (RFC 1950 §2.2) from raw deflate: method 8,
// a window of at most 32 KiB, the check bits. No deflate stream that an
// encoder makes begins like that: it would be a stored block with padding
// other than zero.
func isZlibHeader(head []byte) bool {
	return len(head) >= 2 && head[0]&0xf == 8 && head[0]>>4 <= 7 && (uint(head[0])<<8|uint(head[1]))%31 == 0
}

// NegotiateEncoding chooses the coding of a response's content: the first of
// those offered that has the highest quality among the members of the
// request's Accept-Encoding fields (RFC 9110 §12.5.3). It returns "" for
// identity: when nothing that is offered is accepted, when identity is
// preferred, and without a field. A member that is malformed counts as absent.
func NegotiateEncoding(accept []string, offered ...string) string {
	best, bestQuality := "", 0
	identity, wildcard := -1, -1
	for _, field := range accept {
		eachQuality(field, func(coding string, quality int) {
			switch {
			case coding == "*":
				wildcard = quality
			case equalFoldASCII(coding, "identity"):
				identity = quality
			}
		})
	}
	for _, offer := range offered {
		quality := max(wildcard, 0)
		for _, field := range accept {
			eachQuality(field, func(coding string, q int) {
				if equalFoldASCII(coding, offer) || offer == codingGzip && equalFoldASCII(coding, "x-gzip") {
					quality = q
				}
			})
		}
		if quality > bestQuality {
			best, bestQuality = offer, quality
		}
	}
	if identity > bestQuality {
		return ""
	}
	return best
}

// eachQuality calls yield with each member of an Accept-Encoding field and its
// quality in thousandths.
func eachQuality(field string, yield func(coding string, quality int)) {
	for more := true; more; {
		var member string
		member, field, more = nextListMember(field)
		coding, parameters, weighed := strings.Cut(member, ";")
		coding = trimBlank(coding)
		quality, ok := 1000, true
		if weighed {
			quality, ok = parseQuality(trimBlank(parameters))
		}
		if ok && isToken(coding) {
			yield(coding, quality)
		}
	}
}

// parseQuality reads a weight, "q=0.5" (RFC 9110 §12.4.2), in thousandths.
func parseQuality(s string) (thousandths int, ok bool) {
	if len(s) < len("q=0") || lowerASCII(s[0]) != 'q' || s[1] != '=' || s[2] != '0' && s[2] != '1' {
		return 0, false
	}
	whole := int(s[2]-'0') * 1000
	s = s[len("q=0"):]
	if s == "" {
		return whole, true
	}
	if s[0] != '.' || len(s) > len(".000") {
		return 0, false
	}
	place := 100
	for i := 1; i < len(s); i++ {
		if !isDigit(s[i]) {
			return 0, false
		}
		thousandths += int(s[i]-'0') * place
		place /= 10
	}
	return whole + thousandths, whole+thousandths <= 1000
}
