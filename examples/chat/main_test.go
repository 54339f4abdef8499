package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"flare"
)

// patience bounds every wait of a test.
const patience = 30 * time.Second

func visit(t *testing.T, base, room, name, key, after string) *flare.WebSocket {
	t.Helper()
	query := url.Values{"name": {name}, "key": {key}, "after": {after}}
	ws, _, err := flare.DialWebSocket(context.Background(), "ws"+strings.TrimPrefix(base, "http")+"/rooms/"+room+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close(flare.CloseNormal, "") }) // and it is not collected before
	return ws
}

// hears reads one message, which has to have these lines, and returns the time of the
// last one.
func hears(t *testing.T, ws *flare.WebSocket, want ...line) (at string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, p, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []line
	if err := json.Unmarshal(p, &got); err != nil {
		t.Fatalf("%q: %v", p, err)
	}
	last := int64(0)
	for i := range got {
		if got[i].At <= last {
			t.Errorf("a line of %d after one of %d", got[i].At, last)
		}
		last, got[i].At = got[i].At, 0
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v; want %+v", got, want)
	}
	number, _ := json.Marshal(last)
	return string(number)
}

func says(t *testing.T, ws *flare.WebSocket, text string) {
	t.Helper()
	if err := ws.WriteText(context.Background(), text); err != nil {
		t.Fatal(err)
	}
}

func TestRooms(t *testing.T) {
	t.Parallel()
	c := newChat()
	url := flare.TestServer(t, &flare.Server{Handler: c.routes()})
	ann := visit(t, url, "a", "ann", "", "")
	hears(t, ann, line{Text: "ann has come in", Who: []string{"ann"}})
	bob := visit(t, url, "a", " bob ", "", "")
	both := line{Text: "bob has come in", Who: []string{"ann", "bob"}}
	hears(t, ann, both)
	hears(t, bob, both)
	eve := visit(t, url, "b", "eve", "", "")
	hears(t, eve, line{Text: "eve has come in", Who: []string{"eve"}})

	says(t, bob, " hello <b>\n")
	hears(t, ann, line{Name: "bob", Text: "hello <b>"})
	hears(t, bob, line{Name: "bob", Text: "hello <b>"})
	says(t, eve, " ") // is nothing
	says(t, eve, "anybody?")
	hears(t, eve, line{Name: "eve", Text: "anybody?"}) // and nothing of room a

	bob.Close(flare.CloseNormal, "")
	hears(t, ann, line{Text: "bob has left", Who: []string{"ann"}})
	ann.Close(flare.CloseNormal, "")
	eve.Close(flare.CloseNormal, "")
	rooms := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.rooms)
	}
	for deadline := time.Now().Add(patience); rooms() > 0; time.Sleep(time.Millisecond) { // the last are about to leave
		if time.Now().After(deadline) {
			t.Fatalf("%d rooms are left", rooms())
		}
	}
}

// Who comes back, with the key of a visitor that seems to be there still, takes its
// place, and gets what was said meanwhile; who is new gets all of it.
func TestBack(t *testing.T) {
	t.Parallel()
	url := flare.TestServer(t, &flare.Server{Handler: newChat().routes()})
	ann := visit(t, url, "a", "ann", "k", "")
	hears(t, ann, line{Text: "ann has come in", Who: []string{"ann"}})
	bob := visit(t, url, "a", "bob", "", "")
	hears(t, bob, line{Text: "bob has come in", Who: []string{"ann", "bob"}})
	one, two := line{Name: "bob", Text: "one"}, line{Name: "bob", Text: "two"}
	says(t, bob, "one")
	at := hears(t, bob, one)
	says(t, bob, "two")
	hears(t, bob, two)

	again := visit(t, url, "a", "ann", "k", at)
	hears(t, again, two, line{Who: []string{"ann", "bob"}})
	eve := visit(t, url, "a", "eve", "", "0")
	hears(t, eve, one, two)
	in := line{Text: "eve has come in", Who: []string{"ann", "bob", "eve"}}
	hears(t, eve, in)
	hears(t, bob, in) // and nothing of ann, who was there all the time
	hears(t, again, in)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, _, err := ann.Read(ctx)
		if ce := new(flare.CloseError); errors.As(err, &ce) && ce.Code == flare.CloseGoingAway {
			break
		} else if err != nil {
			t.Fatalf("the connection that was left: %v", err)
		}
	}
	says(t, again, "three")
	hears(t, bob, line{Name: "ann", Text: "three"})
}

// What a room remembers is bounded.
func TestHistory(t *testing.T) {
	t.Parallel()
	c := newChat()
	url := flare.TestServer(t, &flare.Server{Handler: c.routes()})
	ann := visit(t, url, "a", "ann", "", "")
	hears(t, ann, line{Text: "ann has come in", Who: []string{"ann"}})
	text := strings.Repeat("x", messageBytesMax)
	for range 20 {
		says(t, ann, text)
		hears(t, ann, line{Name: "ann", Text: text})
	}
	bob := visit(t, url, "a", "bob", "", "")
	said := line{Name: "ann", Text: text}
	kept := make([]line, historyBytesMax/(messageBytesMax+len("ann")))
	for i := range kept {
		kept[i] = said
	}
	hears(t, bob, kept...)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	url := flare.TestServer(t, &flare.Server{Handler: newChat().routes()})
	ann := visit(t, url, "taken", "ann", "k", "")
	hears(t, ann, line{Text: "ann has come in", Who: []string{"ann"}})
	for _, test := range []struct {
		room, name, key string
		send            bool
		code            flare.CloseCode
		reason          string
	}{
		{"a", "", "", false, flare.ClosePolicyViolation, "A name of up to 32 bytes is needed."},
		{"a", strings.Repeat("x", 33), "", false, flare.ClosePolicyViolation, "A name of up to 32 bytes is needed."},
		{strings.Repeat("x", 65), "ann", "", false, flare.ClosePolicyViolation, "A room's name has up to 64 bytes."},
		{"taken", "ann", "other", false, flare.ClosePolicyViolation, "Somebody there has that name."},
		{"taken", "ann", "", false, flare.ClosePolicyViolation, "Somebody there has that name."},
		{"a", "ann", "", true, flare.CloseUnsupportedData, "Text, please."},
	} {
		ws := visit(t, url, test.room, test.name, test.key, "")
		if test.send {
			hears(t, ws, line{Text: test.name + " has come in", Who: []string{test.name}})
			ws.Write(context.Background(), flare.BinaryMessage, []byte("binary"))
		}
		_, _, err := ws.Read(context.Background())
		var ce *flare.CloseError
		if !errors.As(err, &ce) || ce.Code != test.code || ce.Reason != test.reason {
			t.Errorf("%+v: %v", test, err)
		}
	}
	for i := range visitorsMax - 1 {
		ws := visit(t, url, "taken", fmt.Sprintf("visitor %d", i), "", "")
		if _, _, err := ws.Read(context.Background()); err != nil { // it is in
			t.Fatal(err)
		}
	}
	ws := visit(t, url, "taken", "last", "", "")
	_, _, err := ws.Read(context.Background())
	if ce := new(flare.CloseError); !errors.As(err, &ce) || ce.Reason != "The room is full." {
		t.Errorf("a room of %d: %v", visitorsMax, err)
	}
}
