package flare

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// hpackPair is an encoder and the decoder at the other end.
type hpackPair struct {
	e hpackEncoder
	d hpackDecoder
	s fieldSection
	b []byte
}

func newHPACKPair() *hpackPair {
	p := new(hpackPair)
	p.e.reset()
	p.d.reset()
	return p
}

// send encodes fields and holds that they arrive; it returns the block.
func (p *hpackPair) send(t testing.TB, fields ...[2]string) []byte {
	t.Helper()
	p.b = p.e.begin(p.b[:0])
	var want []string
	for _, f := range fields {
		p.b = p.e.appendField(p.b, f[0], f[1])
		want = append(want, string(appendLower(nil, f[0]))+": "+f[1])
	}
	p.s.reset(&sectionLimits)
	if err := p.d.decode(&p.s, p.b, true); err != nil {
		t.Fatalf("%x: %v", p.b, err)
	}
	if got := p.s.lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("%q arrived, %q was sent", got, want)
	}
	if m := p.e.memory; m != nil && (m.table.size > p.e.max || m.table.max != p.e.max) {
		t.Fatalf("the table has %d of %d, the bound is %d", m.table.size, m.table.max, p.e.max)
	}
	if m := p.e.memory; m != nil && strings.Join(m.table.lines(), "\n") != strings.Join(p.d.table.lines(), "\n") {
		t.Fatalf("the encoder's table is\n%q\nthe decoder's\n%q", m.table.lines(), p.d.table.lines())
	}
	return p.b
}

// What repeats is one octet from the third time on; what must not be guessed
// never is.
func TestHPACKEncode(t *testing.T) {
	p := newHPACKPair()
	for _, test := range []struct {
		name, value string
		indexed     bool // the third time
	}{
		{":status", "200", true}, {":status", "302", true}, {":method", "GET", true}, {":path", "/", true},
		{"Server", "flare", true}, {"Content-Type", "text/html; charset=utf-8", true},
		{"Date", "Mon, 21 Oct 2013 20:13:21 GMT", true}, {"X-Frame-Options", "DENY", true}, {"X", "", true},
		{"Accept-Encoding", "gzip, deflate", true}, {"accept-encoding", "gzip", true},
		{":path", "/a?b", false}, {"Content-Length", "13", false}, {"ETag", `"abc"`, false},
		{"Authorization", "Basic YTpi", false}, {"Cookie", "a=b", false}, {"Set-Cookie", "a=b", false},
		{"Proxy-Authorization", "Basic YTpi", false}, {"X-Long", strings.Repeat("long ", 200), false},
	} {
		field := [2]string{test.name, test.value}
		p.send(t, field)
		p.send(t, field)
		block := p.send(t, field)
		if indexed := len(block) == 1; indexed != test.indexed {
			t.Errorf("%s: %s is sent as %x, indexed: %t", test.name, test.value, block, indexed)
		}
		known := staticNames.find(test.name)
		if known.never && block[0]&0xf0 != 0x10 {
			t.Errorf("%s is sent as %x, not as never indexed", test.name, block)
		}
	}
}

// The fields of real messages, encoded by flare: they arrive, in two fifths of
// their size as a rule, although nothing is indexed at once. The hash has another
// seed in each process: when two frequent fields fall on one slot it is a half.
func TestHPACKStoriesEncoded(t *testing.T) {
	for _, file := range storyFiles(t) {
		encoded, size := 0, 0
		for _, story := range readStories(t, file) {
			p := newHPACKPair()
			for _, c := range story.Cases {
				encoded += len(p.send(t, c.Headers...))
				for _, f := range c.Headers {
					size += len(f[0]) + len(f[1])
				}
			}
		}
		if share := 100 * encoded / size; share > 60 {
			t.Errorf("%s: %d octets became %d, %d %%", filepath.Base(file), size, encoded, share)
		} else {
			t.Logf("%s: %d %%", filepath.Base(file), share)
		}
	}
}

