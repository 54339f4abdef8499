package flare

import (
	"encoding/binary"
	"sync"
)

// This file is layer 1 (wire): the tables of HPACK (RFC 7541 §2.3): the static
// one, and the dynamic one as a decoder keeps it. It also knows which field
// names mean something to HTTP/2 (nameKind): a name is looked at once, when it
// is first read, and what it means stays with its entry.

// A nameKind says what a field name is to http2_fields.go.
type nameKind uint8

const (
	nameOther   nameKind = iota // a name like any other
	nameInvalid                 // not a token, or not in lower case
	namePseudo                  // ":" and then something unknown
	nameMethod
	nameScheme
	namePath
	nameAuthority
	nameStatus
	nameProtocol
	nameConnection // speaks of the connection: no place in HTTP/2 (RFC 9113 §8.2.2)
	nameTE
	nameHost
	nameCookie
	nameContentLength
	nameExpect
	namePriority
)

// kindOfName looks at a name that no table has.
func kindOfName(name []byte) nameKind {
	for i, c := range name {
		if charClass[c]&classToken == 0 || c-'A' < 26 {
			if i == 0 && c == ':' {
				return kindOfPseudo(name)
			}
			return nameInvalid
		}
	}
	switch string(name) {
	case "":
		return nameInvalid
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return nameConnection
	case "te":
		return nameTE
	case "host":
		return nameHost
	case "cookie":
		return nameCookie
	case "content-length":
		return nameContentLength
	case "expect":
		return nameExpect
	case "priority":
		return namePriority
	}
	return nameOther
}

func kindOfPseudo(name []byte) nameKind {
	switch string(name) {
	case ":method":
		return nameMethod
	case ":scheme":
		return nameScheme
	case ":path":
		return namePath
	case ":authority":
		return nameAuthority
	case ":status":
		return nameStatus
	case ":protocol":
		return nameProtocol
	}
	return namePseudo
}

// A staticEntry is an entry of the static table. The text is name and value,
// without anything between them, so that one copy fetches both.
type staticEntry struct {
	text    string
	nameLen uint32
	kind    nameKind
}

func (e *staticEntry) name() string  { return e.text[:e.nameLen] }
func (e *staticEntry) value() string { return e.text[e.nameLen:] }

