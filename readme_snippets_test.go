package flare

import (
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A block of Go in a paper is a whole file, declarations of a file, or statements
// of a function. Imports are left out of the latter two: they would
// hide what there is to see.

// snippetImports are the packages that blocks without imports may use.
var snippetImports = []string{
	"bytes", "context", "crypto/tls", "crypto/x509", "database/sql", "encoding/json", "errors", "fmt", "io", "log", "log/slog", "maps", "net/http", "net/netip", "net/url", "os",
	"os/signal", "slices", "strconv", "strings", "sync", "syscall", "testing", "time",
}

// snippetFile makes a file of a block.
func snippetFile(block, flarePath string) (string, error) {
	if _, err := parser.ParseFile(token.NewFileSet(), "", block, parser.SkipObjectResolution); err == nil {
		return strings.ReplaceAll(block, `"flare"`, strconv.Quote(flarePath)), nil
	}
	body := block + "\n"
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package snippet\n"+block, parser.SkipObjectResolution); err != nil {
		body = "func _(ctx context.Context, mux *flare.Mux) error {\n" + block
		if !regexp.MustCompile(`(?m)^return .*\n\z`).MatchString(block) {
			body += "return nil\n"
		}
		body += "}\n"
	}
	f, err := parser.ParseFile(token.NewFileSet(), "", "package snippet\n"+body, 0)
	if err != nil {
		return "", err
	}
	paths := map[string]string{"flare": flarePath}
	for _, name := range snippetImports {
		paths[path.Base(name)] = name
	}
	imports := make(map[string]bool)
	for _, id := range f.Unresolved {
		if name, ok := paths[id.Name]; ok {
			imports[fmt.Sprintf("import %s %q\n", id.Name, name)] = true
		}
	}
	return "package snippet\n" + strings.Join(slices.Sorted(maps.Keys(imports)), "") + body, nil
}

// snippetPapers are the papers with blocks of Go, and how many each has at least.
var snippetPapers = map[string]int{"README.md": 2, "TOUR.md": 25}

// Every block of Go in the papers is formatted, compiles and passes go vet, in a
// module that has nothing but flare.
func TestReadmeSnippets(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds programs; not with -short")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("go is not installed")
	}
	var blocks []string
	papers, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range papers {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
		if fences := strings.Count(string(text), "\n```go"); fences != len(found) || fences < snippetPapers[name] {
			t.Errorf("%s has %d blocks of Go, found %d", name, fences, len(found))
		}
		for _, block := range found {
			blocks = append(blocks, block[1])
		}
	}
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	flarePath := strings.TrimSuffix(packagePrefix, ".")
	dir := t.TempDir()
	mod := fmt.Sprintf("module readme\n\ngo 1.26\n\nrequire %s v0.0.0\n\nreplace %[1]s => %q\n", flarePath, root)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, block := range blocks {
		if text, err := format.Source([]byte(block)); err != nil || string(text) != block {
			t.Errorf("gofmt (%v) makes of\n%s\n%s", err, block, text)
			continue
		}
		text, err := snippetFile(block, flarePath)
		if err != nil {
			t.Errorf("%v in\n%s", err, block)
			continue
		}
		folder := filepath.Join(dir, fmt.Sprintf("block%02d", i+1))
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "snippet.go"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := readmeVet(dir); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	// What does not compile is found.
	bad, err := snippetFile("mux.Get(\"/\", flare.NoSuchHandler)\n", flarePath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "block01", "bad.go"), []byte(strings.Replace(bad, "package snippet", "package main", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := readmeVet(dir); err == nil || !strings.Contains(string(out), "NoSuchHandler") {
		t.Errorf("a block that does not compile: %v\n%s", err, out)
	}
}

// readmeVet compiles and vets all packages below dir.
func readmeVet(dir string) ([]byte, error) {
	vet := exec.Command("go", "vet", "./...")
	vet.Dir = dir
	vet.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "GOWORK=off", "GO111MODULE=", "GOTOOLCHAIN=local")
	return vet.CombinedOutput()
}

// The three shapes of a block become files, and imports are those in use.
func TestSnippetFile(t *testing.T) {
	for _, test := range []struct {
		name, block string
		want        []string // imports
		decls       []string // functions
	}{
		{"file", "package main\n\nimport \"flare\"\n\nfunc main() { flare.NewMux() }\n", []string{"example.com/f"}, []string{"main"}},
		{"declarations", "type a struct{ io.Reader }\n\nfunc (a) f() {}\n", []string{"io"}, []string{"f"}},
		{"statements", "w := strings.NewReader(\"\")\nio.Copy(io.Discard, w)\n", []string{"context", "example.com/f", "io", "strings"}, []string{"_"}},
		{"a local of a package's name", "errors := 1\n_ = errors\n", []string{"context", "example.com/f"}, []string{"_"}},
	} {
		text, err := snippetFile(test.block, "example.com/f")
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), "", text, 0)
		if err != nil {
			t.Errorf("%s: %v in\n%s", test.name, err, text)
			continue
		}
		var imports, decls []string
		for _, spec := range f.Imports {
			name, _ := strconv.Unquote(spec.Path.Value)
			imports = append(imports, name)
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				decls = append(decls, fn.Name.Name)
			}
		}
		if !slices.Equal(imports, test.want) || !slices.Equal(decls, test.decls) {
			t.Errorf("%s: imports %q, functions %q", test.name, imports, decls)
		}
	}
	if _, err := snippetFile("if {\n", "flare"); err == nil {
		t.Error("a block that is no Go was taken")
	}
}
