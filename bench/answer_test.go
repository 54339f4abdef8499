//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

const testType = "text/plain; charset=utf-8"

func TestDifferences(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const good = "HTTP/1.1 200 OK\r\nDate: Fri, 02 Jan 2026 03:04:04 GMT\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\nHello, World!"
	for _, c := range []struct {
		name, old, new string
		want           string // part of the one difference; "" for none
	}{
		{"as demanded", "", "", ""},
		{"own affairs", "Date:", "Server: x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nDate:", ""},
		{"another reason phrase", "200 OK", "200 Fine", ""},
		{"another status", "200 OK", "404 Not Found", "status 404"},
		{"another body", "World!", "world!", "body"},
		{"another type", "; charset=utf-8", "", "Content-Type"},
		{"no type", "Content-Type: text/plain; charset=utf-8\r\n", "", "Content-Type"},
		{"no date", "Date: Fri, 02 Jan 2026 03:04:04 GMT\r\n", "", "Date"},
		{"an old date", "03:04:04", "03:03:04", "Date"},
		{"two dates", "Date:", "Date: Fri, 02 Jan 2026 03:04:04 GMT\r\nDate:", "Date"},
		{"one field more", "Date:", "X-Powered-By: y\r\nDate:", "X-Powered-By"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		a, err := readAnswer(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := a.differences(testType, now)
		switch {
		case c.want == "" && got != nil:
			t.Errorf("%s: differs: %v", c.name, got)
		case c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)):
			t.Errorf("%s: got %q, want one difference about %q", c.name, got, c.want)
		}
	}
}

func TestReadAnswerRefuses(t *testing.T) {
	for _, text := range []string{
		"", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour",
	} {
		if a, err := readAnswer(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%q was taken: %+v", text, a)
		}
	}
}

func TestCheckAnswers(t *testing.T) {
	addr := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", testType)
		fmt.Fprint(w, wantBody)
	})
	if err := checkAnswers(addr, testType); err != nil {
		t.Error(err)
	}
	if err := checkAnswers(addr, "text/plain"); err == nil || !strings.Contains(err.Error(), "Content-Type") {
		t.Errorf("another type was not noticed: %v", err)
	}
	addr = serveHTTP(t, http.NotFound)
	if err := checkAnswers(addr, testType); err == nil || !strings.Contains(err.Error(), "status 404") {
		t.Errorf("a 404 was not noticed: %v", err)
	}
	if answersOK(addr, "/slow") {
		t.Error("a 404 was taken for an answer")
	}
}
