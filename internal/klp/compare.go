// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// comparison compares bytes of a section of a plain object with the target's
// bytes at the place where the section begins there. What the linker computes
// is compared as well: in vmlinux the value of each relocated field, in a
// module the relocation that the field still has.
type comparison struct {
	layout   *layout
	sec      *elfobj.Section
	from, to uint64 // offsets in sec
	base     place  // of sec
	// masked leaves out whatever needs other sections' places. It is for
	// choosing among candidates.
	masked bool

	exact, unknown int // relocated fields, by whether their value was compared
}

// mismatch is the first difference found.
type mismatch struct {
	off       uint64 // in the section
	want, got []byte // of the compiled original, of the target
	why       string
}

func (m *mismatch) Error() string {
	s := fmt.Sprintf("offset %#x", m.off)
	if m.want != nil {
		s += fmt.Sprintf(": the source gives % x, the target has % x", m.want, m.got)
	}
	if m.why != "" {
		s += ": " + m.why
	}
	return s
}

func (c *comparison) run() *mismatch {
	if c.to > uint64(len(c.sec.Data)) || c.from > c.to {
		return &mismatch{off: c.from, why: fmt.Sprintf("the object has no bytes up to %#x", c.to)}
	}
	want := c.sec.Data[c.from:c.to]
	got, relocs, err := c.layout.owner.bytes(plus(c.base, c.from), c.to-c.from)
	if err != nil {
		return &mismatch{off: c.from, why: err.Error()}
	}
	mask := make([]bool, len(want)) // bytes that relocations decide
	sites := c.layout.jumpSites(c.sec)
	for i := range c.sec.Relocs {
		r := &c.sec.Relocs[i]
		if r.Off < c.from || r.Off >= c.to || fieldSize(r.Type) == 0 {
			continue // objtool leaves R_X86_64_NONE where it has made a NOP
		}
		at, n := r.Off-c.from, fieldSize(r.Type)
		if n > uint64(len(want))-at {
			return &mismatch{off: r.Off, why: "a relocation reaches over the end"}
		}
		for k := range n {
			mask[at+k] = true
		}
		var m *mismatch
		if c.layout.owner.ko == nil {
			m = c.value(r, got[at:at+n])
		} else {
			m = c.relocation(r, &relocs)
		}
		if m != nil && !c.nopped(r, want, got) && !patchedJump(sites, c.from, int(at), want, got) {
			return m
		}
	}
	for _, r := range relocs {
		if !patchedJump(sites, c.from, int(r.Off), want, got) {
			return &mismatch{off: c.from + r.Off, why: fmt.Sprintf("the target relocates this field to %s", relocName(r))}
		}
	}
	for i := range want {
		if want[i] == got[i] || mask[i] || patchedJump(sites, c.from, i, want, got) {
			continue
		}
		end := min(i+8, len(want))
		return &mismatch{off: c.from + uint64(i), want: want[i:end], got: got[i:end]}
	}
	return nil
}

// fieldSize is the number of bytes that an x86_64 relocation writes.
func fieldSize(typ uint32) uint64 {
	switch elf.R_X86_64(typ) {
	case elf.R_X86_64_NONE:
		return 0
	case elf.R_X86_64_64, elf.R_X86_64_PC64:
		return 8
	case elf.R_X86_64_16, elf.R_X86_64_PC16:
		return 2
	case elf.R_X86_64_8, elf.R_X86_64_PC8:
		return 1
	}
	return 4
}

func pcRelative(typ uint32) bool {
	switch elf.R_X86_64(typ) {
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_PC64:
		return true
	}
	return false
}

// value compares a field of vmlinux with what the linker must have written.
func (c *comparison) value(r *elfobj.Reloc, got []byte) *mismatch {
	switch elf.R_X86_64(r.Type) {
	case elf.R_X86_64_64, elf.R_X86_64_32, elf.R_X86_64_32S, elf.R_X86_64_PC32, elf.R_X86_64_PLT32, elf.R_X86_64_PC64:
	default:
		c.unknown++
		return nil
	}
	// dest is S+A: where the field leads, less the distance from the field to
	// the end of its instruction when it is PC-relative.
	var dest uint64
	if len(got) == 8 {
		dest = binary.LittleEndian.Uint64(got)
	} else {
		dest = uint64(int64(int32(binary.LittleEndian.Uint32(got))))
	}
	at := plus(c.base, r.Off).addr
	if pcRelative(r.Type) {
		dest += at
	}
	s, known, m := c.symbol(r, place{addr: dest})
	if m != nil || !known {
		return m
	}
	want := s.addr + uint64(r.Addend)
	if len(got) == 4 && uint32(want) == uint32(dest) || want == dest {
		c.exact++
		return nil
	}
	field := want
	if pcRelative(r.Type) {
		field -= at
	}
	buf := binary.LittleEndian.AppendUint64(nil, field)[:len(got)]
	return &mismatch{off: r.Off, want: buf, got: slices.Clone(got), why: "a reference to " + relocName(*r)}
}

