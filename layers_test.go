package flare

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// These tests keep the flat folder in shape. The first comment of each file
// says which layer the file is, "This file is layer 1 (wire): …", and a file
// uses its own layer or a lower one:
//
//	5 surface
//	4 roles
//	3 engine
//	1 wire | 2 system    never each other
//	0 base

var layerNames = [...]string{"base", "wire", "system", "engine", "roles", "surface"}

// mayUse says whether a file of one layer may use what another declares.
func mayUse(user, used int) bool {
	const wire, system = 1, 2
	return used <= user && !(user == system && used == wire)
}

// fileLinesMax is when a file has to be split: at about 500 lines it is time,
// at this many it is late. Tests are tables and may be longer.
const fileLinesMax = 600

// buildTargets are the builds that together have every file.
var buildTargets = []struct {
	os, arch string
	tags     []string
}{
	{"linux", "amd64", nil},
	{"linux", "arm64", nil},
	{"darwin", "arm64", nil},
	{"darwin", "amd64", nil},
	{"linux", "386", nil},
	{"freebsd", "amd64", nil}, // for what is there where neither poller is
	{"linux", "amd64", []string{"purego"}},
	{"linux", "amd64", []string{"race"}},
}

// layerOf returns the layer that a file's comments declare, -1 for none.
func layerOf(f *ast.File) (int, error) {
	for _, group := range f.Comments {
		m := layerComment.FindStringSubmatch(group.Text())
		if m == nil {
			continue
		}
		n, err := strconv.Atoi(m[1])
		if err != nil || n >= len(layerNames) || layerNames[n] != m[2] {
			return -1, fmt.Errorf("there is no layer %s (%s)", m[1], m[2])
		}
		return n, nil
	}
	return -1, fmt.Errorf("no comment says \"This file is layer N (name): …\"")
}

var layerComment = regexp.MustCompile(`(?i)\bthis file\s+is\s+layer\s+(\d+)\s+\((\w+)\)`)

// A source is the package's files without the tests, for all systems.
type sourceFile struct {
	fset   *token.FileSet
	files  map[string]*ast.File // by name
	layers map[string]int       // by name; those that declare none are not in it
}

// readSource reads the Go files of dir, or the texts given for some of them.
func readSource(t *testing.T, dir string, texts map[string]string) *sourceFile {
	t.Helper()
	src := &sourceFile{token.NewFileSet(), make(map[string]*ast.File), make(map[string]int)}
	for name, text := range texts {
		src.add(t, name, []byte(text))
	}
	if dir == "" {
		return src
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		src.add(t, filepath.Base(name), text)
	}
	return src
}

func (src *sourceFile) add(t *testing.T, name string, text []byte) {
	t.Helper()
	f, err := parser.ParseFile(src.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	src.files[name] = f
	if layer, err := layerOf(f); err == nil {
		src.layers[name] = layer
	}
}

// emptyImporter answers every import with a package that has nothing in it:
// what the other packages declare does not matter here, so nothing is compiled
// and nothing read. Expressions with parts of them have no type then, and go
// unseen; upwardUses makes up for it.
type emptyImporter map[string]*types.Package

func (m emptyImporter) Import(name string) (*types.Package, error) {
	if name == "unsafe" {
		return types.Unsafe, nil
	}
	if m[name] == nil {
		m[name] = types.NewPackage(name, path.Base(name))
		m[name].MarkComplete()
	}
	return m[name], nil
}

// upwardUses lists the uses, methods and fields included, of what a file may
// not use, once for each file and thing used.
func (src *sourceFile) upwardUses(files []*ast.File) []string {
	info := &types.Info{Defs: make(map[*ast.Ident]types.Object), Uses: make(map[*ast.Ident]types.Object)}
	conf := types.Config{
		Importer: emptyImporter{},
		Error:    func(error) {}, // nearly all are about empty imports; go vet reports the rest
	}
	pkg, _ := conf.Check("flare", src.fset, files, info)
	found := make(map[string]bool)
	for _, f := range files {
		user := src.fset.Position(f.Package).Filename
		userLayer, ok := src.layers[user]
		if !ok {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok && info.Uses[selector.Sel] == nil {
				// A part of an empty import, or of a value that came from one:
				// its name is not one of ours.
				ast.Inspect(selector.X, func(n ast.Node) bool { return src.use(n, pkg, info, user, userLayer, found) })
				return false
			}
			return src.use(n, pkg, info, user, userLayer, found)
		})
	}
	return slices.Sorted(maps.Keys(found))
}

