package flare

import (
	"encoding/binary"
	"math/bits"
	"net/http"
)

// This file is layer 1 (wire): the field lines of a head or of a trailer
// section, from the octet after the start line to the empty line. It knows the
// grammar of a line and remembers where it was between two calls; which fields
// mean something to the parser is in parser_framing.go. parser.go (requests),
// parser_response.go and body.go (trailers) call it.

// A span is a range of octets, counted from the first octet of the head.
type span struct{ start, end uint32 }

func (s span) of(b []byte) []byte { return b[s.start:s.end] }

func (s span) len() int { return int(s.end - s.start) }

// A field is one field line. The offsets count from the first octet of the
// head; white space around the value is outside of it.
type field struct{ name, nameEnd, value, valueEnd uint32 }

// headLimits bounds a head or a trailer section. Negative: no limit.
type headLimits struct {
	uriBytes    int // request target
	headerBytes int // field lines with their line ends; the start line counts apart
	headers     int // field lines
}

// offsetMax stands in for "no limit": offsets are 32 bits wide, and sums of a
// few of these still fit.
const offsetMax = 1 << 29

func effectiveLimit(limit int) int {
	if limit < 0 || limit > offsetMax {
		return offsetMax
	}
	return limit
}

// messageHead is what heads of requests and of responses have in common, and
// where the parser stopped when the octets ran out.
type messageHead struct {
	fields        []field
	contentLength int64 // -1: no Content-Length
	host          span  // of the Host field; a request's target may override it
	minor         uint8 // 0 for HTTP/1.0, 1 for HTTP/1.1 and above

	response       bool // a folded line is taken then, and an unknown transfer coding malformed, not 501
	chunked        bool // Transfer-Encoding: chunked
	hostSeen       bool
	connClose      bool // members of Connection
	connKeepAlive  bool
	connUpgrade    bool
	websocket      bool // Upgrade has the member websocket
	expectContinue bool // Expect: 100-continue
	expectOther    bool // Expect: anything else

	// Resumption. Offsets, since the octets may have moved between two calls.
	section uint32       // first field line; 0 while the start line is incomplete
	next    uint32       // first line that was not complete yet
	clean   uint32       // octets below this one were looked at in that line's value
	watched *watchedName // names that interpret wants to see

	knownHost *knownHost // stays from head to head; nil in responses
}

// watchedName has the first four octets, in lower case, of the one name of
// each length that means something to the parser, so that one comparison of a
// word rules nearly every other name out.
type watchedName [len("transfer-encoding") + 1]uint32

const (
	wordConn = 'c' | 'o'<<8 | 'n'<<16 | 'n'<<24
	wordCont = 'c' | 'o'<<8 | 'n'<<16 | 't'<<24
	wordExpe = 'e' | 'x'<<8 | 'p'<<16 | 'e'<<24
	wordHost = 'h' | 'o'<<8 | 's'<<16 | 't'<<24
	wordTran = 't' | 'r'<<8 | 'a'<<16 | 'n'<<24
	wordUpgr = 'u' | 'p'<<8 | 'g'<<16 | 'r'<<24

	wordCRLF = '\r' | '\n'<<8

	lowerWord = 0x20202020
)

var (
	watchedInRequest = watchedName{
		len("host"): wordHost, len("expect"): wordExpe, len("upgrade"): wordUpgr,
		len("connection"): wordConn, len("content-length"): wordCont, len("transfer-encoding"): wordTran,
	}
	watchedInResponse = watchedName{
		len("upgrade"): wordUpgr, len("connection"): wordConn,
		len("content-length"): wordCont, len("transfer-encoding"): wordTran,
	}
	watchedInTrailer watchedName // a trailer never frames (RFC 9110 §6.5.1)
)

// fault builds the error of a refusal, away from the loops that find it.
//
//go:noinline
func fault(status, offset int, rule string) error {
	return &ParseError{Status: status, Offset: offset, Rule: rule}
}

