package flare

// This file is layer 1 (wire): decoding of field sections by HPACK (RFC 7541).
// It knows octets and tables. What the fields mean, and whether a section may
// look like that, is for http2_fields.go; where the octets come from (HEADERS
// and CONTINUATION) for the connection, which has one hpackDecoder for its life
// and a fieldSection for each message.
//
// All sections of a connection have to be decoded, in order and to their ends,
// or both sides' tables differ. So one that is too large is decoded all the
// same, without keeping its fields: it can be refused with a status. One whose
// encoded form is far too large ends the connection.

// A fieldSection is a decoded field section: names and values as offsets into
// octets of its own, in the order of the wire, pseudo-fields included. It is
// reused: reset readies it for the next section and keeps its memory.
type fieldSection struct {
	octets []byte
	fields []sectionField

	max      int32          // octets and fieldCost for each field, after which it is cut
	encoded  int32          // octets so far, at most encodedShare times max
	cut      bool           // the last field passed the bound, and others may be missing
	priority streamPriority // of a request, once its head was filled from here
}

// A sectionField is a field of a section, from the end of the one before on: name and
// value, without anything between them.
type sectionField struct {
	nameEnd, end uint32
	kind         nameKind
}

// field returns a field of s.
func (s *fieldSection) field(i int) field {
	f, start := s.fields[i], uint32(0)
	if i > 0 {
		start = s.fields[i-1].end
	}
	return field{start, f.nameEnd, f.nameEnd, f.end}
}

const (
	// fieldCost is what a field counts beside its octets: what a line of
	// HTTP/1.1 has, so that MaxHeaderBytes means the same over both.
	fieldCost = len(": \r\n")

	// encodedShare times its bound is what the encoded form of a section may
	// have: encoders that do their work never come near.
	encodedShare = 2

	// pseudoBytesMax is room for pseudo-fields but the target.
	pseudoBytesMax = 256

	sectionBytesKept = 4 << 10 // of a section that stay in memory for the next
)

// reset readies s for a section of a message whose head has those limits.
func (s *fieldSection) reset(lim *headLimits) {
	octets, fields := s.octets[:0], s.fields[:0]
	if cap(octets) > sectionBytesKept {
		octets = nil
	}
	if cap(fields) > sectionBytesKept/32 {
		fields = nil
	}
	*s = fieldSection{octets: octets, fields: fields, priority: defaultPriority}
	s.max = int32(effectiveLimit(effectiveLimit(lim.headerBytes) + effectiveLimit(lim.uriBytes) + pseudoBytesMax))
}

const (
	ruleHPACKInteger   = "integer too large (RFC 7541 §5.1)"
	ruleHPACKIndex     = "index beyond the tables (RFC 7541 §2.3.3)"
	ruleHPACKHuffman   = "Huffman code with EOS or bad padding (RFC 7541 §5.2)"
	ruleHPACKTruncated = "field block ends inside of a field (RFC 9113 §4.3)"
	ruleHPACKResize    = "table size update above the setting (RFC 7541 §6.3)"
	ruleHPACKResizeAt  = "table size update that does not begin a field block, or a third (RFC 7541 §4.2)"
	ruleHPACKResizeNo  = "no table size update after the setting was lowered (RFC 7541 §4.2)"
	ruleHPACKEncoded   = "field block too large (RFC 9113 §10.5.1)"
)

// resizesMax is how many table size updates a block may begin with: one for the
// smallest size since the last block, one for the size now (RFC 7541 §4.2).
const resizesMax = 2

// An hpackDecoder decodes the field sections of one direction of a connection.
// reset readies it.
type hpackDecoder struct {
	table fieldTable

	limit   uint32 // SETTINGS_HEADER_TABLE_SIZE as acknowledged
	least   uint32 // the smallest since the last block
	due     bool   // the next block has to begin with an update to least or less
	resizes uint8  // updates that began the block
	begun   bool   // behind them a field was seen

	rest *buffer // of a field that is not complete yet; nil: nothing
}

func (d *hpackDecoder) reset() {
	*d = hpackDecoder{limit: tableBytesDefault}
	d.table.max = tableBytesDefault
}

// setLimit is called when the peer has acknowledged a table size of ours.
func (d *hpackDecoder) setLimit(limit uint32) {
	if !d.due || limit < d.least {
		d.least = limit
	}
	d.due = d.due || limit < d.table.max
	d.limit = limit
}

