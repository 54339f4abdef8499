package flare

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func repliesOfFraming() []oddReply {
	const strict = "framing that two readers could read in two ways is refused (RFC 9112 §6.3)"
	return []oddReply{
		{name: "length", answer: replyOK + replyHello, want: isHello},
		{name: "length of nothing", answer: replyOK + "Content-Length: 0\r\n\r\n", want: `200 ""`},
		{name: "body shorter than its length", answer: replyOK + "Content-Length: 9\r\n\r\nhello", want: isError},
		{name: "body longer than its length", answer: replyOK + replyHello + "more", want: isHello},
		{name: "until the end", answer: replyOK + "\r\nhello", want: isHello, untilEnd: true},
		{name: "until the end, nothing", answer: replyOK + "\r\n", want: `200 ""`},
		{name: "1.0 until the end", answer: "HTTP/1.0 200 OK\r\n\r\nhello", want: isHello, untilEnd: true},
		{name: "1.0 with a length", answer: "HTTP/1.0 200 OK\r\n" + replyHello, want: isHello},
		{name: "1.0 keep-alive", answer: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + replyHello, want: isHello},
		{name: "close", answer: replyOK + "Connection: close\r\n" + replyHello, want: isHello},
		{name: "two equal lengths", answer: replyOK + "Content-Length: 5\r\n" + replyHello, want: isError, theirs: isHello, why: strict},
		{name: "two lengths", answer: replyOK + "Content-Length: 6\r\n" + replyHello, want: isError},
		{name: "list of lengths", answer: replyOK + "Content-Length: 5, 5\r\n\r\nhello", want: isError},
		{name: "length with a plus", answer: replyOK + "Content-Length: +5\r\n\r\nhello", want: isError},
		{name: "negative length", answer: replyOK + "Content-Length: -5\r\n\r\nhello", want: isError},
		{name: "blanks around the length", answer: replyOK + "Content-Length: \t5 \r\n\r\nhello", want: isHello},
		{name: "length with zeros before", answer: replyOK + "Content-Length: 0005\r\n\r\nhello", want: isError, theirs: isHello, why: strict},
		{name: "hexadecimal length", answer: replyOK + "Content-Length: 0x5\r\n\r\nhello", want: isError},
		{name: "empty length", answer: replyOK + "Content-Length:\r\n\r\nhello", want: isError},
		{name: "length of words", answer: replyOK + "Content-Length: five\r\n\r\nhello", want: isError},
		{name: "length with a unit", answer: replyOK + "Content-Length: 5 bytes\r\n\r\nhello", want: isError},
		{name: "length over 63 bits", answer: replyOK + "Content-Length: 9223372036854775808\r\n\r\nhello", want: isError},
		{name: "length over 64 bits", answer: replyOK + "Content-Length: 99999999999999999999999\r\n\r\nhello", want: isError},
		{name: "largest length", answer: replyOK + "Content-Length: 999999999999999999\r\n\r\nhello", want: isError},
		{name: "length and chunked", answer: replyOK + "Transfer-Encoding: chunked\r\n" + replyHello, want: isError},
		{name: "length beside chunks", answer: replyOK + "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: isError, theirs: isHello, why: strict},
		{name: "chunked", answer: replyChunked + "5\r\nhello\r\n0\r\n\r\n", want: isHello},
		{name: "chunks of an octet", answer: replyChunked + "1\r\nh\r\n1\r\ne\r\n3\r\nllo\r\n0\r\n\r\n", want: isHello},
		{name: "no chunks", answer: replyChunked + "0\r\n\r\n", want: `200 ""`},
		{name: "size in capitals", answer: replyChunked + "A\r\nhellohello\r\n0\r\n\r\n", want: `200 "hellohello"`},
		{name: "size with zeros before", answer: replyChunked + "0005\r\nhello\r\n000\r\n\r\n", want: isHello},
		{name: "extension", answer: replyChunked + "5;a=b;c=\"d;\\\"e\"\r\nhello\r\n0;x\r\n\r\n", want: isHello},
		{name: "blanks behind the size", answer: replyChunked + "5  \r\nhello\r\n0\r\n\r\n", want: isError, theirs: isHello, why: "white space stands only before an extension (RFC 9112 §7.1.1)"},
		{name: "size with 0x", answer: replyChunked + "0x5\r\nhello\r\n0\r\n\r\n", want: isError},
		{name: "negative size", answer: replyChunked + "-5\r\nhello\r\n0\r\n\r\n", want: isError},
		{name: "no size", answer: replyChunked + "\r\nhello\r\n0\r\n\r\n", want: isError},
		{name: "size over 64 bits", answer: replyChunked + "10000000000000005\r\nhello\r\n0\r\n\r\n", want: isError},
		{name: "size too large by one", answer: replyChunked + "6\r\nhello\r\n0\r\n\r\n", want: isError},
		{name: "size too small by one", answer: replyChunked + "4\r\nhello\r\n0\r\n\r\n", want: isError},
		{name: "chunks with LF alone", answer: replyChunked + "5\nhello\n0\n\n", want: isError},
		{name: "no last chunk", answer: replyChunked + "5\r\nhello\r\n", want: isError},
		{name: "no empty line behind", answer: replyChunked + "5\r\nhello\r\n0\r\n", want: isError},
		{name: "chunked and more", answer: replyChunked + "5\r\nhello\r\n0\r\n\r\nmore", want: isHello},
		{name: "trailer", answer: replyChunked + "5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n", want: isHello + " X-Sum=42"},
		{name: "trailer that frames", answer: replyChunked + "5\r\nhello\r\n0\r\nContent-Length: 3\r\n\r\n", want: isHello},
		{name: "trailer without a colon", answer: replyChunked + "5\r\nhello\r\n0\r\nX-Sum\r\n\r\n", want: isError},
		{name: "folded trailer", answer: replyChunked + "5\r\nhello\r\n0\r\nX-Sum: 4\r\n 2\r\n\r\n", want: isHello + " X-Sum=4 2"},
		{name: "Chunked", answer: replyOK + "Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: isHello},
		{name: "chunked in 1.0", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: isError, theirs: fmt.Sprintf("200 %q", "5\r\nhello\r\n0\r\n\r\n"), why: "a coding in HTTP/1.0 is a sign of faulty framing (RFC 9112 §6.1); net/http takes it for no coding"},
		{name: "gzip, chunked", answer: replyOK + "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: isError},
		{name: "identity", answer: replyOK + "Transfer-Encoding: identity\r\n\r\nhello", want: isError},
		{name: "chunked, identity", answer: replyOK + "Transfer-Encoding: chunked, identity\r\n\r\nhello", want: isError},
		{name: "chunked twice", answer: replyOK + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", want: isError},
		{name: "empty transfer coding", answer: replyOK + "Transfer-Encoding:\r\n" + replyHello, want: isError},
		{name: "HEAD with a length", method: "HEAD", answer: replyOK + "Content-Length: 5\r\n\r\n", want: `200 ""`},
		{name: "HEAD with a body", method: "HEAD", answer: replyOK + replyHello, want: `200 ""`},
		{name: "HEAD, chunked", method: "HEAD", answer: replyChunked, want: `200 ""`},
		{name: "204 with a length", answer: "HTTP/1.1 204 No Content\r\n" + replyHello, want: `204 ""`},
		{name: "204, chunked", answer: "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: `204 ""`},
		{name: "304 with a length", answer: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", want: `304 ""`},
		{name: "205 with a body", answer: "HTTP/1.1 205 Reset Content\r\n" + replyHello, want: `205 "hello"`},
		{name: "nothing", answer: "", want: isError},
	}
}

func repliesOfHeads() []oddReply {
	const (
		statusLine = "a status line is version SP status-code SP reason (RFC 9112 §4)"
		lf         = "a line ends with CRLF; what takes LF and what does not see two heads"
	)
	long := strings.Repeat("v", 60<<10)
	return []oddReply{
		{name: "no reason", answer: "HTTP/1.1 200 \r\n" + replyHello, want: isHello},
		{name: "no blank behind the status", answer: "HTTP/1.1 200\r\n" + replyHello, want: isHello},
		{name: "long reason", answer: "HTTP/1.1 200 " + strings.Repeat("x", 1000) + "\r\n" + replyHello, want: isHello},
		{name: "reason in UTF-8", answer: "HTTP/1.1 200 \u00dcber\r\n" + replyHello, want: isHello},
		{name: "control in the reason", answer: "HTTP/1.1 200 O\x01K\r\n" + replyHello, want: isError, theirs: isHello, why: statusLine},
		{name: "two blanks before the status", answer: "HTTP/1.1  200 OK\r\n" + replyHello, want: isError, theirs: isHello, why: statusLine},
		{name: "tab before the status", answer: "HTTP/1.1\t200 OK\r\n" + replyHello, want: isError},
		{name: "status of two digits", answer: "HTTP/1.1 20 OK\r\n" + replyHello, want: isError},
		{name: "status of four digits", answer: "HTTP/1.1 2000 OK\r\n" + replyHello, want: isError},
		{name: "status 099", answer: "HTTP/1.1 099 OK\r\n" + replyHello, want: isError, theirs: `99 "hello"`, why: "a status code is 100 to 999 (RFC 9110 §15)"},
		{name: "status 000", answer: "HTTP/1.1 000 OK\r\n" + replyHello, want: isError, theirs: `0 "hello"`, why: "a status code is 100 to 999 (RFC 9110 §15)"},
		{name: "negative status", answer: "HTTP/1.1 -20 OK\r\n" + replyHello, want: isError},
		{name: "status 600", answer: "HTTP/1.1 600 Odd\r\n" + replyHello, want: `600 "hello"`},
		{name: "status 999", answer: "HTTP/1.1 999 Odd\r\n" + replyHello, want: `999 "hello"`},
		{name: "version 1.2", answer: "HTTP/1.2 200 OK\r\n" + replyHello, want: isHello},
		{name: "version 1.9", answer: "HTTP/1.9 200 OK\r\n" + replyHello, want: isHello},
		{name: "version 2.0", answer: "HTTP/2.0 200 OK\r\n" + replyHello, want: isError, theirs: isHello, why: "another major version has other messages (RFC 9112 §2.3)"},
		{name: "version 0.9", answer: "HTTP/0.9 200 OK\r\n" + replyHello, want: isError, theirs: isHello, why: "there is no such head (RFC 9112 §2.3)"},
		{name: "version 1", answer: "HTTP/1 200 OK\r\n" + replyHello, want: isError},
		{name: "version 1.10", answer: "HTTP/1.10 200 OK\r\n" + replyHello, want: isError},
		{name: "version in lower case", answer: "http/1.1 200 OK\r\n" + replyHello, want: isError},
		{name: "ICY", answer: "ICY 200 OK\r\n" + replyHello, want: isError},
		{name: "a body alone", answer: "hello\r\n", want: isError},
		{name: "octets that say nothing", answer: "\x00\x01\x02\x03\xff\xfe", want: isError},
		{name: "TLS alert", answer: "\x15\x03\x01\x00\x02\x02\x46", want: isError},
		{name: "empty line before", answer: "\r\n" + replyOK + replyHello, want: isError},
		{name: "status line alone", answer: replyOK, want: isError},
		{name: "lines with LF alone", answer: "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", want: isError, theirs: isHello, why: lf},
		{name: "LF alone at the end of the head", answer: replyOK + "Content-Length: 5\r\n\nhello", want: isError, theirs: isHello, why: lf},
		{name: "CR alone in a value", answer: replyOK + "A: b\rc\r\n" + replyHello, want: isError},
		{name: "NUL in a value", answer: replyOK + "A: b\x00c\r\n" + replyHello, want: isError},
		{name: "control in a value", answer: replyOK + "A: b\x01c\r\n" + replyHello, want: isError},
		{name: "octets from 0x80 in a value", answer: replyOK + "A: \xe4\xff\r\n" + replyHello, want: isHello},
		{name: "tab in a value", answer: replyOK + "A: b\tc\r\n" + replyHello, want: isHello},
		{name: "empty value", answer: replyOK + "A:\r\n" + replyHello, want: isHello},
		{name: "colons in a value", answer: replyOK + "A: b:c::\r\n" + replyHello, want: isHello},
		{name: "folded value", answer: replyOK + "A: b\r\n c\r\n" + replyHello, want: isHello},
		{name: "folded length", answer: replyOK + "Content-Length:\r\n 5\r\n\r\nhello", want: isHello},
		{name: "fold before the first field", answer: replyOK + " A: b\r\n" + replyHello, want: isError},
		{name: "line of blanks in a fold", answer: replyOK + "A: b\r\n \r\n" + replyHello, want: isHello},
		{name: "blank before the colon", answer: replyOK + "Content-Length : 5\r\n\r\nhello", want: isError, theirs: isHello, why: "no white space stands before the colon (RFC 9112 §5.1); net/http takes the line for one of no framing"},
		{name: "blank in a name", answer: replyOK + "A b: c\r\n" + replyHello, want: isError, theirs: isHello, why: "a name is a token (RFC 9110 §5.1)"},
		{name: "line without a colon", answer: replyOK + "hello\r\n" + replyHello, want: isError},
		{name: "empty name", answer: replyOK + ": b\r\n" + replyHello, want: isError},
		{name: "name that is no token", answer: replyOK + "A(b): c\r\n" + replyHello, want: isError},
		{name: "name with an octet from 0x80", answer: replyOK + "A\xe4: c\r\n" + replyHello, want: isError},
		{name: "60 KiB in a field", answer: replyOK + "A: " + long + "\r\n" + replyHello, want: isHello},
		{name: "120 KiB of fields", answer: replyOK + "A: " + long + "\r\nB: " + long + "\r\n" + replyHello, want: isError, theirs: isHello, why: "MaxHeaderBytes is 64 KiB, net/http's 1 MiB"},
		{name: "250 fields", answer: replyOK + strings.Repeat("A: b\r\n", 250) + replyHello, want: isHello},
		{name: "300 fields", answer: replyOK + strings.Repeat("A: b\r\n", 300) + replyHello, want: isError, theirs: isHello, why: "MaxHeaders is 256"},
		{name: "switch that was not asked for", answer: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello", want: isError, theirs: `101 "hello"`, why: "a server switches to what was asked for (RFC 9110 §7.8)", untilEnd: true},
	}
}

func repliesOfInterims() []oddReply {
	const one = "HTTP/1.1 100 Continue\r\n\r\n"
	const hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	return []oddReply{
		{name: "100", answer: one + replyOK + replyHello, want: isHello},
		{name: "100 twice", answer: one + one + replyOK + replyHello, want: isHello},
		{name: "103", answer: hint + replyOK + replyHello, want: isHello},
		{name: "102 and 103", answer: "HTTP/1.1 102 Processing\r\n\r\n" + hint + replyOK + replyHello, want: isHello},
		{name: "199", answer: "HTTP/1.1 199 Odd\r\n\r\n" + replyOK + replyHello, want: isHello},
		{name: "103 with a length", answer: "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + replyOK + replyHello, want: isHello},
		{name: "four interim ones", answer: strings.Repeat(hint, 4) + replyOK + replyHello, want: isHello},
		{name: "16 interim ones", answer: strings.Repeat(hint, 16) + replyOK + replyHello, want: isHello},
		{name: "17 interim ones", answer: strings.Repeat(hint, 17) + replyOK + replyHello, want: isError, theirs: isHello, why: "16 are enough of who has nothing else to say; net/http counts octets"},
		{name: "interim alone", answer: one, want: isError},
		{name: "interim, then the 204", answer: one + "HTTP/1.1 204 No Content\r\n\r\n", want: `204 ""`},
		{name: "interim before HEAD's", method: "HEAD", answer: hint + replyOK + "Content-Length: 5\r\n\r\n", want: `200 ""`},
		{name: "malformed interim", answer: "HTTP/1.1 103 Early Hints\r\nA\r\n\r\n" + replyOK + replyHello, want: isError},
		{name: "interim, then no HTTP", answer: one + "hello", want: isError},
	}
}

func repliesOfCodings(t *testing.T) []oddReply {
	const (
		deflate = "net/http does not ask for deflate, and does not take it off"
		lines   = "the members of a list that is a coding of codings are all taken off"
		plain   = "net/http takes off one coding that stands alone"
	)
	gz := string(clientGzip(t, "hello"))
	zl := string(codedWith(t, "zlib", []byte("hello")))
	raw := string(codedWith(t, "raw", []byte("hello")))
	twice := string(clientGzip(t, gz))
	coded := func(coding, body string) string {
		return replyOK + "Content-Encoding: " + coding + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	as := func(body string) string { return fmt.Sprintf("200 %q", body) }
	return []oddReply{
		{name: "gzip", answer: coded("gzip", gz), want: isHello},
		{name: "GZIP", answer: coded("GZip", gz), want: isHello},
		{name: "x-gzip", answer: coded("x-gzip", gz), want: isHello, theirs: as(gz), why: "another name for gzip (RFC 9110 §8.4.1.3)"},
		{name: "gzip, chunked", answer: replyOK + "Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(int64(len(gz)), 16) + "\r\n" + gz + "\r\n0\r\n\r\n", want: isHello},
		{name: "gzip until the end", answer: replyOK + "Content-Encoding: gzip\r\n\r\n" + gz, want: isHello, untilEnd: true},
		{name: "two members", answer: coded("gzip", gz+gz), want: `200 "hellohello"`},
		{name: "gzip of nothing", answer: coded("gzip", ""), want: `200 ""`},
		{name: "gzip that is cut", answer: coded("gzip", gz[:len(gz)-3]), want: isError},
		{name: "gzip with a wrong checksum", answer: coded("gzip", gz[:len(gz)-8]+"abcd"+gz[len(gz)-4:]), want: isError},
		{name: "octet behind gzip", answer: coded("gzip", gz+"x"), want: isError},
		{name: "octets behind gzip", answer: coded("gzip", gz+"0123456789abcdef"), want: isError},
		{name: "zeros behind gzip", answer: coded("gzip", gz+strings.Repeat("\x00", 20)), want: isError},
		{name: "no gzip", answer: coded("gzip", "hello"), want: isError},
		{name: "no gzip, longer", answer: coded("gzip", "hello hello hello"), want: isError},
		{name: "deflate", answer: coded("deflate", zl), want: isHello, theirs: as(zl), why: deflate},
		{name: "deflate without its wrapper", answer: coded("deflate", raw), want: isHello, theirs: as(raw), why: deflate},
		{name: "no deflate", answer: coded("deflate", "\xff\xff\xff"), want: isError, theirs: as("\xff\xff\xff"), why: deflate},
		{name: "gzip of gzip", answer: coded("gzip, gzip", twice), want: isHello, theirs: as(twice), why: plain},
		{name: "gzip of gzip on two lines", answer: replyOK + "Content-Encoding: gzip\r\n" + strings.TrimPrefix(coded("gzip", twice), replyOK), want: isHello, theirs: as(gz), why: lines},
		{name: "three codings", answer: coded("gzip, gzip, gzip", twice), want: isError, theirs: as(twice), why: "each multiplies what a few octets can become; two at most"},
		{name: "identity coding", answer: coded("identity", "hello"), want: isHello},
		{name: "empty coding", answer: coded("", "hello"), want: isHello},
		{name: "coding that is not known", answer: coded("br", "hello"), want: isHello},
		{name: "known and unknown", answer: coded("br, gzip", gz), want: as(gz)},
		{name: "coding with a parameter", answer: coded("gzip;q=1", "hello"), want: isHello},
		{name: "gzip to HEAD", method: "HEAD", answer: replyOK + "Content-Encoding: gzip\r\nContent-Length: 29\r\n\r\n", want: `200 ""`},
		{name: "gzip of a 304", answer: "HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n", want: `304 ""`},
		{name: "gzip of a 204", answer: "HTTP/1.1 204 No Content\r\nContent-Encoding: gzip\r\n\r\n", want: `204 ""`},
	}
}

func repliesOfRedirects() []oddReply {
	const isOK = `200 "ok"`
	to := func(status, location string) string {
		return "HTTP/1.1 " + status + " Odd\r\nLocation: " + location + "\r\nContent-Length: 0\r\n\r\n"
	}
	replies := []oddReply{
		{name: "with a body", answer: "HTTP/1.1 302 Found\r\nLocation: /ok\r\n" + replyHello, want: isOK},
		{name: "with chunks that break", answer: "HTTP/1.1 302 Found\r\nLocation: /ok\r\nTransfer-Encoding: chunked\r\n\r\nnonsense", want: isOK},
		{name: "with a body that is short", answer: "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 9\r\n\r\nhello", want: isOK},
		{name: "with gzip that is none", answer: "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Encoding: gzip\r\n" + replyHello, want: isOK},
		{name: "without a Location", answer: "HTTP/1.1 302 Found\r\n" + replyHello, want: `302 "hello"`},
		{name: "to HEAD", method: "HEAD", answer: to("302", "/ok"), want: `200 ""`},
		{name: "two Locations", answer: "HTTP/1.1 302 Found\r\nLocation: /ok\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", want: isOK},
		{name: "300", answer: to("300", "/ok"), want: `300 ""`},
		{name: "304", answer: to("304", "/ok"), want: `304 ""`},
		{name: "305", answer: to("305", "/ok"), want: `305 ""`},
		{name: "306", answer: to("306", "/ok"), want: `306 ""`},
		{name: "309", answer: to("309", "/ok"), want: `309 ""`},
		{name: "200 with a Location", answer: to("200", "/ok"), want: `200 ""`},
		{name: "201 with a Location", answer: to("201", "/ok"), want: `201 ""`},
	}
	for _, status := range []string{"301", "302", "303", "307", "308"} {
		replies = append(replies, oddReply{name: status, answer: to(status, "/ok"), want: isOK})
	}
	for _, tt := range []oddReply{
		{answer: "ok", want: isOK},
		{answer: "?x", want: isError}, // for ever
		{answer: "/%N", want: isError},
		{answer: "./x/../ok", want: isOK},
		{answer: "//%SELF/ok", want: isOK},
		{answer: "http://%SELF/ok", want: isOK},
		{answer: "HTTP://%SELF/ok", want: isOK},
		{answer: "/ok#fragment", want: isOK},
		{answer: "/ok?a=b c", want: isOK, theirs: isError, why: "a space is escaped, as browsers do; net/http sends it, and its request line has four parts"},
		{answer: "/ok?a=\xe4", want: isOK},
		{answer: "/ok?a=%", want: isOK},
		{answer: "  /ok  ", want: isOK},
		{answer: "ftp://%SELF/ok", want: isError},
		{answer: "file:///etc/passwd", want: isError},
		{answer: "javascript:alert(1)", want: isError},
		{answer: "data:,x", want: isError},
		{answer: "http://", want: isError},
		{answer: "http:///ok", want: isError},
		{answer: "http://[::1", want: isError},
		{answer: "http://a b/", want: isError},
		{answer: "http://a%0d%0ab/", want: isError},
		{answer: "http://%SELF:99999/", want: isError},
		{answer: "/%zz", want: isError},
		{answer: "http://user:secret@%SELF/ok", want: isError, theirs: isOK, why: "userinfo in a Location is a way to look like another site"},
	} {
		tt.name, tt.answer = "to "+tt.answer, to("302", tt.answer)
		replies = append(replies, tt)
	}
	return replies
}

func repliesOfCookies() []oddReply {
	const bis = "RFC 6265bis §5.7"
	var replies []oddReply
	for _, tt := range []oddReply{
		{answer: "a=b", want: "a=b"},
		{answer: "a=b; Path=/", want: "a=b"},
		{answer: "a=b; Path=/elsewhere", want: ""},
		{answer: "a=b; Path=cookie", want: "a=b"},
		{answer: "a=b; Max-Age=0", want: ""},
		{answer: "a=b; Max-Age=-1", want: ""},
		{answer: "a=b; Max-Age=60", want: "a=b"},
		{answer: "a=b; Max-Age=x", want: "a=b"},
		{answer: "a=b; Expires=Thu, 01 Jan 1970 00:00:00 GMT", want: ""},
		{answer: "a=b; Expires=Thu, 01 Jan 2099 00:00:00 GMT", want: "a=b"},
		{answer: "a=b; Expires=nonsense", want: "a=b"},
		{answer: "a=b; Domain=elsewhere.test", want: ""},
		{answer: "a=b; Domain=127.0.0.1", want: "a=b"},
		{answer: "a=b; HttpOnly; Odd; X=y", want: "a=b"},
		{answer: "a=", want: "a="},
		{answer: "a=b=c", want: "a=b=c"},
		{answer: "  a  =  b  ", want: "a=b", theirs: `a="  b"`, why: "white space around a value goes (" + bis + "); net/http quotes it"},
		{answer: "a=b; SameSite=Odd", want: "a=b"},
		{answer: "__Host-a=b; Path=/", want: "", theirs: "__Host-a=b", why: "a prefix promises what is checked (" + bis + ")"},
		{answer: "a=" + strings.Repeat("b", 4095) + "c", want: "", theirs: "a=" + strings.Repeat("b", 4095) + "c", why: "name and value have 4096 octets together (" + bis + ")"},
		{answer: "a=b\r\nSet-Cookie: c=d", want: "a=b; c=d"},
		{answer: "a=b\r\nSet-Cookie: a=c", want: "a=c"},
		{answer: "a=b\r\nSet-Cookie: a=; Max-Age=0", want: ""},
	} {
		tt.want = replyText(200, []byte(tt.want), "")
		if tt.theirs != "" {
			tt.theirs = replyText(200, []byte(tt.theirs), "")
		}
		tt.name = "cookie " + tt.answer
		tt.answer = "HTTP/1.1 302 Found\r\nLocation: /cookie\r\nSet-Cookie: " + tt.answer + "\r\nContent-Length: 0\r\n\r\n"
		replies = append(replies, tt)
	}
	return replies
}

func repliesOfProxies() []oddReply {
	refused := func(head string) string { return head + "\r\nContent-Length: 2\r\n\r\nno" }
	replies := []oddReply{
		{name: "proxy: plain", proxied: true, answer: replyOK + replyHello, want: isHello},
		{name: "proxy: chunked", proxied: true, answer: replyChunked + "5\r\nhello\r\n0\r\n\r\n", want: isHello},
		{name: "proxy: 407", proxied: true, answer: refused("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x"), want: `407 "no"`},
		{name: "proxy: 502", proxied: true, answer: refused("HTTP/1.1 502 Bad"), want: `502 "no"`},
		{name: "proxy: interim", proxied: true, answer: "HTTP/1.1 100 Continue\r\n\r\n" + replyOK + replyHello, want: isHello},
		{name: "proxy: 1.0", proxied: true, answer: "HTTP/1.0 200 OK\r\n\r\nhello", want: isHello, untilEnd: true},
		{name: "proxy: Proxy-Connection", proxied: true, answer: replyOK + "Proxy-Connection: close\r\n" + replyHello, want: isHello},
		{name: "proxy: redirect", proxied: true, answer: "HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n", want: `200 "ok"`},
		{name: "proxy: nothing", proxied: true, answer: "", want: isError},
	}
	for _, answer := range []string{
		"", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nearly",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.0 200 Connection established\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 299 Odd\r\n\r\n",
		"HTTP/1.1 301 Moved\r\nLocation: /ok\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 Switch\r\n\r\n",
		"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nno",
		"HTTP/1.1 407 Who\r\nTransfer-Encoding: chunked\r\n\r\nnonsense", "HTTP/1.1 403 No\r\n\r\nno", "HTTP/1.1 500 No\r\nA: b\r\n c\r\n\r\n",
		strings.Repeat("HTTP/1.1 103 Early\r\n\r\n", 20) + "HTTP/1.1 200 OK\r\n\r\n",
	} {
		// None of them leads to an origin that speaks TLS.
		replies = append(replies, oddReply{name: fmt.Sprintf("tunnel: %.40q", answer), tunnel: true, answer: answer, want: isError})
	}
	return replies
}
