package flare

import (
	"bytes"
	"testing"
	"unicode/utf8"
)

// firstWrong is what the check is held to: the shortest prefix that no valid
// text begins with.
func firstWrong(p []byte) int {
	for i := 0; i < len(p); {
		r, size := utf8.DecodeRune(p[i:])
		if r != utf8.RuneError || size > 1 {
			i += size
			continue
		}
		// The character is wrong or cut short. It is wrong from the octet on
		// behind which no ending makes it right.
		for n := 1; n <= 4 && i+n <= len(p); n++ {
			if !utf8Completable(p[i : i+n]) {
				return i + n - 1
			}
		}
		return -1
	}
	return -1
}

// utf8Completable tries the ends of the ranges that an octet of a character can
// have.
func utf8Completable(p []byte) bool {
	if utf8.Valid(p) {
		return true
	}
	if len(p) >= utf8.UTFMax {
		return false
	}
	for _, c := range []byte{0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf} {
		if utf8Completable(append(bytes.Clone(p), c)) {
			return true
		}
	}
	return false
}

func checkUTF8(t *testing.T, p []byte) {
	t.Helper()
	want := firstWrong(p)
	valid := utf8.Valid(p)
	for _, step := range []int{max(len(p), 1), 1, 3, 7} {
		var u utf8Check
		got := -1
		for at := 0; at < len(p) && got < 0; at += step {
			if wrong := u.next(p[at:min(at+step, len(p))]); wrong >= 0 {
				got = at + wrong
			}
		}
		if got != want || got < 0 && u.complete() != valid {
			t.Fatalf("%x in steps of %d: wrong at %d, complete %v; want %d, %v", p, step, got, u.complete(), want, valid)
		}
	}
}

func TestUTF8Check(t *testing.T) {
	for _, s := range []string{
		"", "plain", "0123456789abcdef0123456789", "κόσμε", "日本語", "\U0001f600 and \U0010ffff", "0123456é",
		"\u07ff\u0800\uffff\ue000\ud7ff",
		"\x80", "a\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2a", "\xe0\x80\x80", "\xe0\xa0", "\xed\xa0\x80", "\xed\x9f\xbf",
		"\xf0\x80\x80\x80", "\xf0\x90\x80", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5", "\xfe", "\xff", "01234567\xff",
		"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited",
	} {
		checkUTF8(t, []byte(s))
		checkUTF8(t, []byte("0123456789abcde"+s+"tail of text"))
	}
}

// Every pair of octets, and every third behind the leads that restrict it.
func TestUTF8CheckAll(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			checkUTF8(t, []byte{byte(a), byte(b)})
		}
	}
	for _, a := range []byte{0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4} {
		for _, b := range []byte{0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf} {
			for c := range 256 {
				checkUTF8(t, []byte{a, b, byte(c), 0x80})
			}
		}
	}
}

func FuzzUTF8Check(f *testing.F) {
	f.Add([]byte("κόσμε\xf4\x90"))
	f.Add([]byte("0123456789abcdef\xed\xa0\x80"))
	f.Fuzz(func(t *testing.T, p []byte) { checkUTF8(t, p) })
}

func BenchmarkUTF8Check(b *testing.B) {
	for name, text := range map[string]string{"ascii": "The quick brown fox jumps. ", "greek": "Τη γλώσσα μου έδωσαν ελληνική ", "han": "色は匂へど散りぬるを"} {
		p := bytes.Repeat([]byte(text), 4096/len(text))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				var u utf8Check
				if u.next(p) >= 0 {
					b.Fatal("wrong")
				}
			}
		})
	}
}
