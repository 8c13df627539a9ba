// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"crypto/sha1"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// postlink turns what Kbuild has linked into a livepatch module: what the
// livepatch core is to resolve moves out of the ordinary relocations into
// .klp.rela sections, names get back their own form, and what only a debugger
// or the linker needs goes away. It works on the file that it is given.
type postlink struct {
	file    *elfobj.File
	ln      *linkage
	exports map[string]kernel.Export
	klp     map[*elfobj.Symbol]klpSym // linked symbols that livepatch resolves
	symbols map[klpSym]*elfobj.Symbol // as they will be, by name (rela left empty)
	uses    map[klpSym]int
}

func finish(f *elfobj.File, ln *linkage, exports map[string]kernel.Export) ([]Symbol, error) {
	p := &postlink{
		file: f, ln: ln, exports: exports, klp: map[*elfobj.Symbol]klpSym{},
		symbols: map[klpSym]*elfobj.Symbol{}, uses: map[klpSym]int{},
	}
	for _, step := range []func() error{
		p.dropSections, p.findSymbols, p.hideCold, p.resolveAliases, p.staticCalls, p.specialSections, p.moveRelocs, p.tidySymbols,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	var out []Symbol
	for k := range p.symbols {
		out = append(out, Symbol{k.object, k.name, k.pos, p.uses[k]})
	}
	slices.SortFunc(out, compareSymbols)
	return out, nil
}

func compareSymbols(a, b Symbol) int {
	if c := strings.Compare(a.Object, b.Object); c != 0 {
		return c
	}
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return a.SymPos - b.SymPos
}

// dropSections removes sections that the loader has no use for. A module's
// BTF would have to match the kernel's, and pahole has not seen it.
func (p *postlink) dropSections() error {
	p.remove(func(s *elfobj.Section) bool {
		return s.Name == ".BTF" || s.Name == ".BTF.ext" || s.Name == ".comment" || s.Name == ".llvm_addrsig" ||
			s.Name == ".note.GNU-stack" || strings.HasPrefix(s.Name, ".debug_") || strings.HasPrefix(s.Name, ".discard") ||
			s.Flags&elf.SHF_ALLOC != 0 && s.Size() == 0 && emptyDrop(s)
	})
	return nil
}

// emptyDrop reports whether a section without content can go. The plain
// sections that every module has stay, as the linker made them.
func emptyDrop(s *elfobj.Section) bool {
	return s.Name != ".text" && s.Name != ".data" && s.Name != ".bss"
}

func (p *postlink) remove(unwanted func(*elfobj.Section) bool) {
	gone := map[*elfobj.Section]bool{}
	p.file.Sections = slices.DeleteFunc(p.file.Sections, func(s *elfobj.Section) bool {
		gone[s] = unwanted(s)
		return gone[s]
	})
	p.file.RemoveSymbols(func(s *elfobj.Symbol) bool { return s.Section != nil && gone[s.Section] })
}

// findSymbols settles what every undefined symbol is. One that is neither
// livepatch's nor exported is an error, whatever modpost said of it.
func (p *postlink) findSymbols() error {
	for _, s := range p.file.Symbols {
		if !s.Undefined() || s.Name == "" {
			continue
		}
		if k, ok := p.ln.klp[s.Name]; ok {
			p.klp[s] = k
			continue
		}
		x, exported := p.exports[s.Name]
		switch {
		case exported && x.Module == Vmlinux:
		case exported:
			return code.New("TS5304", s.Name, fmt.Sprintf("the module would import it from module %s, and so need that module", x.Module))
		case s.Bind == elf.STB_WEAK:
		default:
			return code.New("TS5304", s.Name, "nothing defines it")
		}
	}
	return nil
}

// resolveAliases points references at the functions themselves and removes the
// global names that tables.c used.
func (p *postlink) resolveAliases() error {
	to := map[*elfobj.Symbol]*elfobj.Symbol{}
	for _, s := range p.file.Symbols {
		want, ok := p.ln.aliases[s.Name]
		if !ok || s.Section == nil {
			continue
		}
		for _, own := range p.file.Symbols {
			if own != s && own.Section == s.Section && own.Value == s.Value && own.Name == want {
				to[s] = own
				break
			}
		}
		if to[s] == nil {
			return code.New("TS5304", want, "the linked module does not have it")
		}
	}
	if len(to) != len(p.ln.aliases) {
		return code.New("TS5304", "", fmt.Sprintf("the linked module has %d of %d replacements and callbacks", len(to), len(p.ln.aliases)))
	}
	for _, sec := range p.file.Sections {
		for i := range sec.Relocs {
			if own := to[sec.Relocs[i].Sym]; own != nil {
				sec.Relocs[i].Sym = own
			}
		}
	}
	p.file.RemoveSymbols(func(s *elfobj.Symbol) bool {
		// objtool names the padding before each function, aliases included.
		_, padding := p.ln.aliases[strings.TrimPrefix(s.Name, "__pfx_")]
		return to[s] != nil || padding && strings.HasPrefix(s.Name, "__pfx_")
	})
	for _, s := range p.file.Symbols {
		if own, ok := p.ln.locals[s.Name]; ok {
			s.Name = own
		} else if own, ok := p.ln.locals[strings.TrimPrefix(s.Name, "__pfx_")]; ok {
			s.Name = "__pfx_" + own
		}
	}
	return nil
}

// staticCalls drops the entries of static call sites that the kernel could not
// connect to their key: a module's key is not known in time, and objtool names
// the trampoline where it does not see a key. The site then keeps calling the
// trampoline, which static_call_update changes as well: the call is right, and
// a jump slower.
func (p *postlink) staticCalls() error {
	const size = 8 // struct static_call_site: two relative addresses
	for _, s := range p.file.Sections {
		if s.Name != ".static_call_sites" {
			continue
		}
		if len(s.Data)%size != 0 {
			return code.New("TS5307", s.Name, fmt.Sprintf("%d bytes are not a whole number of entries", len(s.Data)))
		}
		keep := make([]bool, len(s.Data)/size)
		for i := range keep {
			keep[i] = true
		}
		for _, r := range s.Relocs {
			if i := r.Off / size; r.Off%size == 4 && i < uint64(len(keep)) && r.Sym != nil {
				keep[i] = p.keyKnown(r.Sym)
			}
		}
		filterEntries(s, size, keep)
	}
	p.remove(func(s *elfobj.Section) bool { return s.Name == ".static_call_sites" && len(s.Data) == 0 })
	return nil
}

func (p *postlink) keyKnown(key *elfobj.Symbol) bool {
	if key.Section != nil {
		return true
	}
	name := key.Name
	k, livepatch := p.klp[key]
	if livepatch {
		name = k.name
	}
	call, trampoline := strings.CutPrefix(name, "__SCT__")
	if !trampoline {
		return !k.module()
	}
	// The kernel finds the keys of those trampolines that are exported without
	// their key (EXPORT_STATIC_CALL_TRAMP), and refuses a module with others.
	_, keyExported := p.exports["__SCK__"+call]
	return !livepatch && !keyExported
}

// filterEntries keeps some entries of a table, with their relocations.
func filterEntries(s *elfobj.Section, size uint64, keep []bool) {
	var data []byte
	moved := make([]uint64, len(keep))
	for i, k := range keep {
		moved[i] = uint64(len(data))
		if k {
			data = append(data, s.Data[uint64(i)*size:uint64(i+1)*size]...)
		}
	}
	var relocs []elfobj.Reloc
	for _, r := range s.Relocs {
		if i := r.Off / size; i < uint64(len(keep)) && keep[i] {
			r.Off = moved[i] + r.Off%size
			relocs = append(relocs, r)
		}
	}
	s.Data, s.Relocs = data, relocs
}

// early are the sections that module_finalize and the module notifiers read:
// after vmlinux's livepatch relocations are written, before any module's are.
var early = []string{
	".altinstructions", ".altinstr_replacement", ".parainstructions", ".smp_locks", "__jump_table",
	".static_call_sites", "__bug_table", "__ex_table", ".orc_unwind", ".orc_unwind_ip", ".retpoline_sites",
	".return_sites", ".call_sites", ".cfi_sites", ".kcfi_traps", ".ibt_endbr_seal", "__mcount_loc",
	"__patchable_function_entries", "__tracepoints_ptrs", "_ftrace_events", "__dyndbg", ".data..percpu",
	"_kprobe_blacklist", "_error_injection_whitelist", ".gnu.linkonce.this_module",
}

// specialSections refuses references to a module's symbols that the kernel
// would use before they are written, and livepatch references of init code.
func (p *postlink) specialSections() error {
	for _, s := range p.file.Sections {
		for _, r := range s.Relocs {
			k, ok := p.klp[r.Sym]
			switch {
			case !ok:
			case s.Flags&elf.SHF_ALLOC == 0:
				return code.New("TS5304", s.Name, "a section that is not loaded refers to "+k.name)
			case strings.HasPrefix(s.Name, ".init") || strings.HasPrefix(s.Name, ".exit"):
				return code.New("TS5209", s.Name, "it refers to "+k.name)
			case k.module() && slices.Contains(early, s.Name):
				return code.New("TS5208", s.Name, fmt.Sprintf("it refers to %s of module %s", k.name, k.object))
			}
		}
	}
	return p.alternatives()
}

// alternatives refuses a module's symbol inside code that alternatives
// replace: the late relocation would hit other instructions. An entry of
// .altinstructions begins with the relative addresses of the code and of its
// replacement, and ends with their lengths, a byte each.
func (p *postlink) alternatives() error {
	for _, s := range p.file.Sections {
		if s.Name != ".altinstructions" || len(s.Relocs) == 0 || len(s.Relocs)%2 != 0 {
			continue
		}
		entries := uint64(len(s.Relocs) / 2)
		size := uint64(len(s.Data)) / entries
		if size < 10 || uint64(len(s.Data))%entries != 0 {
			return code.New("TS5307", s.Name, fmt.Sprintf("%d bytes for %d entries", len(s.Data), entries))
		}
		for _, r := range s.Relocs {
			if r.Off%size != 0 || r.Sym == nil || r.Sym.Section == nil {
				continue
			}
			end := r.Off + size
			if end > uint64(len(s.Data)) {
				continue
			}
			n := uint64(s.Data[end-2])
			from := r.Sym.Value + uint64(r.Addend)
			for _, f := range r.Sym.Section.Relocs {
				if k, ok := p.klp[f.Sym]; ok && k.module() && f.Off >= from && f.Off < from+n {
					return code.New("TS5208", r.Sym.Section.Name,
						fmt.Sprintf("code that .altinstructions replaces refers to %s of module %s", k.name, k.object))
				}
			}
		}
	}
	return nil
}

// moveRelocs moves the relocations that livepatch applies into sections of
// their own, one for each section and object, and clears the fields, because
// the loader refuses to relocate a field that is not zero.
func (p *postlink) moveRelocs() error {
	var out []*elfobj.Section
	for _, s := range p.file.Sections {
		out = append(out, s)
		moved := map[string]*elfobj.Section{}
		var rest []elfobj.Reloc
		for _, r := range s.Relocs {
			k, ok := p.klp[r.Sym]
			if !ok {
				rest = append(rest, r)
				continue
			}
			rela := moved[k.rela]
			if rela == nil {
				rela = &elfobj.Section{
					Name: ".klp.rela." + k.rela + "." + s.Name, Type: elf.SHT_RELA, Target: s,
					Flags: elf.SHF_ALLOC | elf.SHF_INFO_LINK | elfobj.SHFRelaLivepatch, Align: 8, EntSize: 24,
				}
				moved[k.rela] = rela
				if s.Data != nil {
					s.Data = slices.Clone(s.Data)
				}
			}
			n := fieldSize(r.Type)
			if r.Off > uint64(len(s.Data)) || n > uint64(len(s.Data))-r.Off {
				return code.New("TS5304", s.Name, fmt.Sprintf("a relocation to %s lies outside", k.name))
			}
			clear(s.Data[r.Off : r.Off+n])
			r.Sym = p.symbol(k)
			rela.Relocs = append(rela.Relocs, r)
		}
		s.Relocs = rest
		for _, obj := range slices.Sorted(maps.Keys(moved)) {
			out = append(out, moved[obj])
		}
	}
	p.file.Sections = out
	return nil
}

// symbol returns the livepatch symbol; one serves all objects' relocations.
func (p *postlink) symbol(k klpSym) *elfobj.Symbol {
	k.rela = ""
	s := p.symbols[k]
	if s == nil {
		s = &elfobj.Symbol{
			Name: fmt.Sprintf(".klp.sym.%s.%s,%d", k.object, k.name, place1(k.pos)),
			Bind: elf.STB_GLOBAL, Index: elfobj.SHNLivepatch,
		}
		p.symbols[k] = s
		p.file.Symbols = append(p.file.Symbols, s)
	}
	p.uses[k]++
	return s
}

// tidySymbols drops symbols that neither the loader nor a stack trace needs.
// The loader keeps the whole table of a livepatch module in memory.
func (p *postlink) tidySymbols() error {
	used := map[*elfobj.Symbol]bool{}
	for _, sec := range p.file.Sections {
		for _, r := range sec.Relocs {
			used[r.Sym] = true
		}
	}
	p.file.RemoveSymbols(func(s *elfobj.Symbol) bool {
		if used[s] {
			return false
		}
		switch s.Type {
		case elf.STT_SECTION, elf.STT_FILE:
			return true
		}
		return s.Section == nil || strings.HasPrefix(s.Name, ".L") || strings.HasPrefix(s.Name, "__UNIQUE_ID_") ||
			s.Section.Name == ".modinfo"
	})
	// The linker's order of global symbols follows a hash of names that differ
	// with the number of pieces; any order will do, as long as it is one.
	slices.SortStableFunc(p.file.Symbols, func(a, b *elfobj.Symbol) int {
		al, bl := a.Bind == elf.STB_LOCAL, b.Bind == elf.STB_LOCAL
		switch {
		case al && bl:
			return 0
		case al:
			return -1
		case bl:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return nil
}

// writeModule serializes the module. Its build-id becomes a digest of the
// finished file: the linker's covered what has been removed since.
func writeModule(f *elfobj.File) ([]byte, error) {
	var id []byte
	if s := f.Section(".note.gnu.build-id"); s != nil && len(s.Data) == 36 && binary.LittleEndian.Uint32(s.Data[4:]) == sha1.Size {
		s.Data = slices.Clone(s.Data)
		id = s.Data[16:]
		clear(id)
	}
	b, err := f.Bytes()
	if err != nil || id == nil {
		return b, err
	}
	sum := sha1.Sum(b)
	copy(id, sum[:])
	return f.Bytes()
}
