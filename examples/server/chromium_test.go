//go:build unix

package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"flare/examples/internal/chromium"
)

// The page at / in a browser: figures move, the buttons do what they say, it comes
// back when the server does, and nothing goes wrong on the way.
func TestChromium(t *testing.T) {
	t.Parallel()
	b := chromium.Start(t)
	p := launch(t)
	tab := b.Open(p.url+"/", 1280, false)
	tab.Await(`document.querySelector('.lead strong').textContent`, "HTTP/1.1")
	tab.Await(`$('state').textContent`, "Live")
	tab.Await(`before !== null && series.rate.values.length > 1`, true)
	shown := func(id string) string { return fmt.Sprint(tab.Run(`$('` + id + `').textContent`)) }
	for _, id := range []string{"rate", "requests", "uptime", "trip", "trip-max", "lag", "steals", "memory", "heap", "goroutines"} {
		if text := shown(id); !strings.ContainsAny(text, "0123456789") {
			t.Errorf("%s is %q", id, text)
		}
	}
	if n := shown("versions"); !strings.Contains(strings.Join(strings.Fields(n), " "), "WebSocket 1") && !strings.Contains(n, "WebSocket1") {
		t.Errorf("versions: %q", n)
	}
	tab.CheckLook("server-fresh", 390, false)

	requests := func() int {
		n, err := strconv.Atoi(strings.ReplaceAll(shown("requests"), ",", ""))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const said = `$('log').firstChild.textContent.split(/[:.]/)[0]`
	press := func(button int, want string) {
		t.Helper()
		tab.Run(fmt.Sprintf(`document.querySelectorAll('button')[%d].click()`, button))
		tab.Await(said, want)
		tab.Await(`document.querySelector('[aria-busy]') === null`, true)
	}
	was := requests()
	press(3, "Said hello")
	if text := shown("log"); !strings.HasPrefix(text, "Said hello: 100 answers in ") {
		t.Errorf("the log says %q", text)
	}
	tab.Await(fmt.Sprintf(`Number($('requests').textContent.replace(',', '')) >= %d`, was+100), true)
	tab.Await(`series.rate.max >= 10 && series.latency.max > 0 && /\d/.test($('latency').textContent)`, true)
	press(0, "Slept for 1 s")
	if text := fmt.Sprint(tab.Run(`$('log').firstChild.textContent`)); !strings.Contains(text, ": 200 after 1") || !strings.Contains(text, "Meanwhile the loop answered this page") {
		t.Errorf("the log says %q", text)
	}
	press(1, "Kept a processor busy for 400 ms")
	press(2, "Failed")
	if text := fmt.Sprint(tab.Run(`$('log').firstChild.textContent`)); !strings.HasPrefix(text, "Failed: 500 after ") {
		t.Errorf("the log says %q", text)
	}
	tab.Await(`document.querySelector('#responses [data-of="5xx"]').textContent`, "1")
	// The 500 that was asked for is all that the console has.
	tab.Faults = slices.DeleteFunc(tab.Faults, func(fault string) bool { return strings.HasSuffix(fault, p.url+"/error") })
	if len(tab.Faults) > 0 {
		t.Errorf("faults of the page: %q", tab.Faults)
	}
	tab.CheckLooks("server")

	// By the keyboard: the first button is the first control.
	tab.Run(`$('log').replaceChildren()`)
	tab.Run(`document.activeElement.blur()`)
	tab.Key("Tab")
	tab.Await(`document.activeElement.textContent`, "Sleep 1 s")
	tab.Key("Tab")
	tab.Key("Tab")
	tab.Key("Enter")
	tab.Await(`$('log').textContent.split(':')[0]`, "Failed")

	// The server goes, and comes back.
	p.signal(syscall.SIGTERM)
	p.end()
	tab.Await(`$('state').textContent`, "Reconnecting")
	tab.CheckLook("server-lost", 390, true)
	p = start(t, "-addr", p.addr)
	tab.Await(`$('state').textContent`, "Live")
	tab.Await(`before.stats.requests`, float64(1))
}

// Over TLS the page comes by HTTP/2, and says so.
func TestTLSChromium(t *testing.T) {
	t.Parallel()
	b := chromium.Start(t)
	p := start(t, "-self-signed")
	tab := b.Open(p.url+"/", 1280, false)
	tab.Await(`[...document.querySelectorAll('.lead strong')].map(e => e.textContent).join()`, "HTTP/2,TLS 1.3")
	tab.Await(`$('state').textContent`, "Live")
	tab.Await(`before !== null && before.stats.connections.http2 >= 1 && document.querySelector('#versions [data-of=http2]').textContent !== '0'`, true)
	if len(tab.Faults) > 0 {
		t.Errorf("faults of the page: %q", tab.Faults)
	}
}
