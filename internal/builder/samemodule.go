// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// sameModule compares all of two modules that the kernel loads: every
// allocated section with its bytes, flags and relocations, and every symbol.
// It returns how many sections there are, and the first difference. What is no
// part of the comparison: the build-id, which is a digest of debug information
// too, and the signature. Symbol versions and dependencies are sets: modpost
// lists them in the order of the symbol table, which debug information changes.
func sameModule(a, b *elfobj.File) (sections int, differs string) {
	x, y := loaded(a), loaded(b)
	for name, s := range x {
		o, ok := y[name]
		if !ok {
			return 0, "section " + name + " is missing"
		}
		if why := sameSection(s, o); why != "" {
			return 0, "section " + name + ": " + why
		}
	}
	for name := range y {
		if _, ok := x[name]; !ok {
			return 0, "section " + name + " is not in the shipped module"
		}
	}
	p, q := symbolsOf(a), symbolsOf(b)
	if i := firstDifference(p, q); i >= 0 {
		return 0, fmt.Sprintf("symbol %s, shipped as %s", at(q, i), at(p, i))
	}
	return len(x), ""
}

// loaded lists the sections that the kernel keeps, by name; those of one name
// get a number.
func loaded(f *elfobj.File) map[string]*elfobj.Section {
	out := map[string]*elfobj.Section{}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 || s.Name == ".note.gnu.build-id" {
			continue
		}
		name := s.Name
		for n := 2; out[name] != nil; n++ {
			name = fmt.Sprintf("%s#%d", s.Name, n)
		}
		out[name] = s
	}
	return out
}

func sameSection(a, b *elfobj.Section) string {
	switch {
	case a.Type != b.Type || a.Flags != b.Flags || a.Align != b.Align || a.EntSize != b.EntSize:
		return "another type, alignment or other flags"
	case a.Size() != b.Size():
		return fmt.Sprintf("%d bytes, shipped %d", b.Size(), a.Size())
	case a.Name == "__versions" && sameEntries(a.Data, b.Data), a.Name == ".modinfo" && sameInfo(a.Data, b.Data):
		// see sameModule
	case !bytes.Equal(a.Data, b.Data):
		i := 0
		for i < len(a.Data) && a.Data[i] == b.Data[i] {
			i++
		}
		return fmt.Sprintf("byte 0x%x is 0x%02x, shipped 0x%02x", i, b.Data[i], a.Data[i])
	}
	p, q := relocsOf(a), relocsOf(b)
	if i := firstDifference(p, q); i >= 0 {
		return fmt.Sprintf("relocation %s, shipped %s", at(q, i), at(p, i))
	}
	return ""
}

// sameEntries compares symbol versions: struct modversion_info, 64 bytes each.
func sameEntries(a, b []byte) bool {
	const size = 64
	sorted := func(data []byte) []string {
		var out []string
		for c := range slices.Chunk(data, size) {
			out = append(out, string(c))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(sorted(a), sorted(b))
}

// sameInfo compares module information, in which only what the module depends
// on may be in another order.
func sameInfo(a, b []byte) bool {
	plain := func(data []byte) []string {
		lines := strings.Split(string(data), "\x00")
		for i, l := range lines {
			if list, ok := strings.CutPrefix(l, "depends="); ok {
				deps := strings.Split(list, ",")
				slices.Sort(deps)
				lines[i] = "depends=" + strings.Join(deps, ",")
			}
		}
		return lines
	}
	return slices.Equal(plain(a), plain(b))
}

// relocsOf says of each relocation where it is, of what type, and which place
// it means: a local symbol and its section with an offset are the same place.
func relocsOf(s *elfobj.Section) []string {
	var out []string
	for _, r := range s.Relocs {
		target := "0"
		switch {
		case r.Sym == nil:
		case r.Sym.Section != nil && r.Sym.Bind == elf.STB_LOCAL:
			target = fmt.Sprintf("%s+%#x", r.Sym.Section.Name, int64(r.Sym.Value)+r.Addend)
		default:
			target = fmt.Sprintf("%s+%#x", r.Sym.Name, r.Addend)
		}
		out = append(out, fmt.Sprintf("%#x %d %s", r.Off, r.Type, target))
	}
	slices.Sort(out)
	return out
}

// symbolsOf lists what kallsyms and other modules see.
func symbolsOf(f *elfobj.File) []string {
	var out []string
	for _, s := range f.Symbols {
		if s.Type == elf.STT_SECTION || s.Type == elf.STT_FILE || s.Name == "" || s.Section != nil && s.Section.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		where := fmt.Sprint(s.Index)
		if s.Section != nil {
			where = s.Section.Name
			if where == ".note.gnu.build-id" {
				continue
			}
		}
		out = append(out, fmt.Sprintf("%s %s+%#x %d %s %s", s.Name, where, s.Value, s.Size, s.Bind, s.Type))
	}
	slices.Sort(out)
	return out
}

func firstDifference(a, b []string) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			return i
		}
	}
	return -1
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "none"
}

// keepsPromises refuses a fixed module that others could not work with as with
// the shipped one: another kernel's, without an export that there was, or with
// one of another version.
func keepsPromises(name string, shipped, fixed *elfobj.File) error {
	was, is := modinfo(shipped), modinfo(fixed)
	for _, key := range []string{"vermagic", "name", "license", "intree", "retpoline"} {
		if !slices.Equal(was[key], is[key]) {
			return code.New("TS5403", name, fmt.Sprintf("its %s is %q, shipped %q", key, is[key], was[key]))
		}
	}
	now := exports(fixed)
	then := exports(shipped)
	for _, sym := range slices.Sorted(maps.Keys(then)) {
		crc, ok := now[sym]
		switch {
		case !ok:
			return code.New("TS5404", name, "it does not export "+sym+" any more")
		case crc != then[sym]:
			return code.New("TS5404", name, fmt.Sprintf("the version of %s is %s, shipped %s", sym, crc, then[sym]))
		}
	}
	return nil
}

func modinfo(f *elfobj.File) map[string][]string {
	out := map[string][]string{}
	if s := f.Section(".modinfo"); s != nil {
		for line := range strings.SplitSeq(string(s.Data), "\x00") {
			if k, v, ok := strings.Cut(line, "="); ok {
				out[k] = append(out[k], v)
			}
		}
	}
	return out
}

// exports maps what a module exports to the versions: __crc_NAME is absolute
// up to 5.19, and a place in __kcrctab later (include/linux/export-internal.h).
func exports(f *elfobj.File) map[string]string {
	out := map[string]string{}
	for _, s := range f.Symbols {
		if n, ok := strings.CutPrefix(s.Name, "__ksymtab_"); ok && s.Section != nil {
			out[n] = cmp.Or(out[n], "none")
		}
		n, ok := strings.CutPrefix(s.Name, "__crc_")
		switch {
		case !ok:
		case s.Section == nil:
			out[n] = fmt.Sprintf("%#08x", s.Value)
		case s.Value < uint64(len(s.Section.Data)) && len(s.Section.Data)-int(s.Value) >= 4:
			out[n] = fmt.Sprintf("%#08x", binary.LittleEndian.Uint32(s.Section.Data[s.Value:]))
		}
	}
	return out
}
