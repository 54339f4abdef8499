package flare

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// operations is OPERATIONS.md.
func operations(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var settingRow = regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.+?) \\| (.+?) \\|$")

// OPERATIONS.md has each setting of a Server and of a Client, and where LIMITS.md has a
// default the same.
func TestLimitsOperations(t *testing.T) {
	text := operations(t)
	limits, err := os.ReadFile("LIMITS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []struct {
		heading, limits string
		of              reflect.Type
	}{{"Settings of a server", "Of a server", reflect.TypeFor[Server]()}, {"Settings of a client", "Of a client", reflect.TypeFor[Client]()}} {
		defaults := make(map[string]string)
		for line := range strings.Lines(limitsSection(string(limits), table.limits)) {
			if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| `") && len(cells) == 4 {
				defaults[strings.Trim(cells[0], "| `")] = cells[2]
			}
		}
		rows := make(map[string]string)
		for _, row := range settingRow.FindAllStringSubmatch(limitsSection(text, table.heading), -1) {
			rows[row[1]] = row[2]
			if want, ok := defaults[row[1]]; ok && row[2] != want {
				t.Errorf("%s: the default of %s is %s, LIMITS.md says %s", table.heading, row[1], row[2], want)
			}
		}
		for _, field := range reflect.VisibleFields(table.of) {
			if _, ok := rows[field.Name]; field.IsExported() && !ok {
				t.Errorf("OPERATIONS.md has no row for %s.%s in %q", table.of.Name(), field.Name, table.heading)
			}
			delete(rows, field.Name)
		}
		for name := range rows {
			t.Errorf("OPERATIONS.md has a row for %s.%s, which is not there", table.of.Name(), name)
		}
	}
}

// The figures of OPERATIONS.md are those of bench/results.
func TestOperationsFigures(t *testing.T) {
	t.Parallel()
	text := operations(t)
	figure := func(file, workload, target, name string) float64 {
		var results struct {
			Rows []struct {
				Workload, Target string
				Median           map[string]float64
			}
			Bounds []struct {
				Workload, Target string
				Figures          map[string]float64
			}
		}
		p, err := os.ReadFile(filepath.Join("bench", "results", file+".json"))
		if err == nil {
			err = json.Unmarshal(p, &results)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range results.Rows {
			if row.Workload == workload && row.Target == target {
				return row.Median[name]
			}
		}
		for _, row := range results.Bounds {
			if row.Workload == workload && row.Target == target {
				return row.Figures[name]
			}
		}
		t.Errorf("%s has no %s of %s", file, workload, target)
		return 0
	}
	thousands := func(f float64) string {
		return regexp.MustCompile(`(\d)(\d{3})\b`).ReplaceAllString(fmt.Sprintf("%.0f", f), "$1,$2")
	}
	for _, want := range []string{
		thousands(figure("throughput", "throughput", "flare", "per_second")) + " a second, " + fmt.Sprintf("%.1f µs of CPU each", figure("throughput", "throughput", "flare", "cpu_us")),
		thousands(figure("tls", "tls", "flare", "per_second")) + " a second, " + fmt.Sprintf("%.1f µs of CPU each", figure("tls", "tls", "flare", "cpu_us_each")),
		fmt.Sprintf("%.0f µs of CPU each: ", figure("tls", "handshakes", "flare", "cpu_us_each")) + thousands(figure("tls", "handshakes", "flare", "per_cpu_second")) + " for a second of CPU",
		fmt.Sprintf("| %.0f bytes of RSS |", figure("idle", "idle", "flare", "rss_bytes_each")),
		"| " + thousands(figure("tls", "idle-tls", "flare", "rss_bytes_each")) + " bytes of RSS |",
		fmt.Sprintf("| %.0f bytes of RSS |", figure("websocket", "ws-idle", "flare", "rss_bytes_each")),
		fmt.Sprintf("| %.1f MB of RSS |", figure("idle", "idle", "flare", "rss_empty_bytes")/1e6),
		fmt.Sprintf("| %.1f µs of CPU |", figure("websocket", "ws-broadcast", "flare-ws", "cpu_us_per_delivery")),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("OPERATIONS.md does not say %q", want)
		}
	}
}

