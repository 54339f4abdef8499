package flare

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// rangeContent is what the tests of ranges ask for parts of.
const rangeContent = "0123456789abcdefghij"

// contentServers are flare and net/http with the same content, by ServeContent and
// from a file.
func contentServers(t testing.TB) (flares [2]string, https string) {
	name := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(name, []byte(rangeContent), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, conditionTime, conditionTime); err != nil {
		t.Fatal(err)
	}
	mux := NewMux()
	mux.Get("/0", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("ETag", `"a"`)
		return w.ServeContent("a.txt", conditionTime, strings.NewReader(rangeContent))
	})
	mux.Get("/1", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("ETag", `"a"`)
		return w.SendFile(name)
	})
	url := TestServer(t, &Server{Handler: mux, Logger: quietLogger()})
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"a"`)
		http.ServeContent(w, r, "a.txt", conditionTime, strings.NewReader(rangeContent))
	}))
	t.Cleanup(other.Close)
	return [2]string{url + "/0", url + "/1"}, other.URL
}

// contentAnswer is what is the same of two answers with content, as text: the
// boundary of a multipart body is replaced.
func contentAnswer(t *testing.T, url string, fields ...string) (status int, text string) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header[fields[i]] = []string{fields[i+1]}
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.ContentLength != int64(len(body)) && resp.StatusCode != 304 {
		t.Fatalf("Content-Length %d, %d bytes: %v", resp.ContentLength, len(body), err)
	}
	kind := resp.Header.Get("Content-Type")
	if resp.StatusCode >= 400 {
		return resp.StatusCode, fmt.Sprintln(resp.StatusCode, resp.Header.Get("Content-Range"))
	}
	if _, parameters, _ := mime.ParseMediaType(kind); parameters["boundary"] != "" {
		boundary := parameters["boundary"]
		kind = strings.ReplaceAll(kind, boundary, "B")
		body = bytes.ReplaceAll(body, []byte(boundary), []byte("B"))
		resp.Header.Del("Content-Length") // boundaries differ in length
	}
	return resp.StatusCode, fmt.Sprintln(resp.StatusCode, kind, resp.Header["Content-Length"], resp.Header["Content-Range"],
		resp.Header["Last-Modified"], resp.Header["Etag"], resp.Header["Accept-Ranges"], string(body))
}

// Content in parts is what net/http makes of it, octet by octet.
func TestServeContent(t *testing.T) {
	flares, https := contentServers(t)
	for _, row := range []struct {
		fields []string
		status int
	}{
		{nil, 200},
		{[]string{"Range", "bytes=2-4"}, 206},
		{[]string{"Range", "bytes=0-1,4-5"}, 206},
		{[]string{"Range", "bytes=4-5, 0-1"}, 206},
		{[]string{"Range", "bytes=-1,0-0,5-5,5-5"}, 206},
		{[]string{"Range", "bytes=0-0,99-,-2"}, 206},
		{[]string{"Range", "bytes=99-,3-3"}, 206},
		{[]string{"Range", "bytes=99-,100-101"}, 416},
		{[]string{"Range", "bytes=0-9,10-19"}, 206},
		{[]string{"Range", "bytes=0-9,9-19"}, 200},
		{[]string{"Range", "bytes=0-1,4-5", "If-Range", `"a"`}, 206},
		{[]string{"Range", "bytes=0-1,4-5", "If-Range", `"b"`}, 200},
		{[]string{"Range", "bytes=0-1,4-5", "If-None-Match", `"a"`}, 304},
	} {
		status, want := contentAnswer(t, https, row.fields...)
		if status != row.status {
			t.Fatalf("%q: net/http answers %d", row.fields, status)
		}
		for _, url := range flares {
			if _, got := contentAnswer(t, url, row.fields...); got != want {
				t.Errorf("%q:\n%s\nwant\n%s", row.fields, got, want)
			}
		}
	}
}

// The parts of an answer can be read by mime/multipart, and there are not too many.
func TestRangesAreBounded(t *testing.T) {
	content := strings.Repeat("x", 10_000)
	c := TestClient(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.ServeContent("", time.Time{}, strings.NewReader(content))
	})})
	for _, n := range []int{2, rangesMax, rangesMax + 1, 2000} {
		req, _ := http.NewRequest("GET", "http://h/", nil)
		req.Header.Set("Range", "bytes="+strings.Repeat("1-1,", n))
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		parts := 0
		if resp.StatusCode == 206 {
			_, parameters, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
			mr := multipart.NewReader(resp.Body, parameters["boundary"])
			for {
				part, err := mr.NextPart()
				if err == io.EOF {
					break
				}
				p, _ := io.ReadAll(part)
				if err != nil || string(p) != "x" || part.Header.Get("Content-Range") != "bytes 1-1/10000" {
					t.Fatalf("%v, %q, %v", err, p, part.Header)
				}
				parts++
			}
		}
		if want := n; n > rangesMax && (resp.StatusCode != 200 || resp.ContentLength != 10_000) || n <= rangesMax && parts != want {
			t.Errorf("%d ranges: status %d, %d parts", n, resp.StatusCode, parts)
		}
		resp.Body.Close()
	}
}

// Content that is shorter than it said is not taken for all of it.
func TestServeContentThatFails(t *testing.T) {
	url := TestServer(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.ServeContent("a.txt", time.Time{}, &shrinkingContent{strings.NewReader(rangeContent)})
	})})
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if p, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%q of %d bytes was whole", p, resp.ContentLength)
	}
}

// A shrinkingContent has lost its end since its size was asked for.
type shrinkingContent struct{ *strings.Reader }

func (s *shrinkingContent) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		return int64(s.Len()) + 5, nil
	}
	return s.Reader.Seek(offset, whence)
}

// validRanges is the grammar of RFC 9110 §14.1.1, for bytes, with the blanks and
// empty members that lists may have.
var validRanges = regexp.MustCompile(`^bytes=(?:[ \t]*(?:\d+-\d*|-\d+)?[ \t]*(?:,|$))*$`)

// What is a list of ranges by its grammar has the answer that it gets from
// net/http, and what is none is answered as if it were not there.
func FuzzServeContent(f *testing.F) {
	for _, seed := range []string{"bytes=0-1,4-5", "bytes=-3", "bytes=5-", "bytes=19-,20-", "bytes=1-1,,2-2 ", "bytes=4-2", "lines=1-2", "bytes=", "bytes=-0"} {
		f.Add(seed, `"a"`)
	}
	flares, https := contentServers(f)
	f.Fuzz(func(t *testing.T, ranges, ifRange string) {
		if !isFieldValue(ranges) || !isFieldValue(ifRange) || trimBlank(ranges) != ranges || trimBlank(ifRange) != ifRange || len(ranges)+len(ifRange) > 4000 {
			t.Skip("no field that could arrive")
		}
		if hasPrefixFold(ranges, "bytes=") && !strings.HasPrefix(ranges, "bytes=") {
			t.Skip("units have no case (RFC 9110 §14.1), for net/http they do")
		}
		if tag, rest := nextETag(ifRange); strings.Contains(ifRange, `"`) && (tag == "" || rest != "") {
			ifRange = "" // malformed, which net/http does not mind behind a tag
		}
		fields := []string{"Range", ranges}
		if ifRange != "" {
			fields = append(fields, "If-Range", ifRange)
		}
		status, got := contentAnswer(t, flares[0], fields...)
		if _, file := contentAnswer(t, flares[1], fields...); file != got {
			t.Errorf("%q: of a file\n%s\nof content\n%s", fields, file, got)
		}
		theirs, want := contentAnswer(t, https, fields...)
		members := 0
		for member := range strings.SplitSeq(strings.TrimPrefix(ranges, "bytes="), ",") {
			first, last, _ := strings.Cut(trimBlank(member), "-")
			a, hasA := rangePos(first)
			b, hasB := rangePos(last)
			switch {
			case hasA && hasB && a > b:
				t.Skip("invalid, though not by the grammar")
			case !hasA && hasB && b == 0:
				t.Skip("a suffix of nothing cannot be had; net/http sends a part of no octets")
			case len(first) > 18 || len(last) > 18:
				t.Skip("net/http has no such numbers")
			case trimBlank(member) != "":
				members++
			}
		}
		switch {
		case !validRanges.MatchString(ranges) || members == 0:
			if status != 200 {
				t.Errorf("%q: %d", ranges, status)
			}
		case members > rangesMax:
		case got != want:
			t.Errorf("%q:\n%s\nwant (%d)\n%s", fields, got, theirs, want)
		}
	})
}
