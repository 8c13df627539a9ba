// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/layout"
)

// A fix that puts a new member into a struct moves the members behind it, and
// objects of the old shape exist. Often the struct has padding elsewhere that
// would hold the new member, and C asks for no order: the declaration is moved
// there, in memory, and everything compiled once more. So it is when a member
// goes, which stays where it was. What then comes out is judged as if the author
// had written it so: if an old member still moves, the fix is refused as before.

// objects is what the source tells of the objects of a struct.
type objects struct {
	zeroed bool // all are when they are made
	room   int  // bytes that belong to each, 0 if no more than its size is known
}

// fitStructs does that for the types that the fixes were refused for. It
// returns the pairs that the report is about.
// some says that the objects are not all that the fixes reach.
func (b *build) fitStructs(ctx context.Context, objs []kbuild.Object, pairs []kbuild.Pair, before Report, some bool) ([]kbuild.Pair, error) {
	left := map[string]bool{} // types that were refused again
	for range 2 {
		f := &fitted{build: b, objs: objs, some: some, changed: maps.Clone(b.sources), known: maps.Clone(b.objects)}
		why, all, err := f.fitAll(ctx, pairs, left)
		if err != nil || len(why) == 0 || b.req.Assess && !all {
			return pairs, err
		}
		again, refused, err := b.tryFit(ctx, f, why, before)
		if err != nil || refused == nil {
			return again, err
		}
		if len(refused) == 0 {
			break
		}
		maps.Copy(left, refused)
	}
	return pairs, nil
}

