// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"path"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Object is an ELF file that a process has loaded to run code of it: the
// program, its loader and its libraries. One file loaded twice (dlmopen) is two
// objects. The kernel's vdso is none.
type Object struct {
	BuildID string // GNU build-id in hex; "" where it has none
	Name    string // last part of Path, for people
	Path    string // as in Mapping
	Deleted bool   // as in Mapping
	Dev     uint64
	Inode   uint64
	// Bias is what the process adds to the virtual addresses of the file: 0 for
	// a program that is linked for its place.
	Bias uint64
	// Base is where the ELF header lies, and End the first address behind the
	// last segment, both in the process.
	Base, End uint64
	Type      elf.Type
	Program   bool // it is the program itself
	Interp    bool // it names a loader: not linked statically
	Dynamic   bool // it has a dynamic section
}

const (
	maxObjects  = 16384 // objects of one process
	maxSegments = 128   // program headers of one object
	maxNotes    = 16 << 10
	headerBytes = 4096 // what is read at once: header, program headers, mostly the notes
)

var (
	errNoELF  = errors.New("no ELF header")
	errNot64  = errors.New("a 32-bit ELF file")
	errBadELF = errors.New("malformed ELF headers")
)

// header is what an ELF header and its program headers tell.
type header struct {
	typ      elf.Type
	bias     uint64
	low, end uint64 // of all PT_LOAD, in the process
	exec     []span // PT_LOAD with PF_X, in the process
	interp   bool
	dynamic  bool
	buildID  string
}

type span struct{ start, end uint64 }

const page = 4096 // x86-64; ELF segments of other sizes are mapped by this too

// readHeader reads the ELF file whose first byte lies at base: in memory, or as
// far as its first segment goes, in a file.
func readHeader(mem io.ReaderAt, base uint64) (header, error) {
	return readHeaderInto(make([]byte, headerBytes), mem, base)
}

// readHeaderInto is readHeader with room of headerBytes.
func readHeaderInto(buf []byte, mem io.ReaderAt, base uint64) (header, error) {
	var h header
	n, err := mem.ReadAt(buf, int64(base))
	if n < 64 {
		if err == nil {
			err = errNoELF
		}
		return h, err
	}
	buf = buf[:n]
	if !bytes.HasPrefix(buf, []byte(elf.ELFMAG)) {
		return h, errNoELF
	}
	if buf[elf.EI_CLASS] == byte(elf.ELFCLASS32) {
		return h, errNot64
	}
	le := binary.LittleEndian
	h.typ = elf.Type(le.Uint16(buf[16:]))
	phoff, phentsize, phnum := le.Uint64(buf[32:]), le.Uint16(buf[54:]), le.Uint16(buf[56:])
	if buf[elf.EI_CLASS] != byte(elf.ELFCLASS64) || buf[elf.EI_DATA] != byte(elf.ELFDATA2LSB) ||
		elf.Machine(le.Uint16(buf[18:])) != elf.EM_X86_64 || h.typ != elf.ET_EXEC && h.typ != elf.ET_DYN ||
		phentsize != 56 || phnum == 0 || phnum > maxSegments || phoff > 1<<30 {
		return h, errBadELF
	}
	table := make([]byte, 56*int(phnum))
	if end := phoff + uint64(len(table)); end <= uint64(len(buf)) {
		copy(table, buf[phoff:end])
	} else if n, err := mem.ReadAt(table, int64(base+phoff)); n < len(table) {
		return h, err
	}
	type seg struct{ typ, flags, off, vaddr, filesz, memsz, align uint64 }
	segs := make([]seg, phnum)
	first := true
	for i := range segs {
		b := table[56*i:]
		s := seg{
			uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint64(b[8:]), le.Uint64(b[16:]),
			le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[48:]),
		}
		segs[i] = s
		switch elf.ProgType(s.typ) {
		case elf.PT_INTERP:
			h.interp = true
		case elf.PT_DYNAMIC:
			h.dynamic = true
		case elf.PT_LOAD:
			if s.vaddr >= 1<<47 || s.memsz >= 1<<47 || s.filesz > s.memsz || s.off >= 1<<47 {
				return h, errBadELF
			}
			if first {
				// The mapping at base is of offset 0: so is the first segment.
				if s.off >= page {
					return h, errBadELF
				}
				h.bias = base - (s.vaddr - s.off)
				h.low, first = base, false
			}
			start, end := h.bias+s.vaddr, h.bias+s.vaddr+s.memsz
			if start < h.low&^(page-1) || end >= 1<<47 {
				return h, errBadELF
			}
			h.end = max(h.end, end)
			if elf.ProgFlag(s.flags)&elf.PF_X != 0 {
				h.exec = append(h.exec, span{start, end})
			}
		}
	}
	if first {
		return h, errBadELF
	}
	for _, s := range segs {
		if elf.ProgType(s.typ) != elf.PT_NOTE || s.filesz > maxNotes || s.vaddr >= 1<<47 {
			continue
		}
		at := h.bias + s.vaddr
		if at < h.low || at+s.filesz > h.end {
			continue
		}
		notes := make([]byte, s.filesz)
		if off := at - base; off+s.filesz <= uint64(len(buf)) {
			copy(notes, buf[off:])
		} else if n, err := mem.ReadAt(notes, int64(at)); n < len(notes) {
			return h, err
		}
		if id := buildID(notes, s.align); id != "" {
			h.buildID = id
			break
		}
	}
	return h, nil
}

