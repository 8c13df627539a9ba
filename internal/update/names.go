// SPDX-License-Identifier: Apache-2.0

package update

import (
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// change is what becomes of a name.
type change uint8

const (
	introduced change = iota
	removed
	redefined // it is there on both sides, and its users have to change with it
	moved     // it stands elsewhere, and its users need not care
)

// def is a name that an edit introduces, removes or redefines.
type def struct {
	name   string
	change change
	kind   kind
	static bool   // seen in its own file only
	tag    string // the struct, union or enum that it is a member of, or ""
	edits  []int
}

// defs finds what the edits of a file do to names that others may use.
func (f *file) defs() []def {
	if !f.cSource() {
		return f.buildDefs()
	}
	var out []def
	for _, tags := range []bool{false, true} {
		out = append(out, f.defsOf(byName(f.oldDecls, tags), byName(f.newDecls, tags))...)
	}
	return append(out, f.constantDefs()...)
}

// constantDefs finds what becomes of the constants of enums without a tag.
func (f *file) constantDefs() []def {
	was, is := constants(f.old, f.oldDecls), constants(f.new, f.newDecls)
	var out []def
	put := func(name string, c change, at []int) {
		if len(at) > 0 {
			out = append(out, def{name: name, change: c, kind: macro, static: !f.header(), edits: at})
		}
	}
	for name, m := range is {
		switch before, ok := was[name]; {
		case !ok:
			put(name, introduced, f.touching(m.from, m.to, true))
		case before.text != m.text:
			put(name, redefined, slices.Concat(f.touching(m.from, m.to, true), f.touching(before.from, before.to, false)))
		}
	}
	for name, m := range was {
		if _, ok := is[name]; !ok {
			put(name, removed, f.touching(m.from, m.to, false))
		}
	}
	return out
}

func constants(lines []string, ds []decl) map[string]member {
	out := make(map[string]member)
	for _, d := range ds {
		if d.kind == aggregate && d.name == "" && strings.HasPrefix(d.head, "enum") {
			maps.Copy(out, members(lines, d))
		}
	}
	return out
}

// defsOf compares the declarations of one kind of names.
func (f *file) defsOf(olds, news map[string][]decl) []def {
	var out []def
	add := func(d decl, c change, side bool) {
		at := f.touching(d.from, d.to, side)
		if len(at) == 0 {
			return
		}
		local := !f.header() && (d.static || d.kind == macro || d.kind == aggregate)
		out = append(out, def{name: d.name, change: c, kind: d.kind, static: local, edits: at})
		if d.kind != aggregate || c == redefined {
			return
		}
		text := f.new
		if !side {
			text = f.old
		}
		for m := range members(text, d) {
			out = append(out, def{name: m, change: c, kind: d.kind, static: local, tag: d.name, edits: at})
		}
	}
	for name, ds := range news {
		was := olds[name]
		for i, d := range ds {
			switch {
			case len(was) == 0:
				add(d, introduced, true)
			case pairs(was, ds):
				out = append(out, f.memberDefs(was[i], d)...)
			case !slices.ContainsFunc(was, func(o decl) bool { return sameHead(o, d) }):
				add(d, redefined, true)
			}
		}
	}
	for name, ds := range olds {
		for _, d := range ds {
			switch is := news[name]; {
			case len(is) == 0:
				add(d, removed, false)
			case pairs(ds, is):
			case !slices.ContainsFunc(is, func(n decl) bool { return sameHead(n, d) }):
				add(d, redefined, false)
			}
		}
	}
	return out
}

// pairs tells whether a struct, union or enum of one name is declared as often
// before as after: an empty one may stand in an #else.
func pairs(was, is []decl) bool {
	no := func(d decl) bool { return d.kind != aggregate }
	return len(was) == len(is) && !slices.ContainsFunc(was, no) && !slices.ContainsFunc(is, no)
}

// sameHead compares what users depend on. A prototype and a definition of one
// function differ in their kind only.
func sameHead(a, b decl) bool {
	return a.kind == b.kind && a.head == b.head || (a.kind == macro) != (b.kind == macro)
}

// byName gives the structs, unions and enums of a file, or all else that has a
// name: a struct and the function that finds it often share theirs.
func byName(ds []decl, aggregates bool) map[string][]decl {
	out := make(map[string][]decl)
	for _, d := range ds {
		if d.name != "" && (d.kind == aggregate) == aggregates && d.kind != include && d.kind != conditional && d.kind != other {
			out[d.name] = append(out[d.name], d)
		}
	}
	return out
}

// memberDefs compares the members of a struct, union or enum.
func (f *file) memberDefs(old, new decl) []def {
	was, is := members(f.old, old), members(f.new, new)
	local := !f.header()
	var out []def
	put := func(name string, c change, at []int) {
		if len(at) > 0 {
			out = append(out, def{name: name, change: c, kind: aggregate, static: local, tag: new.name, edits: at})
		}
	}
	for name, m := range is {
		after := f.touching(m.from, m.to, true)
		switch before, ok := was[name]; {
		case !ok:
			put(name, introduced, after)
		case before.text != m.text:
			put(name, redefined, slices.Concat(after, f.touching(before.from, before.to, false)))
		default: // moved, perhaps: then both places are one change
			if b := f.touching(before.from, before.to, false); len(after) > 0 && len(b) > 0 {
				put(name, moved, slices.Concat(after, b))
			}
		}
	}
	for name, m := range was {
		if _, ok := is[name]; !ok {
			put(name, removed, f.touching(m.from, m.to, false))
		}
	}
	return out
}

// touching lists the edits that change lines of one side.
func (f *file) touching(from, to int, newSide bool) []int {
	var out []int
	for i, e := range f.edits {
		if newSide && overlaps(e.newFrom, e.newTo, from, to) || !newSide && overlaps(e.oldFrom, e.oldTo, from, to) {
			out = append(out, i)
		}
	}
	return out
}

var (
	configForm = regexp.MustCompile(`^\s*(?:menu)?config ([A-Za-z0-9_]+)`)
	objectForm = regexp.MustCompile(`([A-Za-z0-9_+-]+)\.o\b`)
)

// buildDefs finds the options that Kconfig files define.
func (f *file) buildDefs() []def {
	if !strings.HasPrefix(f.base(), "Kconfig") {
		return nil
	}
	find := func(text []string) map[string]int {
		out := make(map[string]int)
		for i, l := range text {
			if m := configForm.FindStringSubmatch(l); m != nil {
				out["CONFIG_"+m[1]] = i
			}
		}
		return out
	}
	was, is := find(f.old), find(f.new)
	var out []def
	for name, i := range is {
		if _, ok := was[name]; !ok {
			out = append(out, def{name: name, change: introduced, edits: f.touching(i, i+1, true)})
		}
	}
	for name, i := range was {
		if _, ok := is[name]; !ok {
			out = append(out, def{name: name, change: removed, edits: f.touching(i, i+1, false)})
		}
	}
	return out
}

// sources lists the files that changed lines of a makefile name the objects of.
func (f *file) sources() []string {
	base := f.base()
	if base != "Makefile" && base != "Kbuild" {
		return nil
	}
	var out []string
	for _, e := range f.edits {
		for _, l := range slices.Concat(f.old[e.oldFrom:e.oldTo], f.new[e.newFrom:e.newTo]) {
			for _, m := range objectForm.FindAllStringSubmatch(l, -1) {
				out = append(out, path.Join(f.dir(), m[1]+".c"))
			}
		}
	}
	return out
}
