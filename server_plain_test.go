package flare

import (
	"os"
	"testing"
)

// This file is about the plain driver: listeners without a descriptor. The
// other tests of the server run on it with FLARE_TEST_PLAIN=1, through TestMain.

// onPlain says whether all servers of the tests are on the plain driver.
func onPlain() bool { return os.Getenv("FLARE_TEST_PLAIN") != "" }

// notPlain skips a test of what the plain driver does not have.
func notPlain(t testing.TB, reason string) {
	t.Helper()
	if onPlain() {
		t.Skip("the plain driver: " + reason)
	}
}
