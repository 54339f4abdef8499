package flare

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// namedTests are the tests of the repository by their names, and for each the strings
// that it has, or its file outside of other tests: the names of rows are among them.
func namedTests(t *testing.T) map[string]map[string]bool {
	t.Helper()
	tests := make(map[string]map[string]bool)
	for _, pattern := range []string{"*_test.go", "bench/*_test.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			shared := make(map[string]bool)
			var own []map[string]bool
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok || f.Recv != nil || !testName.MatchString(f.Name.Name) {
					addStrings(shared, decl)
					continue
				}
				texts := make(map[string]bool)
				addStrings(texts, f)
				tests[f.Name.Name] = texts
				own = append(own, texts)
			}
			for _, texts := range own {
				maps.Copy(texts, shared)
			}
		}
	}
	return tests
}

// testName is that of a test that go test runs.
var testName = regexp.MustCompile(`^(?:Test|Fuzz)[A-Z]`)

// addStrings adds the strings of decl to texts.
func addStrings(texts map[string]bool, decl ast.Decl) {
	ast.Inspect(decl, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				texts[text] = true
			}
		}
		return true
	})
}

// paperTest is a test that a paper names, with a row of it perhaps.
var paperTest = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)(?:/([^`]+))?`")

// wantNamedTests fails for each test that text names and that is not there. It returns
// how many are named.
func wantNamedTests(t *testing.T, paper, text string, tests map[string]map[string]bool) int {
	t.Helper()
	named := paperTest.FindAllStringSubmatch(text, -1)
	for _, m := range named {
		switch rows, ok := tests[m[1]]; {
		case !ok:
			t.Errorf("%s names %s, which is no test", paper, m[1])
		case m[2] != "" && !rows[m[2]]:
			t.Errorf("%s names %s/%s, which is no row of that test", paper, m[1], m[2])
		}
	}
	return len(named)
}

// Each row of CONFORMANCE.md names tests that are there, or says why not.
func TestConformance(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("CONFORMANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := namedTests(t)
	section, rows := "", make(map[string]int)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section = heading
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| §") {
			continue
		}
		if len(cells) != 3 || strings.TrimSpace(cells[2]) == "" {
			t.Errorf("no three cells: %s", line)
			continue
		}
		rows[section]++
		n := wantNamedTests(t, "CONFORMANCE.md", cells[2], tests)
		if excused := strings.Contains(cells[2], "**not kept**") || strings.Contains(cells[2], "**not flare's**"); n == 0 && !excused {
			t.Errorf("%s, §%s: no test, and no reason", section, cells[0])
		}
	}
	if len(rows) != 8 {
		t.Errorf("tables of %d RFCs: %v", len(rows), rows)
	}
}

// Each attack of SECURITY.md has a bound and tests that are there.
func TestSecurity(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := namedTests(t)
	wantNamedTests(t, "SECURITY.md", string(text), tests)
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| attack") {
			continue
		}
		rows++
		if len(cells) != 3 || strings.TrimSpace(cells[1]) == "" || len(paperTest.FindAllString(cells[2], -1)) == 0 {
			t.Errorf("no attack, bound and test: %s", line)
		}
	}
	if rows < 40 {
		t.Errorf("%d attacks", rows)
	}
}
