// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"slices"

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
func (p *piece) leadsHere() bool {
	const newAt = 16
	for _, r := range p.edits.Section.Relocs {
		if r.Off%objdiff.EditSize == newAt && r.Sym != nil && r.Sym.Section != nil {
			return true
		}
	}
	return false
}
