// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// framesSection is where userland objects tell how their functions' frames lie
// (Linux Standard Base, core specification, 10.6: exception frames). Fields are
// those of the target's byte order, and ".eh_frame" has no DWARF64 form here.
const framesSection = ".eh_frame"

// commonFrame is a CIE: what the frames of several functions share.
type commonFrame struct {
	at   uint64
	data []byte // from its length field on
	refs []ref  // the personality routine
}

// frame is an FDE: the frame of one function or cold part.
type frame struct {
	cie  *commonFrame
	data []byte // from its length field on
	to   ref    // the function
	refs []ref  // the function's exception table, if it has one
}

// frameHead is what every record begins with: a length and an id, or the
// distance to its CIE.
const frameHead = 8

// attachFrames takes .eh_frame apart and gives each record to its function.
func (o *object) attachFrames(sec *elfobj.Section, list []site) error {
	order := byteOrder(o.file)
	common := map[uint64]*commonFrame{}
	next := 0
	for at := uint64(0); at < sec.Size(); {
		rest := sec.Data[at:]
		if len(rest) < 4 {
			return fmt.Errorf("section %s: %d bytes after its last record", sec.Name, len(rest))
		}
		size := uint64(order.Uint32(rest))
		if size == 0 { // the end, which crtend.o brings
			at += 4
			continue
		}
		if size < 4 || size > uint64(len(rest))-4 {
			return fmt.Errorf("section %s: the record at %#x has %d bytes of %d", sec.Name, at, size, len(rest)-4)
		}
		data := rest[:size+4]
		var refs []ref
		for ; next < len(list) && list[next].off < at+uint64(len(data)); next++ {
			r := list[next].ref
			r.off -= at
			refs = append(refs, r)
		}
		if id := order.Uint32(rest[4:]); id == 0 {
			common[at] = &commonFrame{at: at, data: data, refs: refs}
		} else if err := o.attachFrame(common[at+4-uint64(id)], data, refs); err != nil {
			return fmt.Errorf("section %s: the record at %#x: %w", sec.Name, at, err)
		}
		at += uint64(len(data))
	}
	return nil
}

func (o *object) attachFrame(cie *commonFrame, data []byte, refs []ref) error {
	switch {
	case cie == nil:
		return fmt.Errorf("its CIE is not there")
	case len(refs) == 0 || refs[0].off != frameHead:
		return fmt.Errorf("it names no function")
	case refs[0].to.atom == nil || !refs[0].to.atom.class.code():
		return nil // of a section that is gone
	}
	a := refs[0].to.atom
	a.frames = append(a.frames, &frame{cie: cie, data: data, to: refs[0], refs: refs[1:]})
	return nil
}

func byteOrder(f *elfobj.File) binary.ByteOrder {
	if f.Order == elf.ELFDATA2MSB {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// sameFrames compares what an unwinder would call and read for two functions.
// How their frames lie follows from their code.
func (c *comparer) sameFrames(o, p *atom) string {
	if len(o.frames) != len(p.frames) {
		return "its unwind information came or went"
	}
	same := func(a, b []ref) bool {
		if len(a) != len(b) {
			return false
		}
		for i := range b {
			if !c.targets(a[i].to, b[i].to, nil) {
				return false
			}
		}
		return true
	}
	for i := range p.frames {
		of, pf := o.frames[i], p.frames[i]
		if !same(of.refs, pf.refs) || !same(of.cie.refs, pf.cie.refs) {
			return "its exception table differs"
		}
	}
	return ""
}

// frames writes .eh_frame for the functions that are carried.
func (e *emitter) frames() error {
	sec := &elfobj.Section{Name: framesSection, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 8}
	written := map[*commonFrame]uint64{}
	order := byteOrder(e.r.patched.file)
	for _, a := range e.r.patched.atoms {
		if !a.included {
			continue
		}
		for _, f := range a.frames {
			at, ok := written[f.cie]
			if !ok {
				at = uint64(len(sec.Data))
				written[f.cie] = at
				if err := e.record(sec, a, f.cie.data, f.cie.refs); err != nil {
					return err
				}
			}
			begin := uint64(len(sec.Data))
			if err := e.record(sec, a, f.data, append([]ref{f.to}, f.refs...)); err != nil {
				return err
			}
			order.PutUint32(sec.Data[begin+4:], uint32(begin+4-at))
		}
	}
	if len(sec.Data) > 0 {
		e.out.File.Sections = append(e.out.File.Sections, sec)
	}
	return nil
}

// record appends one record with its references.
func (e *emitter) record(sec *elfobj.Section, from *atom, data []byte, refs []ref) error {
	at := uint64(len(sec.Data))
	sec.Data = append(sec.Data, bytes.Clone(data)...)
	for i := range refs {
		f := refs[i]
		own := f.to.atom == from
		f.branch = own // the function's new code, not its old address
		rel, err := e.reloc(from, &f)
		if err != nil {
			return fmt.Errorf("%s of %s: %w", framesSection, from.family().name(), err)
		}
		if own {
			p := e.place[from]
			rel.Sym, rel.Addend = p.sym, f.to.off
			if p.sym == nil {
				rel.Sym, rel.Addend = e.sectionSymbol(p.sec), p.off+f.to.off
			}
		}
		rel.Off = at + f.off
		sec.Relocs = append(sec.Relocs, rel)
	}
	return nil
}

// landing reports whether exceptions or cancellation stop in a function: it has
// a table of where to go on.
func (a *atom) landing() bool {
	for _, f := range a.frames {
		if len(f.refs) > 0 {
			return true
		}
	}
	return false
}

// threadLocal reports whether each thread has a variable of its own.
func (a *atom) threadLocal() bool { return a.sec.Flags&elf.SHF_TLS != 0 }
