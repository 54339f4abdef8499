package flare

import (
	"encoding/binary"
	"slices"
)

// This file is layer 1 (wire): the Huffman code of HPACK (RFC 7541 §5.2,
// Appendix B). It knows octets and bits; hpack.go and hpack_encode.go call it.
//
// The code is canonical: codes of one length follow each other in the order of
// their octets, so the lengths say all. Decoding looks at 12 bits at a time,
// which hold two of the frequent octets as a rule; what needs more bits is rare
// and found by its length.

const (
	huffmanEOS      = 256 // the symbol that never appears (RFC 7541 §5.2)
	huffmanBitsMax  = 30
	huffmanStepBits = 12
	huffmanPadMax   = 7 // bits of padding (RFC 7541 §5.2)

	// huffmanEOSCode is the code of EOS, the last of all, with its bits at the
	// top.
	huffmanEOSCode uint64 = 1<<64 - 1<<(64-huffmanBitsMax)
)

// huffmanLengths has the bits of each octet's code, and of EOS.
var huffmanLengths = [huffmanEOS + 1]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
	huffmanEOS: huffmanBitsMax,
}

// A huffmanStep is what the next huffmanStepBits bits hold: from the lowest
// octet on the bits of the codes, how many octets they are for, and those, two at
// most. 0: the code is longer.
type huffmanStep uint32

func (s huffmanStep) bits() uint   { return uint(s & 0xff) }
func (s huffmanStep) octets() int  { return int(s >> 8 & 0xff) }
func (s huffmanStep) text() uint16 { return uint16(s >> 16) }

// huffman is the code, in the forms that encoding and decoding want.
var huffman = newHuffmanTables()

type huffmanTables struct {
	codes [huffmanEOS + 1]uint32
	steps [1 << huffmanStepBits]huffmanStep

	// By length of a code: the first one of that length, the first one of a
	// greater length, both with their bits at the top, and where the octets of
	// that length begin in ordered.
	first, end [huffmanBitsMax + 1]uint64
	place      [huffmanBitsMax + 1]int
	ordered    [huffmanEOS + 1]uint16
}

func newHuffmanTables() *huffmanTables {
	t := new(huffmanTables)
	code, n := uint64(0), 0
	for bits := 1; bits <= huffmanBitsMax; bits++ {
		code <<= 1
		t.place[bits], t.first[bits] = n, code<<(64-bits)
		for symbol, length := range huffmanLengths {
			if int(length) == bits {
				t.codes[symbol], t.ordered[n] = uint32(code), uint16(symbol)
				code++
				n++
			}
		}
		t.end[bits] = code << (64 - bits) // 0 behind the last: all bits are ones
	}
	for i := range t.steps {
		window := uint64(i) << (64 - huffmanStepBits)
		symbol, bits := t.find(window)
		if bits > huffmanStepBits {
			continue
		}
		t.steps[i] = t.findStep(window)
		if second, more := t.find(window << bits); bits+more <= huffmanStepBits {
			t.steps[i] = huffmanStep(second)<<24 | huffmanStep(symbol)<<16 | 2<<8 | huffmanStep(bits+more)
		}
	}
	return t
}

// find returns the symbol whose code is at the top of window, and its bits.
func (t *huffmanTables) find(window uint64) (symbol uint16, bits int) {
	for bits = 5; bits < huffmanBitsMax && window >= t.end[bits]; bits++ {
	}
	return t.ordered[t.place[bits]+int((window-t.first[bits])>>(64-bits))], bits
}

// findStep is find as a step of one symbol.
func (t *huffmanTables) findStep(window uint64) huffmanStep {
	symbol, bits := t.find(window)
	return huffmanStep(symbol)<<16 | 1<<8 | huffmanStep(bits)
}

// huffmanLength returns how many octets s has once encoded. lower folds ASCII
// capitals on the way, as names need it.
func huffmanLength(s string, lower bool) int {
	bits := 0
	for i := range len(s) {
		c := s[i]
		if lower {
			c = lowerASCII(c)
		}
		bits += int(huffmanLengths[c])
	}
	return (bits + 7) / 8
}

