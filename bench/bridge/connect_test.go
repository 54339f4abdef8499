package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"flare"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// This file has connect-go's servers on flare's, through FromHTTP, and its clients over
// net/http's client and flare's, by each of its three protocols.

// connectEcho is the service of echoServer, by connect-go.
func connectEcho(cancelled chan error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/"+echoName+"/Unary", connect.NewUnaryHandler("/"+echoName+"/Unary",
		func(ctx context.Context, r *connect.Request[message]) (*connect.Response[message], error) {
			switch r.Msg.Value {
			case "fail":
				return nil, connect.NewError(connect.CodeNotFound, errors.New("no such thing: ü"))
			case "wait":
				<-ctx.Done()
				cancelled <- ctx.Err()
				return nil, ctx.Err()
			}
			resp := connect.NewResponse(wrapperspb.String(echoText(r.Msg.Value)))
			if got := r.Header().Get("X-Ask"); got != "" {
				resp.Header().Set("X-Answer", got)
				resp.Trailer().Set("X-End", got)
			}
			return resp, nil
		}))
	mux.Handle("/"+echoName+"/Down", connect.NewServerStreamHandler("/"+echoName+"/Down",
		func(ctx context.Context, r *connect.Request[message], s *connect.ServerStream[message]) error {
			for _, r := range r.Msg.Value {
				if err := s.Send(wrapperspb.String(string(r))); err != nil {
					return err
				}
			}
			s.ResponseTrailer().Set("X-End", "down")
			return nil
		}))
	mux.Handle("/"+echoName+"/Up", connect.NewClientStreamHandler("/"+echoName+"/Up",
		func(ctx context.Context, s *connect.ClientStream[message]) (*connect.Response[message], error) {
			var text strings.Builder
			for s.Receive() {
				text.WriteString(s.Msg().Value)
			}
			return connect.NewResponse(wrapperspb.String(text.String())), s.Err()
		}))
	mux.Handle("/"+echoName+"/Both", connect.NewBidiStreamHandler("/"+echoName+"/Both",
		func(ctx context.Context, s *connect.BidiStream[message, message]) error {
			for held := false; ; {
				in, err := s.Receive()
				switch {
				case errors.Is(err, io.EOF) && !held:
					return nil
				case err != nil: // of a client that has enough it may be io.EOF as well
					cancelled <- err
					return err
				}
				held = in.Value == "hold"
				if err := s.Send(wrapperspb.String(echoText(in.Value))); err != nil {
					return err
				}
			}
		}))
	return mux
}

// A connectClient makes calls by connect-go.
type connectClient struct {
	unary, down, up, both *connect.Client[message, message]
}

func newConnectClient(over *http.Client, base string, opts ...connect.ClientOption) connectClient {
	method := func(name string) *connect.Client[message, message] {
		return connect.NewClient[message, message](over, base+"/"+echoName+"/"+name, opts...)
	}
	return connectClient{method("Unary"), method("Down"), method("Up"), method("Both")}
}

func (c connectClient) callUnary(ctx context.Context, text string) (string, error) {
	r := connect.NewRequest(wrapperspb.String(text))
	r.Header().Set("X-Ask", "yes")
	resp, err := c.unary.CallUnary(ctx, r)
	if err != nil {
		return "", err
	}
	if resp.Header().Get("X-Answer") != "yes" || resp.Trailer().Get("X-End") != "yes" {
		return "", fmt.Errorf("header %q, trailer %q", resp.Header(), resp.Trailer())
	}
	return resp.Msg.Value, nil
}

func (c connectClient) callDown(ctx context.Context, text string) (string, error) {
	s, err := c.down.CallServerStream(ctx, connect.NewRequest(wrapperspb.String(text)))
	if err != nil {
		return "", err
	}
	defer s.Close()
	var all strings.Builder
	for s.Receive() {
		all.WriteString(s.Msg().Value)
	}
	if s.Err() == nil && s.ResponseTrailer().Get("X-End") != "down" {
		return "", fmt.Errorf("trailer %q", s.ResponseTrailer())
	}
	return all.String(), s.Err()
}

func (c connectClient) callUp(ctx context.Context, texts ...string) (string, error) {
	s := c.up.CallClientStream(ctx)
	for _, text := range texts {
		if err := s.Send(wrapperspb.String(text)); err != nil {
			return "", err
		}
	}
	resp, err := s.CloseAndReceive()
	if err != nil {
		return "", err
	}
	return resp.Msg.Value, nil
}

