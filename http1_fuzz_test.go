package flare

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzHTTPConn feeds a connection arbitrary octets, whole and cut at arbitrary
// places, with a peer that reads in arbitrary pieces. The answers have to be
// the same, and have to be answers.
func FuzzHTTPConn(f *testing.F) {
	for _, fc := range feedCases() {
		if len(fc.input) < 2<<10 {
			f.Add([]byte(fc.input), []byte{1, 2, 3}, uint8(5))
		}
	}
	for _, row := range refusals() {
		if len(row.input) < 2<<10 {
			f.Add([]byte(request("/")+row.input), []byte{30, 1}, uint8(0))
		}
	}
	s := describingServer()
	s.MaxURIBytes, s.MaxHeaderBytes, s.MaxHeaders, s.MaxBodyBytes = 256, 512, 8, 1<<10
	s.ErrorHandler = func(w *ResponseWriter, r *Request, err error) {
		if r.Method() == http.MethodHead { // also of a head that is refused further on
			w.Header().Set("X-Head", "1")
		}
		var status *StatusError
		errors.As(err, &status)
		answerStatus(behindResponse(w), status)
	}
	feeder := newFeeder(f, s)
	f.Fuzz(func(t *testing.T, input, cuts []byte, sendMax uint8) {
		feeder.t = t
		whole := feeder.run(feed{pieces: []string{string(input)}, half: true})
		checkAnswers(t, whole.out)
		cut := feeder.run(feed{pieces: cutAt(string(input), cuts), half: true, sendMax: int(sendMax)})
		// Whether a client is asked to go on depends on what has come by then,
		// and so does whether one that was not asked keeps its connection.
		if expects(input) {
			checkAnswers(t, cut.out)
			return
		}
		if cut != whole {
			t.Errorf("%s", difference(cut, whole))
		}
	})
}

func expects(input []byte) bool { return bytes.Contains(bytes.ToLower(input), []byte("100-continue")) }

// cutAt cuts s into pieces of those lengths, again and again.
func cutAt(s string, lengths []byte) (pieces []string) {
	for i := 0; len(s) > 0 && len(lengths) > 0; i++ {
		n := min(1+int(lengths[i%len(lengths)]), len(s))
		pieces = append(pieces, s[:n])
		s = s[n:]
	}
	return append(pieces, s)
}

// checkAnswers fails the test unless out is well-formed responses, of which the
// last alone may say that it is the last.
func checkAnswers(t *testing.T, out string) {
	t.Helper()
	br := bufio.NewReaderSize(strings.NewReader(out), len(out)+16)
	for closed := false; ; {
		fields, err := br.Peek(len(out) + 1)
		if len(fields) == 0 && err == io.EOF {
			return
		}
		if closed {
			t.Fatalf("an answer behind the last: %q", tail([]byte(out)))
		}
		end := bytes.Index(fields, []byte("\r\n\r\n"))
		if end < 0 {
			t.Fatalf("half an answer: %q", tail(fields))
		}
		fields = fields[:end+len("\r\n")]
		if bytes.Contains(bytes.ReplaceAll(fields, []byte("\r\n"), nil), []byte("\n")) {
			t.Fatalf("bare line end: %q", fields)
		}
		method := http.MethodGet
		if bytes.Contains(fields, []byte("\r\nX-Head: 1\r\n")) {
			method = http.MethodHead
		}
		interim := bytes.HasPrefix(fields, []byte("HTTP/1.1 100 "))
		a, err := readAnswer(br, method)
		if err != nil {
			t.Fatalf("%v in %q", err, tail([]byte(out)))
		}
		if interim { // net/http takes its fields for the answer's; it has none
			if len(a.Header) > 0 || a.body != "" {
				t.Fatalf("100 with more than its status line: %q", tail([]byte(out)))
			}
			continue
		}
		if a.StatusCode < 200 || a.Header.Get("Date") == "" || a.StatusCode >= 400 && a.StatusCode != 404 && !a.Close {
			t.Fatalf("%d %q", a.StatusCode, a.Header)
		}
		closed = a.Close
	}
}
