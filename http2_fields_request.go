package flare

import "net/http"

// This file is layer 1 (wire): the head of a request out of its field section
// (RFC 9113 §8.3.1, §8.5; RFC 8441). http2_fields.go reads the section and has
// the rules that all messages share; target.go knows what a path and an
// authority may be.

const pseudoInRequest = 1<<nameMethod | 1<<nameScheme | 1<<namePath | 1<<nameAuthority | 1<<nameProtocol

// A requestOffer is what the head of a request is held to, beside the limits.
type requestOffer struct {
	endStream bool // no body follows
	connect   bool // extended CONNECT was offered (RFC 8441 §3)
}

// fillHTTP2 fills h, which was reset, from the section of a request, so that it
// says what the same request over HTTP/1.1 would: the first field is Host, there
// is one Cookie at most, a WebSocket's extended CONNECT is a GET that asks for an
// upgrade, and a body whose length is not known is one with h.chunked. Octets
// are appended to the section for that. With a *ParseError h has what was
// understood.
func (h *requestHead) fillHTTP2(s *fieldSection, lim *headLimits, offer requestOffer) error {
	h.minor = 1
	h.fields = append(h.fields[:0], field{}) // for Host
	r := sectionReader{s: s, h: &h.messageHead, lim: lim, pseudo: pseudoInRequest, request: true}
	if err := r.read(); err != nil {
		return err
	}
	// What would stand in the request line is judged as if it came first.
	fields := r.refusal
	r.refusal = nil
	if err := h.fillLine(&r, offer); err != nil {
		return err
	}
	if r.refusal == nil {
		r.refusal = fields
	}
	connect := h.form == authorityForm || r.has(nameProtocol)
	switch {
	case connect:
	case offer.endStream && h.contentLength > 0: // RFC 9113 §8.1.1
		return streamFault(codeProtocol, ruleLengthNoBody)
	case !offer.endStream && h.contentLength < 0:
		h.chunked = true
	}
	if h.expectOther {
		r.refuse(http.StatusExpectationFailed, uint32(len(s.octets)), ruleExpect)
	}
	if r.refusal != nil {
		return r.refusal
	}
	if r.cookies > 1 {
		r.joinCookies()
	}
	return nil
}

// fillLine fills in what the request line and Host are over HTTP/1.1.
func (h *requestHead) fillLine(r *sectionReader, offer requestOffer) error {
	s := r.s
	if s.cut {
		return h.fillCutLine(r)
	}
	if err := h.fillMethod(r); err != nil {
		return err
	}
	connect := string(h.method.of(s.octets)) == http.MethodConnect
	protocol := r.found[nameProtocol].of(s.octets)
	switch {
	case r.has(nameProtocol):
		if !connect || !offer.connect || !isToken(protocol) {
			return streamFault(codeProtocol, ruleProtocol)
		}
	case connect:
		if r.has(nameScheme) || r.has(namePath) || !r.has(nameAuthority) {
			return streamFault(codeProtocol, rulePseudoConnect)
		}
		h.target = r.found[nameAuthority]
		if err := r.judge(h.classifyTarget(s.octets)); err != nil {
			return err
		}
		return h.fillHost(r)
	}
	if !r.has(nameScheme) || !r.has(namePath) {
		return streamFault(codeProtocol, rulePseudoMissing)
	}
	if scheme := r.found[nameScheme].of(s.octets); !equalFoldASCII(scheme, "http") && !equalFoldASCII(scheme, "https") {
		return streamFault(codeProtocol, ruleScheme)
	}
	if err := h.fillTarget(r); err != nil {
		return err
	}
	if r.has(nameProtocol) && equalFoldASCII(r.found[nameProtocol].of(s.octets), "websocket") {
		h.method = s.text(http.MethodGet)
		h.websocket, h.connUpgrade = true, true
	}
	return h.fillHost(r)
}

// fillMethod takes :method.
func (h *requestHead) fillMethod(r *sectionReader) error {
	method := r.found[nameMethod]
	switch m := method.of(r.s.octets); {
	case !r.has(nameMethod):
		return streamFault(codeProtocol, rulePseudoMissing)
	case !isToken(m):
		return streamFault(codeProtocol, ruleMethod)
	case len(m) > methodBytesMax:
		r.refuse(http.StatusNotImplemented, method.start, ruleMethodMax)
	}
	h.method = method
	return nil
}

