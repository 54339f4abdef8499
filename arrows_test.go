package flare

import (
	"cmp"
	"go/ast"
	"go/build"
	"go/types"
	"maps"
	"slices"
	"testing"
)

// Of the arrows between files, "this file uses something of that one", some run
// back up: a lower file uses a higher one. layers_test.go allows none between
// layers; this test counts those inside one, where files lie as far down as their
// uses let them. Few are a sign that one can read the files from the bottom up.

// arrowsUpMax is how many arrows may run back up. It only ever gets lower.
const arrowsUpMax = 144

// An arrow is a use of one file's by another, by the things used.
type arrow struct{ from, to string }

// arrows returns the uses between the files of one build, with a name for each.
func (src *sourceFile) arrows(t *testing.T) map[arrow][]string {
	var files []*ast.File
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH = "linux", "amd64"
	for _, name := range slices.Sorted(maps.Keys(src.files)) {
		if match, err := ctx.MatchFile(".", name); err != nil {
			t.Fatal(err)
		} else if match {
			files = append(files, src.files[name])
		}
	}
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	conf := types.Config{Importer: emptyImporter{}, Error: func(error) {}}
	pkg, _ := conf.Check("flare", src.fset, files, info)
	found := make(map[arrow][]string)
	for id, obj := range info.Uses {
		if obj.Pkg() != pkg || !obj.Pos().IsValid() {
			continue
		}
		if v, ok := obj.(*types.Var); ok && v.IsField() {
			continue // whoever has a value has its fields: the arrow is to its type
		}
		a := arrow{src.fset.Position(id.Pos()).Filename, src.fset.Position(obj.Pos()).Filename}
		if a.from != a.to && !slices.Contains(found[a], obj.Name()) {
			found[a] = append(found[a], obj.Name())
		}
	}
	return found
}

// upArrows orders the files so that few arrows run back up, and returns those
// that do: it takes away what uses nothing, then what is not used by anything,
// and between them the file with most uses for its users (Eades, Lin and Smyth,
// 1993), and then moves single files as long as that helps.
func upArrows(all map[arrow][]string) []arrow {
	out, in := make(map[string]map[string]bool), make(map[string]map[string]bool)
	left := make(map[string]bool)
	for a := range all {
		for _, f := range []string{a.from, a.to} {
			if !left[f] {
				left[f], out[f], in[f] = true, make(map[string]bool), make(map[string]bool)
			}
		}
		out[a.from][a.to], in[a.to][a.from] = true, true
	}
	var top, bottom []string // top uses bottom
	take := func(f string) {
		delete(left, f)
		for to := range out[f] {
			delete(in[to], f)
		}
		for from := range in[f] {
			delete(out[from], f)
		}
	}
	for len(left) > 0 {
		names := slices.Sorted(maps.Keys(left))
		i := slices.IndexFunc(names, func(f string) bool { return len(out[f]) == 0 })
		if i >= 0 {
			bottom = append(bottom, names[i])
			take(names[i])
			continue
		}
		f := slices.MaxFunc(names, func(a, b string) int {
			return cmp.Compare(len(out[a])-len(in[a]), len(out[b])-len(in[b]))
		})
		top = append(top, f)
		take(f)
	}
	slices.Reverse(bottom)
	order := append(top, bottom...)
	place := make(map[string]int)
	for {
		for i, f := range order {
			place[f] = i
		}
		moved := false
		for _, f := range slices.Clone(order) {
			if moved = improve(order, place, all, f) || moved; moved {
				for i, f := range order {
					place[f] = i
				}
			}
		}
		if !moved {
			break
		}
	}
	var up []arrow
	for a := range all {
		if place[a.from] > place[a.to] {
			up = append(up, a)
		}
	}
	slices.SortFunc(up, func(a, b arrow) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	return up
}

// improve moves f to where fewest of its arrows run up, and reports whether that
// is better than where it is.
func improve(order []string, place map[string]int, all map[arrow][]string, f string) bool {
	delta := make([]int, len(order)+1) // of the arrows that run up, with f at a place
	best, at := 0, place[f]
	for other, i := range place {
		if other == f {
			continue
		}
		uses, used := 0, 0
		if all[arrow{f, other}] != nil {
			uses = 1
		}
		if all[arrow{other, f}] != nil {
			used = 1
		}
		delta[i] = uses - used // of passing it on the way down
	}
	sum, to := 0, at
	for i := at + 1; i < len(order); i++ {
		if sum += delta[i]; sum < best {
			best, to = sum, i
		}
	}
	sum = 0
	for i := at - 1; i >= 0; i-- {
		if sum -= delta[i]; sum < best {
			best, to = sum, i
		}
	}
	if best == 0 {
		return false
	}
	copied := slices.Delete(slices.Clone(order), at, at+1)
	copied = slices.Insert(copied, to, f)
	copy(order, copied)
	return true
}

func TestArrows(t *testing.T) {
	all := readSource(t, ".", nil).arrows(t)
	up := upArrows(all)
	t.Logf("%d of %d arrows between files run back up", len(up), len(all))
	for _, a := range up {
		t.Logf("    %s → %s: %v", a.from, a.to, all[a])
	}
	if len(up) > arrowsUpMax {
		t.Errorf("%d arrows run back up, at most %d", len(up), arrowsUpMax)
	}
}
