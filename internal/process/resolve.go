// SPDX-License-Identifier: Apache-2.0

package process

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// resolved is what a patch refers to, as it is in one process.
type resolved struct {
	slots   map[uint64]uint64 // by virtual address
	imports []uint64
}

// resolver finds it out for one object. What takes long is only done when it is
// needed: most GOT entries hold an address, and that is it.
type resolver struct {
	s     *sight
	u     *unit
	file  *dso.File
	known map[uint64]dso.Slot // of the object, nil while they were not read
	scope *scope
	watch []watch
}

// resolve finds the values of the GOT entries and imports of the unit's file,
// and has the process watched for them. errLoading is in the chain when the
// loader has not come so far.
func (u *unit) resolve(s *sight) (*resolved, error) {
	f, err := dso.OpenMemory(s.mem, u.object.Base)
	if err != nil {
		return nil, unreadableObject(u.object, err)
	}
	if f.Bias != u.object.Bias || !sameSegments(f.Segments, u.file.Segments) {
		return nil, code.New("TS9635", u.object.Name, "its segments lie otherwise")
	}
	r := &resolver{s: s, u: u, file: f}
	res := &resolved{slots: make(map[uint64]uint64, len(u.file.slots)), imports: make([]uint64, len(u.file.Imports))}
	for _, vaddr := range u.file.slots {
		if res.slots[vaddr], err = r.slot(vaddr); err != nil {
			return nil, r.problem(fmt.Sprintf("the entry at %#x", vaddr), err)
		}
	}
	for _, rel := range u.file.Relocs {
		if rel.Ref.Kind != splice.RefImport || res.imports[rel.Ref.Value] != 0 {
			continue
		}
		if res.imports[rel.Ref.Value], err = r.find(u.file.Imports[rel.Ref.Value]); err != nil {
			return nil, r.problem(u.file.Imports[rel.Ref.Value].Name, err)
		}
	}
	u.watch = append(u.watch, r.watch...)
	return res, nil
}

func unreadableObject(o *proc.Object, err error) error {
	if code.Of(err) != "" {
		return err
	}
	return code.New("TS9635", o.Name, "").With(err)
}

// problem makes one of what keeps a name from being resolved.
func (r *resolver) problem(name string, err error) error {
	switch {
	case code.Of(err) != "":
		return err
	case errors.Is(err, errLoading):
		return code.New("TS9632", r.u.object.Name, name).With(err)
	}
	return code.New("TS9634", r.u.object.Name, name).With(err)
}

func sameSegments(have []dso.Segment, want []splice.Segment) bool {
	return slices.EqualFunc(have, want, func(a dso.Segment, b splice.Segment) bool {
		return a.Vaddr == b.Vaddr && a.Memsz == b.Memsz && a.Filesz == b.Filesz && a.Flags == b.Flags
	})
}

// slot is what a GOT entry holds in the end.
func (r *resolver) slot(vaddr uint64) (uint64, error) {
	now, err := r.file.Uint64(vaddr)
	if err != nil {
		return 0, err
	}
	final, err := r.final(vaddr, now)
	if err != nil {
		return 0, err
	}
	w := watch{addr: vaddr + r.file.Bias, want: word(now), what: fmt.Sprintf("the entry at %#x", vaddr)}
	if final != now {
		w.or = word(final)
	}
	r.watch = append(r.watch, w)
	return final, nil
}

