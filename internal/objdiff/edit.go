// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/tsugi-project/tsugi/internal/layout"
)

// Edit is a variable of the target that the live patch edits in place while it
// is there: a table of operations that gets another function, a flag in it, an
// initial value.
type Edit struct {
	Variable string   `json:"variable"`
	Section  string   `json:"section"`
	Fields   []string `json:"fields"`
	Words    int      `json:"words"`
	// IfUnset: only where the variable still has its old initial value.
	IfUnset bool `json:"if_unset,omitempty"`
}

// editing is how one variable is edited, word by word.
type editing struct {
	atom  *atom // patched
	was   *atom // the original's
	exit  bool  // it is the pointer to the module's exit function
	words []word
	Edit
}

// word is naturally aligned, so that every field in it is written at once.
type word struct {
	off, size   uint64 // from the variable's entry
	old, new    uint64
	mask        uint64
	oldRef      *ref // nil: the bytes say it
	newRef      *ref
	oldAny      bool // what was there can't be named
	optional    bool // left as it is where somebody has set it already
	mayBeFilled bool // whoever registers it puts a default where nothing was
	stays       bool // a pointer where none was, which readers may have tested
}

// edit finds changed variables that can be edited in place. The others are
// left for judge to refuse; why is remembered for that.
func (r *Result) edit(c *comparer) {
	r.unedited = map[*atom]string{}
	for _, a := range r.patched.atoms {
		if a.kind != variable || a.private || a.state != changed || a.class != data || a.twin.size() != a.size() {
			continue
		}
		e, why := r.editOf(c, a)
		if why != "" {
			r.unedited[a] = why
			continue
		}
		r.edits = append(r.edits, e)
		r.Edits = append(r.Edits, e.Edit)
	}
	r.editExit()
	if why := r.carrier(); why != "" {
		for _, e := range r.edits {
			r.unedited[e.atom] = why
			if e.exit {
				pair(e.was, e.atom)
				e.atom.state = changed
			}
		}
		r.edits, r.Edits = nil, nil
	}
}

// editOf says how a variable is edited, or why it can't be.
func (r *Result) editOf(c *comparer, p *atom) (*editing, string) {
	o := p.twin
	switch {
	case r.opt.Field == nil:
		return nil, "no types are at hand"
	case r.patched.file.Machine != elf.EM_X86_64:
		return nil, "edits are written for x86_64 only"
	case strings.HasPrefix(p.sec.Name, ".data..percpu") || strings.HasPrefix(o.sec.Name, ".data..percpu"):
		return nil, "each CPU has its own"
	case len(p.special)+len(o.special) > 0 || p.sec.Name == "__dyndbg":
		return nil, "it belongs to a special section"
	}
	e := &editing{atom: p, was: o, Edit: Edit{Variable: p.name(), Section: o.sec.Name}}
	fields, why := r.changedFields(c, p)
	if why != "" {
		return nil, why
	}
	if len(fields) == 0 {
		return nil, "what differs is no field"
	}
	if copied := copiedBy(o); copied != "" {
		return nil, copied + " makes copies of it, which would keep the old"
	}
	apart := sync.OnceValue(func() string { return r.orig.takenApart(o) })
	for _, f := range fields {
		w, why := r.wordOf(c, p, f)
		if why == "" && w.newRef != nil && apart() != "" {
			why = apart() + " reads it member by member, and may keep them"
		}
		if why != "" {
			return nil, fieldName(p, f) + ": " + why
		}
		e.Fields = append(e.Fields, fieldName(p, f))
		e.IfUnset = e.IfUnset || w.optional
		e.addWord(w)
	}
	e.Words = len(e.words)
	return e, ""
}

func fieldName(p *atom, f layout.Field) string { return p.name() + f.Name }

// changedFields lists the fields of a variable that differ, in order.
func (r *Result) changedFields(c *comparer, p *atom) ([]layout.Field, string) {
	o := p.twin
	ob, pb := content(o), content(p)
	differ := make([]bool, len(pb))
	for i := range pb {
		differ[i] = ob[i] != pb[i]
	}
	or, why := pointers(o)
	if why != "" {
		return nil, why
	}
	pr, why := pointers(p)
	if why != "" {
		return nil, why
	}
	for off := range differ {
		at := uint64(off)
		a, b := or[at], pr[at]
		if (a == nil) != (b == nil) || a != nil && !c.targets(a.to, b.to, nil) {
			differ[off] = true
		}
	}
	var out []layout.Field
	for off := uint64(0); off < uint64(len(differ)); off++ {
		if !differ[off] {
			continue
		}
		f, ok := r.fieldOf(p, off)
		if !ok || f.Size == 0 || f.Off > off || f.Off+f.Size <= off || f.Off+f.Size > uint64(len(differ)) {
			return nil, fmt.Sprintf("types don't tell what lies at +%#x", off)
		}
		out = append(out, f)
		off = f.Off + f.Size - 1
	}
	return out, ""
}

