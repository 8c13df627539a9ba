// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"debug/elf"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// linkage is what has to be undone when Kbuild has linked the module: names
// that exist only so that the linker and objtool keep apart what is apart.
type linkage struct {
	klp     map[string]klpSym // undefined names that livepatch resolves
	locals  map[string]string // renamed local symbols -> their own names
	aliases map[string]string // global names of replacements and hooks -> local link name
	clear   bool              // see clear.go
	edits   bool              // see edits.go
	stays   bool              // the module has no exit: see stays.go
	cold    map[string]bool   // link names of what is joined to functions, see cold.go
}

// prepare makes the pieces of all inputs, with every function proven and every
// undefined symbol resolved.
func prepare(t *Target, inputs []Input, proof *Proof) ([]*piece, error) {
	r := &resolver{target: t, defined: map[string][]definition{}, opened: map[string][]opened{}}
	type key struct{ object, module string } // two modules may have an object in common
	seen := map[key]bool{}
	var bad problems
	for i := range inputs {
		in := &inputs[i]
		if seen[key{in.Object, in.Module}] {
			return nil, code.New("TS5303", in.Object, "it is given twice")
		}
		seen[key{in.Object, in.Module}] = true
		p, err := newPiece(t, in, proof)
		if err != nil {
			if err = bad.add(in.Object, err); err != nil {
				return nil, err
			}
			continue
		}
		for _, s := range p.file.Symbols {
			if s.Section == nil || s.Bind == elf.STB_LOCAL {
				continue
			}
			_ = bad.add(in.Object, r.define(p, s))
		}
		for _, o := range in.Extract.Opened {
			r.opened[o.Name] = append(r.opened[o.Name], opened{p, o.Orig})
		}
		r.pieces = append(r.pieces, p)
	}
	for _, p := range r.pieces {
		if err := bad.add(p.in.Object, r.resolveAll(p)); err != nil {
			return nil, err
		}
	}
	// What only told where something is has nothing to bring.
	r.pieces = slices.DeleteFunc(r.pieces, func(p *piece) bool { return len(p.file.Sections) == 0 })
	return r.pieces, bad.join()
}

func newPiece(t *Target, in *Input, proof *Proof) (*piece, error) {
	o, err := t.owner(in.Module)
	if err != nil {
		return nil, err
	}
	if in.Plain == nil || in.Extract.File == nil {
		return nil, fmt.Errorf("%s: input without object files", in.Object)
	}
	file, syms, err := clone(in.Extract.File)
	if err != nil {
		return nil, fmt.Errorf("extract of %s: %w", in.Object, err)
	}
	p := &piece{
		in: in, layout: newLayout(in.Object, o, in.Plain), file: file,
		refs: map[*elfobj.Symbol]objdiff.Ref{}, klp: map[*elfobj.Symbol]klpSym{}, spaces: map[string]bool{},
		linked: map[*elfobj.Symbol]*elfobj.Symbol{},
	}
	for _, ref := range in.Extract.Refs {
		p.refs[syms[ref.Symbol]] = ref
	}
	for _, f := range in.Extract.Replaced {
		fn, err := p.replacement(f, syms[f.New], proof)
		if err != nil {
			return nil, err
		}
		p.funcs = append(p.funcs, fn)
	}
	for _, h := range in.Extract.Hooks {
		sym := syms[h.Symbol]
		if sym == nil || sym.Section == nil {
			return nil, fmt.Errorf("extract of %s: %s hook without a definition", in.Object, h.Kind)
		}
		p.hooks = append(p.hooks, hook{h.Kind, sym})
	}
	if err := p.editSymbol(syms); err != nil {
		return nil, err
	}
	if err := p.proveEdited(proof); err != nil {
		return nil, err
	}
	// The pointers of tsugi/livepatch.h have said what they had to say.
	p.drop(func(s *elfobj.Section) bool { return strings.HasPrefix(s.Name, ".tsugi.") })
	for _, s := range file.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && (strings.HasPrefix(s.Name, ".init") || strings.HasPrefix(s.Name, ".exit")) {
			return nil, code.New("TS5209", in.Object, "section "+s.Name)
		}
	}
	return p, nil
}

func (p *piece) replacement(f objdiff.Replacement, new *elfobj.Symbol, proof *Proof) (replaced, error) {
	if f.Orig == nil || new == nil || new.Section == nil {
		return replaced{}, fmt.Errorf("extract of %s: a replacement is not in its file", p.in.Object)
	}
	where := p.in.Object + ": " + f.Orig.Name
	orig := p.layout.names[f.Orig.Name]
	if orig == nil || orig.Type != elf.STT_FUNC {
		return replaced{}, code.New("TS5108", where, "the plain compile has no such function")
	}
	if strings.HasPrefix(orig.Section.Name, ".init") || strings.HasPrefix(orig.Section.Name, ".exit") {
		return replaced{}, code.New("TS5209", where, "it lies in section "+orig.Section.Name)
	}
	entry, err := p.layout.find(orig)
	if err != nil {
		return replaced{}, err
	}
	if orig.Bind == elf.STB_WEAK && !p.layout.has(entry.at, orig.Name) {
		return replaced{}, code.New("TS5105", where, "it is weak, and another definition is the one that runs")
	}
	if err := p.layout.proveFunction(orig, proof); err != nil {
		return replaced{}, err
	}
	pos, err := p.layout.owner.position(entry)
	if err != nil {
		return replaced{}, err
	}
	return replaced{orig: orig, new: new, entry: entry, pos: pos, change: f.Change}, nil
}

