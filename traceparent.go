package flare

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
)

// This file is layer 1 (wire): the name of a span (W3C Trace Context), as fields have
// it and as contexts do.

// A TraceContext names a span of a trace, as W3C Trace Context has it. The zero value
// is none.
type TraceContext struct {
	TraceID [16]byte
	SpanID  [8]byte
	Flags   byte   // 1: whoever made the span may have recorded it
	State   string // tracestate as it came, which is passed on
}

const (
	traceParentField = "traceparent"
	traceStateField  = "tracestate"
	traceStateMax    = 512 // at least as much is to be passed on (§3.3.1.5)
)

// ParseTraceParent reads the value of a traceparent field (W3C Trace Context §3.2).
// It is false for what is malformed, and where an id is zero. Of a later version than
// 00 it reads what 00 has.
func ParseTraceParent(s string) (t TraceContext, ok bool) {
	// 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
	const length = 55
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return t, false
	}
	var version, flags [1]byte
	if !lowerHexBytes(version[:], s[:2]) || !lowerHexBytes(t.TraceID[:], s[3:35]) || !lowerHexBytes(t.SpanID[:], s[36:52]) || !lowerHexBytes(flags[:], s[53:55]) {
		return TraceContext{}, false
	}
	later := version[0] != 0
	if version[0] == 0xff || !later && len(s) != length || later && len(s) > length && s[length] != '-' || !t.IsValid() {
		return TraceContext{}, false
	}
	t.Flags = flags[0] & 1 // what else there may be has no meaning yet (§3.2.2.5.2)
	return t, true
}

// lowerHexBytes decodes digits, which are to be in lower case.
func lowerHexBytes(to []byte, digits string) bool {
	for i := range len(digits) {
		if c := digits[i]; c >= 'A' && c <= 'F' {
			return false
		}
	}
	_, err := hex.Decode(to, []byte(digits))
	return err == nil
}

// IsValid reports whether t names a span.
func (t TraceContext) IsValid() bool { return t.TraceID != [16]byte{} && t.SpanID != [8]byte{} }

// String returns t as the value of a traceparent field.
func (t TraceContext) String() string {
	b := make([]byte, 0, 55)
	b = append(b, "00-"...)
	b = append(hex.AppendEncode(b, t.TraceID[:]), '-')
	b = append(hex.AppendEncode(b, t.SpanID[:]), '-')
	return string(hex.AppendEncode(b, []byte{t.Flags}))
}

// traceID returns the id of the trace for logs.
func (t TraceContext) traceID() string { return hex.EncodeToString(t.TraceID[:]) }

// child returns a new span of t's trace, or of a new trace if t is none.
func (t TraceContext) child() TraceContext {
	fill := func(b []byte) {
		for allZero := true; allZero; {
			for i := range b {
				b[i] = byte(rand.Uint32())
				allZero = allZero && b[i] == 0
			}
		}
	}
	if !t.IsValid() {
		t = TraceContext{}
		fill(t.TraceID[:])
	}
	fill(t.SpanID[:])
	return t
}

type traceKey struct{}

// TraceFrom returns the span that ctx belongs to: of a request's context what Trace
// has found. ok is false without one.
func TraceFrom(ctx context.Context) (t TraceContext, ok bool) {
	t, ok = ctx.Value(traceKey{}).(TraceContext)
	return t, ok
}