// fieldOf asks for what lies at an offset of a variable, by any of its names.
func (r *Result) fieldOf(a *atom, off uint64) (layout.Field, bool) {
	f, ok := r.opt.Field(a.sym.Name, off)
	for i := 0; !ok && i < len(a.aliases); i++ {
		f, ok = r.opt.Field(a.aliases[i].Name, off)
	}
	return f, ok
}

// content is a variable's bytes; what lies in .bss has zeros.
func content(a *atom) []byte {
	if b := a.bytes(); b != nil {
		return b[a.entry-a.start:]
	}
	return make([]byte, a.size())
}

// pointers maps a variable's references by offset from its entry. A reference
// that is no whole pointer can't be written by itself.
func pointers(a *atom) (map[uint64]*ref, string) {
	out := map[uint64]*ref{}
	for i := range a.refs {
		f := &a.refs[i]
		if f.size != 8 || f.implicit || f.off < a.entry-a.start {
			return nil, "it has references that are no pointers"
		}
		out[f.off-(a.entry-a.start)] = f
	}
	return out, ""
}

// wordOf makes the edit of one field.
func (r *Result) wordOf(c *comparer, p *atom, f layout.Field) (word, string) {
	o := p.twin
	or, _ := pointers(o)
	pr, _ := pointers(p)
	w := word{oldRef: or[f.Off], newRef: pr[f.Off]}
	w.off, w.size = wordAt(p, f.Off)
	if f.Off+f.Size > w.off+w.size {
		return w, "it is larger than what can be written at once"
	}
	ob, pb := content(o), content(p)
	w.old, w.new = load(ob[w.off:w.off+w.size]), load(pb[w.off:w.off+w.size])
	w.mask = maskOf(f.Size) << (8 * (f.Off - w.off))
	writable := !readOnly(o.sec)
	if w.oldRef != nil || w.newRef != nil {
		if f.Size != 8 {
			return w, "it is no whole pointer"
		}
		if why := r.pointerEdit(p, f, &w); why != "" {
			return w, why
		}
		w.stays = w.oldRef == nil && w.old == 0
		w.mayBeFilled = writable && w.stays
		return w, ""
	}
	w.old, w.new = w.old&w.mask, w.new&w.mask
	w.optional = writable
	switch {
	case f.Of == "" && f.Name == "":
		if f.Kind != layout.FieldNumber && f.Kind != layout.FieldBool {
			return w, "it is no number"
		}
		return w, r.remembers(p)
	case f.Kind == layout.FieldNumber && wholeRecords[f.Of]:
		return w, ""
	case f.Kind != layout.FieldBool:
		return w, "a number in a table may be read twice, before and after: nothing keeps the two together"
	case !f.Operations:
		return w, describes(f)
	}
	if why := readAgain(f); why != "" {
		return w, why
	}
	if !switches[f.Of+"."+lastName(f.Name)] {
		return w, "a flag in a table may be read twice, before and after, and nobody has looked at the readers of this one"
	}
	return w, ""
}

func describes(f layout.Field) string {
	if f.Of == "" {
		return "what it describes may have been set up by it"
	}
	return "struct " + f.Of + " describes something that has been set up by it"
}

// pointerEdit judges a pointer that changes.
func (r *Result) pointerEdit(p *atom, f layout.Field, w *word) string {
	switch {
	case w.newRef == nil:
		return "a pointer goes away that readers may have tested already"
	case f.Kind != layout.FieldFunction && f.Kind != layout.FieldPointer:
		return "types don't say that it is a pointer"
	case f.Of == "":
		return "it is a pointer by itself: who has read it is not known"
	case f.Kind == layout.FieldPointer && !f.Operations:
		return describes(f)
	}
	if why := readAgain(f); why != "" {
		return why
	}
	t := w.newRef.to
	switch {
	case t.extern != nil:
	case t.atom == nil || t.atom.byContent():
		return "it would point into the live patch, and somebody may keep the pointer"
	case t.atom.kind == function && t.atom.class != text:
		return t.atom.name() + " lies in " + t.atom.sec.Name
	case t.atom.kind == function && t.off != 0:
		return "it points into a function"
	case t.atom.kind == function:
	case t.atom.state == fresh:
		return "it would point to " + t.atom.name() + " of the live patch, and somebody may keep the pointer"
	}
	w.oldAny = w.oldRef != nil && (w.oldRef.to.atom == nil && w.oldRef.to.extern == nil || w.oldRef.to.atom != nil && w.oldRef.to.atom.byContent())
	return ""
}

