package flare

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sectionLimits are wide enough for whatever the tests do not mean to bound.
var sectionLimits = headLimits{uriBytes: 64 << 10, headerBytes: 64 << 10, headers: 1000}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lines returns the fields of a section, "name: value".
func (s *fieldSection) lines() []string {
	var lines []string
	for i := range s.fields {
		f := s.field(i)
		lines = append(lines, string(s.octets[f.name:f.nameEnd])+": "+string(s.octets[f.value:f.valueEnd]))
	}
	return lines
}

// decodeBlock decodes a block that arrives cut at the given offsets.
func decodeBlock(d *hpackDecoder, s *fieldSection, block []byte, cuts ...int) error {
	from := 0
	for _, to := range cuts {
		// A fragment lies in a buffer that changes afterwards.
		fragment := bytes.Clone(block[from:to])
		if err := d.decode(s, fragment, false); err != nil {
			return err
		}
		clear(fragment)
		from = to
	}
	return d.decode(s, block[from:], true)
}

// tableLines returns the entries of a dynamic table, the newest first.
func (t *fieldTable) lines() []string {
	var lines []string
	for i := range t.count {
		e := t.entry(i)
		text := e.text()
		lines = append(lines, string(text[:e.nameLen()])+": "+string(text[e.nameLen():]))
	}
	return lines
}