// tryFit compiles and compares everything with what was fitted. If that is
// not better it leaves the build as it was and tells which types were refused.
func (b *build) tryFit(ctx context.Context, f *fitted, why map[string][]layout.Move, before Report) (again []kbuild.Pair, refused map[string]bool, err error) {
	parsed, err := asFix(b.report.Name, f.changed)
	if err != nil {
		return nil, nil, err
	}
	first, sources, report, inputs, spare, known := b.fix, b.sources, *b.report, b.inputs, b.spare, b.objects
	before.Stages, before.Notes, before.Unbuilt = b.report.Stages, slices.Clip(before.Notes), slices.Clip(before.Unbuilt)
	*b.report, b.inputs, b.spare = before, nil, nil
	b.fix, b.sources, b.objects = parsed, f.changed, f.known
	maps.DeleteFunc(b.compared, func(_ pairKey, c *compared) bool { return len(c.layouts) > 0 })
	again, err = b.compile(ctx, f.objs)
	if err == nil {
		err = b.compare(ctx, again)
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	refused, reason := map[string]bool{}, map[string]*code.Problem{}
	for _, r := range b.report.Refusals {
		if r.Code == "TS4030" && why[r.Where] != nil {
			refused[r.Where], reason[r.Where] = true, r.Problem
		}
	}
	if err != nil || len(refused) > 0 || len(b.report.Refusals)+len(b.report.Failed) >= len(report.Refusals)+len(report.Failed) {
		*b.report, b.inputs, b.spare, b.fix, b.sources, b.objects = report, inputs, spare, first, sources, known
		b.report.Refusals = slices.Clone(b.report.Refusals)
		for i, r := range b.report.Refusals {
			if r.Code == "TS4030" && reason[r.Where] != nil { // what it says is in the way when there is room
				b.report.Refusals[i].Problem = reason[r.Where]
			}
		}
		return nil, refused, nil
	}
	if b.moved == nil {
		b.moved = map[string][]layout.Move{}
	}
	maps.Copy(b.moved, why)
	return again, nil, nil
}

// fitted is the text of fixes in which structs are fitted.
type fitted struct {
	*build
	objs    []kbuild.Object
	some    bool // there are more
	changed map[string]fix.Change
	readers []string // all sources that know the structs, as they were and as they are
	blind   bool     // not all of them
	known   map[string]objects
}

// fitAll fits the types that were refused, but for some, and tells whether these are
// all that was refused.
func (f *fitted) fitAll(ctx context.Context, pairs []kbuild.Pair, but map[string]bool) (moves map[string][]layout.Move, all bool, err error) {
	moves, all = map[string][]layout.Move{}, true
	for _, r := range f.report.Refusals {
		if r.Code != "TS4030" || but[r.Where] {
			all = false
			continue
		}
		i := slices.IndexFunc(pairs, func(p kbuild.Pair) bool { return p.Path == r.Object })
		if i < 0 || moves[r.Where] != nil {
			continue
		}
		was, is, err := typesOf(pairs[i])
		if err != nil {
			return nil, false, err
		}
		m, ok, err := f.fit(ctx, was, is, r.Where)
		if err != nil {
			return nil, false, err
		}
		if all = all && ok; ok {
			moves[r.Where] = m
		} else if f.req.Assess {
			return nil, false, nil
		}
	}
	return moves, all, nil
}

// fit moves members of a type, if objects can be without them.
func (f *fitted) fit(ctx context.Context, was, is *layout.Types, typ string) ([]layout.Move, bool, error) {
	file := f.definedIn(typ)
	if file == "" {
		return nil, false, nil
	}
	moves, ok := layout.Fit(was, is, typ, 0, f.owner)
	size, known := was.Size(strings.TrimPrefix(typ, "struct "))
	if !ok { // is it worth to look for more room?
		if _, more := layout.Fit(was, is, typ, 1<<20, f.owner); !more || !known {
			return nil, false, nil
		}
	}
	if err := f.read(ctx); err != nil {
		return nil, false, err
	}
	about := objects{zeroed: f.zeroes(typ, file)}
	if !ok {
		about.room = f.room(typ, file, size)
		if moves, ok = layout.Fit(was, is, typ, about.room, f.owner); !ok {
			return nil, false, nil
		}
	}
	changed := maps.Clone(f.changed)
	c := changed[file]
	text, ok := moveMembers(string(c.Old), string(c.New), typ, moves)
	if !ok {
		return nil, false, nil
	}
	c.New = []byte(text)
	changed[file] = c
	olds, news := f.build.texts()
	for _, m := range moves {
		switch {
		case m.Kept && !standsUnused(uses(m.Member, olds, news), m, about.zeroed),
			m.Kept && m.What == layout.Lock && !keepAllInits(changed, m.Member),
			!m.Kept && !about.zeroed && (m.What == layout.Lock || m.What == layout.Pointer && about.room == 0),
			!m.Kept && f.counted(m.Member):
			return nil, false, nil
		}
	}
	f.changed = changed
	if f.known == nil {
		f.known = map[string]objects{}
	}
	f.known[typ] = about
	if moves == nil {
		moves = []layout.Move{} // where the fix has them is where there is room
	}
	return moves, true, nil
}

// owner is the fix that adds or removes a member, the first that has such a
// declaration.
func (b *build) owner(member string) string {
	if known, ok := b.owners.Load(member); ok {
		return known.(string)
	}
	who := b.declaring(member)
	b.owners.Store(member, who)
	return who
}

func (b *build) declaring(member string) string {
	declares := regexp.MustCompile(`^\s*(?:[\w*]+[\s*]+)+` + regexp.QuoteMeta(member) + `\s*(?:\[[^\]]*\]\s*|:\s*\d+\s*|__\w+(?:\([^)]*\))?\s*)*[;,]`)
	pointer := regexp.MustCompile(`^[^=;]*\(\*` + regexp.QuoteMeta(member) + `\)\s*\(`)
	for _, f := range b.req.Fixes {
		for _, file := range f.Files {
			for _, h := range file.Hunks {
				for _, l := range h.Lines {
					if l.Op != ' ' && (declares.MatchString(l.Text) || pointer.MatchString(l.Text)) {
						return f.ID
					}
				}
			}
		}
	}
	return ""
}

// definedIn is the changed file that defines a type, "" if there is none.
func (f *fitted) definedIn(typ string) string {
	for _, file := range slices.Sorted(maps.Keys(f.changed)) {
		if _, _, ok := structBody(blankDefines(blankComments(string(f.changed[file].New))), typ); ok {
			return file
		}
	}
	return ""
}

// read reads the changed files, the sources of all objects that the fixes reach,
// and the headers that their compilers read or that lie beside them.
func (f *fitted) read(ctx context.Context) error {
	if f.readers != nil || f.blind {
		return nil
	}
	objs := f.objs
	if f.some {
		var err error
		before := f.report.Unbuilt
		objs, _, err = f.reach(ctx, scope{})
		if f.report.Unbuilt = before; err != nil {
			return err
		}
	}
	files, dirs := map[string]bool{}, map[string]bool{}
	for _, o := range objs {
		files[o.Source] = true
	}
	for p := range f.sources {
		files[p] = true
	}
	for p := range files {
		dirs[path.Dir(p)] = true
	}
	for dir := range dirs {
		beside, err := filepath.Glob(filepath.Join(f.req.Target.Source, dir, "*.h"))
		if err != nil {
			return err
		}
		for _, h := range beside {
			files[path.Join(dir, filepath.Base(h))] = true
		}
	}
	headers, known, err := kbuild.Headers(f.req.Target, objs)
	if err != nil {
		return err
	}
	f.blind = !known
	for _, h := range headers {
		// What is anybody's, or generated for it, knows no other struct.
		if !anybodys(h) && !strings.Contains(h, "/include/generated/") {
			files[h] = true
		}
	}
	f.readers = []string{}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		c, ok := f.sources[p]
		text := c.Old
		if !ok {
			var err error
			if text, err = f.source(p); err != nil { // generated, or gone: it may do anything
				f.blind = true
				return nil
			}
		}
		f.readers = append(f.readers, string(text), string(c.New))
	}
	return nil
}

