//go:build linux

package main

// This file says what is asked of the servers of the arena: one profile value per kind of load, each
// a list of requests with the answers that they have to have. It starts nothing.

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"flare/bench/arena"
)

// An arenaAsk is one request of a profile and its answer.
type arenaAsk struct {
	raw    []byte // as it is sent
	kind   string // Content-Type of the answer
	coding string // Content-Encoding of the answer
	body   []byte // decoded
}

// A profile is one kind of load.
type profile struct {
	name       string
	about      string
	conns      int
	closeAfter int // answers on a connection; 0: it is kept
	tls        bool
	nginx      bool // has something that it can answer with
	asks       []arenaAsk
}

const (
	arenaHost     = "127.0.0.1"
	limitedEach   = 10 // requests of a connection
	manyConns     = 4096
	uploadConns   = 32
	downloadConns = 16
	browserHeads  = 4096

	// gzipSizeMost is how much larger than net/http's the answers of json-gzip may be: a smaller one
	// for less time is what is compared.
	gzipSizeMost = 1.1
)

// profileGroups make the profiles of a name.
var profileGroups = []struct {
	name string
	make func(conns int) []*profile
}{
	{"mix", func(conns int) []*profile {
		return []*profile{{about: "GET with a query, POST by length, POST in chunks, in turn", conns: conns, asks: sums()}}
	}},
	{"limited", func(conns int) []*profile {
		return []*profile{{about: fmt.Sprintf("as mix, a new connection for every %d requests", limitedEach), conns: conns, closeAfter: limitedEach, asks: sums()}}
	}},
	{"json", func(conns int) []*profile {
		return []*profile{{about: "25 to 50 rows, encoded for each request", conns: conns, asks: jsonAsks("")}}
	}},
	{"json-gzip", func(conns int) []*profile {
		return []*profile{{about: "as json, compressed for each request", conns: conns, asks: jsonAsks("gzip")}}
	}},
	{"json-tls", func(conns int) []*profile {
		return []*profile{{about: "as json, TLS 1.3", conns: conns, tls: true, asks: jsonAsks("")}}
	}},
	{"upload", func(int) []*profile {
		return []*profile{{about: fmt.Sprintf("500 KB, 2, 10 and 20 MB in turn, %d connections; the answer is their number", uploadConns), conns: uploadConns, asks: uploads()}}
	}},
	{"download", func(int) []*profile { return downloads() }},
	{"browser", func(conns int) []*profile {
		return []*profile{{about: fmt.Sprintf("a browser's head of 12 fields; %d that differ in path, cookie and id", browserHeads), conns: conns, nginx: true, asks: browsers()}}
	}},
	{"many", func(int) []*profile {
		return []*profile{{about: fmt.Sprintf("plaintext, %d connections", manyConns), conns: manyConns, nginx: true, asks: []arenaAsk{get("/page/hello", "", "text/plain", []byte(wantBody))}}}
	}},
}

// splitProfiles takes the names of profiles out of a list; "arena" is all of them.
func splitProfiles(names []string, conns int) (others []string, list []*profile) {
	for _, name := range names {
		found := false
		for _, g := range profileGroups {
			if name != g.name && name != "arena" {
				continue
			}
			found = true
			for _, p := range g.make(conns) {
				if p.name == "" {
					p.name = g.name
				}
				list = append(list, p)
			}
		}
		if !found {
			others = append(others, name)
		}
	}
	return others, list
}

func get(path, fields, kind string, body []byte) arenaAsk {
	return arenaAsk{raw: fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, arenaHost, fields), kind: kind, body: body}
}

