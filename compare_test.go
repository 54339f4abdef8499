package flare

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	comparedTest = regexp.MustCompile(`\[(Test\w+)\]\(([\w/]+_test\.go)\)`)
	comparedHead = regexp.MustCompile(`^\| \| flare \|`)
)

// COMPARE.md says nothing good of flare without a test: each first cell of a row begins
// with "no", or names tests, and the file where each is.
func TestReadmeCompare(t *testing.T) {
	text, err := os.ReadFile("COMPARE.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, named, columns := 0, 0, 0
	for _, line := range strings.Split(string(text), "\n") {
		if comparedHead.MatchString(line) {
			columns = strings.Count(line, "|")
		}
		if !strings.HasPrefix(line, "| ") || comparedHead.MatchString(line) {
			continue
		}
		rows++
		cells := strings.Split(line, "|")
		if strings.Count(line, "|") != columns {
			t.Errorf("%q has not %d bars", line, columns)
			continue
		}
		own := strings.TrimSpace(cells[2])
		tests := comparedTest.FindAllStringSubmatch(own, -1)
		if len(tests) == 0 && !regexp.MustCompile(`^no(ne)?\b`).MatchString(own) {
			t.Errorf("%s: %q is shown by no test", strings.TrimSpace(cells[1]), own)
		}
		for _, m := range tests {
			named++
			code, err := os.ReadFile(filepath.FromSlash(m[2]))
			if err != nil || !strings.Contains(string(code), "\nfunc "+m[1]+"(t ") {
				t.Errorf("%s names %s of %s, which is not there (%v)", strings.TrimSpace(cells[1]), m[1], m[2], err)
			}
		}
	}
	if rows < 40 || named < 40 {
		t.Errorf("found %d rows and %d tests only", rows, named)
	}
}
