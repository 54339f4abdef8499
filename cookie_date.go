package flare

import "time"

// This file is layer 1 (wire): dates as cookies have them (RFC 6265bis
// §5.1.1): tokens in any order, of which the first that look like a time, a
// day, a month and a year are meant. Weekdays, zones and whatever else are
// passed over; the time is always UTC. cookie.go calls it for Expires.

// cookieYearMin is the first year that a cookie's date may name.
const cookieYearMin = 1601

const cookieMonths = "janfebmaraprmayjunjulaugsepoctnovdec"

// A cookieDate collects what the tokens said.
type cookieDate struct {
	hour, minute, second, day, month, year int
	timeSeen, daySeen, monthSeen, yearSeen bool
}

// parseCookieDate reads a date; false where one of its parts is missing or
// there is no such date.
func parseCookieDate(s string) (time.Time, bool) {
	var d cookieDate
	for i := 0; i < len(s); {
		if isCookieDateDelimiter(s[i]) {
			i++
			continue
		}
		start := i
		for i < len(s) && !isCookieDateDelimiter(s[i]) {
			i++
		}
		d.take(s[start:i])
	}
	return d.result()
}

func isCookieDateDelimiter(c byte) bool {
	return c == '\t' || 0x20 <= c && c <= 0x2f || 0x3b <= c && c <= 0x40 ||
		0x5b <= c && c <= 0x60 || 0x7b <= c && c <= 0x7e
}

// take uses a token for the first part that it fits and that is missing yet.
func (d *cookieDate) take(token string) {
	if !d.timeSeen && d.takeTime(token) {
		d.timeSeen = true
		return
	}
	n, digits := leadingDigits(token, 4)
	switch {
	case !d.daySeen && (digits == 1 || digits == 2):
		d.day, d.daySeen = n, true
	case !d.monthSeen && digits == 0 && len(token) >= 3 && monthOf(token[:3]) > 0:
		d.month, d.monthSeen = monthOf(token[:3]), true
	case !d.yearSeen && digits >= 2:
		d.year, d.yearSeen = n, true
	}
}

// takeTime reads hour, minute and second with colons between them, one or two
// digits each; what follows the last digit does not matter.
func (d *cookieDate) takeTime(s string) bool {
	var part [3]int
	for i := range part {
		n, digits := leadingDigits(s, 2)
		if digits == 0 {
			return false
		}
		part[i] = n
		if s = s[digits:]; i < 2 {
			if s == "" || s[0] != ':' {
				return false
			}
			s = s[1:]
		}
	}
	d.hour, d.minute, d.second = part[0], part[1], part[2]
	return true
}

// leadingDigits reads the decimal digits that s begins with. More than most of
// them are none.
func leadingDigits(s string, most int) (n, digits int) {
	for digits < len(s) && isDigit(s[digits]) {
		if digits == most {
			return 0, 0
		}
		n = n*10 + int(s[digits]-'0')
		digits++
	}
	return n, digits
}

// monthOf returns 1 to 12 for the first three letters of a month's name, in
// any case, and 0 for others.
func monthOf(s string) int {
	for at := 0; at < len(cookieMonths); at += 3 {
		if equalFoldASCII(s, cookieMonths[at:at+3]) {
			return at/3 + 1
		}
	}
	return 0
}

// result is the date, if it is complete and exists.
func (d *cookieDate) result() (time.Time, bool) {
	switch {
	case d.year >= 70 && d.year <= 99:
		d.year += 1900
	case d.year <= 69:
		d.year += 2000
	}
	if !d.timeSeen || !d.daySeen || !d.monthSeen || !d.yearSeen ||
		d.year < cookieYearMin || d.hour > 23 || d.minute > 59 || d.second > 59 {
		return time.Time{}, false
	}
	t := time.Date(d.year, time.Month(d.month), d.day, d.hour, d.minute, d.second, 0, time.UTC)
	return t, t.Day() == d.day // the 31st of April would be the 1st of May
}