// staticFields is RFC 7541 Appendix A; staticTable has it by index, from 1 on.
var (
	staticFields = [...][2]string{
		{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"}, {":path", "/index.html"},
		{":scheme", "http"}, {":scheme", "https"}, {":status", "200"}, {":status", "204"}, {":status", "206"},
		{":status", "304"}, {":status", "400"}, {":status", "404"}, {":status", "500"}, {"accept-charset", ""},
		{"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""}, {"accept", ""},
		{"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""},
		{"cache-control", ""}, {"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""},
		{"content-length", ""}, {"content-location", ""}, {"content-range", ""}, {"content-type", ""},
		{"cookie", ""}, {"date", ""}, {"etag", ""}, {"expect", ""}, {"expires", ""}, {"from", ""}, {"host", ""},
		{"if-match", ""}, {"if-modified-since", ""}, {"if-none-match", ""}, {"if-range", ""},
		{"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""}, {"location", ""}, {"max-forwards", ""},
		{"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""}, {"referer", ""}, {"refresh", ""},
		{"retry-after", ""}, {"server", ""}, {"set-cookie", ""}, {"strict-transport-security", ""},
		{"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""}, {"via", ""}, {"www-authenticate", ""},
	}
	staticTable = func() (table [len(staticFields) + 1]staticEntry) {
		for i, f := range staticFields {
			table[i+1] = staticEntry{f[0] + f[1], uint32(len(f[0])), kindOfName([]byte(f[0]))}
		}
		return table
	}()
)

const (
	// tableEntryCost is what an entry counts beside its octets (RFC 7541 §4.1).
	tableEntryCost = 32

	// tableBytesDefault is the size of both tables until the settings say
	// otherwise (RFC 9113 §6.5.2).
	tableBytesDefault = 4 << 10
)

// A tableEntry is an entry of a dynamic table: four octets that say what its name is,
// then name and value. The kind is a decoder's; holds says what an encoder has there.
type tableEntry []byte

// tableEntryHead is the length of what stands in front of the text of an entry.
const tableEntryHead = 4

func (e tableEntry) nameLen() uint32 { return binary.LittleEndian.Uint32(e) >> 8 }
func (e tableEntry) kind() nameKind  { return nameKind(e[0]) }
func (e tableEntry) text() []byte    { return e[tableEntryHead:] }

// A fieldTable is the dynamic table of a decoder (RFC 7541 §2.3.2). Its memory
// grows with its contents, to a few times their size at most, and not beyond its
// bound. Connections have one each, and most are idle: there is little of it.
type fieldTable struct {
	entries  []uint32 // where they begin, counted from the first octet ever, and where the newest ends; a ring whose length is a power of two
	octets   []byte
	base     uint32 // what the place of octets[0] counts as
	inserted uint32 // entries ever: the newest is at inserted-1
	count    uint32 // entries there are
	size     uint32 // by the measure of RFC 7541 §4.1
	max      uint32
}

// entry returns an entry by its index among the dynamic ones, from 0 on: the
// newest is the first. There is one if index is below count. It is valid until the
// next insertion.
func (t *fieldTable) entry(index uint32) tableEntry {
	at, mask := t.inserted-1-index, uint32(len(t.entries)-1)
	return t.octets[t.entries[at&mask]-t.base : t.entries[(at+1)&mask]-t.base]
}

// resize sets the bound and drops what is beyond it (RFC 7541 §4.3).
func (t *fieldTable) resize(max uint32) {
	t.max = max
	t.evict(max)
}

// evict drops the oldest entries until at most size is left.
func (t *fieldTable) evict(size uint32) {
	for t.size > size {
		t.count--
		t.size -= uint32(len(t.entry(t.count).text())) + tableEntryCost
	}
}

// insert adds an entry, for which older ones go (RFC 7541 §4.4). One that is
// larger than the table empties it.
func (t *fieldTable) insert(text []byte, nameLen uint32, kind nameKind) {
	size := uint64(len(text)) + tableEntryCost
	if size > uint64(t.max) {
		t.evict(0)
		return
	}
	t.evict(t.max - uint32(size))
	if n := tableEntryHead + len(text); len(t.octets)+n > cap(t.octets) {
		t.makeRoom(n)
	}
	if int(t.count)+1 >= len(t.entries) {
		t.growRing()
	}
	mask := uint32(len(t.entries) - 1)
	t.entries[t.inserted&mask] = t.base + uint32(len(t.octets))
	t.octets = append(binary.LittleEndian.AppendUint32(t.octets, nameLen<<8|uint32(kind)), text...)
	t.inserted++
	t.count++
	t.size += uint32(size)
	t.entries[t.inserted&mask] = t.base + uint32(len(t.octets))
}

// The memory of a table that has little.
const (
	tableBytesFirst  = 80 // enough for a program's two or three fields
	tableBytesSecond = 256

	tableEntriesFirst  = 4
	tableEntriesSecond = 32
)

// tableMemory is that of tableBytesSecond.
var tableMemory = sync.Pool{New: func() any { return new([tableBytesSecond]byte) }}

// makeRoom moves the octets that are in use to the front of memory that has a
// quarter more room, so that moving costs each octet little. In memory as large as
// the bound there is less; but what each entry costs beside its octets is room, too.
// Connections grow their tables one after the other: what one has outgrown is the
// next one's.
func (t *fieldTable) makeRoom(n int) {
	old, live := t.octets, t.octets[len(t.octets):]
	if t.count > 0 {
		live = old[t.entries[(t.inserted-t.count)&uint32(len(t.entries)-1)]-t.base:]
	}
	t.base += uint32(len(old) - len(live))
	need := len(live) + n
	switch need = max(min(need+need/4, int(t.max)), need); {
	case cap(old) >= need:
		t.octets = append(old[:0], live...)
	case need <= tableBytesFirst:
		t.octets = append(make([]byte, 0, tableBytesFirst), live...)
	case need <= tableBytesSecond:
		t.octets = append(tableMemory.Get().(*[tableBytesSecond]byte)[:0], live...)
	default:
		b := getBuffer(need)
		t.octets = append(b.b, live...)
		switch b.b, b.class = old, bufferClass(cap(old)); {
		case raceEnabled: // nothing is reused
		case cap(old) == tableBytesSecond:
			tableMemory.Put((*[tableBytesSecond]byte)(old[:tableBytesSecond]))
		case cap(old) >= bufferBytesMin:
			b.release()
		}
	}
}

func (t *fieldTable) growRing() {
	size := tableEntriesFirst
	if n := len(t.entries); n > 0 {
		size = max(2*n, tableEntriesSecond)
	}
	entries := make([]uint32, size)
	for i := range uint32(len(t.entries)) {
		at := t.inserted - i
		entries[at&uint32(len(entries)-1)] = t.entries[at&uint32(len(t.entries)-1)]
	}
	t.entries = entries
}