// fillCutLine does as much for a section that was too large: what it lacks may
// be in the part that was not kept.
func (h *requestHead) fillCutLine(r *sectionReader) error {
	if method := r.found[nameMethod]; isToken(method.of(r.s.octets)) && method.len() <= methodBytesMax {
		h.method = method
	}
	if r.has(namePath) {
		return h.fillTarget(r)
	}
	return nil
}

// fillTarget takes :path apart. An extended CONNECT has a path too.
func (h *requestHead) fillTarget(r *sectionReader) error {
	s, path := r.s, r.found[namePath]
	if int(path.end) == len(s.octets) {
		s.octets = append(s.octets, 0)
	}
	// A target ends with a space: one stands in for what is behind it.
	behind := s.octets[path.end]
	s.octets[path.end] = ' '
	method := h.method
	if r.has(nameProtocol) {
		h.method = span{}
	}
	n, err := h.scanTarget(s.octets[:path.end+1], int(path.start), r.lim)
	h.method = method
	s.octets[path.end] = behind
	switch {
	case err != nil:
		return r.judge(err)
	case n != int(path.end) || h.form != originForm && h.form != asteriskForm:
		return streamFault(codeProtocol, rulePath)
	}
	return nil
}

// readHost takes a Host field, to which fillHost comes back.
func (r *sectionReader) readHost(f field) error {
	if r.h.fields[0].valueEnd != 0 {
		return streamFault(codeProtocol, ruleHostTwice)
	}
	r.late = true
	r.h.fields[0] = f
	r.count(f.name, int(f.valueEnd-f.name))
	return nil
}

// fillHost finds the host in :authority, or else in Host, and sees to it that
// there is a Host and that both say the same.
func (h *requestHead) fillHost(r *sectionReader) error {
	s, host := r.s, &h.fields[0]
	given := span{host.value, host.valueEnd}
	switch {
	case !r.has(nameAuthority):
	case given.end == 0:
		at := r.found[nameAuthority]
		name := s.text("host")
		*host = field{name.start, name.end, at.start, at.end}
		r.count(at.start, len("host")+at.len())
	case !sameAuthority(given.of(s.octets), r.found[nameAuthority].of(s.octets), r.found[nameScheme].of(s.octets)):
		return streamFault(codeProtocol, ruleAuthorityHost)
	}
	if host.value == host.valueEnd { // both schemes need one (RFC 9110 §4.2.1)
		return streamFault(codeProtocol, ruleAuthorityMissing)
	}
	return r.judge(h.interpretHost(s.octets[host.value:host.valueEnd], *host))
}

// sameAuthority says whether two authorities are the same for that scheme.
func sameAuthority(a, b, scheme []byte) bool {
	if string(a) == string(b) {
		return true
	}
	hostA, portA, okA := splitAuthority(a)
	hostB, portB, okB := splitAuthority(b)
	port := 443
	if equalFoldASCII(scheme, "http") {
		port = 80
	}
	if portA < 0 {
		portA = port
	}
	if portB < 0 {
		portB = port
	}
	return okA && okB && portA == portB && equalFoldASCII(hostA, hostB)
}

// joinCookies makes one field of all Cookie fields (RFC 9113 §8.2.3), where the
// first of them is.
func (r *sectionReader) joinCookies() {
	s := r.s
	joined := &r.h.fields[r.cookie]
	s.octets = append(s.octets, s.octets[joined.value:joined.valueEnd]...)
	first := joined.name
	joined.value = uint32(len(s.octets) - int(joined.valueEnd-joined.value))
	for i := range s.fields {
		if f := s.field(i); s.fields[i].kind == nameCookie && f.name != first {
			s.octets = append(s.octets, "; "...)
			s.octets = append(s.octets, s.octets[f.value:f.valueEnd]...)
		}
	}
	joined.valueEnd = uint32(len(s.octets))
}

// text appends text that the section lacks and says where it stands.
func (s *fieldSection) text(text string) span {
	start := uint32(len(s.octets))
	s.octets = append(s.octets, text...)
	return span{start, uint32(len(s.octets))}
}
