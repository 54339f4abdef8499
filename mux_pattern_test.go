package flare

import (
	"strings"
	"testing"
)

func TestParsePattern(t *testing.T) {
	lit := func(s string) patternSegment { return patternSegment{segmentLiteral, s} }
	wild := func(s string) patternSegment { return patternSegment{segmentWild, s} }
	rest := func(s string) patternSegment { return patternSegment{segmentRest, s} }
	end := patternSegment{kind: segmentEnd}
	tests := []struct {
		text, method, host string
		segments           []patternSegment
		names              string
	}{
		{"/", "", "", []patternSegment{rest("")}, ""},
		{"/{$}", "", "", []patternSegment{end}, ""},
		{"/a", "", "", []patternSegment{lit("a")}, ""},
		{"/a/", "", "", []patternSegment{lit("a"), rest("")}, ""},
		{"/a/{$}", "", "", []patternSegment{lit("a"), end}, ""},
		{"/{x}", "", "", []patternSegment{wild("x")}, "x"},
		{"/{x}/{$}", "", "", []patternSegment{wild("x"), end}, "x"},
		{"/{x...}", "", "", []patternSegment{rest("x")}, "x"},
		{"/a/{é1}/b/{_...}", "", "", []patternSegment{lit("a"), wild("é1"), lit("b"), rest("_")}, "é1 _"},
		{"GET /a", "GET", "", []patternSegment{lit("a")}, ""},
		{"GET \t /a", "GET", "", []patternSegment{lit("a")}, ""},
		{" /a", "", "", []patternSegment{lit("a")}, ""},
		{"M-SEARCH /", "M-SEARCH", "", []patternSegment{rest("")}, ""},
		{"example.com/", "", "example.com", []patternSegment{rest("")}, ""},
		{"GET Example.COM/a", "GET", "example.com", []patternSegment{lit("a")}, ""},
		{"[::1]/a", "", "::1", []patternSegment{lit("a")}, ""},
		{"::1/a", "", "::1", []patternSegment{lit("a")}, ""},
		{"CONNECT h:443/", "CONNECT", "h:443", []patternSegment{rest("")}, ""},
		{"/%61/a%2Fb", "", "", []patternSegment{lit("a"), lit("a/b")}, ""},
		{"/%zz", "", "", []patternSegment{lit("%zz")}, ""},
		{"/%2F", "", "", []patternSegment{lit("/")}, ""},
		{"/a}b", "", "", []patternSegment{lit("a}b")}, ""},
		{"CONNECT /a//b", "CONNECT", "", []patternSegment{lit("a"), lit(""), lit("b")}, ""},
	}
	for _, tt := range tests {
		p, err := parsePattern(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		same := len(p.segments) == len(tt.segments)
		for i := 0; same && i < len(p.segments); i++ {
			same = p.segments[i] == tt.segments[i]
		}
		if p.text != tt.text || p.method != tt.method || p.host != tt.host || !same || strings.Join(p.names, " ") != tt.names {
			t.Errorf("%q: got %+v", tt.text, p)
		}
	}
}

func TestParsePatternRefuses(t *testing.T) {
	tests := []struct{ text, rule string }{
		{"", "no slash"},
		{"GET", "no slash"},
		{"GET ", "no slash"},
		{"example.com", "no slash"},
		{"/{", "whole segment"},
		{"/{}", "identifier"},
		{"/{...}", "identifier"},
		{"/{$...}", "identifier"},
		{"/{1a}", "identifier"},
		{"/{a-b}", "identifier"},
		{"/{a.b...}", "identifier"},
		{"/{a}b", "whole segment"},
		{"/a{b}", "whole segment"},
		{"/a{b", "whole segment"},
		{"/{$}/", "not at the end"},
		{"/{$}/a", "not at the end"},
		{"/{a...}/", "not at the end"},
		{"/{a...}/b", "not at the end"},
		{"/{a}/{a}", "appears twice"},
		{"/{a}/{a...}", "appears twice"},
		{"{a}/b", "in the host"},
		{"GET a b/c", "in the host"},
		{"G\x01T /", "not a token"},
		{"GE{T} /", "not a token"},
		{"G\u00e9T /", "not a token"},
		{"//", "not clean"},
		{"/a//b", "not clean"},
		{"GET /a/./b", "not clean"},
		{"GET /a/..", "not clean"},
		{"TRACE /a//b", "not clean"},
	}
	for _, tt := range tests {
		if p, err := parsePattern(tt.text); err == nil {
			t.Errorf("%q: parsed as %+v, want an error", tt.text, p)
		} else if !strings.Contains(err.Error(), tt.rule) {
			t.Errorf("%q: error %q does not name the rule %q", tt.text, err, tt.rule)
		}
	}
}

func TestPatternConflicts(t *testing.T) {
	const none = ""
	tests := []struct{ a, b, why string }{
		{"/a", "/a", "same requests"},
		{"/a", "/%61", "same requests"},
		{"/{x}", "/{y}", "same requests"},
		{"/a/", "/a/{x...}", "same requests"},
		{"GET /a", "GET  /a", "same requests"},
		{"H.com/a", "h.com/a", "same requests"},
		{"[::1]/", "::1/", "same requests"},
		{"/a/{x}", "/{y}/b", `paths like "/a/b"`},
		{"/a/{x...}", "/{y}/b", `paths like "/a/b"`},
		{"/{x}/b/", "/a/{y...}", `paths like "/a/b/"`},
		{"/{x}/{$}", "/a/", `paths like "/a/"`},
		{"/{x}/{$}", "/a/{$}", none},
		{"/a/{x}/{$}", "/{y}/b/", `paths like "/a/b/"`},
		{"GET /", "/index.html", "more methods"},
		{"/index.html", "GET /", "more methods"},
		{"HEAD /", "GET /a", "fewer methods"},
		{"GET /a", "HEAD /", "more methods"},
		{"/a", "/b", none},
		{"/a", "/a/", none},
		{"/a", "/a/{$}", none},
		{"/{x}", "/{$}", none},
		{"/a/", "/a/{$}", none},
		{"/", "/{x}", none},
		{"/", "/{x...}", "same requests"},
		{"/a/b/", "/a/", none},
		{"/{x}", "/a", none},
		{"/{x}/b", "/{x}/c", none},
		{"GET /{x}", "POST /{y}", none},
		{"GET /a", "HEAD /a", none},
		{"GET /a", "/a", none},
		{"GET /a", "/{x}", none},
		{"h/", "/a", none},
		{"h/{x}/b", "/a/{y}", none},
		{"h/{x}/b", "i/a/{y}", none},
		{"h/{x}/b", "h/a/{y}", `paths like "/a/b"`},
		{"CONNECT /", "/a", none},
		{"TRACE /", "/", none},
		{"TRACE /", "GET /", none},
		{"CONNECT /", "CONNECT /{x...}", "same requests"},
	}
	for _, tt := range tests {
		for range 2 {
			a, err := parsePattern(tt.a)
			if err != nil {
				t.Fatal(err)
			}
			b, err := parsePattern(tt.b)
			if err != nil {
				t.Fatal(err)
			}
			why := a.conflictWith(b)
			if (why == "") != (tt.why == "") {
				t.Errorf("%q and %q: %q, want %q", tt.a, tt.b, why, tt.why)
			}
			if why != "" && (!strings.Contains(why, tt.a) || !strings.Contains(why, tt.b)) {
				t.Errorf("%q and %q: %q does not name both", tt.a, tt.b, why)
			}
			if strings.Contains(tt.why, " methods") { // which has more depends on the order
				tt.why = strings.NewReplacer("more", "fewer", "fewer", "more").Replace(tt.why)
			} else if !strings.Contains(why, tt.why) {
				t.Errorf("%q and %q: %q, want %q", tt.a, tt.b, why, tt.why)
			}
			tt.a, tt.b = tt.b, tt.a
		}
	}
}
