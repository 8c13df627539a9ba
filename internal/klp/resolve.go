// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// klpSym names a symbol for the kernel's livepatch core.
type klpSym struct {
	// rela is the object whose loading applies the relocations that use it:
	// vmlinux's are applied when the patch loads, a module's when both are
	// there. Code of a module that uses a vmlinux symbol has it in vmlinux's,
	// because the kernel accepts nothing else.
	rela   string
	object string // that has the symbol
	name   string
	pos    int
}

// module reports whether the symbol is written only when a module is there.
func (k klpSym) module() bool { return k.rela != Vmlinux && k.rela != "" }

// piece is one input on its way into the module.
type piece struct {
	in     *Input
	layout *layout
	file   *elfobj.File // private copy of the extract
	funcs  []replaced
	refs   map[*elfobj.Symbol]objdiff.Ref // by undefined symbol of file
	// klp holds, by undefined symbol of file, what livepatch resolves. The
	// other undefined symbols are resolved by name: exports, new globals of
	// other pieces, and weak symbols that may stay undefined.
	klp map[*elfobj.Symbol]klpSym
	// linked holds, by undefined symbol of file, what another piece brings and
	// this one takes the address of.
	linked map[*elfobj.Symbol]*elfobj.Symbol
	spaces map[string]bool // namespaces of the exports used
	hooks  []hook
	edits  *elfobj.Symbol // table of edits, in file
}

// replaced is a function of the target and its replacement.
type replaced struct {
	orig   *elfobj.Symbol // in plain
	new    *elfobj.Symbol // in file
	entry  *symEntry
	pos    int
	change string
}

type hook struct {
	kind objdiff.HookKind
	sym  *elfobj.Symbol // in file
}

// object is the name that livepatch knows the piece's owner by.
func (p *piece) object() string { return p.layout.owner.String() }

// resolver finds what undefined symbols stand for.
type resolver struct {
	target *Target
	pieces []*piece
	// defined maps the global names that extracts define to where they do: a
	// module's may be another's as well.
	defined map[string][]definition
	// opened maps the names of what was static, and is global now, to where.
	opened map[string][]opened
}

type opened struct {
	piece *piece
	orig  *elfobj.Symbol
}

// definition is a global that an extract brings.
type definition struct {
	piece *piece
	sym   *elfobj.Symbol
}

// define notes a global. The second of a name, in another module, gets a name
// of its own in the link.
func (r *resolver) define(p *piece, s *elfobj.Symbol) error {
	name := s.Name
	for _, other := range r.defined[name] {
		if other.piece.layout.owner == p.layout.owner {
			return code.New("TS5303", name, fmt.Sprintf("%s and %s both define it", other.piece.in.Object, p.in.Object))
		}
	}
	if n := len(r.defined[name]); n > 0 {
		s.Name = fmt.Sprintf("tsugi_new_%d_%s", n, name)
	}
	r.defined[name] = append(r.defined[name], definition{p, s})
	return nil
}

// definition returns what a piece means by a name that extracts define: its
// own module's, vmlinux's, or another's; nil if there is none.
func (r *resolver) definition(p *piece, name string) *definition {
	var found *definition
	for i, d := range r.defined[name] {
		switch {
		case d.piece.layout.owner == p.layout.owner:
			return &r.defined[name][i]
		case found == nil || d.piece.layout.owner.ko == nil:
			found = &r.defined[name][i]
		}
	}
	return found
}

// resolve settles one undefined symbol of a piece.
func (r *resolver) resolve(p *piece, sym *elfobj.Symbol, ref objdiff.Ref) error {
	if ref.Orig != nil && ref.Orig.Section != nil {
		return r.own(p, sym, ref)
	}
	err := r.extern(p, sym, ref)
	if p, ok := err.(*code.Problem); ok && p.Code == "TS5201" && sym.Bind == elf.STB_WEAK {
		return nil // stays undefined, and zero, as in the kernel itself
	}
	return err
}

// own resolves a symbol that the object itself defines.
func (r *resolver) own(p *piece, sym *elfobj.Symbol, ref objdiff.Ref) error {
	def := p.layout.names[ref.Orig.Name]
	if def == nil {
		return code.New("TS5108", p.in.Object+": "+ref.Orig.Name, "needed by "+p.users(sym))
	}
	entry, err := p.layout.find(def)
	if def.Bind == elf.STB_WEAK && err != nil {
		// Another object's definition has won.
		return r.extern(p, sym, ref)
	}
	if err != nil {
		return err
	}
	return r.place(p, p.layout.owner, sym, entry, ref)
}

