package flare

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// These tests hold the size of the package: how many names a user may meet, and
// how much code stands behind them. Tests are not counted, files for other
// systems are. `go test -v -run 'TestSurface|TestStatements' .` prints the counts.
//
// Whoever makes the package smaller lowers the bound; whoever has to raise one
// says in the commit what the package gets for it.

const (
	exportedNamesMax = 805

	// statementsMax is some above what there are, as room for repairs. HTTP/2 is
	// counted apart, since it is being built.
	statementsMax = 19_200

	functionLinesMax = 60 // a screen; longLinesMax is where a function begins to be long
	longLinesMax     = 40
	functionsTooLong = 1 // messageHead.parseFields, where a call for each field would be felt
	functionsLong    = 16
)

// A surface counts what a package exports. A name that each system declares in a
// file of its own counts once for each.
type surface struct {
	types  int
	funcs  int // functions, and methods of exported types; those that interfaces list belong to their type
	fields int // of exported structs, by a name of their own: what is embedded has its own names
	values int // constants and variables
}

func (s *surface) total() int { return s.types + s.funcs + s.fields + s.values }

func (s *surface) String() string {
	return fmt.Sprintf("%d exported names: %d types, %d functions and methods, %d fields, %d values",
		s.total(), s.types, s.funcs, s.fields, s.values)
}

// add counts what a file exports.
func (s *surface) add(f *ast.File) {
	for _, decl := range f.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if receiver := receiverName(decl); decl.Name.IsExported() && (receiver == "" || token.IsExported(receiver)) {
				s.funcs++
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				s.addSpec(spec)
			}
		}
	}
}

func (s *surface) addSpec(spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		s.values += exportedNames(spec.Names)
	case *ast.TypeSpec:
		if !spec.Name.IsExported() {
			return
		}
		s.types++
		if fields, ok := spec.Type.(*ast.StructType); ok {
			s.addFields(fields)
		}
	}
}

// addFields counts the fields of a struct, and those of structs without a name
// that are fields of it.
func (s *surface) addFields(of *ast.StructType) {
	for _, field := range of.Fields.List {
		n := exportedNames(field.Names)
		s.fields += n
		if inner, ok := field.Type.(*ast.StructType); ok && n > 0 {
			s.addFields(inner)
		}
	}
}

// exportedNames counts the exported ones among names.
func exportedNames(names []*ast.Ident) int {
	n := 0
	for _, name := range names {
		if name.IsExported() {
			n++
		}
	}
	return n
}

// receiverName returns the type that a method belongs to, "" for a function.
func receiverName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	switch generic := of.(type) {
	case *ast.IndexExpr:
		of = generic.X
	case *ast.IndexListExpr:
		of = generic.X
	}
	return of.(*ast.Ident).Name
}

func TestSurface(t *testing.T) {
	src := readSource(t, ".", nil)
	var s surface
	for _, f := range src.files {
		s.add(f)
	}
	t.Log(&s)
	if n := s.total(); n > exportedNamesMax {
		t.Errorf("%d exported names, at most %d: unexport what no user has to name, or make it a field", n, exportedNamesMax)
	}
}

// A codeSize counts statements and measures functions.
type codeSize struct {
	statements int            // but for those of HTTP/2
	http2      int            // statements of HTTP/2
	functions  map[string]int // lines, of those of more than longLinesMax, by "file: receiver.name"
}

// add measures a file.
func (s *codeSize) add(fset *token.FileSet, name string, f *ast.File) {
	statements := &s.statements
	if strings.HasPrefix(name, "http2") || strings.HasPrefix(name, "hpack") {
		statements = &s.http2
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			lines := fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1
			if lines > longLinesMax {
				full := strings.TrimPrefix(receiverName(n)+"."+n.Name.Name, ".")
				s.functions[name+": "+full] = lines
			}
		case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause, *ast.LabeledStmt, *ast.EmptyStmt:
			// They hold statements, and do nothing themselves.
		case ast.Stmt:
			*statements++
		}
		return true
	})
}

func TestStatements(t *testing.T) {
	src := readSource(t, ".", nil)
	size := codeSize{functions: make(map[string]int)}
	for name, f := range src.files {
		size.add(src.fset, name, f)
	}
	long := slices.SortedFunc(maps.Keys(size.functions), func(a, b string) int {
		return cmp.Or(cmp.Compare(size.functions[b], size.functions[a]), strings.Compare(a, b))
	})
	tooLong := 0
	var lines strings.Builder
	for _, name := range long {
		if size.functions[name] > functionLinesMax {
			tooLong++
		}
		fmt.Fprintf(&lines, "\n%4d lines  %s", size.functions[name], name)
	}
	t.Logf("%d statements and %d of HTTP/2 in %d files; %d functions of more than %d lines, %d of more than %d%s",
		size.statements, size.http2, len(src.files), tooLong, functionLinesMax, len(long), longLinesMax, &lines)
	for _, bound := range []struct {
		what    string
		is, max int
	}{
		{"statements", size.statements, statementsMax},
		{fmt.Sprintf("functions of more than %d lines", functionLinesMax), tooLong, functionsTooLong},
		{fmt.Sprintf("functions of more than %d lines", longLinesMax), len(long), functionsLong},
	} {
		if bound.is > bound.max {
			t.Errorf("%d %s, at most %d", bound.is, bound.what, bound.max)
		}
	}
}

// The counts are right for a file of which everybody can see what they have to be.
func TestSurfaceIsCounted(t *testing.T) {
	const text = `package p

const A, b = 1, 2

var C int

type (
	T struct {
		X, Y, z int
		I
		N struct{ A, b int }
		n struct{ A int }
	}
	I interface{ M() }
	t struct{ X int }
	G[K any] struct{}
)

func F()       {}
func f()       {}
func (T) M()   {}
func (*T) N()  {}
func (T) m()   {}
func (t) M()   {}
func (*G[K]) M() {
	for i := range 3 { // 1
		switch { // 2
		case i > 0:
			F() // 3
		}
		if i := f; i != nil { // 4, and 5 before it
			return // 6
		}
	}
}
`
	src := readSource(t, "", map[string]string{"p.go": text})
	var s surface
	s.add(src.files["p.go"])
	if want := (surface{types: 3, funcs: 4, fields: 4, values: 2}); s != want {
		t.Errorf("counted %v, want %v", &s, &want)
	}
	size := codeSize{functions: make(map[string]int)}
	size.add(src.fset, "p.go", src.files["p.go"])
	if size.statements != 6 || len(size.functions) != 0 {
		t.Errorf("counted %d statements, want 6, and %v", size.statements, size.functions)
	}
	long := "package p\n\nfunc (*T) long() {" + strings.Repeat("\n", longLinesMax) + "}\n"
	src = readSource(t, "", map[string]string{"p.go": long})
	size.add(src.fset, "p.go", src.files["p.go"])
	if size.functions["p.go: T.long"] != longLinesMax+1 {
		t.Errorf("measured %v", size.functions)
	}
}
