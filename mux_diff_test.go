package flare

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

// The Mux beside net/http.ServeMux: the same patterns are accepted and
// refused, and the same requests find the same pattern, values and redirects.
// Where the Mux means to differ (its doc comment lists it), the reference is
// built so that it does the same:
//
//   - CONNECT and TRACE need a pattern that names them: these patterns are in
//     a ServeMux of their own, which alone is asked for such requests.
//   - Redirects keep the escapes of the path, where ServeMux loses some and
//     doubles others: with escapes the expected Location is made here.

type muxProbe struct{ method, host, path, query string }

// muxPair is a Mux with the reference.
type muxPair struct {
	t        testing.TB
	mux      *Mux
	common   *http.ServeMux // patterns without CONNECT and TRACE
	explicit *http.ServeMux // patterns with one of them
	seen     string         // pattern of the handler that ran last
	values   map[string]string
	outcomes map[string]int // what the reference answered
}

func newMuxPair(t testing.TB) *muxPair {
	return &muxPair{t: t, mux: NewMux(), common: http.NewServeMux(), explicit: http.NewServeMux(), outcomes: make(map[string]int)}
}

// reference returns the ServeMux that knows the patterns for a method.
func (p *muxPair) reference(method string) *http.ServeMux {
	if explicitOnly(method) {
		return p.explicit
	}
	return p.common
}

// panics runs f and returns what it panicked with, or nil.
func panics(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

// register adds a pattern to both, which must agree whether it can be.
func (p *muxPair) register(pattern string) {
	p.t.Helper()
	method := ""
	if i := strings.IndexAny(pattern, " \t"); i >= 0 {
		method = pattern[:i]
	}
	names := wildcardNames(pattern)
	want := panics(func() {
		p.reference(method).HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) {
			p.record(r.Pattern, names, r.PathValue)
		})
	})
	got := panics(func() {
		p.mux.Handle(pattern, HandlerFunc(func(_ *ResponseWriter, r *Request) error {
			p.record(r.lease.x.r.match.pattern(), names, func(name string) string { return pathValue(r, name) })
			return nil
		}))
	})
	if (want == nil) != (got == nil) {
		p.t.Errorf("registering %q: %v; ServeMux: %v", pattern, got, want)
	}
	if want != nil {
		p.outcomes["conflict"]++
	}
}

func (p *muxPair) record(pattern string, names []string, value func(string) string) {
	p.seen = pattern
	p.values = make(map[string]string)
	for _, name := range names {
		p.values[name] = value(name)
	}
}

func wildcardNames(pattern string) (names []string) {
	for _, seg := range strings.Split(pattern, "/") {
		if name := strings.Trim(strings.TrimSuffix(seg, "...}"), "{}"); strings.HasPrefix(seg, "{") && name != "$" {
			names = append(names, name)
		}
	}
	return names
}

