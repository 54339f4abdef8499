// Package otel is flare's Tracer on OpenTelemetry. It is a module of its own, so that
// nobody else needs OpenTelemetry.
package otel

import (
	"context"

	"flare"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// A Tracer records flare's spans with an OpenTelemetry tracer. It is for flare.Trace
// and flare.TraceCalls.
type Tracer struct{ trace.Tracer }

var _ flare.Tracer = Tracer{}

// StartServer begins the span of a request.
func (t Tracer) StartServer(ctx context.Context, r *flare.Request, parent flare.TraceContext) (context.Context, flare.TraceContext) {
	if parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, spanContext(parent))
	}
	name := r.Pattern()
	if name == "" {
		name = r.Method()
	}
	ctx, span := t.Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method()), attribute.String("url.path", r.Path()),
		attribute.String("url.scheme", r.Scheme()), attribute.String("http.route", r.Pattern()),
		attribute.String("client.address", r.ClientAddr().Addr().String())))
	return ctx, traceContext(span.SpanContext())
}

// StartClient begins the span of a call.
func (t Tracer) StartClient(ctx context.Context, r *flare.ClientRequest, parent flare.TraceContext) (context.Context, flare.TraceContext) {
	if parent.IsValid() && !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithSpanContext(ctx, spanContext(parent))
	}
	method := r.Method
	if method == "" {
		method = "GET"
	}
	ctx, span := t.Start(ctx, method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("http.request.method", method), attribute.String("url.full", r.URL)))
	return ctx, traceContext(span.SpanContext())
}

// End ends the span of ctx.
func (t Tracer) End(ctx context.Context, status int, err error) {
	span := trace.SpanFromContext(ctx)
	if status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	if err != nil && status != 0 && status < 500 {
		err = nil // the client's fault is no failure of the server's span
	}
	if err != nil || status >= 500 {
		span.SetStatus(codes.Error, "")
	}
	if err != nil {
		span.RecordError(err)
	}
	span.End()
}

// spanContext is t as OpenTelemetry has it.
func spanContext(t flare.TraceContext) trace.SpanContext {
	state, _ := trace.ParseTraceState(t.State) // one that is malformed is dropped (W3C Trace Context §3.3)
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: t.TraceID, SpanID: t.SpanID, TraceFlags: trace.TraceFlags(t.Flags), TraceState: state})
}

// traceContext is the other way round.
func traceContext(sc trace.SpanContext) flare.TraceContext {
	return flare.TraceContext{TraceID: sc.TraceID(), SpanID: sc.SpanID(), Flags: byte(sc.TraceFlags()), State: sc.TraceState().String()}
}
