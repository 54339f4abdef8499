package flare

import (
	"encoding/binary"
	"net/http"
	"slices"
)

// This file is layer 1 (wire): what a decoded field section of HTTP/2 has to
// look like to be the head of a request or a response, or a trailer section
// (RFC 9113 §8.1 to §8.3). It knows fields, with the tables and the functions
// that the parser of HTTP/1.1 uses, so that what is refused there is refused
// here. The connection calls it with what hpack.go has made of a field block;
// the spans of the heads count from the section's first octet.
//
// A message that breaks the grammar is malformed: an *http2Error of the stream
// (RFC 9113 §8.1.1). One that is well-formed and refused is a *ParseError with
// the status to answer with, and what was understood of its head stands. The
// first of either kind is reported, and a malformed one before any other.

const (
	ruleSectionName       = "field name is not a token in lower case (RFC 9113 §8.2.1)"
	ruleSectionValue      = "control character in a field value, or white space around it (RFC 9113 §8.2.1)"
	ruleSectionConnection = "field that speaks of the connection (RFC 9113 §8.2.2)"
	ruleSectionTE         = "TE of anything but trailers (RFC 9113 §8.2.2)"
	rulePseudoLate        = "pseudo-field behind a field, or in a trailer section (RFC 9113 §8.3)"
	rulePseudoTwice       = "pseudo-field twice (RFC 9113 §8.3)"
	rulePseudoUnknown     = "pseudo-field that has no place in the message (RFC 9113 §8.3)"
	rulePseudoMissing     = "pseudo-field missing (RFC 9113 §8.3.1, §8.3.2)"
	rulePseudoConnect     = "CONNECT with :scheme or :path, or without :authority (RFC 9113 §8.5)"
	ruleScheme            = ":scheme is neither http nor https (RFC 9113 §8.3.1)"
	rulePath              = ":path is neither a path nor * (RFC 9113 §8.3.1)"
	ruleProtocol          = ":protocol without CONNECT, or unasked for (RFC 8441 §4)"
	ruleAuthorityHost     = "Host that differs from :authority (RFC 9113 §8.3.1)"
	ruleAuthorityMissing  = "no host: neither :authority nor Host, or an empty one (RFC 9113 §8.3.1)"
	ruleStatus            = ":status is not three digits, or 101 (RFC 9113 §8.3.2, §8.6)"
	ruleLengthNoBody      = "Content-Length of a body that does not come (RFC 9113 §8.1.1)"
	ruleInterimEnd        = "interim response that ends the stream (RFC 9113 §8.1)"
)

// A sectionReader goes through the fields of a section, in their order, and
// puts those that are no pseudo-fields into a head.
type sectionReader struct {
	s      *fieldSection
	h      *messageHead // has fields, Content-Length and what Expect says
	lim    *headLimits
	pseudo uint // the kinds that may be there, as bits; 0 in trailer sections

	request bool // else Cookie, Expect, Host, Priority and TE have no meaning
	late    bool // a field was seen that is no pseudo-field
	size    int  // of the fields as lines of HTTP/1.1
	cookies int  // fields named Cookie
	cookie  int  // the first of them, as an index in h.fields

	refusal error // the first *ParseError; a malformed message goes before it

	found [nameProtocol + 1]span // values of pseudo-fields; end is 0 without one
}

// judge says what a fault of HTTP/1.1's grammar is here: a stream error, or a
// refusal if it has a status of its own.
func (r *sectionReader) judge(err error) error {
	fault, ok := err.(*ParseError)
	if ok && fault.Status == http.StatusBadRequest {
		return streamFault(codeProtocol, fault.Rule)
	}
	if ok && r.refusal == nil {
		r.refusal = err
	}
	return nil
}

func (r *sectionReader) refuse(status int, at uint32, rule string) {
	if r.refusal == nil {
		r.refusal = fault(status, int(at), rule)
	}
}

// read goes through all fields. Its errors are those of a malformed message.
func (r *sectionReader) read() error {
	if err := r.checkOctets(); err != nil {
		return err
	}
	b, start := r.s.octets, uint32(0)
	for i := range r.s.fields {
		at := &r.s.fields[i]
		f, k := field{start, at.nameEnd, at.nameEnd, at.end}, at.kind
		start = at.end
		if f.valueEnd > f.value && (isBlank(b[f.value]) || isBlank(b[f.valueEnd-1])) {
			return streamFault(codeProtocol, ruleSectionValue)
		}
		if k != nameOther {
			counts, err := r.readKnown(k, f)
			if err != nil {
				return err
			}
			if !counts {
				continue
			}
		}
		r.late = true
		r.count(f.name, int(f.valueEnd-f.name))
		if len(r.h.fields) < effectiveLimit(r.lim.headers) {
			r.h.fields = append(r.h.fields, f)
		} else {
			r.refuse(http.StatusRequestHeaderFieldsTooLarge, f.name, ruleFieldsMax)
		}
	}
	if r.s.cut {
		r.refuse(http.StatusRequestHeaderFieldsTooLarge, uint32(len(b)), ruleHeaderMax)
	}
	return nil
}