// A field that changes each time leaves the table alone.
func TestHPACKEncodeChurn(t *testing.T) {
	p := newHPACKPair()
	server := [2]string{"server", "flare"}
	p.send(t, server)
	p.send(t, server)
	random := rand.New(rand.NewPCG(3, 4))
	lost := 0
	for range 1000 {
		var id [16]byte
		for i := range id {
			id[i] = "0123456789abcdef"[random.IntN(16)]
		}
		if block := p.send(t, [2]string{"x-request-id", string(id[:])}, server); block[len(block)-1]&0x80 == 0 {
			lost++
		}
	}
	// A mark of 16 bits takes one id in 65,536 for the one before it in its slot,
	// which then may take that of server for a while.
	if n := p.d.table.count; lost > 4 || n < 1 || n > 4 {
		t.Errorf("a field that repeats was sent as a literal %d times, %d fields are in the table", lost, n)
	}
}

// The peer's setting moves both tables; what it passed through counts.
func TestHPACKEncodeResize(t *testing.T) {
	server := [2]string{"server", "flare"}
	for _, test := range []struct {
		name        string
		least, size uint32
		wire        string // the next block's first octets
		indexed     bool   // the field that was in the table is still
	}{
		{"the same", 4096, 4096, "", true},
		{"larger", 65536, 65536, "", true},
		{"smaller than flare's", 100, 100, "3f45", true},
		{"too small for the field", 40, 40, "3f09", false},
		{"none", 0, 0, "20", false},
		{"none and back", 0, 4096, "20 3fe1 0f", false},
		{"less and back", 60, 4096, "20 3fe1 0f", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newHPACKPair()
			p.send(t, server)
			p.send(t, server)
			p.e.resize(test.least, test.size)
			p.d.setLimit(test.least)
			p.d.setLimit(test.size)
			block := bytes.Clone(p.send(t, server))
			want := unhex(t, test.wire)
			if !bytes.HasPrefix(block, want) || (len(block) == len(want)+1) != test.indexed {
				t.Errorf("block is %x, want it to begin with %x, indexed: %t", block, want, test.indexed)
			}
			for range 3 {
				p.send(t, server, [2]string{"x", "y"})
			}
		})
	}
	// Two frames of settings before the next block.
	p := newHPACKPair()
	p.send(t, server)
	for _, size := range []uint32{10, 50, 4096} {
		p.e.resize(size, size)
		p.d.setLimit(size)
	}
	if block := p.send(t, server); !bytes.HasPrefix(block, unhex(t, "20 3fe1 0f")) {
		t.Errorf("block is %x", block)
	}
}

// The first block of a connection says that less than the default is used.
func TestHPACKEncodeFirstBlock(t *testing.T) {
	p := newHPACKPair()
	if block := p.send(t, [2]string{":status", "200"}); !bytes.Equal(block, unhex(t, "3fe1 0f 88")) {
		t.Errorf("first block is %x", block)
	}
	if block := p.send(t, [2]string{":status", "200"}); !bytes.Equal(block, unhex(t, "88")) {
		t.Errorf("second block is %x", block)
	}
}

func TestStaticNames(t *testing.T) {
	for i := range staticTable {
		if i == 0 {
			continue
		}
		name := staticTable[i].name()
		for _, spelling := range []string{name, strings.ToUpper(name)} {
			known := staticNames.find(spelling)
			if known.index == 0 || staticTable[known.index].name() != name || known.index > 1 && staticTable[known.index-1].name() == name {
				t.Errorf("%s is found at %d", spelling, known.index)
			}
		}
	}
	for _, name := range []string{"", "x", "te", "vary2", ":statuz", "datf", "authorizatiom"} {
		if known := staticNames.find(name); known.index != 0 || known.never {
			t.Errorf("%q is found at %d", name, known.index)
		}
	}
}

func TestHuffman(t *testing.T) {
	var all []byte
	for c := range 256 {
		all = append(all, byte(c))
	}
	texts := []string{string(all), strings.Repeat("a", 100), strings.Repeat("\xff\x00", 33), "www.example.com"}
	for c := range 256 {
		for n := range 9 {
			texts = append(texts, strings.Repeat("0", n)+string([]byte{byte(c)})+strings.Repeat("~", n/2))
		}
	}
	for _, text := range texts {
		encoded := appendHuffman([]byte("x"), text, false)
		if n := huffmanLength(text, false); n != len(encoded)-1 {
			t.Errorf("%q has %d octets, huffmanLength says %d", text, len(encoded)-1, n)
		}
		got, ok := appendHuffmanDecoded([]byte("y"), encoded[1:])
		if !ok || string(got) != "y"+text {
			t.Errorf("%q became %q, %t", text, got, ok)
		}
	}
	if got := appendHuffman(nil, "X-Forwarded-FOR", true); !bytes.Equal(got, appendHuffman(nil, "x-forwarded-for", false)) {
		t.Errorf("in lower case: %x", got)
	}
}

