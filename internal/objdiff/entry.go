// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/arch"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// entry is one element of a special section.
type entry struct {
	spec  *arch.Special
	sec   *elfobj.Section
	index int
	data  []byte
	table []byte // its element of the parallel array
	refs  []ref
}

// owner returns the reference to the code that the entry belongs to.
func (e *entry) owner() *ref {
	if e.spec.Owner < len(e.refs) {
		return &e.refs[e.spec.Owner]
	}
	return nil
}

// key returns the reference to the entry's static key, or nil.
func (e *entry) key() *ref {
	if k := e.spec.Key; k >= 0 && k < len(e.refs) {
		return &e.refs[k]
	}
	return nil
}

// specialOf finds a section's description and remembers it.
func (o *object) specialOf(s *elfobj.Section) (*arch.Special, bool) {
	if spec := o.specs[s]; spec != nil {
		return spec, true
	}
	spec, ok := o.arch.FindSpecial(s.Name)
	if !ok {
		if spec, ok = annotation(s); !ok {
			return nil, false
		}
	}
	if o.opt.EntrySize != nil && spec.Struct != "" {
		if n, ok := o.opt.EntrySize(spec.Struct); ok && n > 0 {
			spec.Entry = n
		}
	}
	if o.opt.EntrySize != nil && spec.TableStruct != "" {
		if n, ok := o.opt.EntrySize(spec.TableStruct); ok && n > 0 {
			spec.TableEntry = n
		}
	}
	o.specs[s] = &spec
	return &spec, true
}

// annotation describes a .discard section of objtool's: an array in which
// every entry has exactly one relocation, at one place. Others tell nothing of
// single functions.
func annotation(s *elfobj.Section) (arch.Special, bool) {
	n := uint64(len(s.Relocs))
	if !strings.HasPrefix(s.Name, ".discard.") || n == 0 || s.Size()%n != 0 || s.Name == ".discard.addressable" {
		return arch.Special{}, false
	}
	size := s.Size() / n
	for _, r := range s.Relocs {
		if r.Off%size != s.Relocs[0].Off%size {
			return arch.Special{}, false
		}
	}
	return arch.Special{Name: s.Name, Entry: int(size), Relocs: 1, Key: -1, Rule: arch.Keep}, true
}

// attachEntries cuts special sections into entries and gives each to the atom
// whose code it belongs to.
func (o *object) attachEntries(sites map[*elfobj.Section][]site) error {
	for _, sec := range o.file.Sections {
		spec := o.specs[sec]
		if spec == nil || spec.Rule == arch.Drop || o.class[sec] != special {
			continue
		}
		var table []byte
		if spec.Table != "" {
			t := o.tableOf(sec, spec)
			if t == nil {
				return fmt.Errorf("section %s: no table %s stands beside it", sec.Name, spec.Table)
			}
			table = t.Data
		}
		entries, err := cutEntries(sec, spec, sites[sec])
		if err != nil {
			return err
		}
		for i, e := range entries {
			if table != nil {
				n := spec.TableEntry
				if len(entries)*n > len(table) && len(entries) > 0 && len(table)%len(entries) == 0 {
					n = len(table) / len(entries)
				}
				if (i+1)*n > len(table) {
					return fmt.Errorf("section %s: %s is too short for entry %d", sec.Name, spec.Table, i)
				}
				e.table = table[i*n : (i+1)*n]
			}
			if own := e.owner(); own != nil && own.to.atom != nil {
				own.to.atom.special = append(own.to.atom.special, e)
				if e.spec.Name == "__mcount_loc" || e.spec.Name == "__patchable_function_entries" {
					o.traced = true
				}
			}
		}
	}
	for _, a := range o.atoms {
		if a.kind == function && o.entryCall(a) {
			o.traced = true
			break
		}
	}
	return nil
}

// tableOf finds the parallel array: the section of the right name that comes
// next, since objects with section groups may have several.
func (o *object) tableOf(sec *elfobj.Section, spec *arch.Special) *elfobj.Section {
	i := slices.Index(o.file.Sections, sec)
	for _, s := range o.file.Sections[i:] {
		if s.Name == spec.Table {
			return s
		}
	}
	return o.file.Section(spec.Table)
}

func cutEntries(sec *elfobj.Section, spec *arch.Special, sites []site) ([]*entry, error) {
	if sec.Type == elf.SHT_NOBITS || len(sec.Data) == 0 {
		return nil, nil
	}
	starts := entryStarts(sec, spec, sites)
	out := make([]*entry, 0, len(starts))
	k := 0
	for i, at := range starts {
		end := uint64(len(sec.Data))
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		e := &entry{spec: spec, sec: sec, index: i, data: sec.Data[at:end]}
		for ; k < len(sites) && sites[k].off < end; k++ {
			r := sites[k].ref
			if r.off < at {
				return nil, fmt.Errorf("section %s: relocation at %#x lies before its first entry", sec.Name, r.off)
			}
			r.off -= at
			e.refs = append(e.refs, r)
		}
		out = append(out, e)
	}
	return out, nil
}

// entryStarts places entries by size where that fits the section, else by
// relocations.
func entryStarts(sec *elfobj.Section, spec *arch.Special, sites []site) []uint64 {
	var out []uint64
	n := uint64(len(sec.Data))
	size := uint64(spec.Entry)
	if size > 0 && fits(size, n, spec, sites) {
		for at := uint64(0); at < n; at += size {
			out = append(out, at)
		}
		return out
	}
	for i := 0; i < len(sites); i += max(spec.Relocs, 1) {
		out = append(out, sites[i].off)
	}
	if len(out) > 0 {
		out[0] = 0
	}
	return out
}

// fits checks that with this entry size every entry begins with the same
// relocation. The last entry may be short (.parainstructions).
func fits(size, n uint64, spec *arch.Special, sites []site) bool {
	if n%size != 0 && spec.Relocs != 1 {
		return false
	}
	count := make([]int, n/size+1)
	for _, s := range sites {
		if s.off/size >= uint64(len(count)) {
			return false
		}
		count[s.off/size]++
	}
	for i := range (n + size - 1) / size {
		if count[i] == 0 || count[i] > spec.Relocs {
			return false
		}
	}
	return true
}

// entryCall reports whether a function begins with the tracer's entry call.
func (o *object) entryCall(a *atom) bool {
	for i := range a.refs {
		r := &a.refs[i]
		off := int64(r.off) - int64(a.entry-a.start)
		if off < 0 {
			continue
		}
		return off <= 16 && r.to.extern != nil && o.arch.EntryCall(r.to.extern)
	}
	return false
}

// traceable reports whether the function can be redirected by the tracer.
func (o *object) traceable(a *atom) bool {
	if o.entryCall(a) {
		return true
	}
	for _, e := range a.special {
		if e.spec.Name == "__mcount_loc" || e.spec.Name == "__patchable_function_entries" {
			return true
		}
	}
	return false
}
