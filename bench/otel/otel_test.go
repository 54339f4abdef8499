package otel

import (
	"errors"
	"net/http"
	"testing"

	"flare"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

// A request's span is a child of the caller's, the call of its handler a child of
// that, and the one that is called a child of the call's: all of one trace.
func TestTracer(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tracer := Tracer{sdk.NewTracerProvider(sdk.WithSpanProcessor(spans)).Tracer("flare")}
	mux := flare.NewMux()
	mux.Use(flare.Trace(tracer))
	inner := flare.TestServer(t, &flare.Server{Handler: mux})
	client := &flare.Client{BaseURL: inner, Wrap: []func(flare.Doer) flare.Doer{flare.TraceCalls(tracer)}}
	defer client.CloseIdleConnections()
	mux.Get("/outer", func(w *flare.ResponseWriter, r *flare.Request) error {
		resp, err := client.Get(r.Context(), "/inner")
		if err != nil {
			return err
		}
		_, err = resp.Bytes()
		return errors.Join(err, &flare.StatusError{Code: 503, Err: errors.New("on purpose")})
	})
	mux.Get("/inner", func(w *flare.ResponseWriter, r *flare.Request) error { return &flare.StatusError{Code: 404} })

	req, _ := http.NewRequest("GET", inner+"/outer", nil)
	req.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	req.Header.Set("tracestate", "vendor=1")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	ended := spans.Ended()
	if len(ended) != 3 {
		t.Fatalf("%d spans", len(ended))
	}
	called, call, outer := ended[0], ended[1], ended[2]
	for _, s := range ended {
		if s.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || s.SpanContext().TraceState().String() != "vendor=1" {
			t.Errorf("%s is of trace %v", s.Name(), s.SpanContext())
		}
	}
	if outer.Parent().SpanID().String() != "b7ad6b7169203331" || !outer.Parent().IsRemote() || outer.SpanKind() != trace.SpanKindServer ||
		outer.Name() != "GET /outer" || outer.Status().Code != codes.Error {
		t.Errorf("the outer span: %v", outer)
	}
	if call.Parent().SpanID() != outer.SpanContext().SpanID() || call.SpanKind() != trace.SpanKindClient {
		t.Errorf("the call's span: %v", call)
	}
	if called.Parent().SpanID() != call.SpanContext().SpanID() || called.Name() != "GET /inner" || called.Status().Code != codes.Unset {
		t.Errorf("the inner span: %v", called)
	}
}
