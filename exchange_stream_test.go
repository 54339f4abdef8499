package flare

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/types"
	"maps"
	"slices"
	"strings"
	"testing"
)

// versionFiles begin the names of the files that know one version of HTTP, or one
// other server, and neutralFiles those of the files that must know none.
var (
	versionFiles = []string{"http1", "http2", "hpack", "nethttp_to"}
	neutralFiles = []string{"handler", "exchange", "lease", "context", "conn", "loop", "baton", "workset", "monitor", "predictor", "pace"}
)

func isOneOf(name string, families []string) bool {
	for _, family := range families {
		if rest, ok := strings.CutPrefix(name, family); ok && (rest[0] == '.' || rest[0] == '_') {
			return true
		}
	}
	return false
}

// versionUses lists what neutral files use of versions' files: types, functions,
// methods, fields, constants.
func versionUses(src *sourceFile, files []*ast.File) []string {
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	conf := types.Config{Importer: emptyImporter{}, Error: func(error) {}}
	pkg, _ := conf.Check("flare", src.fset, files, info)
	found := make(map[string]bool)
	for _, f := range files {
		user := src.fset.Position(f.Package).Filename
		if !isOneOf(user, neutralFiles) {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			id, ok := n.(*ast.Ident)
			if !ok {
				return true
			}
			obj := info.Uses[id]
			if obj == nil || obj.Pkg() != pkg {
				return true
			}
			if used := src.fset.Position(obj.Pos()).Filename; isOneOf(used, versionFiles) {
				found[fmt.Sprintf("%s uses %s of %s", user, obj.Name(), used)] = true
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(found))
}

// Requests, responses, bodies and the engine stand above the versions of HTTP.
func TestVersionsAreApart(t *testing.T) {
	src := readSource(t, ".", nil)
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH = "linux", "amd64"
	var files []*ast.File
	versions, neutral := 0, 0
	for _, name := range slices.Sorted(maps.Keys(src.files)) {
		match, err := ctx.MatchFile(".", name)
		if err != nil {
			t.Fatal(err)
		}
		if match {
			files = append(files, src.files[name])
		}
		if isOneOf(name, versionFiles) {
			versions++
		}
		if isOneOf(name, neutralFiles) {
			neutral++
		}
	}
	if versions < 10 || neutral < 40 {
		t.Errorf("%d files of versions and %d of none: the families have other names now", versions, neutral)
	}
	for _, use := range versionUses(src, files) {
		t.Error(use)
	}
}

// The check finds what it is to find.
func TestVersionsAreLookedFor(t *testing.T) {
	const version = "package p\n\ntype one struct{ f int }\nfunc (one) m() {}\nfunc f1() one { return one{} }\nconst c1 = 1\n"
	for _, test := range []struct{ name, neutral, want string }{
		{"type", "var x one", "one"},
		{"function", "func g() { f1() }", "f1"},
		{"constant", "var x = c1", "c1"},
		{"method", "func g() { f1().m() }", "m"},
		{"field", "func g() int { return f1().f }", "f"},
		{"an interface", "type stream interface{ m() }; func g(s stream) { s.m() }", ""},
		{"a local of the same name", "func g() { c1 := 2; _ = c1 }", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := readSource(t, "", map[string]string{"http1_x.go": version, "handler_x.go": "package p\n\n" + test.neutral})
			got := versionUses(src, []*ast.File{src.files["http1_x.go"], src.files["handler_x.go"]})
			want := "handler_x.go uses " + test.want + " of http1_x.go"
			if test.want == "" && len(got) > 0 || test.want != "" && !slices.Contains(got, want) {
				t.Errorf("found %q", got)
			}
		})
	}
}
