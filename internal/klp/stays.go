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
		for _, s := range p.in.Extract.Lent {
			out = append(out, p.in.Object+": "+s)
		}
		// That of edits is known for certain here.
		if len(p.in.Extract.Lent) == 0 && p.edits != nil && p.leadsHere() {
			out = append(out, p.in.Object+": an edited table")
		}
	}
	return slices.Compact(out)
}

// leadsHere reports whether an edit writes an address of the module's own.
func (p *piece) leadsHere() bool { return len(p.written()) > 0 }

// written lists the relocations by which edits write such addresses.
func (p *piece) written() (out []elfobj.Reloc) {
	const newAt = 16
	if p.edits == nil {
		return nil
	}
	for _, r := range p.edits.Section.Relocs {
		if r.Off%objdiff.EditSize == newAt && r.Sym != nil && r.Sym.Section != nil {
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
