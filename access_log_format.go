package flare

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// This file is layer 5 (surface): how lines of AccessLog are written: as log/slog's
// JSONHandler and TextHandler write them, octet by octet, and what the common log
// format has of what clients sent.

// jsonStyle is slog.JSONHandler's.
type jsonStyle struct{}

func (jsonStyle) begin(b []byte, t time.Time) []byte {
	b = append(b, `{"time":"`...)
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, `","level":"INFO","msg":"`+accessMessage+`"`...)
}

func (jsonStyle) key(b []byte, key string) []byte {
	return append(append(append(b, `,"`...), key...), `":`...)
}

func (jsonStyle) text(b []byte, s string) []byte {
	return append(appendJSONText(append(b, '"'), s), '"')
}

func (jsonStyle) duration(b []byte, d time.Duration) []byte {
	return strconv.AppendInt(b, int64(d), 10)
}

func (jsonStyle) end(b []byte) []byte { return append(b, '}') }

// textStyle is slog.TextHandler's.
type textStyle struct{}

func (textStyle) begin(b []byte, t time.Time) []byte {
	b = append(b, "time="...)
	b = t.AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	return append(b, " level=INFO msg="+accessMessage...)
}

func (textStyle) key(b []byte, key string) []byte {
	return append(append(append(b, ' '), key...), '=')
}

func (textStyle) text(b []byte, s string) []byte {
	if needsQuotes(s) {
		return strconv.AppendQuote(b, s)
	}
	return append(b, s...)
}

func (textStyle) duration(b []byte, d time.Duration) []byte { return append(b, d.String()...) }

func (textStyle) end(b []byte) []byte { return b }

// isPlainText says whether an octet stands for itself inside of a string of JSON.
func isPlainText(c byte) bool { return c >= ' ' && c < 0x7f && c != '"' && c != '\\' }

// needsQuotes says whether a text has to be quoted to be one word of a line.
func needsQuotes(s string) bool {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c != '\\' && (c == ' ' || c == '=' || !isPlainText(c)) {
				return true
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return true
		}
		i += n
	}
	return s == ""
}

const lowerHex = "0123456789abcdef"

// appendJSONText appends what stands between the quotation marks of a string of JSON
// (RFC 8259 §7). Octets that are no UTF-8 become U+FFFD, and ends of line of
// JavaScript are escaped.
func appendJSONText(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if isPlainText(c) || c == 0x7f {
			i++
			continue
		}
		n := 1
		if c >= utf8.RuneSelf {
			var r rune
			r, n = utf8.DecodeRuneInString(s[i:])
			if (r != utf8.RuneError || n > 1) && r != '\u2028' && r != '\u2029' {
				i += n
				continue
			}
			b = append(b, s[start:i]...)
			if n == 1 {
				b = append(b, `\ufffd`...)
			} else {
				b = append(b, `\u202`...)
				b = append(b, lowerHex[r&0xf])
			}
		} else {
			b = append(b, s[start:i]...)
			b = appendJSONEscape(b, c)
		}
		i += n
		start = i
	}
	return append(b, s[start:]...)
}

// appendJSONEscape appends an octet that must not stand for itself.
func appendJSONEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', '0', '0', lowerHex[c>>4], lowerHex[c&0xf])
}

// appendCommonText appends what a client sent to a line of the common log format:
// quotation marks and backslashes behind a backslash, and what is no printable ASCII
// as \xhh; as a word of its own, which an empty text is as "-", white space too.
func appendCommonText(b []byte, s string, word bool) []byte {
	if s == "" && word {
		return append(b, '-')
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c >= 0x7f || word && c == ' ':
			b = append(b, '\\', 'x', lowerHex[c>>4], lowerHex[c&0xf])
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, c)
		}
	}
	return b
}
