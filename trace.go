package flare

import (
	"context"
	"strings"
)

// This file is layer 5 (surface): the trace that a request belongs to, from its
// fields to what its handler calls in turn. Spans are a Tracer's, which this package
// does not have. traceparent.go has the fields.

// A Tracer records spans: of requests that handlers answer and of calls that a Client
// makes. Its methods are called from any goroutine.
type Tracer interface {
	// StartServer begins the span of a request. parent is what the client says, the
	// zero value if that is nothing. The context, which derives from ctx, becomes the
	// request's, and the span is what Trace passes on.
	StartServer(ctx context.Context, r *Request, parent TraceContext) (context.Context, TraceContext)

	// StartClient begins the span of a call in ctx, and is else as StartServer.
	StartClient(ctx context.Context, r *ClientRequest, parent TraceContext) (context.Context, TraceContext)

	// End ends the span that ctx has of StartServer or StartClient. status is that of
	// the response, 0 for none, and err what the handler or the call has returned.
	End(ctx context.Context, status int, err error)
}

// Trace is a middleware that finds or begins the trace of a request, by its
// traceparent and tracestate, and has t record a span for it. With a nil t it only
// passes the trace on: to contexts, where TraceFrom and TraceCalls find it, and to
// lines in logs. Whoever sends traceparent chooses the trace: it is a name for
// correlation and proves nothing.
func Trace(t Tracer) Middleware {
	return func(h Handler) Handler { return &traceHandler{h, t} }
}

type traceHandler struct {
	Handler
	tracer Tracer
}

func (h *traceHandler) pinned() pin { return pinOf(h.Handler) }

func (h *traceHandler) Serve(w *ResponseWriter, r *Request) error {
	parent := traceOf(r.Header())
	if h.tracer == nil {
		r.SetValue(traceKey{}, parent.child())
		return h.Handler.Serve(w, r)
	}
	ctx, span := h.tracer.StartServer(r.Context(), r, parent)
	r.SetContext(ctx)
	r.SetValue(traceKey{}, span)
	ended := false
	defer func() {
		if !ended { // by a panic, or runtime.Goexit
			h.tracer.End(ctx, 0, errHandlerExited)
		}
	}()
	err := h.Handler.Serve(w, r)
	ended = true
	status := w.Status()
	if s := ErrorStatus(err); err != nil && !w.Committed() {
		status = s
	}
	h.tracer.End(ctx, status, err)
	return err
}

// traceOf returns what a request says of its trace. Two of a field are none.
func traceOf(h *Header) TraceContext {
	parents := h.Values(traceParentField)
	if len(parents) != 1 {
		return TraceContext{}
	}
	t, ok := ParseTraceParent(parents[0])
	if !ok {
		return TraceContext{}
	}
	if state := strings.Join(h.Values(traceStateField), ","); len(state) <= traceStateMax {
		t.State = state
	}
	return t
}

// TraceCalls returns a function for Client.Wrap that passes the trace of a call's
// context on, in traceparent and tracestate, and has t record a span for the call,
// until the head of the response has come. With a nil t the call has a span that
// nobody records. A context without a trace begins one only if t is there.
func TraceCalls(t Tracer) func(Doer) Doer {
	return func(next Doer) Doer {
		return func(ctx context.Context, r *ClientRequest) (*ClientResponse, error) {
			parent, known := TraceFrom(ctx)
			if t == nil && !known {
				return next(ctx, r)
			}
			span := TraceContext{}
			if t == nil {
				span = parent.child()
			} else {
				ctx, span = t.StartClient(ctx, r, parent)
			}
			named := *r // the caller's is left as it was
			named.Header = *r.Header.Clone()
			if span.IsValid() {
				named.Header.Set(traceParentField, span.String())
				if span.State != "" {
					named.Header.Set(traceStateField, span.State)
				}
			}
			resp, err := next(ctx, &named)
			if t != nil {
				status := 0
				if resp != nil {
					status = resp.StatusCode
				}
				t.End(ctx, status, err)
			}
			return resp, err
		}
	}
}