// decode takes the next octets of a field block, of any number, into s; last
// says that nothing of the block follows. The octets may be a view of a buffer
// that changes afterwards. Nothing is allocated once s and the table have grown
// to the usual size. Every error ends the connection.
func (d *hpackDecoder) decode(s *fieldSection, p []byte, last bool) error {
	// The bound is an end of the octets like the real one: what stands before it
	// is judged first, so that the outcome does not depend on the frames.
	over := false
	if room := int(encodedShare*s.max - s.encoded); len(p) > room {
		p, over = p[:room], true
	}
	s.encoded += int32(len(p))
	if d.rest != nil {
		d.rest = d.rest.grown(len(p))
		d.rest.b = append(d.rest.b, p...)
		p = d.rest.b
	}
	n, err := d.decodeFields(s, p)
	switch {
	case err != nil:
		return err
	case over:
		return connFault(codeEnhanceYourCalm, ruleHPACKEncoded)
	case last && n < len(p):
		return connFault(codeCompression, ruleHPACKTruncated)
	case last:
		d.resizes, d.begun = 0, false
	}
	d.keep(p[n:])
	return nil
}

// keep keeps p, which are the last octets of what there is.
func (d *hpackDecoder) keep(p []byte) {
	switch {
	case len(p) == 0 && d.rest != nil:
		d.rest.release()
		d.rest = nil
	case len(p) == 0:
	case d.rest == nil:
		d.rest = getBuffer(len(p))
		fallthrough
	default:
		d.rest.b = append(d.rest.b[:0], p...)
	}
}

// decodeFields decodes the fields that p has completely and returns the length
// of their octets.
func (d *hpackDecoder) decodeFields(s *fieldSection, p []byte) (int, error) {
	i := 0
	for i < len(p) {
		c := p[i]
		if c >= 0x80 { // an indexed field (RFC 7541 §6.1)
			index, next := hpackInteger(p, i, 0x7f)
			switch {
			case next < 0:
				return 0, connFault(codeCompression, ruleHPACKInteger)
			case next == 0:
				return i, nil
			case !d.begun:
				if err := d.begin(); err != nil {
					return 0, err
				}
			}
			if index-1 < uint32(len(staticFields)) {
				e := &staticTable[index]
				if !s.cut {
					s.octets = append(s.octets, e.text...)
					s.add(e.nameLen, e.kind)
				}
			} else if index -= uint32(len(staticTable)); index < d.table.count {
				e := d.table.entry(index)
				if !s.cut {
					s.octets = append(s.octets, e.text()...)
					s.add(e.nameLen(), e.kind())
				}
			} else {
				return 0, connFault(codeCompression, ruleHPACKIndex)
			}
			i = next
			continue
		}
		var next int
		var err error
		if c&0xe0 == 0x20 {
			next, err = d.decodeResize(p, i)
		} else {
			next, err = d.decodeLiteral(s, p, i)
		}
		if next == 0 {
			return i, err
		}
		i = next
	}
	return i, nil
}

// begin is called before the first field of a block.
func (d *hpackDecoder) begin() error {
	if d.due {
		return connFault(codeCompression, ruleHPACKResizeNo)
	}
	d.begun = true
	return nil
}

// add adds the field that the last octets are.
func (s *fieldSection) add(nameLen uint32, kind nameKind) {
	start := uint32(0)
	if n := len(s.fields); n > 0 {
		start = s.fields[n-1].end
	}
	s.fields = append(s.fields, sectionField{start + nameLen, uint32(len(s.octets)), kind})
	s.cut = len(s.octets)+fieldCost*len(s.fields) > int(s.max)
}

// decodeResize takes a table size update at offset i (RFC 7541 §6.3). It returns the
// offset behind it, 0 with an error or to ask for more.
func (d *hpackDecoder) decodeResize(p []byte, i int) (int, error) {
	size, next := hpackInteger(p, i, 0x1f)
	switch {
	case d.begun || d.resizes == resizesMax:
		return 0, connFault(codeCompression, ruleHPACKResizeAt)
	case next < 0:
		return 0, connFault(codeCompression, ruleHPACKInteger)
	case next == 0:
		return 0, nil
	case size > d.limit:
		return 0, connFault(codeCompression, ruleHPACKResize)
	case d.due && size > d.least:
		return 0, connFault(codeCompression, ruleHPACKResizeNo)
	}
	d.due = false
	d.resizes++
	d.table.resize(size)
	return next, nil
}

