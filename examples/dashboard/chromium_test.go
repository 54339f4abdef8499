//go:build unix

package main

import (
	"fmt"
	"testing"

	"flare"
	"flare/examples/internal/chromium"
)

// The board in two tabs: one logs in and changes a service by the keyboard, the other
// sees it without asking.
func TestChromium(t *testing.T) {
	t.Parallel()
	b := chromium.Start(t)
	url := flare.TestServer(t, newServer([]string{"mail", "search", "web"}, password))
	ada := b.Open(url+"/", 1280, false)
	ada.Await(`location.pathname`, "/login")
	ada.CheckLooks("dashboard-login")
	ada.Await(`document.activeElement.id`, "user")
	ada.Type("ada")
	ada.Key("Tab")
	ada.Type("guess")
	ada.Key("Enter")
	ada.Await(`document.querySelector('[role=alert]')?.textContent`, "That is not the password.")
	ada.Await(`document.readyState === 'complete' && document.activeElement.id`, "user") // or what is typed is lost
	ada.Type("ada")
	ada.Key("Tab")
	ada.Type(password)
	ada.Key("Enter")
	ada.Await(`document.getElementById('state')?.textContent`, "Live")

	bob := b.Open(url+"/", 390, true) // the same session
	bob.Await(`document.getElementById('state')?.textContent`, "Live")
	bob.Await(`/\d/.test($('rate').textContent) && $('watch').textContent === '2'`, true)
	bob.Await(`$('chart').querySelector('.line').getAttribute('d')?.includes('L')`, true) // it moves

	ada.Run(`document.querySelector('#service-search summary').focus()`)
	ada.Key("Enter")
	ada.Await(`document.querySelector('#service-search details').open`, true)
	ada.CheckLook("dashboard-change", 390, false)
	ada.CheckLook("dashboard-change", 1280, true)
	ada.Run(`document.querySelector('#service-search [value=down]').click()`)
	ada.Run(`document.getElementById('note-search').focus()`)
	ada.Type("the index is being built again")
	ada.Key("Enter")
	ada.Await(`document.readyState === 'complete' && document.getElementById('notice')?.textContent`, "search is down.")
	const line = `(() => { const c = $('service-search'); return c.dataset.state + ': ' + c.querySelector('.note').textContent; })()`
	bob.Await(line, "down: the index is being built again")
	ada.Await(line, "down: the index is being built again")
	bob.Await(`$('notice').textContent`, "search is down, says ada.")
	ada.Run(`(() => { const c = $('service-mail'); c.querySelector('[value=slow]').checked = true; c.querySelector('form').requestSubmit(); })()`)
	bob.Await(`$('service-mail').dataset.state`, "slow")
	bob.Await(`$('rate').textContent !== '–'`, true)
	bob.CheckLooks("dashboard")

	ada.Run(`document.querySelector('header button').click()`)
	ada.Await(`document.querySelector('[role=alert]')?.textContent`, "You have logged out.")
	for name, tab := range map[string]*chromium.Tab{"ada": ada, "bob": bob} {
		if len(tab.Faults) > 0 {
			t.Errorf("faults of %s's page: %s", name, fmt.Sprint(tab.Faults))
		}
	}
}

// A board without anything on it, and a page that is not there.
func TestChromiumEmpty(t *testing.T) {
	t.Parallel()
	b := chromium.Start(t)
	url := flare.TestServer(t, newServer(nil, password))
	tab := b.Open(url+"/login", 390, false)
	tab.Run(fmt.Sprintf(`document.getElementById('user').value = 'ada', document.getElementById('password').value = %q, document.querySelector('form').requestSubmit()`, password))
	tab.Await(`document.querySelector('.empty')?.textContent`, "There is nothing on the board.")
	tab.Await(`document.getElementById('state')?.textContent`, "Live")
	tab.CheckLook("dashboard-empty", 390, false)
	tab = b.Open(url+"/nowhere", 390, true)
	tab.Await(`document.querySelector('h1')?.textContent`, "404")
	tab.CheckLook("dashboard-error", 390, true)
}