// buildID finds the GNU build-id among notes (elf.h: Elf64_Nhdr).
func buildID(b []byte, align uint64) string {
	if align != 8 {
		align = 4
	}
	up := func(n uint64) uint64 { return (n + align - 1) &^ (align - 1) }
	for len(b) >= 12 {
		le := binary.LittleEndian
		namesz, descsz, typ := uint64(le.Uint32(b)), uint64(le.Uint32(b[4:])), le.Uint32(b[8:])
		desc := up(12 + namesz)
		end := desc + descsz
		if end > uint64(len(b)) {
			return ""
		}
		const ntGNUBuildID = 3
		if typ == ntGNUBuildID && string(b[12:12+namesz]) == "GNU\x00" && descsz > 0 && descsz <= 64 {
			return hex.EncodeToString(b[desc:end])
		}
		b = b[min(up(end), uint64(len(b))):]
	}
	return ""
}

// objectsOf finds the objects among mappings, by what the memory says. Headers
// that are malformed or can't be read are passed over. entry is an address in
// the program's code.
func objectsOf(mem io.ReaderAt, maps []Mapping, entry uint64) ([]Object, error) {
	var all []Object
	program := Mapping{}
	for _, m := range maps {
		if m.Contains(entry) {
			program = m
		}
	}
	small := false // a 32-bit file is executable
	buf := make([]byte, headerBytes)
	for i, m := range maps {
		if !m.File() || m.Offset != 0 || !m.Read {
			continue
		}
		if !executed(maps[i:], m) {
			continue // a file that is read, not run
		}
		h, err := readHeaderInto(buf, mem, m.Start)
		if errors.Is(err, errNot64) {
			if small = true; m.Dev == program.Dev && m.Inode == program.Inode {
				return nil, err
			}
		}
		if hard(err) {
			return nil, err
		}
		if err != nil || h.typ == elf.ET_EXEC && h.bias != 0 || !covered(maps[i:], h.exec) {
			continue
		}
		if len(all) == maxObjects {
			return nil, errors.New("too many ELF files")
		}
		all = append(all, Object{
			BuildID: h.buildID, Name: path.Base(m.Path), Path: m.Path, Deleted: m.Deleted, Dev: m.Dev, Inode: m.Inode,
			Bias: h.bias, Base: m.Start, End: h.end, Type: h.typ,
			Program: m.Start <= entry && entry < h.end, Interp: h.interp, Dynamic: h.dynamic,
		})
	}
	if small && len(all) == 0 {
		return nil, errNot64
	}
	return all, nil
}

// hard tells an error that is not of the bytes or the address: nothing more
// will be read.
func hard(err error) bool {
	return code.Of(err) != "" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// executed tells whether some mapping of the file that maps[0] begins is
// executable: the loader lays the segments of one file side by side.
func executed(maps []Mapping, m Mapping) bool {
	for i, n := range maps {
		if n.Exec && (n.File() && n.Dev == m.Dev && n.Inode == m.Inode || !n.File()) {
			return true // text that was moved to huge pages has no file any more
		}
		if i > 0 && n.File() && n.Offset == 0 && (n.Dev != m.Dev || n.Inode != m.Inode) || i > 4*maxSegments {
			return false
		}
	}
	return false
}

// covered tells whether each of the executable segments begins in an
// executable mapping.
func covered(maps []Mapping, exec []span) bool {
	for _, s := range exec {
		ok := false
		for i, m := range maps {
			if m.Contains(s.start) {
				ok = m.Exec
				break
			}
			if m.Start > s.start || i > 4*maxSegments {
				break
			}
		}
		if !ok {
			return false
		}
	}
	return len(exec) > 0
}

// Objects tells the ELF files that the process runs code of, in rising order of
// their places. It reads them from the process's memory and opens no file. A
// 32-bit program is TS9603.
func (p *Process) Objects(ctx context.Context) ([]Object, error) {
	maps, err := p.Mappings(ctx)
	if err != nil {
		return nil, err
	}
	return p.ObjectsIn(ctx, maps)
}

// ObjectsIn is Objects by what [Process.Mappings] has told.
func (p *Process) ObjectsIn(ctx context.Context, maps []Mapping) ([]Object, error) {
	s, err := p.sight(ctx)
	if err != nil {
		return nil, err
	}
	all, err := within(ctx, p.id, p.uid, func() ([]Object, error) { // one handing over for all of them
		return objectsOf(s.mem, maps, s.image.code)
	})
	switch {
	case errors.Is(err, errNot64):
		return nil, code.New("TS9603", p.id.String(), "")
	case err != nil:
		return nil, p.looked(err, false)
	case len(all) == 0:
		// Every program has one; so its memory is gone, or not to be understood.
		if err := p.Check(ctx); err != nil {
			return nil, err
		}
		return nil, code.New("TS9604", p.id.String(), "no ELF file that it runs is found in its memory")
	}
	return all, nil
}
