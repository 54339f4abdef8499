package flare

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// readmeBlock returns the fenced block of the README in that language which
// has a text.
func readmeBlock(t *testing.T, language, with string) string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(block[1], with) {
			return block[1]
		}
	}
	t.Fatalf("README.md has no %s block with %q", language, with)
	return ""
}

// replaceOnce replaces what has to be there exactly once.
func replaceOnce(t *testing.T, text, old, new string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q is not exactly once in\n%s", old, text)
	}
	return strings.Replace(text, old, new, 1)
}

// The README's program and the README's steps make a program outside of this
// tree that builds with nothing but what was vendored, and serves.
func TestVendoring(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a program; not with -short")
	}
	for _, program := range []string{"sh", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed", program)
		}
	}
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	dir := t.TempDir()
	program := replaceOnce(t, readmeBlock(t, "go", "func main()"), "127.0.0.1:8080", addr)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	// The build cannot look at anything but vendor/: the copy that it was
	// vendored from is gone by then.
	fork := filepath.Join(t.TempDir(), "flare")
	if err := os.Symlink(root, fork); err != nil {
		t.Fatal(err)
	}
	steps := replaceOnce(t, readmeBlock(t, "sh", "go mod vendor"), "/path/to/flare", fork)
	steps = replaceOnce(t, steps, "go mod vendor\n", "go mod vendor\nrm '"+fork+"'\n")

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	sh := exec.CommandContext(ctx, "sh", "-e", "-c", steps)
	sh.Dir = dir
	sh.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOWORK=off", "GO111MODULE=", "GOTOOLCHAIN=local")
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, steps, out)
	}
	for _, name := range []string{"LICENSE", "mask_amd64.s", "mask_arm64.s"} {
		if _, err := os.Stat(filepath.Join(dir, "vendor", strings.TrimSuffix(packagePrefix, "."), name)); err != nil {
			t.Error(err)
		}
	}

	hello := exec.CommandContext(ctx, filepath.Join(dir, "hello"))
	var log strings.Builder
	hello.Stderr = &log
	if err := hello.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		hello.Process.Kill()
		hello.Wait()
		if log.Len() > 0 {
			t.Errorf("the program said %q", log.String())
		}
	}()
	status, text := askUntilUp(t, ctx, "http://"+addr+"/hello/world")
	if status != 200 || text != "hello, world\n" {
		t.Errorf("the program answered %d %q", status, text)
	}
}

// freeAddr returns an address of this machine that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// askUntilUp asks until there is an answer: a program that just started may
// not listen yet.
func askUntilUp(t *testing.T, ctx context.Context, url string) (status int, text string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(body)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no answer: %v", err)
		case <-retry.C:
		}
	}
}