func TestHPACKEncodeAllocations(t *testing.T) {
	p := newHPACKPair()
	h := headerFields{}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Server", "flare")
	h.Set("X-Request-Id", "0123456789abcdef")
	h.Set("Set-Cookie", "a=b; Secure")
	encode := func() {
		p.b = p.e.appendResponse(p.b[:0], 404, &h, 1<<40)
		p.b = p.e.appendTrailer(p.b, &h)
	}
	encode()
	encode()
	if n := testing.AllocsPerRun(100, encode); n > 0 {
		t.Errorf("a response takes %v allocations", n)
	}
}

func FuzzHPACKDecode(f *testing.F) {
	for _, seed := range []string{
		"828684418cf1e3c2e5f23a6ba0ab90f4ff", "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
		"3fe11f20828684be5886a8eb10649cbf", "4001610162bebebe", "1008706173737764", "ff80808001", "4184ffffffff", "20203fe11f",
	} {
		f.Add(unhex(f, seed), uint16(3), uint16(100))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut, limit uint16) {
		lim := headLimits{uriBytes: int(limit % 64), headerBytes: int(limit), headers: 100}
		type outcome struct {
			fields, table, err string
			cut                bool
		}
		decode := func(cuts ...int) outcome {
			var d hpackDecoder
			d.reset()
			var s fieldSection
			s.reset(&lim)
			err := decodeBlock(&d, &s, in, cuts...)
			o := outcome{table: strings.Join(d.table.lines(), "\n"), cut: s.cut}
			if err != nil {
				return outcome{err: err.Error()}
			}
			o.fields = strings.Join(s.lines(), "\n")
			if d.table.size > d.limit || len(s.octets) > int(s.max)+8*len(in) {
				t.Errorf("%d fields, table of %d, %d octets", len(s.fields), d.table.size, len(s.octets))
			}
			for i := range s.fields {
				f := s.field(i)
				if k := kindOfName(s.octets[f.name:f.nameEnd]); k != s.fields[i].kind {
					t.Errorf("%q is of kind %d, not %d", s.octets[f.name:f.nameEnd], k, s.fields[i].kind)
				}
			}
			return o
		}
		whole := decode()
		if got := decode(min(int(cut), len(in))); got != whole {
			t.Errorf("cut at %d\n%+v\nwhole\n%+v", cut, got, whole)
		}
		if got := decode(everyOctet(len(in))...); got != whole {
			t.Errorf("octet by octet\n%+v\nwhole\n%+v", got, whole)
		}
	})
}

// FuzzHPACKRoundTrip has an encoder and a decoder in lockstep: fields, resizes
// of the table, and both tables the same after each block.
func FuzzHPACKRoundTrip(f *testing.F) {
	f.Add("server\x00flare\x00date\x00now\x01server\x00flare\x01server\x00flare\x00X-A\x00b", uint16(100), uint16(40))
	f.Add("cookie\x00a=b\x01Cookie\x00a=b\x01:status\x00200\x00:status\x00302", uint16(0), uint16(4096))
	f.Add("a\x00\xff\xfe\x01a\x00\xff\xfe\x01a\x00\xff\xfe\x00:path\x00/\x00:path\x00/x", uint16(65535), uint16(60))
	f.Fuzz(func(t *testing.T, text string, least, size uint16) {
		p := newHPACKPair()
		for i, block := range strings.Split(text, "\x01") {
			var fields [][2]string
			parts := strings.Split(block, "\x00")
			for ; len(parts) >= 2; parts = parts[2:] {
				fields = append(fields, [2]string{parts[0], parts[1]})
			}
			if i%3 == 2 {
				p.e.resize(min(uint32(least), uint32(size)), uint32(size))
				p.d.setLimit(min(uint32(least), uint32(size)))
				p.d.setLimit(uint32(size))
			}
			p.send(t, fields...)
		}
	})
}

func BenchmarkHPACKEncode(b *testing.B) {
	p := newHPACKPair()
	h := headerFields{}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Date", "Mon, 21 Oct 2013 20:13:21 GMT")
	h.Set("Server", "flare")
	b.ReportAllocs()
	for range b.N {
		p.b = p.e.appendResponse(p.b[:0], 200, &h, 13)
	}
}
