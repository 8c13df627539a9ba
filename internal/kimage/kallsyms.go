// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Symbol is one entry of the kernel's kallsyms tables.
type Symbol struct {
	Name string
	// Type is the letter that nm gives: t text, d data, b bss, r read-only,
	// a absolute (percpu), w/v weak; upper case when global.
	Type byte
	// Addr is the link-time address: /proc/kallsyms shows it plus the KASLR
	// offset, except for percpu symbols, whose address is an offset as is.
	Addr uint64
}

// Kallsyms decodes the symbol tables that the kernel carries for itself, in
// their own order, which is the order of /proc/kallsyms and so the one that
// livepatch's sympos counts in. Nothing names these tables in an image without
// symbols, so they are found by their structure, and are accepted only when
// every part agrees with the others:
//
//	token_table  256 strings; token_index gives the offset of each
//	names        per symbol a length (one byte, since 6.1 two when ≥ 128) and
//	             that many tokens; the expansion's first letter is the type
//	num_syms     directly before names
//	markers      the offset in names of every 256th symbol, after names
//	addresses    directly before num_syms (offsets and relative_base, or since
//	             long ago whole addresses), since 6.4 after token_index
func (m *Image) Kallsyms() ([]Symbol, error) {
	why := "no table of 256 tokens with its index"
	// Of real images the search looks at each byte a few times; the budget
	// only ends what an image made to be slow would keep up for hours.
	budget := min(32*len(m.raw)+1<<20, 1<<30)
	for _, s := range m.sections {
		if s.Type != elf.SHT_PROGBITS || s.Flags&elf.SHF_ALLOC == 0 || s.Flags&elf.SHF_EXECINSTR != 0 {
			continue
		}
		t := tables{b: s.Data, kernel: m.inKernel, budget: &budget}
		for t.findTokens() {
			syms, err := t.decode()
			if err == nil {
				return syms, nil
			}
			why = fmt.Sprintf("section %s+%#x: %v", s.Name, t.tokenTable, err)
		}
	}
	return nil, code.New("TS2104", "vmlinux", why)
}

// inKernel reports whether addr is where the kernel's own symbols are: between
// the lowest and the highest loaded address.
func (m *Image) inKernel(addr uint64) bool {
	// Symbols that the linker makes end the image a little behind its last
	// section.
	return m.lowest <= addr && addr <= m.highest+2<<20
}

// tables is a search for kallsyms tables in one section. Each table begins at
// a multiple of eight bytes.
type tables struct {
	b      []byte
	kernel func(addr uint64) bool
	budget *int // steps that the search may still take

	next       int // where findTokens continues
	tokenTable int
	tokenEnd   int // behind token_index, aligned
	tokens     [256][]byte
}

const (
	minMarkers = 3       // three markers: more than 512 symbols; a kernel has 100,000
	maxSymbols = 1 << 22 // bounds the memory for damaged input
	maxNames   = 256 << 20
	maxNameLen = 1<<15 - 1 // what a two-byte length can say
)

func align8(n int) int { return (n + 7) &^ 7 }

// spend takes n steps from the budget; false when it is used up.
func (t *tables) spend(n int) bool {
	*t.budget -= n
	return *t.budget > 0
}

func (t *tables) u16(off int) int    { return int(binary.LittleEndian.Uint16(t.b[off:])) }
func (t *tables) u32(off int) uint32 { return binary.LittleEndian.Uint32(t.b[off:]) }
func (t *tables) u64(off int) uint64 { return binary.LittleEndian.Uint64(t.b[off:]) }

// findTokens finds the next token_index, 256 ascending offsets from 0, that
// has its token_table directly before it.
func (t *tables) findTokens() bool {
	for ; t.next+512 <= len(t.b) && t.spend(1); t.next += 8 {
		if t.u16(t.next) == 0 && t.isTokenIndex(t.next) && t.findTokenTable(t.next) {
			t.tokenEnd = align8(t.next + 512)
			t.next += 512
			return true
		}
	}
	return false
}

func (t *tables) isTokenIndex(pos int) bool {
	for i := 1; i < 256; i++ {
		// A token has at least a byte (an unused one, none) and its NUL.
		if t.u16(pos+2*i) <= t.u16(pos+2*i-2) {
			return false
		}
	}
	return true
}

// findTokenTable looks for the table that ends, but for padding, at index.
func (t *tables) findTokenTable(index int) bool {
	const maxToken = 512 // tokens are two bytes each of two tokens; real ones stay below 40
	last := t.u16(index + 2*255)
	for start := (index - last - 1) &^ 7; start >= 0 && start+last+maxToken >= index && t.spend(256); start -= 8 {
		end := start + last
		for end < index && t.b[end] != 0 {
			end++
		}
		if end < index && align8(end+1) == index && t.cutTokens(start, index, end) {
			t.tokenTable = start
			return true
		}
	}
	return false
}

