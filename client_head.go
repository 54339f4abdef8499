package flare

import (
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// This file is layer 4 (roles): the heads of responses, of which the last is the
// final one. It is the same for all versions of HTTP: client_roundtrip.go,
// client_connect.go and websocket_client.go read heads through it.

// interimMax bounds the 1xx responses before the final one: a server that has
// nothing else to say is not waited for.
const interimMax = 16

// readFinalHead reads until c.answer is the head of a final response, or of 101,
// and returns its length; it is not dropped. trace, if any, is told of others,
// which seen counts.
func readFinalHead(c clientCarrier, seen *int, lim *headLimits, trace *httptrace.ClientTrace) (int, error) {
	for {
		n, err := c.readHead(lim)
		if err != nil || !c.answer().isInterim() {
			return n, err
		}
		if err := skipInterim(c, n, seen, trace); err != nil {
			return 0, err
		}
	}
}

// isInterim says whether another head follows (RFC 9110 §15.2).
func (h *responseHead) isInterim() bool {
	return h.status < 200 && h.status != http.StatusSwitchingProtocols
}

// skipInterim drops the head of n octets of a 1xx response.
func skipInterim(c clientCarrier, n int, seen *int, trace *httptrace.ClientTrace) error {
	if *seen++; *seen > interimMax {
		return &ClientError{Phase: PhaseHead, Host: c.lead().host, Kind: ErrMalformed, Err: errInterim}
	}
	if err := traceInterim(c, n, trace); err != nil {
		return err
	}
	c.dropHead(n)
	return nil
}

// traceInterim tells a trace about a 1xx response.
func traceInterim(c clientCarrier, n int, trace *httptrace.ClientTrace) error {
	if trace == nil {
		return nil
	}
	head := c.answer()
	if head.status == http.StatusContinue && trace.Got100Continue != nil {
		trace.Got100Continue()
	}
	if trace.Got1xxResponse == nil {
		return nil
	}
	header := make(textproto.MIMEHeader)
	b := c.headText(n)
	for _, f := range head.fields {
		header.Add(string(b[f.name:f.nameEnd]), string(b[f.value:f.valueEnd]))
	}
	return trace.Got1xxResponse(head.status, header)
}
