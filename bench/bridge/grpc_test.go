package bridge

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"flare"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// This file has grpc-go's server on flare's, through FromHTTP and its ServeHTTP, with
// grpc-go's client, and with flare's.

type message = wrapperspb.StringValue

// An echoServer counts handlers whose call has been cancelled.
type echoServer struct{ cancelled chan error }

const echoName = "bridge.Echo"

// serve returns the service as a http.Handler.
func (e *echoServer) serve(t *testing.T) http.Handler {
	s := grpc.NewServer()
	t.Cleanup(s.Stop)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: echoName, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: e.unary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Down", Handler: e.down, ServerStreams: true},
			{StreamName: "Up", Handler: e.up, ClientStreams: true},
			{StreamName: "Both", Handler: e.both, ServerStreams: true, ClientStreams: true},
		},
	}, e)
	return s
}

func (e *echoServer) unary(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	var in message
	if err := decode(&in); err != nil {
		return nil, err
	}
	switch in.Value {
	case "fail":
		return nil, status.Error(codes.NotFound, "no such thing: ü")
	case "wait":
		<-ctx.Done()
		e.cancelled <- ctx.Err()
		return nil, ctx.Err()
	}
	if got := metadata.ValueFromIncomingContext(ctx, "x-ask"); len(got) > 0 {
		grpc.SetHeader(ctx, metadata.Pairs("x-answer", got[0], "x-octets-bin", "\x00\xff"))
		grpc.SetTrailer(ctx, metadata.Pairs("x-end", got[0]))
	}
	return wrapperspb.String(echoText(in.Value)), nil
}

// down sends each rune of the text as a message, and again and again where that is
// to be endless.
func (e *echoServer) down(_ any, s grpc.ServerStream) error {
	var in message
	if err := s.RecvMsg(&in); err != nil {
		return err
	}
	for again := true; again; again = in.Value == "endless" {
		for _, r := range in.Value {
			if err := s.SendMsg(wrapperspb.String(string(r))); err != nil {
				<-s.Context().Done()
				e.cancelled <- s.Context().Err()
				return err
			}
		}
	}
	s.SetTrailer(metadata.Pairs("x-end", "down"))
	return nil
}

// up answers with all the texts in one.
func (e *echoServer) up(_ any, s grpc.ServerStream) error {
	var text strings.Builder
	for {
		var in message
		switch err := s.RecvMsg(&in); err {
		case nil:
			text.WriteString(in.Value)
		case io.EOF:
			return s.SendMsg(wrapperspb.String(text.String()))
		default:
			return err
		}
	}
}

// both answers each text.
func (e *echoServer) both(_ any, s grpc.ServerStream) error {
	for {
		var in message
		switch err := s.RecvMsg(&in); err {
		case nil:
		case io.EOF:
			return nil
		default:
			<-s.Context().Done()
			e.cancelled <- s.Context().Err()
			return err
		}
		if in.Value == "fail" {
			return status.Error(codes.Aborted, "in the middle")
		}
		if err := s.SendMsg(wrapperspb.String(echoText(in.Value))); err != nil {
			return err
		}
	}
}

// An echoClient makes calls by grpc-go.
type echoClient struct{ *grpc.ClientConn }

func (c echoClient) unary(ctx context.Context, text string, opts ...grpc.CallOption) (string, error) {
	var out message
	err := c.Invoke(ctx, "/"+echoName+"/Unary", wrapperspb.String(text), &out, opts...)
	return out.Value, err
}

func (c echoClient) stream(ctx context.Context, name string) (grpc.ClientStream, error) {
	return c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: name != "Up", ClientStreams: name != "Down"}, "/"+echoName+"/"+name)
}

func (c echoClient) down(ctx context.Context, text string) (string, error) {
	s, err := c.stream(ctx, "Down")
	if err == nil {
		err = errors.Join(s.SendMsg(wrapperspb.String(text)), s.CloseSend())
	}
	var all strings.Builder
	for err == nil {
		var out message
		if err = s.RecvMsg(&out); err == nil {
			all.WriteString(out.Value)
		}
	}
	if err != io.EOF {
		return "", err
	}
	if got := s.Trailer().Get("x-end"); len(got) != 1 || got[0] != "down" {
		return "", fmt.Errorf("trailer %q", got)
	}
	return all.String(), nil
}

func (c echoClient) up(ctx context.Context, texts ...string) (string, error) {
	s, err := c.stream(ctx, "Up")
	for _, text := range texts {
		if err == nil {
			err = s.SendMsg(wrapperspb.String(text))
		}
	}
	var out message
	if err == nil {
		err = errors.Join(s.CloseSend(), s.RecvMsg(&out))
	}
	return out.Value, err
}

