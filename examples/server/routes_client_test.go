package main

import (
	"context"
	"testing"
	"time"

	"flare"
)

func TestClientRoutes(t *testing.T) {
	s := new(flare.Server)
	s.Handler = routes(s)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := &flare.Client{BaseURL: flare.TestServer(t, s)}
	defer c.CloseIdleConnections()
	for _, path := range []string{"/get?a=b", "/redirect/3", "/redirect-to?url=/get", "/gzip", "/deflate", "/delay/0.01"} {
		var answer struct {
			URL      string
			Headers  map[string]string
			Gzipped  bool
			Deflated bool
		}
		resp, err := c.Get(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.JSON(&answer); err != nil || answer.URL == "" || answer.Headers["Host"] == "" {
			t.Errorf("%s: %+v, %v", path, answer, err)
		}
		if coded := path == "/gzip" || path == "/deflate"; resp.Decoded != coded || coded != (answer.Gzipped || answer.Deflated) {
			t.Errorf("%s: decoded %v, %+v", path, resp.Decoded, answer)
		}
	}
	var posted struct{ JSON struct{ A int } }
	resp, err := c.Post(ctx, "/post", map[string]int{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.JSON(&posted); err != nil || posted.JSON.A != 1 {
		t.Errorf("%+v, %v", posted, err)
	}
}