// decodeLiteral takes a literal field at offset i (RFC 7541 §6.2), once it is
// there to its end: until then only its lengths are looked at. It returns the
// offset behind it, 0 with an error or to ask for more.
func (d *hpackDecoder) decodeLiteral(s *fieldSection, p []byte, i int) (int, error) {
	indexed := p[i]&0x40 != 0 // else without indexing, or never indexed: the same here
	mask := byte(0x0f)
	if indexed {
		mask = 0x3f
	}
	index, name := hpackInteger(p, i, mask)
	if name < 0 {
		return 0, connFault(codeCompression, ruleHPACKInteger)
	}
	if name == 0 {
		return 0, nil
	}
	if index > uint32(len(staticFields))+d.table.count {
		return 0, connFault(codeCompression, ruleHPACKIndex)
	}
	if !d.begun {
		if err := d.begin(); err != nil {
			return 0, err
		}
	}
	value, nameStart := name, name
	if index == 0 {
		var err error
		if nameStart, value, err = hpackString(p, name); value == 0 {
			return 0, err
		}
	}
	valueStart, next, err := hpackString(p, value)
	if next == 0 {
		return 0, err
	}

	start := len(s.octets)
	var kind nameKind
	ok := true
	if index > 0 {
		kind = d.appendName(s, index)
	} else {
		if s.octets, ok = appendString(s.octets, p[name], p[nameStart:value]); !ok {
			return 0, connFault(codeCompression, ruleHPACKHuffman)
		}
		kind = kindOfName(s.octets[start:])
	}
	nameLen := uint32(len(s.octets) - start)
	if s.octets, ok = appendString(s.octets, p[value], p[valueStart:next]); !ok {
		return 0, connFault(codeCompression, ruleHPACKHuffman)
	}
	if indexed {
		d.table.insert(s.octets[start:], nameLen, kind)
	}
	if s.cut {
		s.octets = s.octets[:start]
	} else {
		s.add(nameLen, kind)
	}
	return next, nil
}

// appendName appends the name of an entry of the tables.
func (d *hpackDecoder) appendName(s *fieldSection, index uint32) nameKind {
	if index <= uint32(len(staticFields)) {
		e := &staticTable[index]
		s.octets = append(s.octets, e.name()...)
		return e.kind
	}
	e := d.table.entry(index - uint32(len(staticTable)))
	s.octets = append(s.octets, e.text()[:e.nameLen()]...)
	return e.kind()
}

// appendString appends a string whose first octet, with the length, tells how
// it is encoded (RFC 7541 §5.2).
func appendString(b []byte, first byte, s []byte) ([]byte, bool) {
	if first&0x80 == 0 {
		return append(b, s...), true
	}
	return appendHuffmanDecoded(b, s)
}

// hpackString finds the string at offset i: where its octets begin and end. end
// is 0 with an error or to ask for more.
func hpackString(p []byte, i int) (start, end int, err error) {
	if i >= len(p) {
		return 0, 0, nil
	}
	n, start := hpackInteger(p, i, 0x7f)
	switch {
	case start < 0:
		return 0, 0, connFault(codeCompression, ruleHPACKInteger)
	case start == 0 || int(n) > len(p)-start:
		return 0, 0, nil
	}
	return start, start + int(n), nil
}

// integerOctetsMax is how many octets may follow an integer's first. Nothing
// needs more: the value then has up to 28 bits, zeros in front included.
const integerOctetsMax = 4

// hpackInteger reads the integer whose first octet is at offset i, in the bits
// of mask (RFC 7541 §5.1). It returns the offset behind it, 0 to ask for more,
// and -1 for one that is too large.
func hpackInteger(p []byte, i int, mask byte) (value uint32, next int) {
	value = uint32(p[i] & mask)
	if i++; value < uint32(mask) {
		return value, i
	}
	for shift := 0; shift < 7*integerOctetsMax; shift += 7 {
		if i >= len(p) {
			return 0, 0
		}
		c := p[i]
		i++
		value += uint32(c&0x7f) << shift
		if c < 0x80 {
			return value, i
		}
	}
	return 0, -1
}