// both sends each text when the one before it is answered.
func (c echoClient) both(ctx context.Context, texts ...string) error {
	s, err := c.stream(ctx, "Both")
	if err != nil {
		return err
	}
	for _, text := range texts {
		if err := s.SendMsg(wrapperspb.String(text)); err != nil {
			return err
		}
		var out message
		if err := wantText(out.Value, out.Value, s.RecvMsg(&out)); err != nil {
			return err
		}
		if err := wantText(out.Value, echoText(text), nil); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(new(message)); err != io.EOF {
		return fmt.Errorf("behind the last: %v", err)
	}
	return nil
}

// grpc-go's client calls its server on flare's, unary and by the three kinds of
// streams.
func TestGRPC(t *testing.T) {
	e := &echoServer{cancelled: make(chan error, 100)}
	overHTTP2(t, e.serve(t), func(t *testing.T, base string, trust *tls.Config) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		secured := insecure.NewCredentials()
		if trust != nil {
			secured = credentials.NewTLS(trust)
		}
		at, _ := url.Parse(base)
		conn, err := grpc.NewClient("passthrough:///"+at.Host, grpc.WithTransportCredentials(secured))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := echoClient{conn}
		t.Run("unary", func(t *testing.T) { grpcUnary(t, ctx, c) })
		t.Run("streams", func(t *testing.T) {
			long := strings.Repeat("a message ü ", 200)
			if got, err := c.down(ctx, long); wantText(got, long, err) != nil {
				t.Errorf("down: %v", wantText(got, long, err))
			}
			if got, err := c.down(ctx, ""); wantText(got, "", err) != nil {
				t.Errorf("down, nothing: %v", wantText(got, "", err))
			}
			want := strings.Join(echoTexts, "")
			if got, err := c.up(ctx, echoTexts...); wantText(got, want, err) != nil {
				t.Errorf("up: %v", wantText(got, want, err))
			}
			if err := c.both(ctx, echoTexts...); err != nil {
				t.Errorf("both: %v", err)
			}
			if err := c.both(ctx, "a", "fail"); status.Code(err) != codes.Aborted {
				t.Errorf("both, failed in the middle: %v", err)
			}
		})
		t.Run("at once", func(t *testing.T) {
			atOnce(t, func(i int) error {
				text := fmt.Sprint("call ", i)
				switch i % 4 {
				case 0:
					got, err := c.unary(ctx, text)
					return wantText(got, echoText(text), err)
				case 1:
					got, err := c.down(ctx, text)
					return wantText(got, text, err)
				case 2:
					got, err := c.up(ctx, text, "-", text)
					return wantText(got, text+"-"+text, err)
				default:
					return c.both(ctx, text, text, text)
				}
			})
		})
		t.Run("ends", func(t *testing.T) { grpcEnds(t, ctx, c, e) })
	})
}

func grpcUnary(t *testing.T, ctx context.Context, c echoClient) {
	for _, text := range echoTexts {
		got, err := c.unary(ctx, text)
		if err := wantText(got, echoText(text), err); err != nil {
			t.Error(err)
		}
	}
	var head, trailer metadata.MD
	asking := metadata.AppendToOutgoingContext(ctx, "x-ask", "yes")
	if _, err := c.unary(asking, "x", grpc.Header(&head), grpc.Trailer(&trailer)); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(head.Get("x-answer"), head.Get("x-octets-bin"), trailer.Get("x-end")); got != "[yes] [\x00\xff] [yes]" {
		t.Errorf("metadata %q", got)
	}
	_, err := c.unary(ctx, "fail")
	if s := status.Convert(err); s.Code() != codes.NotFound || s.Message() != "no such thing: ü" {
		t.Errorf("a failure: %v", err)
	}
	if err := c.Invoke(ctx, "/"+echoName+"/None", new(message), new(message)); status.Code(err) != codes.Unimplemented {
		t.Errorf("no such method: %v", err)
	}
}

