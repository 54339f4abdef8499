package flare

import (
	"errors"
	"strconv"
)

// This file is layer 1 (wire): the Sec-WebSocket-Extensions field (RFC 6455
// §9.1) and the four parameters of permessage-deflate (RFC 7692 §7.1). It knows
// text and rules. The handshakes of both sides use it.

// Compression says whether and how messages are compressed.
type Compression uint8

const (
	// CompressionOff is the default: permessage-deflate is neither offered nor
	// accepted.
	CompressionOff Compression = iota

	// CompressionOn compresses each message by itself. A connection keeps
	// nothing between messages.
	CompressionOn

	// CompressionTakeover lets messages refer to earlier ones, which makes
	// similar small ones much smaller. It costs a connection that sends some
	// hundred KiB for its compressor, and one that receives 32 KiB.
	CompressionTakeover
)

const (
	deflateName           = "permessage-deflate"
	deflateServerNoTake   = "server_no_context_takeover"
	deflateClientNoTake   = "client_no_context_takeover"
	deflateServerBits     = "server_max_window_bits"
	deflateClientBits     = "client_max_window_bits"
	windowBitsMin         = 8  // RFC 7692 §7.1.2.1
	windowBitsMax         = 15 // the same; also what no parameter means
	extensionBytesMax     = 4 << 10
	extensionsOfferedMax  = 16
	deflateParametersMax  = 4
	windowBitsUnspecified = -1 // the parameter without a value
)

// errExtension: the field does not follow its grammar, or an answer agrees to
// what was not offered.
var errExtension = errors.New("flare: invalid Sec-WebSocket-Extensions")

// deflateParams is one offer of permessage-deflate, or what was agreed on.
type deflateParams struct {
	serverNoTakeover bool
	clientNoTakeover bool
	serverBits       int // 0: absent
	clientBits       int // 0: absent, windowBitsUnspecified: no value
}

// An extension is one member of the field.
type extension struct {
	name   string
	params []extensionParam
}

type extensionParam struct {
	name, value string
	hasValue    bool
}

// parseExtensions reads the members of one field's value.
func parseExtensions(s string, list []extension) ([]extension, error) {
	if len(s) > extensionBytesMax {
		return nil, errExtension
	}
	for {
		s = trimBlank(s)
		if s == "" {
			return list, nil
		}
		if s[0] == ',' { // RFC 9110 §5.6.1: empty members are allowed
			s = s[1:]
			continue
		}
		var e extension
		var ok bool
		if e, s, ok = parseExtension(s); !ok || len(list) == extensionsOfferedMax {
			return nil, errExtension
		}
		list = append(list, e)
	}
}

// parseExtension reads one member: token *( ";" param ).
func parseExtension(s string) (e extension, rest string, ok bool) {
	if e.name, s = cutToken(s); e.name == "" {
		return e, s, false
	}
	for {
		s = trimBlank(s)
		if s == "" || s[0] == ',' {
			return e, s, true
		}
		if s[0] != ';' {
			return e, s, false
		}
		var p extensionParam
		if p.name, s = cutToken(trimBlank(s[1:])); p.name == "" {
			return e, s, false
		}
		s = trimBlank(s)
		if s != "" && s[0] == '=' {
			p.hasValue = true
			if p.value, s, ok = cutParamValue(trimBlank(s[1:])); !ok {
				return e, s, false
			}
		}
		if len(e.params) == extensionsOfferedMax {
			return e, s, false
		}
		e.params = append(e.params, p)
	}
}

// cutToken cuts the token off the front of s; "" if there is none.
func cutToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && charClass[s[i]]&classToken != 0 {
		i++
	}
	return s[:i], s[i:]
}

// cutParamValue cuts a token, or a quoted string that is one once unquoted
// (RFC 6455 §9.1), off the front of s.
func cutParamValue(s string) (value, rest string, ok bool) {
	if s == "" || s[0] != '"' {
		value, rest = cutToken(s)
		return value, rest, value != ""
	}
	var b []byte
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return string(b), s[i+1:], isToken(b)
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b = append(b, s[i])
	}
	return "", "", false
}

// deflateOf reads the parameters of a member. A parameter that is unknown,
// comes twice or has a wrong value makes it void (RFC 7692 §7).
func deflateOf(e extension) (p deflateParams, ok bool) {
	if e.name != deflateName || len(e.params) > deflateParametersMax {
		return p, false
	}
	for i, param := range e.params {
		for _, earlier := range e.params[:i] {
			if earlier.name == param.name {
				return p, false
			}
		}
		switch param.name {
		case deflateServerNoTake:
			p.serverNoTakeover, ok = true, !param.hasValue
		case deflateClientNoTake:
			p.clientNoTakeover, ok = true, !param.hasValue
		case deflateServerBits:
			p.serverBits, ok = windowBits(param.value)
		case deflateClientBits:
			if p.clientBits, ok = windowBitsUnspecified, true; param.hasValue {
				p.clientBits, ok = windowBits(param.value)
			}
		default:
			ok = false
		}
		if !ok {
			return p, false
		}
	}
	return p, true
}