// snippet is the block in a section of OPERATIONS.md, with other addresses in place of
// those that it has.
func snippet(t *testing.T, heading string, addresses ...string) string {
	t.Helper()
	_, block, ok := strings.Cut(limitsSection(operations(t), heading), "\n```")
	_, block, _ = strings.Cut(block, "\n")
	block, _, end := strings.Cut(block, "\n```")
	if !ok || !end {
		t.Fatalf("OPERATIONS.md has no block for %s", heading)
	}
	for i := 0; i < len(addresses); i += 2 {
		if !strings.Contains(block, addresses[i]) {
			t.Errorf("the block for %s has no %s", heading, addresses[i])
		}
		block = strings.ReplaceAll(block, addresses[i], addresses[i+1])
	}
	return block + "\n"
}

// operationsServer has who the client is at /, and an echo at /ws.
func operationsServer(t *testing.T, set func(*Server)) string {
	s := &Server{Logger: quietLogger(), TrustedProxies: []string{"loopback"}, Handler: routes{
		"/": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			return w.Text(200, fmt.Sprint(r.ClientAddr().Addr(), " ", r.RemoteAddr().Addr(), " ", r.Scheme(), " ", r.ClientHost()))
		}),
		"/ws": wsEcho(WebSocketOptions{}),
	}}
	if set != nil {
		set(s)
	}
	return startServer(t, s)
}

// checkConfiguration runs the program's own check of a configuration.
func checkConfiguration(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
}

// passes asks through a proxy, once it is there, for a page and a WebSocket.
func passes(t *testing.T, addr, want string) {
	t.Helper()
	var last string
	eventually(t, addr+" answers "+want, func() bool {
		resp, err := http.Get("http://" + addr + "/")
		if err != nil {
			last = err.Error()
			return false
		}
		defer resp.Body.Close()
		p, _ := io.ReadAll(resp.Body)
		last = string(p)
		return last == want
	})
	wsDialWith(t, "ws://"+addr+"/ws", nil)
}

// The configuration for nginx is one, and requests and WebSockets pass through it.
func TestOperationsNginx(t *testing.T) {
	t.Parallel()
	path, addr, _ := clientProgram(t, "nginx")
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	conf := filepath.Join(dir, "nginx.conf")
	text := "daemon off; master_process off; pid " + dir + "/pid; error_log stderr crit;\nevents { worker_connections 512; }\nhttp {\naccess_log off;\n" +
		"client_body_temp_path " + dir + "/b; proxy_temp_path " + dir + "/p; fastcgi_temp_path " + dir + "/f; uwsgi_temp_path " + dir + "/u; scgi_temp_path " + dir + "/s;\n" +
		snippet(t, "nginx", "127.0.0.1:8080", operationsServer(t, nil), "listen 8000", "listen "+addr) + "}\n"
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	checkConfiguration(t, path, "-t", "-p", dir, "-c", conf)
	clientStart(t, addr, path, "-p", dir, "-c", conf)
	passes(t, addr, "127.0.0.1 127.0.0.1 http "+addr)
}

// The configuration for haproxy is one, and requests pass by either way: with fields,
// and with a PROXY header.
func TestOperationsHaproxy(t *testing.T) {
	t.Parallel()
	path, addr, _ := clientProgram(t, "haproxy")
	_, byteAddr, _ := clientProgram(t, "haproxy")
	web, byPROXY := operationsServer(t, nil), operationsServer(t, func(s *Server) { s.ProxyProtocol = true })
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := snippet(t, "haproxy", "127.0.0.1:8080", web, "127.0.0.1:8081", byPROXY, "127.0.0.1:8000", addr, "127.0.0.1:8001", byteAddr)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	checkConfiguration(t, path, "-c", "-f", conf)
	clientStart(t, addr, path, "-db", "-f", conf)
	passes(t, addr, "127.0.0.1 127.0.0.1 http "+addr)
	passes(t, byteAddr, "127.0.0.1 127.0.0.1 http "+byteAddr)
}

