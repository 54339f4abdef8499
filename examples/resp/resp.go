package main

import (
	"bytes"
	"strconv"
)

// This file is the protocol: RESP2 (redis.io/docs/reference/protocol-spec). It
// knows bytes and bounds, and no command.

const (
	argsMax         = 1024      // of a command; Redis allows a million, which is a way to fill memory
	bulkBytesMax    = 512 << 10 // of an argument; Redis allows 512 MiB
	inlineBytesMax  = 4 << 10   // of an inline command
	commandBytesMax = 1 << 20   // of a command in all; the connection's bound on input
)

// A protocolError is why a client cannot be understood. It is the last thing
// the client is told.
type protocolError string

func (e protocolError) Error() string { return "Protocol error: " + string(e) }

// parse reads one command from the front of in: its arguments, appended to args
// and valid as long as in is, and the number of bytes it takes up. 0: more has
// to come. A command without arguments is to be ignored.
func parse(args [][]byte, in []byte) (_ [][]byte, n int, err error) {
	if len(in) == 0 {
		return args, 0, nil
	}
	if in[0] != '*' {
		return parseInline(args, in)
	}
	count, at, err := number(in, 1, argsMax, "invalid multibulk length")
	if at == 0 || err != nil {
		return args, 0, err
	}
	for range count {
		if at == len(in) {
			return args, 0, nil
		}
		if in[at] != '$' {
			return args, 0, protocolError("expected '$'")
		}
		size, start, err := number(in, at+1, bulkBytesMax, "invalid bulk length")
		if start == 0 || err != nil {
			return args, 0, err
		}
		if size < 0 {
			return args, 0, protocolError("invalid bulk length")
		}
		end := start + size
		if end+2 > commandBytesMax {
			return args, 0, protocolError("too big request")
		}
		if end+2 > len(in) {
			return args, 0, nil
		}
		if in[end] != '\r' || in[end+1] != '\n' {
			return args, 0, protocolError("bulk without CRLF")
		}
		args = append(args, in[start:end])
		at = end + 2
	}
	return args, at, nil
}

// number reads a number and its CRLF at in[at:]. next is where it ends, 0 if
// more has to come. -1, which is nothing, is the only number below 0.
func number(in []byte, at, most int, refusal protocolError) (value, next int, err error) {
	i := at
	for ; i < len(in) && in[i] != '\r'; i++ {
		d := in[i] - '0'
		switch {
		case d <= 9 && !(value == 0 && i > at): // no leading zero
			if value = value*10 + int(d); value > most {
				return 0, 0, refusal
			}
		case in[i] == '-' && i == at:
			return minusOne(in, at, refusal)
		default:
			return 0, 0, refusal
		}
	}
	switch {
	case i+1 >= len(in):
		return 0, 0, nil
	case i == at || in[i+1] != '\n':
		return 0, 0, refusal
	}
	return value, i + 2, nil
}

// minusOne is number for "-1".
func minusOne(in []byte, at int, refusal protocolError) (value, next int, err error) {
	const text = "-1\r\n"
	if have := in[at:min(at+len(text), len(in))]; string(have) != text[:len(have)] {
		return 0, 0, refusal
	} else if len(have) < len(text) {
		return 0, 0, nil
	}
	return -1, at + len(text), nil
}

// parseInline is parse for a line with spaces between its words, which is what
// people type. There is no quoting.
func parseInline(args [][]byte, in []byte) (_ [][]byte, n int, err error) {
	end := bytes.IndexByte(in[:min(len(in), inlineBytesMax)], '\n')
	if end < 0 {
		if len(in) >= inlineBytesMax {
			return args, 0, protocolError("too big inline request")
		}
		return args, 0, nil
	}
	line := bytes.TrimSuffix(in[:end], []byte("\r"))
	for word := range bytes.FieldsFuncSeq(line, func(r rune) bool { return r == ' ' || r == '\t' }) {
		args = append(args, word)
	}
	if len(args) > argsMax {
		return args, 0, protocolError("too many arguments")
	}
	return args, end + 1, nil
}

// The replies, appended to b.

func appendSimple(b []byte, s string) []byte { return append(append(append(b, '+'), s...), '\r', '\n') }

func appendError(b []byte, s string) []byte { return append(append(append(b, '-'), s...), '\r', '\n') }

func appendInt(b []byte, n int64) []byte {
	return append(strconv.AppendInt(append(b, ':'), n, 10), '\r', '\n')
}

func appendBulk(b, p []byte) []byte {
	b = append(strconv.AppendInt(append(b, '$'), int64(len(p)), 10), '\r', '\n')
	return append(append(b, p...), '\r', '\n')
}

func appendNull(b []byte) []byte { return append(b, "$-1\r\n"...) }

func appendArray(b []byte, n int) []byte {
	return append(strconv.AppendInt(append(b, '*'), int64(n), 10), '\r', '\n')
}
