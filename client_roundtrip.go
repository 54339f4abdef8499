package flare

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"
)

// This file is layer 4 (roles): one hop of a request: a connection found or
// made, the request sent, the response begun, once more if the connection had
// ended while it rested. client_redirect.go and client_transport.go call it.

// roundTrip sends the call's request and returns its response. An idempotent
// request is sent once more, on a new connection, where the first one had been
// at rest and nothing of an answer came: the server may have ended it at the
// same time (RFC 9112 §9.3.1). What a new connection does is the caller's to
// know.
func (c *Client) roundTrip(ctx context.Context, x *clientCall) (*ClientResponse, error) {
	route, err := c.route(ctx, x)
	if err != nil {
		return nil, err
	}
	trace := httptrace.ContextClientTrace(ctx)
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(x.target.hostPort())
	}
	again := resend{route: &route}
	for fresh := false; ; {
		now := time.Now()
		conn, err := c.take(ctx, route, x, fresh, now, trace)
		if err != nil {
			return nil, err
		}
		_, rested := conn.reused()
		if !rested {
			now = time.Now() // connecting has taken some
		}
		h := clientHop{client: c, call: x, conn: conn, ctx: ctx, trace: trace, begun: now}
		resp, err := h.run()
		if err == nil {
			return resp, nil
		}
		h.giveUp()
		switch {
		case errors.Is(err, errStale): // it was never sent
			continue
		case h.resends(err):
			err = again.wait(ctx, x, err, c.cfg.responseTimeout)
		case rested && !fresh && h.retries(err):
			fresh, err = true, nil
		}
		if err != nil {
			return nil, h.dress(err)
		}
	}
}

// route returns what the call's connection has to lead to.
func (c *Client) route(ctx context.Context, x *clientCall) (clientRoute, error) {
	route := clientRoute{origin: x.target.origin()}
	err := ctx.Err()
	if err != nil {
		return route, clientError(x.phaseBefore(), x.target.hostPort(), err)
	}
	route.proxy, err = c.proxyFor(&x.target)
	if c.cfg.http2.speaks(&route) && x.asksUpgrade() { // which HTTP/2 has not (RFC 9113 §8.6)
		route.http1 = true
	}
	return route, err
}

// take returns a connection that has rested, or a new one.
func (c *Client) take(ctx context.Context, route clientRoute, x *clientCall, fresh bool, now time.Time, trace *httptrace.ClientTrace) (clientCarrier, error) {
	carrier, err := c.takeUntold(ctx, route, x, fresh, now)
	if err == nil && trace != nil && trace.GotConn != nil {
		since, reused := carrier.reused()
		info := httptrace.GotConnInfo{Conn: carrier.lead().conn(), Reused: reused}
		if reused && !since.IsZero() {
			info.WasIdle, info.IdleTime = true, now.Sub(since)
		}
		trace.GotConn(info)
	}
	return carrier, err
}

