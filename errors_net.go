package flare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// This file is layer 0 (base): what can go wrong with the network, told apart
// by sentinel. It looks at errors of package net, the system and crypto/tls; who
// dials, resolves, sends or receives calls it where an error leaves flare.

var (
	// ErrNoSuchHost means that the name of the host has no address.
	ErrNoSuchHost = errors.New("flare: no such host")

	// ErrRefused means that nobody listens at the address.
	ErrRefused = errors.New("flare: connection refused")

	// ErrReset means that the peer broke the connection off.
	ErrReset = errors.New("flare: connection reset by the peer")

	// ErrDatagramTooLarge means that a datagram is above the 65,507 bytes that
	// UDP over IPv4 carries. Nothing was sent.
	ErrDatagramTooLarge = errors.New("flare: datagram too large")

	// ErrTruncated means that a datagram was longer than the room for it: what
	// did not fit is lost.
	ErrTruncated = errors.New("flare: datagram truncated")

	// ErrUnexpectedEOF means that the connection, or compressed content, ended
	// inside a message. errors.Is finds io.ErrUnexpectedEOF in it too.
	ErrUnexpectedEOF = fmt.Errorf("flare: ended inside a message: %w", io.ErrUnexpectedEOF)

	// ErrCertificateExpired means that the server's certificate is not valid
	// at this time.
	ErrCertificateExpired = errors.New("flare: certificate expired or not yet valid")

	// ErrCertificateHost means that the server's certificate is for another
	// name.
	ErrCertificateHost = errors.New("flare: certificate is for another host")

	// ErrCertificateUntrusted means that nobody who is trusted has signed the
	// server's certificate.
	ErrCertificateUntrusted = errors.New("flare: certificate signed by an unknown authority")
)

// errorKind returns the sentinel that an error of the system stands for, nil
// if there is none.
func errorKind(err error) error {
	for _, kind := range []error{ErrTimeout, ErrMalformed, ErrTooLarge, ErrUnexpectedEOF, ErrReset} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return nil // the caller's own doing; errors.Is finds it in Err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout
	case errors.As(err, &dns):
		if dns.IsTimeout {
			return ErrTimeout
		}
		if dns.IsNotFound {
			return ErrNoSuchHost
		}
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return ErrRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return ErrReset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrUnexpectedEOF
	case errors.As(err, &timeout) && timeout.Timeout():
		return ErrTimeout
	}
	return certificateKind(err)
}

func certificateKind(err error) error {
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return ErrCertificateExpired
	case errors.As(err, &host):
		return ErrCertificateHost
	case errors.As(err, &unknown):
		return ErrCertificateUntrusted
	case errors.As(err, &record):
		return ErrMalformed // not TLS at all
	}
	return nil
}

// A socketError is a failure of a system call, with the sentinel it stands for.
type socketError struct {
	op        string
	kind, err error // kind is nil if there is no name for err
}

// socketFailure wraps err, nil for nil.
func socketFailure(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, net.ErrClosed):
		return ErrClosed
	}
	return &socketError{op, errorKind(err), err}
}

func (e *socketError) Error() string { return "flare: " + e.op + ": " + e.err.Error() }

func (e *socketError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.err}
	}
	return []error{e.kind, e.err}
}

// Timeout and Temporary are for net.Error.
func (e *socketError) Timeout() bool   { return e.kind == ErrTimeout }
func (e *socketError) Temporary() bool { return e.Timeout() }
