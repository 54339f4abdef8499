package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"flare"
)

// patience bounds every wait of a test.
const patience = 30 * time.Second

func visit(t *testing.T, url, room, name string) *flare.WebSocket {
	t.Helper()
	ws, _, err := flare.DialWebSocket(context.Background(), "ws"+strings.TrimPrefix(url, "http")+"/rooms/"+room+"?name="+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ws
}

func hears(t *testing.T, ws *flare.WebSocket, want line) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, p, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got line
	if err := json.Unmarshal(p, &got); err != nil || got != want {
		t.Fatalf("%q, %v; want %q", p, err, want)
	}
}

func TestRooms(t *testing.T) {
	c := newChat()
	url := flare.TestServer(t, &flare.Server{Handler: c.routes()})
	ann := visit(t, url, "a", "ann")
	hears(t, ann, line{Text: "ann has come in"})
	bob := visit(t, url, "a", "bob")
	hears(t, ann, line{Text: "bob has come in"})
	hears(t, bob, line{Text: "bob has come in"})
	eve := visit(t, url, "b", "eve")
	hears(t, eve, line{Text: "eve has come in"})

	bob.WriteText(context.Background(), "hello <b>")
	hears(t, ann, line{Name: "bob", Text: "hello <b>"})
	hears(t, bob, line{Name: "bob", Text: "hello <b>"})
	eve.WriteText(context.Background(), "anybody?")
	hears(t, eve, line{Name: "eve", Text: "anybody?"}) // and nothing of room a

	bob.Close(flare.CloseNormal, "")
	hears(t, ann, line{Text: "bob has left"})
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

func TestRefusals(t *testing.T) {
	url := flare.TestServer(t, &flare.Server{Handler: newChat().routes()})
	for name, send := range map[string]string{"": "", strings.Repeat("x", 33): "", "ann": "binary"} {
		ws := visit(t, url, "a", name)
		if send != "" {
			hears(t, ws, line{Text: name + " has come in"})
			ws.Write(context.Background(), flare.BinaryMessage, []byte(send))
		}
		_, _, err := ws.Read(context.Background())
		var ce *flare.CloseError
		if !errors.As(err, &ce) || ce.Code != flare.ClosePolicyViolation && ce.Code != flare.CloseUnsupportedData {
			t.Errorf("%q: %v", name, err)
		}
	}
}