// serveReference answers a probe as ServeMux does.
func (p *muxPair) serveReference(mux *http.ServeMux, q muxProbe) (r *http.Request, rec *httptest.ResponseRecorder) {
	target := q.path
	if q.query != "" {
		target += "?" + q.query
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		p.t.Fatalf("%q: %v", target, err)
	}
	r = &http.Request{Method: q.method, Host: q.host, URL: u, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	rec = httptest.NewRecorder()
	p.seen, p.values = "", nil
	mux.ServeHTTP(rec, r)
	return r, rec
}

func (p *muxPair) compare(q muxProbe) {
	p.t.Helper()
	fail := func(format string, args ...any) {
		p.t.Helper()
		p.t.Errorf("%s %q%s?%s: %s", q.method, q.host, q.path, q.query, fmt.Sprintf(format, args...))
	}
	ref, rec := p.serveReference(p.reference(q.method), q)
	wantSeen, wantValues := p.seen, p.values

	r := newMuxRequest(q.method, q.host, q.path)
	if q.query != "" {
		r = newMuxRequest(q.method, q.host, q.path+"?"+q.query)
	}
	p.seen, p.values = "", nil
	got := serveMux(p.mux, r)
	if p.seen != wantSeen {
		fail("pattern %q, ServeMux %q", p.seen, wantSeen)
	}
	for name, want := range wantValues {
		if p.values[name] != want {
			fail("%s = %q, ServeMux %q", name, p.values[name], want)
		}
	}
	p.outcomes[fmt.Sprint(rec.Code, len(wantValues) > 0)]++
	switch {
	case wantSeen != "":
		if got.err != nil || got.status != 0 {
			fail("status %d, error %v from a handler that ran", got.status, got.err)
		}
	case rec.Code == http.StatusTemporaryRedirect && !(explicitOnly(q.method) && ref.Pattern == ""):
		p.compareRedirect(fail, q, got, r.lease.x.r.match.pattern(), ref.Pattern, rec.Header().Get("Location"))
	default:
		p.compareRefusal(fail, q, got, rec)
	}
}

func (p *muxPair) compareRedirect(fail func(string, ...any), q muxProbe, got muxAnswer, pattern, wantPattern, location string) {
	if got.status != http.StatusTemporaryRedirect || got.err != nil {
		fail("status %d, error %v, ServeMux redirects to %q", got.status, got.err, location)
	}
	if q.method != "CONNECT" && pattern != wantPattern { // for CONNECT ServeMux has the path there
		fail("redirect for pattern %q, ServeMux %q", pattern, wantPattern)
	}
	gotPath, gotQuery, _ := strings.Cut(got.location, "?")
	wantPath, wantQuery, _ := strings.Cut(location, "?")
	if gotQuery != wantQuery {
		fail("redirected with query %q, ServeMux %q", gotQuery, wantQuery)
	}
	if strings.Contains(q.path, "%") {
		want := path.Clean(q.path)
		if strings.HasSuffix(wantPath, "/") && want != "/" {
			want += "/"
		}
		wantPath = want
	}
	gotText, err := url.PathUnescape(gotPath)
	wantText, _ := url.PathUnescape(wantPath)
	if err != nil || gotText != wantText {
		fail("redirected to %q, want %q", gotPath, wantPath)
	}
	if strings.Trim(gotPath, "/abc.%25F1") == "" && gotPath != wantPath {
		fail("redirected to %q, want exactly %q", gotPath, wantPath)
	}
}

func (p *muxPair) compareRefusal(fail func(string, ...any), q muxProbe, got muxAnswer, rec *httptest.ResponseRecorder) {
	// A method that nothing is registered for gets the list from the other
	// mux. There is none to get for CONNECT and TRACE from patterns that take
	// any method.
	allow := splitAllow(rec.Header().Get("Allow"))
	if explicitOnly(q.method) {
		if got.status != http.StatusMethodNotAllowed || !got.hasAllow {
			fail("status %d, Allow %v, want 405", got.status, got.hasAllow)
		}
		for _, method := range allow {
			if !slices.Contains(splitAllow(got.allow), method) {
				fail("Allow %q lacks %s", got.allow, method)
			}
		}
		return
	}
	_, other := p.serveReference(p.explicit, muxProbe{"NEVER", q.host, q.path, ""})
	allow = append(allow, splitAllow(other.Header().Get("Allow"))...)
	slices.Sort(allow)
	allow = slices.Compact(allow)
	want := http.StatusMethodNotAllowed
	if len(allow) == 0 {
		want = http.StatusNotFound
	}
	if got.status != want || got.allow != strings.Join(allow, ", ") {
		fail("status %d, Allow %q, want %d, %q (ServeMux %d)", got.status, got.allow, want, allow, rec.Code)
	}
}

func splitAllow(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ", ")
}

func pick(rng *rand.Rand, of ...string) string { return of[rng.IntN(len(of))] }

func randomPattern(rng *rand.Rand) string {
	var b strings.Builder
	b.WriteString(pick(rng, "", "", "", "GET ", "GET ", "POST ", "HEAD ", "PROPFIND ", "CONNECT ", "TRACE "))
	b.WriteString(pick(rng, "", "", "", "", "h", "i"))
	for i := range rng.IntN(4) {
		b.WriteString("/" + pick(rng, "a", "a", "b", "c", "%61", "a%2Fb", fmt.Sprintf("{x%d}", i), fmt.Sprintf("{y%d}", i)))
	}
	s := b.String()
	end := pick(rng, "", "", "", "/", "/{$}", "/{r...}")
	if end == "" && !strings.Contains(s, "/") {
		end = "/"
	}
	return s + end
}

