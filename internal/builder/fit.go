// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"fmt"
	"maps"
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
// there, in memory, and everything compiled once more. So it is when a number
// goes, which is kept as padding. What then comes out is judged as if the author had written it so: if an old member still moves, the
// fix is refused as before.

// fitStructs does that for the types that the fixes were refused for. It
// returns the pairs that the report is about.
func (b *build) fitStructs(ctx context.Context, objs []kbuild.Object, pairs []kbuild.Pair, before Report) ([]kbuild.Pair, error) {
	moves, all, err := b.fitting(pairs)
	if err != nil || len(moves) == 0 || b.req.Assess && !all {
		return pairs, err
	}
	sources, changed := b.sources, maps.Clone(b.sources)
	why := map[string][]layout.Move{}
	for _, typ := range slices.Sorted(maps.Keys(moves)) {
		for _, path := range slices.Sorted(maps.Keys(changed)) {
			c := changed[path]
			text, ok := moveMembers(string(c.Old), string(c.New), typ, moves[typ])
			if !ok {
				continue
			}
			c.New = []byte(text)
			changed[path] = c
			why[typ] = moves[typ]
			break
		}
		if why[typ] == nil && b.req.Assess {
			return pairs, nil
		}
	}
	if len(why) == 0 {
		return pairs, nil
	}
	parsed, err := asFix(b.report.Name, changed)
	if err != nil {
		return nil, err
	}
	first, report, inputs, spare := b.fix, *b.report, b.inputs, b.spare
	before.Stages, before.Notes, before.Unbuilt = b.report.Stages, slices.Clip(before.Notes), slices.Clip(before.Unbuilt)
	*b.report, b.inputs, b.spare = before, nil, nil
	b.fix, b.sources = parsed, changed
	again, err := b.compile(ctx, objs)
	if err == nil {
		err = b.compare(ctx, again)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	refused := func(r Refusal) bool { return r.Code == "TS4030" && why[r.Where] != nil }
	if err != nil || slices.ContainsFunc(b.report.Refusals, refused) || len(b.report.Refusals)+len(b.report.Failed) >= len(report.Refusals)+len(report.Failed) {
		*b.report, b.inputs, b.spare, b.fix, b.sources = report, inputs, spare, first, sources
		return pairs, nil
	}
	b.moved = why
	return again, nil
}

// fitting finds the refused types whose new members have room in padding, and
// tells whether that is all that was refused.
func (b *build) fitting(pairs []kbuild.Pair) (moves map[string][]layout.Move, all bool, err error) {
	moves, all = map[string][]layout.Move{}, true
	for _, r := range b.report.Refusals {
		if r.Code != "TS4030" {
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
		if m, ok := layout.Fit(was, is, r.Where); ok {
			moves[r.Where] = m
		} else {
			all = false
		}
	}
	return moves, all, nil
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
		var moved, kept []string
		for _, m := range b.moved[typ] {
			if m.Kept {
				kept = append(kept, m.Member)
			} else {
				moved = append(moved, m.Member+" behind "+m.After)
			}
		}
		if len(moved) > 0 {
			b.report.Risks = append(b.report.Risks, Refusal{Problem: code.New("TS8021", typ, strings.Join(moved, ", "))})
		}
		if len(kept) > 0 {
			b.report.Risks = append(b.report.Risks, Refusal{Problem: code.New("TS8022", typ, strings.Join(kept, ", "))})
		}
	}
}
