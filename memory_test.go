package flare

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// The bound of each control group that the process is in counts, and no other.
func TestGroupMemory(t *testing.T) {
	t.Parallel()
	const none = math.MaxUint64
	for name, row := range map[string]struct {
		groups string
		files  map[string]string
		want   uint64
	}{
		"no groups":        {"", nil, none},
		"a container":      {"0::/\n", map[string]string{"memory.max": "100\n"}, 100},
		"unbounded":        {"0::/\n", map[string]string{"memory.max": "max\n"}, none},
		"unreadable":       {"", map[string]string{"memory.max": "100\n"}, 100},
		"a service":        {"0::/system.slice/a.service\n", map[string]string{"system.slice/a.service/memory.max": "100\n"}, 100},
		"its slice":        {"0::/system.slice/a.service\n", map[string]string{"system.slice/a.service/memory.max": "100\n", "system.slice/memory.max": "90\n"}, 90},
		"another":          {"0::/system.slice/a.service\n", map[string]string{"system.slice/b.service/memory.max": "100\n"}, none},
		"outside":          {"0::/../a\n", map[string]string{"memory.max": "100\n"}, 100},
		"version 1":        {"4:memory:/a/b\n1:cpu:/c\n0::/\n", map[string]string{"memory/a/b/memory.limit_in_bytes": "100\n", "memory/c/memory.limit_in_bytes": "90\n"}, 100},
		"its container":    {"4:cpu,memory:/docker/x\n", map[string]string{"memory/memory.limit_in_bytes": "100\n"}, 100},
		"version 1, above": {"4:memory:/a/b\n", map[string]string{"memory/a/b/memory.limit_in_bytes": "9223372036854771712\n", "memory/a/memory.limit_in_bytes": "100\n"}, 100},
		"not understood":   {"x\n4:memory\n::\n0::/a:b\n", map[string]string{"memory.max": "lots\n", "a:b/memory.max": "100"}, 100},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			write := func(path, text string) {
				t.Helper()
				path = filepath.Join(root, filepath.FromSlash(path))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if name != "no groups" && name != "unreadable" {
				write(groupsPath, row.groups)
			}
			for file, text := range row.files {
				if file == "a:b/memory.max" && filepath.Separator == '\\' {
					t.Skip("no file of this system has a colon in its name")
				}
				write(groupsRoot+"/"+file, text)
			}
			if got := groupMemory(root); got != row.want {
				t.Errorf("%d bytes, want %d", got, row.want)
			}
		})
	}
}
