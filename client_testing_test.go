package flare

import (
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func clientNoLog() *log.Logger { return log.New(io.Discard, "", 0) }

// clientCAFile writes the certificate of a test server to a file.
func clientCAFile(t *testing.T, ts *httptest.Server) string {
	name := filepath.Join(t.TempDir(), "ca.pem")
	p := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ts.Certificate().Raw})
	if err := os.WriteFile(name, p, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