// windowBits reads 8 to 15, without leading zeros (RFC 7692 §7.1.2.1).
func windowBits(s string) (int, bool) {
	if s == "" || s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return int(n), err == nil && n >= windowBitsMin && n <= windowBitsMax
}

// acceptDeflate chooses the first offer that can be accepted and returns what
// is agreed on. sendTakeover is what the server's own direction may do.
func acceptDeflate(offers []extension, mode Compression, sendTakeover bool) (agreed deflateParams, ok bool) {
	if mode == CompressionOff {
		return agreed, false
	}
	for _, e := range offers {
		offer, ok := deflateOf(e)
		if !ok {
			continue
		}
		agreed = deflateParams{
			serverNoTakeover: offer.serverNoTakeover || mode != CompressionTakeover || !sendTakeover,
			clientNoTakeover: offer.clientNoTakeover || mode != CompressionTakeover,
			// A smaller window is kept by starting afresh (deflater), so that
			// there is nothing to take over either.
			serverBits: offer.serverBits,
		}
		if offer.serverBits != 0 && offer.serverBits < windowBitsMax {
			agreed.serverNoTakeover = true
		}
		// client_max_window_bits is not answered: the inflater has the largest
		// window, so no limit has to be asked for (RFC 7692 §7.1.2.2).
		return agreed, true
	}
	return agreed, false
}

// offerDeflate returns what a client offers. sendTakeover is what the client's
// own direction may do.
func offerDeflate(mode Compression, sendTakeover bool) deflateParams {
	return deflateParams{
		serverNoTakeover: mode != CompressionTakeover,
		clientNoTakeover: mode != CompressionTakeover || !sendTakeover,
		clientBits:       windowBitsUnspecified,
	}
}

// verifyDeflate reads a server's answer to offer. agreed is false when the
// server wants no compression; any answer that was not offered is an error
// (RFC 7692 §7.1, RFC 6455 §9.1).
func verifyDeflate(answer []extension, mode Compression, sendTakeover bool) (p deflateParams, agreed bool, err error) {
	if len(answer) == 0 {
		return p, false, nil
	}
	offer := offerDeflate(mode, sendTakeover)
	p, ok := deflateOf(answer[0])
	switch {
	case mode == CompressionOff, !ok, len(answer) > 1:
		return p, false, errExtension
	case offer.serverNoTakeover && !p.serverNoTakeover: // RFC 7692 §7.1.1.1
		return p, false, errExtension
	case p.clientBits == windowBitsUnspecified: // only an offer may leave it open
		return p, false, errExtension
	}
	p.clientNoTakeover = p.clientNoTakeover || offer.clientNoTakeover ||
		p.clientBits != 0 && p.clientBits < windowBitsMax
	return p, true, nil
}

// append appends p as a member of the field.
func (p deflateParams) append(b []byte) []byte {
	b = append(b, deflateName...)
	if p.serverNoTakeover {
		b = append(b, "; "+deflateServerNoTake...)
	}
	if p.clientNoTakeover {
		b = append(b, "; "+deflateClientNoTake...)
	}
	if p.serverBits > 0 {
		b = append(b, "; "+deflateServerBits+"="...)
		b = strconv.AppendInt(b, int64(p.serverBits), 10)
	}
	if p.clientBits != 0 {
		b = append(b, "; "+deflateClientBits...)
		if p.clientBits > 0 {
			b = append(b, '=')
			b = strconv.AppendInt(b, int64(p.clientBits), 10)
		}
	}
	return b
}

// codecs returns what compresses and what decompresses on one side.
func (p deflateParams) codecs(client bool) (*deflater, *inflater) {
	sendTakeover, sendBits, readTakeover := !p.serverNoTakeover, p.serverBits, !p.clientNoTakeover
	if client {
		sendTakeover, sendBits, readTakeover = !p.clientNoTakeover, p.clientBits, !p.serverNoTakeover
	}
	z := &deflater{takeover: sendTakeover}
	if sendBits > 0 && sendBits < windowBitsMax {
		z.windowBytes = 1 << sendBits
	}
	return z, &inflater{takeover: readTakeover}
}
