// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// Open reads a shipped file with what is known of its symbols.
func Open(s *userland.Shipped) (*Linked, error) {
	data, err := os.ReadFile(s.File)
	if err != nil {
		return nil, err
	}
	f, err := dso.Open(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.File, err)
	}
	if f.BuildID != s.BuildID {
		return nil, code.New("TS3510", s.Path, "its build-id is "+f.BuildID+", not "+s.BuildID)
	}
	list, err := s.Symbols()
	if err != nil {
		return nil, err
	}
	l := &Linked{File: f, Name: s.Name, Path: s.Path}
	for _, x := range list {
		y := dso.Symbol{Name: x.Name, Value: x.Addr, Size: x.Size, Source: x.File, Section: 1, Type: elf.STT_OBJECT, Bind: elf.STB_GLOBAL}
		switch {
		case x.TLS:
			y.Type = elf.STT_TLS
		case x.IFunc:
			y.Type = elf.STT_GNU_IFUNC
		case x.Func:
			y.Type = elf.STT_FUNC
		}
		if x.Local {
			y.Bind = elf.STB_LOCAL
		}
		l.Symbols = append(l.Symbols, y)
	}
	return l, nil
}

// member is a unit in one linked file.
type member struct {
	*unit
	Unit
}

// splice compares the units that each file was linked of, and packs what
// changed. A unit that changes and is in no file is an error unless the links
// tell that it belongs elsewhere.
func (b *job) splice(ctx context.Context) error {
	changed, err := b.changed()
	if err != nil || len(changed) == 0 {
		return err
	}
	files := b.t.Files
	if b.req.files != nil {
		files = b.req.files
	}
	b.splices = map[string][]byte{}
	homeless := map[*unit]string{} // and why
	for _, m := range changed {
		homeless[m.unit] = "no file of the package was linked of it"
	}
	proven := map[*unit]bool{}
	for i := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.spliceFile(&files[i], changed, proven, homeless); err != nil {
			return fmt.Errorf("%s: %w", files[i].Name, err)
		}
	}
	known := b.linksKnown(files)
	for _, m := range changed {
		why, alone := homeless[m.unit]
		switch {
		case !alone:
		case known:
			b.report.Unbuilt = append(b.report.Unbuilt, Unbuilt{m.source, "not-built", m.Object + ": " + why})
		case !slices.ContainsFunc(changed, func(o member) bool { return proven[o.unit] && o.Source == m.Source }):
			return code.New("TS3512", m.source, m.Object+": "+why)
		}
	}
	return nil
}