func randomProbe(rng *rand.Rand) muxProbe {
	q := muxProbe{
		method: pick(rng, "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "PROPFIND", "BREW", "CONNECT", "TRACE"),
		host:   pick(rng, "", "h", "h:80", "i", "j:1", "::1", "[::1]:1"),
		query:  pick(rng, "", "", "q=%2F//&x"),
	}
	segments := []string{"a", "a", "a", "b", "b", "c", "d", "%61", "%62", "a%2Fb", "x!y", "%2e", "..."}
	if q.method != "CONNECT" { // whose paths are not cleaned, and ServeMux takes "" for {name}
		segments = append(segments, "", ".", "..")
	}
	var b strings.Builder
	for range rng.IntN(5) {
		b.WriteString("/" + pick(rng, segments...))
	}
	b.WriteString(pick(rng, "", "", "/"))
	if q.path = b.String(); q.path == "" {
		q.path = "/"
	}
	return q
}

func TestMuxAgainstServeMux(t *testing.T) {
	outcomes := make(map[string]int)
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 1))
		pair := newMuxPair(t)
		pair.outcomes = outcomes
		for range 2 + rng.IntN(40) {
			pair.register(randomPattern(rng))
			// Between registrations too: the table is made anew.
			pair.compare(randomProbe(rng))
		}
		for range 200 {
			pair.compare(randomProbe(rng))
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	// The random patterns and requests have to meet often enough.
	for _, o := range []string{"conflict", "200 false", "200 true", "307 false", "404 false", "405 false"} {
		if outcomes[o] < 500 {
			t.Errorf("outcome %q came up only %d times: %v", o, outcomes[o], outcomes)
		}
	}
}

// FuzzMuxMatch does the same with what the fuzzer makes of patterns, one a
// line, and a request.
func FuzzMuxMatch(f *testing.F) {
	f.Add("/\n/a\nGET /{x}\nh/{r...}", "GET", "h:80", "/a/b")
	f.Add("/a/{$}\n/a/{x}/b\nPOST /a/b/", "POST", "", "/a//b")
	f.Add("CONNECT /a\nTRACE /{x}/", "TRACE", "i", "/%61")
	f.Add(" /a b\nPOST \t /a", "POST", "h", "/a")
	f.Add("GET /a%2Fb/\nHEAD /{x}", "HEAD", "[::1]:1", "/../a%2fb")
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var patterns []string
		for range 8 {
			patterns = append(patterns, randomPattern(rng))
		}
		q := randomProbe(rng)
		f.Add(strings.Join(patterns, "\n"), q.method, q.host, q.path)
	}
	f.Fuzz(func(t *testing.T, patterns, method, host, path string) {
		pair := newMuxPair(t)
		for _, pattern := range strings.Split(patterns, "\n") {
			if !meantToDiffer(pattern) {
				pair.register(pattern)
			}
		}
		if q := (muxProbe{method, host, path, ""}); isComparable(q) {
			pair.compare(q)
		}
	})
}

// meantToDiffer reports whether a pattern is one of those that the Mux treats
// otherwise.
func meantToDiffer(pattern string) bool {
	i := strings.IndexByte(pattern, '/')
	if i < 0 {
		return false
	}
	host := pattern[:i]
	if j := strings.IndexAny(host, " \t"); j >= 0 {
		host = strings.TrimLeft(host[j:], " \t")
	}
	return strings.ContainsAny(host, " \t[]") || strings.ToLower(host) != host ||
		strings.Contains(pattern[i:]+"/", "//") || pattern[i:] != cleanRoutePath(pattern[i:]) || hasSlashSegment(pattern[i:])
}

// isComparable reports whether a probe is a request that the parser lets
// through and that ServeMux treats the same.
func isComparable(q muxProbe) bool {
	if !isRouteMethod(q.method) || q.path == "" || q.path[0] != '/' || hasSlashSegment(q.path) ||
		strings.ToLower(q.host) != q.host || !escapesAreValid(q.path) ||
		q.method == "CONNECT" && strings.Contains(q.path, "//") {
		return false
	}
	for i := range len(q.path) {
		if c := q.path[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`?#\"<>^{|}`+"`", c) >= 0 {
			return false // refused by the parser, or escaped anew by net/url
		}
	}
	for i := range len(q.host) {
		if c := q.host[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`/[]@?#\`, c) >= 0 {
			return false
		}
	}
	return true
}

func hasSlashSegment(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(seg string) bool { return unescapeSegment(seg) == "/" })
}