const (
	ruleBareLF    = "bare LF (RFC 9112 §2.2)"
	ruleBareCR    = "bare CR (RFC 9112 §2.2)"
	ruleFieldEnd  = "field line without a colon (RFC 9112 §5)"
	ruleNameEmpty = "empty field name (RFC 9112 §5)"
	ruleNameBlank = "white space between field name and colon (RFC 9112 §5.1)"
	ruleName      = "octet in a field name that is no tchar (RFC 9110 §5.1)"
	ruleLineBlank = "line folding, or white space before the first field (RFC 9112 §5.2, §2.2)"
	ruleControl   = "control character in a field value (RFC 9110 §5.5)"
	ruleFieldsMax = "too many fields (RFC 9110 §5.4)"
	ruleHeaderMax = "header section too large (RFC 9110 §5.4)"
)

// Words of eight octets at a time. A sum or difference of whole words carries
// from one octet into the next higher one only where the lower one is flagged
// itself: nothing is missed, and whoever looks at the lowest flagged octet sees
// whether it is a find or a false alarm.
const (
	eachOctet = 0x0101010101010101
	highBits  = 0x80 * eachOctet
)

// controls flags, in highBits, the octets of w that are below 0x20 or 0x7f.
// Most of those above 0x7f are flagged too: they are fine, and too rare to cost every word
// two instructions more.
func controls(w uint64) uint64 {
	return (w - 0x20*eachOctet) | (w + eachOctet)
}

// parseFields goes on at the first line that is not complete. It returns the
// length of the head once the empty line is there, and 0 to ask for more; then
// it wants the same octets again, followed by others. In a response it writes
// over line ends that fold a value.
func (h *messageHead) parseFields(b []byte, lim *headLimits) (int, error) {
	// The limit is an end of the octets like the real one: everything before it
	// is judged first, so that the first fault in wire order decides.
	end := min(h.fieldsEndMax(lim), len(b))
	cut := end < len(b)
	b = b[:end:end]
	headersMax := effectiveLimit(lim.headers)
	i := int(h.next)
	line := i
	for i >= 0 { // always; the compiler drops bounds checks for it
		// Name: tchars up to the colon.
		line = i
		i = skipClass(b, i, classToken)
		if i <= line || i >= len(b)-1 || b[i] != ':' || len(h.fields) >= headersMax {
			if i+1 < len(b) && i == line && b[i] == '\r' && b[i+1] == '\n' {
				return i + len("\r\n"), nil
			}
			if err := nameFault(b, line, i, len(h.fields) >= headersMax); err != nil {
				return 0, err
			}
			break
		}
		nameEnd := i
		// Value: from the first octet that is not white space to the line end.
		i++
		if b[i] == ' ' {
			i++
		}
		i = skipBlank(b, i)
		value := i
		if clean := int(h.clean); clean > i {
			i = clean
		}
		// This loop is not a function of its own: the call would cost more than
		// a usual value does.
	value:
		for {
			for i <= len(b)-16 {
				low := controls(binary.LittleEndian.Uint64(b[i:]))
				high := controls(binary.LittleEndian.Uint64(b[i+8:]))
				if (low|high)&highBits != 0 {
					if low &= highBits; low != 0 {
						i += bits.TrailingZeros64(low) / 8
					} else {
						i += bits.TrailingZeros64(high&highBits)/8 + 8
					}
					break
				}
				i += 16
			}
			// The end of the line, the last few octets, a tab, or a false alarm.
			for i < len(b) {
				if charClass[b[i]]&classValue == 0 {
					break value
				}
				i++
				if i <= len(b)-16 {
					continue value
				}
			}
			break
		}
		if i > len(b)-2 || binary.LittleEndian.Uint16(b[i:]) != wordCRLF {
			if err := valueFault(b, i); err != nil {
				return 0, err
			}
			h.clean = uint32(i)
			break
		}
		if h.response {
			if i+2 == len(b) {
				h.clean = uint32(i) // the next octet decides whether the line ends here
				break
			}
			if isBlank(b[i+2]) {
				i, value = unfold(b, i, value)
				goto value
			}
		}
		valueEnd := blankStart(b, value, i)
		i += len("\r\n")
		f := field{uint32(line), uint32(nameEnd), uint32(value), uint32(valueEnd)}
		h.fields = append(h.fields, f)
		if n := nameEnd - line; n < len(h.watched) && binary.LittleEndian.Uint32(b[line:])|lowerWord == h.watched[n] {
			var err error
			if n == len("host") {
				err = h.interpretHost(b[value:valueEnd], f)
			} else {
				err = h.interpret(b, f)
			}
			if err != nil {
				return 0, err
			}
		}
	}
	h.next = uint32(line)
	if cut {
		return 0, fault(http.StatusRequestHeaderFieldsTooLarge, end, ruleHeaderMax)
	}
	return 0, nil
}

