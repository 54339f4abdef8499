package flare

import (
	"errors"
	"net/http"
	"strconv"
)

// This file is layer 0 (base): the errors that callers branch on. Sentinels
// are for errors.Is; where there is data a typed error carries it and unwraps
// to its sentinel. No error repeats input of the peer.

var (
	// ErrMalformed is what every *ParseError is: the peer broke a rule of the
	// wire format.
	ErrMalformed = errors.New("flare: malformed message")

	// ErrTooLarge means that a configured bound was passed: a head, a body, a
	// message.
	ErrTooLarge = errors.New("flare: limit exceeded")

	// ErrBackpressure means that an output queue is at its bound and that the
	// caller is one that must not wait. Nothing of the write was taken.
	ErrBackpressure = errors.New("flare: output queue is full")

	// ErrServerClosed is returned by Serve and ListenAndServe after Shutdown
	// or Close.
	ErrServerClosed = errors.New("flare: server closed")

	// ErrTimeout means that one of flare's time limits passed. It answers
	// Timeout() with true, as net.Error asks.
	ErrTimeout error = timeoutError{}

	// ErrClosed means that the connection, loop or poller is closed already.
	ErrClosed = errors.New("flare: closed")
)

type timeoutError struct{}

func (timeoutError) Error() string   { return "flare: timed out" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// A ParseError says which rule of the wire format a message broke, at which
// byte of it, and which status a server answers. It unwraps to ErrTooLarge for
// limits (413, 414, 431) and to ErrMalformed otherwise.
type ParseError struct {
	Status int    // status code a server refuses with
	Offset int    // bytes from the start of the head, or of the body's framing
	Rule   string // the rule, with its source, such as "bare CR (RFC 9112 §2.2)"
}

func (e *ParseError) Error() string {
	return "flare: byte " + strconv.Itoa(e.Offset) + ": " + e.Rule
}

// Unwrap makes errors.Is(err, ErrMalformed) and errors.Is(err, ErrTooLarge)
// answer.
func (e *ParseError) Unwrap() error {
	switch e.Status {
	case http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong, http.StatusRequestHeaderFieldsTooLarge:
		return ErrTooLarge
	}
	return ErrMalformed
}

// A StatusError is an error with an HTTP status. A handler that returns one
// answers with Code and Message; Err is logged and never sent. Of the fields
// that were set those go that described the response which will not be: RFC 9110
// §8, ETag, Last-Modified, Location, Content-Disposition, ranges, digests,
// trailers and, unless it says no-store, Cache-Control. All others stay, and
// functions of OnCommit are called.
// Bounds that flare enforces while a handler reads its body arrive as one too.
type StatusError struct {
	Code    int    // status code to answer with, 400 to 599
	Message string // sent to the client as text; empty: the status text
	Err     error  // cause, for the log; may be nil
}

func (e *StatusError) Error() string {
	s := "flare: status " + strconv.Itoa(e.Code)
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *StatusError) Unwrap() error { return e.Err }
