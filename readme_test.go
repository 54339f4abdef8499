package flare

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// readmeLinesMax is as much as somebody reads before they try it.
const readmeLinesMax = 250

// pictureBytesMax bounds what each copy of the repository has of a picture.
const pictureBytesMax = 200_000

// papers returns the text of each paper of the repository, by its path.
func papers(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	for _, pattern := range []string{"*.md", "*/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.ToSlash(name)] = string(text)
		}
	}
	return texts
}

var (
	// paperFile is a file that a paper names: another paper by its name alone,
	// anything else as code.
	paperFile = regexp.MustCompile("\\b((?:\\w+/)?[A-Z]{2,}\\.md)\\b|`([\\w/]+\\.(?:go|s|sh|md))`")

	paperPicture = regexp.MustCompile(`!\[([^\]]*)\]\(([^)]+)\)`)
	paperAnchor  = regexp.MustCompile(`\]\(#([^)]+)\)`)
	paperHeading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notInAnchors = regexp.MustCompile(`[^\w\- ]`)
)

// The papers name files and headings that are there, and the README, which leads
// to all papers, is short.
func TestReadmePapers(t *testing.T) {
	texts := papers(t)
	for name, text := range texts {
		if strings.HasPrefix(name, "bench/") {
			continue // a module of its own, which names files of the system and of peers
		}
		headings := make(map[string]bool)
		for _, heading := range paperHeading.FindAllStringSubmatch(text, -1) {
			headings[strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-")] = true
		}
		for _, anchor := range paperAnchor.FindAllStringSubmatch(text, -1) {
			if !headings[anchor[1]] {
				t.Errorf("%s leads to a heading #%s, which it does not have", name, anchor[1])
			}
		}
		for _, m := range paperFile.FindAllStringSubmatch(text, -1) {
			file := m[1] + m[2]
			if example := file == "main.go" || file == "x.go" || file == "x_test.go"; example {
				continue
			}
			if _, err := os.Stat(filepath.FromSlash(file)); err != nil {
				t.Errorf("%s names %s, which is not there", name, file)
			}
		}
	}
	for _, picture := range paperPicture.FindAllStringSubmatch(texts["README.md"], -1) {
		info, err := os.Stat(filepath.FromSlash(picture[2]))
		if err != nil || info.Size() > pictureBytesMax || picture[1] == "" {
			t.Errorf("README.md has a picture %s, said to be %q: not there, above %d bytes, or without a text (%v)", picture[2], picture[1], pictureBytesMax, err)
		}
	}
	readme := texts["README.md"]
	if n := strings.Count(readme, "\n"); n > readmeLinesMax {
		t.Errorf("README.md has %d lines, at most %d: what of it belongs elsewhere?", n, readmeLinesMax)
	}
	for name := range texts {
		if name != "README.md" && !strings.Contains(name, "/") && !strings.Contains(readme, name) {
			t.Errorf("README.md does not lead to %s", name)
		}
	}
}
