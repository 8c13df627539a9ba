// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"cmp"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kimage"
)

// place is where something is in the target: a link-time address of vmlinux
// (sec is nil), or an offset in a section of a shipped module.
type place struct {
	sec  *elfobj.Section
	addr uint64
}

func (p place) String() string {
	if p.sec == nil {
		return fmt.Sprintf("%#x", p.addr)
	}
	return fmt.Sprintf("%s+%#x", p.sec.Name, p.addr)
}

// symEntry is one symbol that the kernel's livepatch core sees.
type symEntry struct {
	name   string
	at     place
	global bool
	code   bool // nm's letter or the section says so
	// core tells that the symbol is still there when init memory is gone. In a
	// module it is then invisible as well; vmlinux's table never changes.
	core bool
	// nowhere marks module symbols without a section (absolute, file names).
	nowhere bool
}

// owner is something linked whose symbols livepatch looks up by name and
// position: the kernel proper or one module.
type owner struct {
	module string // "" for vmlinux
	image  *kimage.Image
	ko     *elfobj.File
	// entries are in the order in which the kernel counts: the order of
	// kallsyms, or that of the module's .symtab less undefined symbols.
	entries []symEntry

	// Chains of entry indices, ascending, by name and by place; -1 ends one.
	byName   map[string]int32
	nextName []int32
	byPlace  map[place]int32
	nextAt   []int32
	sorted   map[*elfobj.Section][]elfobj.Reloc // a module's relocations by offset
}

func (o *owner) String() string {
	if o.module == "" {
		return Vmlinux
	}
	return o.module
}

func newKernelOwner(img *kimage.Image, syms []kimage.Symbol) *owner {
	o := &owner{image: img, entries: make([]symEntry, len(syms))}
	for i, s := range syms {
		o.entries[i] = symEntry{
			name: s.Name, at: place{addr: s.Addr}, core: true,
			// nm's letters: upper case is global; v and w are weak and so global too.
			global: s.Type >= 'A' && s.Type <= 'Z' || s.Type == 'v' || s.Type == 'w' || s.Type == 'u',
			code:   s.Type == 't' || s.Type == 'T' || s.Type == 'w' || s.Type == 'W',
		}
	}
	o.index()
	begin, end := o.named("__init_begin"), o.named("__init_end")
	if len(begin) == 1 && len(end) == 1 {
		for i := range o.entries {
			e := &o.entries[i]
			e.core = e.at.addr < begin[0].at.addr || e.at.addr >= end[0].at.addr
		}
	}
	return o
}

// newModuleOwner lists what module_kallsyms_on_each_symbol walks: all symbols
// with a section index other than SHN_UNDEF. After the module's init only
// those are left that is_core_symbol accepts with CONFIG_KALLSYMS_ALL: allocated
// sections, percpu included, that do not belong to init.
func newModuleOwner(name string, ko *elfobj.File) *owner {
	o := &owner{module: name, ko: ko}
	add := func(s *elfobj.Symbol) {
		if s.Undefined() || s.Name == "" || s.Type == elf.STT_SECTION {
			return
		}
		e := symEntry{name: s.Name, global: s.Bind != elf.STB_LOCAL}
		if s.Section == nil {
			e.nowhere = true
		} else {
			e.at, e.code = place{s.Section, s.Value}, s.Section.Exec()
			e.core = s.Section.Flags&elf.SHF_ALLOC != 0 && !strings.HasPrefix(s.Section.Name, ".init")
		}
		o.entries = append(o.entries, e)
	}
	// elfobj keeps the file's order, which has the local symbols first.
	for _, s := range ko.Symbols {
		add(s)
	}
	o.sorted = make(map[*elfobj.Section][]elfobj.Reloc, len(ko.Sections))
	for _, s := range ko.Sections {
		byOff := func(a, b elfobj.Reloc) int { return cmp.Compare(a.Off, b.Off) }
		rs := s.Relocs
		if !slices.IsSortedFunc(rs, byOff) {
			rs = slices.Clone(rs)
			slices.SortStableFunc(rs, byOff)
		}
		o.sorted[s] = rs
	}
	o.index()
	return o
}

