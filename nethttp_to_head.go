package flare

import (
	"encoding/binary"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// This file is layer 5 (surface): the head of an http.Request as the octets and
// spans that a Request stands on. What is refused by flare's own parser is refused
// here, by the same tables and functions: a request that http.StripPrefix and the
// like have changed, or that never was on a wire, is as suspect as any.

// fillHead fills the exchange's head. With a *ParseError it has what was
// understood.
func (k *httpCarrier) fillHead(lim *headLimits) error {
	f := headFiller{h: &k.x.r.head, b: k.octets[:0], lim: lim}
	err := f.fill(k)
	k.octets = f.b
	if err == nil { // what net/http says, which may come from frames instead of fields
		f.h.contentLength, f.h.chunked = k.length, k.length < 0
	}
	return err
}

// A headFiller puts a head together.
type headFiller struct {
	h    *requestHead
	b    []byte
	lim  *headLimits
	size int // of the fields as lines of HTTP/1.1
}

func (f *headFiller) fill(k *httpCarrier) error {
	h, r := f.h, k.r
	if h.minor = 1; r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		h.minor = 0
	}
	if err := f.addLine(r); err != nil {
		return err
	}
	if err := f.add("Host", r.Host); err != nil {
		return err
	}
	k.names = sortedNames(k.names[:0], r.Header)
	for _, name := range k.names {
		for _, value := range r.Header[name] {
			if err := f.add(name, value); err != nil {
				return err
			}
		}
	}
	for _, coding := range r.TransferEncoding {
		if err := f.add("Transfer-Encoding", coding); err != nil {
			return err
		}
	}
	if len(r.Trailer) > 0 {
		if err := f.add("Trailer", strings.Join(sortedNames(nil, r.Trailer), ", ")); err != nil {
			return err
		}
	}
	if h.expectOther {
		return fault(http.StatusExpectationFailed, len(f.b), ruleExpect)
	}
	if h.authority.end > 0 { // RFC 9112 §3.2.2: Host is ignored, and §3.3
		h.host = h.authority
	}
	return nil
}

// addLine adds method and target.
func (f *headFiller) addLine(r *http.Request) error {
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	switch {
	case !isToken(method):
		return fault(http.StatusBadRequest, 0, ruleMethod)
	case len(method) > methodBytesMax:
		return fault(http.StatusNotImplemented, methodBytesMax, ruleMethodMax)
	}
	f.b = append(append(f.b, method...), ' ')
	f.h.method = span{0, uint32(len(method))}
	start := len(f.b)
	f.b = append(appendHTTPTarget(f.b, r), ' ') // where scanTarget stops
	switch n, err := f.h.scanTarget(f.b, start, f.lim); {
	case err != nil:
		return err
	case n != len(f.b)-1:
		return fault(http.StatusBadRequest, n, ruleTargetOctet)
	}
	return nil
}

// appendHTTPTarget appends the request target. It is made of r.URL, which is what
// http.StripPrefix and the like change.
func appendHTTPTarget(b []byte, r *http.Request) []byte {
	u := r.URL
	switch {
	case r.Method == http.MethodConnect && u.Path == "":
		return append(b, r.Host...)
	case u.Host != "" && u.Scheme != "": // absolute form (RFC 9112 §3.2.2)
		origin := url.URL{Scheme: u.Scheme, Host: u.Host}
		b = append(b, origin.String()...)
	}
	if u.Opaque != "" {
		return append(b, u.RequestURI()...)
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	b = append(b, path...)
	if u.ForceQuery || u.RawQuery != "" {
		b = append(append(b, '?'), u.RawQuery...)
	}
	return b
}

// add adds a field.
func (f *headFiller) add(name, value string) error {
	h, at := f.h, len(f.b)
	switch {
	case len(h.fields) >= effectiveLimit(f.lim.headers):
		return fault(http.StatusRequestHeaderFieldsTooLarge, at, ruleFieldsMax)
	case !isToken(name):
		return fault(http.StatusBadRequest, at, ruleName)
	case !isFieldValue(value):
		return fault(http.StatusBadRequest, at, ruleControl)
	}
	if f.size += len(name) + len(value) + fieldCost; f.size > effectiveLimit(f.lim.headerBytes) {
		return fault(http.StatusRequestHeaderFieldsTooLarge, at, ruleHeaderMax)
	}
	value = trimBlank(value)
	f.b = append(f.b, name...)
	nameEnd := len(f.b)
	f.b = append(f.b, value...)
	added := field{uint32(at), uint32(nameEnd), uint32(nameEnd), uint32(len(f.b))}
	h.fields = append(h.fields, added)
	n := nameEnd - at
	if n < len("host") || n >= len(h.watched) || binary.LittleEndian.Uint32(f.b[at:])|lowerWord != h.watched[n] {
		return nil
	}
	if n == len("host") {
		return h.interpretHost(f.b[nameEnd:], added)
	}
	return h.interpret(f.b, added)
}

// sortedNames appends the names of fields, in the order in which net/http sends
// them.
func sortedNames(names []string, fields http.Header) []string {
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
