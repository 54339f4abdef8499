//go:build unix

// Package chromium is for the tests of pages: a headless Chromium, spoken to by its
// debugging protocol, which is JSON over a WebSocket.
package chromium

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	_ "image/png" // what screenshots are
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"flare"
)

// patience bounds all of what a test does with a browser.
const patience = 2 * time.Minute

// A Browser is a running Chromium.
type Browser struct {
	t    testing.TB
	ctx  context.Context
	ws   *flare.WebSocket
	next int
	tabs map[string]*Tab // by session
}

// A Tab is a page in a browser.
type Tab struct {
	b       *Browser
	session string

	// Faults is what the page's scripts have failed with, and what it has written to
	// the console as an error. Requests answered with an error are among them.
	Faults []string
}

// An event is what the browser says unasked.
type event struct {
	Method    string
	SessionID string
	Params    struct {
		Type  string
		Args  []struct{ Value, Description any }
		Entry struct{ Level, Text, URL string }
		// Of an exception that nobody has caught.
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
	}
}

// Start starts Chromium, and skips the test where there is none.
func Start(t testing.TB) *Browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("chromium is not installed")
	}
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	cmd := exec.CommandContext(ctx, path,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
		"--remote-debugging-port=0", "--user-data-dir="+filepath.Join(profile, "profile"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		os.RemoveAll(profile)
	})
	log := bufio.NewScanner(stderr)
	for log.Scan() {
		_, url, ok := strings.Cut(log.Text(), "DevTools listening on ")
		if !ok {
			continue
		}
		ws, _, err := flare.DialWebSocket(ctx, url, &flare.WebSocketDialOptions{WebSocketOptions: flare.WebSocketOptions{MaxMessageBytes: 32 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ws.Close(flare.CloseNormal, "") })
		go func() {
			for log.Scan() { // so that it never waits for its log to be read
			}
		}()
		return &Browser{t: t, ctx: ctx, ws: ws, tabs: make(map[string]*Tab)}
	}
	t.Fatalf("chromium does not listen: %v", log.Err())
	return nil
}

// call is ask for what has to be done.
func (b *Browser) call(session, method string, params map[string]any, result any) {
	b.t.Helper()
	if err := b.ask(session, method, params, result); err != nil {
		b.t.Fatal(err)
	}
}

