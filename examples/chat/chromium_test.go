//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"flare"
	"flare/examples/internal/chromium"
)

// serveAt serves a chat on addr until the function that it returns is called.
func serveAt(t *testing.T, addr string) (at string, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &flare.Server{Handler: newChat().routes()}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, flare.ErrServerClosed) {
			t.Error(err)
		}
	}
	return ln.Addr().String(), stop
}

// Two visitors in two tabs of a browser, on the page as it is: they come in, talk,
// are refused, leave, and come back by themselves when the server does. A visitor that
// is no browser talks with them.
func TestChromium(t *testing.T) {
	t.Parallel()
	b := chromium.Start(t)
	addr, stop := serveAt(t, "127.0.0.1:0")
	url := "http://" + addr

	const (
		lines = `[...document.querySelectorAll('#lines li')].map(li => (li.querySelector('.name')?.textContent ?? '*') + ': ' + (li.querySelector('.text') ?? li.firstChild).textContent.trim()).join('|')`
		last  = lines + `.split('|').pop()`
		here  = `[...document.querySelectorAll('#who li')].map(li => li.textContent).join()`
	)
	ann := b.Open(url+"/#hall", 1280, false)
	ann.CheckLooks("chat-enter")
	ann.Await(`document.activeElement.id`, "name") // all of it by the keyboard
	ann.Key("Enter")
	if ann.Run(`$('name').matches(':invalid')`) != true {
		t.Error("a visitor needs no name")
	}
	ann.Type("ann")
	ann.Key("Tab")
	ann.Await(`document.activeElement.value`, "hall")
	ann.Key("Enter")
	ann.Await(`$('state').textContent`, "Connected")
	ann.Await(`document.activeElement.id`, "text")
	ann.Await(lines, "*: ann has come in")
	ann.Await(here, "ann (you)")
	ann.Await(`$('title').textContent + ', ' + $('who-name').textContent`, "hall, Only you")
	ann.CheckLook("chat-empty", 390, false)

	bob := b.Open(url+"/", 390, true)
	bob.Await(`$('name').value`, "ann") // as this browser was called last
	enter := func(tab *chromium.Tab, name string) {
		t.Helper()
		tab.Run(fmt.Sprintf(`$('name').value = %q, $('room').value = 'hall', $('enter').requestSubmit()`, name))
	}
	enter(bob, "ann")
	bob.Await(`$('refused').textContent`, "Somebody there has that name.")
	bob.Await(`$('inside').hidden`, true)
	enter(bob, "bob")
	bob.Await(lines, "*: bob has come in")
	bob.Await(here, "ann,bob (you)")
	ann.Await(here, "ann (you),bob")

	ann.Type("hello, <b>bob</b> κόσμε")
	ann.Key("Enter")
	bob.Await(last, "ann: hello, <b>bob</b> κόσμε")
	ann.Await(last, "You: hello, <b>bob</b> κόσμε")
	ann.Await(`$('text').value`, "")
	ann.Await(`document.querySelectorAll('#lines time').length === document.querySelectorAll('#lines li').length`, true)
	long := strings.Repeat("so much to say ", 60) // long enough to be compressed
	bob.Run(fmt.Sprintf(`$('text').value = %q, $('say').requestSubmit()`, long))
	ann.Await(last, "bob: "+strings.TrimSpace(long))
	if extensions := fmt.Sprint(ann.Run("ws.extensions")); !strings.HasPrefix(extensions, "permessage-deflate") {
		t.Errorf("the browser agreed on %q", extensions)
	}
	eve := visit(t, url, "hall", "eve", "", "")
	says(t, eve, "I am no browser")
	ann.Await(last, "eve: I am no browser")
	ann.Await(here, "ann (you),bob,eve")
	for i, text := range []string{"What do you think of it?", "I came in a while ago, and it is still here.", "And so am I."} {
		tab := []*chromium.Tab{bob, ann, ann}[i]
		tab.Run(fmt.Sprintf(`$('text').value = %q, $('say').requestSubmit()`, text))
		ann.Await(last, []string{"bob: ", "You: ", "You: "}[i]+text)
	}
	bob.Await(last, "ann: And so am I.")
	ann.CheckLooks("chat")

	ann.Await(`document.documentElement.scrollHeight <= innerHeight && atEnd`, true) // only what is said scrolls

	// A connection that breaks is opened again, and nothing is lost by it.
	bob.Run(`ws.close(), ws.onmessage = null`)
	ann.Await(here, "ann (you),eve")
	says(t, eve, "bob?")
	bob.Await(lines+`.split('|').filter(l => l === 'eve: bob?').length`, float64(1))
	bob.Await(`$('state').textContent`, "Connected")
	ann.Await(here, "ann (you),bob,eve")

	// The server goes, and comes back. What was not sent is not lost.
	eve.Close(flare.CloseNormal, "")
	stop()
	ann.Await(`$('state').textContent`, "Reconnecting")
	ann.Await(`$('now').hidden`, false)
	ann.Run(`$('text').value = 'unsent'`)
	ann.CheckLook("chat-lost", 390, true)
	ann.CheckLook("chat-lost", 1280, false)
	ann.Await(`Math.round($('lines').scrollHeight - $('lines').scrollTop - $('lines').clientHeight)`, float64(0))
	if _, stop = serveAt(t, addr); t.Failed() {
		return
	}
	defer stop()
	ann.Run(`$('now').click()`)
	ann.Await(`$('state').textContent`, "Connected")
	bob.Await(`$('state').textContent`, "Connected")
	ann.Await(`$('text').value`, "unsent")
	ann.Run(`$('say').requestSubmit()`)
	bob.Await(last, "ann: unsent")

	bob.Run(`$('leave').click()`)
	bob.Await(`[$('inside').hidden, $('enter').hidden, document.activeElement.id].join()`, "true,false,name")
	ann.Await(here, "ann (you)")
	for _, tab := range []*chromium.Tab{ann, bob} {
		for _, fault := range tab.Faults {
			if !strings.Contains(fault, "ERR_CONNECTION_REFUSED") { // while the server was away
				t.Errorf("a fault of the page: %q", fault)
			}
		}
	}
}