// use notes n in found if it names what user may not use.
func (src *sourceFile) use(n ast.Node, pkg *types.Package, info *types.Info, user string, userLayer int, found map[string]bool) bool {
	id, ok := n.(*ast.Ident)
	if !ok {
		return true
	}
	obj := info.Uses[id]
	switch {
	case obj != nil: // an embedded field as well, which is a definition too
	case info.Defs[id] != nil:
		return true
	default:
		// The checker leaves out what is beside a value without a type, such as
		// T in pool.Get().(*T): the name is all there is to go by.
		obj = pkg.Scope().Lookup(id.Name)
	}
	if obj == nil || obj.Pkg() != pkg {
		return true
	}
	used := src.fset.Position(obj.Pos()).Filename
	usedLayer, ok := src.layers[used]
	if ok && !mayUse(userLayer, usedLayer) {
		found[fmt.Sprintf("%s, layer %d (%s), uses %s of %s, layer %d (%s)",
			user, userLayer, layerNames[userLayer], obj.Name(), used, usedLayer, layerNames[usedLayer])] = true
	}
	return true
}

func TestLayers(t *testing.T) {
	src := readSource(t, ".", nil)
	for _, name := range slices.Sorted(maps.Keys(src.files)) {
		if _, err := layerOf(src.files[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	built := make(map[string]bool)
	reported := make(map[string]bool)
	for _, target := range buildTargets {
		ctx := build.Default
		ctx.GOOS, ctx.GOARCH, ctx.BuildTags, ctx.ToolTags = target.os, target.arch, target.tags, nil
		var files []*ast.File
		for _, name := range slices.Sorted(maps.Keys(src.files)) {
			match, err := ctx.MatchFile(".", name)
			if err != nil {
				t.Fatal(err)
			}
			if match {
				built[name] = true
				files = append(files, src.files[name])
			}
		}
		for _, use := range src.upwardUses(files) {
			if !reported[use] {
				reported[use] = true
				t.Error(use)
			}
		}
	}
	for name := range src.files {
		if !built[name] {
			t.Errorf("%s is in none of the builds that are looked at", name)
		}
	}
}

// The check finds each kind of use, and nothing but uses.
func TestLayersAreChecked(t *testing.T) {
	const high = "package p\n\n// This file is layer 4 (roles): high.\n"
	const low = "package p\n\n// This file is layer 1 (wire): low.\n"
	for _, test := range []struct {
		name, high, low string
		want            string // the thing used upwards, "" for none
	}{
		{"function", "func Up() {}", "func f() { Up() }", "Up"},
		{"type", "type Up struct{}", "type t struct { u *Up }", "Up"},
		{"embedded type", "type Up struct{}", "type t struct { Up }", "Up"},
		{"constant", "const up = 1", "var x = up", "up"},
		{"method on a lower type", "func (low) up() {}", "type low struct{}; func f(x low) { x.up() }", "up"},
		{"method value", "func (low) up() {}", "type low struct{}; var f = low.up", "up"},
		{"promoted field", "type u struct{ up int }", "type low struct{ x }; type x = y; type y = int", ""},
		{"field through a function's result", "type U struct{ up int }; func make1() U { return U{} }", "func f() { _ = make1().up }", "make1"},
		{"type assertion on an import's value", "type Up struct{}", `import "sync"; var pool sync.Pool; func f() { _, _ = pool.Get().(*Up) }`, "Up"},
		{"argument of an import's function", "type Up struct{}", `import "fmt"; func f() { fmt.Println(Up{}) }`, "Up"},
		{"a generic instance", "type Up struct{}", `import "sync/atomic"; var p atomic.Pointer[Up]`, "Up"},
		{"downwards", "func f() { Down() }; type t struct { low }", "func Down() {}; type low struct{}", ""},
		{"an import's name", "func Println() {}", `import "fmt"; func f() { fmt.Println() }`, ""},
		{"a method through an interface", "type u struct{}; func (u) M() {}", "type I interface{ M() }; func f(i I) { i.M() }", ""},
		{"a local of the same name", "func up() {}", "func f() { up := 1; _ = up }", ""},
		{"a key of another struct", "func up() {}", "type t struct{ up int }; var x = t{up: 1}", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			src := readSource(t, "", map[string]string{"high.go": high + test.high, "low.go": low + test.low})
			got := src.upwardUses([]*ast.File{src.files["high.go"], src.files["low.go"]})
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("found %q", got)
			case test.want != "" && !slices.Contains(got, "low.go, layer 1 (wire), uses "+test.want+" of high.go, layer 4 (roles)"):
				t.Errorf("found %q, not the use of %s", got, test.want)
			}
		})
	}
	for user := range layerNames {
		for used := range layerNames {
			want := used <= user && !(user == 2 && used == 1)
			if mayUse(user, used) != want {
				t.Errorf("mayUse(%d, %d) is %v", user, used, !want)
			}
		}
	}
}

func TestFileSizes(t *testing.T) {
	src := readSource(t, ".", nil)
	for name, f := range src.files {
		if lines := src.fset.Position(f.FileEnd).Line; lines > fileLinesMax {
			t.Errorf("%s has %d lines; split it, at most %d", name, lines, fileLinesMax)
		}
	}
}

// The files for the two systems are mirrors: the same functions in the same
// order, so that they can be read side by side. The sockets' may have helpers
// of their own between them, where one system needs a step that the other's
// package syscall takes by itself.
func TestMirrors(t *testing.T) {
	src := readSource(t, ".", nil)
	for _, pair := range [][2]string{
		{"poller_linux.go", "poller_darwin.go"},
		{"socket_linux.go", "socket_darwin.go"},
	} {
		linux, darwin := src.functions(pair[0]), src.functions(pair[1])
		if strings.HasPrefix(pair[0], "socket_") {
			one, other := linux, darwin
			linux = slices.DeleteFunc(slices.Clone(one), func(name string) bool { return !slices.Contains(other, name) })
			darwin = slices.DeleteFunc(slices.Clone(other), func(name string) bool { return !slices.Contains(one, name) })
		}
		if len(linux) < 6 {
			t.Errorf("%s and its mirror share %d functions only", pair[0], len(linux))
		}
		for i := range max(len(linux), len(darwin)) {
			var l, d string
			if i < len(linux) {
				l = linux[i]
			}
			if i < len(darwin) {
				d = darwin[i]
			}
			if l != d {
				t.Errorf("function %d is %q in %s and %q in %s", i+1, l, pair[0], d, pair[1])
				break
			}
		}
	}
}

// functions lists a file's functions in order, methods as type.method.
func (src *sourceFile) functions(name string) []string {
	var names []string
	for _, decl := range src.files[name].Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			receiver := ""
			if f.Recv != nil {
				receiver = types.ExprString(f.Recv.List[0].Type) + "."
			}
			names = append(names, receiver+f.Name.Name)
		}
	}
	return names
}

