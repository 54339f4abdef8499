package flare

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A recordedRun is a way to run a WebSocket that only keeps the frames. It shows
// what a way has to do, and lets the core be tried without a socket or a clock.
type recordedRun struct {
	websocketCore
	frames []byte
	last   bool
	taking bool // the peer takes what stands before the ping
	sums   loopCounts
}

func newRecordedRun(o WebSocketOptions) *recordedRun {
	run := new(recordedRun)
	run.begin(newWebSocketProfile(new(handshake), &o, false))
	run.ws.run = run
	run.takeReader()
	return run
}

func (run *recordedRun) put(head frameHeadBytes, p []byte, kind putKind) error {
	if run.last {
		return ErrClosed
	}
	run.frames = append(append(run.frames, head.bytes()...), p...)
	run.last = kind == putLast
	return nil
}

func (run *recordedRun) reserve(int, QueuePolicy) error       { return nil }
func (run *recordedRun) awaitRoom(context.Context, int) error { return nil }
func (run *recordedRun) flush(context.Context) error          { return nil }
func (run *recordedRun) flushSoon()                           {}
func (run *recordedRun) awaitClose(bool) error                { return nil }
func (run *recordedRun) takes(time.Duration) bool             { return run.taking }
func (run *recordedRun) closing() bool                        { return run.last }
func (run *recordedRun) loop() *Loop                          { return nil }
func (run *recordedRun) remoteAddr() netip.AddrPort           { return netip.AddrPort{} }
func (run *recordedRun) counts() *loopCounts                  { return &run.sums }
func (run *recordedRun) feed(in []byte) (events string, err error) {
	for {
		n, ev, err := run.next(in)
		in = in[n:]
		if ev == eventMessage {
			events += fmt.Sprintf("%v %q\n", run.reader.kind, run.reader.data)
		}
		if err != nil || ev == eventNone {
			return events, err
		}
	}
}

// sent returns what the core has queued since the last call.
func (run *recordedRun) sent() string {
	frames := run.frames
	run.frames = nil
	return wsEvents(&messageReader{bytesMax: -1}, frames)
}

// What the core makes of a peer's octets: messages for the user, answers, and one
// end, of which the first cause stands.
func TestWebSocketCoreAnswers(t *testing.T) {
	text, ping := wsFrame(0x81, "hi", true), wsFrame(0x89, "p", true)
	for _, c := range []struct {
		name         string
		in           []byte
		events, sent string
		ended        string
	}{
		{"a message", text, "text \"hi\"\n", "", "<nil>"},
		{"a ping between two", append(append(append([]byte(nil), text...), ping...), text...), "text \"hi\"\ntext \"hi\"\n", "pong \"p\"\n", "<nil>"},
		{"an unasked pong", wsFrame(0x8a, "x", true), "", "", "<nil>"},
		{"close", wsFrame(0x88, "\x0f\xa3bye", true), "", "close 4003 \"\"\n", "4003 bye"},
		{"close without a code", wsFrame(0x88, "", true), "", "close 1005 \"\"\n", "1005 "},
		{"a frame behind it", append(wsFrame(0x88, "\x03\xe8", true), text...), "", "close 1000 \"\"\n", "1000 "},
		{"an unmasked frame", wsFrame(0x81, "x", false), "", "close 1002 \"\"\n", "1002 "},
		{"text that is none", wsFrame(0x81, "\xff", true), "", "close 1007 \"\"\n", "1007 "},
		{"a message too long", wsFrameHead(0x82, 70_000, true, 1), "", "close 1009 \"\"\n", "1009 "},
	} {
		run := newRecordedRun(WebSocketOptions{MaxMessageBytes: 1000})
		events, err := run.feed(c.in)
		ended := "<nil>"
		if run.ended != nil {
			ended = fmt.Sprint(int(run.ended.Code), " ", run.ended.Reason)
		}
		if sent := run.sent(); events != c.events || sent != c.sent || ended != c.ended || (err != nil) != (run.ended != nil) {
			t.Errorf("%s: %q, sent %q, ended %s, %v; want %q, %q, %s", c.name, events, sent, ended, err, c.events, c.sent, c.ended)
		}
		if run.goexit(); c.ended != "<nil>" && fmt.Sprint(int(run.ended.Code)) != strings.Fields(c.ended)[0] {
			t.Errorf("%s: ended with %d after all", c.name, run.ended.Code)
		}
	}
}

// The silence of a peer, by a clock of the test's: a ping into it, the end of one
// that does not answer, and of one that answers but sends no message.
func TestWebSocketCoreSilence(t *testing.T) {
	const s = time.Second
	type step struct {
		at   time.Duration
		in   string // what comes then; "": nothing, the time of the core has come
		sent string
		err  error

		taking bool // it is still taking what was said before
	}
	pong, text := string(wsFrame(0x8a, "", true)), string(wsFrame(0x81, "", true))
	for _, c := range []struct {
		name  string
		o     WebSocketOptions
		steps []step
	}{
		{"no answer", WebSocketOptions{Heartbeat: 10 * s}, []step{{at: 11 * s, sent: "ping \"\"\n"}, {at: 21 * s, err: ErrTimeout}}},
		{"an answer each time", WebSocketOptions{Heartbeat: 10 * s}, []step{
			{at: 11 * s, sent: "ping \"\"\n"}, {at: 20 * s, in: pong}, {at: 30 * s, sent: "ping \"\"\n"}, {at: 31 * s, in: text}, {at: 41 * s, sent: "ping \"\"\n"}, {at: 51 * s, err: ErrTimeout}}},
		{"an answer behind much", WebSocketOptions{Heartbeat: 10 * s}, []step{
			{at: 11 * s, sent: "ping \"\"\n"}, {at: 21 * s, taking: true}, {at: 31 * s, taking: true}, {at: 41 * s, err: ErrTimeout}}},
		{"no message", WebSocketOptions{Heartbeat: 10 * s, IdleTimeout: 15 * s}, []step{
			{at: 11 * s, sent: "ping \"\"\n"}, {at: 12 * s, in: pong}, {at: 16 * s, sent: "close 1001 \"idle\"\n", err: errWebSocketIdle}}},
		{"a message in time", WebSocketOptions{Heartbeat: -1, IdleTimeout: 15 * s}, []step{
			{at: 10 * s, in: text}, {at: 25 * s, sent: "close 1001 \"idle\"\n", err: errWebSocketIdle}}},
		{"no limits", WebSocketOptions{Heartbeat: -1}, nil},
	} {
		run := newRecordedRun(c.o)
		run.listen(s)
		for _, step := range c.steps {
			if step.in != "" {
				run.heardAt(step.at)
				if _, err := run.feed([]byte(step.in)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			run.taking = step.taking
			if at := run.silenceEnds(); at != step.at {
				t.Errorf("%s: the silence ends at %v, want %v", c.name, at, step.at)
			}
			if err := run.silenceOver(step.at - 1); err != nil || run.frames != nil {
				t.Errorf("%s: %v, sent %q, before %v", c.name, err, run.sent(), step.at)
			}
			if err := run.silenceOver(step.at); err != step.err {
				t.Errorf("%s: %v at %v, want %v", c.name, err, step.at, step.err)
			}
			if sent := run.sent(); sent != step.sent {
				t.Errorf("%s: sent %q at %v, want %q", c.name, sent, step.at, step.sent)
			}
		}
		if at := run.silenceEnds(); c.steps == nil && at != 0 {
			t.Errorf("%s: the silence ends at %v", c.name, at)
		}
	}
}