// extern resolves a global symbol of somewhere else, in the order in which the
// kernel's own link would: the object's module, the kernel proper, the modules.
func (r *resolver) extern(p *piece, sym *elfobj.Symbol, ref objdiff.Ref) error {
	name := sym.Name
	if ref.Orig != nil {
		name = ref.Orig.Name
	} else if def := r.definition(p, name); def != nil {
		return r.link(p, def, sym, ref)
	}
	self := p.layout.owner
	if self.ko != nil {
		entry, err := self.global(name)
		if err != nil {
			return err
		}
		if entry != nil {
			return r.place(p, self, sym, entry, ref)
		}
	}
	export, exported := r.target.Exports[name]
	if exported && export.Module != Vmlinux {
		return r.fromModule(p, sym, name, export.Module, ref)
	}
	kernel, err := r.target.owner("")
	if err != nil {
		return err
	}
	entry, err := kernel.global(name)
	if err != nil && !exported {
		return err
	}
	if exported {
		if err := r.sealed(p, kernel, sym, entry, ref); err != nil {
			return err
		}
		if export.Namespace != "" {
			p.spaces[export.Namespace] = true
		}
		sym.Name = name
		return nil
	}
	if entry != nil {
		return r.place(p, kernel, sym, entry, ref)
	}
	if def := r.definition(p, name); def != nil {
		return r.link(p, def, sym, ref)
	}
	if o := r.openedFor(p, name); o != nil {
		return r.fromOpened(p, o, sym, ref)
	}
	return code.New("TS5201", name, "needed by "+p.users(sym))
}

// link refers to what another piece brings. Code of a module may run only when
// that module is there, so only the same module's code may call it.
func (r *resolver) link(p *piece, d *definition, sym *elfobj.Symbol, ref objdiff.Ref) error {
	def, name := d.piece, sym.Name
	sym.Name = d.sym.Name
	if ref.Pointer {
		p.linked[sym] = d.sym
	}
	if def.layout.owner == p.layout.owner || def.layout.owner.ko == nil {
		return nil
	}
	if p.layout.owner.ko == nil {
		return code.New("TS5207", name, fmt.Sprintf("%s uses it, %s of %s defines it", p.users(sym), def.in.Object, def.object()))
	}
	return r.after(p, def.object(), name)
}

// fromModule resolves what another module exports.
func (r *resolver) fromModule(p *piece, sym *elfobj.Symbol, name, module string, ref objdiff.Ref) error {
	if p.layout.owner.ko == nil {
		return code.New("TS5207", name, fmt.Sprintf("%s uses it, module %s defines it", p.users(sym), module))
	}
	if err := r.after(p, module, name); err != nil {
		return err
	}
	o, err := r.target.owner(module)
	if err != nil {
		return err
	}
	entry, err := o.global(name)
	if err != nil {
		return err
	}
	if entry == nil {
		return code.New("TS5201", name, fmt.Sprintf("Module.symvers says that module %s exports it, but it is not there", module))
	}
	return r.place(p, o, sym, entry, ref)
}

// openedFor finds it: in the piece's own module before any other.
func (r *resolver) openedFor(p *piece, name string) *opened {
	list := r.opened[name]
	for i := range list {
		if list[i].piece.layout.owner == p.layout.owner {
			return &list[i]
		}
	}
	if len(list) == 0 {
		return nil
	}
	return &list[0]
}

// fromOpened resolves what another object of the fix makes global: in the
// target it is static, and found by its place.
func (r *resolver) fromOpened(p *piece, o *opened, sym *elfobj.Symbol, ref objdiff.Ref) error {
	owner := o.piece.layout.owner
	switch {
	case owner == p.layout.owner || owner.ko == nil:
	case p.layout.owner.ko == nil:
		return code.New("TS5207", sym.Name, fmt.Sprintf("%s uses it, module %s defines it", p.users(sym), owner))
	default:
		if err := r.after(p, owner.module, sym.Name); err != nil {
			return err
		}
	}
	def := o.piece.layout.names[o.orig.Name]
	if def == nil {
		return code.New("TS5108", o.piece.in.Object+": "+o.orig.Name, "needed by "+p.users(sym))
	}
	entry, err := o.piece.layout.find(def)
	if err != nil {
		return err
	}
	return r.place(p, owner, sym, entry, ref)
}

