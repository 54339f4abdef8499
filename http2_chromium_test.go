//go:build unix

package flare

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// This file has a browser on a page over HTTP/2: what it loads, sends, hears and talks.

// chromiumPage does everything there is to do and says what came of it.
const chromiumPage = `<!doctype html><meta charset="utf-8"><title>flare</title><body><script>
const report = {};
async function run() {
  const images = [...Array(100).keys()].map(n => { const image = new Image(); image.src = '/image/' + n; return image; });
  await Promise.all(images.map(image => image.decode()));
  report.images = images.filter(image => image.naturalWidth == 3).length;

  const piece = new Uint8Array(1 << 20).map((_, i) => i % 251);
  report.upload = await (await fetch('/upload', {method: 'POST', body: new Blob(Array(50).fill(piece))})).text();

  report.events = await new Promise(ok => {
    const got = [], source = new EventSource('/events');
    source.onmessage = e => { if (got.push(e.lastEventId + ' ' + e.data) == 6) { source.close(); ok(got.join(', ')); } };
  });

  report.socket = await new Promise(ok => {
    const got = [], socket = new WebSocket(location.origin.replace('http', 'ws') + '/socket', 'echo');
    socket.onopen = () => socket.send('hello');
    socket.onmessage = e => got.push(e.data.length) < 2 ? socket.send('x'.repeat(1 << 20)) : socket.close(1000, 'bye');
    socket.onclose = e => ok([...got, e.code, e.wasClean, socket.protocol, socket.extensions].join(' '));
  });

  report.protocols = {};
  for (const e of performance.getEntries()) if (e.nextHopProtocol) report.protocols[new URL(e.name).pathname] = e.nextHopProtocol;
}
run().catch(e => report.error = String(e)).finally(() => fetch('/report', {method: 'POST', body: JSON.stringify(report)}));
</script>`

// chromiumSaw is what the page reports.
type chromiumSaw struct {
	Images                        int
	Upload, Events, Socket, Error string
	Protocols                     map[string]string
}

// chromiumSite serves the page. report gets what the page says, versions what each
// path was asked by, and from where.
func chromiumSite(report chan<- chromiumSaw, versions *sync.Map) Handler {
	mux := NewMux()
	mux.Use(func(next Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			versions.Store(r.Path(), r.Proto()+" from "+r.RemoteAddr().String())
			return next.Serve(w, r)
		})
	})
	mux.Get("/", func(w *ResponseWriter, r *Request) error { return w.Blob(200, "text/html", []byte(chromiumPage)) })
	mux.Get("/image/{n}", func(w *ResponseWriter, r *Request) error {
		var b bytes.Buffer
		png.Encode(&b, image.NewGray(image.Rect(0, 0, 3, 2)))
		return w.Blob(200, "image/png", b.Bytes())
	})
	mux.Post("/upload", func(w *ResponseWriter, r *Request) error {
		piece, got, n := make([]byte, 1<<20), make([]byte, 1<<20), 0
		for i := range piece {
			piece[i] = byte(i % 251)
		}
		for {
			switch _, err := io.ReadFull(r.Body(), got); {
			case err == io.EOF:
				return w.Text(200, fmt.Sprint(n))
			case err != nil:
				return err
			case !bytes.Equal(got, piece):
				return w.Text(400, fmt.Sprintf("MiB %d is not what was sent", n))
			}
			n++
		}
	})
	mux.Get("/events", func(w *ResponseWriter, r *Request) error {
		s, err := w.EventStream()
		if err != nil {
			return err
		}
		last, _ := strconv.Atoi(s.LastEventID())
		for i := last + 1; i <= last+3; i++ { // then the browser comes back for more
			if err := s.Send(ServerSentEvent{ID: fmt.Sprint(i), Data: strings.Repeat("e", i), Retry: time.Millisecond}); err != nil {
				return err
			}
		}
		return nil
	})
	mux.Handle("GET /socket", &WebSocketHandler{
		WebSocketOptions: WebSocketOptions{MaxMessageBytes: 2 << 20, Compression: CompressionOn, Subprotocols: []string{"echo"}},
		OnMessage:        func(ws *WebSocket, kind MessageKind, p []byte) error { return ws.Write(context.Background(), kind, p) },
	})
	mux.Post("/report", func(w *ResponseWriter, r *Request) error {
		var saw chromiumSaw
		text, err := r.Bytes()
		if err == nil {
			err = json.Unmarshal(text, &saw)
		}
		if err != nil {
			saw.Error = err.Error()
		}
		report <- saw
		return w.Text(200, "thanks")
	})
	return mux
}

// Chromium has all of a page by HTTP/2, on one connection: a hundred images, an upload
// of 50 MiB, events and a WebSocket.
func TestHTTP2Chromium(t *testing.T) {
	t.Parallel()
	path, _, _ := clientProgram(t, "chromium", "chromium-browser", "google-chrome")
	var versions sync.Map
	report := make(chan chromiumSaw, 1)
	addr := startTLSServer(t, &Server{
		Handler: chromiumSite(report, &versions), MaxBodyBytes: 64 << 20, Logger: quietLogger(),
	})
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server", "--ignore-certificate-errors",
		"--remote-debugging-port=0", "--user-data-dir="+filepath.Join(profile, "profile"), "https://"+addr+"/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		os.RemoveAll(profile)
	})
	var saw chromiumSaw
	select {
	case saw = <-report:
	case <-time.After(2 * patience):
		t.Fatal("the page has not reported")
	}
	if saw.Error != "" || saw.Images != 100 || saw.Upload != "50" {
		t.Errorf("%d images, %q MiB uploaded, %s", saw.Images, saw.Upload, saw.Error)
	}
	if want := "1 e, 2 ee, 3 eee, 4 eeee, 5 eeeee, 6 eeeeee"; saw.Events != want {
		t.Errorf("events %q", saw.Events)
	}
	if want := "5 1048576 1000 true echo permessage-deflate"; !strings.HasPrefix(saw.Socket, want) {
		t.Errorf("WebSocket %q", saw.Socket)
	}
	for i := range 100 {
		if at := fmt.Sprint("/image/", i); saw.Protocols[at] != "h2" {
			t.Errorf("%s came by %q", at, saw.Protocols[at])
		}
	}
	if saw.Protocols["/"] != "h2" || saw.Protocols["/upload"] != "h2" {
		t.Errorf("by the browser's word: %v", saw.Protocols)
	}
	var first any
	versions.Range(func(path, version any) bool {
		if first == nil {
			first = version
		}
		if version != first || !strings.HasPrefix(version.(string), "HTTP/2.0 ") {
			t.Errorf("%s was asked by %s, others by %s", path, version, first)
		}
		return true
	})
	if _, ok := versions.Load("/socket"); !ok {
		t.Error("no WebSocket came")
	}
}
