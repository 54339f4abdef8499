package flare

import (
	"bytes"
	"math"
	"net/http"
	"slices"
)

// This file is layer 1 (wire): the chunked transfer coding (RFC 9112 §7.1). It
// knows octets and limits and hands out the data where it lies; it keeps none.
// Connections, server's and client's, call it with what has arrived. Bounds on
// the size of a body are theirs.

const (
	// chunkSizeDigitsMax is the width of the largest size that fits 64 bits;
	// leading zeros count.
	chunkSizeDigitsMax = 16

	// Chunk extensions mean nothing to flare. Bounds keep them from being a way
	// to send a body of any size that no body limit sees. What a body may have
	// of them grows with its data, since some clients sign each chunk (AWS's:
	// 85 octets for 64 KiB), and so slowly that bodies of tiny chunks stay bounded.
	extensionLineBytesMax = 1 << 10
	extensionBodyBytesMax = 16 << 10 // and one octet for each extensionDataRatio of data
	extensionDataRatio    = 8
)

const (
	ruleChunkSize      = "chunk size is not hexadecimal digits (RFC 9112 §7.1)"
	ruleChunkSizeMax   = "chunk size does not fit (RFC 9112 §7.1)"
	ruleChunkExtension = "chunk extension against its grammar (RFC 9112 §7.1.1)"
	ruleExtensionMax   = "chunk extensions too large (RFC 9112 §7.1.1)"
	ruleChunkLineEnd   = "chunk size line does not end in CRLF (RFC 9112 §7.1)"
	ruleChunkDataEnd   = "chunk data is not followed by CRLF (RFC 9112 §7.1)"
)

// chunkState is named for what the decoder waits for.
type chunkState uint8

const (
	chunkSize      chunkState = iota // size digits, or what may follow one
	chunkExtension                   // an octet of an extension, see extensionState
	chunkLineLF                      // the LF of a size line
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer // a line of the trailer section, or the empty one
	chunkDone
)

// extensionState is where in chunk-ext the decoder is (RFC 9112 §7.1.1):
// *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ).
type extensionState uint8

const (
	extensionSemicolon  extensionState = iota // behind white space: ";"
	extensionNameStart                        // first tchar of a name
	extensionName                             // more of it, or what may follow
	extensionEquals                           // behind white space after a name: "=" or ";"
	extensionValueStart                       // first octet of a value
	extensionToken                            // more of a token, or what may follow
	extensionQuoted                           // more of a quoted string, or its end
	extensionEscaped                          // the octet behind a backslash
	extensionValueEnd                         // behind a quoted string: what may follow a value
)

// A chunkedDecoder takes the chunked coding off a body, in pieces of any size.
// reset readies it for a body and keeps its memory.
type chunkedDecoder struct {
	trailer headerFields // fields of the trailer section that may be there, once done

	remaining     int64 // of the chunk
	data          int64 // octets of data so far
	extensionBody int64 // octets of extension on the lines before
	extensionLine int   // and on this line
	offset        int   // octets consumed before the current call

	digits         int // of the size so far
	state          chunkState
	extensionState extensionState

	// The trailer section, and nothing else, is collected before it is parsed.
	lines  []byte
	fields messageHead
	lim    headLimits
}

// reset readies d for a body whose trailer section has the limits of a head.
func (d *chunkedDecoder) reset(lim *headLimits) {
	d.trailer.reset()
	lines, fields := d.lines[:0], d.fields.fields[:0]
	if cap(lines) > trailerBytesKept {
		lines, fields = nil, nil
	}
	*d = chunkedDecoder{trailer: d.trailer, lines: lines, lim: *lim}
	d.fields.fields, d.fields.watched = fields, &watchedInTrailer
}

// trailerBytesKept is how much memory for trailer sections survives a reset;
// the usual one is a checksum and a status.
const trailerBytesKept = 4 << 10

// decode consumes n octets at the front of b and returns the next piece of
// data among them, a part of b. Without data it consumed all of b and wants
// more, or is done: the last chunk and the trailer section are consumed, and
// nothing behind them is. The error is a *ParseError whose offset counts from
// the first octet of the coding. After an error d is good for reset alone.
func (d *chunkedDecoder) decode(b []byte) (data []byte, n int, done bool, err error) {
	for n < len(b) && d.state != chunkDone {
		if d.state == chunkData {
			size := int(min(int64(len(b)-n), d.remaining))
			data = b[n : n+size : n+size]
			n += size
			d.data += int64(size)
			if d.remaining -= int64(size); d.remaining == 0 {
				d.state = chunkDataCR
			}
			break
		}
		if d.state == chunkTrailer {
			size, err := d.decodeTrailer(b[n:], d.offset+n)
			if err != nil {
				return nil, 0, false, err
			}
			n += size
			continue
		}
		if err := d.decodeFraming(b[n], d.offset+n); err != nil {
			return nil, 0, false, err
		}
		n++
	}
	d.offset += n
	return data, n, d.state == chunkDone, nil
}

// decodeFraming takes one octet of a size line or of the line end behind data.
func (d *chunkedDecoder) decodeFraming(c byte, at int) error {
	switch d.state {
	case chunkSize:
		return d.decodeSize(c, at)
	case chunkExtension:
		return d.decodeExtension(c, at)
	case chunkLineLF:
		if c != '\n' {
			return fault(http.StatusBadRequest, at, ruleChunkLineEnd)
		}
		d.state = chunkData
		if d.remaining == 0 {
			d.state = chunkTrailer
		}
	case chunkDataCR:
		if c != '\r' {
			return fault(http.StatusBadRequest, at, ruleChunkDataEnd)
		}
		d.state = chunkDataLF
	case chunkDataLF:
		if c != '\n' {
			return fault(http.StatusBadRequest, at, ruleChunkDataEnd)
		}
		d.state = chunkSize
		d.digits = 0
		d.extensionBody += int64(d.extensionLine)
		d.extensionLine = 0
	}
	return nil
}

