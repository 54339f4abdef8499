package flare

import (
	"errors"
	"strconv"
)

// This file is layer 4 (roles): what can go wrong with a request of the client,
// a look-up or a dial, told apart by sentinel and by the phase it happened in.
// The other files of the client and the dialler call it where an error leaves
// them.

var (
	// ErrInvalidURL means that a URL, or the host or port in it, is not one
	// that the client sends a request to. Nothing was sent; in PhaseRedirect
	// nothing but the request that was answered with it.
	ErrInvalidURL = errors.New("flare: invalid URL")

	// ErrInvalidRequest means that a method, a header or a body cannot be sent
	// as it was given. Nothing was sent: what comes to light later, such as a
	// body that fails while it is sent, is an error in PhaseWrite or
	// PhaseRedirect without this Kind.
	ErrInvalidRequest = errors.New("flare: invalid request")

	// ErrTooManyRedirects means that the answer was one redirect too many.
	ErrTooManyRedirects = errors.New("flare: too many redirects")

	// ErrInsecureRedirect means that an https URL redirects to http.
	ErrInsecureRedirect = errors.New("flare: redirect from https to http")
)

// A ClientPhase is a part of a request's life; an error has the one it
// happened in.
type ClientPhase string

const (
	PhaseRequest  ClientPhase = "request"  // before anything is sent
	PhaseResolve  ClientPhase = "resolve"  // looking the host name up
	PhaseDial     ClientPhase = "dial"     // connecting
	PhaseProxy    ClientPhase = "proxy"    // asking a proxy for a tunnel
	PhaseTLS      ClientPhase = "tls"      // the handshake
	PhaseWrite    ClientPhase = "write"    // sending the request, or sending it again
	PhaseHead     ClientPhase = "head"     // waiting for the response, to the end of its head
	PhaseBody     ClientPhase = "body"     // receiving the body
	PhaseRedirect ClientPhase = "redirect" // following a Location
)

// A ClientError says what became of a request, a look-up (Resolver) or a dial
// (Dialer): in which phase, with which host, and why. errors.Is finds both Kind
// and what Err wraps. It answers Timeout() as net.Error asks.
type ClientError struct {
	Phase ClientPhase
	Host  string // host and port of the request; "" if the URL had none, or it is invalid
	Kind  error  // ErrTimeout, ErrRefused, ErrMalformed, ...; nil if there is no name for it
	Err   error  // the cause, may be Kind itself
}

func (e *ClientError) Error() string {
	s := "flare: " + string(e.Phase)
	if e.Host != "" {
		s += " " + e.Host
	}
	if e.Kind != nil {
		s += ": " + trimFlare(e.Kind.Error())
	}
	if e.Err != nil && e.Err != e.Kind {
		s += ": " + trimFlare(e.Err.Error())
	}
	return s
}

// trimFlare drops the prefix that the outer error has already.
func trimFlare(s string) string {
	const prefix = "flare: "
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):]
	}
	return s
}

// Unwrap makes errors.Is and errors.As find the kind and the cause.
func (e *ClientError) Unwrap() []error {
	switch {
	case e.Kind == nil && e.Err == nil:
		return nil
	case e.Kind == nil:
		return []error{e.Err}
	case e.Err == nil:
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Timeout reports whether a time limit, the client's or the context's, passed.
func (e *ClientError) Timeout() bool { return e.Kind == ErrTimeout }

// Temporary is part of net.Error.
func (e *ClientError) Temporary() bool { return e.Timeout() }

// A ResponseError is a response whose status is not 2xx, as an error. In
// PhaseProxy it is a proxy's to CONNECT, without an Excerpt.
type ResponseError struct {
	StatusCode int
	Method     string
	Host       string // host and port of the request
	Excerpt    string // the front of the body as text, at most 1 KiB; the peer's words
}

// Error leaves the excerpt out: it is the peer's input.
func (e *ResponseError) Error() string {
	return "flare: " + e.Method + " " + e.Host + ": status " + strconv.Itoa(e.StatusCode)
}

// clientError wraps err, once, with the phase and the kind of failure it is.
func clientError(phase ClientPhase, host string, err error) error {
	var done *ClientError
	if err == nil || errors.As(err, &done) {
		return err
	}
	return &ClientError{Phase: phase, Host: host, Kind: clientKind(err), Err: err}
}

// clientKind is errorKind with the client's own sentinels.
func clientKind(err error) error {
	for _, kind := range []error{ErrInvalidURL, ErrInvalidRequest} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return errorKind(err)
}

// invalidURL is an error about a URL; rule says which one it broke.
func invalidURL(phase ClientPhase, rule string) error {
	return &ClientError{Phase: phase, Kind: ErrInvalidURL, Err: errors.New(rule)}
}

// invalidRequest is an error about a request that cannot be sent.
func invalidRequest(host string, err error) error {
	return &ClientError{Phase: PhaseRequest, Host: host, Kind: ErrInvalidRequest, Err: err}
}
