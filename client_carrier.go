package flare

import (
	"context"
	"time"
)

// This file is layer 4 (roles): where the versions of HTTP part in the client:
// what carries one exchange. Above it are redirects, credentials, cookies, bodies,
// decoding, limits and errors, the same for all versions. client_conn.go carries
// exchanges by HTTP/1.1, one after another, http2_client_stream.go one by HTTP/2.

// A clientCarrier carries one exchange at a time: a request there, its response
// back. It belongs to the goroutine of the exchange; Write, writePiece and endBody
// are for one other that sends the body, and close is for any.
type clientCarrier interface {
	// major is the version of HTTP.
	major() uint8

	// lead says what it leads over; the same for its life.
	lead() *clientLink

	// reused says whether exchanges went before this one over the connection, and
	// since when the connection had rested.
	reused() (since time.Time, yes bool)

	// begin sends the head of a request and what m has of its body. all says that
	// the request was sent to its end. With errStale nothing was sent.
	begin(c *Client, x *clientCall, m clientMessage) (all bool, err error)

	// Write sends octets of the body, whose length the head said. The others are
	// for one of unknown length: writePiece sends p[at:at+n], with room around it,
	// endBody the end, with a trailer section unless that is nil.
	Write(p []byte) (int, error)
	writePiece(p []byte, at, n int) error
	endBody(known bool, trailer *headerFields) error

	// readBy bounds the reads that follow; the zero time: no bound.
	readBy(t time.Time)

	// readHead reads the next head, interim or not. It can be seen in answer, its
	// fields count from the n octets of headText, and it stays until dropHead, or
	// until take: that returns a copy of its text and, if whole, all of the body.
	readHead(lim *headLimits) (n int, err error)
	answer() *responseHead
	headText(n int) []byte
	dropHead(n int)
	take(n int, kind bodyKind, length int64) (memory []byte, whole bool)

	// heard says whether anything of the answer has come.
	heard() bool

	// framing says how the end of the body is found, persists whether another
	// exchange may follow this one.
	framing(method string) (kind bodyKind, length int64)
	persists(method string) bool

	// readBody reads octets of b, which is this exchange's body; io.EOF may come
	// with the last of them. skipBody returns io.EOF if all of the rest is there.
	readBody(b *clientBody, p []byte) (int, error)
	skipBody(b *clientBody) error

	// rest lets go of the exchange, which has come to its end in order. False: it
	// has not, and close has to follow.
	rest(c *Client, ctx context.Context) bool

	// close ends the exchange, and what it can: whoever reads or writes fails. It
	// does not wait. release is for the exchange's own goroutine, behind it.
	close()
	release()
}

// A clientMessage is a request as it is about to be sent.
type clientMessage struct {
	payload []byte    // of the body, to go with the head
	length  int64     // of the body, -1: unknown
	whole   bool      // payload is all of it
	begun   time.Time // from when the answer's time counts
}
