package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"flare"
)

// patience bounds every wait of a test.
const patience = 30 * time.Second

// startStore serves an empty store of that size until the test ends, and returns
// the address.
func startStore(t testing.TB, bytesMax int64) (addr string, st *store) {
	t.Helper()
	loop, err := flare.NewLoop(nil)
	if err != nil {
		t.Fatal(err)
	}
	st = newStore(loop, bytesMax)
	ln, err := serve(loop, netip.MustParseAddrPort("127.0.0.1:0"), st, &flare.ConnOptions{MaxInputBytes: commandBytesMax, Inline: true})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- loop.Run(t.Context()) }()
	t.Cleanup(func() {
		loop.Close()
		<-ended
	})
	return ln.Addr().String(), st
}

// A client is a connection that sends bytes as they are.
type client struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &client{conn, t, bufio.NewReader(conn)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// want fails unless s comes next.
func (c *client) want(s string) {
	c.t.Helper()
	got := make([]byte, len(s))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != s {
		c.t.Fatalf("read %.200q, %v; want %.200q", got[:n], err, s)
	}
}

// commandTests are run one after the other on one store.
var commandTests = []struct{ command, reply string }{
	{"PING", "+PONG\r\n"},
	{"ping hello", "$5\r\nhello\r\n"},
	{"PING a b", "-ERR wrong number of arguments\r\n"},
	{"ECHO hello", "$5\r\nhello\r\n"},
	{"NONSENSE", "-ERR unknown command\r\n"},
	{"ANAMETHATISLONGERTHANANY", "-ERR unknown command\r\n"},
	{"GET", "-ERR wrong number of arguments\r\n"},
	{"GET k", "$-1\r\n"},
	{"SET k v", "+OK\r\n"},
	{"gEt k", "$1\r\nv\r\n"},
	{"SET k", "-ERR wrong number of arguments\r\n"},
	{"SET k w NX", "$-1\r\n"},
	{"SET k w XX", "+OK\r\n"},
	{"SET other w XX", "$-1\r\n"},
	{"SET k w NX XX", "-ERR syntax error\r\n"},
	{"SET k w EX", "-ERR syntax error\r\n"},
	{"SET k w EX 0", "-ERR invalid expire time\r\n"},
	{"SET k w EX -5", "-ERR invalid expire time\r\n"},
	{"SET k w EX x", "-ERR value is not an integer or out of range\r\n"},
	{"SET k w PX 99999999999999999", "-ERR invalid expire time\r\n"},
	{"SET k w EX 10 PX 10", "-ERR syntax error\r\n"},
	{"TTL k", ":-1\r\n"},
	{"TTL none", ":-2\r\n"},
	{"SET k w EX 100", "+OK\r\n"},
	{"TTL k", ":100\r\n"},
	{"SET k w KEEPTTL", "+OK\r\n"},
	{"TTL k", ":100\r\n"},
	{"SET k w", "+OK\r\n"},
	{"TTL k", ":-1\r\n"},
	{"EXPIRE k 50", ":1\r\n"},
	{"TTL k", ":50\r\n"},
	{"PERSIST k", ":1\r\n"},
	{"PERSIST k", ":0\r\n"},
	{"EXPIRE none 50", ":0\r\n"},
	{"EXPIRE k 9223372036854775807", "-ERR invalid expire time\r\n"},
	{"EXPIRE k -1", ":1\r\n"},
	{"EXISTS k", ":0\r\n"},
	{"INCR n", ":1\r\n"},
	{"EXPIRE n 100", ":1\r\n"},
	{"INCRBY n 41", ":42\r\n"},
	{"TTL n", ":100\r\n"},
	{"DECR n", ":41\r\n"},
	{"GET n", "$2\r\n41\r\n"},
	{"INCRBY n 1.5", "-ERR value is not an integer or out of range\r\n"},
	{"SET n 9223372036854775807", "+OK\r\n"},
	{"INCR n", "-ERR increment or decrement would overflow\r\n"},
	{"SET n -9223372036854775808", "+OK\r\n"},
	{"DECR n", "-ERR increment or decrement would overflow\r\n"},
	{"SET n 007", "+OK\r\n"},
	{"INCR n", "-ERR value is not an integer or out of range\r\n"},
	{"SET a 1", "+OK\r\n"},
	{"SET b 2", "+OK\r\n"},
	{"EXISTS a b c a", ":3\r\n"},
	{"DBSIZE", ":3\r\n"},
	{"DEL a b c", ":2\r\n"},
	{"SELECT 0", "+OK\r\n"},
	{"SELECT 1", "-ERR DB index is out of range\r\n"},
	{"CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"},
	{"CONFIG GET nonsense", "*0\r\n"},
	{"CONFIG SET a b", "-ERR unknown subcommand\r\n"},
	{"COMMAND DOCS", "*0\r\n"},
	{"FLUSHALL", "+OK\r\n"},
	{"DBSIZE", ":0\r\n"},
}

func TestCommands(t *testing.T) {
	for name, form := range map[string]func(string) string{
		"inline": func(s string) string { return s + "\r\n" },
		"RESP":   func(s string) string { return request(strings.Fields(s)...) },
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := startStore(t, 1<<20)
			c := dial(t, addr)
			var all, replies strings.Builder
			for _, test := range commandTests {
				c.send(form(test.command))
				got := make([]byte, len(test.reply))
				if _, err := io.ReadFull(c.r, got); err != nil || string(got) != test.reply {
					t.Fatalf("%s: %q, %v; want %q", test.command, got, err, test.reply)
				}
				all.WriteString(form(test.command))
				replies.WriteString(test.reply)
			}
			c.send(all.String()) // and pipelined
			c.want(replies.String())
			c.send(form("QUIT") + form("PING"))
			c.want("+OK\r\n")
			if rest, err := io.ReadAll(c.r); len(rest) > 0 || err != nil {
				t.Errorf("after QUIT: %q, %v", rest, err)
			}
		})
	}
}

