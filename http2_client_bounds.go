package flare

// This file is layer 4 (roles): what a server of HTTP/2 may make the client do:
// frames that bring nothing, and frames on streams that the client has given up.
// It knows numbers; whoever handles the frames asks it.

// budgetResponse is how many frames that bring nothing a server earns with a
// response: it gives back windows, say, of streams that are closed by then.
const budgetResponse = 4

const resetsKept = 64

// A resetMemory knows the streams that the client has reset last: the server may
// not know of it yet and still send on them (RFC 9113 §5.4.2).
type resetMemory struct {
	ids       [resetsKept]uint32 // a ring; 0: nothing
	left      [resetsKept]int64  // octets that the server may still send
	at        int
	forgotten uint32 // the highest number that was in the ring and is not
}

func (m *resetMemory) add(id uint32, window int64) {
	m.forgotten = max(m.forgotten, m.ids[m.at])
	m.ids[m.at], m.left[m.at] = id, window
	m.at = (m.at + 1) % resetsKept
}

// allows says whether n octets of DATA on a stream that is closed may still come.
func (m *resetMemory) allows(id uint32, n int64) bool {
	for i, known := range m.ids {
		if known == id {
			m.left[i] -= n
			return m.left[i] >= 0
		}
	}
	return id <= m.forgotten
}
