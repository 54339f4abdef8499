// Rename gives the module in the current folder a path of your own: in go.mod, in the
// imports of all its programs, and in the examples of its papers.
//
//	go run ./examples/rename example.com/you/flare
package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./examples/rename example.com/you/flare")
		os.Exit(2)
	}
	if err := rename(".", os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "rename:", err)
		os.Exit(1)
	}
}

var (
	moduleLine = regexp.MustCompile(`(?m)^module (\S+)$`)
	modulePath = regexp.MustCompile(`^[a-zA-Z0-9][-a-zA-Z0-9._~]*(/[-a-zA-Z0-9._~]+)*$`)
)

// rename gives the module in dir that path. Nothing is written before everything has
// been read.
func rename(dir, to string) error {
	if !modulePath.MatchString(to) {
		return fmt.Errorf("%q is no path of a module", to)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return err
	}
	found := moduleLine.FindSubmatch(mod)
	if found == nil {
		return fmt.Errorf("go.mod names no module")
	}
	from := string(found[1])
	changed := make(map[string]string)
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != dir && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		var replace func(text, from, to string) (string, error)
		switch {
		case d.Name() == "go.mod":
			replace = inModule
		case filepath.Ext(name) == ".go":
			replace = inImports
		case filepath.Ext(name) == ".md":
			replace = inPaper
		default:
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		after, err := replace(string(text), from, to)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if after != string(text) {
			changed[name] = after
		}
		return nil
	})
	for name, text := range changed {
		if err == nil {
			err = os.WriteFile(name, []byte(text), 0o644)
		}
	}
	return err
}

// inModule changes a go.mod: that of the module, or of one that requires it.
func inModule(text, from, to string) (string, error) {
	word := regexp.MustCompile(`(?m)^(module |require |replace |\t)` + regexp.QuoteMeta(from) + `(\s)`)
	return word.ReplaceAllString(text, "${1}"+to+"${2}"), nil
}

// inImports changes the imports of a file.
func inImports(text, from, to string) (string, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "", text, parser.ImportsOnly)
	if err != nil {
		return "", err
	}
	for _, spec := range slices.Backward(f.Imports) { // from the end, where offsets stay
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return "", err
		}
		if path != from && !strings.HasPrefix(path, from+"/") {
			continue
		}
		at := fset.Position(spec.Path.Pos()).Offset
		text = text[:at] + strconv.Quote(to+strings.TrimPrefix(path, from)) + text[at+len(spec.Path.Value):]
	}
	return text, nil
}

// inPaper changes the imports of examples, which are lines of their own.
func inPaper(text, from, to string) (string, error) {
	line := regexp.MustCompile(`(?m)^(\s*(?:import )?)"` + regexp.QuoteMeta(from) + `"$`)
	return line.ReplaceAllString(text, "${1}"+strconv.Quote(to)), nil
}
