//go:build linux

package main

// This file asks a running target for /plaintext and holds the answer to the one every target has
// to give: comparing the speed of different answers would mean nothing.

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	wantBody      = "Hello, World!"
	askTimeout    = 5 * time.Second
	dateSlack     = 3 * time.Second // a cached Date may be a second old
	askBodyMax    = 1 << 20
	pipelinedAsks = 3
)

// sentByNobodyElse ends what differences says of a field that only this target sends.
const sentByNobodyElse = " sent, and by nobody else"

// An answer is one HTTP response, read without interpretation.
type answer struct {
	status int
	header textproto.MIMEHeader
	body   string
}

// ask sends n pipelined GETs in one write and reads their answers.
func ask(addr, path string, n int) ([]answer, error) {
	c, err := net.DialTimeout("tcp", addr, askTimeout)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(askTimeout))
	if _, err := io.WriteString(c, strings.Repeat("GET "+path+" HTTP/1.1\r\nHost: "+addr+"\r\n\r\n", n)); err != nil {
		return nil, err
	}
	answers := make([]answer, n)
	r := bufio.NewReader(c)
	for i := range answers {
		if answers[i], err = readAnswer(r); err != nil {
			return nil, fmt.Errorf("answer %d of %d to GET %s: %w", i+1, n, path, err)
		}
	}
	return answers, nil
}

func readAnswer(r *bufio.Reader) (answer, error) {
	text := textproto.NewReader(r)
	line, err := text.ReadLine()
	if err != nil {
		return answer{}, err
	}
	code, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(code) < 3 {
		return answer{}, fmt.Errorf("status line %q", line)
	}
	a := answer{}
	if a.status, err = strconv.Atoi(code[:3]); err != nil {
		return answer{}, fmt.Errorf("status line %q", line)
	}
	if a.header, err = text.ReadMIMEHeader(); err != nil {
		return answer{}, err
	}
	size, err := strconv.Atoi(a.header.Get("Content-Length"))
	if err != nil || size < 0 || size > askBodyMax {
		return answer{}, fmt.Errorf("Content-Length %q: the generator needs one", a.header.Get("Content-Length"))
	}
	body := make([]byte, size)
	_, err = io.ReadFull(r, body)
	a.body = string(body)
	return a, err
}

// differences lists how a differs from the answer demanded. Date has to be there and right, its
// value aside; Server, Connection and Keep-Alive are the server's own affair.
func (a answer) differences(contentType string, now time.Time) []string {
	var d []string
	if a.status != 200 {
		d = append(d, fmt.Sprintf("status %d, not 200", a.status))
	}
	if a.body != wantBody {
		d = append(d, fmt.Sprintf("body %q, not %q", a.body, wantBody))
	}
	want := map[string]string{"Content-Type": contentType, "Content-Length": strconv.Itoa(len(wantBody))}
	for _, name := range []string{"Content-Type", "Content-Length"} {
		if got := a.header.Values(name); len(got) != 1 || got[0] != want[name] {
			d = append(d, fmt.Sprintf("%s %q, not %q", name, got, want[name]))
		}
	}
	date, err := http.ParseTime(a.header.Get("Date"))
	if err != nil || len(a.header.Values("Date")) != 1 || now.Sub(date).Abs() > dateSlack {
		d = append(d, fmt.Sprintf("Date %q, not the time now", a.header.Values("Date")))
	}
	var others []string
	for name := range a.header {
		switch name {
		case "Content-Type", "Content-Length", "Date", "Server", "Connection", "Keep-Alive":
		default:
			others = append(others, name+sentByNobodyElse)
		}
	}
	slices.Sort(others)
	return append(d, others...)
}

// checkAnswers holds single and pipelined answers of the target at addr to the demanded one.
func checkAnswers(addr, contentType string) error {
	for _, n := range []int{1, pipelinedAsks} {
		answers, err := ask(addr, "/plaintext", n)
		if err != nil {
			return err
		}
		for _, a := range answers {
			if d := a.differences(contentType, time.Now()); d != nil {
				return fmt.Errorf("another answer than demanded: %s", strings.Join(d, "; "))
			}
		}
	}
	return nil
}

// answersOK says whether GET path is answered with 200.
func answersOK(addr, path string) bool {
	answers, err := ask(addr, path, 1)
	return err == nil && answers[0].status == 200
}
