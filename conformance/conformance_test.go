package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func (w row) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", w.passed, w.failed, w.skipped)
}

func TestCountTests(t *testing.T) {
	const out = `{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA/x","Output":"    a_test.go:1: said\n"}
{"Action":"fail","Test":"TestA/x"}
{"Action":"pass","Test":"TestA/y"}
{"Action":"fail","Test":"TestA"}
{"Action":"output","Test":"TestB","Output":"    a_test.go:2: no such program\n"}
{"Action":"skip","Test":"TestB"}
{"Action":"pass","Test":"TestC/deep/z"}
{"Action":"pass","Test":"TestC/deep"}
{"Action":"fail","Test":"TestC"}
{"Action":"fail"}
`
	w, err := countTests(strings.NewReader(out))
	want := []string{"fail TestA/x: a_test.go:1: said", "skip TestB: a_test.go:2: no such program", "fail TestC: "}
	if err != nil || w.passed != 2 || w.failed != 2 || w.skipped != 1 || !slices.Equal(w.why, want) {
		t.Errorf("%v, %q, %v", w, w.why, err)
	}
	w.excuse("TestA/", "a reason")
	if w.failed != 1 || w.skipped != 2 || w.why[len(w.why)-1] != "skipped: 1 of TestA/: a reason" {
		t.Errorf("excused: %v, %q", w, w.why)
	}
}

func TestParseReports(t *testing.T) {
	spec, err := parseSpec([]byte(`<testsuites><testsuite><testcase package="p" classname="a"></testcase>
		<testcase package="p" classname="b"><failure>f</failure></testcase>
		<testcase package="p" classname="c"><skipped></skipped></testcase>
		<testcase package="p" classname="d"><error>e</error></testcase></testsuite></testsuites>`))
	if err != nil || spec.String() != "1 passed, 2 failed, 1 skipped" {
		t.Errorf("h2spec: %v, %v", spec, err)
	}
	if _, err := parseSpec([]byte("<testsuites></testsuites>")); err == nil {
		t.Error("an empty report was taken")
	}
	connect, found := parseConnect("FAILED: a case:\n\tit was so\n\nTotal cases: 7\n5 passed, 1 failed\nAnother 1 could not be run due to client timing out")
	if !found || connect.String() != "5 passed, 2 failed, 0 skipped" || len(connect.why) != 2 {
		t.Errorf("connect: %v, %q", connect, connect.why)
	}
	if _, found := parseConnect("panic"); found {
		t.Error("connect: a count was found where there is none")
	}
}

// A stand-in does what the program of the suite does, as far as it is asked: it talks to the server and
// writes a report of the suite's form.
var standIns = map[string]struct{ file, program, script, want string }{
	"Autobahn": {"bin/wstest", "", `#!/bin/sh
grep -q '"agent":"flare"' "$4" || exit 3
mkdir -p reports
cat >reports/index.json <<'END'
{"flare": {"1.1.1": {"behavior": "OK", "behaviorClose": "OK"}, "1.1.2": {"behavior": "FAILED", "behaviorClose": "OK"},
 "6.4.1": {"behavior": "NON-STRICT", "behaviorClose": "OK"}, "7.1.6": {"behavior": "OK", "behaviorClose": "INFORMATIONAL"},
 "12.1.1": {"behavior": "UNIMPLEMENTED", "behaviorClose": "OK"}, "7.7.1": {"behavior": "OK", "behaviorClose": "WRONG CODE"}}}
END
`, "3 passed, 2 failed, 1 skipped"},
	"h1spec": {"http_test.ts", "deno", `#!/bin/sh
test "$1 $2 $3" = "run --allow-net http_test.ts" || exit 3
echo "✅ Valid GET request: Response Status Code 200, Expected ranges: [[200,299]]"
echo "❌ Multiple Host headers: Response Status Code 200, Expected ranges: [[400,499]]"
echo
echo "1 out of 2 tests passed."
`, "1 passed, 1 failed, 0 skipped"},
	"Http11Probe": {"src/Http11Probe.Cli/x", "dotnet", `#!/bin/sh
while [ "$1" != --output ]; do shift; done
cat >"$2" <<'END'
{"summary": {"total": 5}, "results": [{"id": "A", "verdict": "Pass", "scored": true}, {"id": "B", "verdict": "Fail", "scored": true, "statusCode": 200, "expected": "400"},
 {"id": "C", "verdict": "Fail", "scored": false}, {"id": "D", "verdict": "Warn", "scored": true}, {"id": "E", "verdict": "Skip", "scored": true}, {"id": "F", "verdict": "Error", "scored": true}]}
END
`, "3 passed, 2 failed, 1 skipped"},
}

func TestFolderSuites(t *testing.T) {
	for name, stand := range standIns {
		folder, bin := t.TempDir(), t.TempDir()
		file := filepath.Join(folder, stand.file)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err == nil {
			err = os.WriteFile(file, []byte(stand.script), 0o755)
		}
		if err == nil && stand.program != "" {
			err = os.WriteFile(filepath.Join(bin, stand.program), []byte(stand.script), 0o755)
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		}
		if err != nil {
			t.Fatal(err)
		}
		list, err := choose(name)
		if err != nil {
			t.Fatal(err)
		}
		r := &runner{ctx: t.Context(), folder: folder, dir: t.TempDir(), log: io.Discard}
		rows, err := list[0].rows(r)
		if err != nil || len(rows) != 1 || rows[0].String() != stand.want {
			t.Errorf("%s: %v, %v, want %s", name, rows, err, stand.want)
		}
		r.folder = t.TempDir()
		if rows, err := list[0].rows(r); err != nil || rows[0].skipped != 1 || len(rows[0].why) != 1 {
			t.Errorf("%s in an empty folder: %v, %v", name, rows, err)
		}
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	failed, err := run(context.Background(), "Autobahn,h1spec", "", "..", &out, io.Discard)
	if err != nil || failed || !strings.Contains(out.String(), "Autobahn  -folder  1      0       0       1") {
		t.Errorf("failed %t, %v\n%s", failed, err, &out)
	}
	if _, err := choose("nothing"); err == nil {
		t.Error("a suite was found that is not there")
	}
	for _, name := range []string{"ws", "nghttp", "connect", "AUTOBAHN"} {
		if list, err := choose(name); err != nil || len(list) != 1 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
}

// rewrite fails where the text that it is for is gone, or there twice.
func TestRewrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	for text, ok := range map[string]bool{"one net/http two": true, "none": false, "net/http net/http": false} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := rewrite(file, [2]string{"net/http", "flare"})
		got, _ := os.ReadFile(file)
		if (err == nil) != ok || ok && string(got) != "one flare two" || !ok && string(got) != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
