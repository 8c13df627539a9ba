// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Reached is what a fix touches in a target.
type Reached struct {
	Objects []Object      // to be compiled, by path
	Files   []FileOutcome // what became of each file of the fix, in its order
	Notes   []string      // hunks that were applied elsewhere or with less context
	// Rest are objects that include a changed file and were not asked whether
	// they see the change: with SourcesOnly and Few.
	Rest Rest
}

// Rest says what objects were not asked.
type Rest struct {
	Any    bool `json:"any"`
	Kernel bool `json:"kernel,omitempty"` // of the kernel proper are among them
}

// FileOutcome says what a changed file means for the target.
type FileOutcome struct {
	Path    string
	Outcome Outcome
	Why     string
	Objects int // objects that are compiled for it
	Pruned  int // objects that include it but see no difference
}

// Outcome of one file.
type Outcome string

const (
	Built    Outcome = "built"     // it is part of objects of this target
	NotBuilt Outcome = "not-built" // the configuration does not build it: not affected
	NoEffect Outcome = "no-effect" // it is included, but nothing that is compiled differs
	Ignored  Outcome = "ignored"   // it is not part of any kernel of this architecture
)

// ReachOptions bounds the search.
type ReachOptions struct {
	MaxObjects int // objects that may be compiled; 0 for 500
	// Tree, if not nil, is what the target's makefiles and source say.
	Tree *Tree
	// SourcesOnly leaves out the objects that only include a changed file.
	// When those of the fix's own .c files can't be live, no others matter.
	SourcesOnly bool
	// Few, if not 0, ends the search when so many objects are found that see
	// the change by including a changed file, those of the kernel proper first.
	// Where they can't be live, no others matter.
	Few int
}

// textsPerFew is how many objects are preprocessed at most for each of a few.
const textsPerFew = 8

// manyUsers is from how many files on the whole kernel's index is asked.
const manyUsers = 40

// textsPerObject is how many objects are preprocessed at most to see whether a
// change matters to them, for each one that may be compiled.
const textsPerObject = 4

// Reach finds the objects that a fix touches: those of changed .c files, and
// of .c files that include a changed file and whose preprocessed text the
// change alters where it matters.
//
// A fix that touches only what this target does not build is no error: it has
// no Objects then, and Files say why. Refusals are TS3103 to TS3106.
func Reach(ctx context.Context, t *kernel.Target, f *fix.Fix, opt ReachOptions, rep progress.Reporter) (*Reached, error) {
	if opt.MaxObjects <= 0 {
		opt.MaxObjects = 500
	}
	relevant, outcomes, err := Relevant(t, f)
	if err != nil {
		return nil, err
	}
	r := &Reached{Files: outcomes}
	if len(relevant.Files) == 0 {
		return r, nil
	}
	changes, err := relevant.Apply(readSource(t))
	if err != nil {
		return nil, err
	}
	tree, err := opt.Tree.of(ctx, t)
	if err != nil {
		return nil, err
	}
	graph, err := tree.includes(ctx, rep)
	if err != nil {
		return nil, err
	}
	s := &search{tree: tree, sourcesOnly: opt.SourcesOnly, m: tree.m, graph: graph, changes: changes, seen: make(map[Object]bool), byObject: make(map[Object]int), rep: rep}
	for i := range r.Files {
		out := &r.Files[i]
		if out.Why != "" {
			continue
		}
		if err := s.file(ctx, i, out); err != nil {
			return nil, err
		}
	}
	if len(s.candidates) > 0 {
		if err := s.narrow(ctx); err != nil {
			return nil, err
		}
		if limit := textsPerObject * opt.MaxObjects; opt.Few == 0 && len(s.candidates)-len(s.seen) > limit {
			return nil, code.New("TS3106", t.Name, fmt.Sprintf("%d objects may see it, the limit is %d", len(s.candidates), limit))
		}
		if r.Rest, err = s.some(ctx, r.Files, opt.Few); err != nil {
			return nil, err
		}
		s.settle(r.Files, r.Rest)
	}
	if opt.SourcesOnly {
		r.Rest = Rest{Any: true, Kernel: true}
	}
	if !opt.SourcesOnly && opt.Few == 0 {
		if err := s.runElsewhere(ctx, r.Files); err != nil {
			return nil, err
		}
	}
	for _, c := range changes {
		r.Notes = append(r.Notes, c.Notes...)
	}
	r.Objects = s.objects
	slices.SortFunc(r.Objects, func(a, b Object) int {
		return strings.Compare(a.Path+"\x00"+a.Module, b.Path+"\x00"+b.Module)
	})
	if len(r.Objects) > opt.MaxObjects {
		return nil, code.New("TS3106", t.Name, fmt.Sprintf("%d objects have to be compiled, the limit is %d", len(r.Objects), opt.MaxObjects))
	}
	return r, nil
}