func post(path, fields, body, answer string) arenaAsk {
	return arenaAsk{raw: fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n%s\r\n%s", path, arenaHost, fields, body), kind: "text/plain", body: []byte(answer)}
}

func sums() (list []arenaAsk) {
	for i := range 20 {
		a, b, n := 13+i, 42+3*i, strconv.Itoa(20+i)
		path := fmt.Sprintf("/sum?a=%d&b=%d", a, b)
		all := strconv.Itoa(a + b + 20 + i)
		list = append(list,
			get(path, "", "text/plain", []byte(strconv.Itoa(a+b))),
			post(path, "Content-Type: text/plain\r\nContent-Length: "+strconv.Itoa(len(n))+"\r\n", n, all),
			post(path, "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(n), n), all))
	}
	return list
}

func jsonAsks(coding string) (list []arenaAsk) {
	path, fields := "/json/", ""
	if coding != "" {
		path, fields = "/gzip/", "Accept-Encoding: gzip, deflate, br\r\n"
	}
	for n := arena.RowsMax / 2; n <= arena.RowsMax; n += 5 {
		m := 1 + n%7
		ask := get(fmt.Sprintf("%s%d?m=%d", path, n, m), fields, "application/json", []byte(arena.AnswerText(n, m)))
		ask.coding = coding
		list = append(list, ask)
	}
	return list
}

func uploads() (list []arenaAsk) {
	bytes := arena.Download("16m")
	for _, size := range []int{500_000, 2_000_000, 10_000_000, 20_000_000} {
		n := strconv.Itoa(size)
		body := string(bytes)
		for len(body) < size {
			body += body
		}
		list = append(list, post("/upload", "Content-Type: application/octet-stream\r\nContent-Length: "+n+"\r\n", body[:size], n))
	}
	return list
}

func downloads() (list []*profile) {
	for _, secure := range []bool{false, true} {
		for _, from := range []string{"memory", "file"} {
			for _, name := range []string{"100k", "1m", "16m"} {
				p := &profile{
					name:  fmt.Sprintf("download-%s-%s", from, name),
					about: fmt.Sprintf("%d bytes from %s, %d connections", arena.Sizes[name], map[string]string{"memory": "memory", "file": "a file"}[from], downloadConns),
					conns: downloadConns, nginx: from == "file", tls: secure,
					asks: []arenaAsk{get("/"+from+"/"+name, "", "application/octet-stream", arena.Download(name))},
				}
				if p.tls {
					p.name += "-tls"
					p.about += ", TLS 1.3"
				}
				list = append(list, p)
			}
		}
	}
	return list
}

// browsers are the heads of people who go from page to page: what differs from request to request is
// what does between people and pages, so that a whole head never comes twice in a row.
func browsers() (list []arenaAsk) {
	seed := uint32(7)
	word := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			seed = seed*1664525 + 1013904223
			fmt.Fprintf(&b, "%08x", seed)
		}
		return b.String()[:n]
	}
	for i := range browserHeads {
		fields := "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36\r\n" +
			"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8\r\n" +
			"Accept-Language: en-GB,en;q=0.9,de;q=0.7\r\n" +
			"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
			"Referer: http://" + arenaHost + "/page/" + word(10) + "\r\n" +
			"Cookie: session=" + word(32) + "; theme=dark; seen=" + strconv.Itoa(i) + "\r\n" +
			"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n" +
			"Upgrade-Insecure-Requests: 1\r\n" +
			"X-Request-Id: " + word(24) + "\r\n"
		list = append(list, get("/page/"+word(12)+"/"+strconv.Itoa(i), fields, "text/plain", []byte(wantBody)))
	}
	return list
}

// difference says how an answer is another than the one demanded. Its fields beside those of the
// content are the server's affair.
func (a *arenaAsk) difference(resp *http.Response, body []byte) string {
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	switch {
	case resp.StatusCode != http.StatusOK:
		return fmt.Sprintf("status %d", resp.StatusCode)
	case resp.Header.Get("Date") == "":
		return "no Date"
	case kind != a.kind:
		return fmt.Sprintf("Content-Type %q, not %q", kind, a.kind)
	case resp.Header.Get("Content-Encoding") != a.coding:
		return fmt.Sprintf("Content-Encoding %q, not %q", resp.Header.Get("Content-Encoding"), a.coding)
	case string(body) != string(a.body):
		return fmt.Sprintf("a body of %d bytes, which is not the one of %d", len(body), len(a.body))
	}
	return ""
}
