package flare

import (
	"net/http"
	"time"
)

// This file is layer 0 (base): the Date header field (RFC 9110 §6.6.1), made
// at most once a second. It knows the format and no clock: a loop owns one
// dateCache and passes in the second it has read anyway.

const (
	dateName = "Date: "
	// len("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
	dateLineBytes = len(dateName) + len(http.TimeFormat) + 2

	// IMF-fixdate has exactly four digits for the year (RFC 9110 §5.6.7).
	dateUnixMin = -62167219200 // 0000-01-01 00:00:00
	dateUnixMax = 253402300799 // 9999-12-31 23:59:59
)

// A dateCache holds the last Date line made. Its zero value is ready. It is
// not safe for concurrent use.
type dateCache struct {
	made       bool
	unixSecond int64
	bytes      [dateLineBytes]byte
}

// line returns the whole field line, "Date: Sun, 06 Nov 1994 08:49:37
// GMT\r\n", for a Unix time in seconds. The bytes are the cache's: valid until
// the next call and not to be written to. Times that the format cannot say
// give the nearest one that it can.
func (d *dateCache) line(unixSecond int64) []byte {
	if unixSecond != d.unixSecond || !d.made {
		d.format(unixSecond)
	}
	return d.bytes[:]
}

func (d *dateCache) format(unixSecond int64) {
	d.made, d.unixSecond = true, unixSecond
	t := time.Unix(min(max(unixSecond, dateUnixMin), dateUnixMax), 0).UTC()
	b := append(d.bytes[:0], dateName...)
	b = t.AppendFormat(b, http.TimeFormat) // IMF-fixdate (RFC 9110 §5.6.7)
	_ = append(b, "\r\n"...)               // fills bytes to its end
}
