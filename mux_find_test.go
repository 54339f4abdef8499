package flare

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestFindRoute(t *testing.T) {
	type probe struct{ method, host, path, pattern, values string }
	tests := []struct {
		name     string
		patterns []string
		probes   []probe
	}{
		{"literal before wildcard before rest", []string{"/a/b", "/a/{x}", "/a/", "/{y}", "/"}, []probe{
			{"GET", "", "/a/b", "/a/b", ""},
			{"GET", "", "/a/c", "/a/{x}", "x=c"},
			{"GET", "", "/a/b/c", "/a/", ""},
			{"GET", "", "/a/", "/a/", ""},
			{"GET", "", "/b", "/{y}", "y=b"},
			{"GET", "", "/b/", "/", ""},
			{"GET", "", "/", "/", ""},
		}},
		{"backtracking", []string{"/a/b/z", "/a/{x}/c", "/{x}/{y}/{z}"}, []probe{
			{"GET", "", "/a/b/z", "/a/b/z", ""},
			{"GET", "", "/a/b/c", "/a/{x}/c", "x=b"},
			{"GET", "", "/a/b/d", "/{x}/{y}/{z}", "x=a y=b z=d"},
			{"GET", "", "/a/b", "", ""},
		}},
		{"methods", []string{"GET /a", "POST /a", "/a", "HEAD /h", "GET /h", "PROPFIND /p"}, []probe{
			{"GET", "", "/a", "GET /a", ""},
			{"HEAD", "", "/a", "GET /a", ""},
			{"POST", "", "/a", "POST /a", ""},
			{"PUT", "", "/a", "/a", ""},
			{"BREW", "", "/a", "/a", ""},
			{"get", "", "/a", "/a", ""},
			{"HEAD", "", "/h", "HEAD /h", ""},
			{"GET", "", "/h", "GET /h", ""},
			{"PROPFIND", "", "/p", "PROPFIND /p", ""},
			{"GET", "", "/p", "", ""},
			{"CONNECT", "", "/a", "", ""},
			{"TRACE", "", "/a", "", ""},
		}},
		{"a method may need another path", []string{"GET /a/b", "POST /a/{x}", "PUT /"}, []probe{
			{"GET", "", "/a/b", "GET /a/b", ""},
			{"POST", "", "/a/b", "POST /a/{x}", "x=b"},
			{"PUT", "", "/a/b", "PUT /", ""},
			{"DELETE", "", "/a/b", "", ""},
		}},
		{"CONNECT and TRACE by name", []string{"CONNECT /", "TRACE /t", "CONNECT h:443/", "/"}, []probe{
			{"CONNECT", "x:443", "", "CONNECT /", ""},
			{"CONNECT", "h:443", "", "CONNECT h:443/", ""},
			{"CONNECT", "h:444", "", "CONNECT /", ""},
			{"CONNECT", "x", "/a//b/../c", "CONNECT /", ""},
			{"TRACE", "", "/t", "TRACE /t", ""},
			{"TRACE", "", "/u", "", ""},
			{"GET", "", "/t", "/", ""},
		}},
		{"{$}", []string{"/{$}", "/a/{$}", "/a/{x}"}, []probe{
			{"GET", "", "/", "/{$}", ""},
			{"GET", "", "", "/{$}", ""},
			{"GET", "", "/a/", "/a/{$}", ""},
			{"GET", "", "/a/b", "/a/{x}", "x=b"},
			{"GET", "", "/a/b/", "", ""},
		}},
		{"rest", []string{"/{x}/f/{r...}", "POST /{y}/f/"}, []probe{
			{"GET", "", "/a/f/", "/{x}/f/{r...}", "x=a r="},
			{"GET", "", "/a/f/b/c%2Fd/", "/{x}/f/{r...}", "x=a r=b/c/d/"},
			{"POST", "", "/a/f/b", "POST /{y}/f/", "y=a"},
		}},
		{"empty path", []string{"/{r...}"}, []probe{{"GET", "", "", "/{r...}", "r="}}},
		{"escapes", []string{"/a%2fb/", "/a/b/", "/%2F", "/{$}", "/p%25q/{v}", "/d/{x}/"}, []probe{
			{"GET", "", "/a%2Fb/c", "/a%2fb/", ""},
			{"GET", "", "/a/b/c", "/a/b/", ""},
			{"GET", "", "/%61/%62/c", "/a/b/", ""},
			{"GET", "", "/%2f", "/%2F", ""},
			{"GET", "", "/", "/{$}", ""},
			{"GET", "", "/p%25q/%41+", "/p%25q/{v}", "v=A+"},
			{"GET", "", "/d/%2F/e", "/d/{x}/", "x=/"},
			{"GET", "", "/d/%2e%2e/e", "/d/{x}/", "x=.."},
		}},
		{"hosts", []string{"h.com/a", "h.com/b/{x}", "/a", "/b/c", "[::1]/a", "GET h.com/m", "/m", "i:8/a"}, []probe{
			{"GET", "h.com", "/a", "h.com/a", ""},
			{"GET", "h.com:8080", "/a", "h.com/a", ""},
			{"GET", "H.Com:8080", "/a", "h.com/a", ""},
			{"GET", "h.com:", "/a", "h.com/a", ""},
			{"GET", "x.com", "/a", "/a", ""},
			{"GET", "", "/a", "/a", ""},
			{"GET", "h.com", "/b/c", "h.com/b/{x}", "x=c"},
			{"GET", "[::1]", "/a", "[::1]/a", ""},
			{"GET", "[::1]:80", "/a", "[::1]/a", ""},
			{"GET", "::1", "/a", "[::1]/a", ""},
			{"GET", "[::1", "/a", "/a", ""},
			{"POST", "h.com", "/m", "/m", ""},
			{"GET", "i:8", "/a", "/a", ""},
			{"GET", strings.Repeat("H", 300), "/a", "/a", ""},
		}},
		{"many literals", []string{"/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i/{x}/w", "/{y}/z",
			"/long-literal-segment-1", "/long-literal-segment-2", "/longer-literal-segment"}, []probe{
			{"GET", "", "/h", "/h", ""},
			{"GET", "", "/%68", "/h", ""},
			{"GET", "", "/i/1/w", "/i/{x}/w", "x=1"},
			{"GET", "", "/i/z", "/{y}/z", "y=i"},
			{"GET", "", "/long-literal-segment-2", "/long-literal-segment-2", ""},
			{"GET", "", "/longer-literal-segment", "/longer-literal-segment", ""},
			{"GET", "", "/long-literal-segment-%32", "/long-literal-segment-2", ""},
			{"GET", "", "/long-literal-segment-3", "", ""},
			{"GET", "", "/j/z", "/{y}/z", "y=j"},
			{"GET", "", "/j", "", ""},
		}},
	}
	for _, tt := range tests {
		table := testTable(t, tt.patterns...)
		for _, p := range tt.probes {
			var m routeMatch
			table.find(&m, p.method, p.host, p.path)
			got := ""
			if m.kind == matchFound {
				got = m.pattern()
			}
			if got != p.pattern {
				t.Errorf("%s: %s %q %q: pattern %q (kind %d), want %q", tt.name, p.method, p.host, p.path, got, m.kind, p.pattern)
				continue
			}
			for _, pair := range strings.Fields(p.values) {
				name, want, _ := strings.Cut(pair, "=")
				if v, ok := m.value(p.path, name); v != want || !ok {
					t.Errorf("%s: %q: %s = %q, %v, want %q", tt.name, p.path, name, v, ok, want)
				}
			}
			if _, ok := m.value(p.path, ""); ok || m.count != len(strings.Fields(p.values)) {
				t.Errorf("%s: %q: %d values, want %q", tt.name, p.path, m.count, p.values)
			}
		}
	}
}

