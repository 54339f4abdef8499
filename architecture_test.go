package flare

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// architectureStep is a line that follows something through the files: the
	// file, the function, what happens there.
	architectureStep = regexp.MustCompile(`^(→| ) ([\w.]+\.go) +([\w.]+)  +\S`)

	// architectureFunc is a function that the text around the steps names.
	architectureFunc = regexp.MustCompile("`([a-zA-Z]\\w*\\.[a-zA-Z]\\w*)`")
)

// What ARCHITECTURE.md follows through the files goes through functions that are
// in those files, and what it says around that names functions and fields that
// are somewhere.
func TestArchitectureSteps(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	page, _, _ := strings.Cut(string(text), "\n## Files\n")
	src := readSource(t, ".", nil)
	all := make(map[string]bool)
	for name := range src.files {
		for _, f := range src.functions(name) {
			all[strings.TrimPrefix(f, "*")] = true
		}
	}
	followed, steps := 0, 0
	for line := range strings.Lines(page) {
		m := architectureStep.FindStringSubmatch(line)
		switch {
		case m == nil && strings.HasPrefix(line, "→"):
			t.Errorf("ARCHITECTURE.md has a step without a file and a function: %s", line)
		case m != nil && src.files[m[2]] == nil:
			t.Errorf("ARCHITECTURE.md goes through %s, which is not there", m[2])
		case m != nil && !slices.ContainsFunc(src.functions(m[2]), func(f string) bool { return strings.TrimPrefix(f, "*") == m[3] }):
			t.Errorf("ARCHITECTURE.md goes through %s of %s, which has no such function", m[3], m[2])
		}
		if m != nil && m[1] == "→" {
			steps++
		} else if m != nil {
			followed++
		}
	}
	if followed != 3 || steps < 30 {
		t.Errorf("ARCHITECTURE.md follows %d things in %d steps", followed, steps)
	}
	for _, m := range architectureFunc.FindAllStringSubmatch(page, -1) {
		name := m[1]
		if file := regexp.MustCompile(`\.(go|md|sh)$`).MatchString(name); file || all[name] || architectureFields[name] {
			continue
		}
		t.Errorf("ARCHITECTURE.md names %s, which is no function", name)
	}
}

// architectureFields are what ARCHITECTURE.md names that is no function.
var architectureFields = map[string]bool{"Loop.state": true, "Conn.own": true, "c.loop": true, "Loop.env": true}