// skipBlank returns where white space that begins at i ends.
func skipBlank(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && isBlank(b[i]) {
		i++
	}
	return i
}

// blankStart returns where the white space begins that b[start:end] ends with,
// end for none.
func blankStart(b []byte, start, end int) int {
	for end > start && b[end-1] <= ' ' && isBlank(b[end-1]) {
		end--
	}
	return end
}

// unfold writes spaces over the line end at i that a folded line begins behind,
// and returns where that goes on, and where the value begins that began at value:
// in a response, obs-fold is a space, and is replaced before the value is
// interpreted (RFC 9112 §5.2). Who passes a response on without knowing of folds
// passes one line on.
func unfold(b []byte, i, value int) (next, begin int) {
	b[i], b[i+1] = ' ', ' '
	next = skipBlank(b, i+len("\r\n"))
	if value == i {
		value = next // nothing of it has come so far
	}
	return next, value
}

// fieldsEndMax is where the head ends at the latest, empty line included.
func (h *messageHead) fieldsEndMax(lim *headLimits) int {
	return int(h.section) + effectiveLimit(lim.headerBytes) + len("\r\n")
}

// nameFault says what is wrong with a line whose tchars end at i. Nothing may
// be: octets may only be missing.
func nameFault(b []byte, line, i int, full bool) error {
	switch {
	case i > line && full:
		return fault(http.StatusRequestHeaderFieldsTooLarge, line, ruleFieldsMax)
	case i == len(b):
		return nil
	}
	switch c := b[i]; {
	case c == ':' && i > line:
		return nil
	case c == '\r' && i+1 == len(b):
		if i == line {
			return nil
		}
		return fault(http.StatusBadRequest, i, ruleFieldEnd)
	case c == '\r' && b[i+1] == '\n' || c == '\n' && i > line:
		return fault(http.StatusBadRequest, i, ruleFieldEnd)
	case c == '\r':
		return fault(http.StatusBadRequest, i, ruleBareCR)
	case c == '\n':
		return fault(http.StatusBadRequest, i, ruleBareLF)
	case isBlank(c) && i == line:
		return fault(http.StatusBadRequest, i, ruleLineBlank)
	case isBlank(c):
		return fault(http.StatusBadRequest, i, ruleNameBlank)
	case c == ':':
		return fault(http.StatusBadRequest, i, ruleNameEmpty)
	}
	return fault(http.StatusBadRequest, i, ruleName)
}

// valueFault says what is wrong with a value that ends at i without CRLF:
// nothing if only octets are missing.
func valueFault(b []byte, i int) error {
	switch {
	case i >= len(b), b[i] == '\r' && i+1 == len(b):
		return nil
	case b[i] == '\r':
		return fault(http.StatusBadRequest, i, ruleBareCR)
	case b[i] == '\n':
		return fault(http.StatusBadRequest, i, ruleBareLF)
	}
	return fault(http.StatusBadRequest, i, ruleControl)
}