func TestFindRedirects(t *testing.T) {
	table := testTable(t, "/", "/tree/", "/s/{x}/sub/", "GET /get/{r...}", "/both", "/both/", "h/only/", "TRACE /trace/")
	tests := []struct {
		method, host, path string
		kind               matchKind
		pattern            string
	}{
		{"GET", "", "/tree", matchSlash, "/tree/"},
		{"POST", "", "/tree", matchSlash, "/tree/"},
		{"GET", "", "/tree/", matchFound, "/tree/"},
		{"GET", "", "/s/a/sub", matchSlash, "/s/{x}/sub/"},
		{"HEAD", "", "/get", matchSlash, "GET /get/{r...}"},
		{"POST", "", "/get", matchFound, "/"},
		{"GET", "", "/both", matchFound, "/both"},
		{"GET", "h", "/only", matchSlash, "h/only/"},
		{"GET", "i", "/only", matchFound, "/"},
		{"GET", "", "//tree", matchSlash, "/tree/"},
		{"GET", "", "//tree/", matchClean, "/tree/"},
		{"GET", "", "/x/../both", matchClean, "/both"},
		{"GET", "", "/both/.", matchClean, "/both"},
		{"GET", "", "/..", matchClean, "/"},
		{"GET", "", "/.", matchClean, "/"},
		{"GET", "", "/...", matchFound, "/"},
		{"GET", "", "/.a/..b/c.", matchFound, "/"},
		{"GET", "", "/%2e%2e/x", matchFound, "/"},
		{"TRACE", "", "/trace", matchSlash, "TRACE /trace/"},
		{"TRACE", "", "//trace/", matchClean, "TRACE /trace/"},
		{"TRACE", "", "//tree/", matchRefused, ""},
		{"CONNECT", "", "//tree/", matchRefused, ""},
		{"OPTIONS", "", "*", matchServer, ""},
	}
	for _, tt := range tests {
		var m routeMatch
		table.find(&m, tt.method, tt.host, tt.path)
		if m.kind != tt.kind || m.pattern() != tt.pattern {
			t.Errorf("%s %q%q: kind %d pattern %q, want %d %q", tt.method, tt.host, tt.path, m.kind, m.pattern(), tt.kind, tt.pattern)
		}
		if m.kind != matchFound && m.count != 0 {
			t.Errorf("%s %q: %d values without a match", tt.method, tt.path, m.count)
		}
	}
}

