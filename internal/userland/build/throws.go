// SPDX-License-Identifier: Apache-2.0

package build

import (
	"debug/elf"
	"slices"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/insn"
)

// The unwinder of C++ finds a frame's table by the object that its code lies
// in. Code of a live patch lies in none: an exception that comes to it ends the
// process, though something further up would catch it. So a function that is
// carried may call only what throws nothing.

// quiet are functions of others that throw nothing and call nobody back.
var quiet = map[string]bool{
	"memcpy": true, "memmove": true, "memset": true, "memcmp": true, "memchr": true, "memrchr": true, "bcmp": true, "mempcpy": true,
	"strlen": true, "strnlen": true, "strcmp": true, "strncmp": true, "strcasecmp": true, "strncasecmp": true, "strchr": true,
	"strrchr": true, "strstr": true, "strcpy": true, "strncpy": true, "strcat": true, "strncat": true, "stpcpy": true,
	"__memcpy_chk": true, "__memmove_chk": true, "__memset_chk": true, "__strcpy_chk": true, "__strncpy_chk": true, "__strcat_chk": true,
	"malloc": true, "calloc": true, "realloc": true, "free": true, "abort": true, "__stack_chk_fail": true, "__errno_location": true,
	"_ZdlPv": true, "_ZdlPvm": true, "_ZdaPv": true, "_ZSt9terminatev": true,
	"pthread_mutex_lock": true, "pthread_mutex_unlock": true, "pthread_self": true,
}

// section is code as exceptions see it: what it calls, and where it jumps to.
type section struct {
	calls, jumps []*elfobj.Symbol
	opaque       bool // it jumps who knows where
	wild         bool // it calls who knows what
}

// thrower tells of code of two objects what may throw: of a unit, and of the
// part of it that a live patch carries.
type thrower struct {
	sections map[*elfobj.Section]*section
	byName   map[string]*elfobj.Section // functions of the unit; nil where two have one name
	throws   map[*elfobj.Section]bool
}

// passed lists the functions of an extract that exceptions may pass through.
func passed(unit, extract *elfobj.File) []string {
	t := &thrower{sections: map[*elfobj.Section]*section{}, byName: map[string]*elfobj.Section{}, throws: map[*elfobj.Section]bool{}}
	for _, f := range []*elfobj.File{unit, extract} {
		for _, s := range f.Sections {
			if s.Flags&elf.SHF_EXECINSTR != 0 {
				t.sections[s] = readCalls(s)
			}
		}
	}
	for _, s := range unit.Symbols {
		if s.Section == nil || s.Type != elf.STT_FUNC {
			continue
		}
		if other, ok := t.byName[s.Name]; ok && other != s.Section {
			t.byName[s.Name] = nil
			continue
		}
		t.byName[s.Name] = s.Section
	}
	for again := true; again; {
		again = false
		for s, c := range t.sections {
			if !t.throws[s] && (c.wild || c.opaque || slices.ContainsFunc(c.calls, t.mayThrow) || slices.ContainsFunc(c.jumps, t.mayThrow)) {
				t.throws[s], again = true, true
			}
		}
	}
	var out []string
	for _, s := range extract.Symbols {
		if s.Section == nil || s.Type != elf.STT_FUNC {
			continue
		}
		// What it jumps to at its end finds no frame of it.
		if c := t.sections[s.Section]; c != nil && (c.wild || slices.ContainsFunc(c.calls, t.mayThrow)) {
			out = append(out, s.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// mayThrow reports whether an exception may come out of what a symbol stands for.
func (t *thrower) mayThrow(s *elfobj.Symbol) bool {
	if s.Section == nil {
		if own, ok := t.byName[s.Name]; ok {
			return own == nil || t.throws[own]
		}
		return !quiet[s.Name]
	}
	return t.sections[s.Section] == nil || t.throws[s.Section]
}

// readCalls lists what a section of code calls and jumps to.
func readCalls(s *elfobj.Section) *section {
	at := make(map[uint64]*elfobj.Symbol, len(s.Relocs))
	for _, r := range s.Relocs {
		at[r.Off] = r.Sym
	}
	c := &section{}
	err := insn.Walk(s.Data, func(off int, in insn.Inst) error {
		switch in.Kind {
		case insn.Call:
			if to := at[uint64(off+in.RelOff)]; to != nil {
				c.calls = append(c.calls, to)
			}
		case insn.Jump, insn.CondJump:
			if to := at[uint64(off+in.RelOff)]; in.RelSize > 0 && to != nil {
				c.jumps = append(c.jumps, to)
			}
		case insn.IndirectCall:
			to := at[uint64(off+in.DispOff)]
			if !in.RIPRel || to == nil || to.Type == elf.STT_OBJECT || to.Type == elf.STT_SECTION {
				c.wild = true
				return nil
			}
			c.calls = append(c.calls, to) // through the GOT
		case insn.IndirectJump:
			c.opaque = true
		}
		return nil
	})
	c.wild = c.wild || err != nil
	return c
}
