package flare

import "strconv"

// This file is layer 1 (wire): the error codes of HTTP/2 (RFC 9113 §7) and the
// error that says which of them a peer has earned, and for what: its stream or
// the connection (RFC 9113 §5.4). All of http2_*.go and hpack*.go return it.

// An http2Code is an error code of RST_STREAM and GOAWAY. Values that are not
// registered mean nothing special (RFC 9113 §7).
type http2Code uint32

const (
	codeNone               http2Code = 0x0
	codeProtocol           http2Code = 0x1
	codeInternal           http2Code = 0x2
	codeFlowControl        http2Code = 0x3
	codeSettingsTimeout    http2Code = 0x4
	codeStreamClosed       http2Code = 0x5
	codeFrameSize          http2Code = 0x6
	codeRefusedStream      http2Code = 0x7
	codeCancel             http2Code = 0x8
	codeCompression        http2Code = 0x9
	codeConnect            http2Code = 0xa
	codeEnhanceYourCalm    http2Code = 0xb
	codeInadequateSecurity http2Code = 0xc
	codeHTTP11Required     http2Code = 0xd
)

var http2CodeNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
	"FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
	"INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

func (c http2Code) String() string {
	if int64(c) < int64(len(http2CodeNames)) {
		return http2CodeNames[c]
	}
	return "code 0x" + strconv.FormatUint(uint64(c), 16)
}

// An http2Error says which rule of HTTP/2 the peer broke and what becomes of
// it. It unwraps to ErrTooLarge for codeEnhanceYourCalm and to ErrMalformed
// otherwise.
type http2Error struct {
	code   http2Code
	stream bool   // RST_STREAM with the code; otherwise GOAWAY, and the connection ends
	rule   string // the rule, with its source
}

func (e *http2Error) Error() string { return "flare: HTTP/2 " + e.code.String() + ": " + e.rule }

// Unwrap makes errors.Is(err, ErrMalformed) and errors.Is(err, ErrTooLarge)
// answer.
func (e *http2Error) Unwrap() error {
	if e.code == codeEnhanceYourCalm {
		return ErrTooLarge
	}
	return ErrMalformed
}

// connFault builds the error of a fault that ends the connection.
//
//go:noinline
func connFault(code http2Code, rule string) error {
	return &http2Error{code: code, rule: rule}
}

// streamFault builds the error of a fault that ends the stream alone.
//
//go:noinline
func streamFault(code http2Code, rule string) error {
	return &http2Error{code: code, stream: true, rule: rule}
}

// An http2Reset is the end of a stream, or of a connection, by the peer's word.
type http2Reset struct {
	code http2Code
	away bool // by GOAWAY
}

func (e *http2Reset) Error() string {
	if e.away {
		return "flare: HTTP/2 connection ended by the peer with " + e.code.String()
	}
	return "flare: HTTP/2 stream reset by the peer with " + e.code.String()
}

func (e *http2Reset) Unwrap() error { return ErrReset }

// errUnprocessed means that the server has said that it has not looked at the
// request (RFC 9113 §8.7).
var errUnprocessed error = &http2Reset{code: codeRefusedStream}
