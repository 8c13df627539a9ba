// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// Check reads a finished module as the target's loader and livepatch core
// would, and returns a *code.Problem (TS5306, TS5307) for the first thing that
// they would refuse. It uses nothing of what made the module: symbols are
// counted again from the target's own tables. reference is a shipped module of
// the target, which shows what the loader wants; nil skips that comparison.
func Check(t *Target, ko, reference []byte) error {
	f, err := elfobj.Read(ko)
	if err != nil {
		return code.New("TS5307", "module", "").With(err)
	}
	c := &checker{target: t, file: f, counts: map[string]map[string]counted{}}
	for _, step := range []func() error{c.sections, c.info, c.symbols, c.relocations} {
		if err := step(); err != nil {
			return code.New("TS5307", "module", "").With(err)
		}
	}
	if reference == nil {
		return nil
	}
	if err := c.like(reference); err != nil {
		return code.New("TS5306", "module", "").With(err)
	}
	return nil
}

type checker struct {
	target *Target
	file   *elfobj.File
	// counts caches, by object and name, what livepatch would count.
	counts map[string]map[string]counted
}

// counted is how often a name occurs while its module is coming and later.
type counted struct{ coming, live int }

// sections refuses two sections of one name: the loader takes the first.
func (c *checker) sections() error {
	if c.file.Machine != elf.EM_X86_64 || c.file.Order != elf.ELFDATA2LSB {
		return fmt.Errorf("it is for %s", c.file.Machine)
	}
	seen := map[string]bool{}
	for _, s := range c.file.Sections {
		if s.Type == elf.SHT_GROUP {
			return fmt.Errorf("section %s: a group", s.Name)
		}
		if seen[s.Name] {
			return fmt.Errorf("section %s: there are two of this name", s.Name)
		}
		seen[s.Name] = true
		if strings.HasPrefix(s.Name, ".BTF") || strings.HasPrefix(s.Name, ".debug_") {
			return fmt.Errorf("section %s: should have been removed", s.Name)
		}
		if s.Flags&elf.SHF_ALLOC != 0 && s.Flags&elf.SHF_WRITE != 0 && s.Exec() {
			return fmt.Errorf("section %s: writable code", s.Name)
		}
	}
	for _, want := range []string{".modinfo", ".gnu.linkonce.this_module", ".init.text"} {
		if !seen[want] {
			return fmt.Errorf("section %s is missing", want)
		}
	}
	return nil
}

func (c *checker) info() error {
	m := modinfo(c.file)
	if !slices.Equal(m["livepatch"], []string{"Y"}) {
		return fmt.Errorf("modinfo: livepatch is %q", m["livepatch"])
	}
	if !slices.Contains(m["license"], "GPL") {
		return fmt.Errorf("modinfo: license is %q", m["license"])
	}
	if d := m["depends"]; len(d) > 1 || len(d) == 1 && d[0] != "" {
		return fmt.Errorf("modinfo: it depends on %q", d)
	}
	if n := m["name"]; len(n) != 1 || checkName(n[0]) != nil {
		return fmt.Errorf("modinfo: name is %q", n)
	}
	return nil
}

func (c *checker) symbols() error {
	spaces := modinfo(c.file)["import_ns"]
	for _, s := range c.file.Symbols {
		switch {
		case s.Index == elfobj.SHNLivepatch && s.Section == nil:
			if err := c.klpSymbol(s); err != nil {
				return fmt.Errorf("symbol %s: %w", s.Name, err)
			}
		case strings.HasPrefix(s.Name, ".klp.sym."):
			return fmt.Errorf("symbol %s: it is not marked for livepatch", s.Name)
		case s.Undefined():
			x, ok := c.target.Exports[s.Name]
			if !ok && s.Bind != elf.STB_WEAK {
				return fmt.Errorf("symbol %s: undefined and not exported", s.Name)
			}
			if ok && x.Module != Vmlinux {
				return fmt.Errorf("symbol %s: an import from module %s", s.Name, x.Module)
			}
			if ok && x.Namespace != "" && !slices.Contains(spaces, x.Namespace) {
				return fmt.Errorf("symbol %s: its namespace %s is not imported", s.Name, x.Namespace)
			}
		}
	}
	return nil
}