// However a stream of commands is cut, the replies are the same.
func TestCutAnywhere(t *testing.T) {
	addr, _ := startStore(t, 1<<20)
	in := request("SET", "key", "value") + "GET key\r\n" + request("DEL", "key") + "\r\n" + request("GET", "key") + "PING\n"
	const out = "+OK\r\n$5\r\nvalue\r\n:1\r\n$-1\r\n+PONG\r\n"
	c := dial(t, addr)
	for cut := range in {
		c.send(in[:cut])
		c.send(in[cut:])
		c.want(out)
	}
	for i := range in {
		c.send(in[i : i+1])
	}
	c.want(out)
}

// A client that cannot be understood is told so, and is not listened to further.
func TestProtocolErrors(t *testing.T) {
	addr, _ := startStore(t, 1<<20)
	for in, want := range map[string]string{
		"*x\r\n":                              "-ERR Protocol error: invalid multibulk length\r\n",
		"*1000000000\r\n$1\r\nx\r\n":          "-ERR Protocol error: invalid multibulk length\r\n",
		"*1\r\n$2147483648\r\n":               "-ERR Protocol error: invalid bulk length\r\n",
		"PING\r\n*1\r\nPING\r\n":              "+PONG\r\n-ERR Protocol error: expected '$'\r\n",
		strings.Repeat("x", 2*inlineBytesMax): "-ERR Protocol error: too big inline request\r\n",
	} {
		c := dial(t, addr)
		c.send(in + "PING\r\n")
		if all, err := io.ReadAll(c.r); string(all) != want || err != nil {
			t.Errorf("%.30q: %q, %v; want %q", in, all, err, want)
		}
	}
}

// A client that sends and does not read holds up itself alone; what it asked for
// comes when it reads.
func TestBackpressure(t *testing.T) {
	addr, _ := startStore(t, 4<<20)
	value := strings.Repeat("v", 256<<10)
	greedy, other := dial(t, addr), dial(t, addr)
	greedy.send(request("SET", "big", value))
	greedy.want("+OK\r\n")
	const gets = 400 // a hundred megabytes of replies
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(greedy, strings.Repeat(request("GET", "big"), gets)+request("PING"))
		sent <- err
	}()
	for i := range 100 {
		other.send(fmt.Sprintf("SET n %d\r\n", i))
		other.want("+OK\r\n")
	}
	reply := fmt.Sprintf("$%d\r\n%s\r\n", len(value), value)
	for range gets {
		greedy.want(reply)
	}
	greedy.want("+PONG\r\n")
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestMemoryBound(t *testing.T) {
	addr, st := startStore(t, 10<<10)
	c := dial(t, addr)
	value := strings.Repeat("v", 3000)
	for i := range 3 {
		c.send(request("SET", fmt.Sprint(i), value))
		c.want("+OK\r\n")
	}
	c.send(request("SET", "4", value))
	c.want("-OOM command not allowed when used memory > 'maxmemory'.\r\n")
	c.send(request("SET", "1", "small"))
	c.want("+OK\r\n")
	c.send(request("SET", "4", value))
	c.want("+OK\r\n")
	c.send("DEL 0 1 2 3 4\r\nDBSIZE\r\n")
	c.want(":4\r\n:0\r\n")
	st.lock()
	defer st.unlock()
	if st.bytes != 0 {
		t.Errorf("%d bytes in an empty store", st.bytes)
	}
}