// grpcEnds has calls whose deadline passes and whose client has enough: their
// handlers hear of it, and the calls beside them go on.
func grpcEnds(t *testing.T, ctx context.Context, c echoClient, e *echoServer) {
	beside, err := c.stream(ctx, "Both") // its answer has begun: from then on it may be silent
	if err == nil {
		err = errors.Join(beside.SendMsg(wrapperspb.String("x")), beside.RecvMsg(new(message)))
	}
	if err != nil {
		t.Fatal(err)
	}
	deadline(t, ctx, func(ctx context.Context) {
		if _, err := c.unary(ctx, "wait"); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("a deadline: %v", err)
		}
	}, e.cancelled)
	atOnce(t, func(i int) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if i%2 == 0 {
			s, err := c.stream(ctx, "Down")
			if err == nil {
				err = errors.Join(s.SendMsg(wrapperspb.String("endless")), s.CloseSend(), s.RecvMsg(new(message)))
			}
			cancel()
			return err
		}
		s, err := c.stream(ctx, "Both")
		if err != nil {
			return err
		}
		if err := errors.Join(s.SendMsg(wrapperspb.String("x")), s.RecvMsg(new(message))); err != nil {
			return err
		}
		cancel()
		if err := s.RecvMsg(new(message)); status.Code(err) != codes.Canceled {
			return fmt.Errorf("cancelled: %v", err)
		}
		return nil
	})
	for i := range 100 {
		select {
		case err := <-e.cancelled:
			if err == nil {
				t.Error("a handler's context goes on")
			}
		case <-ctx.Done():
			t.Fatalf("a handler has not heard of the end: %d have", i)
		}
	}
	var out message
	if err := errors.Join(beside.SendMsg(wrapperspb.String("x")), beside.RecvMsg(&out), beside.CloseSend()); err != nil || out.Value != echoText("x") {
		t.Errorf("a stream beside them: %q, %v", out.Value, err)
	}
	if err := beside.RecvMsg(&out); err != io.EOF {
		t.Error(err)
	}
}

// frame is one message of gRPC, without compression.
func frame(text string) []byte {
	p, _ := proto.Marshal(wrapperspb.String(text))
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(p))), p...)
}

// unframe reads one.
func unframe(r io.Reader) (text string, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	p := make([]byte, binary.BigEndian.Uint32(head[1:]))
	if _, err := io.ReadFull(r, p); err != nil {
		return "", err
	}
	var m message
	err = proto.Unmarshal(p, &m)
	return m.Value, err
}

// flare's client calls grpc-go's server with nothing but fields, octets and trailers.
func TestGRPCByHand(t *testing.T) {
	e := &echoServer{cancelled: make(chan error, 100)}
	overHTTP2(t, e.serve(t), func(t *testing.T, base string, trust *tls.Config) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c := &flare.Client{BaseURL: base, TLSConfig: trust, Protocols: onlyHTTP2()}
		c.Header.Set("Content-Type", "application/grpc")
		c.Header.Set("TE", "trailers")
		defer c.CloseIdleConnections()
		call := func(method string, body any) (*flare.ClientResponse, error) {
			r := &flare.ClientRequest{Method: "POST", URL: "/" + echoName + "/" + method}
			if err := r.SetBody(body); err != nil {
				return nil, err
			}
			return c.Do(ctx, r)
		}
		for _, text := range echoTexts {
			resp, err := call("Unary", frame(text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := unframe(resp.Body)
			if err := wantText(got, echoText(text), err); err != nil {
				t.Error(err)
			}
			if rest, err := resp.Text(); rest != "" || err != nil {
				t.Errorf("behind it %q, %v", rest, err)
			}
			if got := resp.Trailer().Get("Grpc-Status"); resp.StatusCode != 200 || resp.Proto() != "HTTP/2.0" || got != "0" {
				t.Errorf("%d over %s, grpc-status %q", resp.StatusCode, resp.Proto(), got)
			}
		}
		resp, err := call("Unary", frame("fail"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := resp.Text()
		failed := resp.Trailer().Get("Grpc-Status") + resp.Header.Get("Grpc-Status")
		if text != "" || err != nil || failed != "5" {
			t.Errorf("a failure: %q, %v, grpc-status %q", text, err, failed)
		}

		body, w := io.Pipe() // each message is answered before the next leaves
		go w.Write(frame("first"))
		if resp, err = call("Both", body); err != nil { // the head comes with an answer
			t.Fatal(err)
		}
		for i, text := range append([]string{"first"}, echoTexts...) {
			if i > 0 {
				go w.Write(frame(text))
			}
			got, err := unframe(resp.Body)
			if err := wantText(got, echoText(text), err); err != nil {
				t.Fatal(err)
			}
		}
		w.Close()
		if rest, err := resp.Text(); rest != "" || err != nil || resp.Trailer().Get("Grpc-Status") != "0" {
			t.Errorf("the end of a stream: %q, %v, %q", rest, err, resp.Trailer().Get("Grpc-Status"))
		}

		atOnce(t, func(i int) error {
			text := fmt.Sprint("call ", i)
			resp, err := call("Unary", frame(text))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			got, err := unframe(resp.Body)
			return wantText(got, echoText(text), err)
		})
	})
}