// Relevant returns the part of a fix that can matter to a kernel of this
// architecture: without documentation, tests, other architectures and the
// like, which a target's source need not even hold, and without changes of the
// build that mean nothing to this one. The outcomes are those of all files of
// the fix, in its order; files of the part have none yet. Refusals are TS3103
// to TS3105.
func Relevant(t *kernel.Target, f *fix.Fix) (*fix.Fix, []FileOutcome, error) {
	part := *f
	part.Files = nil
	var outcomes []FileOutcome
	for _, d := range f.Files {
		why, err := sortOut(t, d)
		if err != nil {
			return nil, nil, err
		}
		if why == "" {
			part.Files = append(part.Files, d)
		}
		outcomes = append(outcomes, FileOutcome{Path: d.Path, Outcome: Ignored, Why: why})
	}
	return &part, outcomes, nil
}

// search collects the objects of one fix.
type search struct {
	tree    *Tree
	m       *makefiles
	graph   *includes
	changes []fix.Change
	rep     progress.Reporter

	sourcesOnly bool

	objects    []Object // certain
	seen       map[Object]bool
	candidates []candidate // only by way of an include
	byObject   map[Object]int
	elsewhere  []reader // by way of an include, code that is not the running kernel's
}

// candidate is an object that includes changed files.
type candidate struct {
	Object
	by []int // indices of those files in Reached.Files
}

// file finds the objects of one changed file.
func (s *search) file(ctx context.Context, number int, out *FileOutcome) error {
	i := slices.IndexFunc(s.changes, func(c fix.Change) bool { return c.Path == out.Path })
	if i < 0 {
		return fmt.Errorf("%s: no change of it", out.Path)
	}
	change := s.changes[i]
	if path.Ext(out.Path) == ".c" {
		objs, err := s.m.objectsOf(ctx, out.Path, s.rep)
		if err != nil {
			return err
		}
		switch {
		case len(objs) > 0 && change.Deleted:
			return code.New("TS3103", out.Path, "it deletes a file that is built")
		case len(objs) > 0:
			s.add(objs, out)
		}
	}
	if s.sourcesOnly {
		if out.Outcome != Built {
			out.Outcome, out.Why = NotBuilt, "what includes it was not asked for"
		}
		return nil
	}
	if path.Ext(out.Path) != ".c" && !change.Created && !change.Deleted {
		if slices.Equal(headerItems(change.Old), headerItems(change.New)) {
			out.Outcome, out.Why = NoEffect, "only comments and white space change"
			return nil
		}
	}
	users := s.graph.includers([]string{out.Path})
	if len(users) > manyUsers { // quicker than a make for each directory
		if _, err := s.m.index(ctx, s.rep); err != nil {
			return err
		}
	}
	for _, u := range users {
		if path.Ext(u) != ".c" && path.Ext(u) != ".S" {
			continue
		}
		if notRunning(u) != "" {
			s.elsewhere = append(s.elsewhere, reader{u, out.Path})
			continue
		}
		if c, ok := strings.CutSuffix(u, ".S"); ok && s.graph.has(c+".c") {
			continue // kbuild takes the .c of the two
		}
		objs, err := s.m.objectsOf(ctx, u, s.rep)
		if err != nil {
			return err
		}
		for _, o := range objs {
			s.candidate(o, number, out)
		}
	}
	switch {
	case out.Outcome == Built:
	case change.Created && path.Ext(out.Path) != ".c":
		out.Outcome, out.Why = Built, "new; it is compiled where other files of the fix include it"
	case out.Pruned > 0: // candidates: prune decides
	case len(users) == 0 && path.Ext(out.Path) != ".c":
		out.Outcome, out.Why = NotBuilt, "nothing includes it"
	default:
		out.Outcome, out.Why = NotBuilt, "this configuration builds no object of it"
	}
	return nil
}

func (s *search) add(objs []Object, out *FileOutcome) {
	out.Outcome = Built
	out.Objects += len(objs)
	for _, o := range objs {
		if !s.seen[o] {
			s.seen[o] = true
			s.objects = append(s.objects, o)
		}
	}
}

func (s *search) candidate(o Object, number int, out *FileOutcome) {
	out.Pruned++ // until it is found to differ
	i, ok := s.byObject[o]
	if !ok {
		i = len(s.candidates)
		s.byObject[o] = i
		s.candidates = append(s.candidates, candidate{Object: o})
	}
	s.candidates[i].by = append(s.candidates[i].by, number)
}

// sortOut finds by its path a file that no object is made of. It returns why a file can be ignored, or the refusal of one that cannot be.
func sortOut(t *kernel.Target, d fix.FileDiff) (ignore string, err error) {
	for _, p := range []string{d.OldPath, d.Path} {
		if ignore, err = sortOutPath(t, p, d); err != nil || ignore == "" {
			return ignore, err
		}
	}
	return ignore, nil
}

