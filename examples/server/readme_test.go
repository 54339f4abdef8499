package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// registeredPaths returns the paths of all routes, as the source has them.
func registeredPaths(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("routes*.go")
	if err != nil {
		t.Fatal(err)
	}
	paths := make(map[string]bool)
	for _, name := range append(names, "dashboard.go") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if on, ok := method.X.(*ast.Ident); ok && on.Name == "mux" {
				paths[strings.TrimSuffix(patternText(call.Args[0]), "{$}")] = true
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(paths))
}

// patternText returns a pattern as a reader sees it, with a variable in braces.
func patternText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.Ident:
		return "{" + e.Name + "}"
	case *ast.BinaryExpr:
		return patternText(e.X) + patternText(e.Y)
	}
	return ""
}

// The table of routes in examples/README.md has each route of this server.
func TestReadmeRoutes(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| (`/.*?) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, code := range regexp.MustCompile("`([^`?]+)(?:\\?[^`]*)?`").FindAllStringSubmatch(row[1], -1) {
			listed[code[1]] = true
		}
	}
	registered := registeredPaths(t)
	if len(registered) < 20 {
		t.Errorf("found %d routes only: %q", len(registered), registered)
	}
	for _, path := range registered {
		if !listed[path] {
			t.Errorf("examples/README.md does not have the route %s", path)
		}
		delete(listed, path)
	}
	for path := range listed {
		t.Errorf("examples/README.md has a route %s, which this server does not", path)
	}
}