// callBoth sends each text when the one before it is answered.
func (c connectClient) callBoth(ctx context.Context, texts ...string) error {
	s := c.both.CallBidiStream(ctx)
	defer s.CloseResponse()
	for _, text := range texts {
		if err := s.Send(wrapperspb.String(text)); err != nil {
			return err
		}
		out, err := s.Receive()
		if err == nil {
			err = wantText(out.Value, echoText(text), nil)
		}
		if err != nil {
			return err
		}
	}
	if err := s.CloseRequest(); err != nil {
		return err
	}
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("behind the last: %v", err)
	}
	return nil
}

// connect-go's clients call its servers, over net/http's client and flare's, to either
// server, by its own protocol, gRPC and gRPC-Web.
func TestConnect(t *testing.T) {
	cancelled := make(chan error, 100)
	overHTTP2(t, connectEcho(cancelled), func(t *testing.T, base string, trust *tls.Config) {
		std := &http.Transport{Protocols: onlyHTTP2(), TLSClientConfig: trust}
		defer std.CloseIdleConnections()
		ours := &flare.Client{Protocols: onlyHTTP2(), TLSConfig: trust}
		defer ours.CloseIdleConnections()
		for over, transport := range map[string]http.RoundTripper{"nethttp": std, "flare": ours.Transport()} {
			for protocol, opts := range map[string][]connect.ClientOption{
				"connect": nil, "gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()},
				"JSON": {connect.WithProtoJSON(), connect.WithSendGzip()},
			} {
				t.Run("by "+over+"/"+protocol, func(t *testing.T) {
					connectCalls(t, newConnectClient(&http.Client{Transport: transport}, base, opts...), cancelled)
				})
			}
		}
	})
}

func connectCalls(t *testing.T, c connectClient, cancelled chan error) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, text := range echoTexts {
		got, err := c.callUnary(ctx, text)
		if err := wantText(got, echoText(text), err); err != nil {
			t.Errorf("unary: %v", err)
		}
	}
	_, err := c.callUnary(ctx, "fail")
	var fault *connect.Error
	if !errors.As(err, &fault) || fault.Code() != connect.CodeNotFound || fault.Message() != "no such thing: ü" {
		t.Errorf("a failure: %v", err)
	}
	long, want := strings.Repeat("a message ü ", 50), strings.Join(echoTexts, "")
	got, err := c.callDown(ctx, long)
	if err := wantText(got, long, err); err != nil {
		t.Errorf("down: %v", err)
	}
	got, err = c.callUp(ctx, echoTexts...)
	if err := wantText(got, want, err); err != nil {
		t.Errorf("up: %v", err)
	}
	if err := c.callBoth(ctx, echoTexts...); err != nil {
		t.Errorf("both: %v", err)
	}
	atOnce(t, func(i int) error {
		text := fmt.Sprint("call ", i)
		switch i % 4 {
		case 0:
			got, err := c.callUnary(ctx, text)
			return wantText(got, echoText(text), err)
		case 1:
			got, err := c.callDown(ctx, text)
			return wantText(got, text, err)
		case 2:
			got, err := c.callUp(ctx, text, "-", text)
			return wantText(got, text+"-"+text, err)
		default:
			return c.callBoth(ctx, text, text, text)
		}
	})
	connectEnds(t, ctx, c, cancelled)
}

// connectEnds has a call whose deadline passes, and streams that are cancelled.
func connectEnds(t *testing.T, ctx context.Context, c connectClient, cancelled chan error) {
	deadline(t, ctx, func(ctx context.Context) {
		if _, err := c.callUnary(ctx, "wait"); connect.CodeOf(err) != connect.CodeDeadlineExceeded {
			t.Errorf("a deadline: %v", err)
		}
	}, cancelled)
	atOnce(t, func(i int) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s := c.both.CallBidiStream(ctx)
		if err := s.Send(wrapperspb.String("hold")); err != nil {
			return err
		}
		if _, err := s.Receive(); err != nil {
			return err
		}
		cancel()
		if _, err := s.Receive(); connect.CodeOf(err) != connect.CodeCanceled {
			return fmt.Errorf("cancelled: %v", err)
		}
		return nil
	})
	for i := range 100 {
		select {
		case <-cancelled:
		case <-ctx.Done():
			t.Fatalf("a handler has not heard of the end: %d have", i)
		}
	}
}