func word(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

func (r *resolver) final(vaddr, now uint64) (uint64, error) {
	own := now >= r.file.Bias && r.file.Own(now-r.file.Bias)
	// What the linker wrote there, before the loader has added the bias.
	unmoved := r.file.Bias != 0 && !own && r.file.Own(now)
	imp := r.u.file.SlotImport(vaddr)
	if own && imp != 0 && pltStub(r.file, now) {
		return r.find(r.u.file.Imports[imp-1])
	}
	if !unmoved && r.mapped(now) {
		return now, nil
	}
	if err := r.slots(); err != nil {
		return 0, err
	}
	slot, known := r.known[vaddr]
	switch {
	case !known: // no relocation: it has been there from the start
		return now, nil
	case slot.Kind == dso.DTPOff, slot.Kind == dso.DTPMod && now != 0, slot.Kind == dso.TPOff && now != 0:
		return now, nil
	case slot.Kind == dso.Copy, slot.Kind == dso.OtherSlot:
		return 0, fmt.Errorf("an entry of kind %s holds no address", slot.Kind)
	case slot.Symbol != nil && slot.Symbol.Section == elf.SHN_ABS && !unmoved:
		return now, nil
	case now == 0 && (slot.Kind == dso.GlobDat || slot.Kind == dso.Abs64) && slot.Symbol != nil && slot.Symbol.Bind == elf.STB_WEAK && !slot.Symbol.Defined():
		// Nobody has it, or the loader has not come here yet.
		at, err := r.find(splice.Import{Name: slot.Symbol.Name, Version: slot.Symbol.Version, Weak: true})
		if err == nil && at != 0 {
			err = errLoading
		}
		return 0, err
	}
	return 0, errLoading
}

// mapped tells whether something lies at an address.
func (r *resolver) mapped(addr uint64) bool {
	return addr != 0 && addr < addressEnd && r.s.covers(span{addr, addr + 1}, func(proc.Mapping) bool { return true })
}

// slots reads what the loader writes into the object.
func (r *resolver) slots() error {
	if r.known != nil {
		return nil
	}
	list, err := r.file.Slots()
	if err != nil {
		return err
	}
	r.known = make(map[uint64]dso.Slot, len(list))
	for _, slot := range list {
		r.known[slot.Vaddr] = slot
		if _, ok := r.known[slot.Vaddr+8]; !ok && (slot.Kind == dso.TLSDesc || slot.Kind == dso.DTPMod) {
			// The second word: it may be anything, zero too.
			r.known[slot.Vaddr+8] = dso.Slot{Vaddr: slot.Vaddr + 8, Kind: dso.DTPOff}
		}
	}
	return nil
}

// find looks an import up as the loader would for this object.
func (r *resolver) find(imp splice.Import) (uint64, error) {
	if r.scope == nil {
		if err := r.readScope(); err != nil {
			return 0, err
		}
	}
	addr, from, err := r.scope.lookup(imp)
	if err != nil || from == nil {
		return 0, err
	}
	if d := from.file.Dynamic; d.Size > 0 { // it must still be the same library there
		b, err := from.file.Bytes(d.Start, min(d.Size, 128))
		if err != nil {
			return 0, err
		}
		r.watch = append(r.watch, watch{addr: d.Start + from.file.Bias, want: b, what: from.name})
	}
	return addr, nil
}

func (r *resolver) readScope() error {
	files := make([]*dso.File, 0, len(r.s.objects))
	for i := range r.s.objects {
		if &r.s.objects[i] == r.u.object {
			files = append(files, r.file)
			continue
		}
		f, err := dso.OpenMemory(r.s.mem, r.s.objects[i].Base)
		if err != nil {
			if code.Of(err) != "" {
				return err
			}
			continue // nothing that a loader would have loaded
		}
		files = append(files, f)
	}
	lists, err := loader(r.s.mem, files)
	if err != nil {
		return err
	}
	list, me := findLoaded(lists, r.file)
	switch {
	case me != nil:
	case lists == nil: // a static program: it has itself
		me = &loaded{file: r.file, name: r.u.object.Name}
		list = namespace{me}
	default:
		return fmt.Errorf("%w: it does not list the library", errLoading)
	}
	sc := scopeOf(list, me)
	for _, m := range r.s.maps {
		if m.Path == "[vdso]" {
			sc.vdso = span{m.Start, m.End}
		}
	}
	r.scope = &sc
	return nil
}