// changed compiles to other objects: the units that are left to compare.
func (b *job) changed() ([]member, error) {
	var list []member
	for _, u := range b.units {
		m := member{unit: u, Unit: Unit{Source: u.source}}
		var err error
		if m.Orig, err = readObject(u.orig); err != nil {
			return nil, err
		}
		if m.Patched, err = readObject(u.patched); err != nil {
			return nil, err
		}
		same, err := equal(m.Orig, m.Patched)
		if err != nil {
			return nil, err
		}
		if same {
			b.report.Units = append(b.report.Units, UnitInfo{Source: u.source, Object: u.Object})
			continue
		}
		if isAssembly(u.Command.Source) {
			return nil, code.New("TS3104", u.source, "")
		}
		if m.Plain, err = readObject(u.plain); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func readObject(file string) (*elfobj.File, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f, err := elfobj.Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return f, nil
}

// equal reports whether two objects are the same but for the types' order in
// BTF, which is another each time.
func equal(x, y *elfobj.File) (bool, error) {
	strip := func(f *elfobj.File) ([]byte, error) {
		g := *f
		g.Sections = slices.DeleteFunc(slices.Clone(f.Sections), func(s *elfobj.Section) bool { return s.Name == ".BTF" })
		g.Symbols = slices.DeleteFunc(slices.Clone(f.Symbols), func(s *elfobj.Symbol) bool {
			return s.Section != nil && s.Section.Name == ".BTF"
		})
		return g.Bytes()
	}
	a, err := strip(x)
	if err != nil {
		return false, err
	}
	c, err := strip(y)
	return bytes.Equal(a, c), err
}

// linksKnown reports whether the build recorded what each file was linked of.
func (b *job) linksKnown(files []userland.Shipped) bool {
	return !slices.ContainsFunc(files, func(f userland.Shipped) bool { return len(b.linked(&f)) == 0 })
}

func (b *job) linked(f *userland.Shipped) []string {
	if f.RebuiltInside == "" {
		return nil
	}
	return b.t.Commands().LinkedInto(f.RebuiltInside)
}

// spliceFile makes the splice of one file.
func (b *job) spliceFile(s *userland.Shipped, changed []member, proven map[*unit]bool, homeless map[*unit]string) error {
	inputs := b.linked(s)
	var list []member
	for _, m := range changed {
		if inputs == nil || slices.Contains(inputs, m.Object) {
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		return nil
	}
	l, err := Open(s)
	if err != nil {
		return err
	}
	opt := Options{Accept: b.accepts, EntryOnly: b.req.EntryOnly}
	var here []member
	if inputs != nil {
		for _, m := range list {
			if absent(l, m.Unit) {
				homeless[m.unit] = "the linker had no need of it"
				continue
			}
			delete(homeless, m.unit)
			here = append(here, m)
		}
	} else if here, err = variants(l, list, opt, homeless); err != nil {
		return err
	}
	var in []Unit
	for _, m := range here {
		in = append(in, m.Unit)
		proven[m.unit] = true
	}
	if len(in) == 0 {
		return nil
	}
	r, err := Splice(l, in, opt)
	if err != nil {
		return err
	}
	return b.add(s, l, r, here)
}

// variants finds which compilations of a source are in a file of which no links
// are known: those whose code is there, byte by byte. Of two that are the same
// code the first is taken.
func variants(l *Linked, list []member, opt Options, homeless map[*unit]string) ([]member, error) {
	taken := map[uint64]bool{}
	var here, refused []member
	for _, m := range prefer(list) {
		if absent(l, m.Unit) {
			continue
		}
		one, err := Splice(l, []Unit{m.Unit}, opt)
		if p, ok := errors.AsType[*code.Problem](err); ok && (p.Code == "TS3510" || p.Code == "TS3511") {
			homeless[m.unit] = p.Error()
			continue
		}
		if err != nil {
			return nil, err
		}
		delete(homeless, m.unit)
		if one.Refused() {
			refused = append(refused, m)
			continue
		}
		again := one.Splice != nil
		if again {
			for _, f := range one.Splice.Functions {
				again = again && taken[f.Old]
				taken[f.Old] = true
			}
		}
		if !again {
			here = append(here, m)
		}
	}
	// A refusal counts unless another compilation of the source is in the file
	// too and goes: that for a static library may be the same old code.
	for _, m := range refused {
		if !slices.ContainsFunc(here, func(o member) bool { return o.Unit.Source == m.Unit.Source }) {
			here = append(here, m)
		}
	}
	return here, nil
}

// prefer puts position-independent variants of a source first.
func prefer(list []member) []member {
	rank := func(m member) int {
		for _, a := range m.Argv {
			if a == "-fPIC" || a == "-DPIC" || a == "-DSHARED" {
				return 0
			}
		}
		return 1
	}
	out := slices.Clone(list)
	slices.SortStableFunc(out, func(x, y member) int { return rank(x) - rank(y) })
	return out
}

// absent reports whether nothing that a unit defines for others is in a file:
// an archive's object that the linker had no need of.
func absent(l *Linked, u Unit) bool {
	have := map[string]bool{}
	for _, s := range l.Symbols {
		have[bareName(s.Name)] = true
	}
	for _, s := range u.Plain.Symbols {
		if s.Section != nil && s.Type == elf.STT_FUNC && have[bareName(s.Name)] {
			return false
		}
	}
	return true
}

// add puts the result of one file into the report.
func (b *job) add(s *userland.Shipped, l *Linked, r *Result, here []member) error {
	rep := b.report
	why := map[string]string{}
	for i, u := range r.Units {
		info := UnitInfo{Source: u.Source, Object: here[i].Object, File: s.Name}
		for _, f := range u.Diff.Changed {
			info.Changed = append(info.Changed, f.Name)
			why[u.Source+" "+f.Name] = f.Why
		}
		for _, f := range u.Diff.New {
			info.New = append(info.New, f.Name)
		}
		rep.Units = append(rep.Units, info)
	}
	rep.Refusals = added(rep.Refusals, r.Refusals)
	rep.Risks = added(rep.Risks, r.Risks)
	rep.Proven.Functions += r.Proven.Functions
	rep.Proven.Bytes += r.Proven.Bytes
	if r.Splice == nil {
		return nil
	}
	encoded, err := r.Splice.Encode()
	if err != nil {
		return err
	}
	b.splices[s.BuildID] = encoded
	rep.Files = append(rep.Files, File{
		FileRef:   livepatch.FileRef{BuildID: s.BuildID, Name: s.Name, Path: s.Path, Package: b.t.Package},
		Identical: s.Identical, Text: len(r.Splice.Text), ROData: len(r.Splice.ROData), Data: len(r.Splice.Data) + int(r.Splice.BSS),
	})
	for _, f := range r.Splice.Functions {
		change := why[f.Source+" "+f.Name]
		if change == "" {
			change = "changed"
		}
		rep.Replaced = append(rep.Replaced, livepatch.Function{
			Object: s.Name, Name: f.Name, SymPos: position(l, f), Change: change, Source: f.Source,
		})
	}
	return nil
}

// added appends what is not yet there: a unit may be in several files.
func added(to, more []Problem) []Problem {
	for _, p := range more {
		if !slices.ContainsFunc(to, func(q Problem) bool {
			return q.Source == p.Source && q.Code == p.Code && q.Where == p.Where && q.Why == p.Why
		}) {
			to = append(to, p)
		}
	}
	return to
}

// position tells functions of one name apart: the how-manieth by address it is,
// 0 where it is the only one.
func position(l *Linked, f splice.Function) int {
	var at []uint64
	for _, s := range l.Symbols {
		if bareName(s.Name) == bareName(f.Name) && s.Type == elf.STT_FUNC {
			at = append(at, s.Value)
		}
	}
	slices.Sort(at)
	at = slices.Compact(at)
	if len(at) < 2 {
		return 0
	}
	return slices.Index(at, f.Old) + 1
}
