package flare

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a server has used inside a bubble of testing/synctest does not come back
// outside it: a timer of a bubble must not be touched there.
func TestWorksetsOfABubble(t *testing.T) {
	waits := func(t *testing.T, get func(s *Server) (*http.Client, string)) {
		s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			body, err := io.ReadAll(r.Body())
			if err != nil {
				return err
			}
			return w.Text(200, string(body))
		})}
		client, url := get(s)
		for range 4 {
			body, more := io.Pipe()
			go func() {
				io.WriteString(more, "begun, ")
				time.Sleep(4 * tick) // the handler waits
				io.WriteString(more, "done")
				more.Close()
			}()
			resp, err := client.Post(url, "text/plain", io.MultiReader(strings.NewReader(""), body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(got) != "begun, done" {
				t.Fatalf("answer %q, %v", got, err)
			}
		}
	}
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			waits(t, func(s *Server) (*http.Client, string) { return TestClient(t, s), "http://h/" })
		})
		t.Run("outside", func(t *testing.T) {
			waits(t, func(s *Server) (*http.Client, string) { return http.DefaultClient, TestServer(t, s) })
			http.DefaultClient.CloseIdleConnections()
		})
	}
}