// appendHuffman appends s encoded, padded with ones (RFC 7541 §5.2).
func appendHuffman(b []byte, s string, lower bool) []byte {
	var window uint64 // the lowest bits are not written yet
	bits := uint(0)
	for i := range len(s) {
		c := s[i]
		if lower {
			c = lowerASCII(c)
		}
		length := uint(huffmanLengths[c])
		window = window<<length | uint64(huffman.codes[c])
		if bits += length; bits >= 32 {
			bits -= 32
			b = binary.BigEndian.AppendUint32(b, uint32(window>>bits))
		}
	}
	for ; bits >= 8; bits -= 8 {
		b = append(b, byte(window>>(bits-8)))
	}
	if bits > 0 {
		b = append(b, byte(window<<(8-bits))|0xff>>bits)
	}
	return b
}

// appendHuffmanDecoded appends what src decodes to. It fails where padding is
// longer than 7 bits or has a zero, and where EOS appears (RFC 7541 §5.2).
func appendHuffmanDecoded(dst, src []byte) ([]byte, bool) {
	if len(src) <= 8 {
		return appendHuffmanDecodedWord(dst, src)
	}
	return appendHuffmanDecodedLong(dst, src)
}

// appendHuffmanDecodedLong is appendHuffmanDecoded for any number of octets.
func appendHuffmanDecodedLong(dst, src []byte) ([]byte, bool) {
	// The shortest code has 5 bits; a step may write one octet too many.
	dst = slices.Grow(dst, len(src)*8/5+2)
	out, n := dst[:cap(dst)], len(dst)
	t := huffman
	var window uint64 // the next bits, from the top on
	bits, i := uint(0), 0
	for i <= len(src)-8 {
		// 56 to 63 bits from here on. Below them the window may hold bits of the
		// octet that follows, which come again with the next load.
		window |= binary.BigEndian.Uint64(src[i:]) >> bits
		i += int(63-bits) >> 3
		bits |= 56
		for bits >= huffmanBitsMax {
			step := t.steps[window>>(64-huffmanStepBits)]
			if step == 0 {
				if window >= huffmanEOSCode {
					return dst, false
				}
				step = t.findStep(window)
			}
			binary.LittleEndian.PutUint16(out[n:], step.text())
			n += step.octets()
			window <<= step.bits() & 63
			bits -= step.bits()
		}
	}

	// The rest, with ones behind it: padding is then the beginning of EOS, and a
	// code that reaches beyond the last bit is none.
	end := huffmanEnd
	copy(end[:], src[i:])
	left := int(bits) + 8*(len(src)-i)
	window &^= ^uint64(0) >> bits
	for i = 0; left > 0; {
		if bits < huffmanBitsMax {
			window |= binary.BigEndian.Uint64(end[i:]) >> bits
			i += int(63-bits) >> 3
			bits |= 56
		}
		step := t.steps[window>>(64-huffmanStepBits)]
		if step == 0 {
			if window >= huffmanEOSCode {
				break
			}
			step = t.findStep(window)
		}
		if left -= int(step.bits()); left < 0 {
			return dst, false
		}
		binary.LittleEndian.PutUint16(out[n:], step.text())
		n += step.octets()
		window <<= step.bits() & 63
		bits -= step.bits()
	}
	return out[:n], left <= huffmanPadMax
}

// appendHuffmanDecodedWord is appendHuffmanDecoded for up to eight octets.
func appendHuffmanDecodedWord(dst, src []byte) ([]byte, bool) {
	dst = slices.Grow(dst, 8*8/5+2)
	out, n := dst[:cap(dst)], len(dst)
	t := huffman
	left := 8 * len(src)
	window := uint64(0)
	for _, c := range src {
		window = window<<8 | uint64(c)
	}
	window = window<<(64-left) | ^uint64(0)>>left // ones behind it, as below
	for left > 0 {
		step := t.steps[window>>(64-huffmanStepBits)]
		if step == 0 {
			if window >= huffmanEOSCode {
				break
			}
			step = t.findStep(window)
		}
		bits := step.bits() & 63
		if left -= int(bits); left < 0 {
			return dst, false
		}
		binary.LittleEndian.PutUint16(out[n:], step.text())
		n += step.octets()
		window = window<<bits | (1<<bits - 1)
	}
	return out[:n], left <= huffmanPadMax
}

// huffmanEnd is what the last octets, 7 and 29 bits at most, are copied to.
var huffmanEnd = [32]byte{
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
}