// The configuration for Caddy is one, and requests and WebSockets pass through it.
func TestOperationsCaddy(t *testing.T) {
	t.Parallel()
	path, addr, _ := clientProgram(t, "caddy")
	dir := t.TempDir()
	conf := filepath.Join(dir, "Caddyfile")
	text := "{\n\tadmin off\n}\n" + snippet(t, "Caddy", "127.0.0.1:8080", operationsServer(t, nil), "example.com", "http://"+addr)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	home := append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd := exec.Command(path, "run", "--config", conf, "--adapter", "caddyfile")
	cmd.Env = home
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	passes(t, addr, "127.0.0.1 127.0.0.1 http "+addr)
}

// The commands for keys of session tickets put a new one before the last two.
func TestOperationsTicketKeys(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh on this machine")
	}
	file := filepath.Join(t.TempDir(), "ticket-keys")
	before := strings.Repeat("k", 32)
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{64, 96, 96} {
		cmd := exec.Command(sh, "-ec", snippet(t, "TLS"))
		cmd.Dir = filepath.Dir(file)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%v\n%s", err, out)
		}
		keys, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) != want || string(keys[32:]) != before[:want-32] || string(keys[:32]) == before[:32] {
			t.Errorf("%d octets, %q behind %q", len(keys), keys, before)
		}
		before = string(keys)
	}
}

// verifyUnits has systemd's own check of units, each with its text.
func verifyUnits(t *testing.T, units map[string]string) {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze on this machine")
	}
	dir, args := t.TempDir(), []string{"verify", "--man=no"}
	for name, text := range units {
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, unit)
	}
	cmd := exec.Command(path, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	for name := range units {
		if strings.Contains(string(out), name) {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	if err != nil {
		t.Skipf("systemd-analyze verify cannot run here: %v\n%s", err, out)
	}
}

// The unit for systemd is one.
func TestOperationsSystemd(t *testing.T) {
	t.Parallel()
	verifyUnits(t, map[string]string{"flare.service": snippet(t, "systemd")})
}

// So are those of examples/systemd, once the program is where they have it.
func TestOperationsSystemdExample(t *testing.T) {
	t.Parallel()
	const program = "/usr/local/bin/flare-app"
	units := make(map[string]string)
	for _, name := range []string{"flare-app.service", "flare-app.socket"} {
		text, err := os.ReadFile(filepath.Join("examples", "systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		units[name] = strings.Replace(string(text), "ExecStart="+program+" ", "ExecStart="+os.Args[0]+" ", 1)
	}
	if strings.Contains(units["flare-app.service"], program) {
		t.Errorf("the service does not begin with %s", program)
	}
	verifyUnits(t, units)
}

// The configurations for programs that are hardly ever on a machine of ours are checked
// where they are, and in any case as YAML.
func TestOperationsOthers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		heading, name string
		check         []string // the program, and what is before the file
	}{
		{"Envoy", "envoy.yaml", []string{"envoy", "--mode", "validate", "-c"}},
		{"Envoy", "envoy.yaml", []string{"python3", "-c", pythonYAML}},
		{"Kubernetes", "flare.yaml", []string{"python3", "-c", pythonYAML}},
	} {
		t.Run(row.heading+" by "+row.check[0], func(t *testing.T) {
			path, err := exec.LookPath(row.check[0])
			if err != nil {
				t.Skip("not on this machine")
			}
			file := filepath.Join(t.TempDir(), row.name)
			if err := os.WriteFile(file, []byte(snippet(t, row.heading)), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(path, append(row.check[1:len(row.check):len(row.check)], file)...)
			switch out, err := cmd.CombinedOutput(); {
			case strings.Contains(string(out), "No module named"):
				t.Skip("this python has no YAML")
			case err != nil:
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// pythonYAML fails for a file that is no YAML, or has a key twice.
const pythonYAML = `
import sys, yaml
class Strict(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)
assert isinstance(yaml.load(open(sys.argv[1]), Strict), dict)
`
