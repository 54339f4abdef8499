package flare

import "testing"

func TestPollerTable(t *testing.T) {
	var table pollerTable
	for _, fd := range []int{-1, 0, 5, 1<<31 - 1} {
		if table.known(fd) {
			t.Errorf("an empty table knows %d", fd)
		}
		table.forget(fd)
	}
	for _, fd := range []int{5, 64, 63, 0, 1000} {
		table.remember(fd, Readable)
		if !table.known(fd) || table[fd].want != Readable {
			t.Errorf("%d is not remembered: %+v", fd, table[fd])
		}
	}
	table[5].ended, table[5].slot = Readable, 3
	table.remember(5, Writable)
	if want := (pollerFD{added: true, want: Writable}); table[5] != want {
		t.Errorf("remembered anew: %+v, want %+v", table[5], want)
	}
	table.forget(5)
	if table.known(5) || table[5] != (pollerFD{}) || !table.known(64) {
		t.Errorf("forgotten: %+v", table[5])
	}
	for _, fd := range []int{-1, 1, 999, len(table), 1<<31 - 1} {
		if table.known(fd) {
			t.Errorf("%d was never remembered", fd)
		}
	}
	table.remember(2, Readable)
	if n := testing.AllocsPerRun(100, func() { table.forget(2); table.remember(2, Readable) }); n != 0 {
		t.Errorf("%v allocations in a table that is large enough", n)
	}
}
