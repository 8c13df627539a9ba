// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// Apply puts a patch into a process: into every object that it has a file for,
// all in one stop. What was in effect at these objects is replaced by it; other
// objects stay as they are. A process in which all is done already is Applied,
// after no try.
//
// The error is for what is wrong with the call; what keeps the process from
// being patched is the Result's State and Reason.
func (e *Engine) Apply(ctx context.Context, p *proc.Process, patch Patch, opt Options) (Result, error) {
	files, err := prepare(patch)
	if err != nil {
		return Result{Process: p.ID(), State: Pending}, err
	}
	return e.apply(ctx, p, patch.ID, files, opt)
}

func (e *Engine) apply(ctx context.Context, p *proc.Process, id string, files map[string]*prepared, opt Options) (Result, error) {
	return e.do(ctx, p, opt, deed{done: Applied, healed: NotAffected, units: func(s *sight) ([]*unit, error) {
		return applyUnits(s, id, files)
	}})
}

// applyUnits returns nil when the process maps none of the files, and an empty
// list when all is in effect.
func applyUnits(s *sight, id string, files map[string]*prepared) ([]*unit, error) {
	var units []*unit
	for i := range s.objects {
		o := &s.objects[i]
		file := files[o.BuildID]
		if file == nil || o.BuildID == "" {
			continue
		}
		if units == nil {
			units = []*unit{}
		}
		if file.Register {
			return nil, code.New("TS9636", o.Name, "")
		}
		u, err := newUnit(s, o, file, id)
		if err != nil {
			return nil, err
		}
		if u == nil {
			continue
		}
		res, err := u.resolve(s)
		if err != nil {
			return nil, err
		}
		if err := u.settle(s, res, rand.Uint64N); err != nil {
			return nil, err
		}
		// The next unit must not take the same place.
		s.maps = insert(s.maps, proc.Mapping{Start: u.journal.base - guard, End: u.journal.base + u.journal.size + guard})
		units = append(units, u)
	}
	return units, nil
}

// insert keeps mappings in order; a place that is there already is left alone.
func insert(maps []proc.Mapping, m proc.Mapping) []proc.Mapping {
	i, _ := slices.BinarySearchFunc(maps, m.Start, func(a proc.Mapping, at uint64) int {
		if a.Start < at {
			return -1
		}
		return 1
	})
	if i < len(maps) && maps[i].Start < m.End {
		return maps
	}
	return slices.Insert(maps, i, m)
}

// Revert takes patches out of a process: the original bytes come back to the
// entries. The code stays, for threads that are in it. A process in which
// nothing of the selection was in effect is NotAffected.
func (e *Engine) Revert(ctx context.Context, p *proc.Process, sel Selection, opt Options) (Result, error) {
	return e.do(ctx, p, opt, deed{done: Reverted, healed: Reverted, units: func(s *sight) ([]*unit, error) {
		return revertUnits(s, sel)
	}})
}

func revertUnits(s *sight, sel Selection) ([]*unit, error) {
	var units []*unit
	for i := range s.objects {
		o := &s.objects[i]
		if len(sel.BuildIDs) > 0 && !slices.Contains(sel.BuildIDs, o.BuildID) {
			continue
		}
		a, err := s.soleInEffect(o)
		if err != nil {
			return nil, err
		}
		if a == nil || sel.Patch != "" && a.patch != sel.Patch {
			continue
		}
		u := &unit{object: o, journal: a.journal, header: a.raw, stale: s.stale(o, a), through: Reverting, end: TakenOut}
		quiet := false
		for k := range a.records {
			r := a.records[k]
			name := fmt.Sprintf("a function at %#x", r.function)
			quiet = quiet || r.policy != splice.EntryOnly
			if !r.redirects() {
				continue
			}
			now := r
			if err := u.observe(s, &now, name, a); err != nil {
				return nil, err
			}
			u.back(&r, name, r.after, r.original)
		}
		if quiet {
			u.busy = append(u.busy, a.newCode())
		}
		units = append(units, u)
	}
	return units, nil
}

// back adds a jump that is taken out, or exchanged for an earlier one.
func (u *unit) back(r *record, name string, from, to [jumpSize]byte) {
	u.writes = append(u.writes, write{name, r.entry(), from, to})
	u.busy = append(u.busy, busyRange{name, span{r.function, max(r.function+uint64(r.size), r.entry()+jumpSize)}, r.entry(), true})
}

// State tells what of ours is in a process, what is in effect first. It only reads.
func (e *Engine) State(ctx context.Context, p *proc.Process) ([]Installed, error) {
	s, err := look(ctx, p)
	if err != nil {
		return nil, err
	}
	w := &work{e: e, p: p, s: s}
	r, err := w.end(ctx, nil)
	return r.Objects, err
}