// zeroes reports whether all objects of a type are zeroed when they are made,
// by old and by new code.
func (f *fitted) zeroes(typ, file string) bool {
	return !f.blind && !anybodys(file) && alwaysZeroed(f.readers, typ)
}

// keepAllInits keeps what sets up a lock in all files. Without any, it may be
// set up in a way that is not known.
func keepAllInits(changed map[string]fix.Change, member string) bool {
	kept := 0
	for _, file := range slices.Sorted(maps.Keys(changed)) {
		c := changed[file]
		text, n, ok := keepInits(c.Old, c.New, member)
		if !ok {
			return false
		}
		c.New = text
		changed[file] = c
		kept += n
	}
	return kept > 0
}

// typesOf reads the types of both compiles of an object.
func typesOf(p kbuild.Pair) (was, is *layout.Types, err error) {
	var out [2]*layout.Types
	for i, path := range []string{p.Orig, p.Patched} {
		f, err := readObject(path)
		if err != nil {
			return nil, nil, err
		}
		s := f.Section(".BTF")
		if s == nil {
			return nil, nil, fmt.Errorf("%s: %w", path, layout.ErrNoTypes)
		}
		if out[i], err = layout.Parse(s.Data); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return out[0], out[1], nil
}

// asFix makes one fix of changed sources.
func asFix(name string, sources map[string]fix.Change) (*fix.Fix, error) {
	var text []byte
	for _, path := range slices.Sorted(maps.Keys(sources)) {
		c := sources[path]
		text = append(text, fix.Unified(path, c.Old, c.New)...)
	}
	if len(text) == 0 { // one undoes the other
		return &fix.Fix{}, nil
	}
	return fix.Parse(name, text)
}

// tellMoved adds what was done to structs to the risks.
func (b *build) tellMoved() {
	for _, typ := range slices.Sorted(maps.Keys(b.moved)) {
		risks := map[string][]string{}
		for _, m := range b.moved[typ] {
			switch {
			case !m.Kept:
				risks["TS8021"] = append(risks["TS8021"], m.Member+" behind "+m.After)
			case m.What == layout.Lock:
				risks["TS8030"] = append(risks["TS8030"], m.Member)
			case m.What == layout.Pointer:
				risks["TS8031"] = append(risks["TS8031"], m.Member)
			default:
				risks["TS8022"] = append(risks["TS8022"], m.Member)
			}
		}
		for _, c := range slices.Sorted(maps.Keys(risks)) {
			b.report.Risks = append(b.report.Risks, Refusal{Problem: code.New(code.Code(c), typ, strings.Join(risks[c], ", "))})
		}
	}
}