// takeUntold is take without a word to the trace.
func (c *Client) takeUntold(ctx context.Context, route clientRoute, x *clientCall, fresh bool, now time.Time) (clientCarrier, error) {
	if !fresh {
		if conn := c.pool.get(route, now); conn != nil {
			return conn, nil
		}
	}
	if c.cfg.http2.speaks(&route) {
		return c.find(ctx, route, x)
	}
	conn, err := c.connect(ctx, route, x.by)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// A clientHop is one attempt at one request on one connection.
type clientHop struct {
	client *Client
	call   *clientCall
	conn   clientCarrier
	ctx    context.Context
	trace  *httptrace.ClientTrace
	upload *clientUpload // nil: the body went with the head, or there is none
	stop   func() bool   // lets go of ctx; nil: nothing to let go
	begun  time.Time
	length int64 // of the request's body, -1: unknown
	seen   int   // 1xx responses that have come
	broken bool  // sending has failed, and there is an answer all the same
	phase  ClientPhase
}

// giveUp ends an attempt that has failed.
func (h *clientHop) giveUp() {
	h.conn.close()
	h.conn.release()
	h.upload.stop()
}

// run sends the request and reads the head of the response. On an error the
// connection is of no use any more.
func (h *clientHop) run() (*ClientResponse, error) {
	h.phase = h.call.phaseBefore()
	h.length = 0
	if !h.call.bodyDropped {
		if err := h.call.req.awaitUpload(h.ctx, h.call.by); err != nil {
			return nil, err
		}
		var err error
		if h.length, err = h.call.req.beginBody(); err != nil {
			return nil, h.call.unsendable(h.conn.lead().host, err)
		}
		if h.call.req.Trailer != nil && h.call.req.hasBody() {
			h.length = -1
		}
	}
	if h.length != 0 {
		h.begun = time.Now() // the body's owner may have taken some
	}
	h.phase = PhaseWrite
	if h.ctx.Done() != nil {
		h.stop = context.AfterFunc(h.ctx, h.conn.close)
	}
	resp, err := h.exchange()
	if err != nil && h.stop != nil {
		h.stop()
	}
	return resp, err
}

// awaitUpload waits until nobody reads the body any more. The connection it
// went to is closed, or has taken all of it; but the body may be waiting for
// its owner, for as long as that likes.
func (r *ClientRequest) awaitUpload(ctx context.Context, by time.Time) error {
	if r.upload == nil {
		return nil
	}
	ctx, cancel := withLimit(ctx, by, 0)
	defer cancel()
	select {
	case <-r.upload.ended:
		r.upload = nil
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *clientHop) exchange() (*ClientResponse, error) {
	n, err := h.sendRequest()
	if h.upload == nil && h.trace != nil && h.trace.WroteRequest != nil {
		h.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
	if err == nil {
		h.phase = PhaseHead
		n, err = h.awaitHead(n)
	}
	if err != nil {
		if own := h.upload.failure(); own != nil {
			return nil, &ClientError{Phase: PhaseWrite, Host: h.conn.lead().host, Err: own}
		}
		if h.upload.timedOut() {
			err = ErrTimeout // the connection's end came of it
		}
		if h.upload.late() && errors.Is(err, ErrTimeout) {
			h.phase = PhaseWrite
		}
		return nil, err
	}
	if h.trace != nil && h.trace.GotFirstResponseByte != nil {
		h.trace.GotFirstResponseByte()
	}
	return h.respond(n)
}

// sendRequest sends the head and as much of the body as does not have to wait
// for the server. n is the length of a final head that came in place of a 100.
func (h *clientHop) sendRequest() (n int, err error) {
	r := h.call.req
	m := clientMessage{length: h.length, begun: h.begun}
	inline := r.inMem && h.length >= 0 && h.length <= bodyInlineBytes
	expects := h.length != 0 && h.expectsContinue()
	if h.length > 0 && inline && !expects {
		m.payload = r.payload
	}
	m.whole = h.length == 0 || inline && !expects
	all, err := h.conn.begin(h.client, h.call, m)
	h.call.sent = h.call.sent || !errors.Is(err, errStale)
	if all {
		h.phase = PhaseHead
	}
	if err != nil {
		return h.answerDespite(err)
	}
	if h.trace != nil && h.trace.WroteHeaders != nil {
		h.trace.WroteHeaders()
	}
	if m.whole {
		if h.length > 0 && r.Progress != nil {
			r.Progress(h.length, h.length)
		}
		return 0, nil
	}
	if expects {
		if n, err := h.awaitContinue(); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, h.beginUpload()
}

// beginUpload sends a body that did not go with the head: a short one at once,
// any other in a goroutine beside. A write that failed is no error here, but
// for lack of time: the answer may say why.
func (h *clientHop) beginUpload() error {
	r := h.call.req
	h.upload = &clientUpload{conn: h.conn, req: *r, closer: r.bodyToClose(), trace: h.trace, length: h.length, ended: make(chan struct{})}
	r.upload, r.sent = h.upload, true
	if !r.inMem || len(r.payload) > bodyBlockingBytes {
		h.upload.start(h.ctx)
		return nil
	}
	h.upload.run()
	if err := h.upload.err; errors.Is(err, ErrTimeout) {
		return err
	}
	return nil
}

// answerDespite looks for an answer after sending has failed with err: a server
// that refuses a request need not read all of it before it closes. n is the
// length of its head.
func (h *clientHop) answerDespite(err error) (n int, _ error) {
	if errorKind(err) != ErrReset {
		return 0, err
	}
	n, readErr := readFinalHead(h.conn, &h.seen, &h.client.cfg.head, h.trace)
	if readErr != nil {
		return 0, err
	}
	h.broken = true
	return n, nil
}

func (h *clientHop) expectsContinue() bool {
	return listContains(h.call.field("Expect"), "100-continue")
}

func (x *clientCall) asksUpgrade() bool { return x.field("Upgrade") != "" }

// field returns the first field of that name that the request is sent with.
func (x *clientCall) field(name string) string {
	if own := &x.req.Header; own.has(name) {
		return own.Get(name)
	}
	if x.defaults == nil {
		return ""
	}
	return x.defaults.Get(name)
}

// awaitContinue waits a while for a 100 (RFC 9110 §10.1.1). n is the length of
// a final head that came instead; then the body is not sent.
func (h *clientHop) awaitContinue() (n int, err error) {
	if h.trace != nil && h.trace.Wait100Continue != nil {
		h.trace.Wait100Continue()
	}
	conn, cfg := h.conn, &h.client.cfg
	conn.readBy(earlier(h.call.by, cfg.continueTimeout))
	for {
		n, err := conn.readHead(&cfg.head)
		if ranOut(err) && (h.call.by.IsZero() || time.Now().Before(h.call.by)) {
			return 0, nil
		}
		if err != nil || !conn.answer().isInterim() {
			return n, err
		}
		is100 := conn.answer().status == http.StatusContinue
		if err := skipInterim(conn, n, &h.seen, h.trace); err != nil || is100 {
			return 0, err
		}
	}
}

// ranOut reports whether err is of the time that readBy gave, and not of a connection
// that has ended, for which that of its server ran out.
func ranOut(err error) bool {
	var ended *ClientError
	return errors.Is(err, ErrTimeout) && !errors.As(err, &ended)
}

// awaitHead reads the final head, unless n says that it is there. While the
// body is still being sent the server need not answer: its time begins when
// all is sent.
func (h *clientHop) awaitHead(n int) (int, error) {
	if n > 0 {
		return n, nil
	}
	limit := h.client.cfg.responseTimeout
	if h.upload != nil {
		h.conn.readBy(earlier(h.call.by, limit))
	}
	for {
		n, err := readFinalHead(h.conn, &h.seen, &h.client.cfg.head, h.trace)
		if h.upload == nil || !ranOut(err) {
			return n, err
		}
		if ended := h.upload.endedAt.Load(); ended == 0 {
			h.conn.readBy(earlier(h.call.by, limit))
		} else if by := time.Unix(0, ended).Add(limit); time.Now().Before(by) {
			h.conn.readBy(earlier(h.call.by, time.Until(by)))
		} else {
			return 0, err
		}
		if !h.call.by.IsZero() && !time.Now().Before(h.call.by) {
			return 0, err
		}
	}
}

// resends says whether the server has not looked at the request, and it can be
// sent again.
func (h *clientHop) resends(err error) bool {
	if !errors.Is(err, errUnprocessed) && !isHTTP1Required(err) {
		return false
	}
	return h.ctx.Err() == nil && h.upload.failure() == nil && (h.call.bodyDropped || h.call.req.rewindable())
}

// retries says whether the request may be sent again.
func (h *clientHop) retries(err error) bool {
	if !isIdempotent(h.call.method) || h.conn.heard() || h.upload.failure() != nil {
		return false
	}
	if h.ctx.Err() != nil || !h.call.bodyDropped && !h.call.req.rewindable() {
		return false
	}
	if reset := (*http2Reset)(nil); errors.As(err, &reset) && !reset.away {
		return false // it was looked at, and refused
	}
	kind := clientKind(err)
	return kind == ErrReset || kind == ErrUnexpectedEOF && !errors.Is(err, io.ErrUnexpectedEOF)
}

// dress says in which phase the attempt failed, and lets the context's error
// win over the one that ending the connection caused.
func (h *clientHop) dress(err error) error {
	if ctxErr := h.ctx.Err(); ctxErr != nil {
		err = &ClientError{Phase: h.phase, Host: h.conn.lead().host, Kind: errorKind(ctxErr), Err: ctxErr}
	}
	return clientError(h.phase, h.conn.lead().host, err)
}

// respond makes the response whose head of n octets is in the buffer.
func (h *clientHop) respond(n int) (*ClientResponse, error) {
	conn, head := h.conn, h.conn.answer()
	if head.status == http.StatusSwitchingProtocols && !h.call.asksUpgrade() { // RFC 9110 §7.8
		return nil, &ClientError{Phase: PhaseHead, Host: conn.lead().host, Kind: ErrMalformed, Err: errSwitch}
	}
	// The usual body is there already. It and the text of the head are parts of
	// one piece of memory, the one never written, the other the user's.
	kind, length := conn.framing(h.call.method)
	memory, whole := conn.take(n, kind, length)
	resp := h.newResponse(viewString(memory[:n]))
	resp.closes = !head.keepAlive() || kind == bodyUntilClose
	h.attachBody(resp, kind, length)
	b := &resp.body
	resp.Body, resp.ContentLength = b, b.length
	if b.kind == bodyNone {
		resp.ContentLength = 0
		if h.call.method == http.MethodHead {
			resp.ContentLength = head.contentLength
		}
	}
	if b.max >= 0 && b.length > b.max { // declared: refused before any of it is read
		return nil, &ClientError{Phase: PhaseBody, Host: conn.lead().host, Kind: ErrTooLarge}
	}
	if h.call.decodes && b.kind != bodyNone {
		if err := h.client.decodeBody(resp); err != nil {
			return nil, err
		}
	}
	h.beginBody(resp, memory[n:len(memory):len(memory)], whole) // last: the connection may be another request's then
	return resp, nil
}

// newResponse makes a response of the head whose text that is.
func (h *clientHop) newResponse(text string) *ClientResponse {
	link, head := h.conn.lead(), h.conn.answer()
	resp := &ClientResponse{
		StatusCode: head.status,
		reason:     text[head.reason.start:head.reason.end], minor: head.minor,
		major: h.conn.major(), method: h.call.method, text: h.call.target.textWithFragment(), origin: link.route.origin,
		tls:  link.state,
		bare: int(head.reason.start) == len("HTTP/1.1 200"),
	}
	resp.own.list = resp.fields[:0]
	resp.own.fill(text, head.fields)
	resp.Header.in = &resp.own
	return resp
}

// attachBody makes the response's body one that is read from the connection.
func (h *clientHop) attachBody(resp *ClientResponse, kind bodyKind, length int64) {
	b, cfg := &resp.body, &h.client.cfg
	b.resp, b.client, b.conn, b.upload = resp, h.client, h.conn, h.upload
	b.kind, b.length, b.remaining = kind, length, length
	b.max, b.bufferedMax = cfg.bodyBytesMax, cfg.bufferedBytesMax
	b.ctx, b.stop, b.by = h.ctx, h.stop, h.call.by
	b.carrier = h.conn
	b.awake.Store(true)
	// A body that was announced and not sent leaves the server waiting for it.
	sent := h.length == 0 || h.upload != nil || h.call.req.inMem && h.length >= 0 && h.length <= bodyInlineBytes && !h.expectsContinue()
	b.reusable = h.conn.persists(h.call.method) && sent && !h.broken && !h.call.closes
}

// beginBody takes a body that is there already into memory, so that its
// connection is free for others before the user has looked at it.
func (h *clientHop) beginBody(resp *ClientResponse, memory []byte, whole bool) {
	b, conn := &resp.body, h.conn
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		b.kind, b.tunnel, b.remaining, b.length = bodyUntilClose, true, -1, -1
		resp.ContentLength = -1
		resp.Body = tunnelBody{b, conn}
	case b.kind == bodyNone:
		b.mu.Lock()
		b.end(io.EOF)
		b.mu.Unlock()
	case whole:
		b.inMemory, b.mem = true, memory
		b.mu.Lock()
		b.settle(true)
		if len(b.mem) == 0 {
			b.err = io.EOF
		}
		b.mu.Unlock()
	}
}

// decodeBody puts what removes the content coding before the body, if the
// coding is one that was asked for.
func (c *Client) decodeBody(resp *ClientResponse) error {
	codings := resp.Header.Values("Content-Encoding")
	if len(codings) == 0 {
		return nil
	}
	decoder, err := newDecoder(&resp.body, strings.Join(codings, ","), c.cfg.decode) // RFC 9110 §5.3
	if errors.Is(err, ErrUnsupportedEncoding) {
		return nil // the user may know it
	}
	if err != nil {
		return clientError(PhaseBody, resp.origin.hostPort(), err)
	}
	if !decoder.coded {
		return nil // identity, or nothing at all: the body is as long as it says
	}
	resp.Body = decodedBody{decoder, resp.origin.hostPort()}
	resp.Decoded, resp.ContentLength = true, -1
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	return nil
}

// A decodedBody names the errors of a decoder.
type decodedBody struct {
	io.ReadCloser
	host string
}

func (d decodedBody) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = clientError(PhaseBody, d.host, err)
	}
	return n, err
}
