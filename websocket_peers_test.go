package flare

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// This file has peers of other projects talk to flare, as clients and as
// servers. A peer that this machine does not have is skipped.

// wsInterop runs a peer of another project against an echo server.
func wsInterop(t *testing.T, name string, command func(url string) *exec.Cmd) {
	t.Helper()
	for style, h := range wsStyles(WebSocketOptions{Compression: CompressionTakeover}) {
		url := "ws" + strings.TrimPrefix(TestServer(t, &Server{Handler: h}), "http")
		out, err := command(url).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "all good") {
			t.Errorf("%s, %s: %v\n%s", name, style, err, out)
		}
	}
}

const wsNodePeer = `
const WebSocket = require('ws');
const url = process.argv[1];
async function run(options) {
  const ws = new WebSocket(url, options);
  await new Promise((ok, bad) => { ws.on('open', ok); ws.on('error', bad); });
  for (let size of [0, 1, 125, 126, 1000, 65535, 65536, 300000]) {
    const text = 'aé'.repeat(size / 2), data = Buffer.alloc(size, size);
    for (const sent of [text, data]) {
      const got = await new Promise(ok => { ws.once('message', (m, binary) => ok([m, binary])); ws.send(sent); });
      if (got[1] !== Buffer.isBuffer(sent) || Buffer.compare(got[0], Buffer.from(sent))) throw new Error('echo of ' + size);
    }
  }
  await new Promise(ok => { ws.once('pong', ok); ws.ping('x'); });
  const code = await new Promise(ok => { ws.once('close', ok); ws.close(4321, 'bye'); });
  if (code !== 4321) throw new Error('closed with ' + code);
}
(async () => {
  for (const perMessageDeflate of [false, true, {threshold: 0}, {serverMaxWindowBits: 9, threshold: 0}, {clientMaxWindowBits: 9, threshold: 0}, {serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: 0}])
    await run({perMessageDeflate});
  console.log('all good');
})().catch(e => { console.error(e); process.exit(1); });
`

func TestNodePeer(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node")
	}
	modules := os.Getenv("NODE_PATH")
	if modules == "" {
		root, _ := exec.Command("npm", "root", "-g").Output() // without npm there is no such folder
		modules = strings.TrimSpace(string(root))
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(node, args...)
		cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
		return cmd
	}
	if run("-e", "require('ws')").Run() != nil {
		t.Skip("node has no module ws: npm install -g ws, or NODE_PATH names a folder that has it")
	}
	wsInterop(t, "node", func(url string) *exec.Cmd { return run("-e", wsNodePeer, url) })
	wsInteropServer(t, run("-e", wsNodeServer))
}

const wsNodeServer = `
const { WebSocketServer } = require('ws');
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', maxPayload: 1 << 24, perMessageDeflate: { threshold: 0, serverMaxWindowBits: 12 } });
server.on('listening', () => console.log(server.address().port));
server.on('connection', ws => ws.on('message', (m, binary) => ws.send(m, { binary })));
`

const wsPythonPeer = `
import asyncio, sys, websockets
async def run(url, **options):
    async with websockets.connect(url, max_size=None, **options) as ws:
        for size in [0, 1, 125, 126, 1000, 65535, 65536, 300000]:
            for sent in ["aé" * (size // 2), bytes([size % 256]) * size]:
                await ws.send(sent)
                assert await ws.recv() == sent, size
        await (await ws.ping(b"x"))
async def main():
    for compression in [None, "deflate"]:
        await run(sys.argv[1], compression=compression)
    print("all good")
asyncio.run(main())
`

func TestPythonPeer(t *testing.T) {
	t.Parallel()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import websockets").Run() != nil {
			continue
		}
		wsInterop(t, "python", func(url string) *exec.Cmd {
			script := filepath.Join(t.TempDir(), "peer.py")
			os.WriteFile(script, []byte(wsPythonPeer), 0o600)
			return exec.Command(python, script, url)
		})
		wsInteropServer(t, exec.Command(python, "-u", "-c", wsPythonServer))
		return
	}
	t.Skip("python3 has no module websockets")
}

const wsPythonServer = `
import asyncio, websockets
async def echo(ws, path=None):
    async for message in ws:
        await ws.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0, max_size=1 << 24) as server:
        print(server.sockets[0].getsockname()[1])
        await asyncio.Future()
asyncio.run(main())
`

// wsInteropServer has a client talk to the echo server of another project,
// which prints its port.
func wsInteropServer(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s", log.String())
		}
	}()
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("no port: %v", err)
	}
	ctx := wsPatience(t)
	for _, mode := range []Compression{CompressionOff, CompressionOn, CompressionTakeover} {
		ws, resp, err := DialWebSocket(ctx, "ws://127.0.0.1:"+strings.TrimSpace(port)+"/", &WebSocketDialOptions{
			WebSocketOptions: WebSocketOptions{Compression: mode}})
		if err != nil {
			t.Fatal(err)
		}
		if agreed := resp.Header.Get(fieldWSExtensions); strings.HasPrefix(agreed, deflateName) != (mode != CompressionOff) {
			t.Errorf("mode %d: agreed on %q", mode, agreed)
		}
		for _, size := range []int{0, 1, 125, 126, 1000, 65535, 65536, 300_000} {
			for kind, sent := range map[MessageKind][]byte{TextMessage: bytes.Repeat([]byte("aé"), size/3), BinaryMessage: wsRandom(size)} {
				if err := ws.Write(ctx, kind, sent); err != nil {
					t.Fatal(err)
				}
				if got, p, err := ws.Read(ctx); err != nil || got != kind || !bytes.Equal(p, sent) {
					t.Fatalf("mode %d: %v of %d bytes came back as %v of %d, %v", mode, kind, len(sent), got, len(p), err)
				}
			}
		}
		if err := ws.Ping(ctx, []byte("x")); err != nil {
			t.Error(err)
		}
		if err := ws.Close(4321, "bye"); err != nil {
			t.Errorf("mode %d: close: %v", mode, err)
		}
	}
}