// drop removes sections and the symbols in them. Nothing may refer to them.
func (p *piece) drop(unwanted func(*elfobj.Section) bool) {
	gone := map[*elfobj.Section]bool{}
	p.file.Sections = slices.DeleteFunc(p.file.Sections, func(s *elfobj.Section) bool {
		gone[s] = unwanted(s)
		return gone[s]
	})
	p.file.RemoveSymbols(func(s *elfobj.Symbol) bool { return gone[s.Section] })
}

// resolveAll settles every undefined symbol that something refers to.
func (r *resolver) resolveAll(p *piece) error {
	used := map[*elfobj.Symbol]bool{}
	for _, s := range p.file.Sections {
		for _, rel := range s.Relocs {
			used[rel.Sym] = true
		}
	}
	for _, sym := range p.file.Symbols {
		if !sym.Undefined() || !used[sym] {
			continue
		}
		ref, ok := p.refs[sym]
		if !ok {
			// By name alone a static variable could be taken for a global one.
			return fmt.Errorf("extract of %s: nothing says what symbol %s stands for", p.in.Object, sym.Name)
		}
		if err := r.resolve(p, sym, ref); err != nil {
			return err
		}
	}
	p.file.RemoveSymbols(func(s *elfobj.Symbol) bool { return s.Undefined() && !used[s] })
	return nil
}

// reserved are names that the module's own parts define.
var reserved = []string{"init_module", "cleanup_module", "__this_module"}

// name gives every symbol a name that is its own in the link. Original names
// stay wherever they can, because objtool knows functions that do not return
// by their names.
//
// own are the symbols that the module's own part refers to, by their names.
func name(t *Target, pieces []*piece, own []klpSym) *linkage {
	ln := &linkage{klp: map[string]klpSym{}, locals: map[string]string{}, aliases: map[string]string{}, cold: map[string]bool{}, clear: len(own) > 0}
	taken := map[string]bool{}
	for _, n := range reserved {
		taken[n] = true
	}
	ln.nameLocals(pieces, taken)

	link := map[klpSym]string{}
	for _, k := range own {
		taken[k.name], link[k], ln.klp[k.name] = true, k.name, k
	}
	for _, p := range pieces {
		for _, sym := range p.file.Symbols {
			k, ok := p.klp[sym]
			if !ok {
				continue
			}
			if link[k] == "" {
				n := k.name
				if _, exported := t.Exports[n]; exported || taken[n] {
					n = fmt.Sprintf("tsugi_sym_%d_%s", len(link), k.name)
				}
				taken[n], link[k], ln.klp[n] = true, n, k
			}
			// modpost is silent about weak symbols; livepatch has no notion of them.
			sym.Name, sym.Bind = link[k], elf.STB_GLOBAL
		}
	}
	return ln
}

// nameLocals keeps local functions of one name in several pieces apart:
// objtool finds the parent of "x.cold" by name.
func (ln *linkage) nameLocals(pieces []*piece, taken map[string]bool) {
	count := map[string]int{}
	for _, p := range pieces {
		for _, s := range p.file.Symbols {
			switch {
			case s.Section == nil || s.Type == elf.STT_SECTION:
			case s.Bind != elf.STB_LOCAL, s.Type == elf.STT_FUNC:
				taken[s.Name] = true
				count[s.Name]++
			}
		}
	}
	for i, p := range pieces {
		for _, s := range p.file.Symbols {
			if s.Bind != elf.STB_LOCAL || s.Type != elf.STT_FUNC || s.Section == nil {
				continue
			}
			parent, _, _ := strings.Cut(s.Name, ".cold")
			if count[parent] > 1 || count[s.Name] > 1 {
				own := s.Name
				s.Name = fmt.Sprintf("tsugi_%d_%s", i, own)
				ln.locals[s.Name] = own
			}
		}
	}
}

// alias adds a global name for a function that tables.c has to refer to.
func (ln *linkage) alias(p *piece, sym *elfobj.Symbol, name string) {
	global := *sym
	global.Name, global.Bind = name, elf.STB_GLOBAL
	p.file.Symbols = append(p.file.Symbols, &global)
	ln.aliases[name] = sym.Name
}

// namespaces lists what the module must import.
func namespaces(pieces []*piece) []string {
	all := map[string]bool{}
	for _, p := range pieces {
		maps.Copy(all, p.spaces)
	}
	return slices.Sorted(maps.Keys(all))
}