// checkOctets refuses what no value may have. Names are judged by their kinds,
// so one look at all octets together is enough in the usual case.
func (r *sectionReader) checkOctets() error {
	if !mayHoldControl(r.s.octets) {
		return nil
	}
	for _, f := range r.s.fields {
		if !isFieldValue(r.s.octets[f.nameEnd:f.end]) {
			return streamFault(codeProtocol, ruleSectionValue)
		}
	}
	return nil
}

// mayHoldControl says whether b may hold a control character; tabs and octets
// above 0x7f count as such.
func mayHoldControl(b []byte) bool {
	flags := uint64(0)
	for len(b) >= 8 {
		flags |= controls(binary.LittleEndian.Uint64(b))
		b = b[8:]
	}
	for _, c := range b {
		flags |= controls(uint64(c) | 0x2020202020202000)
	}
	return flags&highBits != 0
}

// count adds a field of n octets at that offset to the size of the section.
func (r *sectionReader) count(at uint32, n int) {
	if r.size += n + fieldCost; r.size > effectiveLimit(r.lim.headerBytes) {
		r.refuse(http.StatusRequestHeaderFieldsTooLarge, at, ruleHeaderMax)
	}
}

// readKnown takes a field whose name means something. It reports whether the
// field counts as one of the head.
func (r *sectionReader) readKnown(k nameKind, f field) (counts bool, err error) {
	value := r.s.octets[f.value:f.valueEnd]
	switch {
	case k == nameInvalid:
		return false, streamFault(codeProtocol, ruleSectionName)
	case k <= nameProtocol:
		return false, r.readPseudo(k, f)
	case k == nameConnection || k == nameTE && !r.request:
		return false, streamFault(codeProtocol, ruleSectionConnection)
	case r.pseudo == 0: // in a trailer section none of the others means anything
		return true, nil
	case k == nameContentLength:
		return true, r.judge(r.h.interpretContentLength(f, value))
	case !r.request:
		return true, nil
	}
	switch k {
	case nameTE:
		if !equalFoldASCII(value, "trailers") {
			return false, streamFault(codeProtocol, ruleSectionTE)
		}
	case nameHost:
		return false, r.readHost(f)
	case nameCookie:
		if r.cookies++; r.cookies > 1 { // one field, joined by "; " (RFC 9113 §8.2.3)
			r.late = true
			r.count(f.name, len("; ")+len(value)-fieldCost)
			return false, nil
		}
		r.cookie = len(r.h.fields)
	case nameExpect:
		r.h.interpretExpect(value)
	case namePriority:
		r.s.priority = parseStreamPriority(value)
	}
	return true, nil
}

// readPseudo takes a pseudo-field.
func (r *sectionReader) readPseudo(k nameKind, f field) error {
	switch {
	case r.late || r.pseudo == 0:
		return streamFault(codeProtocol, rulePseudoLate)
	case r.pseudo&(1<<k) == 0:
		return streamFault(codeProtocol, rulePseudoUnknown)
	case r.found[k].end != 0:
		return streamFault(codeProtocol, rulePseudoTwice)
	}
	r.found[k] = span{f.value, f.valueEnd}
	return nil
}

func (r *sectionReader) has(k nameKind) bool { return r.found[k].end != 0 }

const pseudoInResponse = 1 << nameStatus

// fillHTTP2 fills h, which was reset, from the section of a response. endStream:
// nothing follows. Whether Content-Length fits that depends on the request
// (RFC 9110 §8.6) and is for the caller.
func (h *responseHead) fillHTTP2(s *fieldSection, lim *headLimits, endStream bool) error {
	h.minor = 1
	r := sectionReader{s: s, h: &h.messageHead, lim: lim, pseudo: pseudoInResponse}
	if err := r.read(); err != nil {
		return err
	}
	if !r.has(nameStatus) {
		return streamFault(codeProtocol, rulePseudoMissing)
	}
	for i, c := range r.found[nameStatus].of(s.octets) {
		if i == 3 || !isDigit(c) {
			return streamFault(codeProtocol, ruleStatus)
		}
		h.status = h.status*10 + int(c-'0')
	}
	switch {
	case h.status < 100 || h.status == http.StatusSwitchingProtocols:
		return streamFault(codeProtocol, ruleStatus)
	case h.status < 200 && endStream:
		return streamFault(codeProtocol, ruleInterimEnd)
	}
	return r.refusal
}

// fillTrailer fills t from the section of trailers, with the fields that may be
// there.
func (s *fieldSection) fillTrailer(t *headerFields, lim *headLimits) error {
	var h messageHead
	r := sectionReader{s: s, h: &h, lim: lim}
	if err := r.read(); err != nil {
		return err
	}
	if r.refusal != nil {
		return r.refusal
	}
	t.fill(string(s.octets), h.fields)
	t.list = slices.DeleteFunc(t.list, func(f headerField) bool { return !allowedInTrailer(f.name) })
	return nil
}