func equalLines(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s is\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// RFC 7541 Appendix C: fields, and the table behind them.
func TestHPACKExamples(t *testing.T) {
	const date21, date22 = "date: Mon, 21 Oct 2013 20:13:21 GMT", "date: Mon, 21 Oct 2013 20:13:22 GMT"
	const site = "location: https://www.example.com"
	const cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
	type block struct {
		wire          string
		fields, table []string
		size          uint32
	}
	requests := func(wires ...string) []block {
		first := []string{":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"}
		return []block{
			{wires[0], first, first[3:], 57},
			{wires[1], append(first[:4:4], "cache-control: no-cache"), []string{"cache-control: no-cache", first[3]}, 110},
			{wires[2], []string{":method: GET", ":scheme: https", ":path: /index.html", first[3], "custom-key: custom-value"},
				[]string{"custom-key: custom-value", "cache-control: no-cache", first[3]}, 164},
		}
	}
	responses := func(wires ...string) []block {
		return []block{
			{wires[0], []string{":status: 302", "cache-control: private", date21, site},
				[]string{site, date21, "cache-control: private", ":status: 302"}, 222},
			{wires[1], []string{":status: 307", "cache-control: private", date21, site},
				[]string{":status: 307", site, date21, "cache-control: private"}, 222},
			{wires[2], []string{":status: 200", "cache-control: private", date22, site, "content-encoding: gzip", cookie},
				[]string{cookie, "content-encoding: gzip", date22}, 215},
		}
	}
	for _, test := range []struct {
		name   string
		max    uint32
		blocks []block
	}{
		{"C.2.1", 4096, []block{{"400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
			[]string{"custom-key: custom-header"}, []string{"custom-key: custom-header"}, 55}}},
		{"C.2.2", 4096, []block{{"040c 2f73 616d 706c 652f 7061 7468", []string{":path: /sample/path"}, nil, 0}}},
		{"C.2.3", 4096, []block{{"1008 7061 7373 776f 7264 0673 6563 7265 74", []string{"password: secret"}, nil, 0}}},
		{"C.2.4", 4096, []block{{"82", []string{":method: GET"}, nil, 0}}},
		{"C.3", 4096, requests("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", "8286 84be 5808 6e6f 2d63 6163 6865",
			"8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65")},
		{"C.4", 4096, requests("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", "8286 84be 5886 a8eb 1064 9cbf",
			"8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")},
		{"C.5", 256, responses(`4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a
			3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`, "4803 3330 37c1 c0bf",
			`88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f
			6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b
			2076 6572 7369 6f6e 3d31`)},
		{"C.6", 256, responses(`4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
			919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`, "4883 640e ffc1 c0bf",
			`88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335
			dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d hpackDecoder
			d.reset()
			d.table.resize(test.max)
			var s fieldSection
			for _, block := range test.blocks {
				s.reset(&sectionLimits)
				if err := decodeBlock(&d, &s, unhex(t, block.wire)); err != nil {
					t.Fatal(err)
				}
				equalLines(t, "section", s.lines(), block.fields...)
				equalLines(t, "table", d.table.lines(), block.table...)
				if d.table.size != block.size {
					t.Errorf("table has a size of %d, want %d", d.table.size, block.size)
				}
			}
		})
	}
}

// A story is a file of HPACK test vectors as http2jp/hpack-test-case has them.
type hpackStory struct {
	Story string
	Cases []struct {
		Wire      string
		Headers   [][2]string
		TableSize *uint32 `json:"header_table_size"`
	}
}

func readStories(t testing.TB, file string) (stories []hpackStory) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &stories); err != nil || len(stories) == 0 {
		t.Fatalf("%s: %d stories, %v", file, len(stories), err)
	}
	return stories
}

func storyFiles(t testing.TB) []string {
	t.Helper()
	folder := os.Getenv("FLARE_FIXTURES")
	if folder == "" {
		t.Skip("FLARE_FIXTURES does not name the folder with the fixtures of other projects")
	}
	files, err := filepath.Glob(filepath.Join(folder, "hpack", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s/hpack: %v", folder, err)
	}
	return files
}

// What other encoders have made of the fields of real messages.
func TestHPACKStories(t *testing.T) {
	for _, file := range storyFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, story := range readStories(t, file) {
				var whole, split hpackDecoder
				whole.reset()
				split.reset()
				var s fieldSection
				for i, c := range story.Cases {
					if c.TableSize != nil {
						whole.setLimit(*c.TableSize)
						split.setLimit(*c.TableSize)
					}
					var want []string
					for _, f := range c.Headers {
						want = append(want, f[0]+": "+f[1])
					}
					wire := unhex(t, c.Wire)
					for _, d := range []*hpackDecoder{&whole, &split} {
						var cuts []int
						if d == &split {
							cuts = everyOctet(len(wire))
						}
						s.reset(&sectionLimits)
						if err := decodeBlock(d, &s, wire, cuts...); err != nil {
							t.Fatalf("%s, case %d: %v", story.Story, i, err)
						}
						equalLines(t, story.Story, s.lines(), want...)
					}
					if t.Failed() {
						return
					}
				}
			}
		})
	}
}

// What breaks the format, with its code; nothing of it is echoed.
func TestHPACKRefused(t *testing.T) {
	for _, test := range []struct {
		name, wire, rule string
	}{
		{"index 0", "80", ruleHPACKIndex},
		{"index behind the static table", "be", ruleHPACKIndex},
		{"index far away", "ff80 8080 01", ruleHPACKIndex},
		{"name index behind the static table", "7e01 61", ruleHPACKIndex},
		{"index behind the dynamic table", "4001 6101 62 be bf", ruleHPACKIndex},
		{"index that ends", "ff", ruleHPACKTruncated},
		{"index whose octets end", "ff80 80", ruleHPACKTruncated},
		{"index with five octets", "ff80 8080 8000", ruleHPACKInteger},
		{"index with many", "ff" + strings.Repeat("ff", 20), ruleHPACKInteger},
		{"literal that ends behind its index", "41", ruleHPACKTruncated},
		{"name that ends", "4002 61", ruleHPACKTruncated},
		{"no value", "4001 61", ruleHPACKTruncated},
		{"value that ends", "4001 6102 61", ruleHPACKTruncated},
		{"value of 256 MiB", "417f 81ff ff7f", ruleHPACKTruncated},
		{"value of more", "417f 81ff ffff 0f", ruleHPACKInteger},
		{"update above the setting", "3fe2 1f", ruleHPACKResize},
		{"update behind a field", "8220", ruleHPACKResizeAt},
		{"third update", "20 20 20", ruleHPACKResizeAt},
		{"update that ends", "3f", ruleHPACKTruncated},
		{"update too large", "3f" + strings.Repeat("80", 5), ruleHPACKInteger},
		{"EOS", "4184 ffff ffff", ruleHPACKHuffman},
		{"EOS behind an octet", "4185 1fff ffff ff", ruleHPACKHuffman},
		{"padding of 8 bits", "4182 53ff", ruleHPACKHuffman},
		{"padding alone", "4181 ff", ruleHPACKHuffman},
		{"zeros as padding", "4181 18", ruleHPACKHuffman},
		{"a zero in the padding", "4181 1e", ruleHPACKHuffman},
		{"Huffman in a name", "4081 ff01 61", ruleHPACKHuffman},
		{"long Huffman with bad padding", "418a f1e3 c2e5 f23a 6ba0 ab90", ruleHPACKHuffman},
	} {
		t.Run(test.name, func(t *testing.T) {
			wire := unhex(t, test.wire)
			for _, cuts := range [][]int{nil, everyOctet(len(wire))} {
				var d hpackDecoder
				d.reset()
				var s fieldSection
				s.reset(&sectionLimits)
				err := decodeBlock(&d, &s, wire, cuts...)
				checkHTTP2Error(t, err, &http2Error{codeCompression, false, test.rule})
				if !errors.Is(err, ErrMalformed) {
					t.Errorf("%v is not ErrMalformed", err)
				}
			}
		})
	}
}

func checkHTTP2Error(t testing.TB, err error, want *http2Error) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("error %v, want none", err)
		}
		return
	}
	got, ok := err.(*http2Error)
	if !ok || *got != *want {
		t.Errorf("error is %v (%+v), want %+v", err, got, want)
	}
}

// What may look odd is right all the same (RFC 7541 §2.3.2, §4.2, §4.4).
func TestHPACKTaken(t *testing.T) {
	for _, test := range []struct {
		name, wire   string
		want, tabled string // separated by |
	}{
		{"an entry twice", "4001 6101 62 4001 6101 62 be bf", "a: b|a: b|a: b|a: b", "a: b|a: b"},
		{"an entry of the static table", "4007 3a6d 6574 686f 6403 4745 54 82 be", ":method: GET|:method: GET|:method: GET", ":method: GET"},
		{"the name of the entry that has to go", "3f09 4001 6101 62 7e01 63 be", "a: b|a: c|a: c", "a: c"},
		{"an entry larger than the table", "3f02 4001 6101 62 82", "a: b|:method: GET", ""},
		{"a table that is emptied", "4001 6101 62 BLOCK 20 3fe1 1f 82", ":method: GET", ""},
		{"two updates of one size", "20 20 82", ":method: GET", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var d hpackDecoder
			d.reset()
			var s fieldSection
			for wire := range strings.SplitSeq(test.wire, "BLOCK") {
				block := unhex(t, wire)
				s.reset(&sectionLimits)
				if err := decodeBlock(&d, &s, block, everyOctet(len(block))...); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Join(s.lines(), "|"); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
			if got := strings.Join(d.table.lines(), "|"); got != test.tabled {
				t.Errorf("table %q, want %q", got, test.tabled)
			}
		})
	}
}

// RFC 7541 §4.2: who lowers the setting sees it obeyed at once, or nothing.
func TestHPACKTableSettings(t *testing.T) {
	const insert = "4001 6101 62" // a: b
	for _, test := range []struct {
		name   string
		limits []uint32
		wire   string
		rule   string // "" for none
	}{
		{"lowered and obeyed", []uint32{100}, "3f45 " + insert, ""},
		{"lowered and obeyed with less", []uint32{100}, "20 " + insert, ""},
		{"lowered and ignored", []uint32{100}, insert, ruleHPACKResizeNo},
		{"lowered and ignored by an indexed field", []uint32{100}, "82", ruleHPACKResizeNo},
		{"lowered and too large", []uint32{100}, "3f46", ruleHPACKResize},
		{"lowered, raised, and both said", []uint32{0, 4096}, "20 3fe1 1f " + insert, ""},
		{"lowered, raised, and the end said", []uint32{0, 4096}, "3fe1 1f", ruleHPACKResizeNo},
		{"lowered, raised, and nothing said", []uint32{0, 4096}, insert, ruleHPACKResizeNo},
		{"lowered twice", []uint32{200, 100}, "3f46", ruleHPACKResize},
		{"raised", []uint32{8192}, insert, ""},
		{"raised and used", []uint32{8192}, "3fe1 3f " + insert, ""},
		{"raised and more", []uint32{8192}, "3fe2 3f", ruleHPACKResize},
	} {
		t.Run(test.name, func(t *testing.T) {
			wire := unhex(t, test.wire)
			for _, cuts := range [][]int{nil, everyOctet(len(wire))} {
				var d hpackDecoder
				d.reset()
				for _, limit := range test.limits {
					d.setLimit(limit)
				}
				var s fieldSection
				s.reset(&sectionLimits)
				err := decodeBlock(&d, &s, wire, cuts...)
				if test.rule == "" {
					checkHTTP2Error(t, err, nil)
				} else {
					checkHTTP2Error(t, err, &http2Error{codeCompression, false, test.rule})
				}
			}
		})
	}
}

// A dynamic table beside a plain list that does what RFC 7541 §4 says.
func TestFieldTable(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	table := fieldTable{max: 512}
	var list []string
	size := func() (n int) {
		for _, text := range list {
			n += len(text) + tableEntryCost
		}
		return n
	}
	for range 20000 {
		if random.IntN(50) == 0 {
			table.resize(uint32(random.IntN(600)))
		} else {
			text := strings.Repeat(string(rune('a'+random.IntN(26))), random.IntN(60))
			table.insert([]byte(text), uint32(len(text)/2), nameOther)
			list = append([]string{text}, list...)
			if len(text)+tableEntryCost > int(table.max) {
				list = nil
			}
		}
		for size() > int(table.max) {
			list = list[:len(list)-1]
		}
		if int(table.count) != len(list) || int(table.size) != size() {
			t.Fatalf("%d entries of %d, want %d of %d", table.count, table.size, len(list), size())
		}
		for i, want := range list {
			e := table.entry(uint32(i))
			if got := e.text(); string(got) != want || int(e.nameLen()) != len(want)/2 {
				t.Fatalf("entry %d of %d is %q, want %q", i, len(list), got, want)
			}
		}
	}
	if cap(table.octets) > 2*600+256 || len(table.entries) > 32 {
		t.Errorf("table of 600 at most has memory for %d octets and %d entries", cap(table.octets), len(table.entries))
	}
}

// Sections that are too large are decoded to their end, in bounded memory, and
// the table goes on as if they were not.
func TestHPACKBombs(t *testing.T) {
	lim := headLimits{uriBytes: 1000, headerBytes: 4000, headers: 50}
	big := strings.Repeat("x", 3000)
	var e hpackEncoder
	e.reset()
	literal := appendHPACKLiteral(nil, 0x40, 0x3f, 0, "bomb", big)
	for _, test := range []struct {
		name  string
		block []byte
		cut   bool
		table string // its newest entry, "" for none
		over  bool   // the block itself is too large
	}{
		{"references to a large entry", append(literal[:len(literal):len(literal)], bytes.Repeat([]byte{0xbe}, 5000)...), true, "bomb: " + big, false},
		{"references to an empty entry", append([]byte{0x40, 0, 0}, bytes.Repeat([]byte{0xbe}, 5000)...), true, ": ", false},
		{"an entry inserted behind the bound", append(append(literal[:len(literal):len(literal)], 0xbe), unhex(t, "4001 6101 62")...), true, "a: b", false},
		{"a value longer than the table", appendHPACKLiteral(nil, 0x40, 0x3f, 0, "a", strings.Repeat("\x00", 4500)), false, "", false},
		{"literals without end", bytes.Repeat(literal, 100), true, "", true},
		{"static references", bytes.Repeat([]byte{0x82}, 10000), true, "", false},
		{"fields within the bounds", unhex(t, "4001 6101 62"), false, "a: b", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, cuts := range [][]int{nil, everyOctet(len(test.block))} {
				var d hpackDecoder
				d.reset()
				var s fieldSection
				s.reset(&lim)
				err := decodeBlock(&d, &s, test.block, cuts...)
				if most := int(s.max); cap(s.octets) > 8*most || cap(s.fields) > 2*most || d.rest != nil && cap(d.rest.b) > max(4*most, bufferBytesMin) {
					t.Errorf("%d octets, %d fields, undecoded ones: %v, the bound is %d", cap(s.octets), cap(s.fields), d.rest, s.max)
				}
				if test.over {
					checkHTTP2Error(t, err, &http2Error{codeEnhanceYourCalm, false, ruleHPACKEncoded})
					if !errors.Is(err, ErrTooLarge) {
						t.Errorf("%v is not ErrTooLarge", err)
					}
					continue
				}
				if err != nil || s.cut != test.cut {
					t.Errorf("cut %t, want %t (%v)", s.cut, test.cut, err)
				}
				if test.table != "" {
					equalLines(t, "newest entry", d.table.lines()[:1], test.table)
				}
				// The connection goes on.
				s.reset(&lim)
				if err := decodeBlock(&d, &s, []byte{0x82}); err != nil {
					t.Error(err)
				}
				equalLines(t, "next section", s.lines(), ":method: GET")
			}
		})
	}
}

// A peer that empties its table with each block and fills it again costs no
// memory.
func TestHPACKTableChurn(t *testing.T) {
	var d hpackDecoder
	d.reset()
	var s fieldSection
	block := unhex(t, "20 3fe1 1f")
	for i := range 60 {
		block = appendHPACKLiteral(block, 0x40, 0x3f, 0, "name"+strings.Repeat("x", i%7), strings.Repeat("v", i%29))
		block = append(block, 0xbe)
	}
	churn := func() {
		s.reset(&sectionLimits)
		if err := d.decode(&s, block, true); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		churn()
	}
	if n := testing.AllocsPerRun(100, churn); n > 0 || len(s.fields) != 120 {
		t.Errorf("a block of %d fields takes %v allocations", len(s.fields), n)
	}
	if cap(d.table.octets) > 4*tableBytesDefault || len(d.table.entries) > 2*tableBytesDefault/tableEntryCost {
		t.Errorf("the table has memory for %d octets and %d entries", cap(d.table.octets), len(d.table.entries))
	}
}

// What a connection keeps that was asked little is little.
func TestHPACKMemory(t *testing.T) {
	var d hpackDecoder
	var s fieldSection
	var e hpackEncoder
	d.reset()
	e.reset()
	s.reset(&sectionLimits)
	block := appendHPACKLiteral(nil, 0x40, 0x3f, 1, "", "127.0.0.1:8080")
	block = appendHPACKLiteral(block, 0x40, 0x3f, 58, "", "h2load nghttp2/1.52.0")
	if err := d.decode(&s, block, true); err != nil {
		t.Fatal(err)
	}
	if octets, entries := cap(d.table.octets), len(d.table.entries); octets > 80 || entries > 4 {
		t.Errorf("two fields take memory for %d octets and %d entries", octets, entries)
	}
	e.appendField(nil, "content-type", "text/plain")
	if e.memory != nil {
		t.Error("an encoder has a table before anything repeats")
	}
	if e.appendField(nil, "content-type", "text/plain"); e.memory == nil {
		t.Error("it has none after that")
	}
}

func TestHPACKDecodeAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops what pools keep")
	}
	var d hpackDecoder
	d.reset()
	var s fieldSection
	var e hpackEncoder
	e.reset()
	block := e.begin(nil)
	for _, f := range browserFields {
		block = appendHPACKLiteral(block, 0x40, 0x3f, 0, f[0], f[1])
	}
	decode := func() {
		s.reset(&sectionLimits)
		if err := d.decode(&s, block[:40], false); err != nil {
			t.Fatal(err)
		}
		if err := d.decode(&s, block[40:], true); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		decode()
	}
	if n := testing.AllocsPerRun(100, decode); n > 0 {
		t.Errorf("a section takes %v allocations", n)
	}
}

// browserFields are what a browser sends.
var browserFields = [][2]string{
	{":method", "GET"}, {":authority", "www.example.com"}, {":scheme", "https"}, {":path", "/assets/app.js?v=1234"},
	{"sec-ch-ua", `"Chromium";v="128", "Not;A=Brand";v="24"`}, {"sec-ch-ua-mobile", "?0"},
	{"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36"},
	{"accept", "*/*"}, {"sec-fetch-site", "same-origin"}, {"sec-fetch-mode", "no-cors"}, {"sec-fetch-dest", "script"},
	{"referer", "https://www.example.com/"}, {"accept-encoding", "gzip, deflate, br, zstd"},
	{"accept-language", "en-US,en;q=0.9"}, {"cookie", "session=0123456789abcdef"}, {"priority", "u=1, i"},
}

func BenchmarkHPACKDecode(b *testing.B) {
	for _, file := range storyFiles(b) {
		if !strings.HasPrefix(filepath.Base(file), "nghttp2.") {
			continue
		}
		stories := readStories(b, file)
		var wires [][][]byte
		n := 0
		for _, story := range stories {
			var blocks [][]byte
			for _, c := range story.Cases {
				blocks = append(blocks, unhex(b, c.Wire))
				n++
			}
			wires = append(wires, blocks)
		}
		var d hpackDecoder
		var s fieldSection
		b.ReportAllocs()
		b.ResetTimer()
		sections := 0
		for sections < b.N {
			for _, blocks := range wires {
				table := d.table
				d.reset()
				d.table.octets, d.table.entries = table.octets[:0], table.entries
				for _, block := range blocks {
					s.reset(&sectionLimits)
					if err := d.decode(&s, block, true); err != nil {
						b.Fatal(err)
					}
				}
				sections += len(blocks)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(sections), "ns/section")
	}
}