// wordAt returns the largest aligned word around a place that belongs to the
// variable wholly.
func wordAt(a *atom, off uint64) (at, size uint64) {
	align := max(a.sec.Align, 1)
	if a.entry%align != 0 {
		align = a.entry & -a.entry
	}
	for size = 8; size > 1; size /= 2 {
		at = off / size * size
		if size <= align && at+size <= a.size() {
			return at, size
		}
	}
	return off, 1
}

func load(b []byte) uint64 {
	var buf [8]byte
	copy(buf[:], b)
	return binary.LittleEndian.Uint64(buf[:])
}

func maskOf(size uint64) uint64 {
	if size >= 8 {
		return ^uint64(0)
	}
	return 1<<(8*size) - 1
}

// addWord joins the edits of fields that share a word.
func (e *editing) addWord(w word) {
	i := slices.IndexFunc(e.words, func(x word) bool { return x.off == w.off })
	if i < 0 {
		e.words = append(e.words, w)
		return
	}
	x := &e.words[i]
	x.old, x.new, x.mask = x.old&x.mask|w.old&w.mask, x.new&x.mask|w.new&w.mask, x.mask|w.mask
	x.optional = x.optional && w.optional
}

// brings reports whether a word points at a function that is new.
func (w *word) brings() bool {
	return w.newRef != nil && w.newRef.to.atom != nil && w.newRef.to.atom.kind == function && w.newRef.to.atom.state == fresh
}

// ByItself begins the reason of a function that is replaced by its own code.
const ByItself = "replaced by itself"

// carrier sees to it that a function is replaced when a table gets a pointer to
// a new one: the kernel looks for replaced functions on task stacks before it
// lets a live patch go, and the new ones lie behind one of them (klp, cold.go).
// Where the fix replaces none, one is replaced by itself.
func (r *Result) carrier() string {
	brings := slices.ContainsFunc(r.edits, func(e *editing) bool {
		return slices.ContainsFunc(e.words, func(w word) bool { return w.brings() })
	})
	if !brings || slices.ContainsFunc(r.patched.atoms, func(a *atom) bool {
		return a.kind == function && a.state == changed && a.parent == nil && a.class == text && r.orig.traceable(a.twin)
	}) {
		return ""
	}
	var best *atom
	for _, a := range r.patched.atoms {
		if a.kind != function || a.state != same || a.parent != nil || a.twin == nil || a.class != text || a.undecoded ||
			!strings.HasPrefix(a.sec.Name, ".text") || a.trampoline() || !r.orig.traceable(a.twin) || !r.patched.traceable(a) ||
			len(a.children) > 0 || alwaysRunning(a, r.patched) != "" ||
			slices.ContainsFunc(a.special, func(e *entry) bool { return e.key() != nil }) {
			continue
		}
		if best == nil || a.size() < best.size() {
			best = a
		}
	}
	if best == nil {
		return "no function is there to be replaced, behind which the kernel would look for tasks in the new one"
	}
	best.state, best.why, best.standIn = changed, ByItself+", so that the kernel waits for tasks in the new functions behind it", true
	return ""
}

// followEdits includes what edited words point at.
func (w *walker) followEdits() {
	for _, e := range w.r.edits {
		for i := range e.words {
			if f := e.words[i].newRef; f != nil {
				w.follow(f)
			}
		}
	}
}

// judgeEdits tells what a person should know of edits.
func (r *Result) judgeEdits() {
	for _, e := range r.edits {
		if e.exit {
			r.risk("TS8015", e.Variable, "")
			continue
		}
		if e.IfUnset {
			r.risk("TS8012", e.Variable, strings.Join(e.Fields, ", "))
		} else {
			r.risk("TS8011", e.Variable, strings.Join(e.Fields, ", "))
		}
		for i := range e.words {
			if w := &e.words[i]; w.brings() {
				r.risk("TS8004", w.newRef.to.atom.name(), "in "+e.Variable)
			}
		}
	}
}

func (r *Result) edited(a *atom) bool {
	return slices.ContainsFunc(r.edits, func(e *editing) bool { return e.atom == a })
}
