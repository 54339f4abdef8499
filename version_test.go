package flare

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Version is the newest that CHANGELOG.md has, or comes before what is unreleased.
func TestVersion(t *testing.T) {
	text, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	newest := regexp.MustCompile(`(?m)^## (Unreleased|\d\S*)`).FindStringSubmatch(string(text))
	released := strings.TrimSuffix(Version, "-dev")
	if !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(released) {
		t.Errorf("%q is no version", Version)
	}
	if newest == nil || newest[1] != Version && (newest[1] != "Unreleased" || released == Version) {
		t.Errorf("the version is %q, and CHANGELOG.md begins with %q", Version, newest)
	}
}
