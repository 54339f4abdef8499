package flare

import (
	"hash/maphash"
	"math"
	"slices"
)

// This file is layer 1 (wire): encoding of field sections by HPACK (RFC 7541).
// It knows fields and tables; http2_fields.go knows which fields are sent, and
// frames are put around the result by http2_append.go. A connection has one
// hpackEncoder, and what it has encoded is sent whole and in order: the peer's
// table follows it.
//
// A field enters the table when it is sent for the second time within a short
// while, so that the table holds what repeats (server, content-type, date) and
// is not churned by what does not (etag, location). Values of which nobody may
// guess a part are never in it (RFC 7541 §7.1.3).

// An hpackEncoder encodes the field sections of one direction of a connection.
// reset readies it; until a field repeats it has no memory.
type hpackEncoder struct {
	memory *encoderMemory // nil before the first field that is worth a place

	seen [encoderSlots]uint16 // by hash: hash of a field that was sent as a literal

	max   uint32 // bound of the table: encoderTableMax, or less if the peer says so
	least uint32 // the smallest bound that the next block has to begin with; encoderTold: none
}

// encoderTold is for an encoder whose peer knows its bound.
const encoderTold = math.MaxUint32

const (
	// encoderTableMax is enough for what repeats on one connection, and every
	// connection has such a table.
	encoderTableMax = 2 << 10

	// encoderFieldMax keeps one field from driving most others out.
	encoderFieldMax = encoderTableMax / 4

	encoderSlots = 32
)

// An encoderMemory is the dynamic table of an encoder, which has to find fields
// by their contents. A slot holds the last field of its hash alone: one that
// is lost is sent as a literal.
type encoderMemory struct {
	table fieldTable
	slots [encoderSlots]uint8 // by hash: how many fields there were once it was in, in 8 bits

	dateSecond uint32 // of the Date that was last put into the table, in 32 bits
	dateAt     uint32 // how many fields there were once it was in
}

// reset readies e for a connection whose peer has the default table size, and
// will learn with the first block that less of it is used.
func (e *hpackEncoder) reset() {
	*e = hpackEncoder{max: encoderTableMax, least: encoderTableMax}
}

// resize is called when a SETTINGS frame of the peer has passed through a table
// size of least and ended at size.
func (e *hpackEncoder) resize(least, size uint32) {
	least, size = min(least, encoderTableMax), min(size, encoderTableMax)
	if size == e.max && least >= size {
		return
	}
	e.least, e.max = min(e.least, least), size
	if e.memory == nil {
		return
	}
	if e.least < e.max {
		e.memory.table.resize(0)
	}
	e.memory.table.resize(size)
}

// begin appends what a field block has to begin with: table size updates, as
// far as the peer does not know of them (RFC 7541 §4.2). A bound that was smaller
// for a while is said to have been 0: golang.org/x/net refuses a second update
// unless the first has emptied the table.
func (e *hpackEncoder) begin(b []byte) []byte {
	if e.least == encoderTold {
		return b
	}
	if e.least < e.max {
		b = append(b, 0x20)
	}
	e.least = encoderTold
	return appendHPACKInteger(b, 0x20, 0x1f, e.max)
}

// appendField appends one field of a block. The name is sent in lower case.
// Nothing is allocated once the table has grown to the usual size.
func (e *hpackEncoder) appendField(b []byte, name, value string) []byte {
	known := staticNames.find(name)
	for i := range known.values {
		if staticTable[known.index+i].value() == value {
			return append(b, 0x80|byte(known.index+i))
		}
	}
	switch {
	case known.never:
		return appendHPACKLiteral(b, 0x10, 0x0f, known.index, name, value)
	case known.varies || len(name)+len(value) > encoderFieldMax:
		return appendHPACKLiteral(b, 0, 0x0f, known.index, name, value)
	}
	return e.appendRepeating(b, known.index, name, value)
}

// appendDate appends Date, which is the same for all answers of a second.
func (e *hpackEncoder) appendDate(b []byte, second int64, value string) []byte {
	before := uint32(0)
	if m := e.memory; m != nil {
		if before = m.table.inserted; m.dateSecond == uint32(second) {
			if age := before - m.dateAt; age < m.table.count {
				return appendHPACKInteger(b, 0x80, 0x7f, uint32(len(staticTable))+age)
			}
		}
	}
	b = e.appendField(b, "date", value)
	if m := e.memory; m != nil && m.table.inserted != before {
		m.dateSecond, m.dateAt = uint32(second), m.table.inserted
	}
	return b
}