func (t *tables) cutTokens(start, index, end int) bool {
	for i := range 256 {
		from, to := start+t.u16(index+2*i), end
		if i < 255 {
			to = start + t.u16(index+2*i+2) - 1
		}
		for _, c := range t.b[from:to] {
			if c == 0 {
				return false
			}
		}
		if t.b[to] != 0 {
			return false
		}
		t.tokens[i] = t.b[from:to]
	}
	return true
}

// decode finds the tables that belong to the tokens and reads all symbols.
// The markers lie before token_table, with seqs_of_names between in 6.2 and
// 6.3, so they are searched for backwards.
func (t *tables) decode() ([]Symbol, error) {
	err := fmt.Errorf("no markers and names before the tokens")
	for pos := t.tokenTable &^ 7; pos >= 8 && t.spend(1); pos -= 8 {
		if t.u32(pos) != 0 || !t.isMarkers(pos) {
			continue
		}
		names, count, ok := t.findNames(pos)
		if !ok {
			continue
		}
		var addrs addresses
		if addrs, err = t.findAddresses(names-8, count); err != nil {
			continue
		}
		return t.expand(names, count, addrs)
	}
	return nil, err
}

// isMarkers tells cheaply whether markers can begin at pos.
func (t *tables) isMarkers(pos int) bool {
	if pos+4*minMarkers > t.tokenTable {
		return false
	}
	for i := 1; i < minMarkers; i++ {
		// 256 symbols of at least a length and one token each.
		if d := int64(t.u32(pos+4*i)) - int64(t.u32(pos+4*i-4)); d < 256*2 || d > 256*(maxNameLen+2) {
			return false
		}
	}
	return true
}

// findNames finds the names that end at markers, by walking the names from
// each place where a number of symbols stands: the walk must pass each marker
// at its symbol and end where the markers begin.
func (t *tables) findNames(markers int) (names, count int, ok bool) {
	last := markers - int(t.u32(markers+4*(minMarkers-1)))
	for names = last &^ 7; names >= 8 && t.spend(1); names -= 8 {
		n := t.u32(names - 8)
		if n <= 256*(minMarkers-1) || n > maxSymbols || t.u32(names-4) != 0 {
			continue
		}
		count = int(n)
		end := markers + 4*((count+255)>>8)
		if end > t.tokenTable {
			continue
		}
		tail := markers - names - int(t.u32(end-4)) // of the last 256 names
		if tail > 0 && tail <= 256*(maxNameLen+2) && t.walk(names, markers, count) {
			return names, count, true
		}
	}
	return 0, 0, false
}

func (t *tables) walk(names, markers, count int) bool {
	pos := names
	for i := range count {
		if i&0xff == 0 && uint32(pos-names) != t.u32(markers+i>>8*4) {
			return false
		}
		n, start := t.nameLen(pos)
		pos = start + n
		if n == 0 || pos > markers || !t.spend(1) {
			return false
		}
	}
	return align8(pos) == markers
}

// nameLen reads the length of a compressed name at pos and where it begins.
// Since 6.1 a set top bit means that seven more bits follow in a second byte.
// The caller has checked pos < tokenTable, before which both bytes lie.
func (t *tables) nameLen(pos int) (n, start int) {
	n = int(t.b[pos])
	if n&0x80 != 0 {
		return n&0x7f | int(t.b[pos+1])<<7, pos + 2
	}
	return n, pos + 1
}

// expand decompresses every name. All names share one string.
func (t *tables) expand(names, count int, addrs addresses) ([]Symbol, error) {
	pos, size := names, 0
	for range count {
		n, start := t.nameLen(pos)
		pos = start + n
		for _, c := range t.b[start:pos] {
			size += len(t.tokens[c])
		}
		if size > maxNames {
			return nil, fmt.Errorf("names expand to more than %d bytes", maxNames)
		}
	}
	buf := make([]byte, 0, size)
	ends := make([]int, count)
	pos = names
	for i := range count {
		n, start := t.nameLen(pos)
		pos = start + n
		for _, c := range t.b[start:pos] {
			buf = append(buf, t.tokens[c]...)
		}
		ends[i] = len(buf)
	}
	all, from := string(buf), 0
	syms := make([]Symbol, count)
	for i, end := range ends {
		if end-from < 2 {
			return nil, fmt.Errorf("symbol %d has no name", i)
		}
		syms[i] = Symbol{Name: all[from+1 : end], Type: all[from], Addr: addrs.at(i)}
		from = end
	}
	return syms, nil
}