// klpSymbol takes a ".klp.sym.object.name,position" apart, in the way of
// klp_resolve_symbols: the object has no dot, the name no comma.
func (c *checker) klpSymbol(s *elfobj.Symbol) error {
	object, name, pos, err := parseKlpSymbol(s.Name)
	if err != nil {
		return err
	}
	n, err := c.count(object, name)
	if err != nil {
		return err
	}
	switch {
	case n.live == 0:
		return fmt.Errorf("%s has no such symbol once it is initialised", object)
	case pos == 0 && (n.coming != 1 || n.live != 1):
		return fmt.Errorf("position 0, but %s has the name %d times", object, n.coming)
	case pos > n.coming || pos > n.live:
		return fmt.Errorf("%s has the name only %d times", object, min(n.coming, n.live))
	}
	return nil
}

const (
	maxObjectName = 55  // MODULE_NAME_LEN less the NUL
	maxSymbolName = 511 // KSYM_NAME_LEN less the NUL, since 6.1
)

func parseKlpSymbol(s string) (object, name string, pos int, err error) {
	rest, ok := strings.CutPrefix(s, ".klp.sym.")
	if !ok {
		return "", "", 0, fmt.Errorf("no livepatch name")
	}
	object, rest, ok = strings.Cut(rest, ".")
	if !ok || object == "" || len(object) > maxObjectName {
		return "", "", 0, fmt.Errorf("no object in its name")
	}
	name, digits, ok := strings.Cut(rest, ",")
	if !ok || name == "" || len(name) > maxSymbolName {
		return "", "", 0, fmt.Errorf("no symbol in its name")
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil {
		return "", "", 0, fmt.Errorf("no position in its name")
	}
	return object, name, int(n), nil
}

// count counts as kallsyms_on_each_symbol and module_kallsyms_on_each_symbol
// let livepatch count.
func (c *checker) count(object, name string) (counted, error) {
	if m := c.counts[object]; m != nil {
		return m[name], nil
	}
	m := map[string]counted{}
	if object == Vmlinux {
		for _, s := range c.target.Symbols {
			n := m[s.Name]
			m[s.Name] = counted{n.coming + 1, n.live + 1}
		}
	} else {
		b, err := c.target.Module(object)
		if err != nil {
			return counted{}, err
		}
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			return counted{}, err
		}
		syms, err := f.Symbols()
		if err != nil {
			return counted{}, err
		}
		for _, s := range syms {
			if s.Section == elf.SHN_UNDEF {
				continue
			}
			n := m[s.Name]
			n.coming++
			if i := int(s.Section); i < len(f.Sections) {
				sec := f.Sections[i]
				if sec.Flags&elf.SHF_ALLOC != 0 && !strings.HasPrefix(sec.Name, ".init") {
					n.live++
				}
			}
			m[s.Name] = n
		}
	}
	c.counts[object] = m
	return m[name], nil
}

func (c *checker) relocations() error {
	for _, s := range c.file.Sections {
		target, klp := s, false
		if s.Type == elf.SHT_RELA {
			if s.Flags&elfobj.SHFRelaLivepatch == 0 {
				return fmt.Errorf("section %s: a stray relocation section", s.Name)
			}
			target, klp = s.Target, true
		}
		object := ""
		if klp {
			// The kernel reads the object up to the next dot; the section's name
			// follows with its own.
			rest, ok := strings.CutPrefix(s.Name, ".klp.rela.")
			object, rest, _ = strings.Cut(rest, ".")
			if !ok || object == "" || len(object) > maxObjectName || rest != target.Name {
				return fmt.Errorf("section %s: not the name of a livepatch relocation section of %s", s.Name, target.Name)
			}
			if target.Flags&elf.SHF_ALLOC == 0 || strings.HasPrefix(target.Name, ".init") || strings.HasPrefix(target.Name, ".exit") {
				return fmt.Errorf("section %s: it applies to init code or to nothing loaded", s.Name)
			}
		}
		for i, r := range s.Relocs {
			if err := c.relocation(target, r, object); err != nil {
				return fmt.Errorf("section %s: relocation %d: %w", s.Name, i, err)
			}
		}
	}
	return nil
}