// after makes sure that module is loaded whenever the piece's own module is.
func (r *resolver) after(p *piece, module, name string) error {
	todo, seen := []string{p.in.Module}, map[string]bool{}
	for len(todo) > 0 {
		m := todo[0]
		todo = todo[1:]
		if m == module {
			return nil
		}
		if seen[m] {
			continue
		}
		seen[m] = true
		o, err := r.target.owner(m)
		if err != nil {
			return err
		}
		todo = append(todo, depends(o.ko)...)
	}
	return code.New("TS5206", name, fmt.Sprintf("%s of module %s uses it, but that module does not depend on %s", p.in.Object, p.in.Module, module))
}

// depends lists the modules that a module needs, from its .modinfo.
func depends(ko *elfobj.File) []string {
	v := modinfo(ko)["depends"]
	if len(v) == 0 || v[0] == "" {
		return nil
	}
	return strings.Split(strings.ReplaceAll(v[0], "-", "_"), ",")
}

// modinfo splits a module's .modinfo section, "key=value" and NUL each.
func modinfo(ko *elfobj.File) map[string][]string {
	m := map[string][]string{}
	if s := ko.Section(".modinfo"); s != nil {
		for item := range strings.SplitSeq(string(s.Data), "\x00") {
			if k, v, ok := strings.Cut(item, "="); ok {
				m[k] = append(m[k], v)
			}
		}
	}
	return m
}

// place decides how code reaches an entry: by a livepatch symbol, or by an
// ordinary import when the kernel proper exports it under this name.
func (r *resolver) place(p *piece, o *owner, sym *elfobj.Symbol, entry *symEntry, ref objdiff.Ref) error {
	if err := r.sealed(p, o, sym, entry, ref); err != nil {
		return err
	}
	if o.ko == nil && entry.global {
		if x, ok := r.target.Exports[entry.name]; ok && x.Module == Vmlinux {
			if x.Namespace != "" {
				p.spaces[x.Namespace] = true
			}
			sym.Name = entry.name
			return nil
		}
	}
	pos, err := o.position(entry)
	if err != nil {
		return err
	}
	k := klpSym{rela: p.object(), object: o.String(), name: entry.name, pos: pos}
	if o.ko == nil {
		k.rela = Vmlinux
	}
	p.klp[sym] = k
	return nil
}

// sealed refuses a new pointer to a function that no pointer may lead to: on
// hardware with indirect branch tracking a call by it would fault. Such a
// function has no ENDBR because the compiler saw nobody take its address, or
// the kernel has overwritten it at boot for the same reason.
func (r *resolver) sealed(p *piece, o *owner, sym *elfobj.Symbol, entry *symEntry, ref objdiff.Ref) error {
	if !ref.NewPointer || entry == nil || !entry.code {
		return nil
	}
	s, err := r.target.seals(o)
	if err != nil || !s.tracked {
		return err
	}
	why := "the kernel overwrites its ENDBR at boot"
	if !s.places[entry.at] {
		b, _, err := o.bytes(entry.at, uint64(len(endbr64)))
		if err == nil && bytes.Equal(b, endbr64) {
			return nil
		}
		why = "it does not begin with ENDBR"
	}
	return code.New("TS5205", entry.name, fmt.Sprintf("in %s, used by %s: %s", o, p.users(sym), why))
}

var endbr64 = []byte{0xf3, 0x0f, 0x1e, 0xfa}

// users names the functions or sections that refer to an undefined symbol.
func (p *piece) users(sym *elfobj.Symbol) string {
	var names []string
	for _, s := range p.file.Sections {
		if slices.ContainsFunc(s.Relocs, func(r elfobj.Reloc) bool { return r.Sym == sym }) {
			names = append(names, strings.TrimPrefix(s.Name, ".text."))
		}
	}
	if len(names) == 0 {
		return p.in.Object
	}
	return p.in.Object + " (" + strings.Join(names, ", ") + ")"
}