// relocation compares with the relocation that a module has for the field, and
// takes that off the list.
func (c *comparison) relocation(r *elfobj.Reloc, have *[]elfobj.Reloc) *mismatch {
	i := slices.IndexFunc(*have, func(h elfobj.Reloc) bool { return h.Off == r.Off-c.from })
	if i < 0 {
		return &mismatch{off: r.Off, why: fmt.Sprintf("the source refers to %s here, the target to nothing", relocName(*r))}
	}
	h := (*have)[i]
	*have = slices.Delete(slices.Clone(*have), i, i+1)
	if h.Type != r.Type && !(pcRelative(h.Type) && pcRelative(r.Type) && fieldSize(h.Type) == fieldSize(r.Type)) {
		return &mismatch{off: r.Off, why: fmt.Sprintf("the source has relocation %s, the target %s", elf.R_X86_64(r.Type), elf.R_X86_64(h.Type))}
	}
	differ := &mismatch{off: r.Off, why: fmt.Sprintf("the source refers to %s, the target to %s", relocName(*r), relocName(h))}
	if r.Sym == nil || h.Sym == nil {
		if r.Sym != h.Sym || r.Addend != h.Addend {
			return differ
		}
		return nil
	}
	if h.Sym.Section == nil {
		// Undefined in the module: so it must be in the object, by that name.
		if r.Sym.Section != nil && r.Sym.Bind != elf.STB_WEAK || r.Sym.Name != h.Sym.Name || r.Addend != h.Addend {
			return differ
		}
		c.exact++
		return nil
	}
	dest := place{h.Sym.Section, h.Sym.Value + uint64(h.Addend)}
	s, known, m := c.symbol(r, dest)
	if m != nil {
		return m
	}
	if !known {
		return nil
	}
	if plus(s, uint64(r.Addend)) != dest {
		return differ
	}
	c.exact++
	return nil
}

// symbol finds the place of a relocation's symbol. dest is where the target's
// field leads, addend included; it serves symbols in sections that have no
// place of their own.
func (c *comparison) symbol(r *elfobj.Reloc, dest place) (s place, known bool, m *mismatch) {
	sym := r.Sym
	switch {
	case sym == nil:
		return place{}, c.layout.owner.ko == nil, nil
	case sym.Section == nil:
		e, err := c.layout.owner.global(sym.Name)
		if err != nil || e == nil {
			c.unknown++
			return place{}, false, nil
		}
		return e.at, true, nil
	case c.masked:
		c.unknown++
		return place{}, false, nil
	case sym.Section.Flags&elf.SHF_MERGE != 0:
		return place{}, false, c.merged(r, dest)
	}
	base, err := c.layout.base(sym.Section)
	if err == nil {
		return c.overridden(sym, plus(base, sym.Value)), true, nil
	}
	// Without anchors the first reference tells where the section is, and
	// every other one must agree.
	implied := place{dest.sec, dest.addr - sym.Value - uint64(r.Addend)}
	if first, ok := c.layout.implied[sym.Section]; ok {
		return plus(first, sym.Value), true, nil
	}
	c.layout.implied[sym.Section] = implied
	c.unknown++
	return place{}, false, nil
}

// overridden follows a weak definition to the strong one that won.
func (c *comparison) overridden(sym *elfobj.Symbol, at place) place {
	if sym.Bind != elf.STB_WEAK || c.layout.has(at, sym.Name) {
		return at
	}
	if e, err := c.layout.owner.global(sym.Name); err == nil && e != nil {
		return e.at
	}
	return at
}