// appendRepeating appends a field that may be worth a place in the table.
func (e *hpackEncoder) appendRepeating(b []byte, index uint32, name, value string) []byte {
	hash := uint32(maphash.String(hashSeed, value)) + index*0x9e3779b1
	if index == 0 {
		hash ^= uint32(maphash.String(hashSeed, name))
	}
	slot, mark := hash>>16%encoderSlots, uint16(hash)
	m := e.memory
	if m != nil {
		t := &m.table
		if age := uint32(uint8(t.inserted) - m.slots[slot]); age < t.count && t.holds(age, index, name, value) {
			return appendHPACKInteger(b, 0x80, 0x7f, uint32(len(staticTable))+age)
		}
	}
	if e.seen[slot] != mark {
		e.seen[slot] = mark
		return appendHPACKLiteral(b, 0, 0x0f, index, name, value)
	}
	if m == nil {
		m = &encoderMemory{table: fieldTable{max: e.max}}
		e.memory = m
	}
	b = appendHPACKLiteral(b, 0x40, 0x3f, index, name, value)
	var space [encoderFieldMax]byte
	text := appendLower(space[:0], name)
	m.table.insert(append(text, value...), uint32(len(name)), nameKind(index))
	m.slots[slot] = uint8(m.table.inserted)
	return b
}

var hashSeed = maphash.MakeSeed()

// holds says whether an entry of an encoder is that field, whatever the case of the
// name. In place of a kind such an entry has the index of the name in the static table,
// 0 for none: names that are there need not be compared once more.
func (t *fieldTable) holds(at, index uint32, name, value string) bool {
	e := t.entry(at)
	n, text := len(name), e.text()
	return int(e.nameLen()) == n && uint32(e.kind()) == index && string(text[n:]) == value &&
		(index > 0 || equalFoldASCII(text[:n], name))
}

func appendLower(b []byte, s string) []byte {
	for i := range len(s) {
		b = append(b, lowerASCII(s[i]))
	}
	return b
}

// appendHPACKLiteral appends a literal field (RFC 7541 §6.2). index is that of
// its name, 0 for none.
func appendHPACKLiteral(b []byte, pattern, mask byte, index uint32, name, value string) []byte {
	b = appendHPACKInteger(b, pattern, mask, index)
	if index == 0 {
		b = appendHPACKString(b, name, true)
	}
	return appendHPACKString(b, value, false)
}

// appendHPACKString appends a string in the shorter of its two forms (RFC 7541
// §5.2). lower folds ASCII capitals.
func appendHPACKString(b []byte, s string, lower bool) []byte {
	if n := huffmanLength(s, lower); n < len(s) {
		b = appendHPACKInteger(b, 0x80, 0x7f, uint32(n))
		return appendHuffman(slices.Grow(b, n), s, lower)
	}
	b = appendHPACKInteger(b, 0, 0x7f, uint32(len(s)))
	if lower {
		return appendLower(b, s)
	}
	return append(b, s...)
}

// appendHPACKInteger appends an integer behind a pattern (RFC 7541 §5.1).
func appendHPACKInteger(b []byte, pattern, mask byte, n uint32) []byte {
	if n < uint32(mask) {
		return append(b, pattern|byte(n))
	}
	b = append(b, pattern|mask)
	for n -= uint32(mask); n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// A staticName is what an encoder knows of a name.
type staticName struct {
	index  uint32 // of the first entry of the static table that has it; 0: none
	values uint32 // entries that have it and a value
	never  bool   // nobody may guess a part of it: never indexed (RFC 7541 §7.1.3)
	varies bool   // the value hardly ever repeats
}

// staticNameTable finds names of the static table, whatever their case, by a
// hash that has no collisions; a test holds that.
type staticNameTable [256]staticName

var staticNames = func() (table staticNameTable) {
	for i := len(staticFields); i > 0; i-- {
		name := staticTable[i].name()
		entry := &table[staticNameHash(name)]
		entry.index = uint32(i)
		if staticTable[i].value() != "" {
			entry.values++
		}
		switch name {
		case "authorization", "proxy-authorization", "cookie", "set-cookie":
			entry.never = true
		case ":path", "age", "content-length", "content-range", "etag", "expires", "if-modified-since",
			"if-none-match", "if-range", "last-modified", "location", "range", "referer":
			entry.varies = true
		}
	}
	return table
}()

// staticNameHash is of use for names that are in the static table.
func staticNameHash(name string) uint8 {
	n := len(name)
	if n < 3 {
		return 0
	}
	return uint8(n)*79 + lowerASCII(name[n-1])*51 + lowerASCII(name[n/2])*64 + lowerASCII(name[0])
}

func (t *staticNameTable) find(name string) *staticName {
	entry := &t[staticNameHash(name)]
	if entry.index == 0 || !equalFoldToken(name, staticTable[entry.index].name()) {
		return &unknownName
	}
	return entry
}

var unknownName staticName

// equalFoldToken reports whether token is lower, the name of a field in the static
// table, in whatever case: what such names consist of has no other twin in a token
// that lacks the bit of lower case.
func equalFoldToken(token, lower string) bool {
	if len(token) != len(lower) {
		return false
	}
	i := 0
	for ; i <= len(token)-8; i += 8 {
		if word(token[i:])|lowerBits != word(lower[i:]) {
			return false
		}
	}
	for ; i < len(token); i++ {
		if token[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

const lowerBits = 0x2020202020202020

// word is the first eight octets of s.
func word(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}