// ask has a method called, of a page or of the browser, and its result put into
// result. The error is the browser's.
func (b *Browser) ask(session, method string, params map[string]any, result any) error {
	b.t.Helper()
	b.next++
	request := map[string]any{"id": b.next, "method": method, "params": params}
	if session != "" {
		request["sessionId"] = session
	}
	p, err := json.Marshal(request)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.ws.Write(b.ctx, flare.TextMessage, p); err != nil {
		b.t.Fatal(err)
	}
	for {
		_, p, err := b.ws.Read(b.ctx)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var answer struct {
			ID            int
			Error, Result json.RawMessage
		}
		if err := json.Unmarshal(p, &answer); err != nil {
			b.t.Fatal(err)
		}
		switch {
		case answer.ID == 0:
			b.heard(p)
			continue
		case answer.ID != b.next:
			b.t.Fatalf("%s: the answer to another call: %s", method, p)
		case answer.Error != nil:
			return fmt.Errorf("%s: %s", method, answer.Error)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
		return nil
	}
}

// heard notes what an event says of a page's faults.
func (b *Browser) heard(p []byte) {
	var e event
	json.Unmarshal(p, &e) // one of another form is none of these
	tab := b.tabs[e.SessionID]
	if tab == nil {
		return
	}
	switch {
	case e.Method == "Runtime.exceptionThrown":
		tab.Faults = append(tab.Faults, e.Params.ExceptionDetails.Text+" "+e.Params.ExceptionDetails.Exception.Description)
	case e.Method == "Runtime.consoleAPICalled" && (e.Params.Type == "error" || e.Params.Type == "warning"):
		tab.Faults = append(tab.Faults, fmt.Sprint(e.Params.Args))
	case e.Method == "Log.entryAdded" && e.Params.Entry.Level == "error":
		tab.Faults = append(tab.Faults, e.Params.Entry.Text+" "+e.Params.Entry.URL)
	}
}

// Open opens a page in a tab of its own, in a window of width pixels, dark if the
// user likes it so.
func (b *Browser) Open(url string, width int, dark bool) *Tab {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	tab := &Tab{b: b, session: session.SessionID}
	b.tabs[tab.session] = tab
	for _, domain := range []string{"Runtime", "Log", "Page"} {
		tab.call(domain+".enable", nil, nil)
	}
	tab.Look(width, dark)
	tab.call("Page.navigate", map[string]any{"url": url}, nil)
	// Not readyState alone: the tab begins with an empty page, which is complete.
	tab.Await("document.readyState == 'complete' && location.href != 'about:blank'", true)
	return tab
}

func (tab *Tab) call(method string, params map[string]any, result any) {
	tab.b.t.Helper()
	tab.b.call(tab.session, method, params, result)
}

// Look sets the width of the window, and whether the user likes dark pages.
func (tab *Tab) Look(width int, dark bool) {
	tab.b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	tab.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	tab.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
}

// Run evaluates an expression, and waits for what it promises.
func (tab *Tab) Run(expression string) any {
	tab.b.t.Helper()
	value, err := tab.evaluate(expression)
	if err != nil {
		tab.b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

func (tab *Tab) evaluate(expression string) (any, error) {
	tab.b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	err := tab.b.ask(tab.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &got)
	if err == nil && got.ExceptionDetails != nil {
		err = fmt.Errorf("%s", got.ExceptionDetails)
	}
	return got.Result.Value, err
}

// Await evaluates an expression until it is what is wanted. Meanwhile the page may be
// another, or not be there yet, so that it cannot be evaluated.
func (tab *Tab) Await(expression string, want any) {
	tab.b.t.Helper()
	for {
		got, err := tab.evaluate(expression)
		if err == nil && got == want {
			return
		}
		select {
		case <-tab.b.ctx.Done():
			tab.b.t.Fatalf("%s is %v (%v), want %v", expression, got, err, want)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Key presses a key: "Tab", "Enter" or a character.
func (tab *Tab) Key(key string) {
	tab.b.t.Helper()
	params := map[string]any{"type": "keyDown", "key": key, "code": key}
	switch key {
	case "Tab":
		params["windowsVirtualKeyCode"] = 9
	case "Enter":
		params["windowsVirtualKeyCode"], params["text"] = 13, "\r"
	default:
		params["text"] = key
	}
	tab.call("Input.dispatchKeyEvent", params, nil)
	params["type"] = "keyUp"
	delete(params, "text")
	tab.call("Input.dispatchKeyEvent", params, nil)
}

// Type types a text, where the focus is.
func (tab *Tab) Type(text string) {
	tab.b.t.Helper()
	tab.call("Input.insertText", map[string]any{"text": text}, nil)
}

// Picture is the whole page as it looks, also written to a file of that name in the
// folder that FLARE_SCREENSHOTS names.
func (tab *Tab) Picture(name string) image.Image {
	tab.b.t.Helper()
	var shot struct{ Data []byte } // base64 is JSON's form of bytes
	tab.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	if dir := os.Getenv("FLARE_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), shot.Data, 0o644); err != nil {
			tab.b.t.Error(err)
		}
	}
	picture, _, err := image.Decode(bytes.NewReader(shot.Data))
	if err != nil {
		tab.b.t.Fatal(err)
	}
	return picture
}

// CheckLooks is CheckLook at the width of a phone and of a desk, light and dark.
func (tab *Tab) CheckLooks(name string) {
	tab.b.t.Helper()
	for _, width := range []int{390, 1280} {
		tab.CheckLook(name, width, false)
		tab.CheckLook(name, width, true)
	}
}

// CheckLook takes a picture of the page, and fails the test where the page is wider
// than the window, has text that is cut off, controls without a name or too small to
// touch, or text that is hard to read.
func (tab *Tab) CheckLook(name string, width int, dark bool) {
	tab.b.t.Helper()
	look := fmt.Sprintf("%s-%d-light", name, width)
	if dark {
		look = fmt.Sprintf("%s-%d-dark", name, width)
	}
	tab.Look(width, dark)
	if wide := tab.Run("document.documentElement.scrollWidth").(float64); wide > float64(width) {
		tab.b.t.Errorf("%s: the page is %v pixels wide", look, wide)
	}
	for _, fault := range tab.Run(audit).([]any) {
		tab.b.t.Errorf("%s: %v", look, fault)
	}
	bright := brightness(tab.Picture(look))
	if dark && bright > 0.3 || !dark && bright < 0.7 {
		tab.b.t.Errorf("%s: the brightness of the picture is %.2f", look, bright)
	}
}

// brightness is how light a picture is on the whole, from 0 to 1.
func brightness(picture image.Image) float64 {
	var sum, n float64
	for y := picture.Bounds().Min.Y; y < picture.Bounds().Max.Y; y += 3 {
		for x := picture.Bounds().Min.X; x < picture.Bounds().Max.X; x += 3 {
			r, g, b, _ := picture.At(x, y).RGBA()
			sum += float64(r+g+b) / (3 * 0xffff)
			n++
		}
	}
	return sum / max(n, 1)
}
