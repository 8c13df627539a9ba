// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// The kernel unloads a disabled live patch when no task runs in it, and knows
// nothing of pointers that others keep: an RCU callback, a work item, a name. A
// module without exit function is one that it never unloads ("[permanent]" in
// /proc/modules): such a module is made of a live patch that gives addresses of
// its own away (objdiff, lend.go). Disabled or replaced, it does nothing.

// staysInfo is the key in .modinfo by which people see it in the file.
const staysInfo = "tsugi_stays"

// stays lists what a module made of the pieces gives away.
func stays(pieces []*piece) []string {
	var out []string
	for _, p := range pieces {
		before := len(out)
		for _, s := range p.in.Extract.Lent {
			out = append(out, p.in.Object+": "+s)
		}
		// An object alone does not tell that what it refers to is another one's
		// of this module.
		for _, sym := range p.file.Symbols {
			if p.linked[sym] != nil {
				out = append(out, p.in.Object+": "+sym.Name)
			}
		}
		// That of edits is known for certain here.
		if len(out) == before && len(p.written()) > 0 {
			out = append(out, p.in.Object+": an edited table")
		}
	}
	return slices.Compact(out)
}

// written lists the relocations by which edits write addresses of the module's
// own, each with the symbol that a piece defines.
func (p *piece) written() (out []elfobj.Reloc) {
	const newAt = 16
	if p.edits == nil {
		return nil
	}
	for _, r := range p.edits.Section.Relocs {
		if r.Off%objdiff.EditSize != newAt || r.Sym == nil {
			continue
		}
		if to := p.linked[r.Sym]; to != nil {
			r.Sym = to
		}
		if r.Sym.Section != nil {
			out = append(out, r)
		}
	}
	return out
}

// landings refuses an edit by which a table leads to a function of the module
// that does not begin with ENDBR, if the kernel tracks indirect branches. The
// compiler puts one where it sees the address taken.
func (t *Target) landings(p *piece) error {
	s, err := t.seals(p.layout.owner)
	if err != nil || !s.tracked {
		return err
	}
	for _, r := range p.written() {
		to, at := r.Sym.Section, r.Sym.Value+uint64(r.Addend)
		if to.Exec() && (at > uint64(len(to.Data)) || !bytes.HasPrefix(to.Data[at:], endbr64)) {
			return code.New("TS5205", r.Sym.Name, fmt.Sprintf("in %s, which an edited table would point to: it does not begin with ENDBR", p.in.Object))
		}
	}
	return nil
}