func (d *chunkedDecoder) decodeSize(c byte, at int) error {
	switch {
	case charClass[c]&classHex != 0:
		if d.digits++; d.digits > chunkSizeDigitsMax || d.remaining > math.MaxInt64>>4 {
			return fault(http.StatusBadRequest, at, ruleChunkSizeMax)
		}
		d.remaining = d.remaining<<4 | int64(hexDigit(c))
		return nil
	case d.digits == 0:
		return fault(http.StatusBadRequest, at, ruleChunkSize)
	case c == '\r':
		d.state = chunkLineLF
		return nil
	case c == ';' || isBlank(c):
		d.state = chunkExtension
		d.extensionState = extensionSemicolon
		return d.decodeExtension(c, at)
	}
	return fault(http.StatusBadRequest, at, ruleChunkSize)
}

// decodeExtension takes one octet of a chunk extension, or the CR behind it.
func (d *chunkedDecoder) decodeExtension(c byte, at int) error {
	class := charClass[c]
	state := d.extensionState
	if c == '\r' && (state == extensionName || state == extensionToken || state == extensionValueEnd) {
		d.state = chunkLineLF
		return nil
	}
	d.extensionLine++
	if d.extensionLine > extensionLineBytesMax ||
		d.extensionBody+int64(d.extensionLine) > extensionBodyBytesMax+d.data/extensionDataRatio {
		return fault(http.StatusRequestEntityTooLarge, at, ruleExtensionMax)
	}
	valid := false
	switch state {
	case extensionSemicolon, extensionEquals, extensionName, extensionToken, extensionValueEnd:
		named := state == extensionName || state == extensionEquals
		switch {
		case class&classToken != 0:
			valid = state == extensionName || state == extensionToken
		case c == ';':
			state, valid = extensionNameStart, true
		case c == '=' && named:
			state, valid = extensionValueStart, true
		case isBlank(c) && named:
			state, valid = extensionEquals, true
		case isBlank(c):
			state, valid = extensionSemicolon, true
		}
	case extensionNameStart:
		if valid = isBlank(c); class&classToken != 0 {
			state, valid = extensionName, true
		}
	case extensionValueStart:
		switch {
		case class&classToken != 0:
			state, valid = extensionToken, true
		case c == '"':
			state, valid = extensionQuoted, true
		default:
			valid = isBlank(c)
		}
	case extensionQuoted:
		switch {
		case c == '"':
			state, valid = extensionValueEnd, true
		case c == '\\':
			state, valid = extensionEscaped, true
		default:
			valid = class&classQuoted != 0
		}
	case extensionEscaped:
		state, valid = extensionQuoted, class&classValue != 0
	}
	if !valid {
		return fault(http.StatusBadRequest, at, ruleChunkExtension)
	}
	d.extensionState = state
	return nil
}

// decodeTrailer takes octets of the trailer section, a line at most, and
// returns how many. The first of them is at that offset of the coding.
func (d *chunkedDecoder) decodeTrailer(b []byte, at int) (int, error) {
	before := len(d.lines)
	size := bytes.IndexByte(b, '\n') + 1
	if size == 0 {
		size = len(b)
	}
	// One octet over the limit is enough for the parser to see it passed.
	size = min(size, d.fields.fieldsEndMax(&d.lim)+1-before)
	d.lines = append(d.lines, b[:size]...)
	n, err := d.fields.parseFields(d.lines, &d.lim)
	if err != nil {
		err.(*ParseError).Offset += at - before // it counted from the section
		return 0, err
	}
	if n > 0 {
		d.state = chunkDone
		if len(d.fields.fields) > 0 {
			d.fillTrailer()
		}
	}
	return size, nil
}

// fillTrailer keeps the fields that may be in a trailer section.
func (d *chunkedDecoder) fillTrailer() {
	d.trailer.fill(string(d.lines), d.fields.fields)
	d.trailer.list = slices.DeleteFunc(d.trailer.list, func(f headerField) bool {
		return !allowedInTrailer(f.name)
	})
}

// notInTrailer has the fields that frame, route, authenticate, modify the
// request, control the response or describe the content: too late for all of
// that behind the body (RFC 9110 §6.5.1).
var notInTrailer = []string{
	"Age", "Authorization", "Cache-Control", "Connection", "Content-Encoding",
	"Content-Length", "Content-Location", "Content-Range", "Content-Type",
	"Cookie", "Date", "Expect", "Expires", "Forwarded", "Host", "If-Match",
	"If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since",
	"Keep-Alive", "Location", "Max-Forwards", "Origin", "Pragma",
	"Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Range",
	"Retry-After", "Set-Cookie", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
	"Vary", "Via", "WWW-Authenticate", "X-Forwarded-For", "X-Forwarded-Host",
	"X-Forwarded-Proto",
}

// allowedInTrailer says whether a field of that name is sent, and believed, in
// a trailer section.
func allowedInTrailer(name string) bool {
	return !slices.ContainsFunc(notInTrailer, func(not string) bool { return equalFoldASCII(name, not) })
}