// A key is gone when its time is over, and not before; its memory too, without
// being asked for.
func TestExpiry(t *testing.T) {
	addr, st := startStore(t, 1<<20)
	c := dial(t, addr)
	start := time.Now()
	c.send("SET a 1 PX 300\r\nSET b 1 EX 100\r\nSET c 1\r\nPEXPIRE c 300\r\nSET d 1 PX 300\r\nPERSIST d\r\n")
	c.want("+OK\r\n+OK\r\n+OK\r\n:1\r\n+OK\r\n:1\r\n")
	c.send("GET a\r\n")
	line, err := c.r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if line == "$-1\r\n" && time.Since(start) < 300*time.Millisecond {
		t.Error("gone too early")
	} else if line == "$1\r\n" {
		c.want("1\r\n")
	}
	left := func() int {
		st.lock()
		defer st.unlock()
		return len(st.entries)
	}
	for deadline := time.Now().Add(patience); left() != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d keys are left, want 2", left())
		}
	}
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("forgotten after %v", took)
	}
	c.send("EXISTS a b c d\r\nFLUSHALL\r\n")
	c.want(":2\r\n+OK\r\n")
}

// program returns the path of a program of redis-tools, or skips.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("no " + name + " here; Debian has it in redis-tools")
	}
	return path
}

func TestRedisCLI(t *testing.T) {
	cli := program(t, "redis-cli")
	addr, _ := startStore(t, 4<<20)
	_, port, _ := net.SplitHostPort(addr)
	for _, test := range []struct{ args, in, want string }{
		{"ping", "", "PONG\n"},
		{"set greeting hello EX 60", "", "OK\n"},
		{"get greeting", "", "hello\n"},
		{"ttl greeting", "", "60\n"},
		{"-x set binary", "\x00\r\n\xff", "OK\n"},
		{"get binary", "", "\x00\r\n\xff\n"},
		{"incr n", "", "1\n"},
		{"del greeting n none", "", "2\n"},
		{"get greeting", "", "\n"},
		{"--no-raw get greeting", "", "(nil)\n"},
		{"--no-raw incr binary", "", "(error) ERR value is not an integer or out of range\n"},
		{"", "set a 1\nincr a\nget a\nnonsense\n", "OK\n2\n2\nERR unknown command\n\n"},
		{"--pipe", strings.Repeat(request("INCR", "piped"), 10_000), "All data transferred. Waiting for the last reply...\nLast reply received from server.\nerrors: 0, replies: 10000\n"},
		{"get piped", "", "10000\n"},
	} {
		cmd := exec.Command(cli, append([]string{"-p", port}, strings.Fields(test.args)...)...)
		cmd.Stdin = strings.NewReader(test.in)
		out, err := cmd.CombinedOutput()
		if string(out) != test.want || err != nil && !strings.HasPrefix(test.want, "(error)") {
			t.Errorf("redis-cli %s: %q, %v; want %q", test.args, out, err, test.want)
		}
	}
}

func TestRedisBenchmark(t *testing.T) {
	bench := program(t, "redis-benchmark")
	addr, st := startStore(t, 64<<20)
	_, port, _ := net.SplitHostPort(addr)
	for _, args := range []string{
		"-n 20000 -c 64 -P 16 -t ping_inline,ping_mbulk,set,get,incr --csv",
		"-n 20000 -c 64 -P 16 -r 1000 -t set --csv",
		"-n 2000 -c 8 -d 100000 -t set,get --csv",
	} {
		out, err := exec.Command(bench, append([]string{"-p", port}, strings.Fields(args)...)...).CombinedOutput()
		if err != nil || strings.Contains(strings.ToLower(string(out)), "error") {
			t.Errorf("redis-benchmark %s: %v\n%s", args, err, out)
		}
		if lines := strings.Count(string(out), "\n"); lines < 2 {
			t.Errorf("redis-benchmark %s: %q", args, out)
		}
	}
	st.lock()
	defer st.unlock()
	if n := len(st.entries); n < 500 || n > 1003 {
		t.Errorf("%d keys", n)
	}
	if e := st.get([]byte("counter:__rand_int__")); e == nil || string(e.value) != "20000" {
		t.Errorf("the counter is %+v", e)
	}
}
