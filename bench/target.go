//go:build linux

package main

// This file says what is measured: one target value per server. It knows how each is built and
// started, and nothing of workloads or results. A new target is a new value in allTargets.

import (
	"bytes"
	"debug/buildinfo"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

//go:embed floor.c
var floorSource []byte

//go:embed floor_ws.c
var floorWSSource []byte

//go:embed load.c
var loadSource []byte

//go:embed load.h
var loadHeader []byte

// A target is one server under test.
type target struct {
	name string
	// build makes the program and says which version of what it is. errAbsent: not on this
	// machine, skipped with that reason; any other error ends the run.
	build func(b *builder) (program, version string, err error)
	// command gives the command line for one start; nil: it speaks HTTP/2 alone, see http2Commands.
	command func(s start) ([]string, error)
	ws      wsSpeaking
}

// wsSpeaking says whether a target serves WebSockets.
type wsSpeaking uint8

const (
	wsNot  wsSpeaking = iota
	wsToo             // beside /plaintext
	wsOnly            // and is asked for nothing else
)

// start is what a command line depends on.
type start struct {
	program     string
	addr        string // 127.0.0.1:port, free a moment ago
	contentType string
	procs       int    // GOMAXPROCS and event loops
	dir         string // an empty directory of this start's own
}

func (s start) port() string {
	_, port, _ := net.SplitHostPort(s.addr)
	return port
}

type errAbsent string

func (e errAbsent) Error() string { return string(e) }

const (
	nameFlare   = "flare"
	nameFloor   = "floor"
	nameNginx   = "nginx"
	nameFast    = "fasthttp"
	nameNetHTTP = "net/http"
	nameGnet    = "gnet"
	nameWaits   = "flare-waits"
	nameFloorWS = "floor-ws"
	nameFlareWS = "flare-ws"
	nameGWS     = "gws"
)

func allTargets() []*target {
	return []*target{
		{nameFloor, (*builder).buildFloor, func(s start) ([]string, error) {
			return []string{s.program, s.port(), s.contentType}, nil
		}, wsNot},
		{nameFlare, (*builder).buildFlare, func(s start) ([]string, error) {
			return []string{s.program, "-addr", s.addr, "-loops", fmt.Sprint(s.procs)}, nil
		}, wsToo},
		{nameWaits, (*builder).buildWaits, loopsCommand, wsNot},
		{nameGnet, goTarget("gnet"), loopsCommand, wsNot},
		{nameNginx, (*builder).findNginx, nginxCommand, wsNot},
		{nameFast, goTarget("fasthttp"), peerCommand, wsNot},
		{nameNetHTTP, goTarget("nethttp"), peerCommand, wsNot},
		{nameFloorWS, (*builder).buildFloorWS, func(s start) ([]string, error) {
			return []string{s.program, s.port()}, nil
		}, wsOnly},
		{nameFlareWS, goTarget("flarews"), loopsCommand, wsOnly},
		{nameGWS, goTarget("gws"), peerCommand, wsOnly},
		{"gorilla", goTarget("gorilla"), peerCommand, wsOnly},
		{"coder", goTarget("coder"), peerCommand, wsOnly},
		{"gobwas", goTarget("gobwas"), peerCommand, wsOnly},
		{nameNghttpd, findServer("nghttpd", "nghttp2-server", "--version"), nil, wsNot},
		{nameH2O, findServer("h2o", "h2o", "--version"), nil, wsNot},
	}
}

func loopsCommand(s start) ([]string, error) {
	return []string{s.program, "-addr", s.addr, "-type", s.contentType, "-loops", fmt.Sprint(s.procs)}, nil
}

func peerCommand(s start) ([]string, error) {
	return []string{s.program, "-addr", s.addr, "-type", s.contentType}, nil
}

// A builder compiles into a directory of the run's own.
type builder struct {
	root string // flare's root directory
	dir  string
}

func (b *builder) run(dir string, argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return nil
}

func (b *builder) buildGo(dir, pkg, name string) (program, version string, err error) {
	program = filepath.Join(b.dir, name)
	if err := b.run(dir, "go", "build", "-o", program, pkg); err != nil {
		return "", "", err
	}
	return program, goVersion(program), nil
}

// goVersion names the Go release and the direct peer that were linked in.
func goVersion(program string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return ""
	}
	for _, dep := range info.Deps {
		if filepath.Base(filepath.Dir(dep.Path)) == filepath.Base(program) || filepath.Base(dep.Path) == filepath.Base(program) {
			return dep.Path + " " + dep.Version
		}
	}
	return info.GoVersion
}

func goTarget(name string) func(*builder) (string, string, error) {
	return func(b *builder) (string, string, error) {
		return b.buildGo(filepath.Join(b.root, "bench"), "./targets/"+name, name)
	}
}

// buildWaits gives targets/flare a name of its own: flare's is examples/server.
func (b *builder) buildWaits() (program, version string, err error) {
	return b.buildGo(filepath.Join(b.root, "bench"), "./targets/flare", nameWaits)
}