// relocation checks what apply_relocate_add and klp_resolve_symbols check.
func (c *checker) relocation(s *elfobj.Section, r elfobj.Reloc, object string) error {
	n := 0
	switch elf.R_X86_64(r.Type) {
	case elf.R_X86_64_NONE:
	case elf.R_X86_64_64, elf.R_X86_64_PC64:
		n = 8
	case elf.R_X86_64_32, elf.R_X86_64_32S, elf.R_X86_64_PC32, elf.R_X86_64_PLT32:
		n = 4
	default:
		return fmt.Errorf("the loader does not know type %s", elf.R_X86_64(r.Type))
	}
	if r.Off > uint64(len(s.Data)) || uint64(n) > uint64(len(s.Data))-r.Off {
		return fmt.Errorf("offset %#x lies outside", r.Off)
	}
	if s.Flags&elf.SHF_ALLOC != 0 && len(bytes.Trim(s.Data[r.Off:r.Off+uint64(n)], "\x00")) != 0 {
		return fmt.Errorf("the field at %#x is not zero", r.Off)
	}
	livepatch := r.Sym != nil && r.Sym.Section == nil && r.Sym.Index == elfobj.SHNLivepatch
	if livepatch != (object != "") {
		return fmt.Errorf("a livepatch symbol in an ordinary section, or the reverse")
	}
	if livepatch {
		symObject, _, _, err := parseKlpSymbol(r.Sym.Name)
		if err != nil {
			return err
		}
		if (symObject == Vmlinux) != (object == Vmlinux) {
			return fmt.Errorf("symbol %s in a section of %s", r.Sym.Name, object)
		}
		if object != Vmlinux && slices.Contains(early, s.Name) {
			return fmt.Errorf("symbol %s is not known in time", r.Sym.Name)
		}
	}
	return nil
}

// like compares with a shipped module what depends on the target alone: the
// size of struct module, the version magic and the CRC of module_layout.
func (c *checker) like(reference []byte) error {
	ref, err := elfobj.Read(reference)
	if err != nil {
		return fmt.Errorf("shipped module: %w", err)
	}
	const this = ".gnu.linkonce.this_module"
	a, b := c.file.Section(this), ref.Section(this)
	if b == nil {
		return fmt.Errorf("shipped module: no section %s", this)
	}
	if a.Size() != b.Size() {
		return fmt.Errorf("struct module has %d bytes, in the target %d", a.Size(), b.Size())
	}
	for _, key := range []string{"vermagic", "retpoline"} {
		if x, y := modinfo(c.file)[key], modinfo(ref)[key]; !slices.Equal(x, y) {
			return fmt.Errorf("modinfo: %s is %q, in the target %q", key, x, y)
		}
	}
	x, y := versions(c.file), versions(ref)
	if (x == nil) != (y == nil) {
		return fmt.Errorf("symbol versions are in one of this module and the target's modules only")
	}
	for name, crc := range x {
		if name == "module_layout" && crc != y[name] {
			return fmt.Errorf("module_layout has version %#x, in the target %#x", crc, y[name])
		}
		if e, ok := c.target.Exports[name]; ok && e.CRC != crc {
			return fmt.Errorf("symbol %s has version %#x, in the target %#x", name, crc, e.CRC)
		}
	}
	for _, s := range c.file.Symbols {
		if _, versioned := x[s.Name]; x != nil && s.Undefined() && s.Bind != elf.STB_WEAK && !versioned {
			return fmt.Errorf("symbol %s has no version", s.Name)
		}
	}
	return nil
}

// versions reads __versions: entries of 64 bytes, an unsigned long CRC and a
// name that ends with a NUL (struct modversion_info).
func versions(f *elfobj.File) map[string]uint32 {
	s := f.Section("__versions")
	if s == nil {
		return nil
	}
	m := map[string]uint32{}
	for b := s.Data; len(b) >= 64; b = b[64:] {
		name, _, _ := bytes.Cut(b[8:64], []byte{0})
		m[string(name)] = uint32(binary.LittleEndian.Uint64(b))
	}
	return m
}
