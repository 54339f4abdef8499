package flare

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
)

// httputil.ReverseProxy with the client's Transport passes bodies on in both ways
// as they come, between HTTP/2 and either version.
func TestHTTP2ClientReverseProxy(t *testing.T) {
	for _, backend := range []string{"HTTP/2.0", "HTTP/1.1"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			back := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				rc.EnableFullDuplex()
				w.Header().Set("Trailer", "X-Sum")
				w.Header().Set("X-Proto", r.Proto)
				w.WriteHeader(200)
				rc.Flush()
				p, sum := make([]byte, 100), 0
				for {
					n, err := r.Body.Read(p)
					sum += n
					w.Write(p[:n])
					rc.Flush()
					if err != nil {
						break
					}
				}
				w.Header().Set("X-Sum", fmt.Sprint(sum))
			}))
			back.EnableHTTP2 = backend == "HTTP/2.0"
			back.StartTLS()
			defer back.Close()
			to, _ := url.Parse(back.URL)
			through := &Client{TLSConfig: back.Client().Transport.(*http.Transport).TLSClientConfig}
			defer through.CloseIdleConnections()
			front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
				Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
				Transport: through.Transport(), ErrorLog: clientNoLog(),
			})
			front.EnableHTTP2 = true
			front.StartTLS()
			defer front.Close()
			c := &Client{TLSConfig: &tls.Config{RootCAs: front.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
			defer c.CloseIdleConnections()

			body, w := io.Pipe()
			r := &ClientRequest{Method: "POST", URL: front.URL, Body: body}
			resp, err := c.Do(soon(t), r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if got := resp.Header.Get("X-Proto"); got != backend || resp.Proto() != "HTTP/2.0" {
				t.Errorf("%s in front, %s behind", resp.Proto(), got)
			}
			for i := range 10 { // each piece is back before the next leaves
				piece := fmt.Sprintf("piece %d", i)
				io.WriteString(w, piece)
				p := make([]byte, len(piece))
				if _, err := io.ReadFull(resp.Body, p); err != nil || string(p) != piece {
					t.Fatalf("%q, %v", p, err)
				}
			}
			w.Close()
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
				t.Errorf("%q, %v", rest, err)
			}
			if got := resp.Trailer().Get("X-Sum"); got != "70" {
				t.Errorf("trailer %q", got)
			}
		})
	}
}