func sortOutPath(t *kernel.Target, p string, d fix.FileDiff) (ignore string, err error) {
	base, top := path.Base(p), strings.Split(p, "/")[0]
	switch {
	case top == "Documentation", top == "LICENSES", top == "samples", top == "debian":
		return "not code of the kernel", nil
	case !strings.Contains(p, "/") && base != "Makefile" && base != "Kbuild" && !strings.HasPrefix(base, "Kconfig"):
		return "not code of the kernel", nil
	case strings.HasPrefix(p, "tools/testing/"), strings.HasPrefix(p, "tools/perf/"):
		return "tests and tools are not part of the kernel", nil
	case top == "arch" && !strings.HasPrefix(p, "arch/x86/") && strings.Count(p, "/") > 1:
		return "of another architecture", nil
	case strings.HasPrefix(p, "arch/x86/um/"):
		return "of another architecture", nil
	}
	if notRunning(p) != "" {
		return "", code.New("TS3105", p, notRunning(p))
	}
	switch {
	case isBuildFile(p):
		if why := changesNothingOf(t, d); why != "" {
			return why, nil
		}
		why := ""
		if !isKconfig(p) {
			why = comesAndGoes(d)
		}
		return "", code.New("TS3103", p, why)
	case path.Ext(p) == ".S":
		return "", code.New("TS3104", p, "")
	case path.Ext(p) == ".c" || path.Ext(p) == ".h" || path.Ext(p) == ".inc":
		return "", nil
	case path.Ext(p) == ".rs" || top == "rust":
		return "", code.New("TS3105", p, "Rust is not supported")
	case slices.Contains([]string{".txt", ".rst", ".md", ".yaml", ".dts", ".dtsi", ".sh", ".py", ".gitignore"}, path.Ext(base)), base == ".gitignore":
		return "not code of the kernel", nil
	}
	return "", code.New("TS3105", p, "Tsugi does not know what is made of this file")
}

// notRunning names the part of the source that is not code of the running
// kernel, if p belongs to one.
func notRunning(p string) string {
	for _, x := range []struct{ prefix, why string }{
		{"arch/x86/boot/", "it runs before the kernel"},
		{"arch/x86/realmode/rm/", "it runs before the kernel"},
		{"arch/x86/purgatory/", "it runs between two kernels"},
		{"arch/x86/entry/vdso/", "it runs in user space"},
		{"arch/x86/entry/vsyscall/", "it is mapped in user space"},
		{"lib/vdso/", "it runs in user space"},
		{"drivers/firmware/efi/libstub/", "it runs before the kernel"},
		{"scripts/", "it belongs to the build"},
		{"tools/", "it belongs to the build"},
		{"usr/", "it belongs to the build"},
		{"certs/", "it belongs to the build"},
	} {
		if strings.HasPrefix(p, x.prefix) {
			return x.why
		}
	}
	return ""
}

// onlyComments tells whether a change of a makefile touches nothing but
// comments and empty lines. A line behind a continued one is no comment.
func onlyComments(d fix.FileDiff) bool {
	return !d.Created && !d.Deleted && d.OldPath == d.Path && everyChange(d, func(l string) bool {
		l = strings.TrimSpace(l)
		return (l == "" || l[0] == '#') && !strings.HasSuffix(l, `\`)
	})
}

// onlyVersion tells whether a change of the top makefile is that of a stable
// release: new numbers in its first lines.
func onlyVersion(d fix.FileDiff) bool {
	return everyChange(d, func(l string) bool {
		name, _, ok := strings.Cut(l, "=")
		return ok && slices.Contains([]string{"VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION", "NAME"}, strings.TrimSpace(name))
	})
}

func everyChange(d fix.FileDiff, f func(line string) bool) bool {
	for _, h := range d.Hunks {
		before := ""
		for _, l := range h.Lines {
			if l.Op != ' ' && (!f(l.Text) || strings.HasSuffix(strings.TrimSpace(before), `\`)) {
				return false
			}
			before = l.Text
		}
	}
	return len(d.Hunks) > 0
}

// NoObjects is the problem that says why nothing of a fix reaches a target.
func (r *Reached) NoObjects() *code.Problem {
	if len(r.Objects) > 0 {
		return nil
	}
	var why []string
	for _, f := range r.Files {
		why = append(why, fmt.Sprintf("%s: %s", f.Path, f.Why))
	}
	if len(why) > 8 {
		why = append(why[:8], fmt.Sprintf("%d more", len(why)-8))
	}
	return code.New("TS3111", "", strings.Join(why, "; "))
}