// bytes returns n bytes of the target and, in a module, the relocations that
// apply to them, with offsets counted from p.
func (o *owner) bytes(p place, n uint64) ([]byte, []elfobj.Reloc, error) {
	if o.ko == nil {
		if n > 1<<30 {
			return nil, nil, fmt.Errorf("%d bytes are too many", n)
		}
		b, err := o.image.At(p.addr, int(n))
		return b, nil, err
	}
	if p.sec == nil || p.addr > uint64(len(p.sec.Data)) || n > uint64(len(p.sec.Data))-p.addr {
		return nil, nil, fmt.Errorf("%s: no bytes at %s+%#x", o, p, n)
	}
	rs := o.sorted[p.sec]
	from, _ := slices.BinarySearchFunc(rs, p.addr, func(r elfobj.Reloc, at uint64) int { return cmp.Compare(r.Off, at) })
	var in []elfobj.Reloc
	for _, r := range rs[from:] {
		if r.Off >= p.addr+n {
			break
		}
		r.Off -= p.addr
		if elf.R_X86_64(r.Type) != elf.R_X86_64_NONE {
			in = append(in, r)
		}
	}
	return p.sec.Data[p.addr : p.addr+n], in, nil
}

func (o *owner) index() {
	n := len(o.entries)
	o.byName, o.nextName = make(map[string]int32, n), make([]int32, n)
	o.byPlace, o.nextAt = make(map[place]int32, n), make([]int32, n)
	for i := n - 1; i >= 0; i-- {
		e := &o.entries[i]
		o.nextName[i] = -1
		if next, ok := o.byName[e.name]; ok {
			o.nextName[i] = next
		}
		o.byName[e.name] = int32(i)
		o.nextAt[i] = -1
		if e.nowhere {
			continue
		}
		if next, ok := o.byPlace[e.at]; ok {
			o.nextAt[i] = next
		}
		o.byPlace[e.at] = int32(i)
	}
}

// named returns the entries of that name in the kernel's order.
func (o *owner) named(name string) []*symEntry {
	var out []*symEntry
	if i, ok := o.byName[name]; ok {
		for ; i >= 0; i = o.nextName[i] {
			out = append(out, &o.entries[i])
		}
	}
	return out
}

// at returns the entries at a place in the kernel's order.
func (o *owner) at(p place) []*symEntry {
	var out []*symEntry
	if i, ok := o.byPlace[p]; ok {
		for ; i >= 0; i = o.nextAt[i] {
			out = append(out, &o.entries[i])
		}
	}
	return out
}

// global returns the one global entry of that name, nil when there is none.
func (o *owner) global(name string) (*symEntry, error) {
	var found *symEntry
	for _, e := range o.named(name) {
		if !e.global || e.nowhere {
			continue
		}
		if found != nil && found.at != e.at {
			return nil, code.New("TS5204", name, fmt.Sprintf("%s has two global symbols of this name, at %s and %s", o, found.at, e.at))
		}
		found = e
	}
	return found, nil
}

// position returns the sympos under which livepatch finds e: 0 when its name
// is unique, else its place, from 1, among the entries of that name.
//
// In a module the count depends on when it happens: while the module is coming
// the whole symbol table counts, later only the core symbols. A position that
// is not the same at both times is refused.
func (o *owner) position(e *symEntry) (int, error) {
	pos, corePos, all, core := 0, 0, 0, 0
	for _, other := range o.named(e.name) {
		all++
		if other.core || o.ko == nil {
			core++
		}
		if other == e {
			pos, corePos = all, core
		}
	}
	if !e.core {
		return 0, code.New("TS5202", e.name, fmt.Sprintf("it lies at %s in %s", e.at, o))
	}
	if o.ko == nil && e.at.addr == 0 {
		// Only the first percpu variable: klp_find_object_symbol takes 0 for "not found".
		return 0, code.New("TS5204", e.name, fmt.Sprintf("%s has it at address 0, which livepatch cannot tell from nothing", o))
	}
	if all == 1 {
		return 0, nil
	}
	if pos != corePos {
		return 0, code.New("TS5203", e.name, fmt.Sprintf("it is number %d of %s while the module loads, and number %d later", pos, o, corePos))
	}
	return pos, nil
}