// Looking for a subtree must leave the values of what was found before.
func TestValuesSurviveTheSlashSearch(t *testing.T) {
	const path = "/a/bb/ccc"
	m := routeAlone(t, path, "GET /a/{r...}", "POST /a/{x}/{y}/", "PUT /{x}/{y}/{z}/{$}")
	if v, _ := m.value(path, "r"); v != "bb/ccc" || m.kind != matchFound {
		t.Errorf("r = %q, kind %d", v, m.kind)
	}
}

func TestAllow(t *testing.T) {
	table := testTable(t, "GET /a", "POST /a", "PUT /{x}", "h/a", "BREW /{x}", "BREW /{$}", "DELETE /tree/",
		"CONNECT /c", "TRACE /a", "PATCH /any/{y}", "GET /any/b", "/free/{y}", "OPTIONS /free/b")
	const common = "DELETE GET HEAD OPTIONS PATCH POST PUT"
	tests := []struct{ method, host, path, want string }{
		{"DELETE", "", "/a", "BREW GET HEAD POST PUT TRACE"},
		{"DELETE", "", "/%61", "BREW GET HEAD POST PUT TRACE"},
		{"GET", "", "/tree", "BREW DELETE PUT"},
		{"GET", "", "/tree/x", "DELETE"},
		{"GET", "", "/tree/x/", "DELETE"},
		{"GET", "", "/c", "BREW CONNECT PUT"},
		{"GET", "", "/any/b", "GET HEAD PATCH"},
		{"GET", "", "/any/c", "PATCH"},
		{"GET", "", "", "BREW"},
		{"GET", "", "/", "BREW"},
		{"GET", "", "/none/of/it", ""},
		{"CONNECT", "", "", ""},
		{"CONNECT", "", "/tree/", "DELETE"},
		{"TRACE", "", "/free/b", common},
		{"TRACE", "h", "/a", "BREW " + common + " TRACE"},
	}
	for _, tt := range tests {
		if got := strings.Join(table.allow(&routeMatch{}, tt.method, tt.host, tt.path), " "); got != tt.want {
			t.Errorf("%s %q: Allow %q, want %q", tt.method, tt.path, got, tt.want)
		}
	}
}

var benchmarkPatterns = []string{
	"GET /plaintext", "GET /json", "GET /db", "GET /queries", "GET /fortunes", "GET /updates",
	"GET /{$}", "GET /health", "GET /metrics", "POST /login", "POST /logout",
	"GET /users", "POST /users", "GET /users/{id}", "PUT /users/{id}", "DELETE /users/{id}",
	"GET /users/{id}/posts/{post}", "GET /static/{path...}", "GET /api/v1/items", "GET /api/v1/items/{item}",
}

var benchmarkProbes = []struct{ name, path, pattern string }{
	{"Literal", "/plaintext", "GET /plaintext"},
	{"Wildcard", "/users/12345", "GET /users/{id}"},
	{"TwoWildcards", "/users/12345/posts/67", "GET /users/{id}/posts/{post}"},
	{"Rest", "/static/css/site.css", "GET /static/{path...}"},
	{"Escaped", "/users/a%20b", "GET /users/{id}"},
	{"Missing", "/nothing/here", ""},
}

func TestFindAllocations(t *testing.T) {
	tables := map[string]*routeTable{
		"no hosts": testTable(t, benchmarkPatterns...),
		"hosts":    testTable(t, append([]string{"example.com/", "[::1]/"}, benchmarkPatterns...)...),
	}
	for name, table := range tables {
		for _, p := range benchmarkProbes {
			var m routeMatch
			if n := testing.AllocsPerRun(100, func() { table.find(&m, "GET", "Other.example:80", p.path) }); n != 0 {
				t.Errorf("%s, %s: %v allocations", name, p.path, n)
			}
			if got := m.pattern(); got != p.pattern {
				t.Errorf("%s, %s: pattern %q, want %q", name, p.path, got, p.pattern)
			}
		}
	}
}

func BenchmarkMuxFind(b *testing.B) {
	table := testTable(b, benchmarkPatterns...)
	for _, p := range benchmarkProbes {
		b.Run(p.name, func(b *testing.B) {
			b.ReportAllocs()
			m := &routeMatch{}
			for b.Loop() {
				table.find(m, "GET", "localhost:8080", p.path)
			}
		})
	}
}

func BenchmarkServeMuxHandler(b *testing.B) {
	mux := http.NewServeMux()
	for _, p := range benchmarkPatterns {
		mux.Handle(p, http.NotFoundHandler())
	}
	for _, p := range benchmarkProbes {
		b.Run(p.name, func(b *testing.B) {
			b.ReportAllocs()
			u, err := url.ParseRequestURI(p.path)
			if err != nil {
				b.Fatal(err)
			}
			r := &http.Request{Method: "GET", Host: "localhost:8080", URL: u, RequestURI: p.path}
			for b.Loop() {
				mux.Handler(r)
			}
		})
	}
}
