package flare

import (
	"net/http"
	"strconv"
)

// This file is layer 1 (wire): response heads as bytes. It knows how a status
// line and a framing field look; handler_response.go decides which ones a
// response gets.

const (
	fieldChunked   = "Transfer-Encoding: chunked\r\n"
	fieldClose     = "Connection: close\r\n"
	fieldKeepAlive = "Connection: keep-alive\r\n"
	lastChunk      = "0\r\n"
)

// statusLines has the status line of each status code that has a name.
var statusLines = func() (lines [600]string) {
	for code := range lines {
		if text := http.StatusText(code); text != "" {
			lines[code] = "HTTP/1.1 " + strconv.Itoa(code) + " " + text + "\r\n"
		}
	}
	return lines
}()

// appendStatusLine appends the status line for code, 100 to 999.
func appendStatusLine(b []byte, code int) []byte {
	if code < len(statusLines) && statusLines[code] != "" {
		return append(b, statusLines[code]...)
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(code), 10)
	return append(b, " \r\n"...) // RFC 9112 §4: the reason may be absent, its space not
}

// appendContentLength appends the field with n, in bytes.
func appendContentLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, '\r', '\n')
}

// appendChunkSize appends the line before a chunk of n bytes (RFC 9112 §7.1).
func appendChunkSize(b []byte, n int) []byte {
	b = strconv.AppendInt(b, int64(n), 16)
	return append(b, '\r', '\n')
}

// bodyAllowed reports whether a response with that status may have content
// (RFC 9110 §6.4.1, §15.3.6).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusResetContent && status != http.StatusNotModified
}
