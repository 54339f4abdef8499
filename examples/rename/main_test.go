package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// In a copy of the module that has been renamed every package and every import of one has
// the new path.
func TestRename(t *testing.T) {
	t.Parallel()
	gotool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go: ", err)
	}
	root, dir := filepath.Join("..", ".."), t.TempDir()
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to, err := filepath.Rel(root, name)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name != root && strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(dir, to), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, to), text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	const to = "example.com/you/flare"
	if err := rename(dir, to); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		cmd := exec.Command(gotool, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for path := range strings.Lines(run("list", "./...")) {
		if !strings.HasPrefix(path, to) {
			t.Errorf("a package is called %s", path)
		}
	}
	run("list", "-deps", "-test", "./...") // every import is found
	for _, name := range []string{"go.mod", "README.md", filepath.Join("bench", "go.mod"), filepath.Join("examples", "get", "main.go")} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), to) {
			t.Errorf("%s does not have the new path", name)
		}
	}
	for _, bad := range []string{"", "a b", "/a", "a//b", `a"b`} {
		if rename(dir, bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestRenameText(t *testing.T) {
	t.Parallel()
	const to = "example.com/x"
	for _, row := range []struct {
		replace    func(text, from, to string) (string, error)
		text, want string
	}{
		{inModule, "module flare\n\ngo 1.26\n", "module example.com/x\n\ngo 1.26\n"},
		{inModule, "require (\n\tflare v0.0.0\n\tflarelike v1.0.0\n)\n\nreplace flare => ../\n", "require (\n\texample.com/x v0.0.0\n\tflarelike v1.0.0\n)\n\nreplace example.com/x => ../\n"},
		{inImports, "package p\n\nimport (\n\t\"flare\"\n\tf \"flare/a\"\n\t\"flarelike\"\n)\n\nvar _ = \"flare\"\n", "package p\n\nimport (\n\t\"example.com/x\"\n\tf \"example.com/x/a\"\n\t\"flarelike\"\n)\n\nvar _ = \"flare\"\n"},
		{inPaper, "import (\n\t\"flare\"\n)\nThe \"flare\" of it.\n", "import (\n\t\"example.com/x\"\n)\nThe \"flare\" of it.\n"},
	} {
		if got, err := row.replace(row.text, "flare", to); err != nil || got != row.want {
			t.Errorf("%q, %v; want %q", got, err, row.want)
		}
	}
}
