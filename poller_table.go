package flare

// This file is layer 2 (system): the table of a poller whose kernel does not
// keep one that can be asked. It knows descriptors and what was wanted of them,
// and makes no system call. poller_darwin.go uses it.

// A pollerTable remembers the descriptors of a poller, by number. Descriptors
// are small numbers, so it is a slice. It belongs to the poller's owner.
type pollerTable []pollerFD

// pollerFD is what a poller remembers of a descriptor.
type pollerFD struct {
	added bool
	want  Interest
	ended Interest // directions that ended: Readable, Writable
	slot  int32    // where its Event of this batch lies, if that one has this descriptor
}

// known says whether fd is in the table.
func (t pollerTable) known(fd int) bool {
	return uint(fd) < uint(len(t)) && t[fd].added
}

// remember enters fd, or enters it anew. The kernel knew it to be open before,
// so the table grows in step with the process's descriptors.
func (t *pollerTable) remember(fd int, want Interest) {
	if fd >= len(*t) {
		grown := make(pollerTable, max(fd+1, 2*len(*t), 64))
		copy(grown, *t)
		*t = grown
	}
	(*t)[fd] = pollerFD{added: true, want: want}
}

// forget takes fd out, if it is in the table.
func (t pollerTable) forget(fd int) {
	if t.known(fd) {
		t[fd] = pollerFD{}
	}
}
