//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	_ "image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"flare"
)

// A browser is a headless Chromium, spoken to by its debugging protocol, which
// is JSON over a WebSocket.
type browser struct {
	t    *testing.T
	ctx  context.Context
	ws   *flare.WebSocket
	next int
}

// startBrowser starts Chromium, and skips the test where there is none.
func startBrowser(t *testing.T, ctx context.Context) *browser {
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
	profile, err := os.MkdirTemp("", "chat")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, path,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
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
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		os.RemoveAll(profile)
	})
	log := bufio.NewScanner(stderr)
	for log.Scan() {
		if _, url, ok := strings.Cut(log.Text(), "DevTools listening on "); ok {
			ws, _, err := flare.DialWebSocket(ctx, url, &flare.WebSocketDialOptions{WebSocketOptions: flare.WebSocketOptions{MaxMessageBytes: 16 << 20}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ws.Close(flare.CloseNormal, "") })
			go func() {
				for log.Scan() { // so that it never waits for its log to be read
				}
			}()
			return &browser{t: t, ctx: ctx, ws: ws}
		}
	}
	t.Fatalf("chromium does not listen: %v", log.Err())
	return nil
}

// call has a method called, of a page or of the browser, and its result put
// into result.
func (b *browser) call(page, method string, params map[string]any, result any) {
	b.t.Helper()
	b.next++
	request, err := json.Marshal(map[string]any{"id": b.next, "sessionId": page, "method": method, "params": params})
	if page == "" {
		request, err = json.Marshal(map[string]any{"id": b.next, "method": method, "params": params})
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.ws.Write(b.ctx, flare.TextMessage, request); err != nil {
		b.t.Fatal(err)
	}
	for {
		_, p, err := b.ws.Read(b.ctx)
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		var answer struct {
			ID     int
			Error  json.RawMessage
			Result json.RawMessage
		}
		if err := json.Unmarshal(p, &answer); err != nil {
			b.t.Fatal(err)
		}
		if answer.ID != b.next {
			continue // an event
		}
		if answer.Error != nil {
			b.t.Fatalf("%s: %s", method, answer.Error)
		}
		if err := json.Unmarshal(answer.Result, result); err != nil {
			b.t.Fatal(err)
		}
		return
	}
}

// open opens a page in a tab of its own, and returns its session.
func (b *browser) open(url string) string {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("", "Target.createTarget", map[string]any{"url": url}, &target)
	var session struct{ SessionID string }
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	// Not readyState alone: the tab begins with an empty page, which is complete.
	b.await(session.SessionID, "document.readyState == 'complete' && location.href != 'about:blank'", true)
	return session.SessionID
}

// run evaluates an expression in a page.
func (b *browser) run(page, expression string) any {
	b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.call(page, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, got.ExceptionDetails)
	}
	return got.Result.Value
}

// await evaluates an expression until it is what is wanted.
func (b *browser) await(page, expression string, want any) {
	b.t.Helper()
	for {
		got := b.run(page, expression)
		if got == want {
			return
		}
		select {
		case <-b.ctx.Done():
			b.t.Fatalf("%s is %v, want %v", expression, got, want)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Two visitors in two tabs of a browser, on the page as it is: they come in,
// talk, leave, and a visitor that is no browser talks with them.
func TestChromiumTabs(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url := flare.TestServer(t, &flare.Server{Handler: newChat().routes()})
	b := startBrowser(t, ctx)

	const lines = `[...document.querySelectorAll('#lines li')].map(li => li.textContent).join('|')`
	enter := func(page, name string) {
		t.Helper()
		b.run(page, fmt.Sprintf(`{ const f = document.getElementById('enter'); f.elements.name.value = %q; f.elements.room.value = 'hall'; f.requestSubmit(); }`, name))
		b.await(page, `document.getElementById('say').hidden`, false)
	}
	say := func(page, text string) {
		t.Helper()
		b.run(page, fmt.Sprintf(`{ const f = document.getElementById('say'); f.elements.text.value = %q; f.requestSubmit(); }`, text))
	}
	ann, bob := b.open(url+"/"), b.open(url+"/")
	enter(ann, "ann")
	b.await(ann, lines, "ann has come in")
	enter(bob, "bob")
	b.await(bob, lines, "bob has come in")
	say(ann, "hello, <b>bob</b> κόσμε")
	b.await(bob, lines, "bob has come in|ann: hello, <b>bob</b> κόσμε")
	say(bob, strings.Repeat("so much to say ", 60)) // long enough to be compressed
	long := "bob: " + strings.Repeat("so much to say ", 60)
	b.await(ann, lines, "ann has come in|bob has come in|ann: hello, <b>bob</b> κόσμε|"+long)
	if extensions := b.run(ann, "ws.extensions"); !strings.HasPrefix(fmt.Sprint(extensions), "permessage-deflate") {
		t.Errorf("the browser agreed on %q", extensions)
	}

	eve := visit(t, url, "hall", "eve")
	if err := eve.WriteText(ctx, "I am no browser"); err != nil {
		t.Fatal(err)
	}
	b.await(ann, lines+".split('|').pop()", "eve: I am no browser")

	var shot struct{ Data []byte } // base64 is JSON's form of bytes
	b.call(ann, "Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	if path := os.Getenv("CHAT_SCREENSHOT"); path != "" {
		if err := os.WriteFile(path, shot.Data, 0o644); err != nil {
			t.Error(err)
		}
	}
	picture, _, err := image.Decode(bytes.NewReader(shot.Data))
	if err != nil {
		t.Fatal(err)
	}
	if dark := darkPixels(picture); dark < 1000 {
		t.Errorf("the picture of the page has %d dark pixels: no text", dark)
	}

	b.run(bob, "ws.close()")
	b.await(ann, lines+".split('|').pop()", "bob has left")
	b.await(bob, lines+".split('|').pop()", "closed (1005) ")
	eve.Close(flare.CloseNormal, "")
	b.await(ann, lines+".split('|').pop()", "eve has left")
}

func darkPixels(picture image.Image) (n int) {
	for y := range picture.Bounds().Dy() {
		for x := range picture.Bounds().Dx() {
			if r, g, b, _ := picture.At(x, y).RGBA(); r+g+b < 3*0x4000 {
				n++
			}
		}
	}
	return n
}