// merged compares what a reference into a section of mergeable strings or
// constants leads to.
func (c *comparison) merged(r *elfobj.Reloc, dest place) *mismatch {
	sec := r.Sym.Section
	off := r.Sym.Value + uint64(r.Addend)
	adjust := uint64(0)
	if pcRelative(r.Type) {
		// Nearly always the field ends the instruction. Where an immediate
		// follows, the comparison below finds something else or nothing, and
		// proves nothing.
		adjust = fieldSize(r.Type)
	}
	off, dest = off+adjust, plus(dest, adjust)
	if off >= uint64(len(sec.Data)) {
		c.unknown++
		return nil
	}
	want := sec.Data[off:]
	if sec.Flags&elf.SHF_STRINGS != 0 {
		end := bytes.IndexByte(want, 0)
		if end < 0 || sec.EntSize > 1 {
			c.unknown++
			return nil
		}
		want = want[:end+1]
	} else {
		want = want[:min(uint64(len(want)), max(sec.EntSize, 1))]
	}
	got, _, err := c.layout.owner.bytes(dest, uint64(len(want)))
	if err == nil && bytes.Equal(want, got) {
		c.exact++
		return nil
	}
	if adjust != 0 {
		c.unknown++
		return nil
	}
	return &mismatch{off: r.Off, want: trim(want), got: trim(got), why: fmt.Sprintf("a reference to %q", trim(want))}
}

func trim(b []byte) []byte { return b[:min(len(b), 24)] }

// nop2 and nop5 are the ones the kernel uses for what it may patch.
var (
	nop2 = []byte{0x66, 0x90}
	nop5 = []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}
)

// nopped allows for a call to __fentry__ that objtool has made a NOP.
func (c *comparison) nopped(r *elfobj.Reloc, want, got []byte) bool {
	at := int(r.Off - c.from)
	return r.Sym != nil && r.Sym.Name == "__fentry__" && at >= 1 && at+4 <= len(got) &&
		want[at-1] == 0xe8 && bytes.Equal(got[at-1:at+4], nop5)
}

// patchedJump allows, at a jump label, for a NOP on one side and a jump of the
// same length on the other: objtool settles which one a kernel starts with.
func patchedJump(sites map[uint64]bool, from uint64, i int, want, got []byte) bool {
	for s := max(0, i-4); s <= i; s++ {
		if !sites[from+uint64(s)] {
			continue
		}
		n, wantNop := labelSite(want[s:])
		m, gotNop := labelSite(got[s:])
		if n != 0 && n == m && wantNop != gotNop && i < s+n {
			return true
		}
	}
	return false
}

// labelSite tells the length of the instruction of a jump label and whether it
// is a NOP; the length is 0 if it is none.
func labelSite(b []byte) (n int, nop bool) {
	switch {
	case bytes.HasPrefix(b, nop2):
		return 2, true
	case bytes.HasPrefix(b, nop5):
		return 5, true
	case len(b) >= 2 && b[0] == 0xeb:
		return 2, false
	case len(b) >= 5 && b[0] == 0xe9:
		return 5, false
	}
	return 0, false
}

// jumpSites returns the offsets in sec of the object's jump labels. An entry
// of __jump_table is 16 bytes and begins with the relative address of its code
// (include/linux/jump_label.h, HAVE_ARCH_JUMP_LABEL_RELATIVE).
func (l *layout) jumpSites(sec *elfobj.Section) map[uint64]bool {
	if l.sites == nil {
		l.sites = map[*elfobj.Section]map[uint64]bool{}
		for _, s := range l.plain.Sections {
			if s.Name != "__jump_table" {
				continue
			}
			for _, r := range s.Relocs {
				if r.Off%16 != 0 || r.Sym == nil || r.Sym.Section == nil {
					continue
				}
				m := l.sites[r.Sym.Section]
				if m == nil {
					m = map[uint64]bool{}
					l.sites[r.Sym.Section] = m
				}
				m[r.Sym.Value+uint64(r.Addend)] = true
			}
		}
	}
	return l.sites[sec]
}

func relocName(r elfobj.Reloc) string {
	name := "nothing"
	if r.Sym != nil {
		name = r.Sym.Name
		if r.Sym.Type == elf.STT_SECTION && r.Sym.Section != nil {
			name = r.Sym.Section.Name
		}
	}
	if r.Addend != 0 {
		name += fmt.Sprintf("%+#x", r.Addend)
	}
	return name
}