func (b *builder) buildFlare() (program, version string, err error) {
	if _, err := os.Stat(filepath.Join(b.root, "examples", "server")); err != nil {
		return "", "", errAbsent("no examples/server in " + b.root)
	}
	program, version, err = b.buildGo(b.root, "./examples/server", "flare")
	if err != nil {
		return "", "", err
	}
	if commit := firstLine("git", "-C", b.root, "describe", "--always", "--dirty"); commit != "" {
		version = "flare " + commit + ", " + version
	}
	return program, version, nil
}

func (b *builder) buildC(name string, source []byte, more ...string) (program, version string, err error) {
	if _, err := exec.LookPath("cc"); err != nil {
		return "", "", errAbsent("no C compiler (apt-get install gcc libc6-dev)")
	}
	file := filepath.Join(b.dir, name+".c")
	program = filepath.Join(b.dir, name)
	source = bytes.Replace(source, []byte("#include \"load.h\"\n"), loadHeader, 1)
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return "", "", err
	}
	argv := append([]string{"cc", "-O2", "-Wall", "-o", program, file, "-lm"}, more...)
	if err := b.run(b.dir, argv...); err != nil {
		return "", "", err
	}
	return program, firstLine("cc", "--version"), nil
}

func (b *builder) buildFloor() (program, version string, err error) {
	return b.buildC("floor", floorSource)
}

func (b *builder) buildFloorWS() (program, version string, err error) {
	return b.buildC("floor-ws", floorWSSource)
}

func (b *builder) findNginx() (program, version string, err error) {
	program, err = exec.LookPath("nginx")
	if err != nil {
		return "", "", errAbsent("no nginx (apt-get install nginx-light)")
	}
	return program, firstLine(program, "-v"), nil
}

// nginxConfig runs nginx as one process, the harness's own child: its pid is the one whose CPU time
// counts, whatever -procs says. Temporary paths are named since the usual ones need root.
const nginxConfig = `daemon off;
master_process off;
worker_processes 1;
pid %[1]s/pid;
error_log stderr crit;
events { use epoll; worker_connections 16384; }
http {
	access_log off;
	keepalive_requests 2000000000;
	keepalive_timeout 1h;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	%[2]s
	server {
		listen %[3]s backlog=4096 %[4]s;
		%[5]s
	}
}
`

// nginx is its command line: http is for all of its configuration, listen and server for the server.
func (s start) nginx(http, listen, server string) ([]string, error) {
	file := filepath.Join(s.dir, "nginx.conf")
	err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, s.dir, http, s.addr, listen, server), 0o644)
	return []string{s.program, "-p", s.dir, "-c", file, "-e", "stderr"}, err
}

// nginxPlaintext has it answer /plaintext.
func nginxPlaintext(s start, listen string) ([]string, error) {
	return s.nginx("", listen, fmt.Sprintf(`location = /plaintext { default_type "%s"; return 200 "Hello, World!"; }`, s.contentType))
}

func nginxCommand(s start) ([]string, error) { return nginxPlaintext(s, "") }

// ---- commands from the command line ----

// commandTarget makes a target of `name=command`. Words of the command are separated by spaces, or
// quoted with ' where they contain any. Leading K=V words are its environment. {addr} and {port}
// stand for where it has to listen, {flare}, {gnet}, ... for the program built for that target.
func commandTarget(text string, program func(name string) (string, error)) (*target, error) {
	name, command, ok := strings.Cut(text, "=")
	if !ok || name == "" || strings.TrimSpace(command) == "" {
		return nil, fmt.Errorf("-cmd %q: want name=command", text)
	}
	words, err := splitWords(command)
	if err != nil {
		return nil, fmt.Errorf("-cmd %q: %w", text, err)
	}
	if !strings.Contains(command, "{addr}") && !strings.Contains(command, "{port}") {
		return nil, fmt.Errorf("-cmd %q: without {addr} or {port} the server cannot know where to listen", text)
	}
	for i, w := range words {
		words[i], err = expandPrograms(w, program)
		if err != nil {
			return nil, fmt.Errorf("-cmd %q: %w", text, err)
		}
	}
	if strings.Contains(words[0], "=") {
		// execve knows no K=V words; env replaces itself by the server, so the pid is the server's.
		words = append([]string{"env"}, words...)
	}
	return &target{
		name:  name,
		build: func(*builder) (string, string, error) { return words[0], command, nil },
		command: func(s start) ([]string, error) {
			r := strings.NewReplacer("{addr}", s.addr, "{port}", s.port())
			argv := make([]string, len(words))
			for i, w := range words {
				argv[i] = r.Replace(w)
			}
			return argv, nil
		},
	}, nil
}

var placeholder = regexp.MustCompile(`\{[a-z/]+\}`)

func expandPrograms(word string, program func(name string) (string, error)) (string, error) {
	var failed error
	word = placeholder.ReplaceAllStringFunc(word, func(p string) string {
		name := strings.Trim(p, "{}")
		if name == "addr" || name == "port" {
			return p
		}
		path, err := program(name)
		if err != nil {
			failed = err
		}
		return path
	})
	return word, failed
}

func splitWords(s string) (words []string, err error) {
	var word strings.Builder
	inWord, quoted := false, false
	for _, c := range s {
		switch {
		case c == '\'':
			quoted, inWord = !quoted, true
		case c == ' ' && !quoted:
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			inWord = true
			word.WriteRune(c)
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