// ARCHITECTURE.md has a line for each file of the folder, in a table of its
// layer, and none for a file that is not there.
func TestArchitectureFiles(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	src := readSource(t, ".", nil)
	want := maps.Clone(src.layers)
	assembly, err := filepath.Glob("*.s")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range assembly {
		want[name] = src.layers[strings.TrimSuffix(name, ".s")+".go"]
	}
	layer := -1
	listed := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if m := architectureLayer.FindStringSubmatch(line); m != nil {
			layer = slices.Index(layerNames[:], m[2])
			if m[1] != strconv.Itoa(layer) {
				t.Errorf("ARCHITECTURE.md: there is no layer %s %s", m[1], m[2])
			}
		}
		m := architectureFile.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := m[1]
		at, exists := want[name]
		switch {
		case !exists:
			t.Errorf("ARCHITECTURE.md lists %s, which is not there", name)
		case listed[name]:
			t.Errorf("ARCHITECTURE.md lists %s twice", name)
		case at != layer:
			t.Errorf("ARCHITECTURE.md lists %s in layer %d, it is layer %d", name, layer, at)
		}
		listed[name] = true
	}
	for _, name := range slices.SortedFunc(maps.Keys(want), func(a, b string) int {
		return cmp.Or(cmp.Compare(want[a], want[b]), strings.Compare(a, b))
	}) {
		if !listed[name] {
			t.Errorf("ARCHITECTURE.md does not list %s, layer %d (%s)", name, want[name], layerNames[want[name]])
		}
	}
}

var (
	architectureLayer = regexp.MustCompile(`^### (\d) (\w+): `)
	architectureFile  = regexp.MustCompile("^\\| `([\\w.]+\\.(?:go|s))` \\|")
)

// The picture of the layers in doc.go names the family of each file, and no
// family that is not there, in the layer that the files declare.
func TestDocLayers(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	src := readSource(t, ".", nil)
	_, picture, _ := strings.Cut(string(text), "//	5 surface")
	picture, _, ok := strings.Cut("//	5 surface"+picture, "//\n")
	if !ok {
		t.Fatal("doc.go has no picture of the layers")
	}
	named := make(map[int][]string)
	layer, column := -1, 0
	for line := range strings.Lines(picture) {
		line = strings.TrimPrefix(line, "//\t")
		if at := strings.Index(line, "2 system"); at > 0 {
			layer, column = 1, at
			continue
		}
		if m := regexp.MustCompile(`^(\d) \w+`).FindStringSubmatch(line); m != nil {
			layer, _ = strconv.Atoi(m[1])
			line = line[len(m[0]):]
		}
		left, right := line, ""
		if layer == 1 && len(line) > column {
			left, right = line[:column], line[column:]
		}
		named[layer] = append(named[layer], strings.Fields(left)...)
		named[2] = append(named[2], strings.Fields(right)...)
	}
	used := make(map[string]bool)
	for name, at := range src.layers {
		base := strings.TrimSuffix(name, ".go")
		found := ""
		for _, word := range named[at] {
			if strings.HasPrefix(word, "_") { // of the family before it
				word = "websocket" + word
			}
			if (base == word || strings.HasPrefix(base, word+"_")) && len(word) > len(found) {
				found = word
			}
		}
		if found == "" {
			t.Errorf("the picture in doc.go has no family for %s in layer %d", name, at)
		}
		used[fmt.Sprint(at, found)] = true
	}
	for at, words := range named {
		for _, word := range words {
			if strings.HasPrefix(word, "_") {
				word = "websocket" + word
			}
			if !used[fmt.Sprint(at, word)] {
				t.Errorf("the picture in doc.go has %s in layer %d, which no file is of", word, at)
			}
		}
	}
}
